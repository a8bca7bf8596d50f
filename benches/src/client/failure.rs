//! How an operation fails: a kind that is counted, and words for the first few.

use std::borrow::Cow;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

/// One failed operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of a limited number of words, such as `timeout` or `status_403`.
    pub kind: Cow<'static, str>,
    /// What happened. Peer data in it is escaped and cut.
    pub text: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind: Cow::Borrowed(kind), text: text.into() }
    }

    /// An answer with another status than was asked for. The number of kinds is bounded by that of three-digit codes.
    pub fn status(found: u16, wanted: u16, reason: &str) -> Self {
        let reason = shown(reason.as_bytes());
        let text = match reason.is_empty() {
            true => format!("the answer had status {found} instead of {wanted}"),
            false => format!("the answer had status {found} instead of {wanted}: {reason}"),
        };
        Self { kind: Cow::Owned(format!("status_{found}")), text }
    }

    /// The connection ended where an answer, or more of it, was due.
    pub fn closed(when: &str) -> Self {
        Self::new("closed", format!("the target closed the connection {when}"))
    }

    /// The target spoke something else, or too much of it.
    pub fn protocol(text: impl Into<String>) -> Self {
        Self::new("protocol", text)
    }

    /// It took too long.
    pub fn timeout(text: impl Into<String>) -> Self {
        Self::new("timeout", text)
    }

    /// The answer is not the one to this question, or not the one that was given before.
    pub fn differs(text: impl Into<String>) -> Self {
        Self::new("body_differs", text)
    }

    /// No TCP connection came about.
    pub fn connect(error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connect_refused",
            io::ErrorKind::ConnectionReset => "connect_reset",
            io::ErrorKind::TimedOut => "timeout",
            io::ErrorKind::AddrNotAvailable => "no_local_port",
            _ => "connect",
        };
        let hint = match kind {
            "connect_refused" => ": nobody listens there",
            "no_local_port" => ": all local ports are in use, so use fewer connections per second",
            _ => "",
        };
        Self::new(kind, format!("no connection: {error}{hint}"))
    }

    /// A connection that was there failed, inside TLS or below it.
    pub fn io(error: &io::Error, during: &str) -> Self {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            return Self::tls(tls, during);
        }
        let kind = match error.kind() {
            io::ErrorKind::UnexpectedEof => "closed",
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => "reset",
            _ => "io",
        };
        Self::new(kind, format!("{during}: {error}"))
    }

    fn tls(error: &TlsError, during: &str) -> Self {
        match error {
            TlsError::AlertReceived(alert) => Self {
                kind: Cow::Owned(format!("refused_by_target_{}", alert_word(*alert))),
                text: format!("{during}: the target refused with the TLS alert {alert:?}"),
            },
            TlsError::InvalidCertificate(why) => {
                let why = match why {
                    // Our own verifier's words, which the library would show with its wrapping.
                    CertificateError::Other(ours) => ours.0.to_string(),
                    other => other.to_string(),
                };
                Self::new("target_certificate", format!("{during}: the target's certificate was refused: {why}"))
            }
            other => Self::new("tls", format!("{during}: {other}")),
        }
    }
}

/// Peer data for a message: printable ASCII, cut.
pub fn shown(bytes: &[u8]) -> String {
    let cut = bytes.get(..SHOWN).unwrap_or(bytes);
    let text: String = cut.escape_ascii().map(char::from).collect();
    if cut.len() < bytes.len() { format!("{text}…") } else { text }
}

/// The alerts have some 30 names, whose numbers a peer chooses freely: unknown ones share one word.
fn alert_word(alert: AlertDescription) -> String {
    if matches!(alert, AlertDescription::Unknown(_)) {
        return "unknown_alert".to_owned();
    }
    let mut word = String::new();
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

/// Enough to recognise what was sent.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_words_and_unknown_ones_share_one() {
        assert_eq!(alert_word(AlertDescription::CertificateRequired), "certificate_required");
        assert_eq!(alert_word(AlertDescription::Unknown(200)), "unknown_alert");
        let error = io::Error::other(TlsError::AlertReceived(AlertDescription::BadCertificate));
        assert_eq!(Failure::io(&error, "handshake").kind, "refused_by_target_bad_certificate");
    }

    #[test]
    fn peer_data_is_escaped_and_cut() {
        assert_eq!(shown(b"a\x1b[31m\n"), "a\\x1b[31m\\n");
        assert!(shown(&[b'x'; 5000]).len() < 110);
    }
}
