//! Judges one HTTP/2 connection by its frame headers, in both directions.

use thiserror::Error;
use tokio::time::Instant;

use super::frames::{Frame, Frames, flag, kind};
use super::rules::{self, Allowance, Work};

/// Why a connection is ended; always the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// RFC 9113 section 3.4.
    #[error("the peer's first frame is not SETTINGS")]
    FirstFrame,
    /// `timeouts.requestHead`.
    #[error("the head of a message has begun to come and does not end")]
    HeadTimeout,
    /// More than [`rules::SETTINGS_ENTRIES`].
    #[error("a SETTINGS frame of the peer has too many entries")]
    SettingsEntries,
    /// More than [`rules::HEADERS`].
    #[error("the peer sends too many HEADERS frames for its streams")]
    Headers,
    /// More than [`rules::EMPTY_DATA`].
    #[error("the peer sends too many empty DATA frames")]
    EmptyData,
    /// More than [`rules::PRIORITY`].
    #[error("the peer sends too many PRIORITY frames")]
    Priority,
    /// More than [`rules::UNKNOWN`].
    #[error("the peer sends too many frames of unknown types")]
    Unknown,
    /// More than [`rules::RESETS`].
    #[error("the peer resets too many streams")]
    Resets,
    /// More than [`rules::RESETS_CAUSED`].
    #[error("the peer makes us reset too many streams")]
    ResetsCaused,
    /// More than [`rules::SETTINGS`].
    #[error("the peer sends too many SETTINGS frames")]
    Settings,
    /// More than [`rules::PING`].
    #[error("the peer sends too many PING frames")]
    Ping,
    /// More than [`rules::GOAWAY`].
    #[error("the peer sends too many GOAWAY frames")]
    GoAway,
    /// More than [`rules::WINDOW_UPDATE`].
    #[error("the peer sends too many WINDOW_UPDATE frames")]
    WindowUpdate,
}

impl Violation {
    /// A fixed word for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::FirstFrame => "http2_first_frame",
            Self::HeadTimeout => "request_head_timeout",
            Self::SettingsEntries => "http2_settings_entries",
            Self::Headers => "http2_headers_flood",
            Self::EmptyData => "http2_empty_data_flood",
            Self::Priority => "http2_priority_flood",
            Self::Unknown => "http2_unknown_frame_flood",
            Self::Resets => "http2_reset_flood",
            Self::ResetsCaused => "http2_resets_caused",
            Self::Settings => "http2_settings_flood",
            Self::Ping => "http2_ping_flood",
            Self::GoAway => "http2_goaway_flood",
            Self::WindowUpdate => "http2_window_update_flood",
        }
    }

    /// The error code by which the peer is told (RFC 9113 section 7).
    pub fn code(self) -> u32 {
        const PROTOCOL_ERROR: u32 = 0x1;
        const ENHANCE_YOUR_CALM: u32 = 0xb;
        if self == Self::FirstFrame { PROTOCOL_ERROR } else { ENHANCE_YOUR_CALM }
    }
}

/// What is known of a connection.
#[derive(Debug)]
pub struct Watch {
    received: Frames,
    sent: Frames,
    judge: Judge,
}

#[derive(Debug)]
struct Judge {
    stage: Stage,
    /// Heads that have begun.
    heads: u64,
    work: Work,
    headers: Allowance,
    empty_data: Allowance,
    priority: Allowance,
    unknown: Allowance,
    resets: Allowance,
    resets_caused: Allowance,
    settings: Allowance,
    ping: Allowance,
    goaway: Allowance,
    window_update: Allowance,
}

/// What the last bytes of the peer belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has come.
    Silent,
    /// The preface, or the header of the first frame.
    Opening,
    /// A header block that goes on in another frame.
    Block,
    /// The last frame of a header block.
    LastOfBlock,
    /// Anything else.
    Outside,
}

impl Watch {
    /// Of a connection on which we serve, with at most `streams` open at a time.
    pub fn serving(streams: u32) -> Self {
        Self { received: Frames::of_client(), sent: Frames::of_server(), judge: Judge::new(streams) }
    }

    /// Of a connection on which we call.
    pub fn calling() -> Self {
        Self { received: Frames::of_server(), sent: Frames::of_client(), judge: Judge::new(0) }
    }

    /// Looks at the next bytes that the peer sent.
    ///
    /// # Errors
    /// The connection is to be ended.
    pub fn received(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if self.judge.stage == Stage::Silent && !bytes.is_empty() {
            self.judge.stage = Stage::Opening;
        }
        self.received.take(bytes, |frame| self.judge.received(frame))
    }

    /// Looks at the next bytes that we sent.
    ///
    /// # Errors
    /// The connection is to be ended.
    pub fn sent(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.sent.take(bytes, |frame| self.judge.sent(frame))
    }

    /// Which head of the peer has begun and not ended: its number, or 0 for the opening of the connection.
    pub fn head_under_way(&self) -> Option<u64> {
        let is_under_way = match self.judge.stage {
            Stage::Opening | Stage::Block => true,
            Stage::LastOfBlock => self.received.is_in_payload(),
            Stage::Silent | Stage::Outside => false,
        };
        is_under_way.then_some(self.judge.heads)
    }

    /// Whether the peer's SETTINGS, which are its first frame, have come whole.
    pub fn has_opened(&self) -> bool {
        !matches!(self.judge.stage, Stage::Silent | Stage::Opening) && !self.received.is_in_payload()
    }

    /// Whether a frame of ours may be written behind what we sent.
    pub fn is_between_frames(&self) -> bool {
        self.sent.is_between()
    }
}

impl Judge {
    fn new(streams: u32) -> Self {
        let now = Instant::now();
        let full = |rule| Allowance::new(rule, 0, now);
        Self {
            stage: Stage::Silent,
            heads: 0,
            work: Work::default(),
            // Each stream may have a head and trailers of its caller's.
            headers: Allowance::new(&rules::HEADERS, streams.saturating_mul(2), now),
            empty_data: full(&rules::EMPTY_DATA),
            priority: full(&rules::PRIORITY),
            unknown: full(&rules::UNKNOWN),
            resets: full(&rules::RESETS),
            resets_caused: full(&rules::RESETS_CAUSED),
            settings: full(&rules::SETTINGS),
            ping: full(&rules::PING),
            goaway: full(&rules::GOAWAY),
            window_update: full(&rules::WINDOW_UPDATE),
        }
    }

    fn received(&mut self, frame: Frame) -> Result<(), Violation> {
        let is_first = matches!(self.stage, Stage::Silent | Stage::Opening);
        if is_first && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
            return Err(Violation::FirstFrame);
        }
        self.enter(frame);
        let (allowance, violation) = match frame.kind {
            kind::DATA if frame.length == 0 && !frame.has(flag::END_STREAM) => {
                (&mut self.empty_data, Violation::EmptyData)
            }
            // Payload is bounded by flow control. CONTINUATION is bounded by the HTTP library, and by the deadline of
            // heads; PUSH_PROMISE is an error to it, since we never allow a push.
            kind::DATA | kind::CONTINUATION | kind::PUSH_PROMISE => return Ok(()),
            kind::HEADERS => (&mut self.headers, Violation::Headers),
            kind::PRIORITY => (&mut self.priority, Violation::Priority),
            kind::RST_STREAM => {
                self.work.resets = self.work.resets.wrapping_add(1);
                (&mut self.resets, Violation::Resets)
            }
            kind::SETTINGS if frame.length > rules::SETTINGS_ENTRIES * SETTINGS_ENTRY => {
                return Err(Violation::SettingsEntries);
            }
            kind::SETTINGS => (&mut self.settings, Violation::Settings),
            kind::PING => (&mut self.ping, Violation::Ping),
            kind::GOAWAY => (&mut self.goaway, Violation::GoAway),
            kind::WINDOW_UPDATE => (&mut self.window_update, Violation::WindowUpdate),
            _ => (&mut self.unknown, Violation::Unknown),
        };
        if allowance.spend(self.work) { Ok(()) } else { Err(violation) }
    }

    fn enter(&mut self, frame: Frame) {
        self.stage = match frame.kind {
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => {
                if frame.kind != kind::CONTINUATION {
                    self.heads += 1;
                }
                if frame.has(flag::END_HEADERS) { Stage::LastOfBlock } else { Stage::Block }
            }
            _ => Stage::Outside,
        };
    }

    fn sent(&mut self, frame: Frame) -> Result<(), Violation> {
        let count = match frame.kind {
            kind::DATA => &mut self.work.data,
            kind::HEADERS => &mut self.work.heads,
            kind::RST_STREAM => &mut self.work.resets,
            _ => return Ok(()),
        };
        *count = count.wrapping_add(1);
        if frame.kind != kind::RST_STREAM || self.resets_caused.spend(self.work) {
            return Ok(());
        }
        Err(Violation::ResetsCaused)
    }
}

/// Bytes of one entry (RFC 9113 section 6.5.1).
const SETTINGS_ENTRY: u32 = 6;
