//! Tests of `revocation.rs`: the lists themselves, and what they do to a path.

use std::sync::Arc;

use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, KeyIdMethod,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use spiffe::TrustDomain;
use time::OffsetDateTime;

use super::*;
use crate::bundle::tests::prod_trusts;
use crate::pki::{API, Authority, DAY, HOUR, NOW, at, now, prod, section};
use crate::role::Role;
use crate::trust::Trust;
use crate::verify::verify_peer;

/// A list by `issuer` of these certificates, made an hour ago and good for a day.
pub(crate) fn list_of(issuer: &Authority, revoked: &[&[u8]]) -> Vec<u8> {
    list_with(issuer, revoked, |_| {})
}

fn list_with(
    issuer: &Authority,
    revoked: &[&[u8]],
    edit: impl FnOnce(&mut CertificateRevocationListParams),
) -> Vec<u8> {
    let date = |seconds: u64| OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap();
    let entry = |der: &&[u8]| RevokedCertParams {
        serial_number: SerialNumber::from_slice(Certificate::parse(der).unwrap().x509().raw_serial()),
        revocation_time: date(NOW - HOUR),
        reason_code: None,
        invalidity_date: None,
    };
    let mut params = CertificateRevocationListParams {
        this_update: date(NOW - HOUR),
        next_update: date(NOW + DAY),
        crl_number: SerialNumber::from(7_u64),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    edit(&mut params);
    params.signed_by(&issuer.issuer).unwrap().der().to_vec()
}

fn trust(root: &Authority, lists: &[Vec<u8>], policy: RevocationPolicy) -> Trust {
    let lists = lists.iter().map(|der| Crl::parse(der).unwrap()).collect();
    let revocation = Arc::new(Revocation::new(lists, policy));
    prod_trusts(&[root]).with_revocations([(TrustDomain::new("prod.test").unwrap(), revocation)])
}

fn label(trust: &Trust, chain: &[rustls_pki_types::CertificateDer<'static>], seconds: u64) -> &'static str {
    let outcome = verify_peer(trust, Role::Client, chain, at(seconds));
    // A second time, so that what is remembered is asked too.
    assert_eq!(outcome, verify_peer(trust, Role::Client, chain, at(seconds)));
    outcome.map_or_else(|error| error.label(), |_| "accepted")
}

const REFUSE_UNKNOWN: RevocationPolicy = RevocationPolicy { unknown: UnknownStatus::Refuse, stale: StaleList::Warn };
const REFUSE_STALE: RevocationPolicy = RevocationPolicy { unknown: UnknownStatus::Allow, stale: StaleList::Refuse };

#[test]
fn a_list_is_read_from_pem_and_der_with_its_facts() {
    let pki = prod();
    let der = list_of(&pki.root, &[&pki.intermediate.der]);
    let pem = section("X509 CRL", &der);
    for file in [der.clone(), pem.clone().into_bytes(), format!("{pem}{pem}").into_bytes()] {
        let lists = Crl::read(&file).unwrap();
        let crl = &lists[0];
        assert_eq!((crl.issuer(), crl.number(), crl.revoked()), ("CN=root", Some("7"), 1));
        assert_eq!((crl.this_update(), crl.next_update()), (at(NOW - HOUR), at(NOW + DAY)));
        assert_eq!(crl.to_string(), "CRL 7 of `CN=root`");
    }
    let refused = |file: &[u8]| Crl::read(file).unwrap_err().label();
    assert_eq!(refused(b"garbage"), "no_crl");
    assert_eq!(refused(&der[..der.len() - 1]), "unsupported_crl");
    assert_eq!(refused(pki.root.pem().as_bytes()), "no_crl");
    assert_eq!(refused(&pem.as_bytes()[..pem.len() - 20]), "truncated_pem");
    assert_eq!(refused(&pki.root.der), "unsupported_crl");
}

#[test]
fn what_is_listed_is_refused_at_any_height_and_with_its_alert() {
    let pki = prod();
    let check = |lists: &[Vec<u8>], expected| {
        assert_eq!(label(&trust(&pki.root, lists, RevocationPolicy::default()), &pki.leaf.chain, NOW), expected);
    };
    check(&[], "accepted");
    check(&[list_of(&pki.root, &[])], "accepted");
    check(&[list_of(&pki.root, &[&pki.intermediate.der])], "revoked");
    check(&[list_of(&pki.intermediate, &[&pki.leaf.chain[0]])], "revoked");
    // One of several lists is enough.
    check(&[list_of(&pki.root, &[]), list_of(&pki.root, &[&pki.intermediate.der])], "revoked");
    // A serial counts under its own issuer only.
    check(&[list_of(&pki.root, &[&pki.leaf.chain[0]])], "accepted");
    check(&[list_of(&Authority::root("other"), &[&pki.intermediate.der])], "accepted");

    let trust = trust(&pki.root, &[list_of(&pki.root, &[&pki.intermediate.der])], RevocationPolicy::default());
    let error = verify_peer(&trust, Role::Server, &pki.leaf.chain, now()).unwrap_err();
    assert_eq!(error.certificate_error(), rustls::CertificateError::Revoked);
    let text = crate::explain(&error);
    assert!(text.contains("CN=prod") && text.contains("CRL 7 of `CN=root`"), "{text}");
}

#[test]
fn a_list_counts_only_under_the_signature_of_the_issuer() {
    let pki = prod();
    let stranger = Authority::root("root");
    let forged = list_of(&stranger, &[&pki.intermediate.der]);
    assert_eq!(label(&trust(&pki.root, &[forged], RevocationPolicy::default()), &pki.leaf.chain, NOW), "accepted");
    // And it is no reason to believe that somebody is not revoked.
    let forged = list_of(&stranger, &[]);
    let lists = [forged, list_of(&pki.intermediate, &[])];
    assert_eq!(label(&trust(&pki.root, &lists, REFUSE_UNKNOWN), &pki.leaf.chain, NOW), "revocation_unknown");
    // The list of an issuer that may not sign lists covers nothing, and what it names is refused all the same.
    let root = Authority::root_with("root", |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    let leaf = root.leaf(API);
    let mut signing = Authority::root_with("root", |_| {});
    signing.issuer = rcgen::Issuer::new(
        crate::pki::ca_params("root"),
        rcgen::KeyPair::from_pem(&root.issuer.key().serialize_pem()).unwrap(),
    );
    let check = |revoked: &[&[u8]], policy, expected| {
        assert_eq!(label(&trust(&root, &[list_of(&signing, revoked)], policy), &leaf.chain, NOW), expected);
    };
    check(&[], REFUSE_UNKNOWN, "revocation_unknown");
    check(&[], RevocationPolicy::default(), "accepted");
    check(&[&leaf.chain[0]], RevocationPolicy::default(), "revoked");
}

#[test]
fn silence_is_what_the_policy_makes_of_it() {
    let pki = prod();
    let of_root = || list_of(&pki.root, &[]);
    let check = |lists: &[Vec<u8>], policy, seconds, expected| {
        assert_eq!(label(&trust(&pki.root, lists, policy), &pki.leaf.chain, seconds), expected);
    };
    check(&[of_root()], REFUSE_UNKNOWN, NOW, "revocation_unknown");
    check(&[of_root(), list_of(&pki.intermediate, &[])], REFUSE_UNKNOWN, NOW, "accepted");

    let late =
        list_with(&pki.root, &[], |params| params.next_update = params.this_update + time::Duration::minutes(30));
    check(std::slice::from_ref(&late), RevocationPolicy::default(), NOW, "accepted");
    check(std::slice::from_ref(&late), REFUSE_STALE, NOW, "crl_stale");
    check(&[late, of_root()], REFUSE_STALE, NOW, "accepted");
    // What a late list names stays revoked.
    let late = list_with(&pki.root, &[&pki.intermediate.der], |params| {
        params.next_update = params.this_update + time::Duration::minutes(1);
    });
    check(&[late], RevocationPolicy::default(), NOW, "revoked");
}

#[test]
fn a_list_that_ends_ends_what_was_proven_by_it() {
    let root = Authority::root("root");
    let leaf = root.leaf_with(API, |params| crate::pki::set_validity(params, NOW - HOUR, NOW + 3 * DAY));
    let trust = trust(&root, &[list_of(&root, &[])], REFUSE_STALE);
    assert_eq!(verify_peer(&trust, Role::Client, &leaf.chain, now()).unwrap().not_after, at(NOW + DAY));
    assert_eq!(label(&trust, &leaf.chain, NOW + DAY), "accepted");
    assert_eq!(label(&trust, &leaf.chain, NOW + DAY + 1), "crl_stale");
}

#[test]
fn a_list_for_a_part_covers_that_part() {
    let pki = prod();
    let scoped = |issuer: &Authority, uri: &str, scope| {
        list_with(issuer, &[], |params| {
            params.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
                distribution_point: CrlDistributionPoint { uris: vec![uri.to_owned()] },
                scope,
            });
        })
    };
    let leaf = pki.intermediate.leaf_with(API, |params| {
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec!["http://a.test/1".to_owned()] }];
    });
    let check_leaf = |leaf: &crate::pki::Leaf, list: Vec<u8>, expected| {
        let lists = [list_of(&pki.root, &[]), list];
        assert_eq!(label(&trust(&pki.root, &lists, REFUSE_UNKNOWN), &leaf.chain, NOW), expected);
    };
    let check = |list, expected| check_leaf(&leaf, list, expected);
    // Of a leaf that names no point its issuer is taken to keep one list.
    check_leaf(&pki.leaf, scoped(&pki.intermediate, "http://a.test/1", None), "accepted");
    let issuers_only = scoped(&pki.intermediate, "http://a.test/1", Some(CrlScope::CaCertsOnly));
    check_leaf(&pki.leaf, issuers_only, "revocation_unknown");
    check(scoped(&pki.intermediate, "http://a.test/1", None), "accepted");
    check(scoped(&pki.intermediate, "http://a.test/2", None), "revocation_unknown");
    check(scoped(&pki.intermediate, "http://a.test/1", Some(CrlScope::UserCertsOnly)), "accepted");
    check(scoped(&pki.intermediate, "http://a.test/1", Some(CrlScope::CaCertsOnly)), "revocation_unknown");
}

#[test]
fn issuers_above_a_constrained_one_are_asked_about_too() {
    let root = Authority::root("root");
    let upper = root.intermediate("upper");
    let content = der::wrap(0x30, &der::wrap(0xa0, &der::wrap(0x30, b"\x86\x09prod.test")));
    let bound = crate::pki::extension(&[2, 5, 29, 30], true, &content);
    let prod = upper.intermediate_with("prod", |params| params.custom_extensions.push(bound));
    let leaf = prod.leaf(API);
    let check = |lists: &[Vec<u8>], expected| {
        assert_eq!(label(&trust(&root, lists, RevocationPolicy::default()), &leaf.chain, NOW), expected);
    };
    check(&[list_of(&root, &[]), list_of(&upper, &[]), list_of(&prod, &[])], "accepted");
    check(&[list_of(&root, &[&upper.der])], "revoked");
    check(&[list_of(&upper, &[&prod.der])], "revoked");
    check(&[list_of(&prod, &[&leaf.chain[0]])], "revoked");
}
