//! Tests of `svid.rs`.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};

use super::*;
use crate::pki::{API, Authority, extension, uri};

const SAN: &[u64] = &[2, 5, 29, 17];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];

fn verdict(edit: impl FnOnce(&mut CertificateParams)) -> Result<SpiffeId, SvidError> {
    let leaf = Authority::root("root").leaf_with(API, edit);
    spiffe_id(&Certificate::parse(&leaf.chain[0]).unwrap())
}

fn accepted(what: &str, edit: impl FnOnce(&mut CertificateParams)) {
    let id = verdict(edit).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(id.to_string(), API, "{what}");
}

fn refused(label: &str, edit: impl FnOnce(&mut CertificateParams)) {
    let error = verdict(edit).expect_err(label);
    assert_eq!(error.label(), label, "{error}");
}

#[test]
fn leaves_of_real_issuers_are_accepted() {
    accepted("as cert-manager writes it", |_| {});
    accepted("without basic constraints, as step-ca and Vault write it", |params| params.is_ca = IsCa::NoCa);
    accepted("with basic constraints, as SPIRE writes it", |params| params.is_ca = IsCa::ExplicitNoCa);
    accepted("without extended key usage", |params| params.extended_key_usages.clear());
    accepted("with further key usages", |params| params.key_usages.push(KeyUsagePurpose::KeyEncipherment));
    accepted("with an empty subject and critical names", |params| {
        params.distinguished_name = DistinguishedName::new();
    });
    accepted("with names of other kinds", |params| {
        params.subject_alt_names.push(SanType::DnsName("api.eligibility.svc".try_into().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
    });
    accepted("with the scheme and trust domain in capitals", |params| {
        params.subject_alt_names = vec![uri("SPIFFE://PROD.test/ns/eligibility/sa/api")];
    });
}

#[test]
fn exactly_one_uri_that_is_a_spiffe_id() {
    refused("no_spiffe_id", |params| params.subject_alt_names.clear());
    refused("no_spiffe_id", |params| {
        params.subject_alt_names = vec![SanType::DnsName("api.eligibility.svc".try_into().unwrap())];
    });
    refused("several_uris", |params| params.subject_alt_names.push(uri("https://example.test")));
    refused("several_uris", |params| params.subject_alt_names.push(uri(API)));
    for (text, label) in [
        ("https://prod.test/ns/a", "not_spiffe"),
        ("spiffe:/prod.test/ns/a", "not_spiffe"),
        ("", "not_spiffe"),
        ("spiffe:///ns/a", "invalid_spiffe_id"),
        ("spiffe://prod.test/ns/a/", "invalid_spiffe_id"),
        ("spiffe://prod.test//a", "invalid_spiffe_id"),
        ("spiffe://prod.test/../a", "invalid_spiffe_id"),
        ("spiffe://prod.test/a%2fb", "invalid_spiffe_id"),
        ("spiffe://prod.test/a?b", "invalid_spiffe_id"),
        ("spiffe://prod.test/a#b", "invalid_spiffe_id"),
        ("spiffe://user@prod.test/a", "invalid_spiffe_id"),
        ("spiffe://prod.test:443/a", "invalid_spiffe_id"),
        ("spiffe://prod.test/ns/a\0.evil.test", "invalid_spiffe_id"),
        ("spiffe://prod.test\0.evil.test/ns/a", "invalid_spiffe_id"),
        ("spiffe://prod.test", "spiffe_id_without_path"),
        ("spiffe://prod.test/", "invalid_spiffe_id"),
    ] {
        refused(label, |params| params.subject_alt_names = vec![uri(text)]);
    }
}

#[test]
fn an_id_has_at_most_2048_bytes() {
    let of_length = |length: usize| format!("spiffe://prod.test/{}", "a".repeat(length - 19));
    let check = |length| verdict(|params| params.subject_alt_names = vec![uri(&of_length(length))]);
    assert_eq!(check(2048).unwrap().to_string().len(), 2048);
    assert_eq!(check(2049).unwrap_err(), SvidError::IdTooLong { length: 2049 });
}

#[test]
fn names_that_cannot_be_read_are_refused() {
    // A URI, and then a DNS name that is not ASCII.
    refused("malformed_names", |params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(extension(SAN, false, b"\x30\x10\x86\x0aspiffe://a\x82\x02\xff\xfe"));
    });
    refused("malformed_names", |params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(extension(SAN, false, b"\x30\x7f"));
    });
    refused("names_not_critical", |params| {
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names.clear();
        params.custom_extensions.push(extension(SAN, false, b"\x30\x16\x86\x14spiffe://prod.test/a"));
    });
}

#[test]
fn a_leaf_is_no_ca_and_signs_only_handshakes() {
    refused("leaf_is_ca", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    refused("no_key_usage", |params| params.key_usages.clear());
    refused("no_digital_signature", |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    refused("leaf_signs_certificates", |params| params.key_usages.push(KeyUsagePurpose::KeyCertSign));
    refused("leaf_signs_crls", |params| params.key_usages.push(KeyUsagePurpose::CrlSign));
    refused("key_usage_not_critical", |params| {
        params.key_usages.clear();
        // BIT STRING with digitalSignature alone.
        params.custom_extensions.push(extension(KEY_USAGE, false, b"\x03\x02\x07\x80"));
    });
}

#[test]
fn an_extended_key_usage_has_both_client_and_server_auth() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    refused("missing_client_auth", |params| params.extended_key_usages = vec![ServerAuth]);
    refused("missing_server_auth", |params| params.extended_key_usages = vec![ClientAuth]);
    refused("missing_client_and_server_auth", |params| params.extended_key_usages = vec![Any]);
}

#[test]
fn the_default_of_cert_manager_is_explained() {
    let error = verdict(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("cert-manager") && text.contains("usages: [digital signature, server auth, client auth]"));
}
