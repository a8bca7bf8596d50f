//! Watches for what may take an admission back, and judges the open connections.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use portcullis_policy::Policy;
use rustls_pki_types::UnixTime;

use crate::connections::{Entry, GRACE, Generation, Grounds, Judge, Level};
use crate::drain::Phase;
use crate::policy_store::unix_seconds;
use crate::sidecar::Sidecar;
use crate::telemetry::metrics::Direction;

/// Runs until the process ends.
pub(super) async fn run(sidecar: Arc<Sidecar>) {
    let mut credentials = sidecar.tls.credentials().changed();
    let mut policy = sidecar.policy.changed();
    let mut trust_seen = sidecar.tls.generation().trust;
    let mut ends = RuleEnds::default();
    loop {
        let round = tokio::select! {
            // Nothing is lost by dropping any of these: each only says that something is newer than what was seen.
            Ok(()) = credentials.changed() => {
                let trust = sidecar.tls.generation().trust;
                // A renewed leaf, or a new problem, takes no admission back.
                let changed = trust != trust_seen;
                trust_seen = trust;
                if changed { Round::Everything } else { Round::Expiry }
            }
            Ok(()) = policy.changed() => Round::Everything,
            () = sidecar.doubt.notified() => Round::Everything,
            () = tokio::time::sleep(ends.wait(SystemTime::now()).min(TICK)) => Round::Expiry,
            () = sidecar.tasks.reached(Phase::Ended) => return,
        };
        // Asked whatever it was that woke us: two things that happen at the same moment wake only once.
        let current = sidecar.policy.current();
        let passed = current.is_some_and(|loaded| ends.have_passed(loaded.number, &loaded.policy, unix_seconds()));
        let round = if passed { Round::Everything } else { round };
        judge_all(&sidecar, round).await;
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

async fn judge_all(sidecar: &Arc<Sidecar>, round: Round) {
    let snapshot = sidecar.tls.credentials().snapshot();
    let Some(own) = &snapshot.material else { return };
    let policy = sidecar.policy.current();
    let generation = Generation {
        identity: snapshot.identity_generation,
        trust: snapshot.trust_generation,
        policy: policy.as_ref().map_or(0, |loaded| loaded.number),
    };
    let grounds = Grounds { trust: Arc::clone(&snapshot.trust), policy, own: own.id().clone(), generation };
    let mut judge = Judge::new(grounds);
    let now = UnixTime::now();
    for some in sidecar.connections.snapshot().chunks(CHUNK) {
        for entry in some {
            let objection = match round {
                Round::Expiry => judge.ended(entry, now),
                Round::Everything => judge.objection(entry, now),
            };
            match objection {
                Some(cause) => close(sidecar, entry, cause),
                // Its caller may do something still; what is in flight may be something else.
                None if round == Round::Everything => entry.signal.doubt(),
                None => {}
            }
        }
        // The admin page and the watchers share this thread.
        tokio::task::yield_now().await;
    }
}

/// Lets the requests in flight finish, for a grace, and then cuts.
fn close(sidecar: &Arc<Sidecar>, entry: &Arc<Entry>, cause: &'static str) {
    // A drain has raised the level already, and may take its time; this may not.
    if !entry.signal.condemn(cause) {
        return;
    }
    let opened = &entry.opened;
    sidecar.telemetry.metrics.connection_closed(opened.direction, cause);
    let peer = opened.peer.as_ref();
    let policy = sidecar.policy.current().filter(|_| opened.direction == Direction::Inbound);
    tracing::warn!(
        direction = opened.direction.label(),
        carries = opened.carries.label(),
        peer = peer.map(|peer| peer.id.to_string()),
        serial = peer.map(|peer| peer.serial.as_str()),
        address = %opened.address,
        cause,
        policy_revision = policy.as_ref().map(|loaded| loaded.policy.revision()),
        policy_git_revision = policy.as_ref().and_then(|loaded| loaded.git_revision.as_deref()),
        "an open connection must end: what allowed it no longer holds"
    );
    let entry = Arc::clone(entry);
    sidecar.tasks.spawn(async move {
        tokio::time::sleep(GRACE).await;
        entry.signal.raise(Level::Cut, cause);
    });
}

/// How late the end of a certificate may be noticed.
const TICK: Duration = Duration::from_secs(1);
/// Connections judged between two looks at what else there is to do.
const CHUNK: usize = 64;

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
