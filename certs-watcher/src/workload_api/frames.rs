//! The messages of a gRPC stream: each has five bytes before it, a flag and a length.
//!
//! At most one message and the bytes that came with its end are held, and only as much as has arrived: the length that
//! is announced reserves nothing. What is in a message is of no concern.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

/// The messages that are still to come.
pub(super) struct Frames {
    body: RecvStream,
    arrived: BytesMut,
}

impl Frames {
    pub(super) fn new(body: RecvStream) -> Self {
        Self { body, arrived: BytesMut::new() }
    }

    /// The next message, or `None` when the stream has ended. One that has begun is waited for no longer than `patience`,
    /// however slowly it trickles in; until it begins there is no limit but `deadline`.
    ///
    /// # Errors
    /// If the frame is not one that can be taken, is late, or the connection is lost. The stream is of no use after it.
    pub(super) async fn next(
        &mut self,
        mut deadline: Option<Instant>,
        patience: Duration,
    ) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(message) = self.cut()? {
                return Ok(Some(message));
            }
            if !self.arrived.is_empty() && deadline.is_none() {
                deadline = Some(Instant::now() + patience);
            }
            let chunk = match deadline {
                Some(deadline) => timeout_at(deadline, self.body.data())
                    .await
                    .map_err(|_| FrameError::Late { begun: !self.arrived.is_empty() })?,
                None => self.body.data().await,
            };
            match chunk {
                Some(Ok(chunk)) => {
                    // It cannot fail: what is released has just been taken.
                    let _ = self.body.flow_control().release_capacity(chunk.len());
                    self.arrived.extend_from_slice(&chunk);
                }
                Some(Err(source)) => return Err(FrameError::Lost(source)),
                None if self.arrived.is_empty() => return Ok(None),
                None => return Err(FrameError::CutOff),
            }
        }
    }

    /// What comes after the last message.
    pub(super) async fn trailers(&mut self) -> Result<HeaderMap, h2::Error> {
        Ok(self.body.trailers().await?.unwrap_or_default())
    }

    fn cut(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some((&[flag, ref length @ ..], _)) = self.arrived.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        if flag != 0 {
            return Err(FrameError::Compressed);
        }
        if length > MAX_MESSAGE {
            return Err(FrameError::TooLarge { length });
        }
        let whole = HEAD + length as usize;
        if self.arrived.len() < whole {
            return Ok(None);
        }
        let mut message = self.arrived.split_to(whole);
        message.advance(HEAD);
        Ok(Some(message.freeze()))
    }
}

/// A flag, and the length in four bytes.
const HEAD: usize = 5;

/// What gRPC libraries take by default, so an agent that sends more would serve no other client either.
const MAX_MESSAGE: u32 = 4 * 1024 * 1024;

/// Why a stream of messages cannot be read on.
#[derive(Debug, Error)]
pub enum FrameError {
    /// A message is too large.
    #[error("a message of {length} bytes is announced, and {MAX_MESSAGE} is the limit")]
    TooLarge {
        /// Its length.
        length: u32,
    },
    /// A message is compressed, though we did not say that we could read that.
    #[error("a message is marked as compressed, and no compression was offered")]
    Compressed,
    /// A message was begun and not finished, or not begun, in time.
    #[error("a message was not complete in time")]
    Late {
        /// Whether some of it had arrived.
        begun: bool,
    },
    /// The stream ended within a message.
    #[error("the stream ended within a message")]
    CutOff,
    /// The connection was lost.
    #[error("the connection was lost")]
    Lost(#[source] h2::Error),
}

impl FrameError {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "message_too_large",
            Self::Compressed => "compressed_message",
            Self::Late { .. } => "late_message",
            Self::CutOff => "truncated_message",
            Self::Lost(_) => "connection_lost",
        }
    }
}
