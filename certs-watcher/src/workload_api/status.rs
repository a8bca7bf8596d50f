//! How a gRPC call ended: a code, and perhaps a message from whoever answered.

use std::fmt;

use http::HeaderMap;

use crate::certificate::printable;

/// A gRPC status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What kind of end.
    pub code: Code,
    /// The words of the other side, cleaned and cut short; may be empty.
    pub message: String,
}

impl Status {
    /// The status in these trailers, if there is one. A code that is no number is an unknown error.
    pub(super) fn of(trailers: &HeaderMap) -> Option<Self> {
        let code = trailers.get("grpc-status")?;
        let code = code.to_str().ok().and_then(|text| text.parse().ok()).map_or(Code::UNKNOWN, Code);
        let message = trailers.get("grpc-message").map_or_else(String::new, |text| unescape(text.as_bytes()));
        Some(Self { code, message })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if self.message.is_empty() {
            return Ok(());
        }
        write!(f, " (`{}`)", self.message)
    }
}

/// The number of a gRPC status; any number may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// The call ended well.
    pub const OK: Self = Self(0);
    /// An error that the other side could not classify.
    pub const UNKNOWN: Self = Self(2);
    /// The request is wrong; the Workload Endpoint standard uses it for one without its metadata.
    pub const INVALID_ARGUMENT: Self = Self(3);
    /// There is no identity for this workload.
    pub const PERMISSION_DENIED: Self = Self(7);
    /// The method does not exist there.
    pub const UNIMPLEMENTED: Self = Self(12);
    /// The agent cannot answer at the moment.
    pub const UNAVAILABLE: Self = Self(14);

    /// A fixed word for metrics.
    pub fn label(self) -> &'static str {
        self.row().0
    }

    fn row(self) -> (&'static str, &'static str) {
        let index = usize::try_from(self.0).unwrap_or(usize::MAX);
        CODES.get(index).copied().unwrap_or(("unknown", "an unknown code"))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().1)
    }
}

/// The percent-encoding of `grpc-message`. What is no escape stands for itself, as the protocol asks of a reader.
fn unescape(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match after.split_first_chunk::<2>() {
            Some((digits, after)) if first == b'%' => hex(*digits).map(|byte| (byte, after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((first, after));
        bytes.push(byte);
        rest = after;
    }
    printable(&String::from_utf8_lossy(&bytes))
}

fn hex([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |letter: u8| char::from(letter).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// The codes of gRPC in the order of their numbers: our word, and the name that the SPIFFE standards use.
const CODES: [(&str, &str); 17] = [
    ("ok", "OK"),
    ("cancelled", "Cancelled"),
    ("unknown", "Unknown"),
    ("invalid_argument", "InvalidArgument"),
    ("deadline_exceeded", "DeadlineExceeded"),
    ("not_found", "NotFound"),
    ("already_exists", "AlreadyExists"),
    ("permission_denied", "PermissionDenied"),
    ("resource_exhausted", "ResourceExhausted"),
    ("failed_precondition", "FailedPrecondition"),
    ("aborted", "Aborted"),
    ("out_of_range", "OutOfRange"),
    ("unimplemented", "Unimplemented"),
    ("internal", "Internal"),
    ("unavailable", "Unavailable"),
    ("data_loss", "DataLoss"),
    ("unauthenticated", "Unauthenticated"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_become_a_status() {
        let check = |code: &'static str, message: &'static str, label, shown: &str| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", code.parse().unwrap());
            trailers.insert("grpc-message", message.parse().unwrap());
            let status = Status::of(&trailers).unwrap();
            assert_eq!((status.code.label(), status.to_string().as_str()), (label, shown));
        };
        check("0", "", "ok", "OK");
        check("7", "no%20identity issued", "permission_denied", "PermissionDenied (`no identity issued`)");
        check("16", "100%", "unauthenticated", "Unauthenticated (`100%`)");
        check("14", "%zz%0a%c3%a9", "unavailable", "Unavailable (`%zz?é`)");
        check("17", "", "unknown", "an unknown code");
        check("4294967296", "", "unknown", "Unknown");
        check("-1", "%ff", "unknown", "Unknown (`\u{fffd}`)");
        assert_eq!(Status::of(&HeaderMap::new()), None);
    }

    #[test]
    fn a_message_is_cut_short() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "2".parse().unwrap());
        trailers.insert("grpc-message", "x".repeat(10_000).parse().unwrap());
        assert!(Status::of(&trailers).unwrap().message.chars().count() < 300);
    }
}
