//! One parsed certificate and the few facts of it that the rest of the crate asks for.
//!
//! Parsing judges nothing but the encoding: what a certificate may be used for is decided in `svid.rs`, `trust.rs` and
//! `peer.rs`. Text taken from a certificate is cleaned and bounded here, since a peer may have written it.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::digest;
use rustls_pki_types::UnixTime;
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use crate::deny_list::CertificateKey;
use crate::role::Role;

/// A certificate that is well-formed, nothing more.
#[derive(Debug)]
pub struct Certificate<'a> {
    der: &'a [u8],
    parsed: X509Certificate<'a>,
}

impl<'a> Certificate<'a> {
    /// Parses one DER certificate.
    ///
    /// # Errors
    /// If the bytes are not exactly one X.509 certificate.
    pub fn parse(der: &'a [u8]) -> Result<Self, MalformedCertificate> {
        match X509Certificate::from_der(der) {
            Ok((&[], parsed)) => Ok(Self { der, parsed }),
            Ok(_) => Err(MalformedCertificate::TrailingBytes),
            Err(_) => Err(MalformedCertificate::NotX509),
        }
    }

    /// The certificate as x509-parser sees it.
    pub fn x509(&self) -> &X509Certificate<'a> {
        &self.parsed
    }

    /// The subject and the serial number, to point a reader at this certificate.
    pub fn name(&self) -> CertificateName {
        CertificateName { subject: self.subject(), serial: self.serial() }
    }

    /// The distinguished name of the subject.
    pub fn subject(&self) -> String {
        name_text(self.parsed.subject())
    }

    /// The distinguished name of the issuer.
    pub fn issuer(&self) -> String {
        name_text(self.parsed.issuer())
    }

    /// The serial number in lower-case hex, without the zero byte that DER puts before a high first bit.
    pub fn serial(&self) -> String {
        serial_text(self.parsed.raw_serial())
    }

    /// The first instant at which the certificate is valid.
    pub fn not_before(&self) -> UnixTime {
        unix_time(self.parsed.validity().not_before)
    }

    /// The last instant at which the certificate is valid.
    pub fn not_after(&self) -> UnixTime {
        unix_time(self.parsed.validity().not_after)
    }

    /// What tells it from every other certificate.
    pub fn key(&self) -> CertificateKey {
        // Not `issuer()` and `serial()`: those are shortened for the eye.
        CertificateKey::of(&self.parsed.issuer().to_string(), &hex(self.parsed.raw_serial()))
    }

    /// The whole SubjectPublicKeyInfo.
    pub fn public_key(&self) -> &[u8] {
        self.parsed.public_key().raw
    }

    /// How many issuers may stand between this one and a leaf, if that is limited.
    pub fn path_length(&self) -> Option<u32> {
        self.parsed.basic_constraints().ok().flatten().and_then(|constraints| constraints.value.path_len_constraint)
    }

    /// Whether its extended key usage, where it has one, names what a leaf needs in this role. webpki asks the same of
    /// every certificate but anchors.
    pub fn serves(&self, role: Role) -> bool {
        match self.parsed.extended_key_usage() {
            Ok(None) => true,
            Ok(Some(usage)) => match role {
                Role::Client => usage.value.client_auth,
                Role::Server => usage.value.server_auth,
            },
            Err(_) => false,
        }
    }

    /// Whether it may sign revocation lists: a key usage, where there is one, has to include cRLSign.
    pub fn signs_lists(&self) -> bool {
        self.parsed.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()))
    }

    /// The URIs among its alternative names; none if these cannot be read to the end.
    pub fn uris(&self) -> Option<Vec<&str>> {
        let names = self.parsed.subject_alternative_name().ok()?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
            // A name that cannot be read may be a URI.
            return None;
        }
        Some(names.iter().filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None }).collect())
    }

    /// Whether it has alternative names of another form than URI, or names that cannot be read.
    pub fn has_names_other_than_uris(&self) -> bool {
        let Ok(names) = self.parsed.subject_alternative_name() else { return true };
        names.is_some_and(|names| !names.value.general_names.iter().all(|name| matches!(name, GeneralName::URI(_))))
    }

    /// SHA-256 over the whole certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.der)
    }

    /// The size of the modulus, if this is an RSA key.
    pub fn rsa_bits(&self) -> Option<usize> {
        let Ok(PublicKey::RSA(key)) = self.parsed.public_key().parsed() else { return None };
        let zeros = key.modulus.iter().take_while(|byte| **byte == 0).count();
        let significant = key.modulus.get(zeros..).unwrap_or_default();
        let unused = significant.first().map_or(0, |byte| byte.leading_zeros() as usize);
        Some(significant.len() * 8 - unused)
    }

    /// The size of the modulus, if this is an RSA key that is too small to be trusted.
    pub fn weak_rsa_bits(&self) -> Option<usize> {
        self.rsa_bits().filter(|bits| *bits < MIN_RSA_BITS)
    }

    /// Why this certificate may not sign others, if it may not: `cA` has to be true, and a key usage, where there is
    /// one, has to include keyCertSign.
    pub fn issuer_fault(&self) -> Option<IssuerFault> {
        match self.parsed.basic_constraints() {
            Ok(Some(constraints)) if constraints.value.ca => {}
            Ok(_) => return Some(IssuerFault::NotCa),
            Err(_) => return Some(IssuerFault::Malformed),
        }
        match self.parsed.key_usage() {
            Ok(Some(usage)) if !usage.value.key_cert_sign() => Some(IssuerFault::NoKeyCertSign),
            Ok(_) => None,
            Err(_) => Some(IssuerFault::Malformed),
        }
    }
}

/// Points a reader at one certificate: `CN=api (serial 0a1b)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName {
    /// The distinguished name of the subject.
    pub subject: String,
    /// The serial number in lower-case hex.
    pub serial: String,
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (serial {})", self.subject, self.serial)
    }
}

/// SHA-256 of a certificate; shown in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(fingerprint)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Why bytes are not a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MalformedCertificate {
    /// Not the DER of an X.509 certificate.
    #[error("the bytes are not an X.509 certificate in DER")]
    NotX509,
    /// A certificate, and then something else.
    #[error("there are bytes after the end of the certificate")]
    TrailingBytes,
    /// Its alternative names are repeated or cannot be read.
    #[error("its subject alternative names cannot be read")]
    Names,
}

/// Why a certificate may not sign other certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IssuerFault {
    /// Basic constraints are absent or say `cA` is false.
    #[error("its basic constraints do not make it a CA")]
    NotCa,
    /// It has a key usage without keyCertSign.
    #[error("its key usage lacks keyCertSign")]
    NoKeyCertSign,
    /// Basic constraints or key usage are repeated or cannot be read.
    #[error("its basic constraints or key usage cannot be read")]
    Malformed,
}

/// Writes bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Writes a serial number as [`Certificate::serial`] does.
pub(crate) fn serial_text(bytes: &[u8]) -> String {
    let bytes = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    hex(bytes.get(..MAX_SERIAL_BYTES).unwrap_or(bytes))
}

/// Makes text that a peer may have written fit for one line of a log or a terminal: see [`one_line`]; and it ends after
/// [`MAX_TEXT_CHARS`].
pub(crate) fn printable(text: &str) -> String {
    let mut clean: String = text.chars().take(MAX_TEXT_CHARS).map(shown).collect();
    if text.chars().nth(MAX_TEXT_CHARS).is_some() {
        clean.push('…');
    }
    clean
}

/// The whole text with `?` for every character that would move the cursor, or turn the direction of what follows.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(shown).collect()
}

fn shown(c: char) -> char {
    let turns_direction = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let ends_line = matches!(c, '\u{2028}' | '\u{2029}');
    if c.is_control() || turns_direction || ends_line { '?' } else { c }
}

pub(crate) fn name_text(name: &X509Name<'_>) -> String {
    if name.iter().next().is_none() {
        return "(empty name)".to_owned();
    }
    printable(&name.to_string())
}

pub(crate) fn unix_time(time: ASN1Time) -> UnixTime {
    // Before 1970 is as good as 1970: both are past.
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0)))
}

/// NIST SP 800-131A disallows RSA below 2048 bits; the CA/Browser Forum has since 2014.
const MIN_RSA_BITS: usize = 2048;

/// RFC 5280 4.1.2.2 allows 20 octets, and nothing refuses a longer one: only what is shown of it is bounded.
const MAX_SERIAL_BYTES: usize = 40;

/// Longer than any name seen in a real issuer, short enough for a log line.
const MAX_TEXT_CHARS: usize = 256;
