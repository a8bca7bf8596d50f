//! One pass over all sources: read, prove, publish.
//!
//! A pass is the whole of the logic; `watch.rs` only decides when the next one is due. Trust comes before the identity,
//! so that a leaf and the root it hangs on may arrive together. Whatever fails leaves the last good one in place.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use tokio::time::Instant;
use tracing::{info, warn};

use self::reading::{BundleContent, DomainReading, IdentityContent, Lists, Reading};
use crate::agents::Agents;
use crate::bundle::Bundle;
use crate::change::Change;
use crate::clock::{Clock, Timestamp};
use crate::deny_list::DenyList;
use crate::feed::{Look, Read, Refusal, Taken};
use crate::feeds::{Domain, Feeds};
use crate::intake::{Pace, Standing};
use crate::material::{Candidate, Demands, Material};
use crate::problems;
use crate::revocation::{Crl, Revocation, RevocationPolicy};
use crate::snapshot::{Credentials, Event, Observer, Outcome, Publisher, Snapshot, Subject};
use crate::sources::{DenyListSource, Sources, TrustSource};
use crate::trust::Trust;
use crate::volume::BundleFiles;

mod reading;

/// Everything that is known, and the way to publish it.
pub(crate) struct Supply {
    sources: Sources,
    pace: Pace,
    clock: Clock,
    observer: Observer,
    agents: Agents,
    feeds: Feeds,
    identity: Generation,
    trust: Arc<Trust>,
    trusted: Generation,
    publisher: Publisher,
}

/// How many there have been, and when the last was published.
#[derive(Clone, Copy, Debug, Default)]
struct Generation {
    number: u64,
    since: Option<UnixTime>,
}

impl Supply {
    /// Starts with nothing, and makes the first pass.
    pub(crate) fn new(
        sources: Sources,
        agents: Agents,
        pace: Pace,
        clock: Clock,
        observer: Observer,
    ) -> (Self, Credentials) {
        let feeds = Feeds::new(&sources);
        let trust = Arc::new(feeds.compose());
        let (publisher, credentials) = Publisher::new(Snapshot {
            identity_generation: 0,
            identity_since: None,
            trust_generation: 0,
            trust_since: None,
            material: None,
            trust: trust.clone(),
            awaited: feeds.awaited(),
            problems: Vec::new(),
            problem_generation: 0,
        });
        let mut supply = Self {
            agents,
            feeds,
            identity: Generation::default(),
            trusted: Generation::default(),
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

    /// Waits until a Workload API has something new to tell.
    pub(crate) async fn told(&mut self) {
        self.agents.changed().await;
    }

    /// Looks at every source once. Returns how long the next look may wait if nothing is announced before.
    pub(crate) fn pass(&mut self, at: Instant) -> Duration {
        let now = (self.clock)();

        // 1. What is there?
        self.agents.look(at, &self.sources);
        let reading = Reading::of(&self.sources, &self.agents);

        // 2. Whom do we believe?
        let mut events = self.refused_messages();
        events.extend(self.take_trust(reading.domains, reading.deny_list, at, now));

        // 3. Who are we, in the eyes of those who believe the same?
        events.extend(self.take_identity(reading.identity, at, now));

        // 4. Publish, and tell only then, so that whoever is told finds what it was told about.
        self.publish(at, now);
        for event in &events {
            (self.observer)(event);
        }
        self.feeds.next_look(Look { at, pace: &self.pace }, now)
    }

    /// The events of messages that were refused whole: of the identity if it comes from there, else of a bundle.
    fn refused_messages(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let of_bundles = self
            .sources
            .trust
            .iter()
            .filter_map(|source| Some((source.bundle.endpoint()?, Subject::Trust(source.trust_domain.clone()))));
        let of_identity = self.sources.identity.endpoint().map(|endpoint| (endpoint, Subject::Identity));
        for (endpoint, subject) in of_identity.into_iter().chain(of_bundles) {
            if let Some(label) = self.agents.refused_message(endpoint) {
                events.push(Event { subject, outcome: Outcome::Refused { label } });
            }
        }
        events
    }

    fn take_trust(
        &mut self,
        domains: Vec<DomainReading>,
        deny_list: Read<BundleFiles>,
        at: Instant,
        now: UnixTime,
    ) -> Vec<Event> {
        let look = Look { at, pace: &self.pace };
        let mut news = News::default();
        for ((source, domain), read) in self.sources.trust.iter().zip(&mut self.feeds.domains).zip(domains) {
            take_domain(source, domain, read, look, &mut news);
        }
        if let (Some(source), Some(feed)) = (&self.sources.deny_list, &mut self.feeds.deny_list) {
            let taken = feed.take(deny_list, look, |files| read_deny_list(source, &files));
            news.note(Subject::DenyList, taken, |_, now| Change::of_deny_list(now));
        }
        if news.changes.is_empty() {
            return news.refused;
        }

        self.trust = Arc::new(self.feeds.compose().after(&self.trust));
        let generation = self.trusted.advance(now);
        let mut events = news.refused;
        for (subject, change) in news.changes {
            match &change {
                // For an emergency, so whoever reads the log should stumble over it.
                Change::DenyList { entries } => warn!(generation, entries, "deny list published"),
                other => info!(%subject, generation, change = %other, "trust published"),
            }
            events.push(Event { subject, outcome: Outcome::Published { generation, change } });
        }
        events
    }

    fn take_identity(&mut self, read: Read<IdentityContent>, at: Instant, now: UnixTime) -> Option<Event> {
        let before = self.feeds.identity.good().cloned();
        let known = before.as_ref().map(|material| material.id());
        let demands = Demands { trust: &self.trust, expected: self.sources.expected.as_ref().or(known), now };
        let source = &self.sources.identity;
        let look = Look { at, pace: &self.pace };
        let proof = |content| prove(&content, &demands).map_err(|refusal| refusal.at(source));
        let taken = self.feeds.identity.take(read, look, proof);
        match taken {
            Taken::Nothing => None,
            Taken::Refused(event) => Some(event),
            Taken::Replaced { before, now: material } => {
                let generation = self.identity.advance(now);
                let change = Change::of_identity(before.as_deref(), &material);
                info!(
                    generation,
                    id = %material.id(),
                    serial = material.serial(),
                    issuer = material.issuer(),
                    not_after = %Timestamp(material.not_after()),
                    %change,
                    "identity published"
                );
                Some(Event { subject: Subject::Identity, outcome: Outcome::Published { generation, change } })
            }
        }
    }

    /// Publishes a snapshot if anything in it differs from the last.
    fn publish(&self, at: Instant, now: UnixTime) {
        let last = self.publisher.current();
        let view = problems::View {
            sources: &self.sources,
            agents: &self.agents,
            feeds: &self.feeds,
            trust: &self.trust,
            look: Look { at, pace: &self.pace },
            now,
        };
        let problems = problems::keep_known(problems::list(&view), &last.problems);
        let same_problems = problems == last.problems;
        if same_problems
            && self.identity.number == last.identity_generation
            && self.trusted.number == last.trust_generation
        {
            return;
        }
        problems::log_changes(&problems, &last.problems);
        self.publisher.publish(Snapshot {
            identity_generation: self.identity.number,
            identity_since: self.identity.since,
            trust_generation: self.trusted.number,
            trust_since: self.trusted.since,
            material: self.feeds.identity.good().cloned(),
            trust: self.trust.clone(),
            awaited: self.feeds.awaited(),
            problems,
            problem_generation: last.problem_generation + u64::from(!same_problems),
        });
    }
}

impl Generation {
    fn advance(&mut self, now: UnixTime) -> u64 {
        *self = Self { number: self.number + 1, since: Some(now) };
        self.number
    }
}

/// What a look at everything that trust is made of has brought.
#[derive(Default)]
struct News {
    changes: Vec<(Subject, Change)>,
    refused: Vec<Event>,
}

impl News {
    fn note<T>(&mut self, subject: Subject, taken: Taken<T>, change: impl FnOnce(Option<&T>, &T) -> Change) {
        match taken {
            Taken::Nothing => {}
            Taken::Refused(event) => self.refused.push(event),
            Taken::Replaced { before, now } => self.changes.push((subject, change(before.as_deref(), &now))),
        }
    }
}

fn take_domain(source: &TrustSource, domain: &mut Domain, read: DomainReading, look: Look<'_>, news: &mut News) {
    let taken = domain.bundle.take(read.bundle, look, |content| {
        let bundle = match content {
            BundleContent::Files(files) => Bundle::load(&source.trust_domain, &files),
            BundleContent::Certificates(anchors) => Bundle::from_certificates(&source.trust_domain, &anchors),
        };
        bundle.map_err(|error| Refusal::new(error.label(), &error))
    });
    news.note(domain.bundle.subject().clone(), taken, Change::of_bundle);
    let sequence = domain.bundle.good().and_then(|bundle| bundle.sequence());
    domain.highest_sequence = domain.highest_sequence.max(sequence);

    if let Some(feed) = &mut domain.revocation {
        let taken = feed.take(read.lists, look, |lists| parse_lists(&lists, source.revocation));
        news.note(feed.subject().clone(), taken, |_, now| Change::of_lists(now));
    }
}

fn prove(content: &IdentityContent, demands: &Demands<'_>) -> Result<Material, Refusal> {
    let material = match content {
        IdentityContent::Files(files) => Material::prove(files, demands),
        IdentityContent::Delivered { report, choice } => {
            let svid = report.svid(choice).map_err(|error| Refusal::new(error.label(), &error))?;
            Material::prove_candidate(&Candidate::from(svid), demands)
        }
    };
    material.map_err(|error| Refusal::new(error.label(), &error))
}

fn parse_lists(read: &Lists, policy: RevocationPolicy) -> Result<Revocation, Refusal> {
    let mut lists = Vec::new();
    for (path, bytes) in read.files.iter().flat_map(|files| &files.files) {
        let place = format!("`{}`", path.display());
        lists.extend(Crl::read(bytes).map_err(|error| Refusal::new(error.label(), &error).at(place))?);
    }
    for (index, der) in read.delivered.iter().enumerate() {
        let place = format!("CRL {} of the workload API", index + 1);
        lists.push(Crl::parse(der).map_err(|error| Refusal::new(error.label(), &error).at(place))?);
    }
    Ok(Revocation::new(lists, policy))
}

fn read_deny_list(source: &DenyListSource, files: &BundleFiles) -> Result<DenyList, Refusal> {
    let text = files.files.first().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
    (source.read)(&source.path, text).map_err(|message| Refusal {
        label: "malformed_deny_list",
        message,
        standing: Standing::Stays,
    })
}

#[cfg(test)]
mod tests;
