//! Opaque bytes for the backend: takes, gives or echoes them, see [`crate::client::opaque`].

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::opaque::{Direction, LONGEST_LINE, Place};

/// Serves one connection until it ends.
pub async fn serve(stream: TcpStream) {
    let mut serving = Serving { stream, buffer: vec![0; BUFFER], filled: 0, used: 0 };
    // Whoever is at the other end notices; nobody else needs to know.
    let _ = serving.transfers().await;
}

struct Serving {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What was read is in `buffer[used..filled]`.
    filled: usize,
    used: usize,
}

impl Serving {
    async fn transfers(&mut self) -> io::Result<()> {
        while let Some(line) = self.line().await? {
            let (direction, bytes) = Direction::parse(&line).ok_or(io::ErrorKind::InvalidData)?;
            match direction {
                Direction::Up => self.take(bytes).await?,
                Direction::Down => self.give(bytes).await?,
                // Without a length there is nothing but the echo until the end.
                Direction::Echo => self.echo(if bytes == 0 { u64::MAX } else { bytes }).await?,
            }
        }
        Ok(())
    }

    /// The next line without its line break; `None` at the end of the connection.
    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        loop {
            while let Some(byte) = self.pending().first().copied() {
                self.used += 1;
                if byte == b'\n' {
                    return Ok(Some(line));
                }
                line.push(byte);
                if line.len() > LONGEST_LINE {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn take(&mut self, mut left: u64) -> io::Result<()> {
        let (all, mut place) = (left, Place::default());
        let mut is_right = true;
        while left > 0 {
            if self.pending().is_empty() && !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let piece = self.piece(left);
            is_right &= place.matches(piece);
            let length = piece.len();
            self.used += length;
            left -= length as u64;
        }
        let receipt = if is_right { format!("ok {all}\n") } else { format!("no {all}\n") };
        self.stream.write_all(receipt.as_bytes()).await
    }

    async fn give(&mut self, mut left: u64) -> io::Result<()> {
        let mut place = Place::default();
        while left > 0 {
            let sent = self.stream.write(place.peek(left)).await?;
            place.advance(sent);
            left -= sent as u64;
        }
        Ok(())
    }

    async fn echo(&mut self, mut left: u64) -> io::Result<()> {
        while left > 0 {
            if self.pending().is_empty() && !self.more().await? {
                return Ok(());
            }
            let end = self.used + self.piece(left).len();
            let piece = self.buffer.get(self.used..end).unwrap_or_default();
            self.stream.write_all(piece).await?;
            left -= piece.len() as u64;
            self.used = end;
        }
        Ok(())
    }

    fn pending(&self) -> &[u8] {
        self.buffer.get(self.used..self.filled).unwrap_or_default()
    }

    /// What was read, at most so much of it.
    fn piece(&self, most: u64) -> &[u8] {
        let pending = self.pending();
        pending.get(..usize::try_from(most).unwrap_or(usize::MAX)).unwrap_or(pending)
    }

    async fn more(&mut self) -> io::Result<bool> {
        self.used = 0;
        self.filled = self.stream.read(&mut self.buffer).await?;
        Ok(self.filled > 0)
    }
}

const BUFFER: usize = 256 << 10;
