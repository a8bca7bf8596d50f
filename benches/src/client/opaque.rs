//! The little protocol that `portcullis-bench` and its backend speak over opaque bytes.
//!
//! One line, `portcullis-bench WORD N\n`, then the bytes. `up`: the client sends N bytes and gets a line `ok N\n` once
//! they arrived as they were sent. `down`: it gets N bytes. `echo`: it gets back whatever it sends. What is sent is
//! always the same pattern, so that both sides verify every byte of it.

use std::sync::LazyLock;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::failure::{Failure, shown};

/// What is sent, over and over: longer than a TLS record, and no record of it equals the next, so that bytes that come
/// twice, not at all or in another order are found.
pub static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    // A multiplicative sequence modulo a prime has no short period.
    let mut state = 1_u32;
    (0..PATTERN_LENGTH)
        .map(|_| {
            state = state.wrapping_mul(48_271) % 0x7fff_ffff;
            state.to_le_bytes()[1]
        })
        .collect()
});

/// What a connection of this protocol is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// From the generator to the backend.
    Up,
    /// From the backend to the generator.
    Down,
    /// Both at once, the same bytes.
    Echo,
}

impl Direction {
    /// Its word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Echo => "echo",
        }
    }

    /// The first line of a connection.
    pub fn line(self, bytes: u64) -> String {
        format!("{INTRODUCTION} {} {bytes}\n", self.word())
    }

    /// Reads the first line, without its line break.
    pub fn parse(line: &[u8]) -> Option<(Self, u64)> {
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        if words.next() != Some(INTRODUCTION) {
            return None;
        }
        let word = words.next()?;
        let direction = [Self::Up, Self::Down, Self::Echo].into_iter().find(|direction| direction.word() == word)?;
        let bytes = words.next()?.parse().ok()?;
        words.next().is_none().then_some((direction, bytes))
    }
}

/// A position in the endless repetition of [`PATTERN`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Place(usize);

impl Place {
    /// At most this many bytes from here on; fewer at the end of a repetition.
    pub fn peek(self, most: u64) -> &'static [u8] {
        let rest = PATTERN.get(self.0..).unwrap_or_default();
        rest.get(..usize::try_from(most).unwrap_or(usize::MAX)).unwrap_or(rest)
    }

    /// Moves on.
    pub fn advance(&mut self, by: usize) {
        self.0 = (self.0 + by) % PATTERN_LENGTH;
    }

    /// Moves on over these bytes; `false` if they are not the ones that belong here.
    #[must_use]
    pub fn matches(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = self.peek(bytes.len() as u64);
            let (now, later) = bytes.split_at(expected.len());
            if now != expected {
                return false;
            }
            self.advance(now.len());
            bytes = later;
        }
        true
    }
}

/// Sends one byte and waits for it to come back. `opened` says whether the first line was sent already.
///
/// # Errors
/// When something else came back, or nothing.
pub async fn ping<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    turn: u8,
    opening: Opening,
) -> Result<(), Failure> {
    let mut bytes = match opening {
        Opening::First => Direction::Echo.line(0).into_bytes(),
        Opening::Later => Vec::new(),
    };
    bytes.push(turn);
    stream.write_all(&bytes).await.map_err(|error| Failure::io(&error, "sending a byte"))?;
    stream.flush().await.map_err(|error| Failure::io(&error, "sending a byte"))?;
    let mut back = [0; 1];
    match stream.read(&mut back).await.map_err(|error| Failure::io(&error, "waiting for a byte"))? {
        0 => Err(Failure::closed("where a byte was due")),
        _ if back == [turn] => Ok(()),
        _ => Err(Failure::differs(format!("another byte came back than was sent: {}", shown(&back)))),
    }
}

/// Whether a connection was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Its first line is still to be sent.
    First,
    /// It has been sent.
    Later,
}

/// A first line is never longer than this.
pub const LONGEST_LINE: usize = 64;

const INTRODUCTION: &str = "portcullis-bench";
/// A prime, so that no size of buffer or record divides it.
const PATTERN_LENGTH: usize = 262_147;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_are_read_as_they_are_written() {
        for direction in [Direction::Up, Direction::Down, Direction::Echo] {
            let line = direction.line(u64::MAX);
            assert!(line.len() <= LONGEST_LINE);
            assert_eq!(Direction::parse(line.trim_end().as_bytes()), Some((direction, u64::MAX)));
        }
        for wrong in [
            "",
            "portcullis-bench",
            "portcullis-bench up",
            "portcullis-bench up x",
            "portcullis-bench up 1 2",
            "GET / HTTP/1.1",
        ] {
            assert_eq!(Direction::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn bytes_that_moved_are_found() {
        let two = [PATTERN.as_slice(), PATTERN.as_slice()].concat();
        assert!(Place::default().matches(&two));
        let record = 16 << 10;
        let swapped = [&two[record..2 * record], &two[..record]].concat();
        assert!(!Place::default().matches(&swapped));
        let lost = [&two[..record], &two[2 * record..]].concat();
        assert!(!Place::default().matches(&lost));
        let mut place = Place::default();
        assert!(two.chunks(4093).all(|piece| place.matches(piece)));
    }
}
