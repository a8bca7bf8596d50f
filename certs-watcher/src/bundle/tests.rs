//! Tests of `bundle.rs`.

use std::sync::Arc;

use rcgen::{IsCa, KeyUsagePurpose};

use super::*;
use crate::pki::{Authority, DAY, NOW, at, base64, now, pem, set_validity};
use crate::trust::Trust;
use crate::volume::read_bundle;

pub(crate) fn bundle(trust_domain: &str, anchors: &[&Authority]) -> Arc<Bundle> {
    let directory = tempfile::tempdir().unwrap();
    let text: String = anchors.iter().map(|anchor| anchor.pem()).collect();
    std::fs::write(directory.path().join("bundle.pem"), text).unwrap();
    let files = read_bundle(directory.path()).unwrap();
    Arc::new(Bundle::load(&TrustDomain::new(trust_domain).unwrap(), &files).unwrap())
}

pub(crate) fn prod_trusts(anchors: &[&Authority]) -> Trust {
    Trust::new([bundle("prod.test", anchors)])
}

fn load(text: &str) -> Result<Bundle, TrustError> {
    load_files(&[("bundle.pem", text)])
}

fn load_files(files: &[(&str, &str)]) -> Result<Bundle, TrustError> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    Bundle::load(&TrustDomain::new("prod.test").unwrap(), &read_bundle(directory.path()).unwrap())
}

fn label(text: &str) -> &'static str {
    load(text).unwrap_err().label()
}

#[test]
fn several_anchors_and_files_make_one_bundle() {
    let (a, b) = (Authority::root("a"), Authority::root("b"));
    let both = load(&format!("{}{}", a.pem(), b.pem())).unwrap();
    assert_eq!(both.anchors().len(), 2);
    let split = load_files(&[("1.pem", &a.pem()), ("2.pem", &b.pem())]).unwrap();
    assert_eq!(split.anchors()[1].fingerprint, Fingerprint::of(&b.der));
    let repeated = load(&a.pem().repeat(3)).unwrap();
    assert_eq!((repeated.anchors().len(), repeated.for_webpki().len()), (1, 1));
}

#[test]
fn an_empty_or_damaged_file_is_broken_and_an_empty_set_of_keys_is_meant() {
    assert_eq!(label("\n"), "empty");
    assert_eq!(label("garbage"), "no_certificate");
    let pem = Authority::root("a").pem();
    assert_eq!(label(&pem[..pem.len() - 30]), "truncated_pem");
    assert_eq!(label(&crate::pki::section("CERTIFICATE", b"\x30\x00")), "malformed_certificate");
    assert_eq!(label("{}"), "no_keys");
    assert!(load(r#"{"keys": []}"#).unwrap().anchors().is_empty());
}

#[test]
fn json_gives_anchors_and_a_sequence() {
    let root = Authority::root("a");
    let text = format!(
        r#"  {{"spiffe_sequence": 7, "keys": [{{"use": "x509-svid", "kty": "EC", "x5c": ["{}"]}}]}}"#,
        base64(&root.der)
    );
    let bundle = load(&text).unwrap();
    assert_eq!(bundle.sequence(), Some(7));
    assert_eq!(bundle.anchors()[0].fingerprint, Fingerprint::of(&root.der));
}

#[test]
fn what_may_not_sign_certificates_is_no_anchor() {
    let good = Authority::root("good");
    let leaf = good.leaf("spiffe://prod.test/a");
    let no_sign = Authority::root_with("b", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let no_ca = Authority::root_with("c", |params| params.is_ca = IsCa::ExplicitNoCa);

    let bundle = load(&format!("{}{}{}{}", good.pem(), leaf.chain_pem(), no_sign.pem(), no_ca.pem())).unwrap();
    assert_eq!(bundle.anchors().len(), 1);
    let faults: Vec<_> = bundle.refused().iter().map(|refused| refused.fault.clone()).collect();
    assert_eq!(
        faults,
        [
            AnchorFault::Issuer(IssuerFault::NotCa),
            AnchorFault::Issuer(IssuerFault::NoKeyCertSign),
            AnchorFault::Issuer(IssuerFault::NotCa),
        ]
    );

    let error = load(&pem(&leaf.chain)).unwrap_err();
    assert_eq!(error.label(), "no_anchor");
    assert!(error.to_string().contains("leaf"), "{error}");
}

#[test]
fn an_anchor_is_used_only_while_it_is_valid() {
    let old = Authority::root_with("old", |params| set_validity(params, NOW - DAY, NOW));
    let bundle = load(&old.pem()).unwrap();
    let anchor = &bundle.anchors()[0];
    assert_eq!(anchor.idle_because(now()), None);
    assert_eq!(anchor.idle_because(at(NOW + 1)).unwrap(), "expired at 2027-01-15T08:00:00Z");
    assert!(anchor.idle_because(at(NOW - DAY - 1)).unwrap().starts_with("is not valid before"));
}

#[test]
fn of_two_bundles_for_one_domain_the_last_counts() {
    let (a, b) = (load(&Authority::root("a").pem()).unwrap(), load(r#"{"keys": []}"#).unwrap());
    let trust = Trust::new([Arc::new(a), Arc::new(b)]);
    assert_eq!(trust.bundles().count(), 1);
    assert!(trust.bundle(&TrustDomain::new("prod.test").unwrap()).unwrap().anchors().is_empty());
    assert!(trust.bundle(&TrustDomain::new("dev.test").unwrap()).is_none());
}
