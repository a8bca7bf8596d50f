//! Loads the policy and watches its directories: the one writer of a [`PolicyStore`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_certs_watcher::{Credentials, Notice};
use portcullis_policy::diagnostic::{Diagnostic, Diagnostics, Severity};
use spiffe::SpiffeId;

use super::PolicyStore;
use super::directory::{self, Contents, DirectoryError, Layout};
use super::loaded::Loaded;
use crate::drain::{Phase, Tasks};
use crate::telemetry::metrics::{Metrics, Reloaded};

/// Why no policy could be put in force.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The documents could not be read from disk.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The documents hold mistakes.
    #[error("the policy has {} mistakes; the first: {}", .0.iter().filter(|d| d.severity == Severity::Error).count(), first_line(.0))]
    Documents(Diagnostics),
}

impl LoadError {
    /// The fixed word for `portcullis_reload_total{reason}`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Directory(error) => error.label(),
            Self::Documents(_) => "invalid",
        }
    }
}

/// Loads and watches; the one writer of a [`PolicyStore`].
#[derive(Debug)]
pub struct Loader {
    sources: PolicySources,
    store: Arc<PolicyStore>,
    metrics: Arc<Metrics>,
    /// What was compiled last, be it put in force or refused.
    taken: Option<Contents>,
    /// What was seen and may still be in the making, and since when it has stood still.
    moving: Option<(Contents, Instant)>,
    /// The workload whose ports the rules were checked against.
    checked_for: Option<SpiffeId>,
}

/// Where the policy comes from, and what is known about the workload that it protects.
#[derive(Debug)]
pub struct PolicySources {
    /// The directories with the documents.
    pub directories: Vec<PathBuf>,
    /// The application's ports that carry opaque TCP.
    pub opaque_ports: Vec<u16>,
    /// Tell whose sidecar this is.
    pub credentials: Credentials,
}

impl Loader {
    /// Loads once. What is absent or broken is no error of the program: the store stays empty and says why.
    pub fn start(sources: PolicySources, metrics: Arc<Metrics>) -> (Self, Arc<PolicyStore>) {
        let store = Arc::new(PolicyStore::new());
        let mut loader =
            Self { sources, store: Arc::clone(&store), metrics, taken: None, moving: None, checked_for: None };
        match directory::read(&loader.sources.directories) {
            // Nothing to decide on: a sidecar that calls listed identities only has no policy.
            Ok(_) if loader.sources.directories.is_empty() => {}
            Ok(contents) => loader.take(contents),
            Err(error) => loader.refuse(&error.into()),
        }
        (loader, store)
    }

    /// Watches until the process ends, on a thread where a slow disk or a large policy stalls nobody.
    pub async fn run(mut self, tasks: Tasks) {
        let mut notice = Notice::new(&self.sources.directories);
        let mut identity = self.sources.credentials.changed();
        loop {
            notice.arm();
            let settled = self.look();
            let added = notice.arm();
            let wait = match settled {
                _ if added => Duration::ZERO,
                Settled::Moving => SETTLE,
                Settled::Still if notice.is_blind() => BLIND_POLL,
                Settled::Still => POLL,
            };
            tokio::select! {
                // Nothing is lost by dropping any of them: a notice that was not taken stays.
                () = notice.changed() => {}
                Ok(()) = identity.changed() => {}
                () = tokio::time::sleep(wait) => {}
                () = tasks.reached(Phase::Ended) => return,
            }
        }
    }

    fn look(&mut self) -> Settled {
        let contents = match directory::read(&self.sources.directories) {
            Ok(contents) => contents,
            Err(error) => {
                self.taken = None;
                self.refuse(&error.into());
                return Settled::Still;
            }
        };
        if self.taken.as_ref() == Some(&contents) && self.checked_for == self.own_identity() {
            self.moving = None;
            return Settled::Still;
        }
        // A volume is swapped whole. Files written in place may be caught half-way, and half a policy may lack the
        // document that denies: it is taken when it has stood still.
        let is_new = self.taken.as_ref() != Some(&contents);
        if contents.layout == Layout::Plain && is_new {
            match &self.moving {
                Some((seen, since)) if *seen == contents && since.elapsed() >= SETTLE => {}
                Some((seen, _)) if *seen == contents => return Settled::Moving,
                Some(_) | None => {
                    self.moving = Some((contents, Instant::now()));
                    return Settled::Moving;
                }
            }
        }
        self.take(contents);
        Settled::Still
    }

    fn own_identity(&self) -> Option<SpiffeId> {
        self.sources.credentials.snapshot().material.as_ref().map(|own| own.id().clone())
    }

    fn take(&mut self, contents: Contents) {
        let number = self.store.current.load().as_ref().map_or(0, |loaded| loaded.number) + 1;
        let own = self.own_identity();
        let loaded = Loaded::compile(&contents, number, own.as_ref(), &self.sources.opaque_ports, &self.metrics);
        self.moving = None;
        self.taken = Some(contents);
        self.checked_for = own;
        match loaded {
            Ok(loaded) => self.put_in_force(loaded),
            Err(found) => self.refuse(&LoadError::Documents(found)),
        }
    }

    fn put_in_force(&self, loaded: Loaded) {
        let had_problem = self.store.problem.swap(None).is_some();
        let revision = loaded.policy.revision().to_owned();
        if self.store.current.load().as_ref().is_some_and(|current| current.policy.revision() == revision) {
            if had_problem {
                tracing::info!(revision, "the policy on disk is again the one in force");
            }
            return;
        }
        for warning in &loaded.warnings {
            tracing::warn!(warning, "the policy should be looked at");
        }
        let (number, since, rules) = (loaded.number, loaded.since, loaded.policy.rules().count());
        self.store.current.store(Some(Arc::new(loaded)));
        self.store.changed.send_replace(number);
        self.metrics.reloaded(Reloaded::Policy);
        self.metrics.generation(Reloaded::Policy, number, since);
        tracing::info!(revision, number, rules, "policy in force");
    }

    fn refuse(&self, error: &LoadError) {
        let text = match error {
            LoadError::Documents(found) => found.iter().map(Diagnostic::to_string).collect::<String>(),
            LoadError::Directory(_) => crate::error_chain(error),
        };
        let text = text.trim_end().to_owned();
        let before = self.store.problem.swap(Some(Arc::new(text.clone())));
        if before.is_some_and(|before| *before == text) {
            return;
        }
        self.metrics.reload_refused(Reloaded::Policy, error.label());
        if self.store.current.load().is_some() {
            tracing::warn!(error = text, "the policy on disk is refused, the last good one stays in force");
        } else {
            tracing::error!(error = text, "there is no policy: all traffic is refused until there is one");
        }
    }
}

enum Settled {
    Still,
    Moving,
}

fn first_line(found: &Diagnostics) -> String {
    let first = found.iter().find(|diagnostic| diagnostic.severity == Severity::Error);
    first.map(|diagnostic| diagnostic.message.clone()).unwrap_or_default()
}

/// How long files that are written in place must stand still.
const SETTLE: Duration = Duration::from_millis(100);
/// The net below the notifications.
const POLL: Duration = Duration::from_secs(10);
/// The same where there are no notifications.
const BLIND_POLL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
