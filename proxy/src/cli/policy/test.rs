//! `portcullis policy test`: the cases of every `PolicyTest`, and the rules that none of them exercises.

use std::collections::HashSet;
use std::io::Write;

use clap::Args;
use portcullis_policy::diagnostic::{Diagnostic, Diagnostics, Severity, quoted};
use portcullis_policy::testing::{self, Case, Decided, Outcome};
use portcullis_policy::{Effect, Origin, Policy, RuleRef, Verdict};
use serde_json::{Value, json};

use super::format::{self, Format, clean, print_json, print_mistakes};
use super::{Common, Error, files};
use crate::cli::paint::{Count, Ink, Paint};

/// Options of `policy test`.
#[derive(Debug, Args)]
pub struct Test {
    #[command(flatten)]
    common: Common,
    /// End with 1 if fewer rules than this decide at least one case.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,
}

pub(super) fn run(test: &Test, paint: Paint, out: &mut dyn Write) -> Result<(), Error> {
    let (format, now) = (test.common.format, test.common.now());
    let paint = test.common.color.paint(paint);
    let contents = test.common.read()?;
    let files = files(&contents);
    let refuse = |found: Diagnostics, out: &mut dyn Write| {
        print_mistakes(&found, format, paint, out)?;
        Err(Error::do_not_load(&found))
    };
    let options = match test.common.configuration()? {
        Ok(config) => test.common.options(config.as_ref())?,
        Err(found) => return refuse(found, out),
    };
    let compiled = match Policy::compile_with(&files, &options) {
        Ok(compiled) => compiled,
        Err(found) => return refuse(found, out),
    };
    let outcomes = testing::run(&files, &options, &compiled, now).map_err(|found| Error::do_not_load(&found))?;
    let policy = &compiled.policy;
    let report = Report { policy, outcomes: &outcomes, coverage: Coverage::of(policy, &outcomes) };
    let short = test.min_coverage.filter(|minimum| report.coverage.percent() < usize::from(*minimum));
    match format {
        Format::Human => out.write_all(report.human(paint).as_bytes())?,
        Format::Json => print_json(&report.json(), out)?,
        Format::Sarif => print_json(&format::as_sarif(&report.diagnostics(short)), out)?,
        Format::Github => out.write_all(format::github(&report.diagnostics(short)).as_bytes())?,
    }
    report.verdict(short)
}

/// What came of it.
struct Report<'a> {
    policy: &'a Policy,
    outcomes: &'a [Outcome<'a>],
    coverage: Coverage,
}

/// Which rules decide a case; a rule in audit mode is exercised by a case that it would decide.
struct Coverage {
    rules: usize,
    missing: Vec<RuleRef>,
}

impl Coverage {
    fn of(policy: &Policy, outcomes: &[Outcome<'_>]) -> Self {
        let verdicts = outcomes.iter().flat_map(|outcome| match outcome.decided {
            Decided::Decision(decision) => {
                [decision.verdict.rule(), decision.audit.and_then(Verdict::rule), decision.marked]
            }
            Decided::Refused(_) => [None; 3],
        });
        let exercised: HashSet<RuleRef> = verdicts.flatten().collect();
        let all = policy.rules().map(|(rule, _)| rule);
        let missing = all.filter(|rule| !exercised.contains(rule)).collect();
        Self { rules: policy.rules().count(), missing }
    }

    fn exercised(&self) -> usize {
        self.rules - self.missing.len()
    }

    /// Rounded down, so that 100 means all. Without rules there is nothing to exercise.
    fn percent(&self) -> usize {
        (self.exercised() * 100).checked_div(self.rules).unwrap_or(100)
    }
}

impl Report<'_> {
    fn failed(&self) -> impl Iterator<Item = &Outcome<'_>> {
        self.outcomes.iter().filter(|outcome| !outcome.passed)
    }

    fn verdict(&self, short: Option<u8>) -> Result<(), Error> {
        let failed = self.failed().count();
        match short {
            _ if failed > 0 => Err(Error::Failed { failed, cases: self.outcomes.len() }),
            _ if self.outcomes.is_empty() => Err(Error::NoCases),
            Some(minimum) => Err(Error::Coverage { percent: self.coverage.percent(), minimum }),
            None => Ok(()),
        }
    }

    fn human(&self, paint: Paint) -> String {
        let mut text = String::new();
        for outcome in self.failed() {
            let case = outcome.case;
            let failed = paint.ink(Ink::Red, "FAILED");
            text.push_str(&format!("{failed} {} ({})\n", title(case), clean(&case.origin.to_string())));
            text.push_str(&format!("  expected {}, and it is {}\n", expectation(case), self.decision(outcome)));
            text.push_str(&format!("  {}\n", clean(&outcome.reason)));
            if let Some((what, place)) = self.cause(outcome) {
                text.push_str(&format!("  {what} at {}\n", clean(&place.to_string())));
            }
        }
        let failed = self.failed().count();
        let passed = self.outcomes.len() - failed;
        let summary = format!("{}: {passed} passed, {failed} failed", Count(self.outcomes.len(), "case"));
        let ink = if failed == 0 && passed > 0 { Ink::Green } else { Ink::Red };
        text.push_str(&format!("{}\n", paint.ink(ink, &summary)));
        let (exercised, rules) = (self.coverage.exercised(), Count(self.coverage.rules, "rule"));
        text.push_str(&format!("coverage: {exercised} of {rules} exercised ({} %)\n", self.coverage.percent()));
        for rule in self.coverage.missing.iter().filter_map(|rule| self.policy.rule(*rule)) {
            let place = clean(&rule.origin.to_string());
            text.push_str(&format!("  no case: rule `{}` of `{}`, {place}\n", rule.name, rule.policy));
        }
        text
    }

    fn json(&self) -> Value {
        let case = |outcome: &Outcome<'_>| {
            let case = outcome.case;
            let rule = self.deciding(outcome);
            json!({
                "test": case.test,
                "case": case.name,
                "source": case.origin.to_string(),
                "passed": outcome.passed,
                "expected": effect(case.expect),
                "expectedRule": case.rule,
                "decision": word(outcome),
                "policy": rule.map(|rule| &*rule.policy),
                "rule": rule.map(|rule| &*rule.name),
                "reason": outcome.reason,
                "at": self.cause(outcome).map(|(_, place)| place.to_string()),
            })
        };
        let missing = self
            .coverage
            .missing
            .iter()
            .filter_map(|rule| self.policy.rule(*rule))
            .map(|rule| json!({ "policy": &*rule.policy, "rule": &*rule.name, "source": rule.origin.to_string() }));
        let failed = self.failed().count();
        json!({
            "passed": self.outcomes.len() - failed,
            "failed": failed,
            "cases": self.outcomes.iter().map(case).collect::<Vec<_>>(),
            "coverage": {
                "rules": self.coverage.rules,
                "exercised": self.coverage.exercised(),
                "percent": self.coverage.percent(),
                "missing": missing.collect::<Vec<_>>(),
            },
        })
    }

    /// Failures and gaps as diagnostics, for the formats that point at lines.
    fn diagnostics(&self, short: Option<u8>) -> Diagnostics {
        let mut found = Diagnostics::default();
        for outcome in self.failed() {
            let case = outcome.case;
            let cause = self.cause(outcome).map(|(what, place)| format!(" ({what} at {place})")).unwrap_or_default();
            let message = format!(
                "{} failed: expected {}, and it is {}: {}{cause}",
                title(case),
                expectation(case),
                self.decision(outcome),
                outcome.reason
            );
            found.push(at(&case.origin, Severity::Error, "P190", message));
        }
        for rule in self.coverage.missing.iter().filter_map(|rule| self.policy.rule(*rule)) {
            let message = format!("no test case exercises rule {} of {}", quoted(&rule.name), quoted(&rule.policy));
            found.push(at(&rule.origin, Severity::Note, "P191", message));
        }
        if let Some(minimum) = short {
            let message = format!("{} % of the rules are exercised, and {minimum} % must be", self.coverage.percent());
            found.push(Diagnostic::of_all_files(Severity::Error, "P192", message));
        }
        if self.outcomes.is_empty() {
            found.push(Diagnostic::of_all_files(Severity::Error, "P193", "there is no test case"));
        }
        found
    }

    fn deciding(&self, outcome: &Outcome<'_>) -> Option<&portcullis_policy::Rule> {
        let Decided::Decision(decision) = outcome.decided else { return None };
        decision.verdict.rule().and_then(|rule| self.policy.rule(rule))
    }

    fn decision(&self, outcome: &Outcome<'_>) -> String {
        match self.deciding(outcome) {
            Some(rule) => format!("{} by rule `{}` of `{}`", word(outcome), rule.name, rule.policy),
            None => word(outcome).to_owned(),
        }
    }

    /// Where the rule is that decided, or that came nearest.
    fn cause(&self, outcome: &Outcome<'_>) -> Option<(&'static str, &Origin)> {
        if let Some(rule) = self.deciding(outcome) {
            return Some(("the rule is", &rule.origin));
        }
        if outcome.passed {
            return None;
        }
        let nearest = outcome.nearest.and_then(|rule| self.policy.rule(rule))?;
        Some(("the nearest miss is", &nearest.origin))
    }
}

fn at(place: &Origin, severity: Severity, code: &'static str, message: String) -> Diagnostic {
    Diagnostic::of_all_files(severity, code, message).at(&place.file, place.line, place.column)
}

fn word(outcome: &Outcome<'_>) -> &'static str {
    match outcome.decided {
        Decided::Decision(decision) if decision.verdict.is_allow() => "allow",
        Decided::Decision(_) | Decided::Refused(_) => "deny",
    }
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    }
}

fn expectation(case: &Case) -> String {
    match &case.rule {
        Some(rule) => format!("{} by rule {}", effect(case.expect), quoted(rule)),
        None => effect(case.expect).to_owned(),
    }
}

fn title(case: &Case) -> String {
    format!("{} of `{}`", quoted(&case.name), case.test)
}
