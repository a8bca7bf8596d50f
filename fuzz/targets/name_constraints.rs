//! The name constraints of an issuer, and URIs judged by them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_certs_watcher::name_constraints::NameConstraints;

fuzz_target!(|bytes: &[u8]| {
    // Up to a line feed a URI; behind it, constraints.
    let Some(at) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let constraints = match NameConstraints::parse(&bytes[at + 1..]) {
        Ok(constraints) => constraints,
        Err(error) => return assert!(!error.to_string().chars().any(char::is_control), "{error}"),
    };
    let Some(uris) = constraints.uris() else { return };
    assert!(!uris.to_string().chars().any(char::is_control), "unfit for a log line: {uris}");
    let nowhere = uris.permitted().is_some_and(|mut permitted| permitted.next().is_none());
    for uri in [String::from_utf8_lossy(&bytes[..at]).as_ref(), "spiffe://prod.test/a", "spiffe://10.0.0.1/a"] {
        match uris.judge(uri) {
            Ok(()) => assert!(!nowhere && !uri.contains("10.0.0.1"), "{uri}"),
            Err(violation) => assert!(!violation.to_string().chars().any(char::is_control), "{violation}"),
        }
    }
});
