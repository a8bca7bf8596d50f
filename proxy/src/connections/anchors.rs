//! Which peers chain to which anchor, now and lately, so that an operator knows when an old root may go.
//!
//! It answers for both directions, and judges nothing. Bounded: where there were more peers than are kept, it says that the
//! number is one of at least so many, and never that nobody is left.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portcullis_certs_watcher::{Fingerprint, Peer};
use spiffe::{SpiffeId, TrustDomain};

use super::Entry;

/// Remembers when each peer was last connected, by the anchor that its certificate chained to.
#[derive(Debug, Default)]
pub struct Anchors {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    anchors: HashMap<Fingerprint, Peers>,
    /// When a peer was last not noted because there were too many anchors.
    left_out: Option<Instant>,
    forgotten: Option<Instant>,
}

#[derive(Debug, Default)]
struct Peers {
    last: HashMap<SpiffeId, Instant>,
    /// When a peer was last not noted because there were too many.
    left_out: Option<Instant>,
}

/// Who chained to which anchor, at one moment.
#[derive(Debug, Default)]
pub struct Census {
    anchors: HashMap<Fingerprint, Counted>,
    incomplete: bool,
}

#[derive(Debug, Default)]
struct Counted {
    /// Each peer of the last day, and whether it is connected now.
    peers: BTreeMap<SpiffeId, bool>,
    incomplete: bool,
}

/// The peers of one trust domain that chained to one anchor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Peers that are connected.
    pub now: usize,
    /// Peers that were connected within the last 24 hours, or are.
    pub day: usize,
    /// Whether `day` is the least that it can be: there were more peers than are kept.
    pub at_least: bool,
    /// Some of them, those that are connected first.
    pub sample: Vec<(SpiffeId, bool)>,
}

impl Anchors {
    /// Notes that this peer is, or was until now, connected.
    pub(super) fn note(&self, peer: &Peer, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = seen.anchors.get_mut(&peer.anchor).and_then(|peers| peers.last.get_mut(&peer.id)) {
            *last = now;
            return;
        }
        seen.forget_now_and_then(now);
        if !seen.anchors.contains_key(&peer.anchor) && seen.anchors.len() >= MOST_ANCHORS {
            seen.left_out = Some(now);
            return;
        }
        let peers = seen.anchors.entry(peer.anchor).or_default();
        if peers.last.len() >= MOST_PEERS {
            peers.left_out = Some(now);
            return;
        }
        peers.last.insert(peer.id.clone(), now);
    }

    /// Who chained to what within the last 24 hours, and who does over these open connections.
    pub(super) fn census(&self, open: &[Arc<Entry>], now: Instant) -> Census {
        let mut census = self.recent(now);
        for peer in open.iter().filter_map(|entry| entry.opened.peer.as_ref()) {
            census.anchors.entry(peer.anchor).or_default().peers.insert(peer.id.clone(), true);
        }
        census
    }

    fn recent(&self, now: Instant) -> Census {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.forget(now);
        let counted = |peers: &Peers| Counted {
            peers: peers.last.keys().map(|id| (id.clone(), false)).collect(),
            incomplete: peers.left_out.is_some(),
        };
        let anchors = seen.anchors.iter().map(|(anchor, peers)| (*anchor, counted(peers))).collect();
        Census { anchors, incomplete: seen.left_out.is_some() }
    }
}

impl Seen {
    /// A stream of new peers must not have the whole table searched for each of them.
    fn forget_now_and_then(&mut self, now: Instant) {
        if self.forgotten.is_none_or(|forgotten| now.duration_since(forgotten) >= BETWEEN) {
            self.forget(now);
        }
    }

    /// Forgets what was more than a day ago.
    fn forget(&mut self, now: Instant) {
        let is_recent = |then: &Instant| now.duration_since(*then) <= DAY;
        self.anchors.retain(|_, peers| {
            peers.last.retain(|_, last| is_recent(last));
            peers.left_out = peers.left_out.filter(is_recent);
            !peers.last.is_empty() || peers.left_out.is_some()
        });
        self.left_out = self.left_out.filter(is_recent);
        self.forgotten = Some(now);
    }
}

impl Census {
    /// The peers of a trust domain that chained to an anchor. Two trust domains may share one.
    pub fn of(&self, trust_domain: &TrustDomain, anchor: &Fingerprint) -> Tally {
        let Some(counted) = self.anchors.get(anchor) else {
            return Tally { at_least: self.incomplete, ..Tally::default() };
        };
        let peers = || counted.peers.iter().filter(|(id, _)| id.is_member_of(trust_domain));
        let connected = || peers().filter(|(_, connected)| **connected);
        let others = peers().filter(|(_, connected)| !**connected);
        let sample = connected().chain(others).take(SAMPLE).map(|(id, connected)| (id.clone(), *connected));
        Tally {
            now: connected().count(),
            day: peers().count(),
            at_least: self.incomplete || counted.incomplete,
            sample: sample.collect(),
        }
    }
}

/// A root may go when nobody has needed it for a day: what runs daily has come by then.
const DAY: Duration = Duration::from_secs(24 * 3600);
const BETWEEN: Duration = Duration::from_secs(60);
/// Of one anchor. Some 200 bytes each, and only identities that our own issuers have vouched for.
const MOST_PEERS: usize = 4096;
/// A bundle holds a few, and a rotation adds one.
const MOST_ANCHORS: usize = 64;
/// Enough to see whom to ask, short enough for a page.
const SAMPLE: usize = 20;

#[cfg(test)]
mod tests {
    use portcullis_certs_watcher::{Bundle, Role, Trust, verify_peer};
    use rustls_pki_types::UnixTime;

    use super::*;
    use crate::ca::{Authority, IntermediateOptions, LeafOptions, RootOptions};

    fn peer(id: &str, anchor: &[u8]) -> Peer {
        thread_local! {
            // Only certs-watcher makes a peer, and it takes a chain; the tests give it other names.
            static PROVEN: Arc<Peer> = {
                let trust_domain = TrustDomain::new("prod.test").unwrap();
                let authority = Authority::in_memory(&RootOptions::default()).unwrap();
                let options = IntermediateOptions::default();
                let intermediate = authority.create_intermediate("test", &trust_domain, &options).unwrap();
                let id = SpiffeId::new("spiffe://prod.test/a").unwrap();
                let leaf = intermediate.issue(&id, &LeafOptions::default()).unwrap();
                let bundle = Bundle::from_certificates(&trust_domain, &[authority.certificate().clone()]).unwrap();
                let trust = Trust::new([Arc::new(bundle)]);
                verify_peer(&trust, Role::Client, &leaf.chain.der(), UnixTime::now()).unwrap()
            };
        }
        let mut peer = PROVEN.with(|proven| (**proven).clone());
        peer.id = SpiffeId::new(id).unwrap();
        peer.anchor = Fingerprint::of(anchor);
        peer
    }

    fn tally(anchors: &Anchors, anchor: &[u8], now: Instant) -> Tally {
        anchors.census(&[], now).of(&TrustDomain::new("prod.test").unwrap(), &Fingerprint::of(anchor))
    }

    #[test]
    fn each_peer_counts_once_for_its_anchor_until_a_day_after_it_was_last_seen() {
        let (anchors, start) = (Anchors::default(), Instant::now());
        let hours = |hours: u64| start + Duration::from_secs(hours * 3600);
        anchors.note(&peer("spiffe://prod.test/a", b"old"), hours(0));
        anchors.note(&peer("spiffe://prod.test/a", b"old"), hours(10));
        anchors.note(&peer("spiffe://prod.test/b", b"old"), hours(1));
        anchors.note(&peer("spiffe://prod.test/a", b"new"), hours(2));
        anchors.note(&peer("spiffe://dev.test/a", b"old"), hours(2));
        assert_eq!((tally(&anchors, b"old", hours(11)).day, tally(&anchors, b"new", hours(11)).day), (2, 1));
        assert_eq!((tally(&anchors, b"old", hours(25)).day, tally(&anchors, b"new", hours(25)).day), (2, 1));
        assert_eq!((tally(&anchors, b"old", hours(26)).day, tally(&anchors, b"new", hours(27)).day), (1, 0));
        assert_eq!(tally(&anchors, b"old", hours(35)), Tally::default());
        assert!(anchors.seen.lock().unwrap().anchors.is_empty(), "nothing is kept for ever");
    }

    #[test]
    fn more_peers_than_are_kept_are_told_of_as_at_least_so_many() {
        let (anchors, start) = (Anchors::default(), Instant::now());
        for number in 0..MOST_PEERS {
            anchors.note(&peer(&format!("spiffe://prod.test/{number}"), b"old"), start);
        }
        assert!(!tally(&anchors, b"old", start).at_least);
        anchors.note(&peer("spiffe://prod.test/one-more", b"old"), start);
        let full = tally(&anchors, b"old", start);
        assert_eq!((full.day, full.at_least, full.sample.len()), (MOST_PEERS, true, SAMPLE));
        assert!(!tally(&anchors, b"new", start).at_least, "one anchor takes no room from another");
        let later = start + DAY + Duration::from_secs(1);
        anchors.note(&peer("spiffe://prod.test/one-more", b"old"), later);
        assert_eq!(tally(&anchors, b"old", later).day, 1);
        assert!(!tally(&anchors, b"old", later).at_least);
    }

    #[test]
    fn anchors_without_room_are_never_said_to_have_nobody() {
        let (anchors, start) = (Anchors::default(), Instant::now());
        for number in 0..MOST_ANCHORS {
            anchors.note(&peer("spiffe://prod.test/a", number.to_string().as_bytes()), start);
        }
        anchors.note(&peer("spiffe://prod.test/a", b"one more"), start);
        let left_out = tally(&anchors, b"one more", start);
        assert_eq!((left_out.day, left_out.at_least), (0, true));
        assert_eq!(anchors.seen.lock().unwrap().anchors.len(), MOST_ANCHORS);
    }
}
