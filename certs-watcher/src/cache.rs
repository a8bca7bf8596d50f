//! Chains that were proven under the trust of now, so that a peer that comes again costs one hash.
//!
//! Only success is kept, under a digest of the exact chain and the role. It counts only under the [`Basis`] that it rests on,
//! which no other bundle or revocation list of its trust domain has, so nothing that was taken away can be remembered; and
//! only while the whole path is valid. Deny list and expected identity are asked about by the caller each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::peer::Peer;
use crate::role::Role;
use crate::trust::Trust;

/// Proven peers by the chain that proved them.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
}

/// The exact bytes of a chain in a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

/// Two halves: what is looked up moves to the young one, and when that is full the old one is dropped.
#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Key, Arc<Peer>>,
    old: HashMap<Key, Arc<Peer>>,
}

impl Key {
    /// The key of a chain, leaf first.
    pub(crate) fn of<'c>(role: Role, chain: impl IntoIterator<Item = &'c CertificateDer<'c>>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(match role {
            Role::Client => b"client",
            Role::Server => b"server",
        });
        for certificate in chain {
            // The length keeps two certificates apart from one that holds both.
            context.update(&(certificate.len() as u64).to_be_bytes());
            context.update(certificate);
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        Self(key)
    }
}

impl Cache {
    /// The peer that this chain has proven, if that still holds under `trust` and all of its path is valid at `now`.
    pub(crate) fn find(&self, key: &Key, trust: &Trust, now: UnixTime) -> Option<Arc<Peer>> {
        let mut shard = self.shard(key)?.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = match shard.young.get(key) {
            Some(peer) => Arc::clone(peer),
            None => {
                let peer = shard.old.remove(key)?;
                shard.insert(*key, Arc::clone(&peer));
                peer
            }
        };
        drop(shard);
        peer.proof.holds(trust, &peer.id, now).then_some(peer)
    }

    /// Remembers what a chain has proven.
    pub(crate) fn remember(&self, key: Key, peer: Arc<Peer>) {
        if let Some(shard) = self.shard(&key) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).insert(key, peer);
        }
    }

    fn shard(&self, key: &Key) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(key.0[0]) % SHARDS)
    }
}

impl Shard {
    fn insert(&mut self, key: Key, peer: Arc<Peer>) {
        if self.young.len() >= HALF_A_SHARD {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, peer);
    }
}

/// Workers that verify at the same time rarely meet in one of these.
const SHARDS: usize = 16;

/// In all at most 4,096 chains, some 3 KB each with what a peer holds: 12 MB if somebody fills it on purpose, which
/// takes as many certificates from our own issuer; a few dozen callers in a common day.
const HALF_A_SHARD: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::prod_trusts;
    use crate::pki::{API, NOW, at, now, prod};
    use crate::verify_peer;

    /// A peer whose path is valid from ten seconds before to ten seconds after now, and who believes in it.
    fn proven() -> (Trust, Key, Arc<Peer>) {
        let pki = prod();
        let leaf = pki.root.leaf(API);
        let trust = prod_trusts(&[&pki.root]);
        let mut peer = Peer::clone(&verify_peer(&trust, Role::Client, &leaf.chain, now()).unwrap());
        peer.proof = Arc::new(peer.proof.within(at(NOW - 10), at(NOW + 10)));
        (trust, Key::of(Role::Client, &leaf.chain), Arc::new(peer))
    }

    #[test]
    fn what_is_remembered_counts_in_its_time_and_role() {
        let cache = Cache::default();
        let (trust, key, peer) = proven();
        assert!(cache.find(&key, &trust, now()).is_none());
        cache.remember(key, Arc::clone(&peer));
        assert_eq!(cache.find(&key, &trust, now()).unwrap(), peer);
        for (seconds, counts) in [(10, true), (-10, true), (11, false), (-11, false)] {
            assert_eq!(cache.find(&key, &trust, at(NOW.saturating_add_signed(seconds))).is_some(), counts, "{seconds}");
        }
        assert_ne!(Key::of(Role::Server, &peer.chain[..]), key);
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let cache = Cache::default();
        let (trust, _, peer) = proven();
        let numbered = |number: u32| {
            let mut key = [0; 32];
            key[1..5].copy_from_slice(&number.to_be_bytes());
            Key(key)
        };
        let busy = numbered(u32::MAX);
        cache.remember(busy, Arc::clone(&peer));
        for number in 0..10_000 {
            cache.remember(numbered(number), Arc::clone(&peer));
            assert!(cache.find(&busy, &trust, now()).is_some(), "after {number}");
        }
        let shard = cache.shards[0].lock().unwrap();
        assert!(shard.young.len() <= HALF_A_SHARD && shard.old.len() <= HALF_A_SHARD);
    }

    #[test]
    fn where_one_certificate_ends_is_part_of_the_key() {
        let der = |bytes: &[u8]| CertificateDer::from(bytes.to_vec());
        let key = |chain: &[CertificateDer<'static>]| Key::of(Role::Client, chain);
        assert_ne!(key(&[der(b"ab"), der(b"c")]), key(&[der(b"a"), der(b"bc")]));
        assert_ne!(key(&[der(b"ab")]), key(&[der(b"ab"), der(b"")]));
    }
}
