//! The sections of one file, whatever its encoding: PEM, DER, or a SPIFFE bundle in JSON.

use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::FileFault;
use crate::certificate::Certificate;
use crate::pem::PemError;
use crate::spiffe_bundle::SpiffeBundle;

/// How a file is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Encoding {
    /// Text with `-----BEGIN …-----` lines.
    Pem,
    /// One object in binary.
    Der,
    /// A SPIFFE bundle.
    Json,
}

/// What a file holds, taken apart. No `Debug`: see `key`.
pub(super) struct Sections {
    pub(super) encoding: Encoding,
    pub(super) certificates: Vec<(CertificateDer<'static>, Option<usize>)>,
    pub(super) lists: Vec<(Vec<u8>, Option<usize>)>,
    /// How the first private key is wrapped, if there is one; the key itself is not kept.
    pub(super) key: Option<&'static str>,
    pub(super) sequence: Option<u64>,
    pub(super) refresh_hint: Option<Duration>,
}

impl Sections {
    pub(super) fn of(bytes: &[u8]) -> Result<Self, FileFault> {
        let start = bytes.trim_ascii_start();
        if start.is_empty() {
            return Err(FileFault::Pem(PemError::Empty));
        }
        if start.starts_with(b"{") {
            return Self::of_json(bytes);
        }
        if bytes.windows(BEGIN.len()).any(|window| window == BEGIN) {
            return Self::of_pem(bytes);
        }
        if bytes.starts_with(&[DER_SEQUENCE]) {
            return Self::of_der(bytes);
        }
        Err(FileFault::Unknown)
    }

    fn empty(encoding: Encoding) -> Self {
        let (certificates, lists) = (Vec::new(), Vec::new());
        Self { encoding, certificates, lists, key: None, sequence: None, refresh_hint: None }
    }

    fn of_json(text: &[u8]) -> Result<Self, FileFault> {
        let bundle = SpiffeBundle::parse(text).map_err(FileFault::Json)?;
        if bundle.anchors.len() > MAX_CERTIFICATES {
            return Err(FileFault::TooMany);
        }
        let certificates = bundle.anchors.into_iter().map(|certificate| (certificate, None)).collect();
        Ok(Self {
            certificates,
            sequence: bundle.sequence,
            refresh_hint: bundle.refresh_hint,
            ..Self::empty(Encoding::Json)
        })
    }

    fn of_pem(text: &[u8]) -> Result<Self, FileFault> {
        let mut sections = Self::empty(Encoding::Pem);
        let mut certificate_lines = lines_of(text, b"-----BEGIN CERTIFICATE-----");
        let mut list_lines = lines_of(text, b"-----BEGIN X509 CRL-----");
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = section.map_err(|error| FileFault::Pem(PemError::from_pem(&error)))?;
            match kind {
                SectionKind::Certificate => {
                    sections.certificates.push((CertificateDer::from(der), certificate_lines.next()));
                }
                SectionKind::Crl => sections.lists.push((der, list_lines.next())),
                SectionKind::PrivateKey => sections.key = sections.key.or(Some("PKCS#8")),
                SectionKind::RsaPrivateKey => sections.key = sections.key.or(Some("PKCS#1")),
                SectionKind::EcPrivateKey => sections.key = sections.key.or(Some("SEC1")),
                _ => {}
            }
            if sections.certificates.len() + sections.lists.len() > MAX_CERTIFICATES {
                return Err(FileFault::TooMany);
            }
        }
        if lines_of(text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----").next().is_some() {
            sections.key = sections.key.or(Some("PKCS#8, encrypted"));
        }
        if sections.certificates.is_empty() && sections.lists.is_empty() && sections.key.is_none() {
            return Err(FileFault::Pem(PemError::NoCertificate));
        }
        Ok(sections)
    }

    fn of_der(bytes: &[u8]) -> Result<Self, FileFault> {
        let mut sections = Self::empty(Encoding::Der);
        if Certificate::parse(bytes).is_ok() {
            sections.certificates.push((CertificateDer::from(bytes.to_vec()), None));
            return Ok(sections);
        }
        if CertificateRevocationList::from_der(bytes).is_ok() {
            sections.lists.push((bytes.to_vec(), None));
            return Ok(sections);
        }
        let key = PrivateKeyDer::try_from(bytes).map_err(|_| FileFault::UnknownDer)?;
        // The first bytes alone made it look like a key.
        aws_lc_rs::sign::any_supported_type(&key).map_err(|_| FileFault::UnknownDer)?;
        sections.key = Some(match key {
            PrivateKeyDer::Pkcs1(_) => "PKCS#1",
            PrivateKeyDer::Sec1(_) => "SEC1",
            _ => "PKCS#8",
        });
        Ok(sections)
    }
}

/// The numbers of the lines that begin with `marker`, from 1.
fn lines_of<'t>(text: &'t [u8], marker: &'static [u8]) -> impl Iterator<Item = usize> + use<'t> {
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    lines.filter(move |(_, line)| line.starts_with(marker)).map(|(index, _)| index + 1)
}

const BEGIN: &[u8] = b"-----BEGIN ";

/// The first byte of everything that X.509 puts into a file.
const DER_SEQUENCE: u8 = 0x30;

/// The public web has 150 roots; a file with more sections than this is no bundle of a service mesh.
pub(super) const MAX_CERTIFICATES: usize = 512;
