//! Running the cases of `PolicyTest` documents against a policy, as unit tests of policy.
//!
//! A case is asked exactly as the proxy would ask, path normalisation included: a path that the proxy answers with 400
//! counts as denied.

pub use crate::case::{Asked, Case};

use crate::decide::Decision;
use crate::explain::Explanation;
use crate::path::{EncodedSlash, Path, PathError};
use crate::policy::Policy;
use crate::request::Request;
use crate::rules::Effect;

/// How a case came out.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The case.
    pub case: &'a Case,
    /// What was decided.
    pub decided: Decided,
    /// Whether that is what the case expects.
    pub passed: bool,
    /// Why, in words.
    pub reason: String,
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// The policy decided.
    Decision(Decision),
    /// The path is answered with 400 before any policy is asked.
    Refused(PathError),
}

/// Runs every case at `now`, in seconds since 1970.
#[must_use]
pub fn run<'a>(policy: &Policy, cases: &'a [Case], now: i64) -> Vec<Outcome<'a>> {
    cases.iter().map(|case| run_case(policy, case, now)).collect()
}

fn run_case<'a>(policy: &Policy, case: &'a Case, now: i64) -> Outcome<'a> {
    let connection = case.connection(now);
    let explanation = match &case.asked {
        Asked::Connection => policy.explain_opaque(&connection),
        Asked::Request { method, host, target, headers } => {
            match Path::normalise(target.as_bytes(), EncodedSlash::Refuse) {
                Ok(path) => policy.explain(&Request { connection, method, host, path: &path, headers }),
                Err(error) => return refused(case, error),
            }
        }
    };
    let Explanation { decision, reason, .. } = explanation;
    let rule = decision.verdict.rule().and_then(|rule| policy.rule(rule));
    let named = case.rule.as_deref().is_none_or(|name| rule.is_some_and(|rule| *rule.name == *name));
    let passed = decision.verdict.is_allow() == (case.expect == Effect::Allow) && named;
    Outcome { case, decided: Decided::Decision(decision), passed, reason }
}

fn refused(case: &Case, error: PathError) -> Outcome<'_> {
    let passed = case.expect == Effect::Deny && case.rule.is_none();
    Outcome { case, decided: Decided::Refused(error), passed, reason: format!("answered with 400: {error}") }
}
