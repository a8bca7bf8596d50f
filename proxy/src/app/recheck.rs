//! Watches for what may take an admission back, and judges the open connections.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use portcullis_policy::Policy;
use rustls_pki_types::UnixTime;
use tokio::time::{Instant, MissedTickBehavior};

use super::sentences::Sentences;
use crate::connections::Judge;
use crate::drain::Phase;
use crate::policy_store::unix_seconds;
use crate::sidecar::Sidecar;

/// Runs until the process ends.
pub(super) async fn run(sidecar: Arc<Sidecar>) {
    let mut credentials = sidecar.tls.credentials().changed();
    let mut policy = sidecar.policy.changed();
    // Not that of now: connections may have been let in before this task got its first turn, and trust have changed since.
    let mut trust_seen = 0;
    let mut ends = RuleEnds::default();
    let mut sentences = Sentences::new(sidecar.timeouts.recheck_grace);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let round = tokio::select! {
            // Nothing is lost by dropping any of these: each only says that something is newer than what was seen, or due.
            Ok(()) = credentials.changed() => {
                let trust = sidecar.tls.generation().trust;
                // A renewed leaf, or a new problem, takes no admission back.
                let changed = trust != trust_seen;
                trust_seen = trust;
                if changed { Round::Everything } else { Round::Expiry }
            }
            Ok(()) = policy.changed() => Round::Everything,
            _ = ticks.tick() => Round::Expiry,
            () = tokio::time::sleep(ends.wait(SystemTime::now()).min(TICK)) => Round::Expiry,
            () = sentences.due() => {
                sentences.carry_out();
                continue;
            }
            () = sidecar.tasks.reached(Phase::Ended) => return,
        };
        // Asked whatever it was that woke us: two things that happen at the same moment wake only once.
        let current = sidecar.policy.current();
        let passed = current.is_some_and(|loaded| ends.have_passed(loaded.number, &loaded.policy, unix_seconds()));
        let round = if passed { Round::Everything } else { round };
        judge_all(&sidecar, round, &mut sentences).await;
    }
}

/// When the next rule of the policy in force ends. It is looked up once for each policy and each end, because there may be
/// a hundred thousand rules, and never forgotten because the clock went on meanwhile.
#[derive(Debug, Default)]
struct RuleEnds {
    policy: u64,
    asked: i64,
    next: Option<i64>,
}

impl RuleEnds {
    /// Whether a rule of the policy of this number has ended since this was asked before.
    fn have_passed(&mut self, number: u64, policy: &Policy, now: i64) -> bool {
        let passed = self.policy == number && self.next.is_some_and(|end| end <= now);
        // A clock that is set back brings rules into force again, and they end again.
        if passed || self.policy != number || now < self.asked {
            self.next = policy.next_expiry(now);
        }
        (self.policy, self.asked) = (number, now);
        passed
    }

    /// The time from `now` to the next end.
    fn wait(&self, now: SystemTime) -> Duration {
        let end = self.next.and_then(|end| u64::try_from(end).ok()).map(Duration::from_secs);
        let end = end.and_then(|end| SystemTime::UNIX_EPOCH.checked_add(end));
        end.map_or(Duration::MAX, |end| end.duration_since(now).unwrap_or_default())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Only what time has changed: certificates that have ended.
    Expiry,
    /// Trust and policy as well.
    Everything,
}

async fn judge_all(sidecar: &Sidecar, round: Round, sentences: &mut Sentences) {
    let Some(grounds) = sidecar.grounds() else { return };
    // Another judge for what is about to end: each remembers what it found, for its own moment.
    let (mut judge, mut foresight) = (Judge::new(grounds.clone()), Judge::new(grounds));
    let now = UnixTime::now();
    let soon = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + FORESIGHT);
    let mut turn = Instant::now();
    let open = sidecar.connections.snapshot();
    for entry in open.into_iter().filter(|entry| entry.signal.condemned().is_none()) {
        let objection = match round {
            Round::Expiry => judge.ended(&entry, now),
            Round::Everything => judge.objection(&entry, now),
        };
        if let Some(objection) = objection {
            if sidecar.condemn(&entry, &objection) {
                sentences.pass(&entry);
            }
        } else {
            if round == Round::Everything {
                // Its caller may do something still; what is in flight may be something else.
                entry.signal.doubt();
            }
            // Whoever hears of it before uses another connection by then, and loses nothing.
            if entry.takes_goodbye()
                && let Some(ending) = foresight.ended(&entry, soon)
            {
                sidecar.foretell(&entry, &ending);
            }
        }
        if turn.elapsed() >= TURN {
            // The probes, the admin page and the watchers share this thread, and requests its core.
            tokio::task::yield_now().await;
            sentences.carry_out();
            turn = Instant::now();
        }
    }
}

/// How late the end of a certificate may be noticed.
const TICK: Duration = Duration::from_secs(1);
/// How long before the end of a certificate HTTP is told to go elsewhere: two looks, and a round trip.
const FORESIGHT: Duration = Duration::from_secs(2);
/// How long connections are judged before others have their turn. One proof of a chain takes a tenth of that.
const TURN: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use portcullis_policy::File;

    use super::*;

    /// A policy with a rule that ends at each of these seconds of the year 1970.
    fn ending_at(seconds: &[i64]) -> Policy {
        let rule = |second| {
            let expires = format!("1970-01-01T00:{:02}:{:02}Z", second / 60, second % 60);
            let from = "from: {identities: [spiffe://prod.test/a/b]}";
            format!("    - {{name: until-{second}, {from}, expires: \"{expires}\"}}\n")
        };
        let rules: String = seconds.iter().map(rule).collect();
        let head = "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\n";
        let text = format!("{head}spec:\n  allow:\n{rules}");
        Policy::compile(&[File { name: "a.yaml", bytes: text.as_bytes() }]).unwrap().policy
    }

    #[test]
    fn no_end_of_a_rule_is_missed_whenever_it_is_asked_for() {
        let (policy, other) = (ending_at(&[100, 200, 300]), ending_at(&[250]));
        let mut ends = RuleEnds::default();
        for (number, policy, now, passed, wait) in [
            (1, &policy, 50, false, Some(50)),
            (1, &policy, 99, false, Some(1)),
            // The very second, however it came to be asked.
            (1, &policy, 100, true, Some(100)),
            (1, &policy, 100, false, Some(100)),
            // Two at once, as after a machine was asleep.
            (1, &policy, 350, true, None),
            (1, &policy, 351, false, None),
            // The clock is set back.
            (1, &policy, 150, false, Some(50)),
            (1, &policy, 200, true, Some(100)),
            // Another policy has ends of its own; what ended before it came is judged because it came.
            (2, &other, 201, false, Some(49)),
            (2, &other, 251, true, None),
        ] {
            assert_eq!(ends.have_passed(number, policy, now), passed, "policy {number} at {now}");
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(now.unsigned_abs());
            assert_eq!(ends.wait(at), wait.map_or(Duration::MAX, Duration::from_secs), "policy {number} at {now}");
        }
    }

    #[test]
    fn a_wait_ends_with_the_second_in_which_the_rule_does() {
        let ends = RuleEnds { policy: 1, asked: 99, next: Some(100) };
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(ends.wait(at(99_750)), Duration::from_millis(250));
        assert_eq!(ends.wait(at(100_001)), Duration::ZERO);
    }
}
