//! Puts one sidecar together, owns its threads, and takes it down again.
//!
//! The data path runs on the workers. Everything else (watchers, re-check, admin, health, metrics, shutdown) runs on one
//! control thread, so that neither a slow disk nor a scraper can stall a request. Several sidecars may run in one process.

mod accepting;
mod recheck;
mod sentences;
mod shutdown;
mod upkeep;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::SystemTime;

use anyhow::Context;
use portcullis_certs_watcher::{
    Credentials, DenyListSource, Event, Outcome, Pace, Sources, Subject, Watcher, system_clock,
};
use rustls_pki_types::UnixTime;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use self::accepting::Accepting;
pub use self::shutdown::Stop;
use crate::config::{self, Config, Protocol};
use crate::connections::Connections;
use crate::drain::{Drain, Phase, Tasks};
use crate::inbound::{self, Inbound};
use crate::limits::handshakes::Handshakes;
use crate::limits::in_flight::Destination;
use crate::limits::memory::Cgroup;
use crate::limits::rate::Rates;
use crate::listen::{Inherited, Listening};
use crate::outbound::{self, Outbound};
use crate::policy_store::{Loader, PolicySources};
use crate::readiness::{self, PolicyNeed};
use crate::sideband::{self, Audience, Pages};
use crate::sidecar::Sidecar;
use crate::telemetry::episode::Episodes;
use crate::telemetry::metrics::{Direction, Metrics, Reloaded};
use crate::telemetry::repeated::Repeated;
use crate::telemetry::spans::Spans;
use crate::telemetry::{Telemetry, access_log};
use crate::tls::Tls;
use crate::workers::Workers;
use crate::{admin, deny_file};

/// A sidecar that runs.
#[derive(Debug)]
pub struct Running {
    addresses: Addresses,
    stopper: Stopper,
    control: JoinHandle<()>,
    sidecar: Arc<Sidecar>,
    need: PolicyNeed,
}

/// Stops a sidecar. Cheap to clone; the sidecar stops by itself when the last one is gone.
#[derive(Clone, Debug)]
pub struct Stopper {
    stop: Arc<watch::Sender<Stop>>,
    tasks: Tasks,
}

impl Stopper {
    /// Begins to stop; a graceful stop can still be turned into one at once.
    pub fn stop(&self, stop: Stop) {
        self.stop.send_modify(|current| *current = (*current).max(stop));
    }

    /// Resolves when every connection has ended.
    pub async fn ended(&self) {
        self.tasks.reached(Phase::Ended).await;
    }
}

/// Where it listens; ports that were 0 in the configuration are the real ones here.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// In the order of the configuration.
    pub inbound: Vec<SocketAddr>,
    /// In the order of the configuration.
    pub outbound: Vec<SocketAddr>,
    /// JSON on loopback.
    pub admin: SocketAddr,
    /// `/metrics`.
    pub metrics: SocketAddr,
    /// `/livez` and `/readyz`.
    pub health: SocketAddr,
}

impl Running {
    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The Prometheus exposition of its metrics.
    pub fn metrics(&self) -> String {
        self.sidecar.telemetry.metrics.render()
    }

    /// What keeps it from being ready; nothing when it is.
    pub fn obstacles(&self) -> Vec<String> {
        readiness::obstacles(&self.sidecar, self.need, UnixTime::now())
    }

    /// Stops it, from anywhere.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until it has stopped. Something must have told it to.
    pub fn wait(self) {
        // A panic has been reported by the panic hook.
        let _ = self.control.join();
    }
}

/// What listens before anything starts.
struct Listeners {
    inbound: Vec<Listening>,
    outbound: Vec<Listening>,
    admin: Listening,
    metrics: Listening,
    health: Listening,
}

/// What weakens a rule is told of at each start.
fn tell_of_encoded_slashes(config: &Config, metrics: &Metrics) {
    let deciding =
        || config.inbound.iter().filter_map(|inbound| Some((inbound.listen, inbound.encoded_slash.as_ref()?)));
    for (listen, slashes) in deciding() {
        let (reason, until) = (&slashes.reason, slashes.until_written());
        tracing::warn!(%listen, reason, until, "paths with `%2F` are forwarded, which servers read in two ways");
    }
    metrics.encoded_slash_listeners(deciding().count() as f64);
}

/// Starts a sidecar on sockets of its own, see [`start_on`].
///
/// # Errors
/// As [`start_on`].
pub fn start(config: Config) -> anyhow::Result<Running> {
    start_on(config, Inherited::default())
}

/// Starts a sidecar. Identity, trust and policy that are absent or broken do not keep it from starting, only from being
/// ready. It listens on the sockets that were handed over, and binds the rest.
///
/// # Errors
/// When an address cannot be bound, a socket was handed over that no listener is for, the access log cannot be opened, or the
/// system gives no threads.
pub fn start_on(config: Config, inherited: Inherited) -> anyhow::Result<Running> {
    let listeners = Listeners::open(&config, inherited)?;
    let addresses = listeners.addresses()?;
    let metrics = Arc::new(Metrics::new());
    tell_of_encoded_slashes(&config, &metrics);
    let (access_log, log_writer) = access_log::open(&config.logs.access, Arc::clone(&metrics))
        .with_context(|| format!("the access log {:?} cannot be opened", config.logs.access))?;
    let control =
        Builder::new_current_thread().enable_all().build().context("no event queue for the control thread")?;
    let drain = Drain::new();
    let tasks = drain.tasks();

    let (watcher, credentials) =
        Watcher::new(sources(&config), Pace::default(), system_clock(), counting(Arc::clone(&metrics)));
    let (loader, policy) = Loader::start(policy_sources(&config, &credentials), Arc::clone(&metrics));
    let service =
        credentials.snapshot().material.as_ref().map_or_else(|| "portcullis".to_owned(), |own| own.id().to_string());
    let spans = Spans::start(config.tracing, &service, &tasks, control.handle())?;
    let telemetry = Arc::new(Telemetry {
        metrics: Arc::clone(&metrics),
        access_log,
        spans,
        repeated: Repeated::default(),
        episodes: Episodes::new(),
    });
    let limits = config.limits;
    let sidecar = Arc::new(Sidecar {
        timeouts: config.timeouts,
        limits,
        tls: Tls::new(credentials),
        policy,
        services_were_defined: AtomicBool::new(false),
        services: config.services().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
        connections: Arc::new(Connections::new(
            limits.connections,
            limits.connections_per_identity,
            Arc::clone(&metrics),
        )),
        handshakes: Handshakes::new(limits.handshakes),
        memory: Arc::default(),
        rates: Rates::new(limits.rate_per_identity),
        telemetry,
        tasks: tasks.clone(),
    });
    let workers = Workers::start(config.workers, &tasks).context("a worker thread cannot be started")?;
    let need = if config.needs_policy() { PolicyNeed::Needed } else { PolicyNeed::NotNeeded };

    let handle = control.handle().clone();
    let ended = tasks.clone();
    tasks.spawn_on(&handle, watcher.run(async move { ended.reached(Phase::Ended).await }));
    if need == PolicyNeed::Needed {
        tasks.spawn_on(&handle, loader.run(tasks.clone()));
    }
    tasks.spawn_on(&handle, recheck::run(Arc::clone(&sidecar)));
    tasks.spawn_on(&handle, upkeep::run(Arc::clone(&sidecar), need));
    if let Some(cgroup) = Cgroup::find(&config.system) {
        let memory = Arc::clone(&sidecar.memory);
        tasks.spawn_on(&handle, memory.watch(cgroup, metrics, tasks.clone()));
    }
    let config = Arc::new(config);
    let _inside = handle.enter();
    let Listeners { inbound, outbound, admin, metrics: scraped, health } = listeners;
    serve_sidebands([scraped, health, admin], &config, &sidecar, need)?;
    let workers = Arc::new(workers);
    accept_all([inbound, outbound], &config, &sidecar, &workers)?;

    let (stop, stopped) = watch::channel(Stop::No);
    let ending = shutdown::Ending { drain, sidecar: Arc::clone(&sidecar), workers, log_writer, stopped };
    let thread = std::thread::Builder::new().name("control".to_owned());
    let control = thread.spawn(move || run_control(control, ending)).context("the control thread cannot be started")?;
    tracing::info!(
        inbound = ?addresses.inbound, outbound = ?addresses.outbound, admin = %addresses.admin,
        metrics = %addresses.metrics, health = %addresses.health, workers = config.workers, "portcullis is up"
    );
    let stopper = Stopper { stop: Arc::new(stop), tasks };
    Ok(Running { addresses, stopper, control, sidecar, need })
}

fn run_control(control: Runtime, ending: shutdown::Ending) {
    control.block_on(ending.run());
    // Blocking name resolutions that nobody waits for any more must not hold the process.
    control.shutdown_background();
}

impl Listeners {
    fn open(config: &Config, mut inherited: Inherited) -> anyhow::Result<Self> {
        let mut at = |role, address| Listening::at(role, address, &mut inherited);
        let listeners = Self {
            inbound: config.inbound.iter().map(|one| at("inbound", one.listen)).collect::<Result<_, _>>()?,
            outbound: config.outbound.iter().map(|one| at("outbound", one.listen)).collect::<Result<_, _>>()?,
            admin: at("admin", config.admin)?,
            metrics: at("metrics", config.metrics)?,
            health: at("health", config.health)?,
        };
        inherited.all_taken()?;
        Ok(listeners)
    }

    fn addresses(&self) -> std::io::Result<Addresses> {
        let of = |listening: &Listening| listening.socket.local_addr();
        Ok(Addresses {
            inbound: self.inbound.iter().map(of).collect::<Result<_, _>>()?,
            outbound: self.outbound.iter().map(of).collect::<Result<_, _>>()?,
            admin: of(&self.admin)?,
            metrics: of(&self.metrics)?,
            health: of(&self.health)?,
        })
    }
}

fn sources(config: &Config) -> Sources {
    Sources {
        identity: config.identity.source.clone(),
        expected: config.identity.spiffe_id.clone(),
        trust: config.trust.clone(),
        deny_list: config.deny_list.clone().map(|path| DenyListSource { path, read: deny_file::read }),
    }
}

fn policy_sources(config: &Config, credentials: &Credentials) -> PolicySources {
    let opaque = config.inbound.iter().filter(|inbound| inbound.protocol == Protocol::Tcp);
    PolicySources {
        policy: if config.needs_policy() { config.policy.clone() } else { config::Policy::default() },
        opaque_ports: opaque.map(|inbound| inbound.forward.port()).collect(),
        credentials: credentials.clone(),
    }
}

fn counting(metrics: Arc<Metrics>) -> portcullis_certs_watcher::snapshot::Observer {
    Box::new(move |event: &Event| {
        let kind = match event.subject {
            Subject::Identity => Reloaded::Identity,
            Subject::Trust(_) => Reloaded::Trust,
            Subject::Revocation(_) => Reloaded::Crl,
            Subject::DenyList => Reloaded::DenyList,
        };
        match event.outcome {
            Outcome::Published { generation, .. } => {
                let since = SystemTime::now();
                metrics.reloaded(kind);
                metrics.generation(kind, generation, since);
                if matches!(kind, Reloaded::Crl | Reloaded::DenyList) {
                    // What takes trust away makes another generation of trust.
                    metrics.generation(Reloaded::Trust, generation, since);
                }
            }
            Outcome::Refused { label } => metrics.reload_refused(kind, label),
        }
    })
}

fn serve_sidebands(
    [metrics_at, health_at, admin_at]: [Listening; 3],
    config: &Arc<Config>,
    sidecar: &Arc<Sidecar>,
    need: PolicyNeed,
) -> anyhow::Result<()> {
    let counted = Arc::clone(&sidecar.telemetry.metrics);
    let metrics: Pages = Arc::new(move |path| match path {
        "/metrics" => sideband::Document {
            status: http::StatusCode::OK,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            text: counted.render(),
        },
        _ => sideband::Document::not_found(),
    });
    let health = readiness::pages(Arc::clone(sidecar), need);
    let admin = admin::pages(Arc::clone(config), Arc::clone(sidecar), need);
    let servers = [
        (metrics_at, Audience::Anyone, metrics),
        (health_at, Audience::Anyone, health),
        (admin_at, Audience::Loopback, admin),
    ];
    for (listening, audience, pages) in servers {
        // Who shares the socket answers in our place once we are on the way out.
        let until = if listening.is_shared { Phase::LameDuck } else { Phase::Ended };
        let listener = TcpListener::from_std(listening.socket)?;
        let counted = Arc::clone(&sidecar.telemetry.metrics);
        sidecar.tasks.spawn(sideband::serve(listener, until, audience, pages, counted, sidecar.tasks.clone()));
    }
    Ok(())
}

/// Starts accepting on every data-path listener.
fn accept_all(
    [inbound, outbound]: [Vec<Listening>; 2],
    config: &Config,
    sidecar: &Arc<Sidecar>,
    workers: &Arc<Workers>,
) -> anyhow::Result<()> {
    let most = config.limits.in_flight_per_destination;
    // Listeners that lead to one application share what it may be asked at a time.
    let mut applications = HashMap::new();
    for (listening, inbound) in inbound.into_iter().zip(&config.inbound) {
        let forward = inbound.forward;
        let to = &*applications.entry(forward).or_insert_with(|| Destination::new(most, forward.to_string()));
        let part = |_| Inbound::new(Arc::clone(sidecar), inbound, Arc::clone(to));
        let parts: Vec<_> = workers.all().iter().map(part).collect();
        let pools = parts.iter().map(|part| part.pools().map(Arc::clone).to_vec()).collect();
        upkeep::sweep_pools(pools, workers, sidecar);
        let accepting = Accepting { listening, direction: Direction::Inbound, workers: Arc::clone(workers), parts };
        accepting.spawn(sidecar, inbound::serve)?;
    }
    for (listening, outbound) in outbound.into_iter().zip(&config.outbound) {
        let count = workers.all().len();
        let to = Destination::new(most, &*outbound.connect);
        let part = |_| Outbound::new(Arc::clone(sidecar), outbound, Arc::clone(&to), count);
        let parts: Vec<_> = workers.all().iter().map(part).collect();
        let pools = parts.iter().map(|part| vec![Arc::clone(part.pool())]).collect();
        upkeep::sweep_pools(pools, workers, sidecar);
        let accepting = Accepting { listening, direction: Direction::Outbound, workers: Arc::clone(workers), parts };
        accepting.spawn(sidecar, outbound::serve)?;
    }
    Ok(())
}
