//! Everything about one certificate revocation list that a person looks for, in words. Nothing is judged here.

use rustls_pki_types::UnixTime;
use serde::Serialize;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

use super::algorithms;
use crate::certificate::{printable, serial_text, unix_time};
use crate::clock::Timestamp;
use crate::revocation::{Crl, CrlError};

/// One revocation list, described.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListFacts {
    /// The line of its PEM section, from 1.
    pub line: Option<usize>,
    /// The distinguished name of the issuer.
    pub issuer: String,
    /// Its number; a higher one is newer.
    pub number: Option<String>,
    /// What it was signed with.
    pub signature: String,
    /// When it was made.
    pub this_update: Timestamp,
    /// By when there should be a newer one.
    pub next_update: Timestamp,
    /// How many certificates it revokes.
    pub revoked: usize,
    /// The first [`MAX_ENTRIES`] of them.
    pub first: Vec<Entry>,
}

/// One revoked certificate.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// The serial number in lower-case hex.
    pub serial: String,
    /// Since when.
    pub since: Timestamp,
    /// Why, where the list says so.
    pub reason: Option<String>,
}

impl ListFacts {
    /// Describes a list.
    ///
    /// # Errors
    /// If it is malformed, or of a kind that the sidecar does not support.
    pub(super) fn of(der: &[u8], line: Option<usize>) -> Result<Self, CrlError> {
        let list = Crl::parse(der)?;
        let Ok((_, parsed)) = CertificateRevocationList::from_der(der) else { return Err(CrlError::Malformed) };
        Ok(Self {
            line,
            issuer: list.issuer().to_owned(),
            number: list.number().map(printable),
            signature: algorithms::signature(&parsed.signature_algorithm),
            this_update: Timestamp(list.this_update()),
            next_update: Timestamp(list.next_update()),
            revoked: list.revoked(),
            first: parsed.iter_revoked_certificates().take(MAX_ENTRIES).map(Entry::of).collect(),
        })
    }

    /// Whether there should be a newer one by now.
    pub fn is_stale(&self, now: UnixTime) -> bool {
        self.next_update.0 < now
    }
}

impl Entry {
    fn of(revoked: &RevokedCertificate<'_>) -> Self {
        Self {
            serial: serial_text(revoked.raw_serial()),
            since: Timestamp(unix_time(revoked.revocation_date)),
            reason: revoked.reason_code().map(|(_, reason)| reason.to_string()),
        }
    }
}

/// Enough to recognize a list by.
pub const MAX_ENTRIES: usize = 10;
