//! A failure that repeats is logged once, then counted: a scanner or a broken client must not flood the log.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Remembers which failures of which addresses were logged lately.
#[derive(Debug, Default)]
pub struct Repeated {
    seen: Mutex<HashMap<(&'static str, IpAddr), Seen>>,
}

#[derive(Debug)]
struct Seen {
    logged: Instant,
    since: u64,
}

/// Whether to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// For the first time, or again after a while: with how many were left out meanwhile.
    Aloud {
        /// Occurrences since the last time it was logged.
        left_out: u64,
    },
    /// It was logged a moment ago.
    Quietly,
}

impl Repeated {
    /// Notes one occurrence at `now`.
    pub fn note(&self, label: &'static str, from: IpAddr, now: Instant) -> Say {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = seen.get_mut(&(label, from)) {
            if now.duration_since(known.logged) < QUIET {
                known.since += 1;
                return Say::Quietly;
            }
            let left_out = std::mem::take(&mut known.since);
            known.logged = now;
            return Say::Aloud { left_out };
        }
        if seen.len() >= MOST {
            seen.retain(|_, known| now.duration_since(known.logged) < QUIET);
        }
        if seen.len() >= MOST {
            // More sources than fit: one line for all of them would be wrong, a line each would be a flood.
            return Say::Quietly;
        }
        seen.insert((label, from), Seen { logged: now, since: 0 });
        Say::Aloud { left_out: 0 }
    }
}

/// One line a minute for each failure of each address.
const QUIET: Duration = Duration::from_secs(60);
/// A few hundred kilobytes at most.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_first_is_said_aloud_and_the_rest_is_counted() {
        let repeated = Repeated::default();
        let (from, start) = (IpAddr::V4(Ipv4Addr::LOCALHOST), Instant::now());
        assert_eq!(repeated.note("plaintext", from, start), Say::Aloud { left_out: 0 });
        for _ in 0..5 {
            assert_eq!(repeated.note("plaintext", from, start), Say::Quietly);
        }
        assert_eq!(repeated.note("timeout", from, start), Say::Aloud { left_out: 0 });
        assert_eq!(repeated.note("plaintext", from, start + QUIET), Say::Aloud { left_out: 5 });
    }

    #[test]
    fn memory_is_bounded_whoever_knocks() {
        let repeated = Repeated::default();
        let start = Instant::now();
        for number in 0..10_000u32 {
            repeated.note("plaintext", IpAddr::V4(number.into()), start);
        }
        assert!(repeated.seen.lock().unwrap().len() <= MOST);
        assert_eq!(repeated.note("plaintext", IpAddr::V4(9_999u32.into()), start + QUIET), Say::Aloud { left_out: 0 });
    }
}
