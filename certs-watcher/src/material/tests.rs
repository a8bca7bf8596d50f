//! Tests of `material.rs`.

use std::path::Path;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};

use super::*;
use crate::bundle::Bundle;
use crate::explain;
use crate::messages;
use crate::pki::{API, Authority, DAY, HOUR, Leaf, NOW, Prod, at, now, pem, prod};
use crate::volume::{read_bundle, read_identity};
use crate::workload_api::{Choice, Delivery};

fn files(certificate: &str, key: &str) -> IdentityFiles {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("tls.crt"), certificate).unwrap();
    std::fs::write(directory.path().join("tls.key"), key).unwrap();
    read_identity(directory.path()).unwrap()
}

fn trust(trust_domain: &str, anchor: &Authority) -> Trust {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.pem"), anchor.pem()).unwrap();
    let files = read_bundle(Path::new(&directory.path().join("a.pem"))).unwrap();
    Trust::new([Arc::new(Bundle::load(&TrustDomain::new(trust_domain).unwrap(), &files).unwrap())])
}

fn prove(pki: &Prod, certificate: &str, key: &str) -> Result<Material, MaterialError> {
    let demands = Demands { trust: &trust("prod.test", &pki.root), expected: None, now: now() };
    Material::prove(&files(certificate, key), &demands)
}

fn prove_leaf(pki: &Prod, leaf: &Leaf) -> Result<Material, MaterialError> {
    prove(pki, &leaf.chain_pem(), &leaf.key_pem())
}

fn label(result: Result<Material, MaterialError>) -> &'static str {
    match result {
        Ok(_) => "proven",
        Err(error) => error.label(),
    }
}

#[test]
fn a_good_generation_is_proven() {
    let pki = prod();
    let material = prove_leaf(&pki, &pki.leaf).unwrap();
    assert_eq!(material.id().to_string(), API);
    assert_eq!((material.serial(), material.issuer(), material.subject()), ("0abc", "CN=prod", "CN=leaf"));
    assert_eq!((material.not_before(), material.not_after()), (at(NOW - HOUR), at(NOW + DAY)));
    assert_eq!(material.overdue_from(), at(NOW + DAY - 25 * HOUR / 4));
    assert_eq!(material.fingerprint(), Fingerprint::of(&pki.leaf.chain[0]));
    assert_eq!(material.certified_key().cert, pki.leaf.chain);
    assert_eq!(material.repair(), None);
}

#[test]
fn a_chain_in_disorder_is_presented_in_order() {
    let pki = prod();
    let turned: Vec<_> = pki.leaf.chain.iter().rev().cloned().collect();
    let material = prove(&pki, &pem(&turned), &pki.leaf.key_pem()).unwrap();
    assert_eq!(material.certified_key().cert, pki.leaf.chain);
    assert!(material.repair().unwrap().contains("not in order"));
}

#[test]
fn the_key_is_never_shown() {
    let pki = prod();
    let text = format!("{:?}", prove_leaf(&pki, &pki.leaf).unwrap());
    assert!(text.contains(API) && !text.to_lowercase().contains("key"), "{text}");
}

#[test]
fn each_broken_generation_has_its_own_error() {
    let pki = prod();
    let (chain, key) = (pki.leaf.chain_pem(), pki.leaf.key_pem());
    let other = pki.intermediate.leaf(API);
    assert_eq!(label(prove(&pki, &chain, &other.key_pem())), "key_mismatch");
    assert_eq!(label(prove(&pki, &chain[..chain.len() - 40], &key)), "truncated_pem");
    assert_eq!(label(prove(&pki, &chain, &key[..key.len() - 40])), "truncated_pem");
    assert_eq!(label(prove(&pki, "garbage", &key)), "no_certificate");
    assert_eq!(label(prove(&pki, &chain, "garbage")), "no_key");
    assert_eq!(label(prove(&pki, &chain, &crate::pki::section("PRIVATE KEY", b"x"))), "unusable_key");
    assert_eq!(label(prove(&pki, &crate::pki::section("CERTIFICATE", b"x"), &key)), "malformed_certificate");
    assert_eq!(label(prove(&pki, &pem(&pki.leaf.chain[..1]), &key)), "unknown_issuer", "its intermediate is missing");

    let encrypted = prove(&pki, &chain, &crate::pki::section("ENCRYPTED PRIVATE KEY", b"x")).unwrap_err();
    assert!(explain(&encrypted).contains("encrypted"), "{encrypted}");

    let weak = include_str!("../../tests/data/throwaway-rsa1024.crt");
    let weak_key = include_str!("../../tests/data/throwaway-rsa1024.key");
    assert_eq!(label(prove(&pki, weak, weak_key)), "weak_key");

    let issued = |edit: fn(&mut CertificateParams)| pki.intermediate.leaf_with(API, edit);
    assert_eq!(label(prove_leaf(&pki, &issued(|params| params.subject_alt_names.clear()))), "no_spiffe_id");
    let server_only = issued(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let error = prove_leaf(&pki, &server_only).unwrap_err();
    assert_eq!(error.label(), "missing_client_auth");
    assert!(explain(&error).contains("usages: [digital signature, server auth, client auth]"));
}

#[test]
fn a_leaf_is_for_the_expected_workload_within_its_time_and_trust() {
    let pki = prod();
    let generation = files(&pki.leaf.chain_pem(), &pki.leaf.key_pem());
    let check = |trust: &Trust, expected: Option<&str>, seconds| {
        let expected = expected.map(|id| SpiffeId::new(id).unwrap());
        label(Material::prove(&generation, &Demands { trust, expected: expected.as_ref(), now: at(seconds) }))
    };
    let ours = trust("prod.test", &pki.root);
    assert_eq!(check(&ours, Some(API), NOW), "proven");
    assert_eq!(check(&ours, Some("spiffe://prod.test/ns/eligibility/sa/web"), NOW), "wrong_identity");
    assert_eq!(check(&ours, None, NOW + DAY + 1), "expired");
    assert_eq!(check(&ours, None, NOW - HOUR - 1), "not_yet_valid");
    assert_eq!(check(&trust("prod.test", &Authority::root("other")), None, NOW), "unknown_issuer");
    assert_eq!(check(&trust("dev.test", &pki.root), None, NOW), "no_bundle");
}

#[test]
fn a_published_leaf_can_be_proven_again() {
    let pki = prod();
    let material = prove_leaf(&pki, &pki.leaf).unwrap();
    let ours = trust("prod.test", &pki.root);
    material.prove_again(&ours, at(NOW + DAY)).unwrap();
    assert_eq!(material.prove_again(&ours, at(NOW + DAY + 1)).unwrap_err().label(), "expired");
    let other = trust("prod.test", &Authority::root("other"));
    assert_eq!(material.prove_again(&other, now()).unwrap_err().label(), "unknown_issuer");
}

#[test]
fn an_svid_of_the_workload_api_is_proven_like_files() {
    let pki = prod();
    let deliver = |leaf: &Leaf, key: &Leaf| {
        let svid =
            messages::Svid { x509_svid_key: key.key.serialize_der(), ..messages::Svid::new(API, leaf, &pki.root) };
        Delivery::read(1, &messages::Response::of([svid]).bytes()).unwrap()
    };
    let ours = trust("prod.test", &pki.root);
    let prove = |delivery: &Delivery| {
        let svid = delivery.choose(&Choice::First).unwrap();
        Material::prove_candidate(&svid.into(), &Demands { trust: &ours, expected: None, now: now() })
    };
    let material = prove(&deliver(&pki.leaf, &pki.leaf)).unwrap();
    assert_eq!((material.id().to_string().as_str(), &material.chain()[..]), (API, &pki.leaf.chain[..]));

    let error = prove(&deliver(&pki.leaf, &pki.intermediate.leaf(API))).unwrap_err();
    assert_eq!(error.label(), "key_mismatch");
    assert!(!error.to_string().contains("tls.key"), "{error}");
}
