//! Istio's policies: carried over into documents that compile and decide the same, or refused with their mistakes.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::{mapping, spiffe_id};
use portcullis_policy::import::{self, Mapping};
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{Connection, File, Options, Policy, Request, write};
use spiffe::SpiffeId;

static MAPPING: LazyLock<Mapping> = LazyLock::new(mapping);
/// The workload of the labels.
static WEB: LazyLock<SpiffeId> = LazyLock::new(|| spiffe_id("spiffe://t/ns/shop/sa/web"));
static CALLERS: LazyLock<[SpiffeId; 3]> =
    LazyLock::new(|| ["spiffe://t/ns/shop/sa/cart", "spiffe://t/ns/ops/sa/admin", "spiffe://t/vm/7"].map(spiffe_id));
static OPTIONS: LazyLock<Options> = LazyLock::new(|| Options {
    labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
    cluster_local: MAPPING.trust_domain.clone(),
    ..Options::default()
});

/// Asks both for what an importer could get wrong, but for what our language says otherwise: ports of hosts, and fields
/// that come twice.
fn compare(original: &Policy, imported: &Policy, text: &str) {
    for (caller, (port, source)) in
        CALLERS.iter().flat_map(|caller| [(80, [10, 1, 2, 3]), (8080, [192, 0, 2, 1])].map(|to| (caller, to)))
    {
        let (source, workload) = (source.into(), &*WEB);
        let connection = Connection { caller, workload, port, source, destination: source, server_name: None, now: 0 };
        let [before, after] = [original, imported].map(|policy| policy.admit_opaque(&connection).verdict.is_allow());
        assert_eq!(before, after, "{connection:?}\n{text}");
        for (method, host, target, value) in [
            ("GET", "web.example", "/a/b", Some("a")),
            ("POST", "", "/", None),
            ("get", "WEB.example", "/a/", Some("")),
            ("PUT", "b.example", "/a;p/b", Some("b")),
        ] {
            let path = Path::normalise(target.as_bytes(), EncodedSlash::Refuse).expect("a good path");
            let headers: Vec<(String, String)> =
                value.map(|value| ("x-a".to_owned(), value.to_owned())).into_iter().collect();
            let request = Request { connection, method, host, path: &path, headers: &headers };
            let [before, after] = [original, imported].map(|policy| policy.decide(&request).verdict.is_allow());
            assert_eq!(before, after, "{connection:?} {method} {host} {target} {value:?}\n{text}");
        }
    }
}

fuzz_target!(|text: &[u8]| {
    let files = [File { name: "fuzz.yaml", bytes: text }];
    match import::istio(&files, &MAPPING, &OPTIONS) {
        Ok(documents) => {
            let text = write::write(&documents).expect("what is carried over compiles");
            let original = Policy::compile_with(&files, &OPTIONS).expect("it was understood before").policy;
            let imported = Policy::compile(&[File { name: "imported.yaml", bytes: text.as_bytes() }]);
            compare(&original, &imported.expect("what was written compiles").policy, &text);
        }
        Err(found) => assert!(found.has_errors() && !found.to_string().is_empty()),
    }
});
