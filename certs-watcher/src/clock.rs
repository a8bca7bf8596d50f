//! Where the time comes from, and how it is written.
//!
//! Everything here that depends on the time takes a `now`; only the watcher reads a [`Clock`], so that a test can be
//! before, within and after any validity without waiting.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::UnixTime;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Tells the wall-clock time, in whole seconds.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// The clock of the system.
pub fn system_clock() -> Clock {
    Arc::new(UnixTime::now)
}

/// Writes a time as RFC 3339 in UTC, `2026-11-22T03:29:01Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub UnixTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let text = i64::try_from(seconds)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .and_then(|time| time.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            // Only a year past 9999 comes here; the number is still useful to a reader.
            None => write!(f, "{seconds} s after 1970"),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let check = |seconds, text: &str| {
            assert_eq!(Timestamp(UnixTime::since_unix_epoch(Duration::from_secs(seconds))).to_string(), text);
        };
        check(0, "1970-01-01T00:00:00Z");
        check(1_795_318_141, "2026-11-22T03:29:01Z");
        check(u64::MAX, "18446744073709551615 s after 1970");
    }
}
