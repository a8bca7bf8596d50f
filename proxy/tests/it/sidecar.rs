//! A sidecar with its files, started from the text of a configuration.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis::app::{self, Running, Stop};
use portcullis::ca::Leaf;
use portcullis::config::{Config, SystemFiles};
use tempfile::TempDir;

use crate::client::plain;
use crate::eventually::eventually;
use crate::pki::{Pki, write_leaf, write_volume};
use crate::wire::Answer;

/// Whoever has an identity of the trust domain may do everything.
pub const OPEN: &str = r#"
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: open}
spec:
  allow:
    - name: everyone
      from: {identities: ["spiffe://prod.test/**"]}
"#;

/// A sidecar that is going to be started.
pub struct Plan {
    directory: TempDir,
    domains: Vec<String>,
    workload_api: Option<String>,
    inbound: String,
    outbound: String,
    timeouts: String,
    limits: String,
    revocation: String,
    policy: String,
    policy_at: Option<PathBuf>,
    system: SystemFiles,
    more: String,
}

/// A sidecar that runs; it is stopped when dropped.
pub struct Sidecar {
    pub directory: TempDir,
    running: Option<Running>,
}

impl Plan {
    /// A sidecar of `id`, trusting its own PKI, with an open policy.
    pub fn new(pki: &Pki, id: &str) -> Self {
        let plan = Self::without_files(&[&pki.domain]);
        write_leaf(&plan.path("identity"), &pki.leaf(id));
        plan.write_bundle(&pki.domain, &[pki.bundle()]);
        plan.write_policy(OPEN);
        plan
    }

    /// A sidecar that finds nothing yet where its files should be.
    pub fn without_files(domains: &[&str]) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
            workload_api: None,
            inbound: String::new(),
            outbound: String::new(),
            timeouts: "lameDuck: 0, drain: 5s".to_owned(),
            limits: String::new(),
            revocation: String::new(),
            policy: String::new(),
            policy_at: None,
            system: SystemFiles::default(),
            more: String::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write_bundle(&self, domain: &str, roots: &[&str]) {
        write_bundle(self.directory.path(), domain, roots);
    }

    pub fn write_policy(&self, policy: &str) {
        write_volume(&self.path("policy"), &[("policy.yaml", policy)]);
    }

    pub fn leaf(self, leaf: &Leaf) -> Self {
        write_leaf(&self.path("identity"), leaf);
        self
    }

    pub fn policy(self, policy: &str) -> Self {
        self.write_policy(policy);
        self
    }

    /// Believes another trust domain too.
    pub fn trusting(mut self, pki: &Pki) -> Self {
        self.write_bundle(&pki.domain, &[pki.bundle()]);
        self.domains.push(pki.domain.clone());
        self
    }

    pub fn inbound(mut self, protocol: &str, forward: SocketAddr) -> Self {
        writeln!(self.inbound, "  - {{listen: \"127.0.0.1:0\", forward: \"{forward}\", protocol: {protocol}}}")
            .unwrap();
        self
    }

    /// Has the inbound listener say this of paths.
    pub fn paths(mut self, paths: &str) -> Self {
        self.inbound = self.inbound.replace("}\n", &format!(", paths: {paths}}}\n"));
        self
    }

    pub fn outbound(mut self, protocol: &str, connect: SocketAddr, identities: &[&str]) -> Self {
        let identities: Vec<_> = identities.iter().map(|id| format!("\"{id}\"")).collect();
        writeln!(
            self.outbound,
            "  - {{listen: \"127.0.0.1:0\", connect: \"{connect}\", protocol: {protocol}, identities: [{}]}}",
            identities.join(", ")
        )
        .unwrap();
        self
    }

    /// An outbound listener at whose destination a Service of the policy answers.
    pub fn outbound_to(mut self, protocol: &str, connect: SocketAddr, service: &str) -> Self {
        writeln!(
            self.outbound,
            "  - {{listen: \"127.0.0.1:0\", connect: \"{connect}\", protocol: {protocol}, service: {service}}}"
        )
        .unwrap();
        self
    }

    /// Replaces the timeouts, `key: value` with commas.
    pub fn timeouts(mut self, timeouts: &str) -> Self {
        self.timeouts = timeouts.to_owned();
        self
    }

    pub fn limits(mut self, limits: &str) -> Self {
        self.limits = limits.to_owned();
        self
    }

    /// Takes identity and trust from here instead of files.
    pub fn workload_api(mut self, endpoint: &str) -> Self {
        self.workload_api = Some(endpoint.to_owned());
        self
    }

    /// Reads revocation lists for every trust domain, `more` being the other keys that belong to them.
    pub fn revoking(mut self, more: &str) -> Self {
        self.revocation = format!(", crl: \"{}\"{more}", self.path("crl").display());
        self
    }

    /// The same, with these lists.
    pub fn revoked(self, lists: &[&str]) -> Self {
        write_crls(self.directory.path(), lists);
        self.revoking("")
    }

    /// Reads this deny list.
    pub fn denying(self, list: &str) -> Self {
        write_deny_list(self.directory.path(), list);
        let path = self.path("deny").join("deny.yaml");
        self.more(&format!("denyList: \"{}\"", path.display()))
    }

    /// Reads policy here, where another sidecar may have read it before.
    pub fn policy_at(mut self, directory: &Path) -> Self {
        self.policy_at = Some(directory.to_owned());
        self
    }

    /// In a cgroup that has used so many hundredths of its memory.
    pub fn memory_used(mut self, hundredths: u32) -> Self {
        self.system = SystemFiles { cgroups: self.path("cgroups"), own_cgroup: self.path("own-cgroup") };
        std::fs::create_dir(&self.system.cgroups).unwrap();
        std::fs::write(&self.system.own_cgroup, "0::/\n").unwrap();
        write_memory_used(&self.system.cgroups, hundredths);
        self
    }

    /// Further keys of `policy`, each after a comma.
    pub fn policy_keys(mut self, keys: &str) -> Self {
        self.policy.push_str(keys);
        self
    }

    /// Keeps a copy of the last good policy here.
    pub fn state(self, directory: &Path) -> Self {
        let keys = format!(", state: \"{}\"", directory.display());
        self.policy_keys(&keys)
    }

    /// Further lines of the configuration.
    pub fn more(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self.more.push('\n');
        self
    }

    fn yaml(&self) -> String {
        let identity = match &self.workload_api {
            Some(endpoint) => format!("workloadApi: {{socket: \"{endpoint}\"}}"),
            None => format!("directory: \"{}\"", self.path("identity").display()),
        };
        let mut text = format!("identity: {{{identity}}}\ntrust:\n");
        for domain in &self.domains {
            let bundle = self.path("trust").join(domain).join("roots.pem");
            let bundle = match &self.workload_api {
                Some(_) => "from: workloadApi".to_owned(),
                None => format!("bundle: \"{}\"", bundle.display()),
            };
            writeln!(text, "  - {{trustDomain: {domain}, {bundle}{}}}", self.revocation).unwrap();
        }
        let policy = self.policy_at.clone().unwrap_or_else(|| self.path("policy"));
        writeln!(text, "policy: {{directory: \"{}\"{}}}", policy.display(), self.policy).unwrap();
        for (key, list) in [("inbound", &self.inbound), ("outbound", &self.outbound)] {
            if !list.is_empty() {
                write!(text, "{key}:\n{list}").unwrap();
            }
        }
        for (key, map) in [("timeouts", &self.timeouts), ("limits", &self.limits)] {
            if !map.is_empty() {
                writeln!(text, "{key}: {{{map}}}").unwrap();
            }
        }
        for key in ["admin", "metrics", "health"] {
            if !self.more.contains(&format!("{key}:")) {
                writeln!(text, "{key}: {{listen: \"127.0.0.1:0\"}}").unwrap();
            }
        }
        if !self.more.contains("logs:") {
            text.push_str("logs: {access: off}\n");
        }
        text + &self.more
    }

    /// Starts it, whether it becomes ready or not.
    pub fn start(self) -> Sidecar {
        self.try_start().unwrap()
    }

    /// Starts it, or says why it does not.
    pub fn try_start(self) -> anyhow::Result<Sidecar> {
        let yaml = self.yaml();
        let mut config = match Config::read("test.yaml", yaml.as_bytes(), None) {
            Ok(checked) => checked.config,
            Err(found) => panic!("{yaml}\n{}", found.iter().map(ToString::to_string).collect::<String>()),
        };
        config.system = self.system;
        let running = Some(app::start(config)?);
        Ok(Sidecar { directory: self.directory, running })
    }

    /// Starts it and waits until it is ready.
    pub async fn ready(self) -> Sidecar {
        let sidecar = self.start();
        sidecar.eventually_ready().await;
        sidecar
    }
}

impl Sidecar {
    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where the mesh connects to.
    pub fn inbound(&self) -> SocketAddr {
        self.running().addresses().inbound[0]
    }

    /// Where the application connects to.
    pub fn outbound(&self) -> SocketAddr {
        self.running().addresses().outbound[0]
    }

    pub fn stop(&self, stop: Stop) {
        self.running().stopper().stop(stop);
    }

    /// Waits for its end, for at most `limit`.
    pub async fn ended(mut self, limit: Duration) {
        let running = self.running.take().unwrap();
        let waiting = tokio::task::spawn_blocking(move || running.wait());
        tokio::time::timeout(limit, waiting).await.expect("the sidecar did not end").unwrap();
    }

    pub async fn eventually_ready(&self) {
        eventually("the sidecar is ready", async || match self.running().obstacles() {
            obstacles if obstacles.is_empty() => Ok(()),
            obstacles => Err(obstacles),
        })
        .await;
    }

    /// The value of a series, by the text before it in the exposition; 0 when there is no such series.
    pub fn count(&self, series: &str) -> u64 {
        let metrics = self.running().metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }

    /// Waits until a series has reached a value.
    pub async fn eventually_counts(&self, series: &str, at_least: u64) {
        eventually(series, async || match self.count(series) {
            count if count >= at_least => Ok(()),
            count => Err(format!("{count} instead of {at_least}; of its kind:\n{}", self.alike(series))),
        })
        .await;
    }

    fn alike(&self, series: &str) -> String {
        let name = series.split('{').next().unwrap_or_default();
        let metrics = self.running().metrics();
        metrics.lines().filter(|line| line.starts_with(name)).map(|line| format!("  {line}\n")).collect()
    }

    /// A page of the health listener.
    pub async fn health(&self, path: &str) -> Answer {
        plain(self.running().addresses().health).await.get(path).await
    }

    /// A page of the admin listener.
    pub async fn admin(&self, path: &str) -> serde_json::Value {
        let mut wire = plain(self.running().addresses().admin).await;
        let answer = wire.ask(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{path}");
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub fn write_leaf(&self, leaf: &Leaf) {
        write_leaf(&self.path("identity"), leaf);
    }

    pub fn write_policy(&self, policy: &str) {
        write_volume(&self.path("policy"), &[("policy.yaml", policy)]);
    }

    pub fn write_bundle(&self, domain: &str, roots: &[&str]) {
        write_bundle(self.directory.path(), domain, roots);
    }

    pub fn write_crls(&self, lists: &[&str]) {
        write_crls(self.directory.path(), lists);
    }

    pub fn write_deny_list(&self, list: &str) {
        write_deny_list(self.directory.path(), list);
    }

    pub fn write_memory_used(&self, hundredths: u32) {
        write_memory_used(&self.path("cgroups"), hundredths);
    }

    /// The generation that is in force.
    pub fn generation(&self, kind: &str) -> u64 {
        self.count(&format!("portcullis_generation{{kind=\"{kind}\"}}"))
    }

    /// Changes something and waits until it is in force.
    pub async fn changing(&self, kind: &str, change: impl FnOnce(&Self)) {
        let before = self.generation(kind);
        change(self);
        self.eventually_counts(&format!("portcullis_generation{{kind=\"{kind}\"}}"), before + 1).await;
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stopper().stop(Stop::AtOnce);
        }
    }
}

fn write_bundle(directory: &Path, domain: &str, roots: &[&str]) {
    write_volume(&directory.join("trust").join(domain), &[("roots.pem", &roots.concat())]);
}

fn write_crls(directory: &Path, lists: &[&str]) {
    write_volume(&directory.join("crl"), &[("lists.crl", &lists.concat())]);
}

fn write_deny_list(directory: &Path, list: &str) {
    write_volume(&directory.join("deny"), &[("deny.yaml", list)]);
}

fn write_memory_used(cgroups: &Path, hundredths: u32) {
    let (inactive, limit) = (5_000_000, 100_000_000);
    let used = hundredths * (limit / 100) + inactive;
    let stat = format!("anon 1\ninactive_file {inactive}\n");
    let files = [("memory.max", limit.to_string()), ("memory.current", used.to_string()), ("memory.stat", stat)];
    for (name, text) in files {
        // Never seen half-written, as a file of the kernel's.
        let new = cgroups.join(format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, cgroups.join(name)).unwrap();
    }
}

/// The series of refused handshakes.
pub fn refused(direction: &str, reason: &str) -> String {
    format!("portcullis_tls_handshakes_total{{direction=\"{direction}\",result=\"refused\",reason=\"{reason}\"}}")
}

/// The series of handshakes that went well.
pub fn shaken(direction: &str) -> String {
    format!("portcullis_tls_handshakes_total{{direction=\"{direction}\",result=\"ok\",reason=\"\"}}")
}

/// The series of connections that were refused or cut.
pub fn closed(direction: &str, cause: &str) -> String {
    format!("portcullis_connections_refused_total{{direction=\"{direction}\",cause=\"{cause}\"}}")
}

/// The series of requests that the sidecar answered itself.
pub fn answered(direction: &str, reason: &str) -> String {
    format!("portcullis_http_requests_refused_total{{direction=\"{direction}\",reason=\"{reason}\"}}")
}

/// The series of answers by status.
pub fn requests(direction: &str, status: u16) -> String {
    format!("portcullis_http_requests_total{{direction=\"{direction}\",status=\"{status}\"}}")
}
