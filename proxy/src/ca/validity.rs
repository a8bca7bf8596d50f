//! From when to when a certificate or a revocation list holds, and the strict reading of lengths of time.
//!
//! Times are whole seconds, as in a certificate, so that what is reported is what is signed.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Error;

/// From when to when something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From a minute ago until this long from the moment of signing.
    For(Duration),
    /// Exactly this, in the past or in the future.
    Between(OffsetDateTime, OffsetDateTime),
}

impl Validity {
    /// A number of hours from the moment of signing.
    pub const fn hours(hours: u64) -> Self {
        Self::For(Duration::from_secs(hours * 60 * 60))
    }

    /// A number of days from the moment of signing.
    pub const fn days(days: u64) -> Self {
        Self::hours(days * 24)
    }

    pub(super) fn window(self, now: OffsetDateTime) -> Result<Window, Error> {
        let (not_before, not_after) = match self {
            Self::Between(not_before, not_after) => (not_before, not_after),
            Self::For(lifetime) => {
                let lifetime = time::Duration::try_from(lifetime).map_err(|_| Error::TimeOverflow)?;
                let not_before = now.checked_sub(BACKDATE).ok_or(Error::TimeOverflow)?;
                (not_before, now.checked_add(lifetime).ok_or(Error::TimeOverflow)?)
            }
        };
        Window { not_before: whole_seconds(not_before), not_after: whole_seconds(not_after) }.not_empty()
    }
}

/// A begin and an end that is after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

impl Window {
    /// Ends no later than `end`.
    ///
    /// # Errors
    /// When nothing would be left.
    pub(super) fn until(self, end: OffsetDateTime) -> Result<Self, Error> {
        Self { not_after: self.not_after.min(end), ..self }.not_empty()
    }

    /// The lifetime that was asked for: what back-dating adds is left out.
    pub(super) fn lifetime(self) -> time::Duration {
        self.not_after - self.not_before - BACKDATE
    }

    fn not_empty(self) -> Result<Self, Error> {
        if self.not_before < self.not_after {
            return Ok(self);
        }
        Err(Error::ValidityEmpty { not_before: timestamp(self.not_before), not_after: timestamp(self.not_after) })
    }
}

/// Reads a length of time such as `45s`, `30m`, `24h` or `90d`: digits that do not begin with a zero, then the unit.
///
/// # Errors
/// For anything else, a fraction, a space or a zero among it.
pub fn parse_lifetime(text: &str) -> Result<Duration, Error> {
    let wrong = || Error::Lifetime { text: text.to_owned() };
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// A time as people and machines read it: RFC 3339 in UTC.
pub fn timestamp(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap_or_else(|_| time.unix_timestamp().to_string())
}

/// Cuts off what a certificate cannot say.
pub(super) fn whole_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time - time::Duration::nanoseconds(i64::from(time.nanosecond()))
}

/// Clocks of a fleet differ by seconds; a certificate must not be too young for the first peer that sees it.
const BACKDATE: time::Duration = time::Duration::MINUTE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_read_strictly() {
        for (text, seconds) in [("45s", 45), ("30m", 1800), ("24h", 86_400), ("90d", 7_776_000)] {
            assert_eq!(parse_lifetime(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in [
            "",
            "h",
            "24",
            "24H",
            "0h",
            "024h",
            "+1h",
            "-1h",
            " 1h",
            "1 h",
            "1.5h",
            "1h30m",
            "1w",
            "1ä",
            "99999999999999999999d",
            "999999999999999999d",
        ] {
            assert!(parse_lifetime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn begins_a_minute_ago() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let window = Validity::hours(24).window(now + time::Duration::milliseconds(5)).unwrap();
        assert_eq!(window.not_before, now - time::Duration::MINUTE);
        assert_eq!(window.not_after, now + time::Duration::DAY);
        assert_eq!(window.lifetime(), time::Duration::DAY);
    }

    #[test]
    fn refuses_an_end_out_of_reach_or_before_the_begin() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        assert!(matches!(Validity::For(Duration::MAX).window(now), Err(Error::TimeOverflow)));
        assert!(matches!(Validity::days(10_000 * 366).window(now), Err(Error::TimeOverflow)));
        assert!(matches!(Validity::Between(now, now).window(now), Err(Error::ValidityEmpty { .. })));
        let window = Validity::hours(1).window(now).unwrap();
        assert!(matches!(window.until(now - time::Duration::DAY), Err(Error::ValidityEmpty { .. })));
    }
}
