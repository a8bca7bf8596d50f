//! HTTP/2 frame by frame: what is sent is exactly what stands in the test (RFC 9113, RFC 7541).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf, WriteHalf, split};

/// A connection, frame by frame.
pub struct Frames<Io> {
    pub read: ReadHalf<Io>,
    pub write: WriteHalf<Io>,
}

/// A frame that came.
pub struct Arrived {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Frames<Io> {
    pub fn over(io: Io) -> Self {
        let (read, write) = split(io);
        Self { read, write }
    }

    pub async fn next(&mut self) -> io::Result<Arrived> {
        next(&mut self.read).await
    }

    pub async fn goodbye(&mut self) -> Option<u32> {
        goodbye(&mut self.read).await
    }

    /// The status of the first response, or the code of a GOAWAY.
    pub async fn status_or_goodbye(&mut self) -> Result<u16, u32> {
        loop {
            let Arrived { kind, stream, payload, .. } = self.next().await.map_err(|_| 0_u32)?;
            match kind {
                HEADERS if stream == 1 => return Ok(status(&payload)),
                GOAWAY => return Err(code_of(&payload)),
                _ => {}
            }
        }
    }
}

pub async fn next(read: &mut (impl AsyncRead + Unpin)) -> io::Result<Arrived> {
    let mut head = [0; 9];
    read.read_exact(&mut head).await?;
    let [high, middle, low, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
    read.read_exact(&mut payload).await?;
    Ok(Arrived { kind, flags, stream: u32::from_be_bytes(stream), payload })
}

/// Reads to the end, and returns the error code of the last GOAWAY.
pub async fn goodbye(read: &mut (impl AsyncRead + Unpin)) -> Option<u32> {
    let mut code = None;
    while let Ok(arrived) = next(read).await {
        if arrived.kind == GOAWAY {
            code = Some(code_of(&arrived.payload));
        }
    }
    code
}

pub fn code_of(goaway: &[u8]) -> u32 {
    u32::from_be_bytes(goaway[4..8].try_into().unwrap())
}

/// The status at the front of a block of ours: from the static table, or a literal behind the name of `:status`, perhaps by
/// Huffman's code (RFC 7541 appendices A and B).
pub fn status(block: &[u8]) -> u16 {
    match block {
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        [0x08 | 0x48, 3, digits @ ..] => std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap(),
        [0x08 | 0x48, length, packed @ ..] if length & 0x80 != 0 => {
            huffman_digits(&packed[..usize::from(length & 0x7f)])
        }
        other => panic!("no status: {other:02x?}"),
    }
}

/// Three digits: `0` to `2` take five bits, 00000 and on, the others six, 011001 and on.
fn huffman_digits(packed: &[u8]) -> u16 {
    let bits: Vec<u16> =
        packed.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1))).collect();
    let number = |from: usize, count: usize| bits[from..from + count].iter().fold(0, |sum, bit| 2 * sum + bit);
    let mut from = 0;
    (0..3).fold(0, |status, _| {
        let short = number(from, 5);
        let (digit, length) = if short <= 2 { (short, 5) } else { (number(from, 6) - 0b01_1001 + 3, 6) };
        from += length;
        10 * status + digit
    })
}

/// A header block of literals that are not indexed, with any bytes.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else { return block.push(u8::try_from(length).unwrap()) };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128 + 128).unwrap());
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub fn request(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, GET)
}

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `:method: GET`, `:scheme: https`, `:path: /` by the static table, and `:authority` as a literal.
pub const GET: &[u8] = b"\x82\x87\x84\x01\x10eligibility.test";
pub const POST: &[u8] = b"\x83\x87\x84\x01\x10eligibility.test";

// Types, flags and error codes (RFC 9113 sections 6 and 7).
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
pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PROTOCOL_ERROR: u32 = 0x1;
pub const FRAME_SIZE_ERROR: u32 = 0x6;
pub const ENHANCE_YOUR_CALM: u32 = 0xb;
