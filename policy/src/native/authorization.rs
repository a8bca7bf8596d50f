//! `AuthorizationPolicy`: who may call what, and who may not.

use std::collections::HashMap;
use std::sync::Arc;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::matching::{self, callers};
use super::{
    BAD_NAME, BAD_TICKET, BAD_TIME, Collector, DOCUMENT_KEYS, DUPLICATE_NAME, NO_RULES, OUT_OF_NAMESPACE, name,
};
use crate::diagnostic::quoted;
use crate::document::{Fields, Item};
use crate::identity::IdentityPattern;
use crate::rules::{Effect, Identities, Lowered, Mode, PolicyRules, Rule};
use crate::source::Position;

/// Reads one document.
pub(super) fn read(item: Item<'_>, collector: &mut Collector) {
    let Some(fields) = item.fields(DOCUMENT_KEYS) else { return };
    let metadata = fields.required("metadata").and_then(|metadata| metadata.fields(&["name", "namespace"]));
    let named = metadata.and_then(|metadata| metadata.required("name"));
    let policy_name: Option<Arc<str>> = named.and_then(name).map(Arc::from);
    let in_namespace = metadata.and_then(|metadata| metadata.optional("namespace"));
    let namespace: Option<Arc<str>> = in_namespace.and_then(namespace).map(Arc::from);
    if let (Some(named), Some(policy_name)) = (named, &policy_name) {
        collector.take_name("policy", namespace.as_deref(), policy_name, named.position());
    }
    let Some(spec) = fields.required("spec").and_then(|spec| spec.fields(&["mode", "target", "allow", "deny"])) else {
        return;
    };
    let mode = spec.optional("mode").map_or(Some(Mode::Enforce), |mode| mode.choice(&MODES));
    let target = spec.optional("target").map(|target| read_target(target, namespace.as_deref(), collector));
    // Without a name rules are read all the same, for the mistakes in them.
    let heading = Heading { policy: policy_name.clone().unwrap_or_default(), namespace: namespace.clone(), mode };
    let rules = read_rules(spec, &heading, collector);
    let allows = rules.iter().any(|one| one.rule.effect == Effect::Allow);
    if let (Some(name), Some(mode)) = (policy_name, mode) {
        // A target that could not be read has been reported, so that this policy never comes into force.
        let (target, selector) = (target.flatten(), Vec::new());
        collector.policies.push(PolicyRules { name, namespace, mode, target, selector, allows, rules });
    }
}

/// What every rule of a policy shares.
struct Heading {
    policy: Arc<str>,
    namespace: Option<Arc<str>>,
    mode: Option<Mode>,
}

fn read_target(item: Item<'_>, namespace: Option<&str>, collector: &mut Collector) -> Option<Identities> {
    let fields = item.fields(&["identities", "identitySets"])?;
    let target = callers(fields, ["identities", "identitySets"], collector)?;
    let Some(namespace) = namespace else { return target };
    let listed = fields.optional("identities").and_then(Item::list);
    for item in listed.into_iter().flatten() {
        // What cannot be parsed was reported when `callers` read it.
        let Ok(pattern) = item.text().map(IdentityPattern::parse).transpose() else { continue };
        if pattern.is_some_and(|pattern| !pattern.reaches_namespace(namespace)) {
            let message = format!("this target is outside the policy's namespace {}", quoted(namespace));
            let reported = item.error(OUT_OF_NAMESPACE, message);
            reported.help(format!("only workloads with /ns/{namespace}/ are in it; leave `namespace` out for all"));
        }
    }
    target
}

fn read_rules(spec: Fields<'_>, heading: &Heading, collector: &mut Collector) -> Vec<Lowered> {
    let mut rules = Vec::new();
    let mut names = HashMap::new();
    let lists = [("allow", Effect::Allow), ("deny", Effect::Deny)].map(|(key, effect)| (spec.optional(key), effect));
    if lists.iter().all(|(list, _)| list.is_none()) && spec.are_known() {
        let reported = spec.item().error(NO_RULES, "the policy has neither `allow` nor `deny`");
        reported.help("add rules; a workload that nothing allows is denied to all without a policy");
    }
    for (list, effect) in lists {
        for item in list.and_then(Item::list).into_iter().flatten() {
            if let Some(rule) = read_rule(item, effect, heading, &mut names, collector) {
                rules.push(rule);
            }
        }
    }
    rules
}

fn read_rule<'a>(
    item: Item<'a>,
    effect: Effect,
    heading: &Heading,
    names: &mut HashMap<&'a str, Position>,
    collector: &mut Collector,
) -> Option<Lowered> {
    let fields = item.fields(&["name", "from", "to", "when", "expires", "ticket"])?;
    let named = fields.required("name").and_then(|item| Some((item, name(item)?)));
    if let Some((item, name)) = named {
        let first = *names.entry(name).or_insert(item.position());
        if first != item.position() {
            let reported = item.error(DUPLICATE_NAME, format!("the policy has another rule {}", quoted(name)));
            reported.help(format!("rename one of the two; the other is at line {}", first.line));
        }
    }
    let matchers = matching::read(fields, collector);
    let expires = fields.optional("expires").map(instant);
    let ticket = fields.optional("ticket").map(ticket);
    let (_, name) = named?;
    let rule = Rule {
        policy: heading.policy.clone(),
        namespace: heading.namespace.clone(),
        name: name.into(),
        effect,
        mode: heading.mode?,
        origin: collector.origin(item.position()),
        ticket: ticket.map_or(Some(None), |ticket| ticket.map(Some))?.map(Arc::from),
        expires: expires.map_or(Some(None), |expires| expires.map(Some))?,
    };
    Some(Lowered { rule, matchers })
}

/// Seconds since 1970 of an RFC 3339 time.
pub(super) fn instant(item: Item<'_>) -> Option<i64> {
    let text = item.text()?;
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(time.unix_timestamp());
    }
    let reported = item.error(BAD_TIME, format!("{} is not a time", quoted(text)));
    reported.help("write it as in RFC 3339, with a time zone: 2026-12-31T00:00:00Z");
    None
}

fn ticket<'a>(item: Item<'a>) -> Option<&'a str> {
    let text = item.string()?;
    if text.chars().count() <= MAX_TICKET_CHARACTERS && !text.chars().any(char::is_control) {
        return Some(text);
    }
    let reported = item.error(BAD_TICKET, format!("{} cannot be a ticket", quoted(text)));
    reported.help(format!("use at most {MAX_TICKET_CHARACTERS} characters, all printable"));
    None
}

/// A Kubernetes namespace: a DNS label.
pub(crate) fn namespace<'a>(item: Item<'a>) -> Option<&'a str> {
    let text = name(item)?;
    if text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Some(text);
    }
    let reported = item.error(BAD_NAME, format!("{} cannot be a namespace", quoted(text)));
    reported.help("use lower-case letters, digits and `-`, without patterns");
    None
}

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("audit", Mode::Audit)];

/// It goes into every audit record of the rule.
const MAX_TICKET_CHARACTERS: usize = 128;
