//! Chains that were proven under the trust of now, so that a peer that comes again costs one hash.
//!
//! A cache belongs to one [`Trust`](crate::Trust), which never changes: a new bundle, CRL or deny list is a new trust
//! with an empty cache, so nothing that was taken away can be remembered. Only success is kept, under a digest of the
//! exact chain and the role, and it counts only while the whole path is valid. Time, deny list and expected identity are
//! asked about by the caller each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::peer::Peer;
use crate::role::Role;

/// Proven peers by the chain that proved them.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
}

/// The exact bytes of a chain in a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

/// A peer, and the time in which all of its path is valid.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    pub(crate) peer: Arc<Peer>,
    pub(crate) from: UnixTime,
    pub(crate) until: UnixTime,
}

/// Two halves: what is looked up moves to the young one, and when that is full the old one is dropped.
#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Key, Proven>,
    old: HashMap<Key, Proven>,
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
    /// The peer that this chain has proven, if all of its path is valid at `now`.
    pub(crate) fn find(&self, key: &Key, now: UnixTime) -> Option<Arc<Peer>> {
        let mut shard = self.shard(key)?.lock().unwrap_or_else(PoisonError::into_inner);
        let proven = match shard.young.get(key) {
            Some(proven) => proven.clone(),
            None => {
                let proven = shard.old.remove(key)?;
                shard.insert(*key, proven.clone());
                proven
            }
        };
        (proven.from <= now && now <= proven.until).then_some(proven.peer)
    }

    /// Remembers what a chain has proven.
    pub(crate) fn remember(&self, key: Key, proven: Proven) {
        if let Some(shard) = self.shard(&key) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).insert(key, proven);
        }
    }

    fn shard(&self, key: &Key) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(key.0[0]) % SHARDS)
    }
}

impl Shard {
    fn insert(&mut self, key: Key, proven: Proven) {
        if self.young.len() >= HALF_A_SHARD {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, proven);
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

    fn proven() -> (Key, Proven) {
        let pki = prod();
        let leaf = pki.root.leaf(API);
        let peer = verify_peer(&prod_trusts(&[&pki.root]), Role::Client, &leaf.chain, now()).unwrap();
        (Key::of(Role::Client, &leaf.chain), Proven { peer, from: at(NOW - 10), until: at(NOW + 10) })
    }

    #[test]
    fn what_is_remembered_counts_in_its_time_and_role() {
        let cache = Cache::default();
        let (key, entry) = proven();
        assert!(cache.find(&key, now()).is_none());
        cache.remember(key, entry.clone());
        assert_eq!(cache.find(&key, now()).unwrap(), entry.peer);
        assert!(cache.find(&key, at(NOW + 10)).is_some() && cache.find(&key, at(NOW - 10)).is_some());
        assert!(cache.find(&key, at(NOW + 11)).is_none() && cache.find(&key, at(NOW - 11)).is_none());
        assert_ne!(Key::of(Role::Server, &entry.peer.chain[..]), key);
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let cache = Cache::default();
        let (_, entry) = proven();
        let numbered = |number: u32| {
            let mut key = [0; 32];
            key[1..5].copy_from_slice(&number.to_be_bytes());
            Key(key)
        };
        let busy = numbered(u32::MAX);
        cache.remember(busy, entry.clone());
        for number in 0..10_000 {
            cache.remember(numbered(number), entry.clone());
            assert!(cache.find(&busy, now()).is_some(), "after {number}");
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
