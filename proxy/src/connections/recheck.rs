//! Judges open connections again when trust or policy have changed, or a certificate has ended.
//!
//! The functions are those that let a connection in; what still holds is not touched.

use std::collections::HashMap;
use std::sync::Arc;

use portcullis_certs_watcher::{Material, PeerError, Proof, Role, Timestamp, Trust, prove_again};
use portcullis_policy::{Admission, Connection, Verdict};
use rustls_pki_types::{CertificateDer, UnixTime};
use spiffe::SpiffeId;

use super::{Carries, Entry, source_of};
use crate::config::NoSuchService;
use crate::policy_store::{self, Loaded, Refused};
use crate::telemetry::metrics::Direction;

/// What connections are judged by.
#[derive(Clone, Debug)]
pub struct Grounds {
    /// Whom we believe.
    pub trust: Arc<Trust>,
    /// The policy; `None` refuses everything inbound, and whoever answers for a Service.
    pub policy: Option<Arc<Loaded>>,
    /// Who we are.
    pub own: SpiffeId,
}

/// Why a connection must not stay open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The fixed word for metrics and the access log.
    pub cause: &'static str,
    /// What it is that ceased to hold, for the log: the certificate and what is held against it, or what the policy says.
    pub why: Arc<str>,
    /// The rule that denies it, with its policy, if one does.
    pub rule: Option<(Arc<str>, Arc<str>)>,
}

type Chain = Arc<[CertificateDer<'static>]>;
type Proved = Result<Arc<Proof>, Objection>;

/// Judges many connections; the chains that several share are proven once.
#[derive(Debug)]
pub struct Judge {
    grounds: Grounds,
    proved: HashMap<(Chain, Direction), Proved>,
}

impl Judge {
    /// A judge for one round.
    pub fn new(grounds: Grounds) -> Self {
        Self { grounds, proved: HashMap::new() }
    }

    /// Whether time alone has taken away what the connection stands on: the certificate that we have shown on it has ended, or
    /// the path that proved its peer has and none holds in its place: an anchor, or a revocation list without which nobody
    /// counts as good, may have been renewed meanwhile.
    pub fn ended(&mut self, entry: &Entry, now: UnixTime) -> Option<Objection> {
        if let Some(own) = &entry.opened.own
            && now > own.not_after()
        {
            return Some(Objection::of_own(own));
        }
        if now <= entry.proof.load().as_ref()?.until() {
            return None;
        }
        self.refused_by_trust(entry, now)
    }

    /// Why this connection must not stay open; `None` when it may.
    pub fn objection(&mut self, entry: &Entry, now: UnixTime) -> Option<Objection> {
        if let Some(ended) = self.ended(entry, now) {
            return Some(ended);
        }
        let opened = &entry.opened;
        let peer = opened.peer.as_ref()?;
        if let Some(refused) = self.refused_by_trust(entry, now) {
            return Some(refused);
        }
        match opened.direction {
            Direction::Outbound => {
                let policy = self.grounds.policy.as_ref().map(|loaded| &loaded.policy);
                match opened.answerers.as_ref()?.under(policy) {
                    Ok(expected) if expected.contains(&peer.id) => None,
                    Ok(_) => Some(Objection::new("wrong_identity", "it may not answer for this destination any more")),
                    Err(error) => Some(Objection::new(NoSuchService::LABEL, &error.to_string())),
                }
            }
            Direction::Inbound => refused_by_policy(self.grounds.policy.as_deref(), &self.grounds.own, entry),
        }
    }

    /// Asks trust about the peer. A proof that still holds is as good as a new one; of a new one the entry is told.
    fn refused_by_trust(&mut self, entry: &Entry, now: UnixTime) -> Option<Objection> {
        let opened = &entry.opened;
        let peer = opened.peer.as_ref()?;
        let role = match opened.direction {
            Direction::Inbound => Role::Client,
            Direction::Outbound => Role::Server,
        };
        let last = entry.proof.load_full()?;
        let trust = &self.grounds.trust;
        let prove = || prove_again(trust, role, peer, &last, now).map_err(|error| Objection::of_peer(&error));
        if last.holds(trust, &peer.id, now) {
            return prove().err();
        }
        match self.proved.entry((Arc::clone(&peer.chain), opened.direction)).or_insert_with(prove) {
            Ok(proof) => {
                entry.proof.store(Some(Arc::clone(proof)));
                None
            }
            Err(objection) => Some(objection.clone()),
        }
    }

    /// How many chains had to be proven in full.
    #[cfg(test)]
    fn proofs(&self) -> usize {
        self.proved.len()
    }
}

impl Objection {
    fn new(cause: &'static str, why: &str) -> Self {
        Self { cause, why: why.into(), rule: None }
    }

    fn of_own(own: &Material) -> Self {
        let (serial, end) = (own.serial(), Timestamp(own.not_after()));
        Self::new(OWN_EXPIRED, &format!("our own certificate on it (serial {serial}) ended at {end}"))
    }

    fn of_peer(error: &PeerError) -> Self {
        let cause = match error.label() {
            "expired" => "certificate_expired",
            label => label,
        };
        Self::new(cause, &crate::error_chain(error))
    }

    fn of_policy(refused: Refused) -> Self {
        Self { cause: "policy", why: refused.why.into(), rule: refused.rule }
    }
}

/// Why a policy refuses an inbound connection to the workload `own`; `None` when it does not.
fn refused_by_policy(policy: Option<&Loaded>, own: &SpiffeId, entry: &Entry) -> Option<Objection> {
    let opened = &entry.opened;
    let Some(policy) = policy else { return Some(Objection::new("no_policy", "no policy is loaded")) };
    let Some(connection) = connection_of(own, entry) else {
        return Some(Objection::new("policy", "nobody knows what it was opened for"));
    };
    let refused = match (opened.carries, &opened.opening) {
        (Carries::Tcp, _) => policy.refusal(policy.policy.admit_opaque(&connection).verdict),
        (Carries::WebSocket, Some(opening)) => opening.refusal(policy, connection),
        (Carries::Http | Carries::WebSocket, _) => match policy.admit(&connection) {
            Admission::Deny(denial) => policy.refusal(Verdict::Deny(denial)),
            Admission::Allow(_) | Admission::PerRequest => None,
        },
    };
    refused.map(Objection::of_policy)
}

/// A connection from the mesh to the workload `own`, as policy sees it.
pub fn connection_of<'a>(own: &'a SpiffeId, entry: &'a Entry) -> Option<Connection<'a>> {
    let opened = &entry.opened;
    let (peer, called) = opened.peer.as_ref().zip(opened.called.as_ref())?;
    let (source, server_name) = (source_of(opened.address), called.server_name.as_deref());
    Some(policy_store::connection([&peer.id, own], source, called.application, server_name))
}

/// The cause of a connection on which we have shown a certificate that ended since.
pub const OWN_EXPIRED: &str = "own_certificate_expired";

#[cfg(test)]
mod tests;
