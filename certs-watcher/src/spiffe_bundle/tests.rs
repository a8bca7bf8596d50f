//! Tests of `spiffe_bundle.rs`.

use super::*;
use crate::pki::{Authority, base64};

fn parse(text: &str) -> Result<SpiffeBundle, SpiffeBundleError> {
    SpiffeBundle::parse(text.as_bytes())
}

fn refused(text: &str, label: &str) {
    let error = parse(text).expect_err(text);
    assert_eq!(error.label(), label, "{error:?}");
}

#[test]
fn x509_keys_are_taken_and_others_passed_over() {
    let (a, b) = (Authority::root("a").der, Authority::root("b").der);
    let (x, y) = (base64(&a), base64(&b));
    let bundle = parse(&format!(
        r#"{{"spiffe_sequence": 18446744073709551615, "spiffe_refresh_hint": 600, "unknown": {{"a": [1, -2, 0.5, null, true]}}, "keys": [
            {{"use": "x509-svid", "kty": "EC", "x5c": ["{x}", "this one is ignored"]}},
            {{"use": "jwt-svid", "kty": "EC", "kid": "1"}},
            {{"use": "x509-svid", "kty": "future", "x5c": 7}},
            {{"kty": "EC"}},
            {{"use": "x509-svid", "kty": "EC"}},
            {{"use": "x509-svid", "kty": "EC", "x5c": null}},
            "not even an object",
            {{"use": "x509-svid", "kty": "RSA", "x5c": ["{y}"]}}
        ]}}"#
    ))
    .unwrap();
    assert_eq!(bundle.anchors, [a, b]);
    assert_eq!(bundle.sequence, Some(u64::MAX));
}

#[test]
fn no_keys_are_meant_and_an_absent_list_is_not() {
    assert!(parse(r#"{"keys": []}"#).unwrap().anchors.is_empty());
    refused("{}", "no_keys");
    refused(r#"{"keys": {}}"#, "no_keys");
    refused(r#"{"keys": null}"#, "no_keys");
}

#[test]
fn a_repeated_key_is_refused_at_any_depth() {
    refused(r#"{"keys": [], "keys": []}"#, "not_json");
    refused(r#"{"keys": [{"use": "x509-svid", "use": "jwt-svid"}]}"#, "not_json");
    refused(r#"{"keys": [], "extra": {"a": 1, "\u0061": 1}}"#, "not_json");
}

#[test]
fn what_is_broken_is_refused() {
    refused("{", "not_json");
    refused(r#"{"keys": []} {"keys": []}"#, "not_json");
    refused(&format!("{}{}", r#"{"a":"#.repeat(500), "}".repeat(500)), "not_json");
    for x5c in [r#", "x5c": []"#, r#", "x5c": [7]"#, r#", "x5c": ["%%"]"#, r#", "x5c": "MII""#] {
        refused(&format!(r#"{{"keys": [{{"use": "x509-svid", "kty": "EC"{x5c}}}]}}"#), "bad_key");
    }
    refused(r#"{"keys": [], "spiffe_sequence": -1}"#, "bad_number");
    refused(r#"{"keys": [], "spiffe_sequence": "7"}"#, "bad_number");
}
