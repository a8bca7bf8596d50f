//! Policy documents: compiled, their mistakes shown, their cases run, and the decision the same as its explanation.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{Connection, File, Options, Policy, Request, testing};
use spiffe::SpiffeId;

static ADJUDICATOR: LazyLock<SpiffeId> = LazyLock::new(|| id("spiffe://prod.health.internal/ns/claims/sa/adjudicator"));
static API: LazyLock<SpiffeId> = LazyLock::new(|| id("spiffe://prod.health.internal/ns/eligibility/sa/api"));

fn id(text: &str) -> SpiffeId {
    SpiffeId::new(text).expect("a SPIFFE ID")
}

fuzz_target!(|text: &[u8]| {
    let files = [File { name: "fuzz.yaml", bytes: text }];
    let compiled = match Policy::compile(&files) {
        Ok(compiled) => compiled,
        Err(found) => return assert!(!found.to_string().is_empty()),
    };
    let _ = compiled.warnings.to_string();
    let policy = &compiled.policy;
    let headers = vec![("x-tenant".to_owned(), "test".to_owned())];
    for target in ["/v1/members/42/coverage", "/admin/x;y?z"] {
        let path = Path::normalise(target.as_bytes(), EncodedSlash::Refuse).expect("a good path");
        let source = [10, 0, 0, 1].into();
        let connection = Connection {
            caller: &ADJUDICATOR,
            workload: &API,
            port: 8080,
            source,
            destination: source,
            server_name: Some("api"),
            now: 1_800_000_000,
        };
        let request = Request { connection, method: "GET", host: "api:8080", path: &path, headers: &headers };
        let decision = policy.decide(&request);
        assert_eq!(policy.explain(&request).decision, decision);
        if let Some(rule) = decision.verdict.rule() {
            assert!(policy.rule(rule).is_some());
        }
        assert_eq!(policy.explain_opaque(&connection).decision, policy.admit_opaque(&connection));
    }
    for outcome in testing::run(&files, &Options::default(), &compiled, 1_800_000_000).expect("it compiled before") {
        assert!(!outcome.reason.is_empty());
    }
});
