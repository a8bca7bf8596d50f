//! One file, taken apart and described: its certificates and how they hang together, its revocation lists, its key.

use std::path::Path;

use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Serialize;
use thiserror::Error;

use super::certificate_facts::Place;
use super::sections::{self, Sections};
use super::{CertificateFacts, Encoding, Fit, KeyFacts, Kind, ListFacts, as_explanation, shown};
use crate::certificate::{Certificate, MalformedCertificate};
use crate::chain;
use crate::explain::explain;
use crate::pem::PemError;
use crate::revocation::CrlError;
use crate::spiffe_bundle::SpiffeBundleError;
use crate::volume::VolumeError;

/// One file, described.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileFacts {
    /// Its path, fit for a terminal.
    pub path: String,
    /// How it is encoded; unknown if it could not be taken apart.
    pub encoding: Option<Encoding>,
    /// Its certificates, in the order of the file.
    pub certificates: Vec<CertificateFacts>,
    /// The places of its certificates in the order that TLS asks for; empty unless it holds a leaf.
    pub chain: Vec<usize>,
    /// What is wrong with the order of the file, if anything.
    pub disorder: Option<String>,
    /// Its revocation lists.
    pub revocation_lists: Vec<ListFacts>,
    /// The private key: never its bytes.
    pub key: Option<KeyFacts>,
    /// `spiffe_sequence` of a SPIFFE bundle.
    pub sequence: Option<u64>,
    /// `spiffe_refresh_hint` of a SPIFFE bundle, in seconds.
    pub refresh_hint: Option<u64>,
    /// Why it could not be taken apart, if so.
    #[serde(serialize_with = "as_explanation")]
    pub fault: Option<FileFault>,
}

impl FileFacts {
    pub(super) fn of(path: &Path, bytes: &[u8], now: UnixTime) -> Self {
        let mut file = Self::empty(path);
        file.fault = file.take(bytes, now).err();
        file
    }

    pub(super) fn unread(path: &Path, error: &VolumeError) -> Self {
        Self { fault: Some(FileFault::Unread { reason: explain(error) }), ..Self::empty(path) }
    }

    fn empty(path: &Path) -> Self {
        Self {
            path: shown(path),
            encoding: None,
            certificates: Vec::new(),
            chain: Vec::new(),
            disorder: None,
            revocation_lists: Vec::new(),
            key: None,
            sequence: None,
            refresh_hint: None,
            fault: None,
        }
    }

    fn take(&mut self, bytes: &[u8], now: UnixTime) -> Result<(), FileFault> {
        let sections = Sections::of(bytes)?;
        self.encoding = Some(sections.encoding);
        (self.sequence, self.refresh_hint) = (sections.sequence, sections.refresh_hint.map(|hint| hint.as_secs()));
        self.key = sections.key.map(|encoding| KeyFacts {
            path: self.path.clone(),
            encoding: Some(encoding),
            fits: Fit::NoLeaf,
            fault: None,
        });
        for (index, (der, line)) in sections.certificates.iter().enumerate() {
            let place = Place { position: index + 1, line: *line };
            let certificate = Certificate::parse(der).map_err(|source| FileFault::Certificate {
                position: place.position,
                line: place.line,
                source,
            })?;
            self.certificates.push(CertificateFacts::of(&certificate, der, place, now));
        }
        for (index, (der, line)) in sections.lists.iter().enumerate() {
            let list = ListFacts::of(der, *line).map_err(|source| FileFault::List {
                position: index + 1,
                line: *line,
                source,
            })?;
            self.revocation_lists.push(list);
        }
        self.link();
        self.order()
    }

    /// Notes for each certificate which others of the file bear the name of its issuer.
    fn link(&mut self) {
        let subjects: Vec<_> = self.certificates.iter().map(|known| known.facts.subject.clone()).collect();
        for (index, certificate) in self.certificates.iter_mut().enumerate() {
            if certificate.facts.subject == certificate.facts.issuer {
                continue;
            }
            let named = |(other, subject): &(usize, &Vec<u8>)| *other != index && **subject == certificate.facts.issuer;
            let issuers = subjects.iter().enumerate().filter(named).map(|(other, _)| other + 1);
            certificate.issuers = issuers.take(MAX_ISSUERS).collect();
        }
    }

    fn order(&mut self) -> Result<(), FileFault> {
        if !self.certificates.iter().any(|certificate| certificate.kind == Kind::Leaf) {
            return Ok(());
        }
        let ordered = chain::order(&self.ders()).map_err(|(position, source)| FileFault::Certificate {
            position,
            line: None,
            source,
        })?;
        let place = |der: &CertificateDer<'_>| self.certificates.iter().position(|known| known.der == *der);
        self.chain = ordered.chain.iter().filter_map(place).map(|index| index + 1).collect();
        self.disorder = ordered.repair;
        Ok(())
    }

    /// The certificate at a place of the file, from 1.
    pub fn at(&self, position: usize) -> Option<&CertificateFacts> {
        self.certificates.get(position.checked_sub(1)?)
    }

    /// The certificates of the chain, the leaf first.
    pub fn ordered(&self) -> impl Iterator<Item = &CertificateFacts> {
        self.chain.iter().filter_map(|position| self.at(*position))
    }

    /// The certificates that belong to no issuer of the leaf, or repeat another.
    pub fn strays(&self) -> impl Iterator<Item = &CertificateFacts> {
        let stray = |certificate: &&CertificateFacts| !self.chain.contains(&certificate.position);
        self.certificates.iter().filter(stray)
    }

    pub(crate) fn ders(&self) -> Vec<CertificateDer<'static>> {
        self.certificates.iter().map(|certificate| certificate.der.clone()).collect()
    }
}

/// Why a file cannot be taken apart.
#[derive(Debug, Error)]
pub enum FileFault {
    /// It could not be read.
    #[error("{reason}")]
    Unread {
        /// Why not.
        reason: String,
    },
    /// The PEM text is empty or damaged.
    #[error(transparent)]
    Pem(PemError),
    /// The JSON text is no SPIFFE bundle.
    #[error(transparent)]
    Json(SpiffeBundleError),
    /// A certificate cannot be parsed.
    #[error("certificate {position} of the file cannot be parsed")]
    Certificate {
        /// Its place in the file, from 1.
        position: usize,
        /// The line of its PEM section.
        line: Option<usize>,
        /// What is wrong with it.
        #[source]
        source: MalformedCertificate,
    },
    /// A revocation list cannot be parsed.
    #[error("revocation list {position} of the file cannot be used")]
    List {
        /// Its place among the lists of the file, from 1.
        position: usize,
        /// The line of its PEM section.
        line: Option<usize>,
        /// What is wrong with it.
        #[source]
        source: CrlError,
    },
    /// There are more certificates and lists than can be looked at.
    #[error("the file holds more than {} certificates and revocation lists", sections::MAX_CERTIFICATES)]
    TooMany,
    /// Binary, and no object that is known.
    #[error("the file is in DER, or cut off, and is no certificate, revocation list or private key")]
    UnknownDer,
    /// Nothing that is known.
    #[error("the file is neither PEM nor DER nor a SPIFFE bundle in JSON")]
    Unknown,
}

impl FileFault {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unread { .. } => "unreadable",
            Self::Pem(source) => source.label(),
            Self::Json(source) => source.label(),
            Self::Certificate { .. } => "malformed_certificate",
            Self::List { source, .. } => source.label(),
            Self::TooMany => "too_many_certificates",
            Self::UnknownDer => "unknown_der",
            Self::Unknown => "unknown_content",
        }
    }

    pub(crate) fn line(&self) -> Option<usize> {
        match self {
            Self::Certificate { line, .. } | Self::List { line, .. } => *line,
            _ => None,
        }
    }
}

/// An issuer, its renewals and its cross-signed forms.
const MAX_ISSUERS: usize = 8;
