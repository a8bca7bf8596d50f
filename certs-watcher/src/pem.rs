//! Certificates and private keys out of PEM text.
//!
//! Issuers disagree on how a key is wrapped (PKCS#8, PKCS#1, SEC1), so all three load. What does not load says why in
//! a word that an operator can act on. Size is bounded by whoever reads the file (see `volume.rs`).

use rustls_pki_types::pem::{self, PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// Reads every certificate of a PEM text, in its order; sections of other kinds are passed over.
///
/// # Errors
/// If the text is empty, is damaged, or holds no certificate.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    refuse_blank(text)?;
    let certificates = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PemError::from_pem(&error))?;
    if certificates.is_empty() {
        return Err(PemError::NoCertificate);
    }
    Ok(certificates)
}

/// Reads the one private key of a PEM text: PKCS#8, PKCS#1 or SEC1.
///
/// # Errors
/// If the text is empty, is damaged, is encrypted, or does not hold exactly one key.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    refuse_blank(text)?;
    refuse_encrypted(text)?;
    let mut found = None;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|error| PemError::from_pem(&error))?;
        let Some(key) = PrivateKeyDer::from_pem(kind, der) else { continue };
        if found.replace(key).is_some() {
            return Err(PemError::SeveralKeys);
        }
    }
    found.ok_or(PemError::NoKey)
}

fn refuse_blank(text: &[u8]) -> Result<(), PemError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(PemError::Empty);
    }
    Ok(())
}

/// PKCS#8 says so in its label, the older OpenSSL form in a header line below it. Both would otherwise end as "no key"
/// or as bad base64, which sends the reader looking in the wrong place.
fn refuse_encrypted(text: &[u8]) -> Result<(), PemError> {
    let encrypted = text.split(|byte| matches!(byte, b'\n' | b'\r')).any(|line| {
        line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || (line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"))
    });
    if encrypted {
        return Err(PemError::EncryptedKey);
    }
    Ok(())
}

/// Why a PEM text gave no certificate or key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PemError {
    /// Nothing but white space.
    #[error("the file is empty")]
    Empty,
    /// A section does not end.
    #[error("a PEM section has no end line: the file is cut off, or its line breaks are lost")]
    Truncated,
    /// A section has a bad begin line or is not base64.
    #[error("a PEM section is damaged: its begin line or its base64 is wrong")]
    Damaged,
    /// PEM or not, there is no certificate in it.
    #[error("the file holds no PEM certificate (`-----BEGIN CERTIFICATE-----`)")]
    NoCertificate,
    /// PEM or not, there is no private key in it.
    #[error("the file holds no PEM private key (PKCS#8, PKCS#1 or SEC1)")]
    NoKey,
    /// More than one key: which one is meant cannot be known.
    #[error("the file holds more than one private key")]
    SeveralKeys,
    /// The key needs a passphrase, which a sidecar has nobody to ask for.
    #[error("the private key is encrypted: store it without a passphrase and protect the file instead")]
    EncryptedKey,
}

impl PemError {
    /// Keeps the kind and drops the rest: the parser's own error quotes the file, and that may be a private key whose
    /// line breaks are lost.
    pub(crate) fn from_pem(error: &pem::Error) -> Self {
        match error {
            pem::Error::MissingSectionEnd { .. } => Self::Truncated,
            _ => Self::Damaged,
        }
    }

    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated => "truncated_pem",
            Self::Damaged => "damaged_pem",
            Self::NoCertificate => "no_certificate",
            Self::NoKey => "no_key",
            Self::SeveralKeys => "several_keys",
            Self::EncryptedKey => "encrypted_key",
        }
    }
}

#[cfg(test)]
mod tests;
