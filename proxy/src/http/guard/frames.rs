//! Finds the frame headers in a stream of HTTP/2, however it is cut (RFC 9113 section 4.1).
//!
//! Payloads are counted and never looked at. Of the bytes, only a frame header that a cut goes through is kept.

/// What a frame header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Length of the payload.
    pub length: u32,
    /// Type of the frame.
    pub kind: u8,
    /// Flags; what they mean depends on the type.
    pub flags: u8,
}

/// Where in its frames a stream has got to.
#[derive(Debug)]
pub struct Frames {
    /// Bytes of a payload, or of the connection preface, that are still to come.
    payload: usize,
    head: [u8; HEAD],
    /// How much of `head` has come.
    have: usize,
}

impl Frames {
    /// A stream that begins with the connection preface of a client (section 3.4).
    pub const fn of_client() -> Self {
        Self { payload: PREFACE, head: [0; HEAD], have: 0 }
    }

    /// A stream that begins with a frame.
    pub const fn of_server() -> Self {
        Self { payload: 0, head: [0; HEAD], have: 0 }
    }

    /// Takes the next bytes of the stream, and tells `seen` of each frame as soon as its header is whole.
    ///
    /// # Errors
    /// The first that `seen` returns; the bytes behind that header are not looked at.
    pub fn take<E>(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame) -> Result<(), E>) -> Result<(), E> {
        loop {
            let (passed, rest) = bytes.split_at(self.payload.min(bytes.len()));
            self.payload -= passed.len();
            if rest.is_empty() {
                return Ok(());
            }
            let frame = match rest.split_first_chunk() {
                Some((head, rest)) if self.have == 0 => {
                    bytes = rest;
                    Frame::parse(head)
                }
                _ => {
                    let missing = self.head.get_mut(self.have..).unwrap_or_default();
                    let count = missing.len().min(rest.len());
                    let (come, rest) = rest.split_at(count);
                    missing.iter_mut().zip(come).for_each(|(to, from)| *to = *from);
                    self.have += count;
                    if self.have < HEAD {
                        return Ok(());
                    }
                    self.have = 0;
                    bytes = rest;
                    Frame::parse(&self.head)
                }
            };
            self.payload = frame.length as usize;
            seen(frame)?;
        }
    }

    /// Whether all of the last frame, or of the preface, has come and nothing of the next one.
    pub fn is_between(&self) -> bool {
        self.payload == 0 && self.have == 0
    }

    /// Whether bytes of a payload are still to come.
    pub fn is_in_payload(&self) -> bool {
        self.payload > 0
    }
}

impl Frame {
    fn parse(head: &[u8; HEAD]) -> Self {
        let [high, middle, low, kind, flags, ..] = *head;
        // One word, where three bytes would be put together by shifts.
        Self { length: u32::from_be_bytes([high, middle, low, kind]) >> 8, kind, flags }
    }

    /// Whether this flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag == flag
    }
}

/// Bytes of a frame header.
const HEAD: usize = 9;
/// Bytes of a client's connection preface.
pub(super) const PREFACE: usize = 24;

/// Types of frames (section 6).
pub mod kind {
    #![expect(missing_docs, reason = "these are the names of the RFC")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// Of SETTINGS and PING.
    pub const ACK: u8 = 0x1;
    /// Of DATA and HEADERS.
    pub const END_STREAM: u8 = 0x1;
    /// Of HEADERS, PUSH_PROMISE and CONTINUATION.
    pub const END_HEADERS: u8 = 0x4;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(mut stream: Frames, chunks: &[&[u8]]) -> Vec<Frame> {
        let mut seen = Vec::new();
        for chunk in chunks {
            let taken: Result<(), ()> = stream.take(chunk, |frame| {
                seen.push(frame);
                Ok(())
            });
            taken.unwrap();
        }
        seen
    }

    fn bytes(frames: &[(Frame, u8)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (frame, filling) in frames {
            bytes.extend_from_slice(&frame.length.to_be_bytes()[1..]);
            bytes.extend_from_slice(&[frame.kind, frame.flags, 0, 0, 0, 1]);
            bytes.extend(std::iter::repeat_n(*filling, frame.length as usize));
        }
        bytes
    }

    fn any_frame() -> impl Strategy<Value = (Frame, u8)> {
        let length = prop_oneof![Just(0), 0u32..20, 0u32..300];
        (length, any::<u8>(), any::<u8>(), any::<u8>())
            .prop_map(|(length, kind, flags, filling)| (Frame { length, kind, flags }, filling))
    }

    proptest! {
        #[test]
        fn the_same_frames_are_seen_however_the_stream_is_cut(
            frames in prop::collection::vec(any_frame(), 0..12),
            cuts in prop::collection::vec(1usize..40, 1..12),
            preface in any::<bool>(),
        ) {
            let mut stream = if preface { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec() } else { Vec::new() };
            stream.extend(bytes(&frames));
            let fresh = || if preface { Frames::of_client() } else { Frames::of_server() };
            let expected: Vec<_> = frames.iter().map(|(frame, _)| *frame).collect();
            prop_assert_eq!(&seen(fresh(), &[&stream]), &expected);
            let (mut rest, mut chunks) = (&stream[..], Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            prop_assert_eq!(seen(fresh(), &chunks), expected);
        }
    }

    #[test]
    fn two_cuts_anywhere_change_nothing() {
        let frame = |length, kind| (Frame { length, kind, flags: 0 }, 0xff);
        let stream = bytes(&[frame(0, kind::SETTINGS), frame(3, kind::DATA), frame(0, kind::PING)]);
        let whole = seen(Frames::of_server(), &[&stream]);
        assert_eq!(whole.len(), 3);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let chunks = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(seen(Frames::of_server(), &chunks), whole, "{first} {second}");
            }
        }
    }

    #[test]
    fn what_is_behind_a_refused_frame_is_not_looked_at() {
        let frame = |kind| (Frame { length: 0, kind, flags: 0 }, 0);
        let stream = bytes(&[frame(kind::SETTINGS), frame(kind::PING), frame(kind::DATA)]);
        let mut seen = Vec::new();
        let taken = Frames::of_server().take(&stream, |frame| {
            seen.push(frame.kind);
            if frame.kind == kind::PING { Err("refused") } else { Ok(()) }
        });
        assert_eq!(taken, Err("refused"));
        assert_eq!(seen, [kind::SETTINGS, kind::PING]);
    }
}
