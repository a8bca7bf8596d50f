//! One point of the space as facts, and what the two policies say of it.

use std::net::{IpAddr, Ipv4Addr};

use spiffe::SpiffeId;

use super::term::{Axis, Value};
use super::{Answer, Question, Said, Sides, Witness};
use crate::case::Asked;
use crate::decide::{Decision, Verdict};
use crate::path::{EncodedSlash, Path};
use crate::policy::Policy;
use crate::request::Request;
use crate::rules::Mode;

/// The values of the axes that have been cut, in that order.
#[derive(Debug, Default)]
pub(super) struct Point(Vec<(Axis, Value<'static>)>);

impl Point {
    pub(super) fn push(&mut self, axis: Axis, value: Value<'static>) {
        self.0.push((axis, value));
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    pub(super) fn depth(&self) -> usize {
        self.0.len()
    }

    /// What both say. `None` when no such request can be made.
    pub(super) fn ask(&self, policies: Sides<&Policy>, question: Question, now: i64) -> Option<(Sides<Said>, Witness)> {
        let witness = self.witness(question, now)?;
        let base = said(policies.base, question, &witness)?;
        let head = said(policies.head, question, &witness)?;
        Some((Sides { base, head }, witness))
    }

    fn witness(&self, question: Question, now: i64) -> Option<Witness> {
        let anyone = || SpiffeId::new("spiffe://other/ns/other/sa/other").ok();
        let (mut caller, mut workload) = (anyone()?, anyone()?);
        let (mut port, mut source, mut at) = (8080, IpAddr::V4(Ipv4Addr::UNSPECIFIED), now);
        let (mut method, mut host, mut target) = ("GET".to_owned(), String::new(), "/".to_owned());
        let (mut destination, mut server_name) = (source, None);
        let mut headers = Vec::new();
        for (axis, value) in &self.0 {
            match (axis, value) {
                (Axis::Workload, Value::Text(text)) => workload = SpiffeId::new(&**text).ok()?,
                (Axis::Caller, Value::Text(text)) => caller = SpiffeId::new(&**text).ok()?,
                (Axis::Port, Value::Port(value)) => port = *value,
                (Axis::Source, Value::Address(value)) => source = *value,
                (Axis::Time, Value::Moment(value)) => at = *value,
                (Axis::Path, Value::Text(text)) => target = text.to_string(),
                (Axis::Method, Value::Text(text)) => method = text.to_string(),
                (Axis::Host, Value::Text(text)) => host = text.to_string(),
                (Axis::Header(name), Value::Text(text)) => headers.push((name.to_string(), text.to_string())),
                (Axis::Destination, Value::Address(value)) => destination = *value,
                (Axis::ServerName, Value::Text(text)) => server_name = Some(text.to_string()),
                (Axis::Header(_) | Axis::ServerName, Value::Absent) => {}
                // No axis has values of another kind.
                (_, Value::Text(_) | Value::Absent | Value::Port(_) | Value::Address(_) | Value::Moment(_)) => {
                    return None;
                }
            }
        }
        let asked = match question.is_opaque() {
            true => Asked::Connection,
            false => Asked::Request { method, host, target, headers },
        };
        Some(Witness { caller, workload, port, source, destination, server_name, at, asked })
    }
}

/// What a policy says of a question.
fn said(policy: &Policy, question: Question, witness: &Witness) -> Option<Said> {
    let connection = witness.connection();
    let decision = match &witness.asked {
        Asked::Connection => policy.admit_opaque(&connection),
        Asked::Request { method, host, target, headers } => {
            let path = Path::normalise(target.as_bytes(), EncodedSlash::Refuse).ok()?;
            policy.decide(&Request { connection, method, host, path: &path, headers })
        }
    };
    Some(Said::of(decision, question.mode()))
}

impl Said {
    /// The part of a decision that policies of one mode make.
    pub(super) fn of(decision: Decision, mode: Mode) -> Self {
        let verdict = match mode {
            Mode::Enforce => Some(decision.verdict),
            Mode::Audit => decision.audit,
            // What only marks has no answer.
            Mode::Mark => None,
        };
        let answer = match verdict {
            None => Answer::Nothing,
            Some(Verdict::Allow(_) | Verdict::AllowByDefault) => Answer::Allow,
            Some(Verdict::Deny(_)) => Answer::Deny,
        };
        Self { answer, rule: verdict.and_then(Verdict::rule) }
    }
}
