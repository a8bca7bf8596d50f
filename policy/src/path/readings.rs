//! Every path that some server may take a doubtful one for.
//!
//! A path in normal form is in doubt when it still holds `;` or an escape that a server may decode to something with a
//! meaning: `%25`, `%23`, `%3B`, `%3F`, `%2F`, and the characters that may stand raw as well (`%3A` and `:` are one
//! to most servers). From it every step a server may take is taken, in every order, until nothing new comes.

use std::borrow::Cow;

use super::escape::{escape, hex_pair, is_path_byte, is_reserved_in_segment, is_unreserved};
use super::segments::{resolve, resolve_merged_first};

/// What to decide on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readings {
    /// The forwarded path is the only one.
    AsForwarded,
    /// The forwarded path and these.
    Several(Vec<String>),
    /// One reading is never allowed, or there are too many.
    Denied,
}

/// A reading that is never allowed: a backslash, NUL or control character has come to light.
struct Forbidden;

/// Whether servers may differ about a path in normal form.
pub(super) fn needs_readings(path: &str) -> bool {
    let bytes = path.as_bytes();
    let doubtful_escape = |at: usize| {
        let byte = bytes.get(at + 1..).and_then(hex_pair).unwrap_or_default();
        matches!(byte, b'%' | b'#' | b'?' | b'/') || is_reserved_in_segment(byte)
    };
    bytes.iter().enumerate().any(|(at, byte)| *byte == b';' || (*byte == b'%' && doubtful_escape(at)))
}

/// All readings of a path in normal form.
pub(super) fn read(forward: &str) -> Readings {
    if forward.len() > MAX_DOUBTFUL_BYTES {
        return Readings::Denied;
    }
    let mut states = vec![forward.to_owned()];
    let mut readings = states.clone();
    let mut next = 0;
    while let Some(state) = states.get(next).cloned() {
        next += 1;
        let Ok(decoded) = decode(&state) else { return Readings::Denied };
        // A server may resolve dots before slashes, or slashes before dots, at any point or only at the end.
        let resolved = [resolve(Cow::Borrowed(state.as_str())).into_owned(), resolve_merged_first(&state)];
        for reading in &resolved {
            add(&mut readings, reading);
        }
        let steps = [decoded, cut_parameters(&state), cut_at(&state, "%23"), cut_at(&state, "%3F")];
        for step in steps.iter().chain(&resolved) {
            add(&mut states, step);
        }
        if states.len() > MAX_STATES || readings.len() > MAX_READINGS {
            return Readings::Denied;
        }
    }
    readings.remove(0);
    if readings.is_empty() { Readings::AsForwarded } else { Readings::Several(readings) }
}

fn add(all: &mut Vec<String>, one: &str) {
    if !all.iter().any(|known| known == one) {
        all.push(one.to_owned());
    }
}

/// Decodes every escape once, then spells the result in normal form again. A `%` that starts no valid escape is an
/// ordinary character.
fn decode(path: &str) -> Result<String, Forbidden> {
    let mut text = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (first, hex_pair(after)) {
            (b'%', Some(byte)) => (byte, after.get(2..).unwrap_or_default()),
            (byte, _) => (*byte, after),
        };
        text.push(byte);
        rest = after;
    }
    spell(&text)
}

/// Normal form of decoded text: valid escapes stay (a further decoding may take them), the rest is spelled as a path.
fn spell(text: &[u8]) -> Result<String, Forbidden> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (*first, hex_pair(after)) {
            (b'\\', _) => return Err(Forbidden),
            (byte, _) if byte.is_ascii_control() => return Err(Forbidden),
            (b'%', Some(byte)) => {
                rest = after.get(2..).unwrap_or_default();
                if is_unreserved(byte) { out.push(byte) } else { out.extend(escape(byte)) }
            }
            (byte, _) if is_path_byte(byte) => out.push(byte),
            (byte, _) => out.extend(escape(byte)),
        }
    }
    // Every byte beyond ASCII was escaped.
    String::from_utf8(out).map_err(|_| Forbidden)
}

fn cut_parameters(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    segments.join("/")
}

fn cut_at(path: &str, delimiter: &str) -> String {
    path.split(delimiter).next().unwrap_or_default().to_owned()
}

/// Two escapes at three depths with parameters and a cut stay below it; a path that means more things than that is an
/// attack, and each reading costs a decision.
const MAX_READINGS: usize = 32;

/// Steps on the way to readings, most of which are readings or lead to one that is known.
const MAX_STATES: usize = 4 * MAX_READINGS;

/// A bound on the work of finding them, which grows with the square of the number and with the length.
const MAX_DOUBTFUL_BYTES: usize = 4096;
