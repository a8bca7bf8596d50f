//! Policy sets of any size and of a few shapes, for measuring what a decision costs.
//!
//! In every shape only the last rule matches what the benchmark asks: an engine that looks at the rules one by one has to
//! look at all of them.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::json;
use spiffe::SpiffeId;

/// What the rules that do not match look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Each for another caller, any path: an allow list of callers.
    Callers,
    /// All for this caller, each for another path: a large interface.
    Paths,
    /// Ten rules for each of many callers, with methods and templates in their paths: a busy service.
    Mixed,
}

/// What the last rule allows.
#[derive(Debug, Clone)]
pub struct Allowed<'a> {
    /// The caller.
    pub caller: &'a SpiffeId,
    /// The paths.
    pub paths: &'a [&'a str],
}

/// A file of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// YAML.
    pub text: String,
}

impl Shape {
    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Callers => "callers",
            Self::Paths => "paths",
            Self::Mixed => "mixed",
        }
    }

    /// The files of a set of this many rules, at least one.
    pub fn files(self, rules: u32, allowed: &Allowed<'_>) -> Vec<File> {
        let last = rules.max(1) - 1;
        let mut files = Vec::new();
        for first in (0..=last).step_by(RULES_IN_A_FILE) {
            let end = first.saturating_add(u32::try_from(RULES_IN_A_FILE).unwrap_or(u32::MAX)).min(last + 1);
            let number = files.len();
            let mut text = format!(
                "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\n\
                 metadata: {{name: portcullis-bench-{number}}}\nspec:\n  allow:\n"
            );
            for rule in first..end {
                let matching = if rule == last { granting(allowed) } else { self.other(rule, allowed) };
                // Writing to a string cannot fail.
                let _ = writeln!(text, "    - {{name: rule-{rule}, {matching}}}");
            }
            files.push(File { name: format!("portcullis-bench-{number}.yaml"), text });
        }
        files
    }

    /// The matchers of a rule that does not match.
    fn other(self, rule: u32, allowed: &Allowed<'_>) -> String {
        let domain = allowed.caller.trust_domain();
        let workload = |number: u32| format!("spiffe://{domain}/ns/bench-{}/sa/caller-{number}", number % 100);
        let (caller, to) = match self {
            Self::Callers => (workload(rule), json!({ "paths": ["/**"] })),
            Self::Paths => {
                let path = format!("/portcullis-bench/other/{rule}/{{id}}");
                (allowed.caller.to_string(), json!({ "paths": [path] }))
            }
            Self::Mixed => {
                let paths = [format!("/v1/things-{rule}/{{id}}"), format!("/v1/things-{rule}/{{id}}/parts/**")];
                (workload(rule / 10), json!({ "methods": ["GET", "POST"], "paths": paths }))
            }
        };
        matchers(&caller, &to)
    }
}

fn granting(allowed: &Allowed<'_>) -> String {
    matchers(&allowed.caller.to_string(), &json!({ "paths": allowed.paths }))
}

/// JSON is YAML, and quotes whatever needs it.
fn matchers(caller: &str, to: &serde_json::Value) -> String {
    format!("from: {}, to: {to}", json!({ "identities": [caller] }))
}

/// Some 200 KiB: a file may have 1 MiB.
const RULES_IN_A_FILE: usize = 1000;

#[cfg(test)]
mod tests {
    use portcullis_policy::{File as Document, Policy};

    use super::*;

    #[test]
    fn every_shape_compiles_to_as_many_rules_as_were_asked_for() {
        let caller = SpiffeId::new("spiffe://prod.health.internal/ns/bench/sa/caller").unwrap();
        let allowed = Allowed { caller: &caller, paths: &["/", "/portcullis-bench/revision/1"] };
        for shape in [Shape::Callers, Shape::Paths, Shape::Mixed] {
            for rules in [1, 10, 1000, 2500] {
                let files = shape.files(rules, &allowed);
                let documents: Vec<Document<'_>> =
                    files.iter().map(|file| Document { name: &file.name, bytes: file.text.as_bytes() }).collect();
                let compiled = Policy::compile(&documents).unwrap();
                assert_eq!(compiled.policy.rules().count(), rules as usize, "{shape:?}");
                assert!(compiled.warnings.is_empty(), "{shape:?}");
            }
        }
    }
}
