//! Methods as numbers, compared in two ways: as they are written for rules that allow, without case for rules that deny.

use std::hash::Hasher;

use super::words::{Fold, Map, Word, small};

/// The methods that rules name, by a hash that knows no case.
#[derive(Debug, Default)]
pub(super) struct Methods {
    all: Map<u64, Vec<Method>>,
    count: usize,
}

#[derive(Debug)]
struct Method {
    text: Box<str>,
    written: Word,
    /// The same for all that differ in case only.
    folded: Word,
}

/// A method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spelling {
    pub(super) written: Word,
    pub(super) folded: Word,
}

impl Methods {
    /// The numbers of a method of the policy.
    pub(super) fn learn(&mut self, text: &str) -> Spelling {
        let known = self.find(text);
        if known.written != UNNAMED {
            return known;
        }
        // Zero stands for any.
        let written = small(self.count + 1);
        let folded = if known.folded == UNNAMED { written } else { known.folded };
        self.count += 1;
        self.all.entry(hash(text)).or_default().push(Method { text: text.into(), written, folded });
        Spelling { written, folded }
    }

    /// The numbers of a method of a request.
    pub(super) fn find(&self, text: &str) -> Spelling {
        let mut found = Spelling { written: UNNAMED, folded: UNNAMED };
        for method in self.all.get(&hash(text)).into_iter().flatten() {
            if *method.text == *text {
                return Spelling { written: method.written, folded: method.folded };
            }
            if method.text.eq_ignore_ascii_case(text) {
                found.folded = method.folded;
            }
        }
        found
    }
}

fn hash(text: &str) -> u64 {
    let mut hash = Fold::default();
    for chunk in text.as_bytes().chunks(8) {
        hash.write_u64(chunk.iter().fold(0, |all, byte| (all << 8) | u64::from(byte.to_ascii_uppercase())));
    }
    hash.finish()
}

/// No rule names it.
const UNNAMED: Word = Word::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_as_written_and_without_case() {
        let mut methods = Methods::default();
        let get = methods.learn("GET");
        let odd = methods.learn("Get");
        let long = methods.learn("VERSION-CONTROL");
        assert_eq!(methods.learn("GET"), get);
        assert_eq!(get.folded, odd.folded);
        assert_ne!(get.written, odd.written);
        assert_eq!(methods.find("Get"), odd);
        assert_eq!(methods.find("gET"), Spelling { written: UNNAMED, folded: get.folded });
        assert_eq!(methods.find("version-control").folded, long.folded);
        assert_eq!(methods.find("GETT"), Spelling { written: UNNAMED, folded: UNNAMED });
        assert_ne!(get.written, 0);
    }
}
