//! Judges open connections again when trust or policy have changed, or a certificate has ended.
//!
//! The functions are those that let a connection in; what still holds is not touched.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis_certs_watcher::{Peer, Role, Trust, verify_peer};
use portcullis_policy::{Admission, Connection};
use rustls_pki_types::{CertificateDer, UnixTime};
use spiffe::SpiffeId;

use super::{Carries, Entry, Generation, source_of};
use crate::config::NoSuchService;
use crate::policy_store::{self, Loaded};
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
    /// The generation of all this.
    pub generation: Generation,
}

type Chain = Arc<[CertificateDer<'static>]>;

/// Judges many connections; the chains that several share are verified once.
#[derive(Debug)]
pub struct Judge {
    grounds: Grounds,
    verified: HashMap<(Chain, Direction), Option<&'static str>>,
}

impl Judge {
    /// A judge for one round.
    pub fn new(grounds: Grounds) -> Self {
        Self { grounds, verified: HashMap::new() }
    }

    /// Whether the path that proved the connection's peer has ended and none holds in its place: an anchor, or a
    /// revocation list without which nobody counts as good, may have been renewed meanwhile.
    pub fn ended(&mut self, entry: &Entry, now: UnixTime) -> Option<&'static str> {
        let peer = entry.opened.peer.as_ref()?;
        if now <= peer.not_after {
            return None;
        }
        let label = self.refused_by_trust(peer, entry.opened.direction, now)?;
        Some(if label == "expired" { "certificate_expired" } else { label })
    }

    /// Why this connection must not stay open; `None` when it may.
    pub fn objection(&mut self, entry: &Entry, now: UnixTime) -> Option<&'static str> {
        let opened = &entry.opened;
        let peer = opened.peer.as_ref()?;
        if let Some(label) = self.ended(entry, now) {
            return Some(label);
        }
        // Verified under this very trust when it was admitted: only time could have changed that.
        if opened.generation.trust != self.grounds.generation.trust
            && let Some(label) = self.refused_by_trust(peer, opened.direction, now)
        {
            return Some(label);
        }
        match opened.direction {
            Direction::Outbound => {
                let policy = self.grounds.policy.as_ref().map(|loaded| &loaded.policy);
                match opened.answerers.as_ref()?.under(policy) {
                    Ok(expected) => (!expected.contains(&peer.id)).then_some("wrong_identity"),
                    Err(_) => Some(NoSuchService::LABEL),
                }
            }
            Direction::Inbound => refused_by_policy(self.grounds.policy.as_deref(), &self.grounds.own, entry),
        }
    }

    fn refused_by_trust(&mut self, peer: &Peer, direction: Direction, now: UnixTime) -> Option<&'static str> {
        let role = match direction {
            Direction::Inbound => Role::Client,
            Direction::Outbound => Role::Server,
        };
        let trust = &self.grounds.trust;
        *self
            .verified
            .entry((Arc::clone(&peer.chain), direction))
            .or_insert_with(|| verify_peer(trust, role, &peer.chain, now).err().map(|error| error.label()))
    }
}

/// Why a policy refuses an inbound connection to the workload `own`; `None` when it does not, or when the policy is not asked.
pub fn refused_by_policy(policy: Option<&Loaded>, own: &SpiffeId, entry: &Entry) -> Option<&'static str> {
    let opened = &entry.opened;
    opened.peer.as_ref().filter(|_| opened.direction == Direction::Inbound)?;
    let Some(policy) = policy else { return Some("no_policy") };
    let Some(connection) = connection_of(own, entry) else { return Some("policy") };
    let refused = match (opened.carries, &opened.opening) {
        (Carries::Tcp, _) => !policy.policy.admit_opaque(&connection).verdict.is_allow(),
        (Carries::WebSocket, Some(opening)) => !opening.is_allowed(policy, connection),
        (Carries::Http | Carries::WebSocket, _) => matches!(policy.admit(&connection), Admission::Deny(_)),
    };
    refused.then_some("policy")
}

/// A connection from the mesh to the workload `own`, as policy sees it.
pub fn connection_of<'a>(own: &'a SpiffeId, entry: &'a Entry) -> Option<Connection<'a>> {
    let opened = &entry.opened;
    let (peer, called) = opened.peer.as_ref().zip(opened.called.as_ref())?;
    let (source, server_name) = (source_of(opened.address), called.server_name.as_deref());
    Some(policy_store::connection([&peer.id, own], source, called.application, server_name))
}

/// What requests in flight get to finish when what allowed them no longer holds.
pub const GRACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use portcullis_certs_watcher::{Bundle, Crl, Revocation, RevocationPolicy, StaleList, UnknownStatus, system_clock};
    use spiffe::TrustDomain;

    use super::*;
    use crate::ca::{Authority, IntermediateOptions, LeafOptions, RootOptions, Validity};
    use crate::config::Answerers;
    use crate::connections::{Opened, Signal};

    #[test]
    fn a_connection_outlives_a_list_that_was_renewed_and_no_other() {
        let trust_domain = TrustDomain::new("prod.test").unwrap();
        let authority = Authority::in_memory(&RootOptions::default()).unwrap();
        let intermediate =
            authority.create_intermediate("test", &trust_domain, &IntermediateOptions::default()).unwrap();
        let id = SpiffeId::new("spiffe://prod.test/a").unwrap();
        let leaf = intermediate.issue(&id, &LeafOptions::default()).unwrap();
        let bundle = Arc::new(Bundle::from_certificates(&trust_domain, &[authority.certificate().clone()]).unwrap());
        let trusting = |hours: u64| {
            let list = intermediate.revocation_list(Validity::hours(hours)).unwrap();
            let policy = RevocationPolicy { unknown: UnknownStatus::Allow, stale: StaleList::Refuse };
            let lists = Revocation::new(vec![Crl::parse(&list.der).unwrap()], policy);
            let trust = Trust::new([Arc::clone(&bundle)]).with_revocations([(trust_domain.clone(), Arc::new(lists))]);
            Arc::new(trust)
        };
        let now = system_clock()();
        let in_hours = |hours: u64| UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + hours * 3600));
        let (old, renewed) = (trusting(1), trusting(48));
        let peer = verify_peer(&old, Role::Server, &leaf.chain.der(), now).unwrap();
        let opened = Opened {
            direction: Direction::Outbound,
            carries: Carries::Tcp,
            peer: Some(peer),
            address: "127.0.0.1:1".parse().unwrap(),
            port: 1,
            called: None,
            answerers: Some(Answerers::Listed(Arc::from([id.clone()]))),
            opening: None,
            generation: Generation { trust: 1, ..Generation::default() },
        };
        let entry = Entry { id: 1, opened, since: SystemTime::now(), signal: Signal::default() };
        for (trust, number, hours, ended) in [
            (&old, 1, 0, None),
            (&old, 1, 2, Some("crl_stale")),
            (&renewed, 2, 2, None),
            (&renewed, 2, 25, Some("certificate_expired")),
        ] {
            let generation = Generation { trust: number, ..Generation::default() };
            let grounds = Grounds { trust: Arc::clone(trust), policy: None, own: id.clone(), generation };
            let mut judge = Judge::new(grounds);
            assert_eq!(judge.ended(&entry, in_hours(hours)), ended, "trust {number} after {hours} h");
            assert_eq!(judge.objection(&entry, in_hours(hours)), ended, "trust {number} after {hours} h");
        }
    }
}
