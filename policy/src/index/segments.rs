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
        for (at, byte) in text.iter().enumerate() {
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
