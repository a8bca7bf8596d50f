//! Loads the policy and watches its directories: the one writer of a [`PolicyStore`].
//!
//! A broken policy leaves the last good one in force. When there is none yet, because the process has just started, that
//! is the copy in the state directory; a policy that is absent never falls back to anything.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use portcullis_certs_watcher::{Credentials, Notice};
use portcullis_policy::diagnostic::{Diagnostic, Diagnostics, Severity};
use portcullis_policy::{DefaultAction, Options};

use super::directory::{self, Contents, DirectoryError, Layout};
use super::keeper::Keeper;
use super::labels_file::{self, LabelsError};
use super::loaded::{Circumstances, Draft, Loaded, Source};
use super::state::{Copy, State, StateError};
use super::{PolicyStore, unix_seconds};
use crate::config;
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
    /// Nobody knows which of them select the workload.
    #[error(transparent)]
    Labels(#[from] LabelsError),
}

/// Why the copy in the state directory is not used.
#[derive(Debug, thiserror::Error)]
enum NoCopy {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("its documents are no policy for this sidecar: {}", first_line(.0))]
    Documents(Diagnostics),
}

impl NoCopy {
    fn label(&self) -> &'static str {
        match self {
            Self::State(error) => error.label(),
            Self::Documents(_) => "invalid",
        }
    }
}

impl LoadError {
    /// The fixed word for `portcullis_reload_total{reason}`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Directory(error) => error.label(),
            Self::Documents(_) => "invalid",
            Self::Labels(error) => error.label(),
        }
    }

    /// Whether there are documents, and they are wrong: what is absent or cannot be looked at may have been taken away.
    fn is_broken(&self) -> bool {
        match self {
            Self::Documents(_) | Self::Directory(DirectoryError::TooLarge(_)) => true,
            Self::Directory(DirectoryError::Missing(_) | DirectoryError::Unreadable { .. }) | Self::Labels(_) => false,
        }
    }
}

/// Loads and watches; the one writer of a [`PolicyStore`].
#[derive(Debug)]
pub struct Loader {
    sources: PolicySources,
    store: Arc<PolicyStore>,
    metrics: Arc<Metrics>,
    state: Option<State>,
    keeper: Option<Keeper>,
    /// What was compiled last, be it put in force or refused.
    taken: Option<Arc<Contents>>,
    /// What was seen and may still be in the making, and since when it has stood still.
    moving: Option<(Contents, Instant)>,
    /// What it was compiled for.
    taken_for: Option<Circumstances>,
    /// What the policy in force was compiled from, and for.
    good: Option<Good>,
}

/// What the policy in force was compiled from, and for, to compile it anew when that changes and the documents on disk are
/// refused.
#[derive(Debug)]
struct Good {
    contents: Arc<Contents>,
    source: Source,
    taken: SystemTime,
    circumstances: Circumstances,
}

/// Where the policy comes from, and what is known about the workload that it protects.
#[derive(Debug)]
pub struct PolicySources {
    /// Where the documents are and how they are read; without directories there is no policy.
    pub policy: config::Policy,
    /// The application's ports that carry opaque TCP.
    pub opaque_ports: Vec<u16>,
    /// Tell whose sidecar this is.
    pub credentials: Credentials,
}

impl Loader {
    /// Loads once. What is absent or broken is no error of the program: the store stays empty and says why.
    pub fn start(sources: PolicySources, metrics: Arc<Metrics>) -> (Self, Arc<PolicyStore>) {
        let store = Arc::new(PolicyStore::new());
        let state =
            sources.policy.state.clone().map(|directory| State::new(directory, sources.policy.directories.clone()));
        let mut loader = Self {
            keeper: None,
            state,
            sources,
            store: Arc::clone(&store),
            metrics,
            taken: None,
            moving: None,
            taken_for: None,
            good: None,
        };
        match directory::read(&loader.sources.policy.directories) {
            // Nothing to decide on: a sidecar that calls listed identities only has no policy.
            Ok(_) if loader.sources.policy.directories.is_empty() => {}
            Ok(contents) => loader.take(contents),
            Err(error) => loader.refuse(&error.into()),
        }
        (loader, store)
    }

    /// Watches until the process ends, on a thread where a slow disk or a large policy stalls nobody.
    pub async fn run(mut self, tasks: Tasks) {
        let policy = &self.sources.policy;
        let mut notice = Notice::new(policy.directories.iter().chain(&policy.labels_file));
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
            let wait = wait.min(self.default_ends_in());
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
        let contents = match directory::read(&self.sources.policy.directories) {
            Ok(contents) => contents,
            Err(error) => {
                self.taken = None;
                self.refuse(&error.into());
                return Settled::Still;
            }
        };
        let is_known = |now: Circumstances| self.taken_for.as_ref() == Some(&now);
        if self.taken.as_deref() == Some(&contents) && self.circumstances().is_ok_and(is_known) {
            self.moving = None;
            return Settled::Still;
        }
        // A volume is swapped whole. Files written in place may be caught half-way, and half a policy may lack the
        // document that denies: it is taken when it has stood still.
        let is_new = self.taken.as_deref() != Some(&contents);
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

    fn circumstances(&self) -> Result<Circumstances, LabelsError> {
        let policy = &self.sources.policy;
        let own = self.sources.credentials.snapshot().material.as_ref().map(|own| own.id().clone());
        let mut options = policy.options(unix_seconds());
        if let Some(file) = &policy.labels_file {
            options.labels = labels_file::read(file)?;
        }
        Ok(Circumstances { own, options })
    }

    /// The time until another policy follows from the same documents.
    fn default_ends_in(&self) -> Duration {
        let until = self.sources.policy.allow_by_default.as_ref().and_then(|allow| allow.until);
        let left = until.and_then(|until| u64::try_from(until.saturating_sub(unix_seconds())).ok());
        left.filter(|left| *left > 0).map_or(Duration::MAX, Duration::from_secs)
    }

    fn take(&mut self, contents: Contents) {
        self.moving = None;
        let circumstances = match self.circumstances() {
            Ok(circumstances) => circumstances,
            Err(error) => {
                self.taken_for = None;
                return self.refuse(&error.into());
            }
        };
        self.taken_for = Some(circumstances.clone());
        let (source, taken, contents) = (Source::Directory, SystemTime::now(), Arc::new(contents));
        self.taken = Some(Arc::clone(&contents));
        let good = Good { contents, source, taken, circumstances };
        match self.compile(&good) {
            Ok(loaded) => self.put_in_force(loaded, good),
            Err(found) => self.refuse(&LoadError::Documents(found)),
        }
    }

    fn compile(&self, good: &Good) -> Result<Loaded, Diagnostics> {
        let Good { contents, source, taken, circumstances } = good;
        let number = self.store.current.load().as_ref().map_or(0, |loaded| loaded.number) + 1;
        let draft =
            Draft { contents, source: *source, taken: *taken, circumstances, opaque_ports: &self.sources.opaque_ports };
        Loaded::compile(draft, number, &self.metrics)
    }

    /// Puts a policy from the policy directories in force, and keeps a copy of it.
    fn put_in_force(&mut self, loaded: Loaded, good: Good) {
        let had_problem = self.store.problem.swap(None).is_some();
        self.metrics.policy_outdated(0.0);
        let revision = loaded.policy.revision().to_owned();
        if self.store.current.load().as_ref().is_some_and(|current| current.stands_for(&loaded)) {
            if had_problem {
                tracing::info!(revision, "the policy on disk is again the one in force");
            }
            self.good = Some(good);
            return;
        }
        let (contents, taken) = (Arc::clone(&good.contents), good.taken);
        self.publish(loaded, good);
        self.metrics.reloaded(Reloaded::Policy);
        if let Some(keeper) = self.keeper() {
            keeper.keep(Copy { contents, taken, revision });
        }
    }

    fn publish(&mut self, loaded: Loaded, good: Good) {
        self.good = Some(good);
        for warning in &loaded.warnings {
            tracing::warn!(warning, "the policy should be looked at");
        }
        let allows = loaded.options.default_action == DefaultAction::Allow;
        self.metrics.policy_default_allow(f64::from(allows));
        if let Some(allow) = self.sources.policy.allow_by_default.as_ref().filter(|_| allows) {
            let (reason, until) = (allow.reason.as_deref(), allow.until_written());
            tracing::warn!(reason, until, "whatever no policy denies is allowed where none is there to allow");
        }
        let loaded = Arc::new(loaded);
        self.store.current.store(Some(Arc::clone(&loaded)));
        self.store.changed.send_replace(loaded.number);
        self.metrics.generation(Reloaded::Policy, loaded.number, loaded.since);
        self.metrics.policy_taken(loaded.taken);
        self.metrics.policy_from_state(f64::from(loaded.source == Source::State));
        let (revision, git_revision) = (loaded.policy.revision(), loaded.git_revision.as_deref());
        let (number, source, rules) = (loaded.number, loaded.source.label(), loaded.policy.rules().count());
        tracing::info!(revision, git_revision, number, source, rules, "policy in force");
    }

    /// The keeper of copies, where a state directory is configured; started with the first policy that there is to keep.
    fn keeper(&mut self) -> Option<&Keeper> {
        if let (None, Some(state)) = (&self.keeper, &self.state) {
            match Keeper::start(state.clone(), Arc::clone(&self.metrics)) {
                Ok(keeper) => self.keeper = Some(keeper),
                Err(error) => {
                    self.metrics.policy_not_copied("no_thread");
                    tracing::warn!(%error, "no copy of the policy is kept: the system gives no thread for it");
                }
            }
        }
        self.keeper.as_ref()
    }

    fn refuse(&mut self, error: &LoadError) {
        let text = match error {
            LoadError::Documents(found) => found.iter().map(Diagnostic::to_string).collect::<String>(),
            LoadError::Directory(_) | LoadError::Labels(_) => crate::error_chain(error),
        };
        let mut text = text.trim_end().to_owned();
        let mut from_copy = false;
        match self.copy(error) {
            None => {}
            Some(Ok((loaded, good))) => {
                self.metrics.reloaded(Reloaded::PolicyCopy);
                self.metrics.policy_copy_taken(loaded.taken);
                self.publish(loaded, good);
                from_copy = true;
            }
            Some(Err(no_copy)) => {
                self.metrics.reload_refused(Reloaded::PolicyCopy, no_copy.label());
                let no_copy = crate::error_chain(&no_copy);
                text.push_str(&format!("\nthere is no copy of the last good policy to fall back to: {no_copy}"));
            }
        }
        self.follow();
        let current = self.store.current.load();
        self.metrics.policy_outdated(f64::from(current.is_some()));
        let before = self.store.problem.swap(Some(Arc::new(text.clone())));
        if !from_copy && before.is_some_and(|before| *before == text) {
            return;
        }
        self.metrics.reload_refused(Reloaded::Policy, error.label());
        match current.as_ref() {
            Some(current) if from_copy => {
                let (revision, git_revision) = (current.policy.revision(), current.git_revision.as_deref());
                let age_seconds = current.taken.elapsed().unwrap_or_default().as_secs();
                let message = "the policy on disk is broken: the last good one is in force, from the state directory";
                tracing::error!(error = text, revision, git_revision, age_seconds, "{message}");
            }
            Some(_) => tracing::warn!(error = text, "the policy on disk is refused, the last good one stays in force"),
            None => tracing::error!(error = text, "there is no policy: all traffic is refused until there is one"),
        }
    }

    /// The copy in the state directory, where it is called for: the documents on disk are broken, and no policy has been
    /// in force yet. It waits for our own identity, without which it cannot be checked for this sidecar; until then
    /// nothing is served anyway.
    fn copy(&self, error: &LoadError) -> Option<Result<(Loaded, Good), NoCopy>> {
        let state = self.state.as_ref().filter(|_| error.is_broken() && self.store.current.load().is_none())?;
        let circumstances = self.circumstances().ok().filter(|circumstances| circumstances.own.is_some())?;
        let loaded = state.read().map_err(NoCopy::from).and_then(|Copy { contents, taken, .. }| {
            let good = Good { contents, source: Source::State, taken, circumstances };
            let loaded = self.compile(&good).map_err(NoCopy::Documents)?;
            Ok((loaded, good))
        });
        Some(loaded)
    }

    /// Compiles the policy in force anew when what it was compiled for has changed and the documents on disk cannot take its
    /// place: what is allowed by default must end whatever is wrong with them.
    fn follow(&mut self) {
        let Some(good) = &self.good else { return };
        let own = self.sources.credentials.snapshot().material.as_ref().map(|own| own.id().clone());
        let labels = good.circumstances.options.labels.clone();
        let known =
            || Circumstances { own, options: Options { labels, ..self.sources.policy.options(unix_seconds()) } };
        let circumstances = self.circumstances().unwrap_or_else(|_| known());
        if circumstances.options == good.circumstances.options {
            return;
        }
        let good = Good { contents: Arc::clone(&good.contents), circumstances, ..*good };
        match self.compile(&good) {
            Ok(loaded) => self.publish(loaded, good),
            Err(found) => tracing::warn!(error = first_line(&found), "the policy in force cannot follow what changed"),
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
