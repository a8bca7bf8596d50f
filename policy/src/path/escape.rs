//! Percent escapes: one spelling for each character, and nothing that must not be in a path.
//!
//! Unreserved characters are never escaped, others in upper case, raw ASCII that RFC 3986 section 3.3 does not allow in
//! a path is escaped. Neither slashes nor dots are interpreted here.

use std::borrow::Cow;

use super::{EncodedSlash, PathError};

/// The path with every character in its one spelling; borrowed when it was so already.
pub(super) fn normalise(raw: &[u8], encoded_slash: EncodedSlash) -> Result<Cow<'_, str>, PathError> {
    let mut out: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some((first, rest)) = raw.get(at..).and_then(<[u8]>::split_first) {
        let (taken, spelling) = match *first {
            b'%' => escaped(rest, encoded_slash)?,
            b'\\' => return Err(PathError::Backslash),
            b if b.is_ascii_control() => return Err(PathError::ControlCharacter),
            b if b == b' ' || b == b'#' || !b.is_ascii() => return Err(PathError::UnescapedCharacter),
            b if is_path_byte(b) => (1, Spelling::Raw(b)),
            b => (1, Spelling::Escape(b)),
        };
        let original = raw.get(at..at + taken).unwrap_or_default();
        if out.is_none() && !spelling.is(original) {
            out = Some(raw.get(..at).unwrap_or_default().to_vec());
        }
        if let Some(out) = &mut out {
            spelling.push(original, out);
        }
        at += taken;
    }
    // Only ASCII was let through, so neither conversion can fail.
    match out {
        None => std::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| PathError::NotUtf8),
        Some(out) => String::from_utf8(out).map(Cow::Owned).map_err(|_| PathError::NotUtf8),
    }
}

/// How a character is written in normal form.
#[derive(Clone, Copy)]
enum Spelling {
    Raw(u8),
    Escape(u8),
    /// Several escapes that make one character beyond ASCII; only the digits may need upper case.
    Escapes,
}

impl Spelling {
    fn is(self, original: &[u8]) -> bool {
        match self {
            Self::Raw(b) => original == [b],
            Self::Escape(b) => original == escape(b),
            Self::Escapes => !original.iter().any(u8::is_ascii_lowercase),
        }
    }

    fn push(self, original: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Raw(b) => out.push(b),
            Self::Escape(b) => out.extend(escape(b)),
            Self::Escapes => out.extend(original.iter().map(u8::to_ascii_uppercase)),
        }
    }
}

/// Reads the escape whose `%` has just been taken; answers how many bytes it spans, with the `%`, and its spelling.
fn escaped(rest: &[u8], encoded_slash: EncodedSlash) -> Result<(usize, Spelling), PathError> {
    let byte = hex_pair(rest).ok_or(PathError::BadEscape)?;
    match byte {
        b'/' if encoded_slash == EncodedSlash::Refuse => Err(PathError::EncodedSlash),
        b'\\' => Err(PathError::Backslash),
        b if b.is_ascii_control() => Err(PathError::ControlCharacter),
        b if is_unreserved(b) => Ok((3, Spelling::Raw(b))),
        b if b.is_ascii() => Ok((3, Spelling::Escape(b))),
        lead => multibyte(lead, rest),
    }
}

/// A character beyond ASCII: its bytes must all be escaped and follow each other, because raw ones are refused.
fn multibyte(lead: u8, rest: &[u8]) -> Result<(usize, Spelling), PathError> {
    let length = match lead {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Err(PathError::NotUtf8),
    };
    let mut bytes = [lead, 0, 0, 0];
    for (index, byte) in bytes.iter_mut().enumerate().take(length).skip(1) {
        let next = rest.get(index * 3 - 1..).and_then(|next| next.strip_prefix(b"%"));
        *byte = next.and_then(hex_pair).ok_or(PathError::NotUtf8)?;
    }
    let text = std::str::from_utf8(bytes.get(..length).unwrap_or_default()).map_err(|_| PathError::NotUtf8)?;
    // U+0080 to U+009F are control characters as well.
    if text.chars().any(char::is_control) {
        return Err(PathError::ControlCharacter);
    }
    Ok((length * 3, Spelling::Escapes))
}

/// The byte that two hexadecimal digits at the start of `text` name.
pub(super) fn hex_pair(text: &[u8]) -> Option<u8> {
    let [high, low, ..] = text else { return None };
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? * 16 + digit(*low)?)
}

/// `%XX`.
pub(super) fn escape(byte: u8) -> [u8; 3] {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
    [b'%', digit(byte >> 4), digit(byte & 15)]
}

/// RFC 3986 section 2.3.
pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986 section 3.3 without escapes, and the slash.
pub(super) fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || byte == b'/' || is_reserved_in_segment(byte)
}

/// What may stand in a segment raw and escaped and is not the same to every server: sub-delims, `:` and `@`.
pub(super) fn is_reserved_in_segment(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}
