//! Policy documents, Istio's among them, and Services: compiled, their mistakes shown, their cases run, and the decision
//! the same as its explanation.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::spiffe_id;
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{Admission, Connection, File, Options, Policy, Request, testing};
use spiffe::{SpiffeId, TrustDomain};

static ADJUDICATOR: LazyLock<SpiffeId> =
    LazyLock::new(|| spiffe_id("spiffe://prod.health.internal/ns/claims/sa/adjudicator"));
static API: LazyLock<SpiffeId> = LazyLock::new(|| spiffe_id("spiffe://prod.health.internal/ns/eligibility/sa/api"));
static OPTIONS: LazyLock<Options> = LazyLock::new(|| Options {
    labels: BTreeMap::from([("app".to_owned(), "api".to_owned())]),
    cluster_local: Some(TrustDomain::new("prod.health.internal").expect("a trust domain")),
    ..Options::default()
});

fuzz_target!(|text: &[u8]| {
    let files = [File { name: "fuzz.yaml", bytes: text }];
    let compiled = match Policy::compile_with(&files, &OPTIONS) {
        Ok(compiled) => compiled,
        Err(found) => return assert!(!found.to_string().is_empty()),
    };
    let _ = compiled.warnings.to_string();
    let policy = &compiled.policy;
    let headers = vec![("x-tenant".to_owned(), "test".to_owned()), ("X-Tenant".to_owned(), "other".to_owned())];
    for (port, destination, server_name, host, target) in [
        (8080, [10, 0, 0, 1], Some("api"), "api:8080", "/v1/members/42/coverage"),
        (80, [10, 96, 0, 17], Some("api.eligibility.svc"), "x.eligibility.example.", "/admin/x;y?z"),
        (5432, [10, 20, 0, 1], None, "", "/eligibility.v1.Coverage/Get"),
    ] {
        let path = Path::normalise(target.as_bytes(), EncodedSlash::Refuse).expect("a good path");
        let connection = Connection {
            caller: &ADJUDICATOR,
            workload: &API,
            port,
            source: [10, 0, 0, 1].into(),
            destination: destination.into(),
            server_name,
            now: 1_800_000_000,
        };
        let request = Request { connection, method: "GET", host, path: &path, headers: &headers };
        let decision = policy.decide(&request);
        assert_eq!(policy.explain(&request).decision, decision);
        if let Some(rule) = decision.verdict.rule() {
            assert!(policy.rule(rule).is_some());
        }
        match policy.admit(&connection) {
            Admission::Allow(_) => assert!(decision.verdict.is_allow() || path.readings().is_none()),
            Admission::Deny(_) => assert!(!decision.verdict.is_allow()),
            Admission::PerRequest => {}
        }
        assert_eq!(policy.explain_opaque(&connection).decision, policy.admit_opaque(&connection));
        let services = policy.services();
        for found in [services.by_host(host, port), services.by_address(connection.destination, port)] {
            assert!(found.is_none_or(|service| service.protocol(port).is_some()));
        }
    }
    for service in policy.services().iter() {
        assert!(policy.services().by_name(service.name()).is_some() && service.ports().next().is_some());
    }
    for outcome in testing::run(&files, &OPTIONS, &compiled, 1_800_000_000).expect("it compiled before") {
        assert!(!outcome.reason.is_empty());
    }
});
