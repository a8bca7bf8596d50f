//! Times and lengths of time as people say them.

use portcullis_certs_watcher::Timestamp;
use rustls_pki_types::UnixTime;

/// `in 7 h`, `3 min ago`, `just now`.
pub(super) fn relative(time: Timestamp, now: UnixTime) -> String {
    let (time, now) = (time.0.as_secs(), now.as_secs());
    match time.abs_diff(now) {
        0 => "just now".to_owned(),
        seconds if time > now => format!("in {}", length(seconds)),
        seconds => format!("{} ago", length(seconds)),
    }
}

/// A length of time in its largest unit that leaves two of it or more, rounded down.
pub(super) fn length(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    let units = [(YEAR, "years"), (DAY, "days"), (HOUR, "h"), (MINUTE, "min")];
    let fitting = units.into_iter().find(|(unit, _)| seconds >= 2 * unit);
    let (unit, name) = fitting.unwrap_or((1, "s"));
    format!("{} {name}", seconds / unit)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_told_from_now() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let now = 1_000_000_000;
        for (seconds, text) in [
            (now, "just now"),
            (now + 1, "in 1 s"),
            (now + 119, "in 119 s"),
            (now + 120, "in 2 min"),
            (now + 7 * 3600 + 59, "in 7 h"),
            (now + 47 * 3600, "in 47 h"),
            (now + 48 * 3600, "in 2 days"),
            (now + 10 * 365 * 86400, "in 10 years"),
            (now - 180, "3 min ago"),
            (0, "31 years ago"),
            (u64::MAX, "in 584942417323 years"),
        ] {
            assert_eq!(relative(Timestamp(at(seconds)), at(now)), text);
        }
    }
}
