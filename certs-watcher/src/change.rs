//! What is different about something that was published: for the log, and for whoever judges open connections again.
//!
//! Anchors are told apart by fingerprint and named as a person knows them. Nothing here decides anything.

use std::fmt;

use crate::bundle::Bundle;
use crate::certificate::{Certificate, CertificateName, Fingerprint};
use crate::deny_list::DenyList;
use crate::material::Material;
use crate::revocation::{Crl, Revocation};

/// What a newly published identity, bundle, set of revocation lists or deny list has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Our own identity. The first one has changed in all respects.
    Identity {
        /// The leaf certificate.
        leaf: bool,
        /// The intermediates beside it.
        chain: bool,
        /// The key that the leaf certifies.
        key: bool,
    },
    /// The bundle of a trust domain.
    Trust {
        /// The anchors that it has gained.
        added: Vec<AnchorName>,
        /// The anchors that it has lost.
        removed: Vec<AnchorName>,
    },
    /// The revocation lists of a trust domain.
    Revocation {
        /// All that are in force.
        lists: Vec<ListName>,
    },
    /// The deny list.
    DenyList {
        /// How many entries are in force.
        entries: usize,
    },
}

/// Points at one anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorName {
    /// Subject and serial number.
    pub name: CertificateName,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
}

/// Points at one revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListName {
    /// The distinguished name of its issuer.
    pub issuer: String,
    /// `cRLNumber` in decimal, where there is one.
    pub number: Option<String>,
    /// How many certificates it lists.
    pub revoked: usize,
}

impl Change {
    pub(crate) fn of_identity(before: Option<&Material>, now: &Material) -> Self {
        let Some(before) = before else { return Self::Identity { leaf: true, chain: true, key: true } };
        let issuers = |material: &Material| material.chain().iter().skip(1).cloned().collect::<Vec<_>>();
        Self::Identity {
            leaf: before.fingerprint() != now.fingerprint(),
            chain: issuers(before) != issuers(now),
            key: public_key(before) != public_key(now),
        }
    }

    pub(crate) fn of_bundle(before: Option<&Bundle>, now: &Bundle) -> Self {
        let names = |bundle: Option<&Bundle>, other: Option<&Bundle>| -> Vec<AnchorName> {
            let anchors = bundle.map(Bundle::anchors).unwrap_or_default();
            let others = other.map(Bundle::anchors).unwrap_or_default();
            let only = anchors.iter().filter(|anchor| others.iter().all(|o| o.fingerprint != anchor.fingerprint));
            only.map(|anchor| AnchorName { name: anchor.name.clone(), fingerprint: anchor.fingerprint }).collect()
        };
        Self::Trust { added: names(Some(now), before), removed: names(before, Some(now)) }
    }

    pub(crate) fn of_lists(now: &Revocation) -> Self {
        let name = |crl: &Crl| ListName {
            issuer: crl.issuer().to_owned(),
            number: crl.number().map(ToOwned::to_owned),
            revoked: crl.revoked(),
        };
        Self::Revocation { lists: now.lists().iter().map(name).collect() }
    }

    pub(crate) fn of_deny_list(now: &DenyList) -> Self {
        Self::DenyList { entries: now.len() }
    }
}

fn public_key(material: &Material) -> Option<Vec<u8>> {
    let leaf = material.chain().first()?;
    Some(Certificate::parse(leaf).ok()?.public_key().to_vec())
}

/// One line.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity { leaf, chain, key } => {
                let parts = [(*leaf, "leaf"), (*chain, "chain"), (*key, "key")];
                let changed: Vec<_> = parts.iter().filter(|(changed, _)| *changed).map(|(_, name)| *name).collect();
                write!(f, "changed: {}", if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") })
            }
            Self::Trust { added, removed } => {
                write!(f, "anchors added: {}; removed: {}", listed(added), listed(removed))
            }
            Self::Revocation { lists } => write!(f, "lists in force: {}", listed(lists)),
            Self::DenyList { entries } => write!(f, "entries in force: {entries}"),
        }
    }
}

impl fmt::Display for AnchorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with SHA-256 {}", self.name, self.fingerprint)
    }
}

impl fmt::Display for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number.as_deref().unwrap_or("without a number");
        write!(f, "CRL {number} of `{}` with {} revoked", self.issuer, self.revoked)
    }
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    let mut names: Vec<_> = items.iter().take(SHOWN).map(ToString::to_string).collect();
    if items.is_empty() {
        names.push("none".to_owned());
    }
    if items.len() > SHOWN {
        names.push(format!("and {} more", items.len() - SHOWN));
    }
    names.join(", ")
}

/// A rotation touches one or two anchors; a line with hundreds helps nobody.
const SHOWN: usize = 8;
