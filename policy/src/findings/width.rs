//! Allow rules that are wider than anyone is likely to mean.

use std::collections::BTreeSet;

use super::implication::{On, Subject, Subjects};
use super::{ANY_CALLER, ANY_REQUEST, Notes, OTHER_DOMAIN, Sidecar};
use crate::diagnostic::{Severity, quoted};
use crate::rules::{Effect, Sense};

pub(super) fn judge(notes: &mut Notes<'_>, subjects: &Subjects<'_>, sidecar: Option<&Sidecar>) {
    for subject in subjects.rules.iter().filter(|subject| subject.rule.effect == Effect::Allow) {
        let rule_name = format!("rule {} of {}", quoted(&subject.rule.name), quoted(&subject.rule.policy));
        let mut warn = |code, message: String| {
            notes.add(Severity::Warning, code, &subject.rule.origin, format!("{rule_name} {message}"));
        };
        if let Some(who) = any_caller(subjects, subject) {
            warn(ANY_CALLER, format!("allows {who}"));
        }
        if allows_every_request(subject) && !is_for_opaque_ports(subject, sidecar) {
            warn(ANY_REQUEST, "allows every method on every path".to_owned());
        }
        if let Some((theirs, ours)) = other_domain(subjects, subject) {
            warn(OTHER_DOMAIN, format!("lets workloads of {} call one of {}", quoted(&theirs), quoted(&ours)));
        }
    }
}

fn any_caller(subjects: &Subjects<'_>, subject: &Subject<'_>) -> Option<String> {
    if subject.callers().next().is_none() {
        // Whoever is left over after `notIdentities` is still whoever any trust domain has.
        return Some("every workload of every trust domain".to_owned());
    }
    let mut all = subject.callers().map(|names| subjects.patterns(names).find(|pattern| pattern.is_everything()));
    let first = all.next().flatten()?;
    all.all(|other| other.is_some()).then(|| format!("every workload of {}", quoted(first.head())))
}

/// No matcher on the request, or none but paths that leave nothing out. With ports alone a rule is taken to be for
/// opaque TCP, which has nothing else to match on.
fn allows_every_request(subject: &Subject<'_>) -> bool {
    let every_path = |on: &On<'_>| match on {
        On::Path(patterns) => patterns.iter().any(|pattern| pattern.is_everything()),
        _ => false,
    };
    if subject.request.is_empty() {
        return subject.ports().next().is_none();
    }
    subject.request.iter().all(|test| test.sense == Sense::Is && every_path(&test.on))
}

fn is_for_opaque_ports(subject: &Subject<'_>, sidecar: Option<&Sidecar>) -> bool {
    sidecar.is_some_and(|sidecar| sidecar.http.is_empty() && subject.request.is_empty())
}

/// A trust domain that callers are of and no workload of the target is.
fn other_domain(subjects: &Subjects<'_>, subject: &Subject<'_>) -> Option<(String, String)> {
    let target = subjects.target(subject)?;
    let ours: BTreeSet<&str> = subjects.patterns(target).map(|pattern| pattern.head()).collect();
    let callers = subject.callers().flat_map(|names| subjects.patterns(names)).filter(|pattern| !pattern.is_opaque());
    let theirs: BTreeSet<&str> =
        callers.map(|pattern| pattern.head()).filter(|theirs| !ours.contains(theirs)).collect();
    Some(((*theirs.first()?).to_owned(), (*ours.first()?).to_owned()))
}
