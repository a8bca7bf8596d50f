//! What the root and the intermediates have in common: a certificate, its key, records, and the right to sign.
//!
//! Every certificate gets its serial number here and is on record before it is returned.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::ledger::{Ledger, Reason, Revocation};
use super::validity::{Window, timestamp, whole_seconds};
use super::{Error, Serial, Validity, files, key, pem};

/// A certificate authority of either tier.
pub(super) struct Issuer {
    /// How messages call it: `root`, or ``intermediate of `prod` ``.
    pub(super) name: String,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) not_after: OffsetDateTime,
    signer: rcgen::Issuer<'static, KeyPair>,
    ledger: Ledger,
}

impl Issuer {
    pub(super) fn new(
        name: String,
        certificate: CertificateDer<'static>,
        key: KeyPair,
        ledger: Ledger,
    ) -> Result<Self, Error> {
        let read = |source| Error::Crypto { action: "read the certificate of the issuer", source };
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|_| read(rcgen::Error::CouldNotParseCertificate))?;
        let not_after = parsed.validity().not_after.to_datetime();
        let signer = rcgen::Issuer::from_ca_cert_der(&certificate, key).map_err(read)?;
        Ok(Self { name, certificate, not_after, signer, ledger })
    }

    /// Reads certificate and key from files, and proves that they belong together.
    pub(super) fn load(name: String, certificate: &Path, key: &Path, ledger: Ledger) -> Result<Self, Error> {
        let (certificate_path, key_path) = (certificate, key);
        let certificate = read_certificate(certificate_path)?;
        let key = key::read(key_path)?;
        let public_key = parse(&certificate).map(|parsed| parsed.public_key().raw.to_vec());
        if public_key != Some(key.subject_public_key_info()) {
            let problem = "does not fit the certificate beside it";
            return Err(Error::KeyFile { path: key_path.to_owned(), problem });
        }
        Self::new(name, certificate, key, ledger)
    }

    /// Signs a certificate and puts it on record.
    pub(super) fn sign(
        &self,
        mut params: CertificateParams,
        public_key: &impl PublicKeyData,
    ) -> Result<(Serial, CertificateDer<'static>), Error> {
        let serial = Serial::random()?;
        params.serial_number = Some(serial.to_rcgen());
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(public_key, &self.signer)
            .map_err(|source| Error::Crypto { action: "sign the certificate", source })?;
        let certificate = CertificateDer::from(certificate);
        self.ledger.record(serial, &certificate)?;
        Ok((serial, certificate))
    }

    /// Cuts a validity at the end of the issuer's own, beyond which no verifier would accept the chain.
    pub(super) fn clamp(&self, window: Window, now: OffsetDateTime) -> Result<Window, Error> {
        if self.not_after <= now {
            return Err(Error::IssuerExpired { issuer: self.name.clone(), not_after: timestamp(self.not_after) });
        }
        window.until(self.not_after)
    }

    pub(super) fn revoke(&self, serial: Serial, reason: Reason) -> Result<Revocation, Error> {
        if !self.ledger.knows(serial)? {
            return Err(Error::SerialUnknown { serial, issuer: self.name.clone() });
        }
        self.ledger.revoke(Revocation { serial, at: whole_seconds(OffsetDateTime::now_utc()), reason })
    }

    pub(super) fn revocation_list(&self, validity: Validity) -> Result<RevocationList, Error> {
        let window = validity.window(OffsetDateTime::now_utc())?;
        let revocations = self.ledger.next_list()?;
        let revoked = |revocation: &Revocation| RevokedCertParams {
            serial_number: revocation.serial.to_rcgen(),
            revocation_time: revocation.at,
            reason_code: Some(revocation.reason.to_rcgen()),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: window.not_before,
            next_update: window.not_after,
            crl_number: SerialNumber::from(revocations.list_number),
            issuing_distribution_point: None,
            revoked_certs: revocations.revoked.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params
            .signed_by(&self.signer)
            .map_err(|source| Error::Crypto { action: "sign the revocation list", source })?;
        Ok(RevocationList {
            number: revocations.list_number,
            next_update: window.not_after,
            revoked: revocations.revoked.len(),
            der: list.into(),
        })
    }
}

/// A signed revocation list.
#[derive(Debug, Clone)]
pub struct RevocationList {
    /// Its number; the next one of this issuer has a higher one.
    pub number: u64,
    /// When verifiers should have a newer one.
    pub next_update: OffsetDateTime,
    /// How many certificates it revokes.
    pub revoked: usize,
    /// The list in DER.
    pub der: CertificateRevocationListDer<'static>,
}

impl RevocationList {
    /// The list in PEM.
    pub fn pem(&self) -> String {
        pem::encode("X509 CRL", &self.der)
    }

    /// Writes it as PEM to a file, over the older one in one step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        files::replace(path, self.pem().as_bytes(), files::Access::Public)
    }
}

/// What the certificates of both tiers say alike.
///
/// The common name ends in random digits: lists and logs name an issuer by it, and two of one name look like one.
pub(super) fn params(name: &str, below: u8, window: Window) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if !(1..=MAX_NAME_CHARACTERS).contains(&name.chars().count()) {
        return Err(Error::RootName { name: name.to_owned() });
    }
    let name = format!("{name} {}", Serial::random()?.short());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = window.not_before;
    params.not_after = window.not_after;
    Ok(params)
}

/// Reads the one certificate of an issuer.
pub(super) fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, Error> {
    let wrong = |problem| Error::CertificateFile { path: path.to_owned(), problem };
    let text = files::read(path)?;
    let certificate =
        CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| wrong("is not a certificate in PEM"))?;
    let parsed = parse(&certificate).ok_or_else(|| wrong("is not a certificate"))?;
    if !parsed.is_ca() {
        return Err(wrong("is not one of a certificate authority"));
    }
    Ok(certificate)
}

/// The URI names of a certificate.
pub(super) fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Some(parsed) = parse(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(uri).collect()
}

/// The serial number of a certificate; `None` when it is no serial number of ours.
pub(super) fn serial(certificate: &CertificateDer<'_>) -> Option<Serial> {
    Serial::from_der_integer(parse(certificate)?.raw_serial())
}

/// Whether `issuer`'s key signed the certificate.
pub(super) fn is_signed_by(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let (Some(certificate), Some(issuer)) = (parse(certificate), parse(issuer)) else { return false };
    certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed)
}

/// RFC 5280 appendix A: a common name has 64 characters at most; a space and eight random digits are added.
const MAX_NAME_CHARACTERS: usize = 55;
