//! The deny list: certificates and identities that are refused at once, whoever vouches for them.
//!
//! For the hours between a theft and the end of what was stolen: a leaf that no CRL will ever list, or an identity as a
//! whole. An entry can only refuse. How the file is written is of no concern here: whoever reads it hands over entries.

use std::collections::{BTreeMap, BTreeSet};

use spiffe::SpiffeId;
use thiserror::Error;

/// The certificates and identities that are denied. Without entries it denies nobody.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DenyList {
    identities: BTreeMap<SpiffeId, String>,
    certificates: BTreeMap<CertificateKey, String>,
}

/// What tells a certificate from every other of the same issuer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateKey {
    issuer: BTreeSet<String>,
    serial: String,
}

impl CertificateKey {
    /// The certificate with this serial number of this issuer.
    ///
    /// The serial is hexadecimal in any of the ways in which tools print it: with colons, in capitals, with leading
    /// zeros or `0x`. The issuer is its distinguished name; the order of its parts and blanks do not matter.
    ///
    /// # Errors
    /// If the serial is not hexadecimal, or the issuer is empty.
    pub fn parse(issuer: &str, serial: &str) -> Result<Self, KeyError> {
        let digits: String = serial.trim().chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
        let digits = digits.strip_prefix("0x").unwrap_or(&digits);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(KeyError::Serial { text: serial.to_owned() });
        }
        let key = Self::of(issuer, digits);
        if key.issuer.is_empty() {
            return Err(KeyError::Issuer);
        }
        Ok(key)
    }

    /// The key of a certificate that was parsed.
    pub(crate) fn of(issuer: &str, serial: &str) -> Self {
        let parts = issuer.split([',', '+']).map(|part| {
            let (name, value) = part.split_once('=').unwrap_or(("", part));
            format!("{}={}", name.trim().to_ascii_uppercase(), value.trim())
        });
        Self { issuer: parts.filter(|part| part != "=").collect(), serial: serial.trim_start_matches('0').to_owned() }
    }
}

impl DenyList {
    /// Denies an identity, for this reason.
    pub fn deny_identity(&mut self, id: SpiffeId, reason: String) {
        self.identities.insert(id, reason);
    }

    /// Denies a certificate and, if it is an issuer's, all that it has issued; for this reason.
    pub fn deny_certificate(&mut self, key: CertificateKey, reason: String) {
        self.certificates.insert(key, reason);
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.identities.len() + self.certificates.len()
    }

    /// Whether it denies nobody.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Why this peer is denied, if it is: by its identity, or by a certificate of the path that proved it.
    pub(crate) fn reason(&self, id: &SpiffeId, path: &[CertificateKey]) -> Option<Denied<'_>> {
        if let Some(reason) = self.identities.get(id) {
            return Some(Denied::Identity { reason });
        }
        let denied = path.iter().enumerate().find_map(|(position, key)| Some((position, self.certificates.get(key)?)));
        denied.map(|(position, reason)| Denied::Certificate { position, reason })
    }
}

/// What of a peer is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied<'a> {
    Identity {
        reason: &'a str,
    },
    /// The certificate at this place of the path, the leaf being 0.
    Certificate {
        position: usize,
        reason: &'a str,
    },
}

/// Why an entry names no certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The serial is no hexadecimal number.
    #[error("`{text}` is no serial number: write it in hexadecimal, with or without colons")]
    Serial {
        /// What was given.
        text: String,
    },
    /// There is no issuer: serial numbers are unique for one issuer only.
    #[error("the issuer is empty: write its distinguished name, such as `CN=prod`")]
    Issuer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_found_however_its_key_is_written() {
        let certificate = CertificateKey::of("CN=prod, O=health", "4c0b00ff");
        for (issuer, serial) in [
            ("CN=prod, O=health", "4c0b00ff"),
            ("O=health,CN=prod", "4C:0B:00:FF"),
            ("o = health, cn = prod", "0x004c0b00ff"),
        ] {
            assert_eq!(CertificateKey::parse(issuer, serial).unwrap(), certificate, "{issuer} {serial}");
        }
        for (issuer, serial) in
            [("CN=prod", "4c0b00ff"), ("CN=prod, O=health", "4c0b00fe"), ("CN=PROD, O=health", "4c0b00ff")]
        {
            assert_ne!(CertificateKey::parse(issuer, serial).unwrap(), certificate, "{issuer} {serial}");
        }
    }

    #[test]
    fn an_entry_that_names_nothing_is_an_error() {
        for serial in ["", ":", "12 34", "xyz", "0x"] {
            assert!(matches!(CertificateKey::parse("CN=a", serial), Err(KeyError::Serial { .. })), "{serial}");
        }
        assert_eq!(CertificateKey::parse(" , ", "12"), Err(KeyError::Issuer));
    }

    #[test]
    fn identity_and_each_certificate_of_the_path_are_asked() {
        let id = |text: &str| SpiffeId::new(text).unwrap();
        let path = [CertificateKey::of("CN=prod", "0a"), CertificateKey::of("CN=root", "0b")];
        let mut list = DenyList::default();
        assert_eq!(list.reason(&id("spiffe://a.test/w"), &path), None);
        list.deny_identity(id("spiffe://a.test/v"), "stolen".to_owned());
        assert_eq!(list.reason(&id("spiffe://a.test/w"), &path), None);
        assert_eq!(list.reason(&id("spiffe://a.test/v"), &path), Some(Denied::Identity { reason: "stolen" }));
        list.deny_certificate(CertificateKey::parse("CN=root", "B").unwrap(), "leaked".to_owned());
        let denied = Denied::Certificate { position: 1, reason: "leaked" };
        assert_eq!(list.reason(&id("spiffe://a.test/w"), &path), Some(denied));
        assert_eq!(list.len(), 2);
    }
}
