//! Bytes that nobody honest would send: never accepted, never a panic.

use std::sync::Arc;

use portcullis_certs_watcher::examine::{Question, examine};
use portcullis_certs_watcher::findings;
use portcullis_certs_watcher::inspect::{self, Inspection, Target};
use portcullis_certs_watcher::pem::{certificates, private_key};
use portcullis_certs_watcher::spiffe_bundle::SpiffeBundle;
use portcullis_certs_watcher::volume::read_bundle;
use portcullis_certs_watcher::{Bundle, Peer, PeerError, Role, Trust, explain, verify_peer};
use proptest::prelude::*;
use rustls_pki_types::CertificateDer;
use spiffe::TrustDomain;

use crate::pki::{self, Authority, now, prod};

fn trust(anchor: &Authority) -> Trust {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("prod.pem"), anchor.pem()).unwrap();
    let files = read_bundle(directory.path()).unwrap();
    Trust::new([Arc::new(Bundle::load(&TrustDomain::new("prod.test").unwrap(), &files).unwrap())])
}

fn verify(trust: &Trust, chain: &[CertificateDer<'static>]) -> Result<Arc<Peer>, PeerError> {
    verify_peer(trust, Role::Client, chain, now())
}

#[test]
fn a_chain_with_a_byte_changed_proves_nothing() {
    let pki = prod();
    let trust = trust(&pki.root);
    verify(&trust, &pki.leaf.chain).unwrap();
    for (number, certificate) in pki.leaf.chain.iter().enumerate() {
        for position in (0..certificate.len()).step_by(3) {
            let mut bytes = certificate.to_vec();
            bytes[position] ^= 1 << (position % 8);
            let mut chain = pki.leaf.chain.clone();
            chain[number] = bytes.into();
            let error = verify(&trust, &chain).expect_err("a changed certificate was accepted");
            assert!(!explain(&error).is_empty() && !error.label().is_empty());
        }
    }
}

#[test]
fn a_chain_cut_anywhere_proves_nothing() {
    let pki = prod();
    let trust = trust(&pki.root);
    for length in (0..pki.leaf.chain[0].len()).step_by(3) {
        let cut = CertificateDer::from(pki.leaf.chain[0][..length].to_vec());
        verify(&trust, &[cut, pki.leaf.chain[1].clone()]).unwrap_err();
    }
}

/// What people are told of these bytes, as one text.
fn told_of(directory: &std::path::Path, bytes: &[u8]) -> String {
    let path = directory.join("file");
    std::fs::write(&path, bytes).unwrap();
    let targets = [None, Some(TrustDomain::new("prod.test").unwrap())]
        .map(|trust_domain| Target { path: path.clone(), trust_domain });
    let inspections: Vec<_> =
        targets.iter().map(|target| Inspection::of(target, inspect::read(target), now())).collect();
    let findings = findings::list(&inspections, now());
    let facts = serde_json::to_string(&inspections).unwrap();
    let findings: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
    format!("{facts}{}", findings.join(" "))
}

#[test]
fn a_changed_file_is_described_and_explained_in_clean_text() {
    let pki = prod();
    let trust = trust(&pki.root);
    let directory = tempfile::tempdir().unwrap();
    let clean = |text: &str| assert!(!text.chars().any(char::is_control), "{text:?}");
    for position in (0..pki.leaf.chain[0].len()).step_by(2) {
        let mut bytes = pki.leaf.chain[0].to_vec();
        bytes[position] ^= 1 << (position % 8);
        clean(&told_of(directory.path(), &bytes));
        clean(&told_of(directory.path(), &bytes[..position]));
        let chain = [bytes.into(), pki.leaf.chain[1].clone()];
        clean(&told_of(directory.path(), pki::pem(&chain).as_bytes()));
        let broken = std::collections::BTreeMap::new();
        let (chain, role, expected, now) = (&chain[..], Role::Client, None, now());
        let examination = examine(&Question { chain, trust: &trust, broken: &broken, role, expected, now });
        assert!(!examination.accepted && verify(&trust, chain).is_err());
        let notes = examination.steps.iter().flat_map(|step| &step.notes);
        notes.for_each(|note| clean(&note.text));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_description_panic(bytes in prop::collection::vec(any::<u8>(), 1..300)) {
        let directory = tempfile::tempdir().unwrap();
        told_of(directory.path(), &bytes);
        told_of(directory.path(), &[&[0x30, 0x82], bytes.as_slice()].concat());
        told_of(directory.path(), pki::section("X509 CRL", &bytes).as_bytes());
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = certificates(&bytes);
        let _ = private_key(&bytes);
        let _ = SpiffeBundle::parse(&bytes);
    }

    #[test]
    fn no_text_in_the_shape_of_pem_makes_a_parser_panic(
        label in "(CERTIFICATE|EC PRIVATE KEY|RSA PRIVATE KEY|PRIVATE KEY|X)",
        body in "[A-Za-z0-9+/=\r\n -]{0,200}",
        end in "(-----END (CERTIFICATE|PRIVATE KEY)-----)?",
    ) {
        let text = format!("-----BEGIN {label}-----\n{body}\n{end}\n");
        let _ = certificates(text.as_bytes());
        let _ = private_key(text.as_bytes());
    }
}
