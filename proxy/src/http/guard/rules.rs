//! How many frames of each kind a peer may send: the numbers, and the counting.
//!
//! Each kind has a burst, and what is spent of it comes back with the work that legitimate frames of this kind go with,
//! and slowly with time. Frames are counted down; the clock and the work are only looked at when nothing is left.

use std::time::Duration;

use tokio::time::Instant;

/// How many frames of one kind are let through.
#[derive(Debug)]
pub struct Rule {
    /// So many at any time.
    pub burst: u32,
    /// So many more for each second, up to `burst`.
    pub per_second: u32,
    /// So many more for each HEADERS frame that we sent: a request, a response, or their trailers.
    pub per_head: u32,
    /// So many more for each DATA frame that we sent.
    pub per_data: u32,
    /// So many more for each RST_STREAM, sent or received.
    pub per_reset: u32,
}

/// What goes on beside the frames that are bounded. The counters wrap; only their growth is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// HEADERS that we sent.
    pub heads: u32,
    /// DATA frames that we sent.
    pub data: u32,
    /// RST_STREAM frames in both directions.
    pub resets: u32,
}

/// What is left for one kind.
#[derive(Debug)]
pub struct Allowance {
    rule: &'static Rule,
    left: u32,
    /// The work for which there was a refill.
    paid: Work,
    /// The time up to which there was one.
    since: Instant,
}

impl Allowance {
    /// A full one, with `more` beyond the rule's burst.
    pub fn new(rule: &'static Rule, more: u32, now: Instant) -> Self {
        Self { rule, left: rule.burst.saturating_add(more), paid: Work::default(), since: now }
    }

    /// Lets one frame through, or says that there were too many.
    pub fn spend(&mut self, work: Work) -> bool {
        if self.left == 0 {
            self.refill(work, Instant::now());
        }
        let spent = self.left.checked_sub(1);
        self.left = spent.unwrap_or_default();
        spent.is_some()
    }

    #[cold]
    fn refill(&mut self, work: Work, now: Instant) {
        let rule = self.rule;
        let worked = [
            (rule.per_head, work.heads.wrapping_sub(self.paid.heads)),
            (rule.per_data, work.data.wrapping_sub(self.paid.data)),
            (rule.per_reset, work.resets.wrapping_sub(self.paid.resets)),
        ];
        self.paid = work;
        let earned = worked.iter().fold(0_u32, |sum, (each, times)| sum.saturating_add(each.saturating_mul(*times)));
        let micros = now.saturating_duration_since(self.since).as_micros();
        let waited = micros.saturating_mul(u128::from(rule.per_second)) / MICROS;
        let waited = u32::try_from(waited).unwrap_or(u32::MAX);
        if waited < rule.burst {
            // Only the time that was paid for is over, so that no fraction of a frame gets lost.
            let paid = u64::from(waited) * MICROS as u64;
            self.since += Duration::from_micros(paid.checked_div(rule.per_second.into()).unwrap_or_default());
        } else {
            self.since = now;
        }
        self.left = earned.saturating_add(waited.min(rule.burst));
    }
}

const NOTHING: Rule = Rule { burst: 0, per_second: 0, per_head: 0, per_data: 0, per_reset: 0 };

/// HEADERS. A stream that we serve has at most two from its caller, one that we opened a response, trailers and perhaps
/// some 1xx, and each ends with HEADERS of ours or a RST_STREAM. Without an end there may be as many as the connection may
/// have streams open, which comes on top of the burst. What is left is what the HTTP library ignores: new streams after
/// our GOAWAY, and 1xx without end.
pub const HEADERS: Rule = Rule { burst: 200, per_second: 10, per_head: 8, per_reset: 8, ..NOTHING };
/// DATA frames without payload that do not end their stream: nobody needs them, some writers flush that way. The HTTP
/// library allows 100 in the life of a connection, and counts none on a stream that it ignores.
pub const EMPTY_DATA: Rule = Rule { burst: 100, ..NOTHING };
/// PRIORITY (deprecated by RFC 9113) is ignored. Firefox used to send six at the start and one or two for a request.
pub const PRIORITY: Rule = Rule { burst: 100, per_second: 10, per_head: 8, ..NOTHING };
/// Frames of types that we do not know are ignored: PRIORITY_UPDATE (RFC 9218) once or twice for a request, ORIGIN, ALTSVC,
/// and the reserved ones that browsers send now and then to keep servers tolerant.
pub const UNKNOWN: Rule = Rule { burst: 100, per_second: 10, per_head: 8, ..NOTHING };
/// RST_STREAM of the peer (rapid reset, CVE-2023-44487). A stream that was answered may be reset for nothing. Of the others,
/// 100 streams that all run into a deadline of half a second are 200 resets a second.
pub const RESETS: Rule = Rule { burst: 1_000, per_second: 200, per_head: 1, ..NOTHING };
/// RST_STREAM of ours (MadeYouReset, CVE-2025-8671). We reset a stream after an answer that came before the request's end,
/// and one that broke; as the caller, each one that we have opened and given up. The HTTP library allows 1024 in the life of
/// a connection that the peer's mistakes lead to.
pub const RESETS_CAUSED: Rule = RESETS;
/// SETTINGS and their acknowledgements. One at the start, one for ours, and one whenever a receiver that measures its
/// bandwidth (gRPC) doubles its window, which it does less than twenty times. Each is answered and may touch every stream.
pub const SETTINGS: Rule = Rule { burst: 100, per_second: 1, ..NOTHING };
/// PING and its acknowledgement. A receiver that measures its bandwidth sends one for each round trip in which it got
/// data, so for each DATA frame of ours at most; keep-alive is one in ten seconds. 100 a second are for whoever probes
/// without data.
pub const PING: Rule = Rule { burst: 1_000, per_second: 100, per_head: 1, per_data: 1, ..NOTHING };
/// GOAWAY: one or two to say goodbye, and one more when that ends early. Each is held against every stream.
pub const GOAWAY: Rule = Rule { burst: 16, per_second: 1, ..NOTHING };
/// WINDOW_UPDATE. Two for each DATA frame (stream and connection) where a receiver gives back every frame at once, some
/// more where it gives it back in the pieces in which it reads; one or two when a stream opens. 10 is what Envoy allows as well.
pub const WINDOW_UPDATE: Rule = Rule { burst: 1_000, per_second: 10, per_head: 4, per_data: 10, ..NOTHING };
/// Entries of one SETTINGS frame. Six are defined; 32 is what nghttp2, and so curl, nginx and Envoy, accept.
pub const SETTINGS_ENTRIES: u32 = 32;

const MICROS: u128 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { burst: 5, per_second: 10, per_head: 2, per_data: 3, per_reset: 1 };

    fn spent(allowance: &mut Allowance, work: Work) -> u32 {
        (0..1_000).take_while(|_| allowance.spend(work)).count().try_into().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_what_work_and_time_bring() {
        let mut allowance = Allowance::new(&RULE, 2, Instant::now());
        let mut work = Work::default();
        assert_eq!(spent(&mut allowance, work), 7);
        assert_eq!(spent(&mut allowance, work), 0);
        work = Work { heads: 1, data: 2, resets: 3 };
        assert_eq!(spent(&mut allowance, work), 2 + 6 + 3);
        assert_eq!(spent(&mut allowance, work), 0, "work is paid once");
        for _ in 0..4 {
            tokio::time::advance(Duration::from_millis(250)).await;
        }
        assert_eq!(spent(&mut allowance, work), 5, "time brings a burst at most");
        // 50 ms are half a frame: ten times that is five, and nothing of it is lost.
        let brought = async |allowance: &mut Allowance| {
            tokio::time::advance(Duration::from_millis(50)).await;
            spent(allowance, work)
        };
        let mut all = 0;
        for _ in 0..10 {
            all += brought(&mut allowance).await;
        }
        assert_eq!(all, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn counters_may_wrap() {
        let before = Work { heads: u32::MAX, data: u32::MAX, resets: 0 };
        let mut allowance = Allowance::new(&RULE, 0, Instant::now());
        allowance.paid = before;
        allowance.left = 0;
        assert_eq!(spent(&mut allowance, Work { heads: 0, ..before }), 2);
    }
}
