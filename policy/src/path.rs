//! The one form of a request path: made once, decided on, and forwarded.
//!
//! Pure functions over the bytes of an origin-form target (`/path?query`). What two servers could take for two
//! different paths is refused, rewritten to one form, or, where the application may need it as it stands, handed to the
//! decision in every reading. A path in normal form is recognised without allocation. The query is never looked at.

mod escape;
mod istio;
mod pattern;
mod readings;
mod segments;

pub(crate) use pattern::Segment as PathSegment;
pub use pattern::{PathPattern, PathPatternError};

use std::borrow::Cow;

use readings::{Readings, needs_readings, read};

/// What to do with `%2F`, a slash that is data to some applications and a separator to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodedSlash {
    /// Refuse the request.
    #[default]
    Refuse,
    /// Forward it as it stands and decide on every reading.
    Decide,
}

/// A path in normal form, with the readings to decide on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<'a> {
    forward: Cow<'a, str>,
    readings: Readings,
    target: &'a [u8],
    query_at: usize,
}

impl<'a> Path<'a> {
    /// Normalises the path of an origin-form request target; everything from the first `?` on is left alone.
    ///
    /// # Errors
    /// What must be answered with 400, whatever the policy says.
    pub fn normalise(target: &'a [u8], encoded_slash: EncodedSlash) -> Result<Self, PathError> {
        let query_at = target.iter().position(|b| *b == b'?').unwrap_or(target.len());
        let raw = target.get(..query_at).unwrap_or_default();
        if raw.first() != Some(&b'/') {
            return Err(PathError::NotAbsolute);
        }
        let forward = segments::resolve(escape::normalise(raw, encoded_slash)?);
        let readings = if needs_readings(&forward) { read(&forward) } else { Readings::AsForwarded };
        Ok(Self { forward, readings, target, query_at })
    }

    /// The path to forward, without the query.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.forward
    }

    /// The query as it came, without its `?`; `None` when there was no `?`.
    #[must_use]
    pub fn query(&self) -> Option<&'a [u8]> {
        self.target.get(self.query_at + 1..)
    }

    /// The path and query to forward; borrowed when the path came in normal form.
    #[must_use]
    pub fn target(&self) -> Cow<'a, [u8]> {
        match &self.forward {
            Cow::Borrowed(_) => Cow::Borrowed(self.target),
            Cow::Owned(path) => {
                let rest = self.target.get(self.query_at..).unwrap_or_default();
                Cow::Owned([path.as_bytes(), rest].concat())
            }
        }
    }

    /// Every path that a server may take this one for, the forwarded one first; `None` when one of the readings is
    /// never allowed, or when there are too many to judge.
    #[must_use]
    pub fn readings(&self) -> Option<impl Iterator<Item = &str>> {
        let others: &[String] = match &self.readings {
            Readings::AsForwarded => &[],
            Readings::Several(others) => others,
            Readings::Denied => return None,
        };
        Some(std::iter::once(self.as_str()).chain(others.iter().map(String::as_str)))
    }
}

/// Why a path is answered with 400, whatever the policy says. The caller's side failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// `%2F`, where the application does not need it.
    #[error("the path holds an escaped slash")]
    EncodedSlash,
    /// A backslash, raw or escaped.
    #[error("the path holds a backslash")]
    Backslash,
    /// A control character, raw or escaped.
    #[error("the path holds a control character")]
    ControlCharacter,
    /// A raw space, `#` or byte beyond ASCII.
    #[error("the path holds a character that must be escaped")]
    UnescapedCharacter,
    /// A `%` without two hexadecimal digits after it.
    #[error("the path holds a bad escape")]
    BadEscape,
    /// Escapes that make no UTF-8.
    #[error("the path is not UTF-8")]
    NotUtf8,
}

impl PathError {
    /// A fixed word for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotAbsolute => "not_absolute",
            Self::EncodedSlash => "encoded_slash",
            Self::Backslash => "backslash",
            Self::ControlCharacter => "control_character",
            Self::UnescapedCharacter => "unescaped_character",
            Self::BadEscape => "bad_escape",
            Self::NotUtf8 => "not_utf8",
        }
    }
}

#[cfg(test)]
mod tests;
