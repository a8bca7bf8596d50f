//! Signatures that were found good once, so that a chain which has to be proven again costs hashes instead of signatures.
//!
//! Whether a signature is good depends on key, message and signature alone: no bundle, list or time can take that back, so
//! unlike a [proof](crate::Proof) it is remembered across every change of trust. Everything else about a chain is judged anew.
//! Only what somebody trusted has signed comes here: webpki checks signatures from the anchor down, and lists are checked
//! under a path that holds. So no stranger can fill it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

/// Digests of good signatures with their keys and messages.
#[derive(Debug, Default)]
pub(crate) struct Signatures {
    shards: [Mutex<Shard>; SHARDS],
}

/// Two halves: what is looked up moves to the young one, and when that is full the old one is dropped.
#[derive(Debug, Default)]
struct Shard {
    young: HashSet<Key>,
    old: HashSet<Key>,
}

type Key = [u8; 32];

/// One of our algorithms, which asks the memory first.
#[derive(Debug)]
pub(crate) struct Remembering<'m> {
    algorithm: &'m dyn SignatureVerificationAlgorithm,
    /// Its place among ours: several share their names and differ in what they demand of a key.
    place: usize,
    known: &'m Signatures,
}

impl Signatures {
    /// These algorithms, which are always the same ones in the same order, with this memory.
    pub(crate) fn remembering<'m>(
        &'m self,
        algorithms: &'m [&'static dyn SignatureVerificationAlgorithm],
    ) -> Vec<Remembering<'m>> {
        let remembering = |(place, algorithm): (usize, &&'m dyn SignatureVerificationAlgorithm)| Remembering {
            algorithm: *algorithm,
            place,
            known: self,
        };
        algorithms.iter().enumerate().map(remembering).collect()
    }

    fn contains(&self, key: &Key) -> bool {
        let Some(shard) = self.shard(key) else { return false };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.young.contains(key) {
            return true;
        }
        let found = shard.old.remove(key);
        if found {
            shard.insert(*key);
        }
        found
    }

    fn remember(&self, key: Key) {
        if let Some(shard) = self.shard(&key) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        }
    }

    fn shard(&self, key: &Key) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(key[0]) % SHARDS)
    }
}

impl Shard {
    fn insert(&mut self, key: Key) {
        if self.young.len() >= HALF_A_SHARD {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key);
    }
}

impl SignatureVerificationAlgorithm for Remembering<'_> {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = key(self.place, [public_key, message, signature]);
        if self.known.contains(&key) {
            return Ok(());
        }
        self.algorithm.verify_signature(public_key, message, signature)?;
        self.known.remember(key);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

fn key(place: usize, parts: [&[u8]; 3]) -> Key {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&(place as u64).to_be_bytes());
    for part in parts {
        // The length keeps what ends one part from beginning the next.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

/// As in `cache.rs`.
const SHARDS: usize = 16;
/// In all at most 32,768, twice as many as there may be connections by default; about 2 MB.
const HALF_A_SHARD: usize = 1024;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::certificate::Certificate;
    use crate::pki::prod;
    use crate::signed::Signed;
    use crate::trust::algorithms;

    /// How often the one algorithm of this test was asked.
    static ASKED: AtomicUsize = AtomicUsize::new(0);

    #[derive(Debug)]
    struct Counting;

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
            ASKED.fetch_add(1, Ordering::Relaxed);
            webpki::aws_lc_rs::ECDSA_P256_SHA256.verify_signature(key, message, signature)
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            webpki::aws_lc_rs::ECDSA_P256_SHA256.public_key_alg_id()
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            webpki::aws_lc_rs::ECDSA_P256_SHA256.signature_alg_id()
        }
    }

    #[test]
    fn a_good_signature_is_checked_once_and_a_bad_one_each_time() {
        let pki = prod();
        let known = Signatures::default();
        let remembering = known.remembering(&[&Counting]);
        let leaf = pki.leaf.chain[0].to_vec();
        let key_of = |der: &[u8]| Certificate::parse(der).unwrap().public_key().to_vec();
        let (own, other) = (key_of(&pki.intermediate.der), key_of(&pki.root.der));
        for (public_key, good, asked) in
            [(&own, true, 1), (&own, true, 1), (&other, false, 2), (&other, false, 3), (&own, true, 3)]
        {
            let signed = Signed::parse(&leaf).unwrap();
            assert_eq!(signed.is_by(public_key, &[&remembering[0]]), good);
            assert_eq!(ASKED.load(Ordering::Relaxed), asked);
        }
        let mut forged = leaf;
        forged[40] ^= 1;
        assert!(!Signed::parse(&forged).is_some_and(|signed| signed.is_by(&own, &[&remembering[0]])));
    }

    #[test]
    fn where_one_part_ends_and_which_algorithm_it_was_is_part_of_the_key() {
        assert_ne!(key(0, [b"ab", b"c", b""]), key(0, [b"a", b"bc", b""]));
        assert_ne!(key(0, [b"a", b"b", b"c"]), key(1, [b"a", b"b", b"c"]));
        assert_eq!(Signatures::default().remembering(algorithms().all).len(), algorithms().all.len());
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let known = Signatures::default();
        let numbered = |number: u32| key(0, [&number.to_be_bytes(), b"", b""]);
        let busy = numbered(u32::MAX);
        known.remember(busy);
        for number in 0..100_000 {
            known.remember(numbered(number));
            assert!(known.contains(&busy), "after {number}");
        }
        for shard in &known.shards {
            let shard = shard.lock().unwrap();
            assert!(shard.young.len() <= HALF_A_SHARD && shard.old.len() <= HALF_A_SHARD);
        }
    }
}
