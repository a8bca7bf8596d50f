//! Why a chain is accepted or refused, step by step, naming the certificate at fault.
//!
//! The verdict is that of [`verify_peer`], the function that judges handshakes, and each step's outcome is read off it: so
//! the steps cannot say one thing and a handshake another. What is told of the steps beside that (what was compared with
//! what) comes from the same rules, asked one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Serialize, Serializer};
use spiffe::{SpiffeId, TrustDomain};

mod climb;
mod steps;

use crate::certificate::{Certificate, one_line};
use crate::clock::Timestamp;
use crate::explain::explain;
use crate::peer_error::PeerError;
use crate::role::Role;
use crate::trust::Trust;
use crate::verifier::expect_one_of;
use crate::verify::verify_peer;

use climb::Climb;

/// What is asked.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The chain as a peer sends it, the leaf first.
    pub chain: &'a [CertificateDer<'static>],
    /// Whom we believe.
    pub trust: &'a Trust,
    /// Bundles that could not be loaded, and why: they are as good as not there.
    pub broken: &'a BTreeMap<TrustDomain, String>,
    /// The side on which the peer is.
    pub role: Role,
    /// Who it should be, if that matters.
    pub expected: Option<&'a SpiffeId>,
    /// The time of the handshake.
    pub now: UnixTime,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Examination {
    /// The side on which the peer is.
    #[serde(serialize_with = "as_word")]
    pub role: Role,
    /// The steps, in their order.
    pub steps: Vec<Step>,
    /// Whether the peer is accepted.
    pub accepted: bool,
    /// Who the peer is, if it is accepted.
    pub identity: Option<String>,
    /// Until when it stays accepted as far as the path goes.
    pub until: Option<Timestamp>,
    /// The word for the refusal that metrics have.
    pub label: Option<&'static str>,
    /// Why it is refused, in one line.
    pub reason: Option<String>,
    /// The certificate at fault, by subject and serial number, where there is one.
    pub at_fault: Option<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What is done in it.
    pub name: StepName,
    /// How it ended.
    pub outcome: StepOutcome,
    /// What was looked at, in words.
    pub notes: Vec<Note>,
}

/// What is done in a step, in the order in which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StepName {
    /// The chain is read, and is of a size that can be judged.
    Read,
    /// The leaf keeps the rules of X509-SVID.
    Svid,
    /// There is a bundle for its trust domain.
    TrustDomain,
    /// Each certificate is vouched for by the next, up to an anchor.
    Path,
    /// The anchor counts now.
    Anchor,
    /// No revocation list stands against the path.
    Revocation,
    /// The deny list names neither the peer nor a certificate of the path.
    DenyList,
    /// The peer is who it should be.
    Identity,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StepOutcome {
    /// Nothing was wrong.
    Passed,
    /// Here it ended.
    Failed,
    /// It ended before.
    NotReached,
    /// There was nothing to do.
    NotAsked,
}

/// Something that was looked at in a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Whether it was as it has to be.
    pub tone: Tone,
    /// What it is, in one line.
    pub text: String,
}

/// Whether something was as it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Tone {
    /// It was.
    Good,
    /// It was not, and that alone refuses nobody.
    Doubtful,
    /// It was not.
    Bad,
}

impl Note {
    fn good(text: impl AsRef<str>) -> Self {
        Self { tone: Tone::Good, text: one_line(text.as_ref()) }
    }

    fn doubtful(text: impl AsRef<str>) -> Self {
        Self { tone: Tone::Doubtful, text: one_line(text.as_ref()) }
    }

    fn bad(text: impl AsRef<str>) -> Self {
        Self { tone: Tone::Bad, text: one_line(text.as_ref()) }
    }
}

/// Answers the question.
pub fn examine(question: &Question<'_>) -> Examination {
    let expected: Option<Arc<[SpiffeId]>> = question.expected.map(|id| Arc::from([id.clone()]));
    let proven = verify_peer(question.trust, question.role, question.chain, question.now);
    let verdict = match (&proven, &expected) {
        (Ok(peer), Some(expected)) => expect_one_of(expected, Arc::clone(peer)),
        _ => proven.clone(),
    };
    // A chain that cannot be parsed is told of as far as it can be.
    let certificates: Vec<_> = question.chain.iter().map_while(|der| Certificate::parse(der).ok()).collect();
    let climb = Climb::of(question, &certificates, proven.as_deref().ok());
    let error = verdict.as_ref().err();
    Examination {
        role: question.role,
        steps: steps::of(question, &certificates, &climb, error),
        accepted: verdict.is_ok(),
        identity: verdict.as_ref().ok().map(|peer| peer.id.to_string()),
        until: verdict.as_ref().ok().map(|peer| Timestamp(peer.not_after)),
        label: error.map(PeerError::label),
        reason: error.map(|error| one_line(&explain(error))),
        at_fault: error.and_then(|error| at_fault(error, &certificates)),
    }
}

fn at_fault(error: &PeerError, certificates: &[Certificate<'_>]) -> Option<String> {
    match error {
        PeerError::Svid { certificate, .. }
        | PeerError::WeakKey { certificate, .. }
        | PeerError::ForeignTrustDomain { certificate, .. } => Some(certificate.to_string()),
        PeerError::Path { source, .. } => source.certificate().map(ToString::to_string),
        PeerError::Malformed { position, .. } => Some(format!("certificate {position} of the chain")),
        PeerError::Denied { .. } | PeerError::WrongIdentity { .. } => {
            certificates.first().map(|leaf| leaf.name().to_string())
        }
        PeerError::NoCertificate
        | PeerError::TooManyCertificates { .. }
        | PeerError::ChainTooLarge { .. }
        | PeerError::TooComplex => None,
    }
}

fn as_word<S: Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match role {
        Role::Client => "client",
        Role::Server => "server",
    })
}

#[cfg(test)]
mod tests;
