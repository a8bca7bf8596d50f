//! What Istio's meaning does that authors do not expect: kept, and told.

use std::collections::HashMap;

use super::{ALLOWS_NO_TCP, Context, DENIES_TCP, ONLY_NEGATIONS};
use crate::document::Item;
use crate::identity::in_namespace;
use crate::path::PathPattern;
use crate::rules::{
    Condition, ConnectionMatcher, Effect, Identities, Matchers, Mode, PolicyRules, RequestMatcher, Sense,
};

/// Looks at all alternatives of one rule, and keeps those of an ALLOW rule together.
pub(super) fn judge(item: Item<'_>, alternatives: &mut [(String, Matchers)], context: &Context<'_>) {
    match (context.effect, context.mode) {
        (_, Mode::Mark) => {}
        (Effect::Deny, Mode::Enforce | Mode::Audit) => judge_deny(item, alternatives),
        (Effect::Allow, Mode::Enforce | Mode::Audit) => drop_on_tcp(item, alternatives),
    }
}

fn judge_deny(item: Item<'_>, alternatives: &[(String, Matchers)]) {
    if alternatives.iter().any(|(_, one)| !one.request.is_empty() && !names_ports(one)) {
        let message = "opaque TCP shows nothing of HTTP, so this rule denies it on every port, as in Istio";
        item.warning(DENIES_TCP, message).help("add `ports` to each operation, with the HTTP ports that are meant");
    }
    if alternatives.iter().any(|(_, one)| only_negations(one)) {
        let message =
            "this rule denies only what none of its `not…` fields lists: what one of them lists is let through";
        let reported = item.warning(ONLY_NEGATIONS, message);
        reported.help("to deny whatever breaks one of the conditions, write a rule for each");
    }
}

/// Istio leaves out an ALLOW rule on TCP as a whole when a part of it is about HTTP: the other parts allow nothing
/// there either. A condition that every request meets does that here.
fn drop_on_tcp(item: Item<'_>, alternatives: &mut [(String, Matchers)]) {
    let on_http = |(_, one): &(String, Matchers)| !one.request.is_empty();
    if !alternatives.iter().any(on_http) || alternatives.iter().all(on_http) {
        return;
    }
    for (_, one) in alternatives.iter_mut().filter(|one| !on_http(one)) {
        if let Ok(every) = PathPattern::of_istio("/*") {
            one.request.push(Condition { sense: Sense::Is, matcher: RequestMatcher::Path(vec![every]) });
        }
    }
    let message = "opaque TCP is not allowed by this rule, because one of its operations is about HTTP, as in Istio";
    item.warning(ALLOWS_NO_TCP, message).help("write a rule of its own for what opaque TCP may do");
}

fn names_ports(matchers: &Matchers) -> bool {
    matchers.connection.iter().any(|one| one.sense == Sense::Is && matches!(one.matcher, ConnectionMatcher::Port(_)))
}

fn only_negations(matchers: &Matchers) -> bool {
    let senses = matchers.connection.iter().map(|one| one.sense).chain(matchers.request.iter().map(|one| one.sense));
    let senses: Vec<Sense> = senses.collect();
    senses.len() > 1 && senses.iter().all(|sense| *sense == Sense::IsNot)
}

/// The enforced policies that allow, by namespace.
pub(crate) struct Allowing<'a>(HashMap<Option<&'a str>, Vec<&'a PolicyRules>>);

impl<'a> Allowing<'a> {
    pub(crate) fn of(policies: &'a [PolicyRules]) -> Self {
        let mut by_namespace: HashMap<Option<&str>, Vec<&PolicyRules>> = HashMap::new();
        for policy in policies.iter().filter(|policy| policy.allows && policy.mode == Mode::Enforce) {
            by_namespace.entry(policy.namespace.as_deref()).or_default().push(policy);
        }
        Self(by_namespace)
    }

    /// Whether one of them may protect what `policy` protects. For a policy of the whole mesh only one like it counts:
    /// there will be workloads in a namespace that nobody has thought of.
    pub(crate) fn may_protect(&self, policy: &PolicyRules) -> bool {
        let namespaces = [None, policy.namespace.as_deref()];
        let mut lists = namespaces.iter().filter_map(|namespace| self.0.get(namespace));
        lists.any(|list| list.len() > MOST_ASKED || list.iter().any(|one| may_meet(one, policy)))
    }
}

fn may_meet(allow: &PolicyRules, policy: &PolicyRules) -> bool {
    let contradicts = |key: &str, value: &str| policy.selector.iter().any(|(k, v)| **k == *key && **v != *value);
    let same_labels = !allow.selector.iter().any(|(key, value)| contradicts(key, value));
    let reaches = |target: &Identities| match &policy.namespace {
        None => false,
        Some(namespace) => {
            let exact = target.exact.iter().any(|id| in_namespace(id, namespace));
            exact || !target.sets.is_empty() || target.patterns.iter().any(|one| one.reaches_namespace(namespace))
        }
    };
    same_labels && allow.target.as_ref().is_none_or(reaches)
}

/// A warning fewer is better than a load that takes the square of the number of policies.
const MOST_ASKED: usize = 1000;
