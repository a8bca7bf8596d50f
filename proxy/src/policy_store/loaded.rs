//! One compiled policy with its counters, and what it decided.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use metrics::Counter;
use portcullis_policy::diagnostic::{Diagnostic, Diagnostics, Severity};
use portcullis_policy::{
    Admission, Connection, Decision, Denial, Effect, File, Mode, Options, Policy, Request, Rule, RuleRef,
    Verdict as Decided,
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
    /// The Git revision that its directories carried.
    pub git_revision: Option<String>,
    /// Where its documents come from.
    pub source: Source,
    /// What it was compiled for, besides what its documents say.
    pub options: Options,
    /// When its documents were read from the policy directories.
    pub taken: SystemTime,
    /// When it was put in force.
    pub since: SystemTime,
    /// What someone should look at.
    pub warnings: Vec<String>,
    counters: HashMap<RuleRef, Counter>,
    /// Denials by default, by whether they were enforced.
    defaults: Vec<(Denial, Mode, Counter)>,
    allowed_by_default: Counter,
}

/// Where the documents of a policy come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The policy directories.
    Directory,
    /// The copy in the state directory, because those on disk were broken when the sidecar started.
    State,
}

impl Source {
    /// The word on the admin page.
    pub fn label(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::State => "state",
        }
    }
}

/// What a policy is compiled for: another one follows from the same documents when this changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Circumstances {
    /// The workload whose sidecar this is, once that is known.
    pub(super) own: Option<SpiffeId>,
    pub(super) options: Options,
}

/// What a policy is compiled from, and for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft<'a> {
    pub(super) contents: &'a Contents,
    pub(super) source: Source,
    pub(super) taken: SystemTime,
    pub(super) circumstances: &'a Circumstances,
    /// The application's ports that carry opaque TCP.
    pub(super) opaque_ports: &'a [u16],
}

/// What the record of a decision says about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recorded<'a> {
    /// `allow` or `deny`.
    pub decision: Option<&'static str>,
    /// The policy that decided; a default denial has none.
    pub policy: Option<&'a str>,
    /// Its rule.
    pub rule: Option<&'a str>,
    /// The digest of the documents.
    pub policy_revision: Option<&'a str>,
    /// The Git revision that they carried.
    pub policy_git_revision: Option<&'a str>,
    /// What the policies in audit mode would have decided, where they have anything to say.
    pub audit_decision: Option<&'static str>,
    /// The policy of the rule that would have decided.
    pub audit_policy: Option<&'a str>,
    /// That rule.
    pub audit_rule: Option<&'a str>,
    /// The policy whose action is to mark it, which decides nothing.
    pub marked_policy: Option<&'a str>,
    /// Its rule.
    pub marked_rule: Option<&'a str>,
}

/// What was decided, with the policy that decided it.
#[derive(Clone, Debug)]
pub struct Verdict {
    loaded: Arc<Loaded>,
    decision: Decision,
}

/// Why something that was allowed is not allowed any more, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the policy says, in fixed words.
    pub why: &'static str,
    /// The rule that denies it, with its policy, if one does.
    pub rule: Option<(Arc<str>, Arc<str>)>,
}

impl Loaded {
    /// Compiles the documents.
    ///
    /// # Errors
    /// Every mistake in them. A rule that names both an opaque TCP port of ours and matchers on HTTP is one.
    pub(super) fn compile(draft: Draft<'_>, number: u64, metrics: &Metrics) -> Result<Self, Diagnostics> {
        let Draft { contents, source, taken, circumstances, opaque_ports } = draft;
        let Circumstances { own, options } = circumstances;
        let files: Vec<File<'_>> =
            contents.files.iter().map(|file| File { name: &file.name, bytes: &file.bytes }).collect();
        let compiled = Policy::compile_with(&files, options)?;
        let policy = compiled.policy;
        let mistakes =
            own.as_ref().map(|own| http_rules_on_opaque_ports(&policy, own, opaque_ports)).unwrap_or_default();
        if mistakes.has_errors() {
            return Err(mistakes);
        }
        let counters = policy.rules().map(|(reference, rule)| (reference, counter(metrics, rule))).collect();
        let default = |(denial, mode): (Denial, Mode)| {
            (denial, mode, metrics.decisions("deny", "", denial.label(), mode.label()))
        };
        let of_documents = compiled.warnings.iter().map(|warning| warning.to_string().trim_end().to_owned());
        let of_revision = contents.without_revision.iter().map(ToString::to_string);
        Ok(Self {
            number,
            git_revision: contents.git_revision.clone(),
            source,
            options: options.clone(),
            taken,
            since: SystemTime::now(),
            warnings: of_documents.chain(of_revision).collect(),
            counters,
            allowed_by_default: metrics.decisions("allow", "", ALLOWED_BY_DEFAULT, "enforce"),
            defaults: DEFAULTS.map(default).into(),
            policy,
        })
    }

    /// Whether records and pages would say the same of `other`, so that it need not take the place of this one.
    pub(super) fn stands_for(&self, other: &Self) -> bool {
        self.policy.revision() == other.policy.revision()
            && self.git_revision == other.git_revision
            && self.source == other.source
            && self.options == other.options
            && self.warnings == other.warnings
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

    /// Why this is refused; `None` if it is allowed. Nothing is counted.
    pub fn refusal(&self, decided: Decided) -> Option<Refused> {
        let Decided::Deny(denial) = decided else { return None };
        let rule = decided.rule().and_then(|rule| self.policy.rule(rule));
        let why = match denial {
            Denial::Rule(_) => "a rule denies it",
            Denial::NoPolicy => "no policy protects the workload",
            Denial::NoRule => "no rule allows it any more",
            Denial::PathInDoubt => "its path is in doubt",
        };
        Some(Refused { why, rule: rule.map(|rule| (Arc::clone(&rule.policy), Arc::clone(&rule.name))) })
    }

    fn counted(self: &Arc<Self>, decision: Decision) -> Verdict {
        self.count(decision.verdict, Mode::Enforce);
        if let Some(audited) = decision.audit {
            self.count(audited, Mode::Audit);
        }
        if let Some(counter) = decision.marked.and_then(|rule| self.counters.get(&rule)) {
            counter.increment(1);
        }
        Verdict { loaded: Arc::clone(self), decision }
    }

    fn count(&self, decided: Decided, mode: Mode) {
        let counter = match decided {
            Decided::Allow(rule) | Decided::Deny(Denial::Rule(rule)) => self.counters.get(&rule),
            Decided::AllowByDefault => Some(&self.allowed_by_default),
            Decided::Deny(denial) => {
                let of = |(known, of, _): &&(Denial, Mode, Counter)| *known == denial && *of == mode;
                self.defaults.iter().find(of).map(|(_, _, counter)| counter)
            }
        };
        if let Some(counter) = counter {
            counter.increment(1);
        }
    }
}

impl Verdict {
    /// Whether it is allowed.
    pub fn is_allow(&self) -> bool {
        self.decision.verdict.is_allow()
    }

    /// What its record says; all of it is borrowed from the policy that decided.
    pub fn record(&self) -> Recorded<'_> {
        let rule = |decided: Decided| decided.rule().and_then(|rule| self.loaded.policy.rule(rule));
        let (rule, audited) =
            (rule(self.decision.verdict), self.decision.audit.map(|audited| (audited, rule(audited))));
        let marked = self.decision.marked.and_then(|rule| self.loaded.policy.rule(rule));
        let audit_rule = audited.and_then(|(_, rule)| rule);
        Recorded {
            decision: Some(word(self.decision.verdict)),
            policy: rule.map(|rule| &*rule.policy),
            rule: rule.map(|rule| &*rule.name),
            policy_revision: Some(self.loaded.policy.revision()),
            policy_git_revision: self.loaded.git_revision.as_deref(),
            audit_decision: audited.map(|(audited, _)| word(audited)),
            audit_policy: audit_rule.map(|rule| &*rule.policy),
            audit_rule: audit_rule.map(|rule| &*rule.name),
            marked_policy: marked.map(|rule| &*rule.policy),
            marked_rule: marked.map(|rule| &*rule.name),
        }
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

fn word(decided: Decided) -> &'static str {
    if decided.is_allow() { "allow" } else { "deny" }
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
/// What is denied without a rule. An audited policy that does not protect a workload has nothing to say about it.
const DEFAULTS: [(Denial, Mode); 4] = [
    (Denial::NoRule, Mode::Enforce),
    (Denial::NoPolicy, Mode::Enforce),
    (Denial::PathInDoubt, Mode::Enforce),
    (Denial::NoRule, Mode::Audit),
];
/// A rule that cannot mean what it says, given the ports of this sidecar.
const HTTP_ON_TCP: &str = "C022";
