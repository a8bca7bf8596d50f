//! Decisions at policy sets of the shapes that an index could be bad at, each request being another one.
//!
//! What is asked jumps about in the whole set, so that neither the processor's caches nor luck answer it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use clap::ValueEnum;
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{Connection, Decision, Denial, File, Policy, Request, RuleRef, Verdict};
use spiffe::SpiffeId;

use super::{Failure, Work};

/// What the rules of a set look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Each for another caller and another path.
    Exact,
    /// Each for another namespace of callers, and all below another path.
    Patterns,
    /// Ten thousand for each caller, each for another path.
    Paths,
    /// Ten thousand for each path, each for another caller.
    Identities,
    /// As [`Shape::Exact`], asked for what no rule allows.
    Deny,
}

/// A request at a set of so many rules.
pub fn decide(shape: Shape, rules: usize) -> Result<Work, Failure> {
    // Without optimisation nothing is measured, only tried, and reading the largest sets takes a minute each.
    let rules = if cfg!(debug_assertions) { rules.min(RULES_OF_ONE) } else { rules };
    let set = Set::of(shape, compiled(&documents(shape, rules))?, QUESTIONS)?;
    let mut next = 0;
    Ok(Work::whole(move || {
        let decision = set.ask(next)?;
        next = (next + 1) % QUESTIONS;
        Ok(decision)
    }))
}

/// A policy set with questions to it.
#[derive(Debug)]
pub struct Set {
    policy: Policy,
    workload: SpiffeId,
    headers: Vec<(String, String)>,
    questions: Vec<Question>,
}

/// A request, and what is to come of it.
#[derive(Debug)]
struct Question {
    caller: SpiffeId,
    path: Path<'static>,
    expected: Verdict,
}

impl Set {
    /// So many questions to a policy of this shape.
    ///
    /// # Errors
    /// When the policy is of another shape.
    pub fn of(shape: Shape, policy: Policy, questions: usize) -> Result<Self, Failure> {
        let references: Vec<RuleRef> = policy.rules().map(|(reference, _)| reference).collect();
        let questions = (0..questions).map(|at| Question::new(shape, at * STRIDE % references.len(), &references));
        let questions = questions.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { policy, workload: SpiffeId::new(WORKLOAD)?, headers: Vec::new(), questions })
    }

    /// Asks one of the questions.
    ///
    /// # Errors
    /// When the answer is another than the documents say.
    pub fn ask(&self, number: usize) -> Result<Decision, Failure> {
        let question = self.questions.get(number).ok_or(Failure::Wrong("there are no questions"))?;
        let connection = Connection {
            caller: &question.caller,
            workload: &self.workload,
            port: 8080,
            source: IpAddr::V4(Ipv4Addr::new(10, 12, 3, 45)),
            destination: IpAddr::V4(Ipv4Addr::new(10, 12, 3, 46)),
            server_name: None,
            now: 1_800_000_000,
        };
        let request =
            Request { connection, method: "GET", host: "eligibility", path: &question.path, headers: &self.headers };
        let decision = self.policy.decide(std::hint::black_box(&request));
        if decision.verdict == question.expected { Ok(decision) } else { Err(Failure::Wrong("another rule decided")) }
    }

    /// Reads what a question consists of, as a proxy has that just received it.
    pub fn receive(&self, number: usize) {
        if let Some(question) = self.questions.get(number) {
            let parts = [question.caller.trust_domain_name(), question.caller.path(), question.path.as_str()];
            std::hint::black_box(parts.map(|part| part.bytes().map(u64::from).sum::<u64>()));
        }
    }
}

impl Question {
    fn new(shape: Shape, number: usize, references: &[RuleRef]) -> Result<Self, Failure> {
        let reference = references.get(number).ok_or(Failure::Wrong("there is no such rule"))?;
        let (caller, thing, expected) = match shape {
            Shape::Exact => (account(number), number, Verdict::Allow(*reference)),
            Shape::Patterns => (account(number), number, Verdict::Allow(*reference)),
            Shape::Paths => (account(number / MANY), number, Verdict::Allow(*reference)),
            Shape::Identities => (account(number), number / MANY, Verdict::Allow(*reference)),
            Shape::Deny => (account(number), (number + 1) % references.len(), Verdict::Deny(Denial::NoRule)),
        };
        // Lives as long as the process, as the benchmark does.
        let target: &'static [u8] =
            format!("/v1/things-{thing:06}/{:06}/parts", number * 7 % 1_000_000).leak().as_bytes();
        let path = Path::normalise(target, EncodedSlash::Refuse)?;
        Ok(Self { caller: SpiffeId::new(caller)?, path, expected })
    }
}

fn account(number: usize) -> String {
    format!("spiffe://{DOMAIN}/ns/team-{number:06}/sa/caller")
}

/// The documents of a set, each a file.
pub fn documents(shape: Shape, rules: usize) -> Vec<String> {
    (0..rules).step_by(RULES_OF_ONE).map(|first| document(shape, first, rules)).collect()
}

/// The policy of a set.
///
/// # Errors
/// When the documents hold mistakes.
pub fn compiled(texts: &[String]) -> Result<Policy, Failure> {
    let names: Vec<String> = (0..texts.len()).map(|index| format!("team-{index:04}.yaml")).collect();
    let files: Vec<File<'_>> =
        names.iter().zip(texts).map(|(name, text)| File { name, bytes: text.as_bytes() }).collect();
    Ok(Policy::compile(&files).map_err(Failure::Policy)?.policy)
}

/// One policy, beginning with this rule.
fn document(shape: Shape, first: usize, rules: usize) -> String {
    let mut text = format!(
        "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: team-{first:06}, namespace: eligibility}}\n\
         spec:\n  target: {{identities: ['{WORKLOAD}']}}\n  allow:\n"
    );
    for number in first..rules.min(first + RULES_OF_ONE) {
        let (from, path) = match shape {
            Shape::Exact | Shape::Deny => (account(number), format!("/v1/things-{number:06}/{{id}}/parts")),
            Shape::Patterns => {
                (format!("spiffe://{DOMAIN}/ns/team-{number:06}/sa/*"), format!("/v1/things-{number:06}/**"))
            }
            Shape::Paths => (account(number / MANY), format!("/v1/things-{number:06}/{{id}}/parts")),
            Shape::Identities => (account(number), format!("/v1/things-{:06}/{{id}}/parts", number / MANY)),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "    - {{name: r{number}, from: {{identities: ['{from}']}}, to: {{ports: [8080], methods: [GET], paths: ['{path}']}}}}"
        );
    }
    text
}

const DOMAIN: &str = "prod.health.internal";
const WORKLOAD: &str = "spiffe://prod.health.internal/ns/eligibility/sa/api";
/// Rules that share a caller, or a path.
const MANY: usize = 10_000;
/// Below what one file may hold.
const RULES_OF_ONE: usize = 1_000;
/// More than the first caches of a processor hold the answers of.
const QUESTIONS: usize = 1 << 13;
/// The golden ratio's share of the largest set: questions that follow each other are far apart, and all rules have a turn.
const STRIDE: usize = 61_803;
