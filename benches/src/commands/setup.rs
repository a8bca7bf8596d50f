//! Options made into what a run needs: a route to the target, a plan, limits of the process raised.

use std::num::NonZeroUsize;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls_pki_types::{DnsName, ServerName};

use super::error::CommandError;
use super::options::{LoadArgs, OutputArgs, Protocol, TargetArgs, WatchArgs};
use crate::client::connect::{Route, Secure};
use crate::client::credentials::{Choices, Group, Sessions};
use crate::load::crew::Plan;
use crate::load::progress::Show;
use crate::load::tickets::Pace;

impl TargetArgs {
    /// How to get to the target.
    ///
    /// # Errors
    /// When it has no address, or its TLS options cannot be used.
    pub fn route(&self, sessions: Sessions) -> Result<Route, CommandError> {
        let address = self.target.resolve()?;
        if !self.target.scheme.is_secure() {
            return Ok(Route { address, tls: None });
        }
        let choices = self.choices(sessions)?;
        Ok(Route { address, tls: Some(Secure { config: choices.config()?, name: choices.server_name() }) })
    }

    fn choices(&self, sessions: Sessions) -> Result<Choices, CommandError> {
        let host = &self.target.host;
        let expected = match &self.expect {
            Some(expected) => expected.clone(),
            None => host.parse().map_err(|_| CommandError::Expect(host.clone()))?,
        };
        let sni = match self.sni.as_deref() {
            Some("none") => None,
            Some(name) => Some(dns_name(name).ok_or_else(|| CommandError::Sni(name.to_owned()))?),
            None => host.parse::<std::net::IpAddr>().is_err().then(|| dns_name(host)).flatten(),
        };
        let identity = match (&self.identity, &self.cert, &self.key) {
            (Some(directory), ..) => Some((directory.join("tls.crt"), directory.join("tls.key"))),
            (None, Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            _ => None,
        };
        let groups =
            if self.group.is_empty() { vec![Group::X25519mlkem768, Group::X25519] } else { self.group.clone() };
        Ok(Choices {
            identity,
            ca: self.ca.clone().ok_or(CommandError::NoCa)?,
            expected,
            sni,
            groups,
            version: self.tls,
            alpn: self.alpn(),
            sessions,
        })
    }

    fn alpn(&self) -> Vec<Vec<u8>> {
        if !self.alpn.is_empty() {
            return self.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        }
        match (self.target.scheme.is_http(), self.protocol) {
            (true, Protocol::Http1) => vec![b"http/1.1".to_vec()],
            (true, Protocol::Http2) => vec![b"h2".to_vec()],
            (false, _) => Vec::new(),
        }
    }
}

impl LoadArgs {
    /// The plan of a run.
    ///
    /// # Errors
    /// When the process may not have so many connections.
    pub fn plan(
        &self,
        (name, unit): (&'static str, &'static str),
        watched: &WatchArgs,
        output: &OutputArgs,
    ) -> Result<Plan, CommandError> {
        allow_files(u64::from(self.connections))?;
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = self.threads.map_or_else(|| (cores / 2).max(1), usize::from);
        let connections = usize::try_from(self.connections).unwrap_or(usize::MAX);
        Ok(Plan {
            name,
            unit,
            pace: self.rate.map_or(Pace::Closed, Pace::Open),
            duration: self.duration,
            warm_up: self.warm_up,
            timeout: self.timeout,
            // A thread without a connection would only wait.
            threads: threads.min(connections),
            connections,
            target: watched.pid.clone(),
            backend: watched.backend_pid.clone(),
            show: output.show(),
        })
    }
}

impl OutputArgs {
    /// Whether a bar is shown.
    pub fn show(&self) -> Show {
        if self.quiet { Show::Never } else { Show::OnTerminal }
    }
}

/// Raises the limit of open files to what is allowed.
///
/// # Errors
/// When that is too few for so many connections.
pub fn allow_files(connections: u64) -> Result<(), CommandError> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = connections + OTHER_FILES;
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if wanted > allowed {
        return Err(CommandError::TooManyFiles { wanted: connections, allowed });
    }
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).map_err(|error| CommandError::Io {
            what: "raise the limit of open files".to_owned(),
            source: error.into(),
        })?;
    }
    Ok(())
}

/// A runtime for what happens before and after the load.
///
/// # Errors
/// When the system has no room for one.
pub fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(CommandError::io("set up the runtime"))
}

/// One route for all threads.
pub type SharedRoute = Arc<Route>;

fn dns_name(name: &str) -> Option<ServerName<'static>> {
    DnsName::try_from(name.to_owned()).ok().map(ServerName::DnsName)
}

/// Runtimes, timers, standard streams, `/proc`.
const OTHER_FILES: u64 = 64;
