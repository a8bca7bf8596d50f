//! What is wrong just now, in words and with a remedy.
//!
//! Computed anew from the whole state in every pass, so that nothing is reported after it is over and nothing is
//! forgotten. Each problem is logged once when it begins and once when it is over.

use std::fs;
use std::path::Path;

use rustls_pki_types::UnixTime;
use tracing::{error, info, warn};

use crate::bundle::Bundle;
use crate::clock::Timestamp;
use crate::explain::explain;
use crate::intake::Intake;
use crate::material::Material;
use crate::snapshot::{Problem, Severity, Subject};
use crate::sources::{Sources, TrustSource};
use crate::trust::Trust;

/// The state that is judged.
pub(crate) struct View<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) identity: &'a Intake,
    /// In the order of `sources.trust`.
    pub(crate) bundles: &'a [Intake],
    pub(crate) material: Option<&'a Material>,
    pub(crate) trust: &'a Trust,
    pub(crate) now: UnixTime,
}

/// Every problem, identity first. `since` is the time of the view: see [`keep_known`].
pub(crate) fn list(view: &View<'_>) -> Vec<Problem> {
    let mut found = Found { problems: Vec::new(), now: view.now };
    found.refused_files(&Subject::Identity, view.identity);
    if let Some(material) = view.material {
        found.of_material(material, view);
    }
    for (source, intake) in view.sources.trust.iter().zip(view.bundles) {
        let subject = Subject::Trust(source.trust_domain.clone());
        found.refused_files(&subject, intake);
        if is_identity_secret(source, &view.sources.identity) {
            found.add(&subject, Severity::Warning, "bundle_is_identity_secret", format!(
                "`{}` is the ca.crt of the identity's own Secret: it is a guess of the issuer, changes only when the leaf is renewed, and never holds the old and the new root together, so a change of root will break calls; publish a bundle of its own, for instance with trust-manager",
                source.bundle.display()
            ));
        }
        if let Some(bundle) = view.trust.bundle(&source.trust_domain) {
            found.of_bundle(&subject, bundle);
        }
    }
    found.problems
}

/// Gives a problem that was there before its time and its words of then, so that a lasting problem stays equal.
pub(crate) fn keep_known(problems: Vec<Problem>, before: &[Problem]) -> Vec<Problem> {
    problems
        .into_iter()
        .map(|problem| match before.iter().find(|known| is_same(known, &problem)) {
            Some(known) => known.clone(),
            None => problem,
        })
        .collect()
}

/// Logs what began and what is over.
pub(crate) fn log_changes(problems: &[Problem], before: &[Problem]) {
    for new in problems.iter().filter(|problem| !before.contains(problem)) {
        match new.severity {
            Severity::Alarm => error!(subject = %new.subject, label = new.label, reason = new.message, "problem"),
            Severity::Warning => warn!(subject = %new.subject, label = new.label, reason = new.message, "problem"),
        }
    }
    for over in before.iter().filter(|known| !problems.iter().any(|problem| is_same(known, problem))) {
        info!(subject = %over.subject, label = over.label, since = %Timestamp(over.since), "problem is over");
    }
}

/// The words of `stranded` tell the time of day; all others are equal as long as the problem is.
fn is_same(a: &Problem, b: &Problem) -> bool {
    let about = |problem: &Problem| (problem.subject.clone(), problem.severity, problem.label);
    about(a) == about(b) && (a.message == b.message || a.label == STRANDED)
}

struct Found {
    problems: Vec<Problem>,
    now: UnixTime,
}

impl Found {
    fn add(&mut self, subject: &Subject, severity: Severity, label: &'static str, message: String) {
        self.problems.push(Problem { subject: subject.clone(), severity, label, message, since: self.now });
    }

    fn refused_files(&mut self, subject: &Subject, intake: &Intake) {
        let Some(fault) = intake.lasting_fault() else { return };
        let (severity, consequence) = if intake.has_good() {
            (Severity::Warning, "the last good one stays in use")
        } else {
            (Severity::Alarm, "there is none to go on with, so traffic is refused")
        };
        self.add(subject, severity, fault.label, format!("{}; {consequence}", fault.message));
    }

    fn of_material(&mut self, material: &Material, view: &View<'_>) {
        let subject = &Subject::Identity;
        let end = Timestamp(material.not_after());
        let leaf = format!("the certificate of `{}` (serial {})", material.id(), material.serial());
        if self.now > material.not_after() {
            self.add(subject, Severity::Alarm, "expired", format!(
                "{leaf} expired at {end}, so traffic is refused: see why it was not renewed (for cert-manager, `kubectl describe certificate`)"
            ));
        } else if self.now >= material.overdue_from() {
            self.add(subject, Severity::Warning, "near_expiry", format!(
                "{leaf} has less than a quarter of its life left and ends at {end}; renewal was due at two thirds: see why it has not come (for cert-manager, `kubectl describe certificate`)"
            ));
        }
        if let Some(repair) = material.repair() {
            self.add(
                subject,
                Severity::Warning,
                "chain_repaired",
                format!("tls.crt of {leaf} was put right before use: {repair}"),
            );
        }
        // Our own end is told above, in better words.
        if self.now > material.not_after() {
            return;
        }
        if let Err(error) = material.prove_again(view.trust, self.now) {
            self.add(subject, Severity::Alarm, STRANDED, format!(
                "{leaf} is still presented, but no longer leads to our own trust, so peers that share it will refuse us: {}; issue it anew under a root of the bundle",
                explain(&error)
            ));
        }
    }

    fn of_bundle(&mut self, subject: &Subject, bundle: &Bundle) {
        for anchor in bundle.anchors() {
            if let Some(reason) = anchor.idle_because(self.now) {
                self.add(
                    subject,
                    Severity::Warning,
                    "anchor_not_valid",
                    format!(
                        "the anchor {} {reason} and is not used: take it out of the bundle, or renew it",
                        anchor.name
                    ),
                );
            }
        }
        for refused in bundle.refused() {
            self.add(
                subject,
                Severity::Warning,
                "anchor_refused",
                format!(
                    "{} cannot be a trust anchor and is not used, because {}: take it out of the bundle",
                    refused.name, refused.fault
                ),
            );
        }
    }
}

/// Whether the bundle is the `ca.crt` that the issuer put beside the leaf.
fn is_identity_secret(source: &TrustSource, identity: &Path) -> bool {
    let same_directory = |parent: &Path| match (fs::canonicalize(parent), fs::canonicalize(identity)) {
        (Ok(parent), Ok(identity)) => parent == identity,
        _ => parent == identity,
    };
    source.bundle.file_name().is_some_and(|name| name == "ca.crt") && source.bundle.parent().is_some_and(same_directory)
}

/// The label of a leaf whose root is gone from our own trust.
const STRANDED: &str = "not_trusted_by_own_bundle";
