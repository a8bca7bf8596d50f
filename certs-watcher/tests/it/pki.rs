//! A throw-away PKI of three tiers: root, intermediate, leaf. Shared by the unit tests and the integration tests.

#![allow(dead_code, reason = "the two test binaries that share this file use different parts of it")]

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;

/// When the tests take place.
pub const NOW: u64 = 1_800_000_000;
pub const HOUR: u64 = 3600;
pub const DAY: u64 = 24 * HOUR;

pub fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub fn now() -> UnixTime {
    at(NOW)
}

pub fn date(seconds: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap()
}

pub fn set_validity(params: &mut CertificateParams, from: u64, to: u64) {
    params.not_before = date(from);
    params.not_after = date(to);
}

/// A root or an intermediate.
pub struct Authority {
    pub der: CertificateDer<'static>,
    pub issuer: Issuer<'static, KeyPair>,
    /// The intermediates from this one up to, and without, the root.
    pub chain: Vec<CertificateDer<'static>>,
}

/// A leaf with its chain and key.
pub struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

impl Authority {
    pub fn root(name: &str) -> Self {
        Self::root_with(name, |_| {})
    }

    pub fn root_with(name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key), chain: Vec::new() }
    }

    pub fn intermediate(&self, name: &str) -> Self {
        self.intermediate_with(name, |_| {})
    }

    pub fn intermediate_with(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        self.certify(name, KeyPair::generate().unwrap(), edit)
    }

    /// An intermediate for a key that exists, as when one is renewed.
    pub fn certify(&self, name: &str, key: KeyPair, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        edit(&mut params);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let chain = std::iter::once(der.clone()).chain(self.chain.iter().cloned()).collect();
        Self { der, issuer: Issuer::new(params, key), chain }
    }

    pub fn leaf(&self, id: &str) -> Leaf {
        self.leaf_with(id, |_| {})
    }

    pub fn leaf_with(&self, id: &str, edit: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = leaf_params(id);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let chain = std::iter::once(leaf).chain(self.chain.iter().cloned()).collect();
        Leaf { chain, key }
    }

    pub fn pem(&self) -> String {
        pem(std::slice::from_ref(&self.der))
    }

    /// A list with these serial numbers whose successor is due at `until`, in DER.
    pub fn crl(&self, number: u64, revoked: &[u64], until: u64) -> Vec<u8> {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date(NOW - HOUR),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date(NOW - DAY),
            next_update: date(until),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

impl Leaf {
    pub fn chain_pem(&self) -> String {
        pem(&self.chain)
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

/// Root, prod intermediate, and a leaf of the workload that the tests are about.
pub struct Prod {
    pub root: Authority,
    pub intermediate: Authority,
    pub leaf: Leaf,
}

pub const API: &str = "spiffe://prod.test/ns/eligibility/sa/api";

pub fn prod() -> Prod {
    let root = Authority::root("root");
    let intermediate = root.intermediate("prod");
    let leaf = intermediate.leaf(API);
    Prod { root, intermediate, leaf }
}

pub fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    set_validity(&mut params, NOW - 365 * DAY, NOW + 365 * DAY);
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// What cert-manager writes for `usages: [digital signature, server auth, client auth]`.
pub fn leaf_params(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    set_validity(&mut params, NOW - HOUR, NOW + 24 * HOUR);
    params.distinguished_name = named("leaf");
    params.subject_alt_names = vec![uri(id)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from(0x0abc_u64));
    params
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

pub fn extension(oid: &[u64], critical: bool, der: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, der.to_vec());
    extension.set_criticality(critical);
    extension
}

pub fn pem(certificates: &[CertificateDer<'static>]) -> String {
    certificates.iter().map(|der| section("CERTIFICATE", der)).collect()
}

pub fn section(label: &str, der: &[u8]) -> String {
    let body: Vec<_> =
        base64(der).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", body.join("\n"))
}

pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for position in 0..4 {
            let symbol = ALPHABET[(word >> (18 - 6 * position) & 63) as usize];
            text.push(if position <= group.len() { symbol as char } else { '=' });
        }
    }
    text
}
