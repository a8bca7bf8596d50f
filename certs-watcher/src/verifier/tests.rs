//! Whole handshakes in memory, so that what is tested is what rustls does with the verifiers.

use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};
use rustls_pki_types::PrivateKeyDer;
use spiffe::TrustDomain;

use super::*;
use crate::bundle::Bundle;
use crate::pki::{API, Authority, Leaf, Prod, now, prod};
use crate::volume::read_bundle;

const CALLER: &str = "spiffe://prod.test/ns/claims/sa/adjudicator";

#[derive(Debug)]
struct TestTime;

impl TimeProvider for TestTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(now())
    }
}

fn trust(pki: &Prod) -> Arc<Trust> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.pem"), pki.root.pem()).unwrap();
    let files = read_bundle(directory.path()).unwrap();
    Arc::new(Trust::new([Arc::new(Bundle::load(&TrustDomain::new("prod.test").unwrap(), &files).unwrap())]))
}

fn identity(leaf: &Leaf) -> Arc<SingleCertAndKey> {
    let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).unwrap();
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(leaf.chain.clone(), key)))
}

struct Handshake {
    client: Option<Result<Arc<Peer>, PeerError>>,
    server: Option<Result<Arc<Peer>, PeerError>>,
    /// What either side ended with, the client's first.
    errors: [Option<Error>; 2],
}

/// One handshake between a caller (none without a certificate) and a workload.
fn handshake(
    pki: &Prod,
    caller: Option<&Leaf>,
    workload: &Leaf,
    expected: &[&str],
    version: &'static SupportedProtocolVersion,
) -> Handshake {
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let expected = expected.iter().map(|id| SpiffeId::new(id).unwrap()).collect();
    let (outbound, of_workload) = OutboundVerifier::new(trust(pki), expected);
    let (inbound, of_caller) = InboundVerifier::new(trust(pki));

    let builder = ClientConfig::builder_with_details(provider.clone(), Arc::new(TestTime));
    let builder = builder.with_protocol_versions(&[version]).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(outbound);
    let client = match caller {
        Some(leaf) => builder.with_client_cert_resolver(identity(leaf) as Arc<dyn ResolvesClientCert>),
        None => builder.with_no_client_auth(),
    };
    let builder = ServerConfig::builder_with_details(provider, Arc::new(TestTime));
    let server = builder
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(inbound)
        .with_cert_resolver(identity(workload));

    let name = ServerName::try_from("not-the-name-of-anything.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut errors = [None, None];
    for _ in 0..8 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        errors[1] = errors[1].take().or(server.process_new_packets().err());
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        errors[0] = errors[0].take().or(client.process_new_packets().err());
    }
    Handshake { client: of_workload.take(), server: of_caller.take(), errors }
}

fn id(outcome: Option<Result<Arc<Peer>, PeerError>>) -> String {
    outcome.unwrap().unwrap().id.to_string()
}

#[test]
fn both_sides_learn_who_the_other_is() {
    let pki = prod();
    let caller = pki.intermediate.leaf(CALLER);
    for version in [&TLS12, &TLS13] {
        let done = handshake(&pki, Some(&caller), &pki.leaf, &[CALLER, API], version);
        assert_eq!(done.errors, [None, None]);
        assert_eq!(id(done.client), API);
        assert_eq!(id(done.server), CALLER);
    }
}

#[test]
fn a_caller_without_a_certificate_is_refused_before_any_verdict() {
    let pki = prod();
    let done = handshake(&pki, None, &pki.leaf, &[API], &TLS13);
    assert!(done.server.is_none());
    assert_eq!(done.errors[1], Some(Error::NoCertificatesPresented));
    assert_eq!(done.errors[0], Some(Error::AlertReceived(AlertDescription::CertificateRequired)));
}

#[test]
fn a_refused_caller_gets_the_alert_and_we_the_reason() {
    let pki = prod();
    let check = |caller: &Leaf, label: &str, alert: AlertDescription| {
        let done = handshake(&pki, Some(caller), &pki.leaf, &[API], &TLS13);
        assert_eq!(done.server.unwrap().unwrap_err().label(), label);
        assert_eq!(done.errors[0], Some(Error::AlertReceived(alert)), "{label}");
    };
    let expired = pki.intermediate.leaf_with(CALLER, |params| {
        crate::pki::set_validity(params, crate::pki::NOW - 10, crate::pki::NOW - 1);
    });
    check(&expired, "expired", AlertDescription::CertificateExpired);
    check(&Authority::root("other").leaf(CALLER), "unknown_issuer", AlertDescription::UnknownCA);
    check(&pki.intermediate.leaf("spiffe://dev.test/a"), "foreign_trust_domain", AlertDescription::UnknownCA);
    let nobody = pki.intermediate.leaf_with(CALLER, |params| params.subject_alt_names.clear());
    check(&nobody, "no_spiffe_id", AlertDescription::BadCertificate);
    let half = pki.intermediate.leaf_with(CALLER, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    check(&half, "missing_client_auth", AlertDescription::UnsupportedCertificate);
}

#[test]
fn a_workload_that_was_not_expected_is_refused() {
    let pki = prod();
    let caller = pki.intermediate.leaf(CALLER);
    for expected in [&["spiffe://prod.test/ns/eligibility/sa/web"][..], &[]] {
        let done = handshake(&pki, Some(&caller), &pki.leaf, expected, &TLS13);
        let error = done.client.unwrap().unwrap_err();
        assert_eq!(error.label(), "wrong_identity");
        assert!(error.to_string().contains(API), "{error}");
        assert_eq!(done.errors[0], Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)));
        assert_eq!(done.errors[1], Some(Error::AlertReceived(AlertDescription::AccessDenied)));
    }
}

#[test]
fn a_chain_without_its_key_proves_nothing_to_tls() {
    let pki = prod();
    let stolen = Leaf { chain: pki.intermediate.leaf(CALLER).chain, key: rcgen::KeyPair::generate().unwrap() };
    let done = handshake(&pki, Some(&stolen), &pki.leaf, &[API], &TLS13);
    // The chain is good, so there is a verdict; the handshake fails all the same, and with it whoever looks at both.
    assert_eq!(id(done.server), CALLER);
    assert_eq!(done.errors[1], Some(Error::InvalidCertificate(CertificateError::BadSignature)));
}

#[test]
fn no_hint_tells_a_stranger_whom_we_trust() {
    let pki = prod();
    assert!(InboundVerifier::new(trust(&pki)).0.root_hint_subjects().is_empty());
}
