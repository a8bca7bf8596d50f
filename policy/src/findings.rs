//! What a set of documents says that its authors should look at, beyond what is wrong with it.
//!
//! Only what is certain is reported: a rule that is said to change nothing can be removed, and no decision changes.
//! Findings decide nothing, and the sidecar does not ask for them.

mod identities;
mod implication;
mod inventory;
mod pattern;
mod redundant;
mod services;
mod width;

use std::collections::HashMap;

use spiffe::SpiffeId;

pub use inventory::Inventory;

use crate::diagnostic::{Diagnostic, Diagnostics, Severity, quoted};
use crate::native::{self, CODES, Collected};
use crate::policy::{DefaultAction, Options};
use crate::rules::{Effect, Origin, PolicyRules, Rule};
use crate::service::ServiceName;
use crate::source::{File, Position, Source};

use implication::Subjects;
use redundant::Why;

/// What findings are made from, besides the documents.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Seconds since 1970.
    pub now: i64,
    /// What the documents are read with. Policies count whatever the labels: they are meant for some workload.
    pub options: &'a Options,
    /// Who is known to exist.
    pub inventory: Option<&'a Inventory>,
    /// The sidecar that the documents are for.
    pub sidecar: Option<&'a Sidecar>,
}

/// What a sidecar's configuration says that policies must fit.
#[derive(Debug, Clone)]
pub struct Sidecar {
    /// Whose sidecar it is.
    pub workload: SpiffeId,
    /// The application's ports that carry opaque TCP.
    pub opaque: Vec<u16>,
    /// The application's ports that carry HTTP.
    pub http: Vec<u16>,
    /// The Services that its outbound listeners name.
    pub services: Vec<ServiceName>,
}

/// Everything worth looking at in `files`, ordered by place.
///
/// # Errors
/// Every mistake, when the documents cannot be used.
pub fn examine(files: &[File<'_>], question: &Question<'_>) -> Result<Diagnostics, Diagnostics> {
    let Collected { policies, sets, cases, services, found } = native::collect(files, question.options);
    if found.has_errors() {
        return Err(found);
    }
    let mut notes = Notes { sources: HashMap::new(), files, found: Diagnostics::default() };
    let subjects = Subjects::of(&policies, &sets);
    redundant_rules(&mut notes, &subjects, question);
    width::judge(&mut notes, &subjects, question.sidecar);
    for rule in policies.iter().flat_map(|policy| &policy.rules) {
        expiry(&mut notes, &rule.rule, question.now);
    }
    services::judge(&mut notes, &services);
    if let Some(sidecar) = question.sidecar {
        for policy in policies.iter().filter(|policy| policy.protects(&sidecar.workload, &sets)) {
            ports(&mut notes, policy, sidecar);
        }
        services::judge_sidecar(&mut notes, &services, sidecar);
    }
    if let Some(inventory) = question.inventory {
        identities::judge(&mut notes, inventory, question.options);
    }
    for policy in &policies {
        let is_tested = cases.iter().any(|case| policy.protects(&case.workload, &sets));
        if let (false, Some(first)) = (is_tested, policy.rules.first()) {
            let message = format!("no test case calls a workload that policy {} protects", quoted(&policy.name));
            notes.add(Severity::Note, UNTESTED, &first.rule.origin, message);
        }
    }
    let mut found = notes.found;
    found.sort();
    Ok(found)
}

/// Findings on their way, with the lines that they point at.
struct Notes<'a> {
    sources: HashMap<&'a str, Source<'a>>,
    files: &'a [File<'a>],
    found: Diagnostics,
}

impl Notes<'_> {
    fn add(&mut self, severity: Severity, code: &'static str, at: &Origin, message: String) {
        let remedy = crate::codes::find(code).map(|code| code.remedy).unwrap_or_default();
        let position = Position { line: at.line, column: at.column };
        let diagnostic = self.diagnostic(severity, code, &at.file, position, message);
        self.found.push(diagnostic.help(remedy));
    }

    fn diagnostic(
        &mut self,
        severity: Severity,
        code: &'static str,
        file: &str,
        position: Position,
        message: String,
    ) -> Diagnostic {
        if !self.sources.contains_key(file) {
            let read = self.files.iter().find(|one| one.name == file);
            if let Some((file, source)) = read.and_then(|file| Some((file, Source::read(*file, &CODES).ok()?))) {
                self.sources.insert(file.name, source);
            }
        }
        match self.sources.get(file) {
            Some(source) => source.diagnostic(severity, code, position, message),
            None => Diagnostic::of_all_files(severity, code, message),
        }
    }
}

fn redundant_rules(notes: &mut Notes<'_>, subjects: &Subjects<'_>, question: &Question<'_>) {
    for redundant in redundant::find(subjects, question.now) {
        let rule = redundant.subject.rule;
        // Where the default is to allow, an allow rule closes its workloads even if it matches nothing. One that another
        // covers leaves that other behind.
        let closes = rule.effect == Effect::Allow && question.options.default_action == DefaultAction::Allow;
        if closes && matches!(redundant.why, Why::Contradiction | Why::Swallowed(_)) {
            continue;
        }
        let verb = match rule.effect {
            Effect::Allow => "allows",
            Effect::Deny => "denies",
        };
        let (code, why) = match redundant.why {
            Why::Contradiction => {
                (CONTRADICTION, "matches nothing: it asks for something and for its opposite".to_owned())
            }
            Why::Duplicate(other) => (DUPLICATE, format!("is the same as {}", named(other.rule))),
            Why::Shadowed(other) => {
                (SHADOWED, format!("is superfluous: {} {verb} all that it {verb}", named(other.rule)))
            }
            Why::Swallowed(other) => (SWALLOWED, format!("allows nothing: {} denies all of it", named(other.rule))),
        };
        notes.add(
            Severity::Warning,
            code,
            &rule.origin,
            format!("rule {} of {} {why}", quoted(&rule.name), quoted(&rule.policy)),
        );
    }
    if !subjects.is_complete() {
        let message = "so many rules could cover each other that not all of them were compared";
        notes.found.push(Diagnostic::of_all_files(Severity::Note, INCOMPLETE, message));
    }
}

fn expiry(notes: &mut Notes<'_>, rule: &Rule, now: i64) {
    let Some(end) = rule.expires else { return };
    let ticket = rule.ticket.as_ref().map(|ticket| format!(" (ticket {})", quoted(ticket))).unwrap_or_default();
    let rule_name = format!("rule {} of {}{ticket}", quoted(&rule.name), quoted(&rule.policy));
    let days = (end.saturating_sub(now)) / DAY;
    match end.saturating_sub(now) {
        left if left <= 0 => {
            let since = match -days {
                0 => "less than a day ago".to_owned(),
                1 => "a day ago".to_owned(),
                days => format!("{days} days ago"),
            };
            notes.add(
                Severity::Warning,
                EXPIRED,
                &rule.origin,
                format!("{rule_name} expired {since}: it is not in force"),
            );
        }
        left if left <= SOON => {
            let until = match days {
                0 => "in less than a day".to_owned(),
                1 => "in a day".to_owned(),
                days => format!("in {days} days"),
            };
            notes.add(Severity::Warning, EXPIRES_SOON, &rule.origin, format!("{rule_name} expires {until}"));
        }
        _ => {}
    }
}

fn ports(notes: &mut Notes<'_>, policy: &PolicyRules, sidecar: &Sidecar) {
    for lowered in &policy.rules {
        let rule = &lowered.rule;
        let rule_name = format!("rule {} of {}", quoted(&rule.name), quoted(&rule.policy));
        let named = |port: &&u16| lowered.matchers.name_port(**port);
        if let (Some(port), false) = (sidecar.opaque.iter().find(named), lowered.matchers.request.is_empty()) {
            let message = format!("{rule_name} matches on HTTP, and port {port} is opaque TCP");
            notes.add(Severity::Error, HTTP_ON_TCP, &rule.origin, message);
        }
        let subject = implication::ports(&lowered.matchers);
        let served = sidecar.opaque.iter().chain(&sidecar.http);
        let served: Vec<u16> = served.copied().collect();
        if let Some(port) = subject.into_iter().flatten().find(|port| !served.contains(port)) {
            let message = format!("{rule_name} names port {port}, and no listener of this sidecar forwards to it");
            notes.add(Severity::Warning, PORT_NOT_SERVED, &rule.origin, message);
        }
    }
}

/// ``rule `a` of `p` (file:line)``
fn named(rule: &Rule) -> String {
    format!("rule {} of {} ({})", quoted(&rule.name), quoted(&rule.policy), rule.origin)
}

const HTTP_ON_TCP: &str = "C022";
const SHADOWED: &str = "P101";
const SWALLOWED: &str = "P102";
const DUPLICATE: &str = "P103";
const CONTRADICTION: &str = "P104";
const ANY_CALLER: &str = "P110";
const ANY_REQUEST: &str = "P111";
const OTHER_DOMAIN: &str = "P112";
const EXPIRED: &str = "P120";
const EXPIRES_SOON: &str = "P121";
const UNKNOWN_IDENTITY: &str = "P130";
const INVENTORY_LINE: &str = "P131";
const UNTESTED: &str = "P140";
const PORT_NOT_SERVED: &str = "P150";
const UNFINDABLE: &str = "P160";
const TAKEN_OUT: &str = "P161";
const NOT_DEFINED: &str = "P162";
const INCOMPLETE: &str = "P199";

const DAY: i64 = 86400;
/// Time for a review, and for a ticket.
const SOON: i64 = 14 * DAY;

#[cfg(test)]
mod tests;
