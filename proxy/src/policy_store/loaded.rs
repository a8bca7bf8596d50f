//! One compiled policy with its counters, and what it decided.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use metrics::Counter;
use portcullis_policy::diagnostic::{Diagnostic, Diagnostics, Severity};
use portcullis_policy::{
    Admission, Connection, Decision, Denial, Effect, File, Mode, Policy, Request, Rule, RuleRef, Verdict as Decided,
};
use spiffe::SpiffeId;

use super::directory::Contents;
use crate::telemetry::metrics::Metrics;

/// One loaded policy with its counters.
#[derive(Debug)]
pub struct Loaded {
    /// Grows by one with each policy that is put in force.
    pub number: u64,
    /// The policy.
    pub policy: Policy,
    /// When it was put in force.
    pub since: SystemTime,
    /// What someone should look at.
    pub warnings: Vec<String>,
    counters: HashMap<RuleRef, Counter>,
    defaults: [(Denial, Counter); 3],
    allowed_by_default: Counter,
}

/// What was decided, with the policy that decided it.
#[derive(Clone, Debug)]
pub struct Verdict {
    loaded: Arc<Loaded>,
    decision: Decision,
}

impl Loaded {
    /// Compiles the documents.
    ///
    /// # Errors
    /// Every mistake in them. A rule that names both an opaque TCP port of ours and matchers on HTTP is one.
    pub(super) fn compile(
        contents: &Contents,
        number: u64,
        own: Option<&SpiffeId>,
        opaque_ports: &[u16],
        metrics: &Metrics,
    ) -> Result<Self, Diagnostics> {
        let files: Vec<File<'_>> =
            contents.files.iter().map(|file| File { name: &file.name, bytes: &file.bytes }).collect();
        let compiled = Policy::compile(&files)?;
        let policy = compiled.policy;
        let mistakes = own.map(|own| http_rules_on_opaque_ports(&policy, own, opaque_ports)).unwrap_or_default();
        if mistakes.has_errors() {
            return Err(mistakes);
        }
        let counters = policy.rules().map(|(reference, rule)| (reference, counter(metrics, rule))).collect();
        let default = |denial: Denial| (denial, metrics.decisions("deny", "", denial.label(), "enforce"));
        Ok(Self {
            number,
            since: SystemTime::now(),
            warnings: compiled.warnings.iter().map(|warning| warning.to_string().trim_end().to_owned()).collect(),
            counters,
            allowed_by_default: metrics.decisions("allow", "", ALLOWED_BY_DEFAULT, "enforce"),
            defaults: [Denial::NoPolicy, Denial::NoRule, Denial::PathInDoubt].map(default),
            policy,
        })
    }

    /// What can be said of an HTTP connection before its first request; nothing is counted.
    pub fn admit(&self, connection: &Connection<'_>) -> Admission {
        self.policy.admit(connection)
    }

    /// Decides an opaque TCP connection and counts the decision.
    pub fn decide_opaque(self: &Arc<Self>, connection: &Connection<'_>) -> Verdict {
        self.counted(self.policy.admit_opaque(connection))
    }

    /// Decides a request and counts the decision.
    pub fn decide(self: &Arc<Self>, request: &Request<'_>) -> Verdict {
        self.counted(self.policy.decide(request))
    }

    fn counted(self: &Arc<Self>, decision: Decision) -> Verdict {
        self.count(decision.verdict);
        if let Some(audited) = decision.audit {
            self.count(audited);
        }
        if let Some(counter) = decision.marked.and_then(|rule| self.counters.get(&rule)) {
            counter.increment(1);
        }
        Verdict { loaded: Arc::clone(self), decision }
    }

    fn count(&self, decided: Decided) {
        let counter = match decided {
            Decided::Allow(rule) | Decided::Deny(Denial::Rule(rule)) => self.counters.get(&rule),
            Decided::AllowByDefault => Some(&self.allowed_by_default),
            Decided::Deny(denial) => {
                self.defaults.iter().find(|(known, _)| *known == denial).map(|(_, counter)| counter)
            }
        };
        if let Some(counter) = counter {
            counter.increment(1);
        }
    }
}

impl Verdict {
    /// `allow` or `deny`.
    pub fn label(&self) -> &'static str {
        if self.is_allow() { "allow" } else { "deny" }
    }

    /// Whether it is allowed.
    pub fn is_allow(&self) -> bool {
        self.decision.verdict.is_allow()
    }

    /// The rule that decided; a default denial has none.
    pub fn rule(&self) -> Option<&Rule> {
        self.decision.verdict.rule().and_then(|rule| self.loaded.policy.rule(rule))
    }

    /// The fixed word of a denial: `denied_by_rule`, `no_policy`, `no_rule` or `path_in_doubt`.
    pub fn denial(&self) -> Option<&'static str> {
        match self.decision.verdict {
            Decided::Allow(_) | Decided::AllowByDefault => None,
            Decided::Deny(Denial::Rule(_)) => Some("denied_by_rule"),
            Decided::Deny(denial) => Some(denial.label()),
        }
    }
}

fn counter(metrics: &Metrics, rule: &Rule) -> Counter {
    let decision = match (rule.mode, rule.effect) {
        (Mode::Mark, _) => "mark",
        (Mode::Enforce | Mode::Audit, Effect::Allow) => "allow",
        (Mode::Enforce | Mode::Audit, Effect::Deny) => "deny",
    };
    metrics.decisions(decision, &rule.policy, &rule.name, rule.mode.label())
}

fn http_rules_on_opaque_ports(policy: &Policy, own: &SpiffeId, opaque_ports: &[u16]) -> Diagnostics {
    let mut found = Diagnostics::default();
    let rules = opaque_ports.iter().flat_map(|port| policy.http_rules_on(own, *port).map(move |rule| (port, rule)));
    for (port, reference) in rules {
        let Some(rule) = policy.rule(reference) else { continue };
        let message = format!(
            "{}: rule `{}` of policy `{}` matches on HTTP, and port {port} is opaque TCP",
            rule.origin, rule.name, rule.policy
        );
        let help = "split the rule: one for the port without HTTP matchers, one for the HTTP ports";
        found.push(Diagnostic::of_all_files(Severity::Error, HTTP_ON_TCP, message).help(help));
    }
    found
}

/// In place of a rule, where nothing is there to allow and `policy.defaultAction` does.
const ALLOWED_BY_DEFAULT: &str = "default_action";
/// A rule that cannot mean what it says, given the ports of this sidecar.
const HTTP_ON_TCP: &str = "C022";
