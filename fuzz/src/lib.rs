//! What the fuzz targets share: one trusted world, made once by `examples/seeds.rs` and committed beside the seeds, so
//! that an input that was found keeps its meaning. Its keys are thrown away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis_certs_watcher::volume::read_bundle;
use portcullis_certs_watcher::{Bundle, Fingerprint, Trust};
use portcullis_policy::import::{Mapping, Workload};
use rustls_pki_types::{CertificateDer, UnixTime};
use spiffe::{SpiffeId, TrustDomain};

/// The trust domain of the seeds.
pub const TRUST_DOMAIN: &str = "prod.test";

/// When the seeds are valid.
pub const NOW: u64 = 1_800_000_000;

/// The chain that is believed, as [`chain`] reads it.
pub const GOOD_CHAIN: &[u8] = include_bytes!("../seeds/chain/good");

const ANCHOR: &[u8] = include_bytes!("../seeds/anchor.pem");
const ISSUED_LIST: &[u8] = include_bytes!("../seeds/crl/issued");

/// Trust in the anchor of the seeds.
///
/// # Panics
/// When the temporary directory cannot be written, or the seeds are damaged.
pub fn trust() -> Trust {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("prod.pem");
    std::fs::write(&path, ANCHOR).expect("a temporary file");
    let files = read_bundle(&path).expect("the anchor of the seeds");
    let domain = TrustDomain::new(TRUST_DOMAIN).expect("a trust domain");
    Trust::new([Arc::new(Bundle::load(&domain, &files).expect("the anchor of the seeds"))])
}

/// The one leaf that was ever issued under that anchor with an identity that may be accepted.
///
/// # Panics
/// When the seeds are damaged.
pub fn issued_leaf() -> Fingerprint {
    let (_, chain) = chain(GOOD_CHAIN);
    Fingerprint::of(chain.first().expect("the leaf of the seeds"))
}

/// The one revocation list that was ever issued under that anchor; it revokes that leaf.
pub fn issued_list() -> &'static [u8] {
    ISSUED_LIST
}

/// Reads a first byte of choices, and then certificates, each behind its length in two bytes.
pub fn chain(bytes: &[u8]) -> (u8, Vec<CertificateDer<'static>>) {
    let Some((choices, mut rest)) = bytes.split_first() else { return (0, Vec::new()) };
    let mut certificates = Vec::new();
    while let Some(([high, low], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (certificate, after) = after.split_at(length);
        certificates.push(CertificateDer::from(certificate.to_vec()));
        rest = after;
    }
    (*choices, certificates)
}

/// A SPIFFE ID.
///
/// # Panics
/// When the text is none.
pub fn spiffe_id(text: &str) -> SpiffeId {
    SpiffeId::new(text).expect("a SPIFFE ID")
}

/// What importers are told of the cluster of the seeds.
///
/// # Panics
/// Never.
pub fn mapping() -> Mapping {
    let workloads = ["app=web=spiffe://t/ns/shop/sa/web", "app=cart=spiffe://t/ns/shop/sa/cart"];
    Mapping {
        workloads: workloads.map(|text| Workload::parse(text).expect("a workload")).to_vec(),
        ports: BTreeMap::from([("http".to_owned(), 8080)]),
        trust_domain: Some(TrustDomain::new("t").expect("a trust domain")),
        trust_domains: BTreeMap::new(),
        cluster_networks: vec!["10.0.0.0/8".parse().expect("a network")],
    }
}

/// An instant, in seconds since 1970.
pub fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// Wraps DER in PEM, by the base64 of whoever needs no other crate for it.
pub fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----");
    for (number, group) in der.chunks(3).enumerate() {
        if number % 16 == 0 {
            text.push('\n');
        }
        let word = group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for position in 0..4 {
            let symbol = ALPHABET[(word >> (18 - 6 * position) & 63) as usize];
            text.push(if position <= group.len() { char::from(symbol) } else { '=' });
        }
    }
    text + &format!("\n-----END {label}-----\n")
}
