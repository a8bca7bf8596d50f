//! A sidecar in front of a backend, with certificates of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis::app::{self, Running, Stop};
use portcullis::ca::{Authority, Intermediate, IntermediateOptions, Layout, LeafOptions, RootOptions};
use portcullis::config::Config;
use serde_json::json;
use spiffe::{SpiffeId, TrustDomain};
use tempfile::TempDir;

use crate::bench::Backend;

pub const CALLER: &str = "spiffe://prod.health.internal/ns/bench/sa/caller";
pub const SERVICE: &str = "spiffe://prod.health.internal/ns/bench/sa/service";

/// See the module.
pub struct Stage {
    pub backend: Backend,
    /// The sidecar's listeners: HTTP, and opaque bytes.
    pub http: SocketAddr,
    pub tcp: SocketAddr,
    dir: TempDir,
    running: Option<Running>,
}

impl Stage {
    pub fn set() -> Self {
        let dir = TempDir::new().unwrap();
        let pki = Pki::make(&dir);
        pki.write(CALLER, &dir, "caller");
        pki.write(SERVICE, &dir, "service");
        let backend = Backend::start();
        let opaque = backend.stream.rsplit_once(':').unwrap().1;
        fs::create_dir(dir.path().join("policy")).unwrap();
        fs::write(
            dir.path().join("policy/base.yaml"),
            format!(
                "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: base}}\nspec:\n  \
                 allow:\n    - {{name: caller, from: {{identities: [\"{CALLER}\"]}}, to: {{paths: [\"/\", \"/bytes/*\"]}}}}\n    \
                 - {{name: opaque, from: {{identities: [\"{CALLER}\"]}}, to: {{ports: [{opaque}]}}}}\n"
            ),
        )
        .unwrap();
        let (running, http, tcp) = start(&dir, &backend);
        Self { backend, http, tcp, dir, running: Some(running) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The options that make the target answer.
    pub fn arguments(&self, target: &str) -> Vec<String> {
        ["--target", target, "--identity", &self.text("caller"), "--ca", &self.text("root.crt"), "--expect", SERVICE]
            .map(str::to_owned)
            .to_vec()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stopper().stop(Stop::AtOnce);
            running.wait();
        }
    }
}

/// A CA on disk, in `pki` below a directory, and its root beside it.
pub struct Pki(Intermediate);

impl Pki {
    pub fn make(dir: &TempDir) -> Self {
        let root = Authority::init(&dir.path().join("pki"), &RootOptions::default()).unwrap();
        let domain = TrustDomain::new("prod.health.internal").unwrap();
        let issuer = root.create_intermediate("prod", &domain, &IntermediateOptions::default()).unwrap();
        fs::write(dir.path().join("root.crt"), root.certificate_pem()).unwrap();
        Self(issuer)
    }

    pub fn write(&self, id: &str, dir: &TempDir, name: &str) {
        let leaf = self.0.issue(&SpiffeId::new(id).unwrap(), &LeafOptions::default()).unwrap();
        leaf.write(&dir.path().join(name), Layout::Kubelet).unwrap();
    }
}

fn start(dir: &TempDir, backend: &Backend) -> (Running, SocketAddr, SocketAddr) {
    let reserved: Vec<TcpListener> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let port = |number: usize| reserved[number].local_addr().unwrap().to_string();
    let at = |name: &str| dir.path().join(name);
    let text = json!({
        "identity": {"directory": at("service")},
        "trust": [{"trustDomain": "prod.health.internal", "bundle": at("root.crt")}],
        "policy": {"directory": at("policy")},
        "inbound": [
            {"listen": port(0), "forward": backend.http, "protocol": "http"},
            {"listen": port(1), "forward": backend.stream, "protocol": "tcp"},
        ],
        "admin": {"listen": port(2)},
        "metrics": {"listen": port(3)},
        "health": {"listen": port(4)},
        "logs": {"access": "off", "level": "error"},
        "workers": 1,
    })
    .to_string();
    let checked = Config::read("sidecar.yaml", text.as_bytes(), None).unwrap();
    drop(reserved);
    let running = app::start(checked.config).unwrap();
    let begun = Instant::now();
    while !running.obstacles().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", running.obstacles());
        std::thread::yield_now();
    }
    let inbound = running.addresses().inbound.clone();
    (running, inbound[0], inbound[1])
}
