//! Hashes of names, seeded: who writes a policy cannot choose names that crowd one place of a table.
//!
//! The seed is a digest of all documents, so that whoever changes a name changes the seed too. Who sends requests puts
//! nothing into tables; for them a hash need not be secret.

/// What hashes of one index begin with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed([u64; 2]);

impl Seed {
    /// The seed of an index made from documents with this digest.
    pub(super) fn of(digest: &str) -> Self {
        let start = Self([FRACTIONS[0], FRACTIONS[1]]);
        let first = start.hash(digest.as_bytes());
        Self([first, Self([first, FRACTIONS[2]]).hash(digest.as_bytes())])
    }

    /// Two multiplications for up to sixteen bytes, and one for each sixteen more.
    pub(super) fn hash(self, name: &[u8]) -> u64 {
        let [first, second] = self.0;
        // Multiplied, or a letter could make up for the length.
        let mut state = first ^ (name.len() as u64).wrapping_mul(FRACTIONS[0]);
        let mut rest = name;
        while let Some((block, after)) = rest.split_first_chunk::<16>().filter(|(_, after)| !after.is_empty()) {
            state = folded(whole(block.first_chunk()) ^ second, whole(block.last_chunk()) ^ state);
            rest = after;
        }
        // What is left as two words, which overlap when it is no multiple of eight.
        let (low, high) = match (rest.first_chunk::<8>(), rest.first_chunk::<4>(), rest) {
            (Some(_), ..) => (whole(rest.first_chunk()), whole(rest.last_chunk())),
            (None, Some(_), _) => (half(rest.first_chunk()), half(rest.last_chunk())),
            (None, None, short) => (short.iter().fold(0, |all, byte| (all << 8) | u64::from(*byte)), 0),
        };
        folded(folded(low ^ second, high ^ state), FRACTIONS[2])
    }
}

fn whole(bytes: Option<&[u8; 8]>) -> u64 {
    bytes.copied().map(u64::from_le_bytes).unwrap_or_default()
}

fn half(bytes: Option<&[u8; 4]>) -> u64 {
    bytes.copied().map(u32::from_le_bytes).unwrap_or_default().into()
}

/// Every bit of the product counts; a multiplication of 64 bits alone lets no bit have a say in lower ones.
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let (high, low) = ((product >> 64) as u64, product as u64);
    high ^ low
}

/// Without regularity: fractions of the golden ratio, and of the square roots of two and of three.
const FRACTIONS: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn similar_names_have_different_hashes() {
        let names =
            (0..50_000).flat_map(|n| [format!("{n}"), format!("team-{n:05}"), format!("{n:020}"), "x".repeat(n / 50)]);
        let distinct: HashSet<String> = names.collect();
        let seed = Seed::of("0123456789abcdef0123456789abcdef");
        let hashes: HashSet<u64> = distinct.iter().map(|name| seed.hash(name.as_bytes())).collect();
        assert_eq!(hashes.len(), distinct.len());
        for shift in [0, 24, 48] {
            let some: HashSet<u64> = hashes.iter().map(|hash| (hash >> shift) & 0xffff).collect();
            assert!(some.len() > 55_000, "{shift}: {}", some.len());
        }
    }

    #[test]
    fn names_that_meet_with_one_seed_part_with_another() {
        let (one, other) = (Seed::of("a"), Seed::of("b"));
        let all = (0..100_000).map(|n| format!("n{n}"));
        let place = |seed: Seed, name: &String| seed.hash(name.as_bytes()) >> 52;
        let crowd: Vec<String> = all.filter(|name| place(one, name) == 7).collect();
        let places: HashSet<u64> = crowd.iter().map(|name| place(other, name)).collect();
        assert!(crowd.len() > 10 && places.len() + 4 > crowd.len(), "{} of {}", places.len(), crowd.len());
    }
}
