//! Certificate revocation lists: read, bounded, and asked about each certificate of a path.
//!
//! webpki reads a list and refuses what it does not support (delta and indirect lists, lists for some reasons only,
//! critical extensions that it does not know). It is not asked about status: a path may go on above the point where
//! webpki's ends (see `ca_path.rs`), and all of it has to be checked in one way. A list counts only under the signature of
//! the certificate's own issuer.

use std::fmt;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateRevocationListDer, SignatureVerificationAlgorithm, UnixTime};
use thiserror::Error;
use webpki::{BorrowedCertRevocationList, CertRevocationList};
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_CRL_DISTRIBUTION_POINTS;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certificate::{Certificate, CertificateName, name_text, unix_time};
use crate::clock::Timestamp;
use crate::der;
use crate::pem::PemError;
use crate::signed::Signed;

/// The revocation lists for the chains of one trust domain, and what to make of their silence.
#[derive(Debug)]
pub struct Revocation {
    lists: Vec<Crl>,
    policy: RevocationPolicy,
}

/// What to do where the lists say nothing certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevocationPolicy {
    /// About a certificate that no list covers.
    pub unknown: UnknownStatus,
    /// About a list whose successor is overdue.
    pub stale: StaleList,
}

/// What a certificate is worth that no list covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownStatus {
    /// As much as one that is covered and not listed: leaves of some hours are rarely in any list.
    #[default]
    Allow,
    /// Nothing.
    Refuse,
}

/// What a list is worth after its `nextUpdate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StaleList {
    /// As much as before, with a warning: a CRL that is late must not take the mesh down.
    #[default]
    Warn,
    /// Nothing good: what it lists stays revoked, and what it does not list is refused.
    Refuse,
}

/// One certificate revocation list.
#[derive(Debug)]
pub struct Crl {
    der: CertificateRevocationListDer<'static>,
    list: CertRevocationList<'static>,
    issuer: String,
    number: Option<String>,
    this_update: UnixTime,
    next_update: UnixTime,
    revoked: usize,
    scope: Scope,
}

/// What an issuing distribution point (RFC 5280 5.2.5) narrows a list to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Scope {
    only_leaves: bool,
    only_issuers: bool,
    /// A part of the issuer's certificates: those that name one of these URIs themselves, or none at all.
    points: Option<Vec<Vec<u8>>>,
}

/// A certificate and what is known of its issuer from the path.
pub(crate) struct Link<'p, 'c> {
    /// The certificate whose status is asked for.
    pub(crate) certificate: &'p Certificate<'c>,
    /// Its place in the path: the leaf is 0.
    pub(crate) position: usize,
    /// The issuer's whole SubjectPublicKeyInfo.
    pub(crate) issuer_key: &'p [u8],
    /// Whether the issuer may sign lists.
    pub(crate) issuer_signs_lists: bool,
}

impl Revocation {
    /// These lists, under this policy.
    pub fn new(lists: Vec<Crl>, policy: RevocationPolicy) -> Self {
        Self { lists, policy }
    }

    /// The lists.
    pub fn lists(&self) -> &[Crl] {
        &self.lists
    }

    /// What is done where they say nothing certain.
    pub fn policy(&self) -> RevocationPolicy {
        self.policy
    }

    /// Until when the certificate of this link counts as good; none if no list sets an end to that.
    pub(crate) fn good_until(
        &self,
        link: &Link<'_, '_>,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
        now: UnixTime,
    ) -> Result<Option<UnixTime>, RevocationFault> {
        let x509 = link.certificate.x509();
        let own = self.lists.iter().filter(|crl| {
            crl.list.issuer() == der::only(x509.issuer().as_raw(), der::SEQUENCE).map_or(&[][..], |name| name.content)
                && Signed::parse(&crl.der).is_some_and(|signed| signed.is_by(link.issuer_key, algorithms))
        });
        let mut newest = None;
        for crl in own {
            // A list that cannot be searched was refused when it was read.
            if !matches!(crl.list.find_serial(x509.raw_serial()), Ok(None)) {
                return Err(RevocationFault::Revoked { certificate: link.certificate.name(), list: crl.to_string() });
            }
            // An issuer that may not sign lists (RFC 5280 6.3.3 f) is believed where it takes trust away, and only there.
            if link.issuer_signs_lists && crl.scope.covers(link) {
                newest = newest.max(Some(crl.next_update));
            }
        }
        match (newest, self.policy) {
            (None, RevocationPolicy { unknown: UnknownStatus::Refuse, .. }) => {
                Err(RevocationFault::Unknown { certificate: link.certificate.name() })
            }
            (Some(next_update), RevocationPolicy { stale: StaleList::Refuse, .. }) if now > next_update => {
                Err(RevocationFault::Stale { certificate: link.certificate.name(), next_update, now })
            }
            (Some(next_update), RevocationPolicy { stale: StaleList::Refuse, .. }) => Ok(Some(next_update)),
            (None | Some(_), _) => Ok(None),
        }
    }
}

impl Crl {
    /// Reads every list of a file: PEM (`X509 CRL`) or one in DER.
    ///
    /// # Errors
    /// If there is none, or one cannot be read or is of a kind that is not supported.
    pub fn read(file: &[u8]) -> Result<Vec<Self>, CrlError> {
        if file.first() == Some(&der::SEQUENCE) {
            return Ok(vec![Self::parse(file)?]);
        }
        let mut lists = Vec::new();
        for section in CertificateRevocationListDer::pem_slice_iter(file) {
            lists.push(Self::parse(&section.map_err(|error| CrlError::Pem(PemError::from_pem(&error)))?)?);
        }
        if lists.is_empty() {
            return Err(CrlError::NoList);
        }
        Ok(lists)
    }

    /// Reads one list in DER.
    ///
    /// # Errors
    /// If it is malformed, or of a kind that is not supported.
    pub fn parse(der: &[u8]) -> Result<Self, CrlError> {
        let list = BorrowedCertRevocationList::from_der(der)
            .and_then(|list| list.to_owned())
            .map_err(CrlError::Unsupported)?;
        let Ok((&[], parsed)) = CertificateRevocationList::from_der(der) else { return Err(CrlError::Malformed) };
        let list = CertRevocationList::Owned(list);
        let scope = list.issuing_distribution_point().map_or(Some(Scope::default()), Scope::parse);
        Ok(Self {
            issuer: name_text(parsed.issuer()),
            number: parsed.crl_number().map(ToString::to_string),
            this_update: unix_time(parsed.last_update()),
            next_update: parsed.next_update().map(unix_time).ok_or(CrlError::Malformed)?,
            revoked: parsed.iter_revoked_certificates().count(),
            scope: scope.ok_or(CrlError::Malformed)?,
            list,
            der: CertificateRevocationListDer::from(der.to_vec()),
        })
    }

    /// Whether this list takes the place of `other`: the same issuer and scope, and a later end.
    pub(crate) fn succeeds(&self, other: &Self) -> bool {
        self.list.issuer() == other.list.issuer() && self.scope == other.scope && self.next_update > other.next_update
    }

    /// The list as it came.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The distinguished name of the issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `cRLNumber` in decimal, where there is one.
    pub fn number(&self) -> Option<&str> {
        self.number.as_deref()
    }

    /// When it was made.
    pub fn this_update(&self) -> UnixTime {
        self.this_update
    }

    /// When its successor is due.
    pub fn next_update(&self) -> UnixTime {
        self.next_update
    }

    /// How many certificates it lists.
    pub fn revoked(&self) -> usize {
        self.revoked
    }
}

impl fmt::Display for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.number {
            Some(number) => write!(f, "CRL {number} of `{}`", self.issuer),
            None => write!(f, "CRL of `{}`", self.issuer),
        }
    }
}

impl Scope {
    /// Reads an IssuingDistributionPoint whose kinds webpki has already let pass.
    fn parse(extension: &[u8]) -> Option<Self> {
        let mut scope = Self::default();
        for part in der::elements(der::only(extension, der::SEQUENCE)?.content)? {
            match part.tag {
                0xa0 => {
                    // DistributionPointName: fullName [0], or a name relative to the issuer, which nobody uses.
                    let name = der::elements(part.content)?;
                    let full = name.iter().filter(|name| name.tag == 0xa0);
                    let names = full.map(|name| der::elements(name.content)).collect::<Option<Vec<_>>>()?;
                    let uris = names.into_iter().flatten().filter(|name| name.tag == 0x86);
                    scope.points = Some(uris.map(|name| name.content.to_vec()).collect());
                }
                0x81 => scope.only_leaves = part.content != [0],
                0x82 => scope.only_issuers = part.content != [0],
                _ => return None,
            }
        }
        Some(scope)
    }

    fn covers(&self, link: &Link<'_, '_>) -> bool {
        let is_leaf = link.position == 0;
        if (self.only_leaves && !is_leaf) || (self.only_issuers && is_leaf) {
            return false;
        }
        match &self.points {
            None => true,
            // A certificate that names no point is taken to be in the one list that its issuer keeps: step-ca marks its
            // list with a point and writes none into what it issues. webpki takes it so, too.
            Some(points) => {
                points_of(link.certificate).is_none_or(|own| own.iter().any(|point| points.contains(point)))
            }
        }
    }
}

/// The URIs at which a certificate says that its list is; `None` if it says nothing about that.
fn points_of(certificate: &Certificate<'_>) -> Option<Vec<Vec<u8>>> {
    let named =
        certificate.x509().extensions().iter().filter(|found| found.oid == OID_X509_EXT_CRL_DISTRIBUTION_POINTS);
    let mut named = named.peekable();
    named.peek()?;
    let mut uris = Vec::new();
    for extension in named {
        // One that cannot be read names no point that a list could have.
        let ParsedExtension::CRLDistributionPoints(points) = extension.parsed_extension() else { continue };
        for point in points.iter() {
            let Some(DistributionPointName::FullName(names)) = &point.distribution_point else { continue };
            uris.extend(names.iter().filter_map(|name| match name {
                GeneralName::URI(uri) => Some(uri.as_bytes().to_vec()),
                _ => None,
            }));
        }
    }
    Some(uris)
}

/// What the lists hold against a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RevocationFault {
    /// It is listed.
    #[error("certificate {certificate} is revoked by {list}")]
    Revoked {
        /// The certificate.
        certificate: CertificateName,
        /// The list.
        list: String,
    },
    /// No list covers it, and the policy is to refuse then.
    #[error(
        "no revocation list covers certificate {certificate}, and `unknownStatus` is `refuse`: provide the CRL of its issuer"
    )]
    Unknown {
        /// The certificate.
        certificate: CertificateName,
    },
    /// The lists that cover it are overdue, and the policy is to refuse then.
    #[error("the revocation list for certificate {certificate} was due for renewal at {}, it is {}, and `staleCrl` is `refuse`: provide a new one", Timestamp(*next_update), Timestamp(*now))]
    Stale {
        /// The certificate.
        certificate: CertificateName,
        /// When its successor was due.
        next_update: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
}

impl RevocationFault {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Revoked { .. } => "revoked",
            Self::Unknown { .. } => "revocation_unknown",
            Self::Stale { .. } => "crl_stale",
        }
    }
}

/// Why a file gave no revocation list.
#[derive(Debug, Error)]
pub enum CrlError {
    /// The PEM text is damaged.
    #[error("the PEM text is damaged")]
    Pem(#[source] PemError),
    /// Neither DER nor PEM with such a section.
    #[error("there is no revocation list in it (`-----BEGIN X509 CRL-----`, or DER)")]
    NoList,
    /// It is no CRL, or one of a kind that is not supported.
    #[error(
        "the revocation list cannot be used: {0}; only complete, direct lists of version 2 with `nextUpdate` are supported"
    )]
    Unsupported(webpki::Error),
    /// It is no CRL.
    #[error("the revocation list is malformed")]
    Malformed,
}

impl CrlError {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Pem(source) => source.label(),
            Self::NoList => "no_crl",
            Self::Unsupported(_) => "unsupported_crl",
            Self::Malformed => "malformed_crl",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
