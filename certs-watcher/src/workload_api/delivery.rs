//! What one message of the Workload API says, taken whole or not at all.
//!
//! A message is the full state: what is not in it is revoked. So a message with one bad field cannot be taken in part,
//! because leaving out what is bad would revoke it. Here it is only made sure that the parts are what they claim to be;
//! that a chain can be presented is proven later, and for the chosen SVID alone (see `material.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use spiffe::{SpiffeId, TrustDomain};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::wire::{Response, SvidEntry, WireError};
use crate::certificate::{Certificate, MalformedCertificate, printable};
use crate::svid;

/// Everything that the Workload API gave us, as of one message.
#[derive(Debug)]
pub struct Delivery {
    /// The place of the message among all that came since the start, from 1.
    pub number: u64,
    /// Our identities, in the order of the message. Empty only after all of them were withdrawn.
    pub svids: Vec<Svid>,
    /// The bundles of our own trust domains and of federated ones. An empty federated bundle trusts nobody, as told; a
    /// trust domain that is not here is not known.
    pub bundles: BTreeMap<TrustDomain, Arc<[CertificateDer<'static>]>>,
    /// The certificate revocation lists.
    pub crls: Arc<[CertificateRevocationListDer<'static>]>,
}

/// One identity with its chain and key.
pub struct Svid {
    /// Who we are.
    pub id: SpiffeId,
    /// What the operator calls it, where there are several.
    pub hint: Option<String>,
    /// The chain in the order of the message, never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: SvidKey,
}

/// A private key in PKCS#8: no `Debug`, no `Clone`, no `Serialize`.
pub struct SvidKey(PrivatePkcs8KeyDer<'static>);

/// Which of several SVIDs is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The first, which the standard calls the default.
    First,
    /// The first with this hint.
    Hint(String),
    /// The first with this SPIFFE ID.
    Id(SpiffeId),
}

impl Delivery {
    /// Takes a message.
    ///
    /// # Errors
    /// If a mandatory field is missing or any field is malformed; nothing of the message is used then.
    pub fn read(number: u64, message: &[u8]) -> Result<Self, MessageError> {
        let response = Response::read(message).map_err(MessageError::Wire)?;
        if response.svids.is_empty() {
            return Err(MessageError::NoSvid);
        }
        let mut svids = Vec::with_capacity(response.svids.len());
        let mut bundles = BTreeMap::new();
        for (index, entry) in response.svids.iter().enumerate() {
            let position = index + 1;
            let svid = Svid::read(position, entry)?;
            let bundle = certificates(&Place::Bundle(position), entry.bundle)?;
            add(&mut bundles, svid.id.trust_domain().clone(), bundle)?;
            svids.push(svid);
        }
        let mut named = BTreeSet::new();
        for (name, der) in &response.federated {
            let trust_domain = trust_domain(name)?;
            if !named.insert(trust_domain.clone()) {
                return Err(MessageError::TwoBundles { trust_domain });
            }
            let bundle = certificates(&Place::Federated(trust_domain.clone()), der)?;
            add(&mut bundles, trust_domain, bundle)?;
        }
        let crls = response.crls.iter().enumerate().map(|(index, der)| crl(index + 1, der));
        Ok(Self { number, svids, bundles, crls: crls.collect::<Result<_, _>>()? })
    }

    /// The same trust without an identity: what is left when the Workload API withdraws all of them.
    pub(super) fn without_svids(&self) -> Self {
        Self { number: self.number, svids: Vec::new(), bundles: self.bundles.clone(), crls: self.crls.clone() }
    }

    /// The SVID that is ours. Of several that fit, the first.
    pub fn choose(&self, choice: &Choice) -> Option<&Svid> {
        self.svids.iter().find(|svid| match choice {
            Choice::First => true,
            Choice::Hint(hint) => svid.hint.as_ref() == Some(hint),
            Choice::Id(id) => svid.id == *id,
        })
    }
}

impl Svid {
    fn read(position: usize, entry: &SvidEntry<'_>) -> Result<Self, MessageError> {
        let mandatory = [
            ("spiffe_id", entry.id.len()),
            ("x509_svid", entry.chain.len()),
            ("x509_svid_key", entry.key.len()),
            ("bundle", entry.bundle.len()),
        ];
        if let Some((field, _)) = mandatory.into_iter().find(|(_, length)| *length == 0) {
            return Err(MessageError::Missing { position, field });
        }
        let id = SpiffeId::new(entry.id).map_err(|_| MessageError::Id { position, text: printable(entry.id) })?;
        let chain = certificates(&Place::Chain(position), entry.chain)?;
        // A leaf that breaks the rules of X509-SVID is judged if it is chosen. One that is for somebody else makes the
        // message a lie, and would put this bundle under the wrong trust domain.
        let leaf = chain.first().and_then(|leaf| Certificate::parse(leaf).ok());
        let certified = leaf.and_then(|leaf| svid::spiffe_id(&leaf).ok());
        if let Some(certified) = certified.filter(|certified| *certified != id) {
            return Err(MessageError::OtherId { position, named: id, certified });
        }
        if entry.hint.len() > MAX_HINT {
            return Err(MessageError::LongHint { position });
        }
        let hint = (!entry.hint.is_empty()).then(|| entry.hint.to_owned());
        Ok(Self { id, hint, chain, key: SvidKey::read(position, entry.key)? })
    }
}

// By hand, so that no key can slip in when a field is added.
impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("id", &self.id.to_string())
            .field("hint", &self.hint)
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

impl SvidKey {
    fn read(position: usize, der: &[u8]) -> Result<Self, MessageError> {
        match PrivateKeyDer::try_from(der) {
            Ok(PrivateKeyDer::Pkcs8(key)) => Ok(Self(key.clone_key())),
            _ => Err(MessageError::Key { position }),
        }
    }

    /// The key, for whoever makes a signer of it.
    pub fn der(&self) -> PrivatePkcs8KeyDer<'_> {
        PrivatePkcs8KeyDer::from(self.0.secret_pkcs8_der())
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("any SVID"),
            Self::Hint(hint) => write!(f, "an SVID with the hint `{hint}`"),
            Self::Id(id) => write!(f, "an SVID for `{id}`"),
        }
    }
}

/// Adds a bundle. The same one may come with each SVID of a trust domain; which of two different ones counts cannot be
/// known.
fn add(
    bundles: &mut BTreeMap<TrustDomain, Arc<[CertificateDer<'static>]>>,
    trust_domain: TrustDomain,
    bundle: Vec<CertificateDer<'static>>,
) -> Result<(), MessageError> {
    let Some(known) = bundles.get(&trust_domain) else {
        bundles.insert(trust_domain, bundle.into());
        return Ok(());
    };
    let same = BTreeSet::from_iter(known.iter().map(AsRef::<[u8]>::as_ref))
        == BTreeSet::from_iter(bundle.iter().map(AsRef::<[u8]>::as_ref));
    if same { Ok(()) } else { Err(MessageError::TwoBundles { trust_domain }) }
}

/// The certificates of a field, one after the other without anything between them.
fn certificates(place: &Place, mut der: &[u8]) -> Result<Vec<CertificateDer<'static>>, MessageError> {
    let mut certificates = Vec::new();
    while !der.is_empty() {
        let position = certificates.len() + 1;
        if certificates.len() == MAX_CERTIFICATES {
            return Err(MessageError::TooManyCertificates { place: place.clone() });
        }
        let malformed =
            || MessageError::Certificate { place: place.clone(), position, source: MalformedCertificate::NotX509 };
        let (rest, _) = X509Certificate::from_der(der).map_err(|_| malformed())?;
        let (certificate, rest) = der.split_at_checked(der.len() - rest.len()).ok_or_else(malformed)?;
        certificates.push(CertificateDer::from(certificate.to_vec()));
        der = rest;
    }
    Ok(certificates)
}

/// The key of the map: `spiffe://name`, and the bare name, which some agents write.
fn trust_domain(name: &str) -> Result<TrustDomain, MessageError> {
    let bare = name.strip_prefix("spiffe://").unwrap_or(name);
    match TrustDomain::new(bare) {
        Ok(trust_domain) if !bare.contains("://") => Ok(trust_domain),
        _ => Err(MessageError::TrustDomain { text: printable(name) }),
    }
}

fn crl(position: usize, der: &[u8]) -> Result<CertificateRevocationListDer<'static>, MessageError> {
    match CertificateRevocationList::from_der(der) {
        Ok((&[], _)) => Ok(CertificateRevocationListDer::from(der.to_vec())),
        _ => Err(MessageError::Crl { position }),
    }
}

/// For a chain, far more than any verifier follows; for a bundle, more roots than any trust domain turns through.
const MAX_CERTIFICATES: usize = 256;
/// A hint is a word such as `internal`.
const MAX_HINT: usize = 1024;

/// Which field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The chain of the SVID at this position, from 1.
    Chain(usize),
    /// The bundle beside the SVID at this position, from 1.
    Bundle(usize),
    /// The federated bundle of this trust domain.
    Federated(TrustDomain),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(position) => write!(f, "the chain of SVID {position}"),
            Self::Bundle(position) => write!(f, "the bundle of SVID {position}"),
            Self::Federated(trust_domain) => write!(f, "the federated bundle of `{trust_domain}`"),
        }
    }
}

/// Why a message was refused whole. The fault is the agent's, or of whatever else listens on its socket.
#[derive(Debug, Error)]
pub enum MessageError {
    /// It is no X509SVIDResponse.
    #[error("the message cannot be read")]
    Wire(#[source] WireError),
    /// It has no SVID, which the standard forbids: an agent that has none for us answers PermissionDenied.
    #[error("the message holds no SVID")]
    NoSvid,
    /// A mandatory field is empty.
    #[error("SVID {position} of the message has no `{field}`")]
    Missing {
        /// The place of the SVID, from 1.
        position: usize,
        /// The field.
        field: &'static str,
    },
    /// What should be a SPIFFE ID is none.
    #[error("SVID {position} of the message is for `{text}`, which is no SPIFFE ID")]
    Id {
        /// The place of the SVID, from 1.
        position: usize,
        /// What it says, cut short.
        text: String,
    },
    /// The message names another workload than the certificate.
    #[error("SVID {position} of the message is said to be for `{named}`, and its certificate is for `{certified}`")]
    OtherId {
        /// The place of the SVID, from 1.
        position: usize,
        /// Whom the message names.
        named: SpiffeId,
        /// Whom the certificate names.
        certified: SpiffeId,
    },
    /// The hint is longer than any that a person writes.
    #[error("the hint of SVID {position} of the message is longer than {MAX_HINT} bytes")]
    LongHint {
        /// The place of the SVID, from 1.
        position: usize,
    },
    /// The key is no plain PKCS#8 key.
    #[error("the key of SVID {position} of the message is no unencrypted PKCS#8 key in DER")]
    Key {
        /// The place of the SVID, from 1.
        position: usize,
    },
    /// A certificate cannot be parsed.
    #[error("certificate {position} in {place} cannot be parsed")]
    Certificate {
        /// The field.
        place: Place,
        /// Its place in the field, from 1.
        position: usize,
        /// What is wrong with it.
        #[source]
        source: MalformedCertificate,
    },
    /// More certificates in one field than anybody needs.
    #[error("{place} holds more than {MAX_CERTIFICATES} certificates")]
    TooManyCertificates {
        /// The field.
        place: Place,
    },
    /// What should name a trust domain does not.
    #[error("a federated bundle is for `{text}`, which is no trust domain")]
    TrustDomain {
        /// What it says, cut short.
        text: String,
    },
    /// The message says two things of one trust domain.
    #[error("the message holds two bundles for the trust domain `{trust_domain}`")]
    TwoBundles {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
    /// A CRL cannot be parsed.
    #[error("CRL {position} of the message is no certificate revocation list in DER")]
    Crl {
        /// Its place, from 1.
        position: usize,
    },
}

impl MessageError {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Wire(source) => source.label(),
            Self::NoSvid => "no_svid",
            Self::Missing { .. } => "missing_field",
            Self::Id { .. } => "bad_spiffe_id",
            Self::OtherId { .. } => "wrong_identity",
            Self::LongHint { .. } | Self::TooManyCertificates { .. } => "too_many_entries",
            Self::Key { .. } => "malformed_key",
            Self::Certificate { .. } => "malformed_certificate",
            Self::TrustDomain { .. } => "bad_trust_domain",
            Self::TwoBundles { .. } => "two_bundles",
            Self::Crl { .. } => "malformed_crl",
        }
    }
}

#[cfg(test)]
mod tests;
