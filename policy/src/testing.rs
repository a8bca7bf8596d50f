//! Running the cases of `PolicyTest` documents against a policy, as unit tests of policy.
//!
//! A case is asked exactly as the proxy would ask, path normalisation included: a path that the proxy answers with 400
//! counts as denied.

pub use crate::case::{Asked, Case};

use std::collections::BTreeMap;

use crate::decide::Decision;
use crate::diagnostic::Diagnostics;
use crate::explain::Explanation;
use crate::path::{EncodedSlash, Path, PathError};
use crate::policy::{Compiled, Options, Policy, RuleRef};
use crate::request::Request;
use crate::rules::Effect;
use crate::source::File;

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
    /// For a default denial the rule that came nearest to allowing it.
    pub nearest: Option<RuleRef>,
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// The policy decided.
    Decision(Decision),
    /// The path is answered with 400 before any policy is asked.
    Refused(PathError),
}

/// Runs every case at `now`, in seconds since 1970. A case that names labels is put to the `files` compiled anew for a
/// workload with these; rules have the same numbers there.
///
/// # Errors
/// Every mistake in the files, which `compiled` is made from with the same options.
pub fn run<'a>(
    files: &[File<'_>],
    options: &Options,
    compiled: &'a Compiled,
    now: i64,
) -> Result<Vec<Outcome<'a>>, Diagnostics> {
    let mut relabelled: BTreeMap<&BTreeMap<String, String>, Policy> = BTreeMap::new();
    let labelled = compiled.cases.iter().map(|case| &case.labels).filter(|labels| !labels.is_empty());
    for labels in labelled {
        if !relabelled.contains_key(labels) {
            let options = Options { labels: labels.clone(), ..options.clone() };
            relabelled.insert(labels, Policy::compile_with(files, &options)?.policy);
        }
    }
    let policy = |case: &Case| relabelled.get(&case.labels).unwrap_or(&compiled.policy);
    Ok(compiled.cases.iter().map(|case| run_case(policy(case), case, now)).collect())
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
    let Explanation { decision, reason, nearest, .. } = explanation;
    let rule = decision.verdict.rule().and_then(|rule| policy.rule(rule));
    let named = case.rule.as_deref().is_none_or(|name| rule.is_some_and(|rule| *rule.name == *name));
    let passed = decision.verdict.is_allow() == (case.expect == Effect::Allow) && named;
    Outcome { case, decided: Decided::Decision(decision), passed, reason, nearest }
}

fn refused(case: &Case, error: PathError) -> Outcome<'_> {
    let passed = case.expect == Effect::Deny && case.rule.is_none();
    Outcome {
        case,
        decided: Decided::Refused(error),
        passed,
        reason: format!("answered with 400: {error}"),
        nearest: None,
    }
}
