//! Everything about one certificate that a person looks for, in words.
//!
//! Nothing is judged here. Text is cleaned and bounded, since whoever made the certificate may have written it.

use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Serialize;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralSubtree, KeyUsage, ParsedExtension};

use super::algorithms;
use super::names::Name;
use crate::certificate::{Certificate, CertificateName, IssuerFault, hex, printable};
use crate::clock::Timestamp;

/// One certificate, described.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFacts {
    /// Its place in the file, from 1.
    pub position: usize,
    /// The line of its PEM section, from 1.
    pub line: Option<usize>,
    /// What it is by its form.
    pub kind: Kind,
    /// The distinguished name of the subject.
    pub subject: String,
    /// The distinguished name of the issuer.
    pub issuer: String,
    /// The serial number in lower-case hex.
    pub serial: String,
    /// The first of its URI names that is meant as a SPIFFE ID, valid or not.
    pub spiffe_id: Option<String>,
    /// Type and size of the key.
    pub key: String,
    /// What it was signed with.
    pub signature: String,
    /// Its times.
    #[serde(flatten)]
    pub life: Life,
    /// Key usage.
    pub key_usage: Option<Usage>,
    /// Extended key usage.
    pub extended_key_usage: Option<Usage>,
    /// Basic constraints.
    pub basic_constraints: Option<BasicConstraints>,
    /// Name constraints.
    pub name_constraints: Option<NameConstraints>,
    /// The first [`MAX_NAMES`] of the subject alternative names.
    pub names: Vec<Name>,
    /// How many subject alternative names there are.
    pub names_total: usize,
    /// The key identifier that it gives itself.
    pub subject_key_id: Option<String>,
    /// The key identifier that it says its issuer has.
    pub authority_key_id: Option<String>,
    /// Which of these extensions are repeated or cannot be read.
    pub unreadable: Vec<&'static str>,
    /// SHA-256 over the whole certificate.
    pub sha256: String,
    /// The places of its possible issuers in the same file, by name.
    pub issuers: Vec<usize>,
    #[serde(skip)]
    pub(crate) der: CertificateDer<'static>,
    #[serde(skip)]
    pub(crate) facts: Hidden,
}

/// What findings are made of and nobody needs to see.
#[derive(Debug)]
pub(crate) struct Hidden {
    pub(crate) name: CertificateName,
    pub(crate) subject: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) public_key: Vec<u8>,
    pub(crate) issuer_fault: Option<IssuerFault>,
    pub(crate) rsa_bits: Option<usize>,
    pub(crate) weak_rsa_bits: Option<usize>,
    pub(crate) broken_hash: bool,
}

/// What a certificate is by its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// No CA: it stands for a workload.
    Leaf,
    /// A CA that another one vouches for.
    Intermediate,
    /// A CA that names itself as its issuer.
    Root,
}

impl Kind {
    /// The word that people use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Leaf => "leaf",
            Self::Intermediate => "intermediate",
            Self::Root => "root",
        }
    }
}

/// The times of a certificate, as seen at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Life {
    /// The first instant at which it is valid.
    pub not_before: Timestamp,
    /// The last instant at which it is valid.
    pub not_after: Timestamp,
    /// Seconds until the end; negative when that is past.
    pub seconds_left: i64,
    /// How much of its life is left, in percent, rounded down; 100 before it begins.
    pub percent_left: u64,
}

impl Life {
    pub(super) fn at(now: UnixTime, not_before: UnixTime, not_after: UnixTime) -> Self {
        let (begin, end, now) = (not_before.as_secs(), not_after.as_secs(), now.as_secs());
        let left = end.saturating_sub(now.max(begin));
        let whole = end.saturating_sub(begin).max(1);
        Self {
            not_before: Timestamp(not_before),
            not_after: Timestamp(not_after),
            seconds_left: i64::try_from(i128::from(end) - i128::from(now)).unwrap_or(i64::MAX),
            percent_left: left.saturating_mul(100) / whole,
        }
    }

    /// From beginning to end, in seconds.
    pub fn whole(&self) -> u64 {
        self.not_after.0.as_secs().saturating_sub(self.not_before.0.as_secs())
    }
}

/// Purposes for which a key may be used.
#[derive(Debug, Serialize)]
pub struct Usage {
    /// Whether the extension is critical.
    pub critical: bool,
    /// The purposes.
    pub uses: Vec<String>,
}

/// Whether it is a CA.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BasicConstraints {
    /// Whether the extension is critical.
    pub critical: bool,
    /// Whether it may sign certificates.
    pub ca: bool,
    /// How many further CAs may stand between it and a leaf.
    pub path_length: Option<u32>,
}

/// Which names certificates below it may have.
#[derive(Debug, Serialize)]
pub struct NameConstraints {
    /// Whether the extension is critical.
    pub critical: bool,
    /// Of each kind that is listed, only names in one of these.
    pub permitted: Vec<Name>,
    /// No name in one of these.
    pub excluded: Vec<Name>,
}

impl CertificateFacts {
    /// Describes a certificate that stands at `position` of its file, as of `now`.
    pub(super) fn of(
        certificate: &Certificate<'_>,
        der: &CertificateDer<'static>,
        place: Place,
        now: UnixTime,
    ) -> Self {
        let x509 = certificate.x509();
        let mut unreadable = Vec::new();
        let names = or_note(x509.subject_alternative_name(), "subject alternative names", &mut unreadable);
        let names = names.map(|names| names.value.general_names.iter().collect::<Vec<_>>()).unwrap_or_default();
        let key_usage = or_note(x509.key_usage(), "key usage", &mut unreadable)
            .map(|usage| Usage { critical: usage.critical, uses: key_usages(usage.value) });
        let extended_key_usage = or_note(x509.extended_key_usage(), "extended key usage", &mut unreadable)
            .map(|usage| Usage { critical: usage.critical, uses: extended_key_usages(usage.value) });
        let basic_constraints = or_note(x509.basic_constraints(), "basic constraints", &mut unreadable).map(|found| {
            let (ca, path_length) = (found.value.ca, found.value.path_len_constraint);
            BasicConstraints { critical: found.critical, ca, path_length }
        });
        let name_constraints = or_note(x509.name_constraints(), "name constraints", &mut unreadable).map(|found| {
            let (permitted, excluded) = (&found.value.permitted_subtrees, &found.value.excluded_subtrees);
            NameConstraints {
                critical: found.critical,
                permitted: subtrees(permitted.as_deref()),
                excluded: subtrees(excluded.as_deref()),
            }
        });
        let issuer_fault = certificate.issuer_fault();
        let (subject_key_id, authority_key_id) = key_ids(certificate);
        Self {
            position: place.position,
            line: place.line,
            kind: kind(certificate, issuer_fault),
            subject: certificate.subject(),
            issuer: certificate.issuer(),
            serial: certificate.serial(),
            spiffe_id: names.iter().map(|name| Name::of(name)).find_map(spiffe_id),
            key: algorithms::key(certificate),
            signature: algorithms::signature(&x509.signature_algorithm),
            life: Life::at(now, certificate.not_before(), certificate.not_after()),
            key_usage,
            extended_key_usage,
            basic_constraints,
            name_constraints,
            names_total: names.len(),
            names: names.into_iter().take(MAX_NAMES).map(Name::of).collect(),
            subject_key_id,
            authority_key_id,
            unreadable,
            sha256: certificate.fingerprint().to_string(),
            issuers: Vec::new(),
            der: der.clone(),
            facts: Hidden {
                name: certificate.name(),
                subject: x509.subject().as_raw().to_vec(),
                issuer: x509.issuer().as_raw().to_vec(),
                public_key: x509.public_key().raw.to_vec(),
                issuer_fault,
                rsa_bits: certificate.rsa_bits(),
                weak_rsa_bits: certificate.weak_rsa_bits(),
                broken_hash: algorithms::has_broken_hash(x509),
            },
        }
    }
}

/// Where a certificate stands in its file.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) position: usize,
    pub(super) line: Option<usize>,
}

fn or_note<T, E>(found: Result<Option<T>, E>, name: &'static str, unreadable: &mut Vec<&'static str>) -> Option<T> {
    found.unwrap_or_else(|_| {
        unreadable.push(name);
        None
    })
}

fn kind(certificate: &Certificate<'_>, fault: Option<IssuerFault>) -> Kind {
    let x509 = certificate.x509();
    match fault {
        Some(IssuerFault::NotCa) => Kind::Leaf,
        _ if x509.subject().as_raw() == x509.issuer().as_raw() => Kind::Root,
        _ => Kind::Intermediate,
    }
}

fn spiffe_id(name: Name) -> Option<String> {
    let is_meant =
        name.kind == "URI" && name.value.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("spiffe://"));
    is_meant.then_some(name.value)
}

fn key_usages(usage: &KeyUsage) -> Vec<String> {
    let all = [
        (usage.digital_signature(), "digital signature"),
        (usage.non_repudiation(), "non-repudiation"),
        (usage.key_encipherment(), "key encipherment"),
        (usage.data_encipherment(), "data encipherment"),
        (usage.key_agreement(), "key agreement"),
        (usage.key_cert_sign(), "certificate signing"),
        (usage.crl_sign(), "CRL signing"),
        (usage.encipher_only(), "encipher only"),
        (usage.decipher_only(), "decipher only"),
    ];
    all.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned()).collect()
}

fn extended_key_usages(usage: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let known = [
        (usage.server_auth, "server auth"),
        (usage.client_auth, "client auth"),
        (usage.any, "any"),
        (usage.code_signing, "code signing"),
        (usage.email_protection, "email protection"),
        (usage.time_stamping, "time stamping"),
        (usage.ocsp_signing, "OCSP signing"),
    ];
    let known = known.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned());
    known.chain(usage.other.iter().take(MAX_NAMES).map(|number| printable(&number.to_id_string()))).collect()
}

fn subtrees(subtrees: Option<&[GeneralSubtree<'_>]>) -> Vec<Name> {
    subtrees.unwrap_or_default().iter().take(MAX_NAMES).map(|subtree| Name::of(&subtree.base)).collect()
}

fn key_ids(certificate: &Certificate<'_>) -> (Option<String>, Option<String>) {
    let (mut subject, mut authority) = (None, None);
    for extension in certificate.x509().extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => subject = Some(printable(&hex(id.0))),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority = id.key_identifier.as_ref().map(|id| printable(&hex(id.0)));
            }
            _ => {}
        }
    }
    (subject, authority)
}

/// Real certificates have a handful; one with more is described by its first and their number.
pub const MAX_NAMES: usize = 100;
