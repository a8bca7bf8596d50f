//! A client of HTTP/1.1 that costs the generator little: one request at a time, its bytes made beforehand.
//!
//! Heads are parsed by httparse. Invariant: at most 64 KiB of a head, of trailers or of a line are kept.

use bytes::{Buf, Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Status};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::failure::{Failure, shown};
use super::response::{NUMBER, STATUS, Sink, number_text};

/// What is asked, again and again.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: http::Method,
    /// Path and query.
    pub path: String,
    /// `Host` or `:authority`.
    pub authority: String,
    /// Its body; none if empty.
    pub body: Bytes,
}

/// A connection that speaks HTTP/1.1.
pub struct Http1<S> {
    stream: S,
    /// The request, all but its number.
    bytes: Vec<u8>,
    /// Where the number goes.
    number_at: usize,
    /// What was read and not used.
    read: BytesMut,
    is_open: bool,
}

/// The head of an answer.
#[derive(Debug)]
struct Head {
    status: u16,
    reason: String,
    framing: Framing,
    number: Option<Vec<u8>>,
    stays_open: bool,
}

/// How the end of a body is told, RFC 9112 section 6.3.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Length of its body.
    pub bytes: u64,
    /// Whether it carried the number of its request.
    pub is_numbered: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http1<S> {
    /// Asks this over a connection that was just made.
    pub fn new(stream: S, request: &Request) -> Self {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", request.method, request.path, request.authority);
        head.push_str("user-agent: portcullis-bench\r\n");
        if !request.body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", request.body.len()));
        }
        head.push_str(&format!("{NUMBER}: "));
        let mut bytes = head.into_bytes();
        let number_at = bytes.len();
        bytes.extend_from_slice(&number_text(0));
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(&request.body);
        Self { stream, bytes, number_at, read: BytesMut::with_capacity(READ), is_open: true }
    }

    /// Whether another exchange may follow.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Gives the bytes back, to close them.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// One request and its answer. After a failure the connection cannot be used.
    ///
    /// # Errors
    /// When no good answer came.
    pub async fn exchange(&mut self, number: u64, sink: &mut Sink<'_>) -> Result<Answer, Failure> {
        self.is_open = false;
        if let Some(place) = self.bytes.get_mut(self.number_at..self.number_at + 16) {
            place.copy_from_slice(&number_text(number));
        }
        self.stream.write_all(&self.bytes).await.map_err(|error| Failure::io(&error, "sending the request"))?;
        self.stream.flush().await.map_err(|error| Failure::io(&error, "sending the request"))?;
        let head = self.head().await?;
        if head.status != STATUS {
            return Err(Failure::status(head.status, STATUS, &head.reason));
        }
        sink.head(number, head.number.as_deref())?;
        match head.framing {
            Framing::Length(length) => self.known_length(length, sink).await?,
            Framing::Chunked => self.chunks(sink).await?,
            Framing::UntilClose => self.until_close(sink).await?,
        }
        if !self.read.is_empty() {
            return Err(Failure::protocol(format!("bytes after the answer: {}", shown(&self.read))));
        }
        self.is_open = head.stays_open;
        Ok(Answer { bytes: sink.end()?, is_numbered: head.number.is_some() })
    }

    async fn head(&mut self) -> Result<Head, Failure> {
        loop {
            match parse_head(&self.read)? {
                Some((length, head)) => {
                    self.read.advance(length);
                    // Interim answers, RFC 9110 section 15.2; a switch of protocols was not asked for.
                    if (100..200).contains(&head.status) && head.status != 101 {
                        continue;
                    }
                    return Ok(head);
                }
                None if self.read.len() > LONGEST_HEAD => {
                    return Err(Failure::protocol(format!(
                        "the head of the answer is longer than {LONGEST_HEAD} bytes"
                    )));
                }
                None => self.more("before its answer was complete").await?,
            }
        }
    }

    async fn known_length(&mut self, mut left: u64, sink: &mut Sink<'_>) -> Result<(), Failure> {
        while left > 0 {
            if self.read.is_empty() {
                self.more("in the middle of a body").await?;
            }
            let take = self.read.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            sink.body(self.read.get(..take).unwrap_or_default())?;
            self.read.advance(take);
            left -= take as u64;
        }
        Ok(())
    }

    async fn chunks(&mut self, sink: &mut Sink<'_>) -> Result<(), Failure> {
        loop {
            let size = loop {
                match httparse::parse_chunk_size(&self.read) {
                    Ok(Status::Complete((length, size))) => {
                        self.read.advance(length);
                        break size;
                    }
                    Ok(Status::Partial) if self.read.len() <= LONGEST_HEAD => {
                        self.more("in the middle of a body").await?;
                    }
                    Ok(Status::Partial) | Err(_) => return Err(Failure::protocol("the size of a chunk is malformed")),
                }
            };
            if size == 0 {
                return self.trailers().await;
            }
            self.known_length(size, sink).await?;
            if self.line().await? != 0 {
                return Err(Failure::protocol("a chunk does not end where its size says"));
            }
        }
    }

    async fn trailers(&mut self) -> Result<(), Failure> {
        let mut seen = 0;
        loop {
            let length = self.line().await?;
            if length == 0 {
                return Ok(());
            }
            seen += length;
            if seen > LONGEST_HEAD {
                return Err(Failure::protocol("the trailers are too long"));
            }
        }
    }

    /// Drops the next line and returns its length without the line break.
    async fn line(&mut self) -> Result<usize, Failure> {
        loop {
            if let Some(at) = self.read.windows(2).position(|two| two == b"\r\n") {
                self.read.advance(at + 2);
                return Ok(at);
            }
            if self.read.len() > LONGEST_HEAD {
                return Err(Failure::protocol("a line is too long"));
            }
            self.more("in the middle of a body").await?;
        }
    }

    async fn until_close(&mut self, sink: &mut Sink<'_>) -> Result<(), Failure> {
        loop {
            sink.body(&self.read)?;
            self.read.clear();
            let read = self.stream.read_buf(&mut self.read).await;
            if read.map_err(|error| Failure::io(&error, "reading the answer"))? == 0 {
                return Ok(());
            }
        }
    }

    async fn more(&mut self, when: &str) -> Result<(), Failure> {
        self.read.reserve(READ);
        let read = self.stream.read_buf(&mut self.read).await;
        match read.map_err(|error| Failure::io(&error, "reading the answer"))? {
            0 => Err(Failure::closed(when)),
            _ => Ok(()),
        }
    }
}

/// The head at the start of these bytes and its length; `None` when it is not complete.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, Failure> {
    let mut fields = [EMPTY_HEADER; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response
        .parse(bytes)
        .map_err(|error| Failure::protocol(format!("the answer is not HTTP/1.1 ({error}): {}", shown(bytes))))?;
    let Status::Complete(length) = parsed else { return Ok(None) };
    let status = response.code.unwrap_or_default();
    let mut head = Head {
        status,
        reason: response.reason.unwrap_or_default().to_owned(),
        framing: if status == 204 || status == 304 { Framing::Length(0) } else { Framing::UntilClose },
        number: None,
        stays_open: response.version == Some(1),
    };
    let mut length_seen = None;
    for field in response.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let value = std::str::from_utf8(field.value).ok().and_then(|text| text.parse::<u64>().ok());
            let value = value.ok_or_else(|| Failure::protocol("the content length is no number"))?;
            if length_seen.is_some_and(|seen| seen != value) {
                return Err(Failure::protocol("the answer has two content lengths"));
            }
            length_seen = Some(value);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Failure::protocol("the answer has a transfer encoding other than chunked"));
            }
            head.framing = Framing::Chunked;
        } else if field.name.eq_ignore_ascii_case("connection") {
            head.stays_open &= !field.value.to_ascii_lowercase().windows(5).any(|part| part == b"close");
        } else if field.name.eq_ignore_ascii_case(NUMBER) {
            head.number = Some(field.value.to_vec());
        }
    }
    match (length_seen, &head.framing) {
        (Some(_), Framing::Chunked) => return Err(Failure::protocol("the answer has a content length and is chunked")),
        (Some(length), Framing::UntilClose) => head.framing = Framing::Length(length),
        (None, Framing::UntilClose) => head.stays_open = false,
        _ => {}
    }
    Ok(Some((length, head)))
}

const LONGEST_HEAD: usize = 64 << 10;
const MOST_FIELDS: usize = 100;
/// Room for a read: four TLS records, so that a large body takes few calls.
const READ: usize = 64 << 10;

#[cfg(test)]
mod tests;
