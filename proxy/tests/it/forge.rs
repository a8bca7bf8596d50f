//! Certificates and revocation lists that the throw-away CA would not make: any constraint, depth, size and fault.

use std::io;
use std::net::SocketAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::AlertDescription;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{self, Secured};
use crate::eventually::soon;

/// A root or an intermediate.
pub struct Forge {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
    /// From this one up to, and without, the root.
    pub chain: Vec<CertificateDer<'static>>,
}

/// What a peer shows.
pub struct Shown {
    pub chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Forge {
    pub fn root(name: &str) -> Self {
        let params = authority(name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key), chain: Vec::new() }
    }

    pub fn under(&self, name: &str) -> Self {
        self.under_with(name, |_| {})
    }

    pub fn under_with(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority(name);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = std::iter::once(certificate.der().clone()).chain(self.chain.iter().cloned()).collect();
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key), chain }
    }

    pub fn leaf(&self, id: &str) -> Shown {
        self.leaf_with(id, |_| {})
    }

    pub fn leaf_with(&self, id: &str, edit: impl FnOnce(&mut CertificateParams)) -> Shown {
        let mut params = CertificateParams::default();
        lasting(&mut params, -1, 24);
        params.distinguished_name = named("leaf");
        params.subject_alt_names = vec![uri(id)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Shown { chain: std::iter::once(leaf).chain(self.chain.iter().cloned()).collect(), key }
    }

    /// A list that revokes these serial numbers, due for renewal in `hours`.
    pub fn crl(&self, revoked: &[u64], hours: i64) -> String {
        let now = OffsetDateTime::now_utc();
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - Duration::minutes(1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now - Duration::days(2),
            next_update: now + Duration::hours(hours),
            crl_number: SerialNumber::from(7_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Shown {
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    pub async fn shake(&self, address: SocketAddr, alpn: &[&str]) -> io::Result<Secured> {
        client::shake(address, Some((self.chain.clone(), self.key())), alpn, client::TLS13).await
    }
}

/// The TLS alert with which `shown` is refused, or the answer that it got.
pub async fn refusal(address: SocketAddr, shown: &Shown) -> Result<AlertDescription, String> {
    let asking = async {
        let mut stream = shown.shake(address, &["http/1.1"]).await?;
        // A TLS 1.3 client is done before it is judged; the alert comes instead of an answer.
        stream.write_all(b"GET / HTTP/1.1\r\nhost: eligibility.test\r\nconnection: close\r\n\r\n").await?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await?;
        io::Result::Ok(String::from_utf8_lossy(&got).into_owned())
    };
    match soon("an answer or an alert", asking).await {
        Ok(answer) => Err(answer),
        Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => Ok(*alert),
            _ => Err(format!("{error:?}")),
        },
    }
}

pub fn lasting(params: &mut CertificateParams, from_hours: i64, to_hours: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now + Duration::hours(from_hours);
    params.not_after = now + Duration::hours(to_hours);
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// A critical name constraint that permits URIs of one host only, which rcgen cannot write.
pub fn only_uris_of(host: &str) -> CustomExtension {
    let value = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let base = value(0x86, host.as_bytes());
    let content = value(0x30, &value(0xa0, &value(0x30, &base)));
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
    extension.set_criticality(true);
    extension
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    lasting(&mut params, -48, 24 * 365);
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
