//! What is wrong just now, in words and with a remedy.
//!
//! Computed anew from the whole state in every pass, so that nothing is reported after it is over and nothing is
//! forgotten. Each problem is logged once when it begins and once when it is over.

use std::fs;
use std::path::Path;

use rustls_pki_types::UnixTime;
use tracing::{error, info, warn};

use crate::agents::Agents;
use crate::bundle::Bundle;
use crate::clock::Timestamp;
use crate::explain::explain;
use crate::feed::{Feed, Look};
use crate::feeds::{Domain, Feeds};
use crate::intake::Standing;
use crate::material::Material;
use crate::revocation::{Crl, Revocation, StaleList};
use crate::snapshot::{Problem, Severity, Subject};
use crate::sources::{BundleSource, IdentitySource, Sources, TrustSource};
use crate::trust::Trust;
use crate::workload_api::Endpoint;

/// The state that is judged.
pub(crate) struct View<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) agents: &'a Agents,
    pub(crate) feeds: &'a Feeds,
    pub(crate) trust: &'a Trust,
    pub(crate) look: Look<'a>,
    pub(crate) now: UnixTime,
}

/// Every problem, identity first. `since` is the time of the view: see [`keep_known`].
pub(crate) fn list(view: &View<'_>) -> Vec<Problem> {
    let mut found = Found { problems: Vec::new(), now: view.now };
    found.refused(&view.feeds.identity);
    if let Some(endpoint) = view.sources.identity.endpoint() {
        found.of_agent(&view.feeds.identity, endpoint, view);
    }
    if let Some(material) = view.feeds.identity.good() {
        found.of_material(material, view);
    }
    for (source, domain) in view.sources.trust.iter().zip(&view.feeds.domains) {
        found.refused(&domain.bundle);
        found.of_source(source, domain, view);
        if let Some(bundle) = domain.bundle.good() {
            found.of_bundle(domain, bundle);
        }
        if let Some(feed) = &domain.revocation {
            found.refused(feed);
            if let Some(revocation) = feed.good() {
                found.of_lists(feed.subject(), revocation);
            }
        }
    }
    if let Some(deny_list) = &view.feeds.deny_list {
        found.refused(deny_list);
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

fn is_same(a: &Problem, b: &Problem) -> bool {
    (&a.subject, a.severity, a.label, &a.key) == (&b.subject, b.severity, b.label, &b.key)
}

struct Found {
    problems: Vec<Problem>,
    now: UnixTime,
}

impl Found {
    fn add(&mut self, subject: &Subject, severity: Severity, label: &'static str, message: String) {
        let key = message.clone();
        self.problems.push(Problem { subject: subject.clone(), severity, label, message, since: self.now, key });
    }

    /// Makes the last problem equal to others with this key, whatever time of day its message tells.
    fn known_by(&mut self, key: String) {
        if let Some(last) = self.problems.last_mut() {
            last.key = key;
        }
    }

    fn refused<T>(&mut self, feed: &Feed<T>) {
        let Some(fault) = feed.lasting_fault() else { return };
        let subject = feed.subject();
        let (severity, consequence) = match (feed.good(), fault.standing) {
            (Some(_), Standing::Stays) => (Severity::Warning, "the last good one stays in use"),
            (Some(_), Standing::Withdrawn) => {
                (Severity::Alarm, "the last good one is presented until it ends, and then traffic is refused")
            }
            (None, _) => (Severity::Alarm, "there is none to go on with, so traffic is refused"),
        };
        self.add(subject, severity, fault.label, format!("{}; {consequence}", fault.message));
    }

    /// What is wrong with the API itself, where nothing worse was told of what comes from it.
    fn of_agent<T>(&mut self, feed: &Feed<T>, endpoint: &Endpoint, view: &View<'_>) {
        let Some(problem) = view.agents.lasting_problem(endpoint, view.look) else { return };
        if feed.lasting_fault().is_some() {
            return;
        }
        let message = format!("`{endpoint}`: {}; what it delivered last stays in use", explain(problem));
        self.add(feed.subject(), Severity::Warning, problem.label(), message);
        // Each attempt may end in other words.
        self.known_by(String::new());
    }

    fn of_source(&mut self, source: &TrustSource, domain: &Domain, view: &View<'_>) {
        let subject = domain.bundle.subject();
        match &source.bundle {
            BundleSource::Path(path) => {
                if is_identity_secret(path, &view.sources.identity) {
                    self.add(subject, Severity::Warning, "bundle_is_identity_secret", format!(
                        "`{}` is the ca.crt of the identity's own Secret: it is a guess of the issuer, changes only when the leaf is renewed, and never holds the old and the new root together, so a change of root will break calls; publish a bundle of its own, for instance with trust-manager",
                        path.display()
                    ));
                }
            }
            BundleSource::WorkloadApi(endpoint) => {
                self.of_agent(&domain.bundle, endpoint, view);
                let delivery = view.agents.delivery(endpoint);
                if delivery.is_some_and(|delivery| !delivery.bundles.contains_key(&source.trust_domain)) {
                    self.add(subject, Severity::Warning, "bundle_not_delivered", format!(
                        "`{endpoint}` delivers no bundle for `{}`, so nobody of it is trusted: see that the registration entry of this workload federates with it",
                        source.trust_domain
                    ));
                }
            }
        }
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
            self.add(subject, Severity::Alarm, "not_trusted_by_own_bundle", format!(
                "{leaf} is still presented, but our own trust refuses it, so peers that share it will refuse us: {}; issue it anew under a root of the bundle and issuers that are not revoked",
                explain(&error)
            ));
            self.known_by(error.label().to_owned());
        }
    }

    fn of_bundle(&mut self, domain: &Domain, bundle: &Bundle) {
        let subject = domain.bundle.subject();
        if let (Some(sequence), Some(highest)) = (bundle.sequence(), domain.highest_sequence)
            && sequence < highest
        {
            self.add(subject, Severity::Warning, "sequence_went_back", format!(
                "the bundle has the `spiffe_sequence` {sequence} and is used, but {highest} was in use before: an older copy was put back, so it may lack a root that was added or hold one that was removed since; publish the newest bundle (if its numbers have begun anew, this ends with a restart)"
            ));
        }
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

    fn of_lists(&mut self, subject: &Subject, revocation: &Revocation) {
        let (lists, now) = (revocation.lists(), self.now);
        let is_stale = |list: &&Crl| now > list.next_update() && !lists.iter().any(|other| other.succeeds(list));
        for list in lists.iter().filter(is_stale) {
            let (severity, consequence) = match revocation.policy().stale {
                StaleList::Warn => (Severity::Warning, "it stays in use, but what was revoked since is not known"),
                StaleList::Refuse => {
                    (Severity::Alarm, "`staleCrl` is `refuse`, so the certificates that it covers are refused")
                }
            };
            let (due, now) = (Timestamp(list.next_update()), Timestamp(now));
            self.add(subject, severity, "crl_stale", format!(
                "{list} was due for renewal at {due}, and it is {now}: {consequence}; provide its successor, or see why its issuer makes none"
            ));
            self.known_by(format!("{list} of {due}"));
        }
    }
}

/// Whether the bundle is the `ca.crt` that the issuer put beside the leaf.
fn is_identity_secret(bundle: &Path, identity: &IdentitySource) -> bool {
    let Some(identity) = identity.directory() else { return false };
    let same_directory = |parent: &Path| match (fs::canonicalize(parent), fs::canonicalize(identity)) {
        (Ok(parent), Ok(identity)) => parent == identity,
        _ => parent == identity.as_path(),
    };
    bundle.file_name().is_some_and(|name| name == "ca.crt") && bundle.parent().is_some_and(same_directory)
}
