//! The record of one opaque TCP connection, written when it ends, whatever way that is.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::policy_store::Verdict;
use crate::tcp::{Carried, Ended};
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::Line;
use crate::telemetry::metrics::Direction;

/// See the module.
#[derive(Debug)]
pub struct OpaqueRecord {
    telemetry: Arc<Telemetry>,
    direction: Direction,
    port: u16,
    time: SystemTime,
    started: Instant,
    carried: Carried,
    /// The caller's SPIFFE ID.
    pub caller: Option<String>,
    /// The SPIFFE ID of the workload that was called.
    pub workload: Option<String>,
    /// What the policy said.
    pub verdict: Option<Verdict>,
    /// The address that was connected to.
    pub upstream: Option<String>,
    /// Why it ended other than by both sides closing.
    pub reason: Option<&'static str>,
}

impl OpaqueRecord {
    /// Opens the record of a connection whose port is `port` on the application's side.
    pub fn open(telemetry: Arc<Telemetry>, direction: Direction, port: u16) -> Self {
        Self {
            telemetry,
            direction,
            port,
            time: SystemTime::now(),
            started: Instant::now(),
            carried: Carried::default(),
            caller: None,
            workload: None,
            verdict: None,
            upstream: None,
            reason: None,
        }
    }

    /// Notes how it ended; `cause` is what the registry gave for a cut.
    pub fn ended(&mut self, carried: Carried, ended: &Ended, cause: Option<&'static str>) {
        self.carried = carried;
        self.reason = match ended {
            Ended::Closed => None,
            Ended::Idle => Some("idle_timeout"),
            Ended::Cut => cause,
            Ended::Broken(_) => Some("broken"),
        };
    }
}

impl Drop for OpaqueRecord {
    fn drop(&mut self) {
        let decided = self.verdict.as_ref().map(Verdict::record).unwrap_or_default();
        let bytes = (self.carried.up, self.carried.down);
        self.telemetry.access_log.write(&Line {
            caller: self.caller.as_deref(),
            workload: self.workload.as_deref(),
            decision: decided.decision,
            policy: decided.policy,
            rule: decided.rule,
            policy_revision: decided.policy_revision,
            policy_git_revision: decided.policy_git_revision,
            audit_decision: decided.audit_decision,
            audit_policy: decided.audit_policy,
            audit_rule: decided.audit_rule,
            marked_policy: decided.marked_policy,
            marked_rule: decided.marked_rule,
            upstream: self.upstream.as_deref(),
            reason: self.reason,
            ..Line::tcp(self.direction, self.port, self.time, self.started.elapsed(), bytes)
        });
    }
}
