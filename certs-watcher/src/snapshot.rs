//! What is published: one consistent view of identity and trust, and how to hear of the next.
//!
//! Readers load a [`Snapshot`] once per connection and pass it down. A snapshot never mixes two states, and what is
//! wrong is part of it, so that a probe, an admin page and a log say the same.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls_pki_types::UnixTime;
use spiffe::{SpiffeId, TrustDomain};
use thiserror::Error;
use tokio::sync::watch;

use crate::change::Change;
use crate::clock::Timestamp;
use crate::material::Material;
use crate::trust::Trust;

/// Reads what the watcher publishes. Cheap to clone; any number may read at once.
#[derive(Clone, Debug)]
pub struct Credentials {
    snapshot: Arc<ArcSwap<Snapshot>>,
    revision: watch::Receiver<Revision>,
}

impl Credentials {
    /// The state of now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Wakes whenever a snapshot is published, be it for new files or for a new problem. The snapshot is in place
    /// before the revision is seen to change.
    pub fn changed(&self) -> watch::Receiver<Revision> {
        self.revision.clone()
    }
}

/// The one that writes what [`Credentials`] read.
#[derive(Debug)]
pub(crate) struct Publisher {
    snapshot: Arc<ArcSwap<Snapshot>>,
    revision: watch::Sender<Revision>,
}

impl Publisher {
    pub(crate) fn new(first: Snapshot) -> (Self, Credentials) {
        let (sender, receiver) = watch::channel(first.revision());
        let snapshot = Arc::new(ArcSwap::from_pointee(first));
        (Self { snapshot: snapshot.clone(), revision: sender }, Credentials { snapshot, revision: receiver })
    }

    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        let revision = snapshot.revision();
        self.snapshot.store(Arc::new(snapshot));
        // Without a reader the channel is closed; the snapshot is still there for the next one.
        self.revision.send_replace(revision);
    }
}

/// Tells one snapshot from another. Each number grows when its part changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// How many identities have been published.
    pub identity: u64,
    /// How many states of trust have been published.
    pub trust: u64,
    /// How often the problems have changed.
    pub problems: u64,
}

/// Identity and trust as they were at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one whenever `material` is replaced; 0 while there has been none.
    pub identity_generation: u64,
    /// When that was published.
    pub identity_since: Option<UnixTime>,
    /// Grows by one whenever `trust` is replaced, be it for a bundle, a revocation list or the deny list; 0 while there
    /// has been none.
    pub trust_generation: u64,
    /// When that was published.
    pub trust_since: Option<UnixTime>,
    /// Our own identity, once one has been proven. It stays until a better one comes; whether it may be used now is
    /// for [`Snapshot::ready`] to say.
    pub material: Option<Arc<Material>>,
    /// Whom we believe. Nobody, as long as no bundle has been loaded.
    pub trust: Arc<Trust>,
    /// The bundles, revocation lists and deny list that are configured and have never been loaded. Until they have,
    /// traffic is refused: what they take away is not known.
    pub awaited: Vec<Subject>,
    /// What a person should know, identity first.
    pub problems: Vec<Problem>,
    pub(crate) problem_generation: u64,
}

impl Snapshot {
    /// The identity with which traffic may be served at `now`.
    ///
    /// # Errors
    /// If traffic has to be refused: nothing was proven yet, a configured bundle, revocation list or deny list never came,
    /// or our leaf has ended.
    pub fn ready(&self, now: UnixTime) -> Result<&Arc<Material>, NotReady> {
        if let Some(awaited) = self.awaited.first() {
            return Err(self.absent(awaited.clone()));
        }
        let Some(material) = &self.material else { return Err(self.absent(Subject::Identity)) };
        let (id, serial) = (material.id().clone(), material.serial().to_owned());
        if now > material.not_after() {
            return Err(NotReady::Expired { id, serial, not_after: material.not_after(), now });
        }
        if now < material.not_before() {
            return Err(NotReady::NotYetValid { id, serial, not_before: material.not_before(), now });
        }
        Ok(material)
    }

    /// The three numbers that tell this snapshot from others.
    pub fn revision(&self) -> Revision {
        Revision { identity: self.identity_generation, trust: self.trust_generation, problems: self.problem_generation }
    }

    fn absent(&self, subject: Subject) -> NotReady {
        match self.problems.iter().find(|problem| problem.subject == subject) {
            Some(problem) => NotReady::Absent { subject, label: problem.label, message: problem.message.clone() },
            None => NotReady::Absent { subject, label: "missing", message: "it has not been loaded yet".to_owned() },
        }
    }
}

/// What a problem or an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Our own certificate and key.
    Identity,
    /// The bundle of this trust domain.
    Trust(TrustDomain),
    /// The revocation lists of this trust domain.
    Revocation(TrustDomain),
    /// The deny list.
    DenyList,
}

impl Subject {
    /// `identity`, `trust`, `crl` or `deny_list`, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Trust(_) => "trust",
            Self::Revocation(_) => "crl",
            Self::DenyList => "deny_list",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("identity"),
            Self::Trust(trust_domain) => write!(f, "trust bundle of `{trust_domain}`"),
            Self::Revocation(trust_domain) => write!(f, "revocation lists of `{trust_domain}`"),
            Self::DenyList => f.write_str("deny list"),
        }
    }
}

/// Something that is wrong and lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub subject: Subject,
    /// How much it matters.
    pub severity: Severity,
    /// A fixed word for metrics.
    pub label: &'static str,
    /// What happened, to which file, certificate or identity, and what to do.
    pub message: String,
    /// When it was first seen.
    pub since: UnixTime,
    /// What tells it from others of its label. Without the time of day, which a message may tell.
    pub(crate) key: String,
}

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// All goes on as it is; somebody should look.
    Warning,
    /// Traffic is refused, or will be by others: somebody must act.
    Alarm,
}

/// Something that happened, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub subject: Subject,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of new files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They were proven and published.
    Published {
        /// The generation number that they got: that of the identity, or that of trust.
        generation: u64,
        /// What is different from the one before.
        change: Change,
    },
    /// They were refused, and what was there before stays.
    Refused {
        /// Why, as a fixed word for metrics.
        label: &'static str,
    },
}

/// Is told every [`Event`], on the watcher's thread; it must not block.
pub type Observer = Box<dyn Fn(&Event) + Send + Sync>;

/// Why traffic has to be refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotReady {
    /// Identity, trust or what limits trust has never been loaded.
    #[error("{subject}: {message}")]
    Absent {
        /// Which of them.
        subject: Subject,
        /// Why, as a fixed word.
        label: &'static str,
        /// Why, in words.
        message: String,
    },
    /// Our own leaf has ended and was not renewed.
    #[error("our own certificate for `{id}` (serial {serial}) expired at {}, and it is {}: see why it was not renewed", Timestamp(*not_after), Timestamp(*now))]
    Expired {
        /// Who we are.
        id: SpiffeId,
        /// The leaf's serial number.
        serial: String,
        /// When it ended.
        not_after: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// Our own leaf has not begun: the clock went back.
    #[error("our own certificate for `{id}` (serial {serial}) is valid from {}, and it is only {}: see whether the clock is wrong", Timestamp(*not_before), Timestamp(*now))]
    NotYetValid {
        /// Who we are.
        id: SpiffeId,
        /// The leaf's serial number.
        serial: String,
        /// When it begins.
        not_before: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
}

impl NotReady {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Absent { label, .. } => label,
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
        }
    }
}
