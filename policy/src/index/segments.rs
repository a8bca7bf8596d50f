//! The segments of a path or an identity, found once and compared where patterns name one.
//!
//! They are not looked up as words: most places of the index lead on by one literal, which is compared in less time than
//! a hash takes, and without looking elsewhere in memory.

use super::words::{DEPTH, small};

/// Segments by their ends. Whoever sends a path with thousands of them gets as far as the longest pattern.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segments<'a> {
    text: &'a [u8],
    ends: [u32; DEPTH],
    length: usize,
    /// There were more segments.
    pub(super) more: bool,
}

impl<'a> Segments<'a> {
    /// The first segments of what follows a slash, as many as patterns can tell apart; none if there is no slash.
    pub(super) fn of(path: &'a str, deepest: usize) -> Self {
        let mut segments = Self { text: &[], ends: [0; DEPTH], length: 0, more: false };
        let Some(text) = path.as_bytes().strip_prefix(b"/") else { return segments };
        segments.text = text;
        let (words, tail) = text.as_chunks::<8>();
        for (word, start) in words.iter().zip((0..).step_by(8)) {
            let mut slashes = slashes(*word);
            while slashes != 0 {
                if !segments.end(start + (slashes.trailing_zeros() / 8) as usize, deepest) {
                    return segments;
                }
                slashes &= slashes - 1;
            }
        }
        for (byte, at) in tail.iter().zip(text.len() - tail.len()..) {
            if *byte == b'/' && !segments.end(at, deepest) {
                return segments;
            }
        }
        segments.end(text.len(), deepest);
        segments
    }

    /// Whether there was room for a segment that ends here.
    fn end(&mut self, at: usize, deepest: usize) -> bool {
        match self.ends.get_mut(self.length).filter(|_| self.length < deepest) {
            Some(end) => {
                *end = small(at);
                self.length += 1;
            }
            None => self.more = true,
        }
        !self.more
    }

    pub(super) fn get(&self, depth: usize) -> Option<&'a [u8]> {
        let ends = self.ends.get(..self.length)?;
        let end = *ends.get(depth)? as usize;
        let before = depth.checked_sub(1).and_then(|before| ends.get(before));
        let start = before.map_or(0, |end| *end as usize + 1);
        self.text.get(start..end)
    }
}

/// Eight bytes at once: the upper bit of each that is a slash.
fn slashes(bytes: [u8; 8]) -> u64 {
    let differences = u64::from_le_bytes(bytes) ^ u64::from_le_bytes([b'/'; 8]);
    // A carry never leaves a byte, so that none is taken for a slash on account of another.
    let lower = u64::from_le_bytes([0x7f; 8]);
    !(((differences & lower) + lower) | differences | lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_those_between_slashes() {
        let rows =
            ["", "/", "//", "/a", "/a/", "/abcdefg/h", "/abcdefgh/", "/a/bb//ccc/0.o/\u{af}/./eeeeeeeeeeeeeeeeeeee/f"];
        for path in rows {
            for deepest in [0, 1, 2, 3, 40] {
                let split: Vec<&str> = path.strip_prefix('/').into_iter().flat_map(|path| path.split('/')).collect();
                let segments = Segments::of(path, deepest);
                let found: Vec<&[u8]> = (0..).map_while(|depth| segments.get(depth)).collect();
                let expected: Vec<&[u8]> = split.iter().take(deepest).map(|segment| segment.as_bytes()).collect();
                assert_eq!(found, expected, "{path} {deepest}");
                assert_eq!(segments.more, split.len() > deepest, "{path} {deepest}");
            }
        }
        assert_eq!(Segments::of(&"/a".repeat(100), 100).length, DEPTH);
    }
}
