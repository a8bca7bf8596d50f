//! HTTP/1.1 for the backend, as cheap as it gets: heads parsed by httparse, answers kept ready.
//!
//! A connection that begins with the preface of HTTP/2 is handed on to [`super::http2`].

use std::io;

use bytes::{Buf, BytesMut};
use httparse::{EMPTY_HEADER, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Pages;
use crate::client::response::NUMBER;

/// Serves one connection until it ends.
pub async fn serve(stream: TcpStream) {
    let mut serving =
        Serving { stream, read: BytesMut::with_capacity(READ), answer: Vec::new(), pages: Pages::default() };
    // Whoever is at the other end notices; nobody else needs to know.
    if let Ok(Ended::Http2) = serving.requests().await {
        super::http2::serve(serving.stream, serving.read.freeze()).await;
    }
}

struct Serving {
    stream: TcpStream,
    read: BytesMut,
    answer: Vec<u8>,
    pages: Pages,
}

enum Ended {
    Closed,
    Http2,
}

/// What a head says.
struct Head {
    path: String,
    number: Option<Vec<u8>>,
    body: Body,
    closes: bool,
}

/// How the end of a request's body is told.
enum Body {
    Length(u64),
    Chunked,
}

impl Serving {
    async fn requests(&mut self) -> io::Result<Ended> {
        loop {
            if is_prefix_of_preface(&self.read) {
                if self.read.len() >= PREFACE.len() {
                    return Ok(Ended::Http2);
                }
            } else if let Some((length, head)) = parse(&self.read)? {
                self.read.advance(length);
                match head.body {
                    Body::Length(length) => self.skip(length).await?,
                    Body::Chunked => self.skip_chunks().await?,
                }
                self.reply(&head).await?;
                if head.closes {
                    self.stream.shutdown().await?;
                    return Ok(Ended::Closed);
                }
                continue;
            }
            if self.read.len() > LONGEST_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if !self.more().await? {
                return Ok(Ended::Closed);
            }
        }
    }

    async fn more(&mut self) -> io::Result<bool> {
        self.read.reserve(READ);
        Ok(self.stream.read_buf(&mut self.read).await? > 0)
    }

    async fn skip(&mut self, mut left: u64) -> io::Result<()> {
        loop {
            let take = self.read.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.read.advance(take);
            left -= take as u64;
            if left == 0 {
                return Ok(());
            }
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Chunks, and trailers up to their empty line.
    async fn skip_chunks(&mut self) -> io::Result<()> {
        loop {
            let size = match httparse::parse_chunk_size(&self.read) {
                Ok(Status::Complete((length, size))) => {
                    self.read.advance(length);
                    size
                }
                Ok(Status::Partial) if self.read.len() <= LONGEST_HEAD => {
                    if !self.more().await? {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    continue;
                }
                Ok(Status::Partial) | Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            };
            if size > 0 {
                self.skip(size.saturating_add(2)).await?;
                continue;
            }
            loop {
                if let Some(at) = self.read.windows(2).position(|two| two == b"\r\n") {
                    self.read.advance(at + 2);
                    if at == 0 {
                        return Ok(());
                    }
                    continue;
                }
                if self.read.len() > LONGEST_HEAD || !self.more().await? {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
    }

    async fn reply(&mut self, head: &Head) -> io::Result<()> {
        let page = self.pages.at(&head.path);
        self.answer.clear();
        self.answer.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: ");
        self.answer.extend_from_slice(page.len().to_string().as_bytes());
        if let Some(number) = &head.number {
            self.answer.extend_from_slice(b"\r\n");
            self.answer.extend_from_slice(NUMBER.as_bytes());
            self.answer.extend_from_slice(b": ");
            self.answer.extend_from_slice(number);
        }
        if head.closes {
            self.answer.extend_from_slice(b"\r\nconnection: close");
        }
        self.answer.extend_from_slice(b"\r\n\r\n");
        self.answer.extend_from_slice(&page);
        self.stream.write_all(&self.answer).await
    }
}

fn is_prefix_of_preface(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().zip(PREFACE).all(|(found, expected)| found == expected)
}

fn parse(bytes: &[u8]) -> io::Result<Option<(usize, Head)>> {
    let mut fields = [EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
    let Status::Complete(length) = parsed else { return Ok(None) };
    let mut head = Head {
        path: request.path.unwrap_or("/").to_owned(),
        number: None,
        body: Body::Length(0),
        closes: request.version != Some(1),
    };
    for field in request.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let value = std::str::from_utf8(field.value).ok().and_then(|text| text.parse().ok());
            head.body = Body::Length(value.ok_or(io::ErrorKind::InvalidData)?);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            head.body = Body::Chunked;
        } else if field.name.eq_ignore_ascii_case("connection") {
            head.closes |= field.value.eq_ignore_ascii_case(b"close");
        } else if field.name.eq_ignore_ascii_case(NUMBER) && field.value.len() <= LONGEST_NUMBER {
            head.number = Some(field.value.to_vec());
        }
    }
    Ok(Some((length, head)))
}

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LONGEST_HEAD: usize = 64 << 10;
const LONGEST_NUMBER: usize = 64;
const MOST_FIELDS: usize = 100;
const READ: usize = 16 << 10;
