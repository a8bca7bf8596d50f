//! Tests of `chain.rs`.

use super::*;
use crate::pki::{API, Authority, prod};

/// Orders the file and names the result by the positions in `expected`.
fn check(file: &[&CertificateDer<'static>], expected: &[&CertificateDer<'static>], repaired: bool) {
    let file: Vec<_> = file.iter().map(|der| (*der).clone()).collect();
    let ordered = order(&file).unwrap();
    let expected: Vec<_> = expected.iter().map(|der| (*der).clone()).collect();
    assert!(ordered.chain == expected, "other order: {:?}", ordered.repair);
    assert_eq!(ordered.repair.is_some(), repaired, "{:?}", ordered.repair);
}

#[test]
fn a_chain_is_put_in_order() {
    let pki = prod();
    let team = pki.intermediate.intermediate("team");
    let leaf = &team.leaf(API).chain[0];
    let (root, prod, team) = (&pki.root.der, &pki.intermediate.der, &team.der);
    let stray = &Authority::root("stray").der;

    check(&[leaf], &[leaf], false);
    check(&[leaf, team, prod], &[leaf, team, prod], false);
    check(&[leaf, team, prod, root], &[leaf, team, prod, root], false);
    check(&[leaf, prod, team], &[leaf, team, prod], true);
    check(&[root, prod, team, leaf], &[leaf, team, prod, root], true);
    check(&[leaf, team, team, prod], &[leaf, team, prod], true);
    check(&[leaf, stray, team, prod], &[leaf, team, prod], true);
    check(&[leaf, prod], &[leaf], true);
    check(&[prod, root], &[prod, root], false);
    check(&[], &[], false);
}

#[test]
fn an_issuer_that_is_there_twice_stays_twice() {
    let (old, new) = (Authority::root("old"), Authority::root("new"));
    let key = rcgen::KeyPair::generate().unwrap();
    let copy = rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let by_old = old.certify("prod", key, |_| {});
    let by_new = new.certify("prod", copy, |_| {});
    let leaf = &by_old.leaf(API).chain[0];
    check(&[leaf, &by_old.der, &by_new.der], &[leaf, &by_old.der, &by_new.der], false);
    check(&[&by_new.der, leaf, &by_old.der], &[leaf, &by_new.der, &by_old.der], true);
}

#[test]
fn a_damaged_certificate_is_named_by_its_place() {
    let pki = prod();
    let file = [pki.leaf.chain[0].clone(), CertificateDer::from(vec![0x30, 0x00])];
    assert_eq!(order(&file).unwrap_err(), (2, MalformedCertificate::NotX509));
    let mut long = pki.leaf.chain[0].to_vec();
    long.push(0);
    assert_eq!(order(&[CertificateDer::from(long)]).unwrap_err(), (1, MalformedCertificate::TrailingBytes));
}
