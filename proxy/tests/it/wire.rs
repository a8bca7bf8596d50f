//! HTTP/1.1 by hand: what is sent is exactly what stands in the test.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::eventually::soon;

/// One connection.
pub struct Wire<Io> {
    pub io: Io,
    buffer: Vec<u8>,
    /// Everything that was read.
    pub read: Vec<u8>,
}

/// One response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    /// The value of a header, if there is exactly one.
    pub fn header(&self, name: &str) -> Option<&str> {
        one(&self.headers, name)
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        one(&self.trailers, name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Wire<Io> {
    pub fn new(io: Io) -> Self {
        Self { io, buffer: Vec::new(), read: Vec::new() }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: eligibility.test\r\n\r\n")).await
    }

    /// Sends a request without surprises and reads its response.
    pub async fn ask(&mut self, request: &str) -> Answer {
        self.write(request).await;
        self.answer(!request.starts_with("HEAD ")).await
    }

    pub async fn write(&mut self, text: impl AsRef<[u8]>) {
        self.io.write_all(text.as_ref()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// Reads one response to its end.
    pub async fn answer(&mut self, has_body: bool) -> Answer {
        soon("a response", self.try_answer(has_body)).await.unwrap()
    }

    pub async fn try_answer(&mut self, has_body: bool) -> io::Result<Answer> {
        let (status, headers) = self.head().await?;
        let mut answer = Answer { status, headers, body: Vec::new(), trailers: Vec::new() };
        if !has_body || (100..200).contains(&status) || matches!(status, 204 | 304) {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = self.line().await?;
                let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
                if size == 0 {
                    break;
                }
                answer.body.extend(self.exactly(size).await?);
                assert_eq!(self.line().await?, "");
            }
            answer.trailers = self.fields().await?;
        } else if let Some(length) = answer.header("content-length") {
            answer.body = self.exactly(length.parse().map_err(io::Error::other)?).await?;
        } else {
            answer.body = std::mem::take(&mut self.buffer);
            self.io.read_to_end(&mut answer.body).await?;
        }
        Ok(answer)
    }

    /// Reads a status line and its fields.
    pub async fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let line = self.line().await?;
        let status = line.strip_prefix("HTTP/1.1 ").or(line.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {line}")))?;
        Ok((status, self.fields().await?))
    }

    async fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("no field: {line}")))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(io::Error::other);
            }
            self.fill().await?;
        }
    }

    /// Reads this many bytes.
    pub async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill().await?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    async fn fill(&mut self) -> io::Result<()> {
        let count = self.io.read_buf(&mut self.buffer).await?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed"));
        }
        self.read.extend_from_slice(&self.buffer[self.buffer.len() - count..]);
        Ok(())
    }

    /// Reads until the other side closes, with whatever still comes.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        // Cut without a goodbye counts as closed too.
        let _ = soon("the end of the connection", self.io.read_to_end(&mut rest)).await;
        rest
    }
}

fn one<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values = fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let value = values.next();
    if values.next().is_some() { None } else { value }
}
