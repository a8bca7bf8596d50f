//! A sidecar of the demo: a configuration file, read and started as `run` does it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use spiffe::SpiffeId;

use super::client::{Ask, Caller};
use super::error::DemoError;
use super::place::failed;
use super::wait::{Look, eventually};
use crate::app::{self, Addresses, Running, Stop};
use crate::config::Config;
use crate::drain::Tasks;

/// What goes into the configuration file.
pub(super) struct Plan<'a> {
    /// Names the files.
    pub name: &'static str,
    /// Where they go; the identity is in a directory of this name below it.
    pub dir: &'a Path,
    /// Trust domains and their bundles.
    pub trust: &'a [(&'a str, &'a Path)],
    pub side: Side<'a>,
}

/// What it does for its application.
pub(super) enum Side<'a> {
    /// Protects it.
    Inbound { forward: SocketAddr, policy: &'a Path },
    /// Calls for it.
    Outbound { connect: SocketAddr, identity: &'a SpiffeId },
}

/// One that runs. It stops when this is dropped.
pub(super) struct Sidecar {
    pub name: &'static str,
    pub config: PathBuf,
    log: PathBuf,
    addresses: Addresses,
    running: Option<Running>,
}

impl Sidecar {
    pub(super) fn identity_dir(dir: &Path, name: &str) -> PathBuf {
        dir.join(name).join("identity")
    }

    /// Writes the file, starts what it says and waits until it is ready.
    pub(super) async fn start(plan: &Plan<'_>) -> Result<Self, DemoError> {
        let (config, log) = (plan.dir.join(format!("{}.yaml", plan.name)), plan.log());
        let (reserved, text) = plan.text()?;
        fs::write(&config, &text).map_err(|source| failed("write", &config, source))?;
        let read = Config::read(&config.display().to_string(), text.as_bytes(), None);
        let checked = read.map_err(|found| DemoError::Config {
            file: config.clone(),
            mistakes: found.iter().map(ToString::to_string).collect(),
        })?;
        drop(reserved);
        let started = app::start(checked.config);
        let running = started.map_err(|source| DemoError::Start { name: plan.name, source })?;
        let addresses = running.addresses().clone();
        let sidecar = Self { name: plan.name, config, log, addresses, running: Some(running) };
        eventually("a sidecar to be ready", async || {
            let obstacles = sidecar.running.as_ref().map(Running::obstacles).unwrap_or_default();
            Ok(if obstacles.is_empty() { Look::Done(()) } else { Look::NotYet(obstacles.join("; ")) })
        })
        .await?;
        Ok(sidecar)
    }

    /// Where peers call it.
    pub(super) fn inbound(&self) -> Result<SocketAddr, DemoError> {
        let first = self.addresses.inbound.first().copied();
        first.ok_or_else(|| DemoError::Answer("the list of inbound listeners".to_owned()))
    }

    /// Where its application calls it.
    pub(super) fn outbound(&self) -> Result<SocketAddr, DemoError> {
        let first = self.addresses.outbound.first().copied();
        first.ok_or_else(|| DemoError::Answer("the list of outbound listeners".to_owned()))
    }

    /// The sum of a metric over the series that have all these labels.
    pub(super) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.running.as_ref().map(Running::metrics).unwrap_or_default();
        sum(&text, name, labels)
    }

    /// Handshakes of callers that were refused for this reason.
    pub(super) fn refused(&self, reason: &str) -> f64 {
        self.metric(HANDSHAKES, &[("direction", "inbound"), ("result", "refused"), ("reason", reason)])
    }

    /// Handshakes of callers that ended well.
    pub(super) fn accepted(&self) -> f64 {
        self.metric(HANDSHAKES, &[("direction", "inbound"), ("result", "ok")])
    }

    /// The line of the access log about a request.
    pub(super) async fn logged(&self, request_id: &str) -> Result<Value, DemoError> {
        eventually("a line of the access log", async || {
            let text = fs::read_to_string(&self.log).map_err(|source| failed("read", &self.log, source))?;
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let found = lines.find(|line| line.get("request_id").and_then(Value::as_str) == Some(request_id));
            Ok(found.map_or_else(|| Look::NotYet(format!("{} lines", text.lines().count())), Look::Done))
        })
        .await
    }

    /// The serial number of the certificate in force, as the admin listener shows it.
    pub(super) async fn serial(&self, tasks: &Tasks) -> Result<String, DemoError> {
        let mut admin = Caller::connect(self.addresses.admin, tasks).await?;
        let reply = admin.call(Ask::get("/identity", "admin")).await?;
        let shown: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let serial = shown.pointer("/certificate/serial").and_then(Value::as_str);
        serial.map(plain_serial).ok_or_else(|| DemoError::Answer(format!("`/identity` of {}", self.name)))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stopper().stop(Stop::AtOnce);
            running.wait();
        }
    }
}

impl Plan<'_> {
    fn log(&self) -> PathBuf {
        self.dir.join(format!("{}.access.log", self.name))
    }

    /// The configuration, and its ports, which are free once these listeners are dropped.
    fn text(&self) -> Result<(Vec<TcpListener>, String), DemoError> {
        let mut reserved = Vec::new();
        let mut port = || {
            let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
                let address = listener.local_addr()?;
                reserved.push(listener);
                Ok(address.to_string())
            });
            bound.map_err(|source| DemoError::Thread { name: self.name, source })
        };
        let trust = self.trust.iter().map(|(domain, bundle)| json!({ "trustDomain": domain, "bundle": bundle }));
        let mut lines = vec![
            format!("# The sidecar of {}. Start it with `portcullis run --config` and this file.", self.name),
            format!("identity: {}", json!({ "directory": Sidecar::identity_dir(self.dir, self.name) })),
            format!("trust: {}", Value::from_iter(trust)),
        ];
        match self.side {
            Side::Inbound { forward, policy } => {
                let inbound = json!({ "listen": port()?, "forward": forward.to_string(), "protocol": "http" });
                lines.push(format!("policy: {}", json!({ "directory": policy })));
                lines.push(format!("inbound: {}", json!([inbound])));
            }
            Side::Outbound { connect, identity } => {
                let outbound = json!({
                    "listen": port()?, "connect": connect.to_string(), "protocol": "http",
                    "identities": [identity.to_string()],
                });
                lines.push(format!("outbound: {}", json!([outbound])));
            }
        }
        for name in ["admin", "metrics", "health"] {
            lines.push(format!("{name}: {}", json!({ "listen": port()? })));
        }
        lines.push(format!("logs: {}", json!({ "access": self.log() })));
        lines.push("workers: 2\n".to_owned());
        Ok((reserved, lines.join("\n")))
    }
}

/// A serial number without what only separates or fills.
pub(super) fn plain_serial(text: &str) -> String {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits.trim_start_matches('0').to_ascii_lowercase()
}

fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let series = text.lines().filter_map(|line| line.strip_prefix(name)).filter_map(|rest| {
        let (series, value) = rest.rsplit_once(' ')?;
        let all = labels.iter().all(|(label, value)| series.contains(&format!("{label}=\"{value}\"")));
        let whole = series.is_empty() || series.starts_with('{');
        if all && whole { value.parse::<f64>().ok() } else { None }
    });
    // Not `sum`, whose sum of nothing is -0.
    series.fold(0.0, |sum, value| sum + value)
}

const HANDSHAKES: &str = "portcullis_tls_handshakes_total";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_the_series_with_all_labels() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4\na_b{x=\"1\"} 8\nc 5\n";
        assert!((sum(text, "a", &[("x", "1")]) - 7.0).abs() < 0.1);
        assert!((sum(text, "a", &[("x", "1"), ("y", "2")]) - 3.0).abs() < 0.1);
        assert!((sum(text, "c", &[]) - 5.0).abs() < 0.1);
    }

    #[test]
    fn serials_compare_whatever_their_spelling() {
        assert_eq!(plain_serial("0A:bc"), plain_serial("abc"));
    }
}
