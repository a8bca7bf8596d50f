//! Documents in, one immutable policy out: the only way a policy comes to be.
//!
//! Everything that can go wrong goes wrong here; deciding cannot fail. Policies are ordered by namespace and name, so
//! that neither the decision nor the rule it names depends on the order of files.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};
use spiffe::{SpiffeId, TrustDomain};

use crate::case::Case;
use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::index::{Index, IndexBuilder, Numbered};
use crate::istio;
use crate::native::{self, Collected};
use crate::rules::{Effect, Identities, IdentitySet, Lowered, Matchers, PolicyRules, Rule};
use crate::service::Services;
use crate::source::File;

/// What a set of files compiles to.
#[derive(Debug)]
pub struct Compiled {
    /// The policy.
    pub policy: Policy,
    /// The cases of every `PolicyTest`, for [`crate::testing::run`].
    pub cases: Vec<Case>,
    /// What someone should look at.
    pub warnings: Diagnostics,
}

/// What documents are compiled for, besides what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The labels of the workload, for the `selector` of Istio's policies: one that does not select it is left out.
    pub labels: BTreeMap<String, String>,
    /// What becomes of a call to a workload that no policy which allows protects.
    pub default_action: DefaultAction,
    /// The namespace whose policies of Istio's hold for every workload.
    pub root_namespace: String,
    /// The trust domain that `cluster.local` in Istio's principals stands for.
    pub cluster_local: Option<TrustDomain>,
}

impl Default for Options {
    /// No labels, deny, `istio-system`.
    fn default() -> Self {
        Self {
            labels: BTreeMap::new(),
            default_action: DefaultAction::Deny,
            root_namespace: "istio-system".to_owned(),
            cluster_local: None,
        }
    }
}

/// What holds where nothing is there to allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DefaultAction {
    /// Nothing may call the workload.
    #[default]
    Deny,
    /// Whatever no rule denies may: Istio's answer.
    Allow,
}

/// A compiled policy: immutable, shared by all who decide.
#[derive(Debug)]
pub struct Policy {
    revision: String,
    rules: Vec<Rule>,
    matchers: Vec<Matchers>,
    pub(crate) policies: Vec<Protection>,
    pub(crate) sets: Vec<IdentitySet>,
    pub(crate) index: Index,
    pub(crate) default_action: DefaultAction,
    services: Services,
    /// Policies whose target names identities one by one, by each of these; the others in `everywhere`.
    by_workload: HashMap<SpiffeId, Vec<usize>>,
    everywhere: Vec<usize>,
}

/// One policy with its rules, deny rules apart because they are asked first.
#[derive(Debug)]
pub(crate) struct Protection {
    pub(crate) scope: PolicyRules,
    /// The workload has the labels that it asks for.
    pub(crate) selected: bool,
    pub(crate) deny: Vec<RuleRef>,
    pub(crate) allow: Vec<RuleRef>,
}

/// A rule of one policy, by its number; see [`Policy::rule`]. Numbers follow the order of policies by namespace and name, and
/// of rules in their policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleRef(usize);

impl RuleRef {
    pub(crate) fn numbered(number: usize) -> Self {
        Self(number)
    }
}

impl Policy {
    /// Compiles all documents of all files. No documents make a valid policy that denies everything, with a warning.
    ///
    /// # Errors
    /// Every mistake of every file, ordered by place.
    pub fn compile(files: &[File<'_>]) -> Result<Compiled, Diagnostics> {
        Self::compile_with(files, &Options::default())
    }

    /// The same for one workload in particular.
    ///
    /// # Errors
    /// Every mistake of every file, ordered by place; also of policies that do not select the workload.
    pub fn compile_with(files: &[File<'_>], options: &Options) -> Result<Compiled, Diagnostics> {
        let Collected { mut policies, sets, cases, services, mut found } = native::collect(files, options);
        found.sort();
        if found.has_errors() {
            return Err(found);
        }
        if policies.is_empty() {
            let message = match options.default_action {
                DefaultAction::Deny => "there is no AuthorizationPolicy, so every request is denied",
                DefaultAction::Allow => "there is no AuthorizationPolicy, so every request is allowed by default",
            };
            // Where there are Services, the documents may be for sidecars that only call others.
            let severity = if services.is_empty() { Severity::Warning } else { Severity::Note };
            let warning = Diagnostic::of_all_files(severity, native::NO_POLICY, message);
            found.push(warning.help("add one that allows who may call"));
        }
        if let Some(note) = istio::without_labels(&policies, options) {
            found.push(note);
        }
        policies.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let mut policy = Self {
            revision: revision(files),
            rules: Vec::new(),
            matchers: Vec::new(),
            policies: Vec::new(),
            index: IndexBuilder::new(&[], "").finish(),
            default_action: options.default_action,
            sets,
            services,
            by_workload: HashMap::new(),
            everywhere: Vec::new(),
        };
        for one in policies {
            policy.add(one, options);
        }
        policy.rules.shrink_to_fit();
        policy.matchers.shrink_to_fit();
        policy.index = policy.indexed();
        Ok(Compiled { policy, cases, warnings: found })
    }

    /// A digest of the documents it was compiled from, as 32 hexadecimal digits: the same for the same contents,
    /// whatever the names and the order of the files.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The rule that a decision of *this* policy names. `None` only for a reference that another policy gave out.
    #[must_use]
    pub fn rule(&self, rule: RuleRef) -> Option<&Rule> {
        self.rules.get(rule.0)
    }

    /// All rules of all policies, for pre-registering metrics.
    pub fn rules(&self) -> impl Iterator<Item = (RuleRef, &Rule)> {
        self.rules.iter().enumerate().map(|(index, rule)| (RuleRef(index), rule))
    }

    /// The soonest moment after `now` (seconds since 1970) at which a rule ceases to be in force, so that connections
    /// can be judged again on time.
    #[must_use]
    pub fn next_expiry(&self, now: i64) -> Option<i64> {
        self.rules.iter().filter_map(|rule| rule.expires).filter(|end| *end > now).min()
    }

    /// The destinations of outbound traffic.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Rules for `workload` that name `port` and match on HTTP: a mistake where the port's protocol is opaque TCP.
    pub fn http_rules_on(&self, workload: &SpiffeId, port: u16) -> impl Iterator<Item = RuleRef> {
        let rules = self.protections(workload).flat_map(|policy| policy.deny.iter().chain(&policy.allow));
        rules.copied().filter(move |rule| {
            self.matchers(*rule).is_some_and(|matchers| !matchers.request.is_empty() && matchers.name_port(port))
        })
    }

    pub(crate) fn matchers(&self, rule: RuleRef) -> Option<&Matchers> {
        self.matchers.get(rule.0)
    }

    /// The policies that protect a workload, in a fixed order.
    pub(crate) fn protections(&self, workload: &SpiffeId) -> impl Iterator<Item = &Protection> {
        let named = self.by_workload.get(workload).map(Vec::as_slice).unwrap_or_default();
        let named = named.iter().filter_map(|index| self.policies.get(*index));
        let others = self.everywhere.iter().filter_map(|index| self.policies.get(*index));
        named.chain(others.filter(|policy| policy.scope.protects(workload, &self.sets)))
    }

    fn indexed(&self) -> Index {
        let mut builder = IndexBuilder::new(&self.sets, &self.revision);
        for policy in self.policies.iter().filter(|policy| policy.selected) {
            let rules = policy.deny.iter().chain(&policy.allow).filter_map(|reference| {
                let (rule, matchers) = (self.rule(*reference)?, self.matchers(*reference)?);
                Some(Numbered { rule: reference.0, effect: rule.effect, expires: rule.expires, matchers })
            });
            builder.add(&policy.scope, rules);
        }
        builder.finish()
    }

    /// Rules of a policy that does not select the workload have their numbers all the same, so that a number means the same
    /// whatever the labels are.
    fn add(&mut self, mut policy: PolicyRules, options: &Options) {
        let index = self.policies.len();
        let selected = policy.selects(&options.labels);
        match policy.target.as_ref().and_then(|target| names(target, &self.sets)) {
            _ if !selected => {}
            None => self.everywhere.push(index),
            Some(workloads) => {
                let in_scope = workloads.into_iter().filter(|workload| policy.protects(workload, &self.sets));
                for workload in in_scope.collect::<Vec<_>>() {
                    self.by_workload.entry(workload).or_default().push(index);
                }
            }
        }
        let (mut deny, mut allow) = (Vec::new(), Vec::new());
        for Lowered { rule, mut matchers } in std::mem::take(&mut policy.rules) {
            let reference = RuleRef(self.rules.len());
            match rule.effect {
                Effect::Deny => deny.push(reference),
                Effect::Allow => allow.push(reference),
            }
            matchers.shrink();
            self.rules.push(rule);
            self.matchers.push(matchers);
        }
        self.policies.push(Protection { scope: policy, selected, deny, allow });
    }
}

/// All identities of a target, if it has no pattern.
fn names(target: &Identities, sets: &[IdentitySet]) -> Option<Vec<SpiffeId>> {
    let members = target.sets.iter().filter_map(|set| sets.get(set.0)).map(|set| &set.members);
    let mut all = Vec::new();
    for identities in std::iter::once(target).chain(members) {
        if !identities.patterns.is_empty() {
            return None;
        }
        all.extend(identities.exact.iter().cloned());
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// The first 16 bytes of SHA-256 over the sorted digests of the files.
fn revision(files: &[File<'_>]) -> String {
    let mut digests: Vec<_> = files.iter().map(|file| Sha256::digest(file.bytes)).collect();
    digests.sort_unstable();
    let mut all = Sha256::new();
    for digest in digests {
        all.update(digest);
    }
    all.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
