//! Istio's `AuthorizationPolicy`, lowered to [`crate::rules`] with Istio's meaning.
//!
//! Where Istio would open a door, or leaves one open by surprise, it is read more strictly or as Istio does, and a
//! warning says so. What cannot be honoured (JWTs, external authorization, Envoy's own metadata, addresses from
//! `x-forwarded-for`) is an error: a policy of which a part is missing must not be in force.

mod callers;
mod condition;
mod lowering;
mod operation;
mod path;
mod principal;
mod source;
mod surprise;

pub(crate) use callers::{Named, named_by};
pub(crate) use lowering::Spread;
pub(crate) use surprise::Allowing;

use std::cell::RefCell;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Severity, quoted};
use crate::document::{Fields, Item};
use crate::matchers::Doubt;
use crate::native::{BAD_NAME, Collector, UNKNOWN_KIND, namespace};
use crate::policy::{DefaultAction, Options};
use crate::rules::{Effect, Lowered, Mode, PolicyRules, Sense};

/// A kind of Istio's that is no policy of this proxy.
const OTHER_KIND: &str = "P060";
/// Something that depends on a JWT.
const JWT: &str = "P061";
/// Something that another service, or Envoy itself, would have to decide.
const NOT_OURS: &str = "P062";
/// An address that the caller names.
const FORWARDED_ADDRESS: &str = "P063";
/// A policy for something else than workloads.
const TARGET_REF: &str = "P064";
/// A policy that denies, without rules.
const NO_RULES: &str = "P065";
/// A principal, service account, namespace or trust domain that no caller has.
const NO_CALLER: &str = "P066";
/// Fields that exclude each other.
const EXCLUSIVE: &str = "P067";
/// More than Istio takes, or than can be decided quickly.
const TOO_MANY: &str = "P068";
/// A port that is none.
const BAD_PORT: &str = "P069";
/// A key of `when` that nobody knows.
const UNKNOWN_ATTRIBUTE: &str = "P070";
/// A dry-run annotation that says nothing.
const BAD_DRY_RUN: &str = "P071";
/// A label that no workload has.
const BAD_LABEL: &str = "P072";
/// The policy has no namespace (a warning).
const NO_NAMESPACE: &str = "P080";
/// Without an ALLOW policy nothing is allowed (a warning).
pub(crate) const NOTHING_ALLOWS: &str = "P081";
/// Hosts are matched with and without port (a warning).
const HOST_ANY_PORT: &str = "P082";
/// Namespaces are matched by whole segment (a warning).
const NAMESPACE_SEGMENT: &str = "P083";
/// Every value of a repeated header counts (a warning).
const REPEATED_HEADER: &str = "P084";
/// A DENY rule that denies all opaque TCP (a warning).
const DENIES_TCP: &str = "P085";
/// An ALLOW rule that allows no opaque TCP because of one of its parts (a warning).
const ALLOWS_NO_TCP: &str = "P086";
/// A DENY rule that denies only what several negations leave over (a warning).
const ONLY_NEGATIONS: &str = "P087";
/// A path that no request has once it is in normal form (a warning).
const NOT_NORMAL: &str = "P088";
/// A host that misses requests which name the port (a warning).
const HOST_AS_SENT: &str = "P089";
/// An asterisk that is no wildcard (a warning).
const INNER_ASTERISK: &str = "P090";
/// `cluster.local` taken literally (a warning).
const CLUSTER_LOCAL: &str = "P091";
/// Policies by label, and no labels to compare them with (a note).
const NO_LABELS: &str = "P092";

/// What every rule of a policy shares.
struct Context<'a> {
    policy: Arc<str>,
    namespace: Arc<str>,
    effect: Effect,
    mode: Mode,
    options: &'a Options,
    /// Warnings that are worth reading once in a policy.
    told: RefCell<Vec<&'static str>>,
}

impl Context<'_> {
    /// Which way a matcher leans when a request can be read in two ways.
    fn doubt(&self, sense: Sense) -> Doubt {
        match (self.effect, sense) {
            (Effect::Deny, Sense::Is) | (Effect::Allow, Sense::IsNot) => Doubt::Matches,
            (Effect::Deny, Sense::IsNot) | (Effect::Allow, Sense::Is) => Doubt::Misses,
        }
    }

    /// Whether this is the first time that `code` is asked about.
    fn first(&self, code: &'static str) -> bool {
        let mut told = self.told.borrow_mut();
        let first = !told.contains(&code);
        if first {
            told.push(code);
        }
        first
    }
}

/// What an author may write under `action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Deny,
    Audit,
    Custom,
}

/// Whether an `apiVersion` is one of Istio's.
pub(crate) fn is_version(version: &str) -> bool {
    version.split('/').next().is_some_and(|group| group.ends_with(".istio.io"))
}

/// Reads one document of any of Istio's kinds.
pub(crate) fn read(item: Item<'_>, version: &str, kind: &str, collector: &mut Collector, options: &Options) {
    if kind != "AuthorizationPolicy" {
        let at = item.peek("kind").unwrap_or(item);
        at.error(OTHER_KIND, format!("Istio's {} is not read", quoted(kind))).help(instead_of(kind));
        return;
    }
    if !VERSIONS.contains(&version) {
        let at = item.peek("apiVersion").unwrap_or(item);
        let reported = at.error(UNKNOWN_KIND, format!("the API version {} is not known", quoted(version)));
        reported.help(format!("write `{}`", VERSIONS.join("` or `")));
        return;
    }
    policy(item, collector, options);
}

/// What to say of policies that select by label when no label of a workload is known: they are not in force, also those
/// that deny.
pub(crate) fn without_labels(policies: &[PolicyRules], options: &Options) -> Option<Diagnostic> {
    let selecting = policies.iter().filter(|policy| !policy.selector.is_empty()).count();
    if selecting == 0 || !options.labels.is_empty() {
        return None;
    }
    let message =
        format!("policies that select workloads by label: {selecting}; without labels to compare none is in force");
    let note = Diagnostic::of_all_files(Severity::Note, NO_LABELS, message);
    Some(note.help(
        "give the labels of the workload: `policy: {labels: …}` for a sidecar, `labels` in a test case, `--label`",
    ))
}

fn policy(item: Item<'_>, collector: &mut Collector, options: &Options) {
    let Some(fields) = item.fields(&DOCUMENT_KEYS) else { return };
    let metadata = fields.required("metadata").and_then(|metadata| metadata.fields(&METADATA_KEYS));
    let named = metadata.and_then(|metadata| metadata.required("name"));
    let name: Option<Arc<str>> = named.and_then(object_name).map(Arc::from);
    let namespace: Option<Arc<str>> = metadata.and_then(namespace_of).map(Arc::from);
    if let (Some(named), Some(name), Some(namespace)) = (named, &name, &namespace) {
        collector.take_name("policy", Some(namespace), name, named.position());
    }
    let Some(spec_item) = fields.required("spec") else { return };
    // `spec: {}` allows nothing: an ALLOW policy without rules.
    let spec = if spec_item.is_empty_mapping() { None } else { Some(spec_item.fields(&SPEC_KEYS)) };
    let Some(spec) = spec.map_or(Some(None), |spec| spec.map(Some)) else { return };
    let action = match spec.and_then(|spec| spec.optional("action")) {
        None => Some(Action::Allow),
        Some(action) => action.choice(&ACTIONS),
    };
    if let Some(spec) = spec {
        refuse(spec, action);
    }
    let selector = spec.and_then(|spec| spec.optional("selector")).map_or(Some(Vec::new()), selector);
    let dry_run = metadata.and_then(|metadata| dry_run(metadata, action));
    let (Some(action), Some(dry_run)) = (action, dry_run) else { return };
    let (effect, mode) = match (action, dry_run) {
        (Action::Allow, true) => (Effect::Allow, Mode::Audit),
        (Action::Allow, false) => (Effect::Allow, Mode::Enforce),
        (Action::Deny, true) => (Effect::Deny, Mode::Audit),
        (Action::Deny, false) => (Effect::Deny, Mode::Enforce),
        // In doubt what is marked is marked, as what is denied is denied.
        (Action::Audit, _) => (Effect::Deny, Mode::Mark),
        (Action::Custom, _) => return,
    };
    // Without a name rules are read all the same, for the mistakes in them.
    let (policy, home) = (name.clone().unwrap_or_default(), namespace.clone().unwrap_or_default());
    let context = Context { policy, namespace: home, effect, mode, options, told: RefCell::default() };
    let rules = read_rules(spec_item, spec, action, &context, collector);
    let (Some(name), Some(namespace), Some(selector)) = (name, namespace, selector) else { return };
    let is_root = *namespace == *options.root_namespace;
    let namespace = Some(namespace).filter(|_| !is_root);
    let allows = effect == Effect::Allow;
    collector.policies.push(PolicyRules { name, namespace, mode, target: None, selector, allows, rules });
    // With Istio's default, what such a policy does not deny would be allowed.
    if options.default_action == DefaultAction::Deny && !(allows && mode == Mode::Enforce) {
        collector.expect_allow(named.unwrap_or(item).position());
    }
}

fn read_rules(
    spec_item: Item<'_>,
    spec: Option<Fields<'_>>,
    action: Action,
    context: &Context<'_>,
    collector: &mut Collector,
) -> Vec<Lowered> {
    let Some(list) = spec.and_then(|spec| spec.optional("rules")) else {
        if action == Action::Deny {
            let reported = spec_item.error(NO_RULES, "a DENY policy without `rules` denies nothing");
            reported.help("add `rules: [{}]` to deny everything, or the rules that are meant");
        }
        return Vec::new();
    };
    let rules: Vec<Item<'_>> = list.list().into_iter().flatten().collect();
    if rules.len() > MAX_RULES {
        let reported = list.error(TOO_MANY, format!("the policy has {} rules", rules.len()));
        reported.help(format!("Istio takes at most {MAX_RULES}: split the policy into several"));
        return Vec::new();
    }
    lowering::lower(list, &rules, context, collector)
}

/// Reports what a policy must not have.
fn refuse(spec: Fields<'_>, action: Option<Action>) {
    for key in ["targetRef", "targetRefs"] {
        if let Some(target) = spec.optional(key) {
            let message = format!("`{key}` is for gateways and waypoints, and a sidecar is neither");
            target
                .error(TARGET_REF, message)
                .help("write `selector: {matchLabels: …}` for the workloads that are meant");
        }
    }
    if action == Some(Action::Custom) {
        let at = spec.optional("action").unwrap_or(spec.item());
        let reported = at.error(NOT_OURS, "`action: CUSTOM` asks another service, which Portcullis does not do");
        reported.help("write what that service decides as ALLOW and DENY, or leave the check to the application");
    } else if let Some(provider) = spec.optional("provider") {
        let reported = provider.error(NOT_OURS, "`provider` is for `action: CUSTOM` alone");
        reported.help("remove it");
    }
}

/// The labels that a workload must have.
fn selector(item: Item<'_>) -> Option<Vec<(Box<str>, Box<str>)>> {
    let labels = item.fields(&["matchLabels"])?.required("matchLabels")?;
    let mut all = Vec::new();
    for (position, value) in labels.pairs()? {
        let (key, text) = (value.name(), value.string()?);
        if key.is_empty() || key.contains('*') || text.contains('*') {
            let message = format!("{} is not a label", quoted(&format!("{key}: {text}")));
            item.error_at(position, BAD_LABEL, message).help("labels are compared as they stand, without wildcards");
            return None;
        }
        all.push((key.into(), text.into()));
    }
    Some(all)
}

/// Whether the policy is to be tried only. `None` when the annotation is wrong.
fn dry_run(metadata: Fields<'_>, action: Option<Action>) -> Option<bool> {
    let Some(annotations) = metadata.optional("annotations") else { return Some(false) };
    let Some((_, value)) = annotations.pairs()?.find(|(_, value)| value.name() == DRY_RUN) else { return Some(false) };
    if action == Some(Action::Audit) {
        let reported = value.error(BAD_DRY_RUN, format!("`{DRY_RUN}` is for ALLOW and DENY: AUDIT decides nothing"));
        reported.help("remove the annotation");
        return None;
    }
    match value.string()? {
        // What Go takes for a boolean.
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        other => {
            let reported = value.error(BAD_DRY_RUN, format!("`{DRY_RUN}` cannot be {}", quoted(other)));
            reported.help("write \"true\" or \"false\", in quotes");
            None
        }
    }
}

/// The name of a Kubernetes object: labels with dots between them.
fn object_name<'a>(item: Item<'a>) -> Option<&'a str> {
    let text = item.string()?;
    let is_label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.len() <= MAX_OBJECT_NAME && text.split('.').all(is_label) {
        return Some(text);
    }
    let reported = item.error(BAD_NAME, format!("{} cannot be a name", quoted(text)));
    reported.help(format!("Kubernetes takes at most {MAX_OBJECT_NAME} lower-case letters, digits, `-` and `.`"));
    None
}

/// The namespace; what kubectl takes from its context is not known here, and is `default` unless somebody set it.
fn namespace_of<'a>(metadata: Fields<'a>) -> Option<&'a str> {
    if let Some(item) = metadata.optional("namespace") {
        return namespace(item);
    }
    let message = "the policy has no namespace, so it is read as one of `default`";
    let reported = metadata.item().warning(NO_NAMESPACE, message);
    reported.help("write the namespace that it is applied to: `namespace: …`");
    Some(DEFAULT_NAMESPACE)
}

fn instead_of(kind: &str) -> &'static str {
    match kind {
        "PeerAuthentication" => "remove it: mutual TLS is always required, as with `mode: STRICT`",
        "RequestAuthentication" => "remove it: JWTs are checked by the application or a gateway, not by this sidecar",
        "EnvoyFilter" | "WasmPlugin" => "remove it: there is no Envoy here; write what it decides as a policy",
        _ => "the policy directory is for AuthorizationPolicy; keep other kinds of Istio's elsewhere",
    }
}

const VERSIONS: [&str; 2] = ["security.istio.io/v1", "security.istio.io/v1beta1"];
const DOCUMENT_KEYS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
/// `name`, `namespace` and `annotations` mean something; the others are what `kubectl get -o yaml` shows as well.
const METADATA_KEYS: [&str; 13] = [
    "name",
    "namespace",
    "annotations",
    "labels",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];
const SPEC_KEYS: [&str; 6] = ["selector", "targetRef", "targetRefs", "action", "provider", "rules"];
const ACTIONS: [(&str, Action); 4] =
    [("ALLOW", Action::Allow), ("DENY", Action::Deny), ("AUDIT", Action::Audit), ("CUSTOM", Action::Custom)];
/// Where kubectl puts what names no namespace, unless somebody set another.
const DEFAULT_NAMESPACE: &str = "default";
const DRY_RUN: &str = "istio.io/dry-run";

/// The limit of Istio's own schema.
const MAX_RULES: usize = 512;
/// That of Kubernetes.
const MAX_OBJECT_NAME: usize = 253;

#[cfg(test)]
mod tests;
