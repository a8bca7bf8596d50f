//! The steps with their outcomes, read off the verdict: before the step at which it failed all passed, after it none was
//! reached.

use spiffe::SpiffeId;

use super::climb::Climb;
use super::{Note, Question, Step, StepName, StepOutcome};
use crate::bundle::{Anchor, Bundle};
use crate::certificate::Certificate;
use crate::chain::{self, Ordered};
use crate::clock::Timestamp;
use crate::path_error::PathError;
use crate::peer_error::PeerError;
use crate::revocation::Crl;
use crate::signed::Signed;
use crate::svid;

pub(super) fn of(
    question: &Question<'_>,
    certificates: &[Certificate<'_>],
    climb: &Climb<'_>,
    error: Option<&PeerError>,
) -> Vec<Step> {
    let failed_at = error.map(failed_at);
    let all = [
        StepName::Read,
        StepName::Svid,
        StepName::TrustDomain,
        StepName::Path,
        StepName::Anchor,
        StepName::Revocation,
        StepName::DenyList,
        StepName::Identity,
    ];
    let wanted = all.into_iter().filter(|name| *name != StepName::Identity || question.expected.is_some());
    let step = |name| {
        let outcome = match failed_at {
            Some(failed) if name == failed => StepOutcome::Failed,
            Some(failed) if name > failed => StepOutcome::NotReached,
            _ if is_idle(question, certificates, name) => StepOutcome::NotAsked,
            _ => StepOutcome::Passed,
        };
        let notes = match outcome {
            StepOutcome::NotReached | StepOutcome::NotAsked => Vec::new(),
            StepOutcome::Passed | StepOutcome::Failed => notes(question, certificates, climb, name),
        };
        Step { name, outcome, notes }
    };
    wanted.map(step).collect()
}

fn failed_at(error: &PeerError) -> StepName {
    match error {
        PeerError::NoCertificate
        | PeerError::TooManyCertificates { .. }
        | PeerError::ChainTooLarge { .. }
        | PeerError::TooComplex
        | PeerError::Malformed { .. } => StepName::Read,
        PeerError::Svid { .. } | PeerError::WeakKey { .. } => StepName::Svid,
        PeerError::ForeignTrustDomain { .. } => StepName::TrustDomain,
        PeerError::Path { source, .. } => match source.as_ref() {
            PathError::IdleAnchor { .. } => StepName::Anchor,
            PathError::Revocation(_) => StepName::Revocation,
            PathError::Malformed { .. }
            | PathError::Expired { .. }
            | PathError::NotYetValid { .. }
            | PathError::UnknownIssuer { .. }
            | PathError::BadSignature { .. }
            | PathError::BadIssuer { .. }
            | PathError::WeakKey { .. }
            | PathError::PathLength { .. }
            | PathError::Purpose { .. }
            | PathError::UriConstraints { .. }
            | PathError::UnreadableConstraints { .. }
            | PathError::NameConstraints { .. }
            | PathError::TooComplex
            | PathError::Invalid { .. }
            | PathError::NoPath => StepName::Path,
        },
        PeerError::Denied { .. } => StepName::DenyList,
        PeerError::WrongIdentity { .. } => StepName::Identity,
    }
}

fn is_idle(question: &Question<'_>, certificates: &[Certificate<'_>], name: StepName) -> bool {
    match name {
        StepName::Revocation => certificates
            .first()
            .and_then(|leaf| svid::spiffe_id(leaf).ok())
            .is_none_or(|id| question.trust.revocation(id.trust_domain()).is_none()),
        StepName::DenyList => question.trust.deny_list().is_empty(),
        _ => false,
    }
}

fn notes(question: &Question<'_>, certificates: &[Certificate<'_>], climb: &Climb<'_>, name: StepName) -> Vec<Note> {
    match name {
        StepName::Read => read(question, certificates),
        StepName::Svid => certificates.first().map(of_svid).into_iter().collect(),
        StepName::TrustDomain => certificates.first().and_then(|leaf| bundle(question, leaf)).into_iter().collect(),
        StepName::Path => climb.links.clone(),
        StepName::Anchor => climb.of_anchor.clone(),
        StepName::Revocation => lists(question, certificates),
        StepName::DenyList => {
            let entries = question.trust.deny_list().len();
            vec![Note::good(format!("entries of the deny list: {entries}"))]
        }
        StepName::Identity => {
            question.expected.map(|expected| Note::good(format!("it should be `{expected}`"))).into_iter().collect()
        }
    }
}

fn read(question: &Question<'_>, certificates: &[Certificate<'_>]) -> Vec<Note> {
    let bytes: usize = question.chain.iter().map(|der| der.len()).sum();
    let count = question.chain.len();
    let mut notes = vec![Note::good(format!("certificates: {count}, bytes: {bytes}"))];
    if certificates.len() < count {
        notes.push(Note::bad(format!("certificate {} cannot be parsed", certificates.len() + 1)));
    } else if count <= MAX_ORDERED
        && let Ok(Ordered { repair: Some(repair), .. }) = chain::order(question.chain)
    {
        notes.push(Note::doubtful(format!("it is judged as it stands, as a peer would send it, and {repair}")));
    }
    notes
}

fn of_svid(leaf: &Certificate<'_>) -> Note {
    match (svid::spiffe_id(leaf), leaf.weak_rsa_bits()) {
        (Err(error), _) => Note::bad(format!("the leaf {}: {}", leaf.name(), crate::explain(&error))),
        (Ok(_), Some(bits)) => Note::bad(format!("the leaf {} has an RSA key of {bits} bits", leaf.name())),
        (Ok(id), None) => Note::good(format!("the leaf {} is of `{id}`", leaf.name())),
    }
}

fn bundle(question: &Question<'_>, leaf: &Certificate<'_>) -> Option<Note> {
    let id = svid::spiffe_id(leaf).ok()?;
    let trust_domain = id.trust_domain();
    if let Some(bundle) = question.trust.bundle(trust_domain) {
        let anchors = bundle.anchors().len();
        return Some(Note::good(format!("`{trust_domain}` has a bundle; its anchors: {anchors}")));
    }
    Some(match question.broken.get(trust_domain) {
        Some(reason) => Note::bad(format!("the bundle of `{trust_domain}` cannot be loaded: {reason}")),
        None => Note::bad(format!("no bundle was given for `{trust_domain}`")),
    })
}

/// What each list is worth for this chain. One that counts for nothing is the usual reason why a revocation does not bite.
fn lists(question: &Question<'_>, certificates: &[Certificate<'_>]) -> Vec<Note> {
    let id = certificates.first().and_then(|leaf| svid::spiffe_id(leaf).ok());
    let Some(trust_domain) = id.as_ref().map(SpiffeId::trust_domain) else { return Vec::new() };
    let (Some(revocation), Some(bundle)) =
        (question.trust.revocation(trust_domain), question.trust.bundle(trust_domain))
    else {
        return Vec::new();
    };
    revocation.lists().iter().map(|list| of_list(question, certificates, bundle, list)).collect()
}

fn of_list(question: &Question<'_>, certificates: &[Certificate<'_>], bundle: &Bundle, list: &Crl) -> Note {
    if !certificates.iter().any(|certificate| certificate.issuer() == list.issuer()) {
        return Note::doubtful(format!("{list} is of no issuer of this chain, so it says nothing about it"));
    }
    let sent = certificates
        .iter()
        .filter(|issuer| issuer.subject() == list.issuer() && issuer.signs_lists())
        .map(Certificate::public_key);
    let anchors = bundle.anchors().iter();
    let anchors = anchors.filter(|anchor| anchor.name.subject == list.issuer() && anchor.signs_lists());
    let signed = Signed::parse(list.der());
    let counts = |key: &[u8]| signed.is_some_and(|signed| signed.is_by(key, question.trust.algorithms().all));
    if !sent.chain(anchors.map(Anchor::public_key)).any(counts) {
        return Note::doubtful(format!(
            "{list} is not signed by an issuer of this chain that may sign lists: it counts for nothing"
        ));
    }
    let (revoked, due) = (list.revoked(), Timestamp(list.next_update()));
    if question.now > list.next_update() {
        return Note::doubtful(format!("{list} revokes {revoked}, and its successor was due at {due}"));
    }
    Note::good(format!("{list} revokes {revoked}, and its successor is due at {due}"))
}

/// No handshake has more; a longer chain is refused for that.
const MAX_ORDERED: usize = 16;
