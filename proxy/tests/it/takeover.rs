//! Listening sockets that are handed over (sd_listen_fds(3)), and a restart under load that loses nobody.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use command_fds::{CommandFdExt, FdMapping};
use portcullis::ca::Leaf;

use crate::backend::Backend;
use crate::client::is_served;
use crate::eventually::eventually;
use crate::pki::{CALLER, Pki};
use crate::process::{Running, files, spawn, text};

/// Starts the program as systemd does: with these sockets from descriptor 3 on, and the variables that say so.
fn activated(config: &str, sockets: &[&TcpListener], pid: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("LISTEN_PID={pid} LISTEN_FDS={} exec \"$@\"", sockets.len());
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_portcullis"), "run", "--config", config]);
    command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
    let mappings = sockets.iter().zip(3..).map(|(socket, child_fd)| {
        let parent_fd: OwnedFd = socket.try_clone().unwrap().into();
        FdMapping { parent_fd, child_fd }
    });
    command.fd_mappings(mappings.collect()).unwrap();
    command
}

fn listening() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Callers who come again and again, each time over a new connection.
struct Load {
    served: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(address: std::net::SocketAddr, leaf: Leaf) -> Self {
        let (served, over, leaf) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)), Arc::new(leaf));
        let callers = (0..4).map(|_| {
            let (served, over, leaf) = (Arc::clone(&served), Arc::clone(&over), Arc::clone(&leaf));
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    match is_served(address, &leaf).await {
                        Ok(()) => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => failed.push(error),
                    }
                }
                failed
            })
        });
        Self { callers: callers.collect(), served, over }
    }

    /// Waits until so many more were served.
    async fn more(&self, count: usize) {
        let from = self.served.load(Ordering::Relaxed);
        eventually("more callers are served", async || match self.served.load(Ordering::Relaxed) - from {
            enough if enough >= count => Ok(()),
            few => Err(few),
        })
        .await;
    }

    /// What failed.
    async fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for caller in self.callers {
            failed.extend(caller.await.unwrap());
        }
        failed
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_loses_no_connection() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sockets: Vec<_> = (0..4).map(|_| listening()).collect();
    let [inbound, admin, metrics, health] = &sockets[..] else { unreachable!() };
    let address = inbound.local_addr().unwrap();
    let (_folder, config) = files(&pki, address, backend.address);
    let mut text_of = std::fs::read_to_string(&config).unwrap();
    for (name, socket) in [("admin", admin), ("metrics", metrics), ("health", health)] {
        let (any, known) = (format!("{name}: {{listen: 127.0.0.1:0}}"), socket.local_addr().unwrap());
        text_of = text_of.replace(&any, &format!("{name}: {{listen: '{known}'}}"));
    }
    std::fs::write(&config, text_of).unwrap();
    let handed_over = [inbound, admin, metrics, health];

    let mut said = Vec::new();
    let (mut serving, _, lines) = spawn(activated(&config, &handed_over, "$$"));
    said.push(lines);
    let load = Load::start(address, pki.leaf(CALLER));
    load.more(50).await;
    for round in 0..3 {
        let (next, _, lines) = spawn(activated(&config, &handed_over, "$$"));
        said.push(lines);
        serving.signal("-TERM");
        let status = serving.ended().await;
        assert_eq!(status.code(), Some(0), "round {round}");
        serving = next;
        load.more(50).await;
    }
    // The same with nobody in between: who comes meanwhile waits in the queue.
    serving.signal("-TERM");
    serving.ended().await;
    let (serving, _, lines) = spawn(activated(&config, &handed_over, "$$"));
    said.push(lines);
    load.more(50).await;
    let failed = load.end().await;
    drop(serving);
    let said: Vec<Vec<String>> = said.iter().map(|lines| lines.iter().collect()).collect();
    assert!(failed.is_empty(), "{failed:?}: {said:#?}");
}

#[tokio::test]
async fn a_killed_process_that_comes_back_finds_who_waits() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let inbound = listening();
    let address = inbound.local_addr().unwrap();
    let (_folder, config) = files(&pki, address, backend.address);
    let (mut first, ..) = spawn(activated(&config, &[&inbound], "$$"));
    is_served(address, &pki.leaf(CALLER)).await.unwrap();
    first.signal("-KILL");
    first.ended().await;
    let leaf = pki.leaf(CALLER);
    let waiting = is_served(address, &leaf);
    let again = async {
        let command = activated(&config, &[&inbound], "$$");
        tokio::task::spawn_blocking(|| spawn(command)).await.unwrap()
    };
    let (served, (_second, ..)): (_, (Running, _, _)) = tokio::join!(waiting, again);
    served.unwrap();
}

#[tokio::test]
async fn a_socket_that_no_listener_is_for_is_named_and_one_for_another_process_is_left_alone() {
    let pki = Pki::new();
    let (ours, stranger) = (listening(), listening());
    let (address, strange) = (ours.local_addr().unwrap(), stranger.local_addr().unwrap());
    let (_folder, config) = files(&pki, address, "127.0.0.1:9".parse().unwrap());
    let output = activated(&config, &[&ours, &stranger], "$$").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains(&format!("LISTEN_FDS hands over a socket on {strange}")), "{}", text(&output));

    let output = activated(&config, &[&ours], "1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains(&format!("`inbound` cannot listen on {address}")), "{}", text(&output));
}
