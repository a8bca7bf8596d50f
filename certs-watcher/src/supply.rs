//! One pass over all sources: read, prove, publish.
//!
//! A pass is the whole of the logic; `watch.rs` only decides when the next one is due. Bundles come before the identity,
//! so that a leaf and the root it hangs on may arrive together. Whatever fails leaves the last good one in place.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::bundle::Bundle;
use crate::clock::{Clock, Timestamp};
use crate::explain::explain;
use crate::intake::{Complaint, Fault, Intake, Pace, Step};
use crate::material::{Demands, Material};
use crate::problems;
use crate::snapshot::{Credentials, Event, Observer, Outcome, Publisher, Snapshot, Subject};
use crate::sources::{Sources, TrustSource};
use crate::trust::Trust;
use crate::volume::{self, BundleFiles, Digest, IdentityFiles, Layout, VolumeError};

/// Everything that is known, and the way to publish it.
pub(crate) struct Supply {
    sources: Sources,
    pace: Pace,
    clock: Clock,
    observer: Observer,
    identity: Intake,
    material: Option<Arc<Material>>,
    identity_generation: u64,
    bundles: Vec<Intake>,
    trust: Arc<Trust>,
    trust_generation: u64,
    publisher: Publisher,
}

impl Supply {
    /// Starts with nothing, and makes the first pass.
    pub(crate) fn new(sources: Sources, pace: Pace, clock: Clock, observer: Observer) -> (Self, Credentials) {
        let trust = Arc::new(Trust::new([]));
        let (publisher, credentials) = Publisher::new(Snapshot {
            identity_generation: 0,
            trust_generation: 0,
            material: None,
            trust: trust.clone(),
            awaited: sources.trust.iter().map(|source| source.trust_domain.clone()).collect(),
            problems: Vec::new(),
            problem_generation: 0,
        });
        let mut supply = Self {
            bundles: sources.trust.iter().map(|_| Intake::default()).collect(),
            identity: Intake::default(),
            material: None,
            identity_generation: 0,
            trust_generation: 0,
            sources,
            pace,
            clock,
            observer,
            trust,
            publisher,
        };
        supply.pass(Instant::now());
        (supply, credentials)
    }

    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Looks at every source once. Returns how long the next look may wait if nothing is announced before.
    pub(crate) fn pass(&mut self, at: Instant) -> Duration {
        let now = (self.clock)();
        let mut events = self.take_bundles(at);
        events.extend(self.take_identity(at, now));
        self.publish(now);
        // After publishing, so that whoever is told finds what it was told about.
        for event in &events {
            (self.observer)(event);
        }
        let intakes = self.bundles.iter().chain([&self.identity]);
        intakes.map(|intake| intake.next_look(at, &self.pace)).min().unwrap_or(self.pace.poll)
    }

    fn take_bundles(&mut self, at: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        let mut loaded = Vec::new();
        for (source, intake) in self.sources.trust.iter().zip(&mut self.bundles) {
            let subject = Subject::Trust(source.trust_domain.clone());
            match take_bundle(source, intake, at, &self.pace) {
                Ok(None) => {}
                Ok(Some((bundle, digest))) => {
                    intake.accept(digest);
                    loaded.push((subject, Arc::new(bundle)));
                }
                Err(fault) => events.extend(refuse(intake, fault, subject, at, &self.pace)),
            }
        }
        if loaded.is_empty() {
            return events;
        }
        self.trust_generation += 1;
        let generation = self.trust_generation;
        let kept = self.trust.bundles().cloned();
        self.trust = Arc::new(Trust::new(kept.chain(loaded.iter().map(|(_, bundle)| bundle.clone()))));
        for (subject, bundle) in loaded {
            info!(%subject, generation, anchors = bundle.anchors().len(), sequence = bundle.sequence(), "trust bundle published");
            events.push(Event { subject, outcome: Outcome::Published { generation } });
        }
        events
    }

    fn take_identity(&mut self, at: Instant, now: UnixTime) -> Option<Event> {
        let files = match volume::read_identity(&self.sources.identity) {
            Ok(files) => files,
            Err(error) => {
                return refuse(&mut self.identity, unread(&error), Subject::Identity, at, &self.pace);
            }
        };
        match self.identity.consider(files.digest, files.layout, at, &self.pace) {
            Step::Keep => self.identity.accept(files.digest),
            Step::Wait => {}
            Step::Prove => match self.prove(&files, now) {
                Ok(material) => return Some(self.adopt(material, files.digest)),
                Err(fault) => return refuse(&mut self.identity, fault, Subject::Identity, at, &self.pace),
            },
        }
        None
    }

    fn prove(&self, files: &IdentityFiles, now: UnixTime) -> Result<Material, Fault> {
        let before = self.material.as_ref().map(|material| material.id());
        let demands = Demands { trust: &self.trust, expected: self.sources.expected.as_ref().or(before), now };
        Material::prove(files, &demands).map_err(|error| Fault {
            label: error.label(),
            message: format!("`{}`: {}", self.sources.identity.display(), explain(&error)),
            digest: Some(files.digest),
            layout: files.layout,
        })
    }

    fn adopt(&mut self, material: Material, digest: Digest) -> Event {
        self.identity_generation += 1;
        let generation = self.identity_generation;
        info!(
            generation,
            id = %material.id(),
            serial = material.serial(),
            issuer = material.issuer(),
            not_after = %Timestamp(material.not_after()),
            "identity published"
        );
        self.identity.accept(digest);
        self.material = Some(Arc::new(material));
        Event { subject: Subject::Identity, outcome: Outcome::Published { generation } }
    }

    /// Publishes a snapshot if anything in it differs from the last.
    fn publish(&self, now: UnixTime) {
        let last = self.publisher.current();
        let view = problems::View {
            sources: &self.sources,
            identity: &self.identity,
            bundles: &self.bundles,
            material: self.material.as_deref(),
            trust: &self.trust,
            now,
        };
        let problems = problems::keep_known(problems::list(&view), &last.problems);
        let same_problems = problems == last.problems;
        if same_problems
            && self.identity_generation == last.identity_generation
            && self.trust_generation == last.trust_generation
        {
            return;
        }
        problems::log_changes(&problems, &last.problems);
        let awaited = self.sources.trust.iter().zip(&self.bundles).filter(|(_, intake)| !intake.has_good());
        self.publisher.publish(Snapshot {
            identity_generation: self.identity_generation,
            trust_generation: self.trust_generation,
            material: self.material.clone(),
            trust: self.trust.clone(),
            awaited: awaited.map(|(source, _)| source.trust_domain.clone()).collect(),
            problems,
            problem_generation: last.problem_generation + u64::from(!same_problems),
        });
    }
}

fn take_bundle(
    source: &TrustSource,
    intake: &mut Intake,
    at: Instant,
    pace: &Pace,
) -> Result<Option<(Bundle, Digest)>, Fault> {
    let files = volume::read_bundle(&source.bundle).map_err(|error| unread(&error))?;
    match intake.consider(files.digest, files.layout, at, pace) {
        Step::Keep => {
            intake.accept(files.digest);
            Ok(None)
        }
        Step::Wait => Ok(None),
        Step::Prove => load(source, &files).map(|bundle| Some((bundle, files.digest))),
    }
}

fn load(source: &TrustSource, files: &BundleFiles) -> Result<Bundle, Fault> {
    Bundle::load(&source.trust_domain, files).map_err(|error| Fault {
        label: error.label(),
        message: explain(&error),
        digest: Some(files.digest),
        layout: files.layout,
    })
}

/// What cannot be read has no layout either: it may just be about to be replaced.
fn unread(error: &VolumeError) -> Fault {
    Fault { label: error.label(), message: explain(error), digest: None, layout: Layout::Plain }
}

/// Notes a fault. It becomes an event the first time that it is certain; repetitions are only counted.
fn refuse(intake: &mut Intake, fault: Fault, subject: Subject, at: Instant, pace: &Pace) -> Option<Event> {
    let (label, message) = (fault.label, fault.message.clone());
    match intake.fail(fault, at, pace) {
        Complaint::Withhold => None,
        Complaint::Report => Some(Event { subject, outcome: Outcome::Refused { label } }),
        Complaint::Repeat(count) => {
            debug!(%subject, label, count, reason = message, "still refused");
            None
        }
    }
}

#[cfg(test)]
mod tests;
