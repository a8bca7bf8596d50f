//! The program itself: what it prints, how it ends.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use portcullis::ca::{Reason, Validity};
use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::client::{Http, is_served};
use crate::eventually::{eventually, soon};
use crate::pki::{API, CALLER, OTHER, Pki, write_leaf, write_volume};
use crate::sidecar::OPEN;

pub fn portcullis(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(arguments).env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").stdin(Stdio::null());
    command
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory with everything that a sidecar needs, and its configuration.
pub fn files(pki: &Pki, inbound: SocketAddr, forward: SocketAddr) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    write_leaf(&folder.path().join("identity"), &pki.leaf(API));
    write_volume(&folder.path().join("trust"), &[("roots.pem", pki.bundle())]);
    write_volume(&folder.path().join("policy"), &[("policy.yaml", OPEN)]);
    let text = format!(
        "identity: {{directory: {}}}\ntrust: [{{trustDomain: prod.test, bundle: {}/roots.pem}}]\npolicy: {{directory: {}}}\n\
         inbound: [{{listen: '{inbound}', forward: '{forward}', protocol: http}}]\ntimeouts: {{lameDuck: 100ms, drain: 5s}}\n\
         admin: {{listen: 127.0.0.1:0}}\nmetrics: {{listen: 127.0.0.1:0}}\nhealth: {{listen: 127.0.0.1:0}}\nlogs: {{access: off}}\n",
        at("identity"),
        at("trust"),
        at("policy"),
    );
    let path = at("portcullis.yaml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

/// Ends the process when the test does.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the process ends", async || self.0.try_wait().unwrap().ok_or("it runs")).await
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().count()
    }

    /// What it has resident, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Seconds of processor that it has used, from `/proc/PID/stat`.
    pub fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap());
        ticks.sum::<f64>() / 100.0
    }
}

/// Starts it and waits for its word; tells where it listens.
pub fn start(config: &str) -> (Running, SocketAddr) {
    let (running, inbound, _) = start_listening(config);
    (running, inbound)
}

/// The same, with the lines that it logs from then on.
pub fn start_listening(config: &str) -> (Running, SocketAddr, mpsc::Receiver<String>) {
    spawn(portcullis(&["run", "--config", config]))
}

/// The same for any way to start it.
pub fn spawn(mut command: Command) -> (Running, SocketAddr, mpsc::Receiver<String>) {
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let up = lines.by_ref().map(Result::unwrap).find(|line| line.contains("portcullis is up")).expect("it came up");
    // Whatever else it says is read, or it would block.
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let up: serde_json::Value = serde_json::from_str(&up).unwrap();
    let inbound = up["inbound"].as_str().unwrap().trim_matches(['[', ']']).parse().unwrap();
    (Running(child), inbound, said)
}

#[tokio::test]
async fn a_wrong_configuration_is_listed_whole_and_ends_with_64() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.yaml").display().to_string();
    std::fs::write(&path, "identiy: {directory: x}\ntrust: []\ntimeouts: {handshake: soon}\n").unwrap();
    for command in ["run", "validate"] {
        let output = portcullis(&[command, "--config", &path]).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{command}");
        for words in ["wrong.yaml:1:1: error[C009]", "did you mean `identity`?", "wrong.yaml:2:8", "wrong.yaml:3:23"] {
            assert!(text(&output).contains(words), "{command}: {words} is missing from\n{}", text(&output));
        }
    }
    assert_eq!(portcullis(&["run"]).output().unwrap().status.code(), Some(64));
    assert_eq!(portcullis(&["run", "--config", "/nowhere.yaml"]).output().unwrap().status.code(), Some(64));
}

#[tokio::test]
async fn the_deny_list_is_checked_with_the_configuration_where_it_exists() {
    let pki = Pki::new();
    let (folder, config) = files(&pki, "127.0.0.1:0".parse().unwrap(), "127.0.0.1:9".parse().unwrap());
    let deny = folder.path().join("deny.yaml");
    let text_of = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text_of}denyList: {}\n", deny.display())).unwrap();
    let validate = || portcullis(&["validate", "--config", &config]).output().unwrap();
    assert_eq!(validate().status.code(), Some(0), "not there yet");
    std::fs::write(&deny, format!("identities: [{{spiffeId: \"{CALLER}\", reason: stolen}}]")).unwrap();
    assert_eq!(validate().status.code(), Some(0), "{}", text(&validate()));
    std::fs::write(&deny, "identities: []\ncertificates: [{serial: 4c}]").unwrap();
    let output = validate();
    assert_eq!(output.status.code(), Some(64));
    for words in ["deny.yaml:1:13: error[D012]", "deny.yaml:2:16: error[D010]", "`issuer`", "`reason`", "3 mistakes"] {
        assert!(text(&output).contains(words), "{words} is missing from\n{}", text(&output));
    }
}

#[tokio::test]
async fn an_address_in_use_ends_with_1_and_its_name() {
    let pki = Pki::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (_folder, config) = files(&pki, address, "127.0.0.1:9".parse().unwrap());
    assert_eq!(portcullis(&["validate", "--config", &config]).output().unwrap().status.code(), Some(0));
    let output = portcullis(&["run", "--config", &config]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains(&format!("`inbound` cannot listen on {address}")), "{}", text(&output));
}

#[tokio::test]
async fn the_log_names_the_certificate_that_is_revoked_and_the_list() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let (folder, config) = files(&pki, "127.0.0.1:0".parse().unwrap(), backend.address);
    let stolen = pki.leaf(CALLER);
    pki.intermediate.revoke(stolen.chain.serial, Reason::KeyCompromise).unwrap();
    let list = pki.intermediate.revocation_list(Validity::hours(24)).unwrap();
    std::fs::write(folder.path().join("prod.crl"), list.pem()).unwrap();
    let text_of = std::fs::read_to_string(&config).unwrap();
    let crl = format!("roots.pem, crl: {}}}", folder.path().join("prod.crl").display());
    std::fs::write(&config, text_of.replace("roots.pem}", &crl)).unwrap();
    let (_running, inbound, said) = start_listening(&config);
    eventually("a good caller is served", async || is_served(inbound, &pki.leaf(CALLER)).await).await;
    assert!(is_served(inbound, &stolen).await.is_err());
    let line = tokio::task::spawn_blocking(move || said.iter().find(|line| line.contains("was refused")));
    let line: serde_json::Value = serde_json::from_str(&soon("the log", line).await.unwrap().unwrap()).unwrap();
    let error = line["error"].as_str().unwrap();
    let serial = format!("(serial {}) is revoked by CRL 1 of `CN=Portcullis test intermediate", stolen.chain.serial);
    for words in ["the peer's certificate was refused: ", &format!("the chain of `{CALLER}` proves nothing: "), &serial]
    {
        assert!(error.contains(words), "{words} is missing from {error}");
    }
    assert_eq!((&line["reason"], &line["level"]), (&"revoked".into(), &"WARN".into()));
}

#[tokio::test]
async fn the_log_says_of_each_cut_who_it_was_and_what_took_the_permission_away() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let (folder, config) = files(&pki, "127.0.0.1:0".parse().unwrap(), backend.address);
    let deny = folder.path().join("deny.yaml");
    std::fs::write(&deny, "{}").unwrap();
    let text_of = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text_of}denyList: {}\n", deny.display())).unwrap();
    let (_running, inbound, said) = start_listening(&config);
    eventually("a good caller is served", async || is_served(inbound, &pki.leaf(CALLER)).await).await;
    let said = Arc::new(Mutex::new(said));
    let next_cut = async || {
        let said = Arc::clone(&said);
        let line = tokio::task::spawn_blocking(move || {
            said.lock().unwrap().iter().find(|line| line.contains("an open connection must end"))
        });
        serde_json::from_str::<serde_json::Value>(&soon("the log", line).await.unwrap().unwrap()).unwrap()
    };

    let leaf = pki.leaf(CALLER);
    let mut first = Http::two(inbound, &leaf).await;
    assert_eq!(first.get("/").await.status, 200);
    std::fs::write(&deny, format!("identities: [{{spiffeId: \"{CALLER}\", reason: stolen laptop}}]")).unwrap();
    let line = next_cut().await;
    let serial = leaf.chain.serial.to_string();
    for (field, value) in [
        ("direction", "inbound"),
        ("carries", "http"),
        ("peer", CALLER),
        ("serial", serial.as_str()),
        ("cause", "denied"),
        ("level", "WARN"),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert!(line["why"].as_str().unwrap().contains("the identity is denied (stolen laptop)"), "{line}");

    let mut second = Http::two(inbound, &pki.leaf(OTHER)).await;
    assert_eq!(second.get("/").await.status, 200);
    let denying = format!(
        "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: incident}}\n\
         spec:\n  deny:\n    - {{name: batch-is-out, from: {{identities: [\"{OTHER}\"]}}}}\n"
    );
    let policies = [("policy.yaml", OPEN), ("incident.yaml", denying.as_str())];
    write_volume(&folder.path().join("policy"), &policies);
    let line = next_cut().await;
    for (field, value) in [
        ("peer", OTHER),
        ("cause", "policy"),
        ("policy", "incident"),
        ("rule", "batch-is-out"),
        ("why", "a rule denies it"),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
}

#[tokio::test]
async fn sigterm_ends_it_with_0() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let (_folder, config) = files(&pki, "127.0.0.1:0".parse().unwrap(), backend.address);
    let (mut running, inbound) = start(&config);
    is_served(inbound, &pki.leaf(CALLER)).await.unwrap();
    running.signal("-TERM");
    assert_eq!(running.ended().await.code(), Some(0));
}

/// With 64 descriptors less than come: it pauses instead of spinning, says so once, and takes up work by itself.
#[tokio::test]
async fn out_of_descriptors_it_pauses_and_recovers() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let (_folder, config) = files(&pki, "127.0.0.1:0".parse().unwrap(), backend.address);
    let text_of = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text_of.replace("timeouts: {", "workers: 1\ntimeouts: {handshake: 2s, ")).unwrap();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -n 96 && exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_portcullis"),
        "run",
        "--config",
        &config,
    ]);
    let (running, inbound, said) = spawn(command);
    is_served(inbound, &pki.leaf(CALLER)).await.unwrap();

    let (before, since) = (running.cpu(), Instant::now());
    let mut silent = Vec::new();
    for _ in 0..160 {
        silent.push(TcpStream::connect(inbound).await.unwrap());
    }
    eventually("a good caller behind them is served", async || is_served(inbound, &pki.leaf(CALLER)).await).await;
    let (used, took) = (running.cpu() - before, since.elapsed().as_secs_f64());
    assert!(used < took / 2.0, "{used} seconds of processor in {took}");

    let lines: Vec<String> = said.try_iter().collect();
    let count = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!((count("fewer file descriptors than"), count("accepting pauses") > 0), (0, true), "{lines:#?}");
    assert!(count("accepting pauses") <= 10, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("raise the limit (LimitNOFILE, ulimit -n)")), "{lines:#?}");
}
