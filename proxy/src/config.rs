//! The configuration of one sidecar, checked: after [`Config::read`] nothing in it needs checking again.
//!
//! The file is read once; changing it takes a restart. What it points at (identity, trust, policy) is watched.

mod answerers;
mod encoded_slash;
pub mod labels;
mod read;
mod show;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_certs_watcher::{IdentitySource, TrustSource};
pub use portcullis_policy::Protocol;
use portcullis_policy::ServiceName;
use portcullis_policy::diagnostic::Diagnostics;
use portcullis_policy::{DefaultAction, Options};
use spiffe::{SpiffeId, TrustDomain};

pub use self::answerers::{Answerers, NoSuchService, of_service};
pub use self::encoded_slash::EncodedSlashes;
pub use self::show::{stale_crl_word, unknown_status_word};
use crate::telemetry::access_log::Destination;
use crate::telemetry::log::Format;
use crate::telemetry::spans::SpanExport;

/// Everything that the file says, with defaults where it says nothing.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our own certificate and key.
    pub identity: Identity,
    /// Whom we believe, by trust domain.
    pub trust: Vec<TrustSource>,
    /// The file that names identities and certificates to refuse at once; none by default.
    pub deny_list: Option<PathBuf>,
    /// See [`Policy`].
    pub policy: Policy,
    /// Mesh to application.
    pub inbound: Vec<Inbound>,
    /// Application to mesh.
    pub outbound: Vec<Outbound>,
    /// Threads of the data path; `auto` is the cores that the cgroup gives.
    pub workers: NonZeroUsize,
    /// See [`Timeouts`].
    pub timeouts: Timeouts,
    /// See [`Limits`].
    pub limits: Limits,
    /// The admin listener, on loopback. Default `127.0.0.1:15000`.
    pub admin: SocketAddr,
    /// The metrics listener. Default `0.0.0.0:15020`.
    pub metrics: SocketAddr,
    /// The listener of `/livez` and `/readyz`. Default `0.0.0.0:15021`.
    pub health: SocketAddr,
    /// See [`Logs`].
    pub logs: Logs,
    /// Where spans go; nowhere by default.
    pub tracing: Option<SpanExport>,
    /// See [`SystemFiles`]. No key of the file.
    pub system: SystemFiles,
}

/// Where the system says how much memory the process may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemFiles {
    /// Where cgroups are mounted. Default `/sys/fs/cgroup`.
    pub cgroups: PathBuf,
    /// Which of them the process is in. Default `/proc/self/cgroup`.
    pub own_cgroup: PathBuf,
}

impl Default for SystemFiles {
    fn default() -> Self {
        Self { cgroups: PathBuf::from("/sys/fs/cgroup"), own_cgroup: PathBuf::from("/proc/self/cgroup") }
    }
}

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Where our own certificate and key come from: a cert-manager Secret volume, or a SPIFFE Workload API.
    pub source: IdentitySource,
    /// Who we must be; without it whoever the first certificate says.
    pub spiffe_id: Option<SpiffeId>,
}

/// Where policy comes from, and how it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Directories with policy documents; empty where nothing asks for one, see [`Config::needs_policy`].
    pub directories: Vec<PathBuf>,
    /// The directory for the copy of the last good policy; none by default.
    pub state: Option<PathBuf>,
    /// The labels of this workload, for the selectors of Istio's policies; none by default.
    pub labels: BTreeMap<String, String>,
    /// The file of the downward API that has them, instead.
    pub labels_file: Option<PathBuf>,
    /// The namespace whose policies of Istio's hold for every workload. Default `istio-system`.
    pub root_namespace: Option<String>,
    /// The trust domain that `cluster.local` stands for in Istio's principals; by default it is one like others.
    pub cluster_local: Option<TrustDomain>,
    /// See [`AllowByDefault`]; by default what nothing allows is denied.
    pub allow_by_default: Option<AllowByDefault>,
}

/// Istio's answer for a workload that no policy which allows protects: whatever no rule denies is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowByDefault {
    /// Why; one line.
    pub reason: Option<String>,
    /// From this moment (seconds since 1970) on the answer is deny.
    pub until: Option<i64>,
}

impl Policy {
    /// What documents are compiled with at `now`, in seconds since 1970, where no file has the labels.
    pub fn options(&self, now: i64) -> Options {
        let default = Options::default();
        let allows = self.allow_by_default.as_ref().is_some_and(|allow| allow.until.is_none_or(|until| now < until));
        Options {
            labels: self.labels.clone(),
            default_action: if allows { DefaultAction::Allow } else { DefaultAction::Deny },
            root_namespace: self.root_namespace.clone().unwrap_or(default.root_namespace),
            cluster_local: self.cluster_local.clone(),
        }
    }
}

/// One listener for the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Where peers connect to.
    pub listen: SocketAddr,
    /// The application.
    pub forward: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// See [`EncodedSlashes`]; by default a path with one is refused.
    pub encoded_slash: Option<EncodedSlashes>,
}

/// One listener for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Where the application connects to, on loopback.
    pub listen: SocketAddr,
    /// `host:port` of the peer's sidecar.
    pub connect: Arc<str>,
    /// The port of `connect`.
    pub port: u16,
    /// What the application speaks.
    pub protocol: Protocol,
    /// Who may answer.
    pub answerers: Answerers,
}

/// How long things may take; zero is off, where it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A TLS handshake. Default 10 s, cannot be off.
    pub handshake: Duration,
    /// The head of a request, from its first byte. Default 10 s, cannot be off.
    pub request_head: Duration,
    /// From the request to the head of its response; does not bind gRPC. Default 5 min.
    pub response_head: Duration,
    /// A TCP connection to an upstream. Default 5 s, cannot be off.
    pub connect: Duration,
    /// An HTTP connection without requests. Default 5 min.
    pub idle: Duration,
    /// A pause of the sender in the middle of a request's body; does not bind gRPC. Default 1 min.
    pub body_stall: Duration,
    /// Opaque TCP and WebSocket on which nothing moves. Default 1 h.
    pub tcp_idle: Duration,
    /// An HTTP connection's life, give or take a tenth. Default 0.
    pub max_age: Duration,
    /// What is in flight on a connection that must end because what allowed it no longer holds. Default 5 s; with 0 it is cut at
    /// once.
    pub recheck_grace: Duration,
    /// How long inbound listeners go on accepting after SIGTERM. Default 5 s.
    pub lame_duck: Duration,
    /// How long requests in flight may take to finish after that. Default 25 s.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            request_head: Duration::from_secs(10),
            response_head: Duration::from_secs(300),
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(300),
            body_stall: Duration::from_secs(60),
            tcp_idle: Duration::from_secs(3600),
            max_age: Duration::ZERO,
            recheck_grace: Duration::from_secs(5),
            lame_duck: Duration::from_secs(5),
            drain: Duration::from_secs(25),
        }
    }
}

/// How much there may be; zero is off, where it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections in both directions. Default 16384.
    pub connections: usize,
    /// Inbound connections of one caller identity. Default 4096.
    pub connections_per_identity: usize,
    /// Inbound handshakes under way. Default 4096.
    pub handshakes: usize,
    /// Bytes of a message's head. Default 64 KiB, at least 8 KiB.
    pub head_bytes: usize,
    /// Fields of a message's head. Default 100.
    pub head_fields: usize,
    /// Bytes of a request's target. Default 16 KiB.
    pub uri_bytes: usize,
    /// HTTP/2 streams that a caller may have open on one connection. Default 100.
    pub streams_per_connection: u32,
    /// Requests of one caller identity, and connections of opaque TCP. Off by default.
    pub rate_per_identity: Option<Rate>,
    /// Requests under way to one destination. Default 0.
    pub in_flight_per_destination: usize,
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: NonZeroU32,
    /// At once, after a pause. Default: as many as in a second.
    pub burst: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16384,
            connections_per_identity: 4096,
            handshakes: 4096,
            head_bytes: 64 << 10,
            head_fields: 100,
            uri_bytes: 16 << 10,
            streams_per_connection: 100,
            rate_per_identity: None,
            in_flight_per_destination: 0,
        }
    }
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// The access log. Default standard output.
    pub access: Destination,
    /// The form of the log on standard error. Default JSON.
    pub format: Format,
    /// The least severe level that is logged. Default info.
    pub level: tracing::Level,
}

impl Default for Logs {
    fn default() -> Self {
        Self { access: Destination::Stdout, format: Format::Json, level: tracing::Level::INFO }
    }
}

/// A configuration that was read, with what someone should look at.
#[derive(Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// Warnings.
    pub warnings: Diagnostics,
}

impl Config {
    /// Reads the text of a configuration file called `name`. `OTEL_EXPORTER_OTLP_ENDPOINT` is passed in by the caller and
    /// used where the file names no endpoint for spans.
    ///
    /// # Errors
    /// Every mistake in the file, each with its place and what to do.
    pub fn read(name: &str, bytes: &[u8], otlp_endpoint: Option<&str>) -> Result<Checked, Diagnostics> {
        read::config(name, bytes, otlp_endpoint)
    }

    /// Whether there is anything that a policy says: who may call us, or who may answer for a Service.
    pub fn needs_policy(&self) -> bool {
        !self.inbound.is_empty() || self.services().next().is_some()
    }

    /// The Services that outbound listeners name.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.outbound.iter().filter_map(|outbound| outbound.answerers.service())
    }
}

#[cfg(test)]
mod tests;
