//! The policy in force: loaded from its directories, watched, swapped whole; the last good one stays.
//!
//! A decision is made by one loaded set and recorded with it, so that a record never names a rule of another revision.

pub mod directory;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use metrics::Counter;
use portcullis_certs_watcher::{Credentials, Notice};
use portcullis_policy::diagnostic::{Diagnostic, Diagnostics, Severity};
use portcullis_policy::{
    Admission, Connection, Decision, Denial, Effect, File, Mode, Policy, Request, Rule, RuleRef, Verdict as Decided,
};
use spiffe::SpiffeId;
use tokio::sync::watch;

use self::directory::{Contents, DirectoryError, Layout};
use crate::drain::{Phase, Tasks};
use crate::telemetry::metrics::{Metrics, Reloaded};

/// One loaded policy with its counters.
#[derive(Debug)]
pub struct Loaded {
    /// Grows by one with each policy that is put in force.
    pub number: u64,
    /// The policy.
    pub policy: Policy,
    /// When it was put in force.
    pub since: SystemTime,
    /// What someone should look at.
    pub warnings: Vec<String>,
    counters: HashMap<RuleRef, Counter>,
    defaults: [(Denial, Counter); 3],
    allowed_by_default: Counter,
}

/// What was decided, with the policy that decided it.
#[derive(Clone, Debug)]
pub struct Verdict {
    loaded: Arc<Loaded>,
    decision: Decision,
}

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

/// The policy in force and what is wrong with the one on disk. Cheap readers.
#[derive(Debug)]
pub struct PolicyStore {
    current: ArcSwapOption<Loaded>,
    problem: ArcSwapOption<String>,
    changed: watch::Sender<u64>,
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

impl Loaded {
    /// Compiles the documents.
    ///
    /// # Errors
    /// Every mistake in them. A rule that names both an opaque TCP port of ours and matchers on HTTP is one.
    fn compile(
        contents: &Contents,
        number: u64,
        own: Option<&SpiffeId>,
        opaque_ports: &[u16],
        metrics: &Metrics,
    ) -> Result<Self, Diagnostics> {
        let files: Vec<File<'_>> =
            contents.files.iter().map(|file| File { name: &file.name, bytes: &file.bytes }).collect();
        let compiled = Policy::compile(&files)?;
        let policy = compiled.policy;
        let mistakes = own.map(|own| http_rules_on_opaque_ports(&policy, own, opaque_ports)).unwrap_or_default();
        if mistakes.has_errors() {
            return Err(mistakes);
        }
        let counters = policy.rules().map(|(reference, rule)| (reference, counter(metrics, rule))).collect();
        let default = |denial: Denial| (denial, metrics.decisions("deny", "", denial.label(), "enforce"));
        Ok(Self {
            number,
            since: SystemTime::now(),
            warnings: compiled.warnings.iter().map(|warning| warning.to_string().trim_end().to_owned()).collect(),
            counters,
            allowed_by_default: metrics.decisions("allow", "", ALLOWED_BY_DEFAULT, "enforce"),
            defaults: [Denial::NoPolicy, Denial::NoRule, Denial::PathInDoubt].map(default),
            policy,
        })
    }

    /// What can be said of an HTTP connection before its first request; nothing is counted.
    pub fn admit(&self, connection: &Connection<'_>) -> Admission {
        self.policy.admit(connection)
    }

    /// Decides an opaque TCP connection and counts the decision.
    pub fn decide_opaque(self: &Arc<Self>, connection: &Connection<'_>) -> Verdict {
        self.counted(self.policy.admit_opaque(connection))
    }

    /// Decides a request and counts the decision.
    pub fn decide(self: &Arc<Self>, request: &Request<'_>) -> Verdict {
        self.counted(self.policy.decide(request))
    }

    fn counted(self: &Arc<Self>, decision: Decision) -> Verdict {
        self.count(decision.verdict);
        if let Some(audited) = decision.audit {
            self.count(audited);
        }
        if let Some(counter) = decision.marked.and_then(|rule| self.counters.get(&rule)) {
            counter.increment(1);
        }
        Verdict { loaded: Arc::clone(self), decision }
    }

    fn count(&self, decided: Decided) {
        let counter = match decided {
            Decided::Allow(rule) | Decided::Deny(Denial::Rule(rule)) => self.counters.get(&rule),
            Decided::AllowByDefault => Some(&self.allowed_by_default),
            Decided::Deny(denial) => {
                self.defaults.iter().find(|(known, _)| *known == denial).map(|(_, counter)| counter)
            }
        };
        if let Some(counter) = counter {
            counter.increment(1);
        }
    }
}

impl Verdict {
    /// `allow` or `deny`.
    pub fn label(&self) -> &'static str {
        if self.is_allow() { "allow" } else { "deny" }
    }

    /// Whether it is allowed.
    pub fn is_allow(&self) -> bool {
        self.decision.verdict.is_allow()
    }

    /// The rule that decided; a default denial has none.
    pub fn rule(&self) -> Option<&Rule> {
        self.decision.verdict.rule().and_then(|rule| self.loaded.policy.rule(rule))
    }

    /// The fixed word of a denial: `denied_by_rule`, `no_policy`, `no_rule` or `path_in_doubt`.
    pub fn denial(&self) -> Option<&'static str> {
        match self.decision.verdict {
            Decided::Allow(_) | Decided::AllowByDefault => None,
            Decided::Deny(Denial::Rule(_)) => Some("denied_by_rule"),
            Decided::Deny(denial) => Some(denial.label()),
        }
    }
}

impl PolicyStore {
    fn new() -> Self {
        Self { current: ArcSwapOption::empty(), problem: ArcSwapOption::empty(), changed: watch::Sender::new(0) }
    }

    /// The policy in force; `None` until a first one could be loaded.
    pub fn current(&self) -> Option<Arc<Loaded>> {
        self.current.load_full()
    }

    /// What is wrong with the documents on disk; the policy in force is then older than they are.
    pub fn problem(&self) -> Option<Arc<String>> {
        self.problem.load_full()
    }

    /// Wakes when another policy is put in force.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
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

/// The facts of a connection, for policy; time comes from the clock of now.
pub fn connection<'a>(
    [caller, workload]: [&'a SpiffeId; 2],
    source: IpAddr,
    application: SocketAddr,
    server_name: Option<&'a str>,
) -> Connection<'a> {
    let (port, destination) = (application.port(), application.ip());
    Connection { caller, workload, port, source, destination, server_name, now: unix_seconds() }
}

/// Seconds since 1970.
pub fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn counter(metrics: &Metrics, rule: &Rule) -> Counter {
    let decision = match (rule.mode, rule.effect) {
        (Mode::Mark, _) => "mark",
        (Mode::Enforce | Mode::Audit, Effect::Allow) => "allow",
        (Mode::Enforce | Mode::Audit, Effect::Deny) => "deny",
    };
    metrics.decisions(decision, &rule.policy, &rule.name, rule.mode.label())
}

fn http_rules_on_opaque_ports(policy: &Policy, own: &SpiffeId, opaque_ports: &[u16]) -> Diagnostics {
    let mut found = Diagnostics::default();
    let rules = opaque_ports.iter().flat_map(|port| policy.http_rules_on(own, *port).map(move |rule| (port, rule)));
    for (port, reference) in rules {
        let Some(rule) = policy.rule(reference) else { continue };
        let message = format!(
            "{}: rule `{}` of policy `{}` matches on HTTP, and port {port} is opaque TCP",
            rule.origin, rule.name, rule.policy
        );
        let help = "split the rule: one for the port without HTTP matchers, one for the HTTP ports";
        found.push(Diagnostic::of_all_files(Severity::Error, HTTP_ON_TCP, message).help(help));
    }
    found
}

fn first_line(found: &Diagnostics) -> String {
    let first = found.iter().find(|diagnostic| diagnostic.severity == Severity::Error);
    first.map(|diagnostic| diagnostic.message.clone()).unwrap_or_default()
}

/// In place of a rule, where nothing is there to allow and `policy.defaultAction` does.
const ALLOWED_BY_DEFAULT: &str = "default_action";
/// How long files that are written in place must stand still.
const SETTLE: Duration = Duration::from_millis(100);
/// The net below the notifications.
const POLL: Duration = Duration::from_secs(10);
/// The same where there are no notifications.
const BLIND_POLL: Duration = Duration::from_secs(1);
/// A rule that cannot mean what it says, given the ports of this sidecar.
const HTTP_ON_TCP: &str = "C022";

#[cfg(test)]
mod tests;
