//! The overload guard: near the memory limit of its cgroup a sidecar refuses new work, and goes on with what it has.

use std::path::{Path, PathBuf};

use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Http, flowing, is_closed, is_served, opaque, plain, secured};
use crate::eventually::{eventually, soon};
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::process::{files, portcullis, spawn};
use crate::sidecar::{Plan, Sidecar, answered, closed};
use crate::websocket::UPGRADE;

const REFUSING: &str = "portcullis_memory_refusing";

async fn until_refusing(sidecar: &Sidecar, refusing: u64) {
    eventually(REFUSING, async || match sidecar.count(REFUSING) {
        now if now == refusing => Ok(()),
        now => Err(now),
    })
    .await;
}

#[tokio::test]
async fn new_work_is_refused_near_the_limit_and_work_in_hand_goes_on() {
    let pki = Pki::new();
    let (backend, echo) = (Backend::start().await, Raw::echo().await);
    let plan = Plan::new(&pki, API).inbound("http", backend.address).inbound("tcp", echo.address);
    let sidecar = plan.memory_used(50).ready().await;
    sidecar.eventually_counts("portcullis_memory_used_bytes", 50_000_000).await;
    assert_eq!(sidecar.count("portcullis_memory_limit_bytes"), 100_000_000);
    let leaf = pki.leaf(CALLER);
    let mut http = Http::two(sidecar.inbound(), &leaf).await;
    let (sender, body) = flowing();
    let mut streaming = http.open(Ask::new("POST", "/echo").body(body)).await.unwrap();
    let mut tcp = opaque(sidecar.running().addresses().inbound[1], &leaf).await;
    tcp.write_all(b"a").await.unwrap();
    soon("the echo", tcp.read_exact(&mut [0])).await.unwrap();
    let mut wire = secured(sidecar.inbound(), &leaf).await;
    assert_eq!(wire.get("/").await.status, 200);

    sidecar.write_memory_used(91);
    until_refusing(&sidecar, 1).await;
    // Requests and tunnels on connections that are there, and new connections, whoever calls.
    let answer = http.get("/").await;
    assert_eq!((answer.status, answer.header("retry-after"), answer.text()), (503, Some("1"), ""));
    assert_eq!(wire.ask(UPGRADE).await.status, 503);
    assert_eq!(sidecar.count(&answered("inbound", "out_of_memory")), 2);
    for inbound in &sidecar.running().addresses().inbound {
        let mut new = plain(*inbound).await;
        is_closed(&mut new.io).await;
    }
    assert!(is_served(sidecar.inbound(), &pki.leaf(OTHER)).await.is_err());
    assert_eq!(sidecar.count(&closed("inbound", "out_of_memory")), 3);
    // What was begun goes on.
    sender.send(Frame::data("still here".into())).await.unwrap();
    let frame = soon("the echo", streaming.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "still here");
    tcp.write_all(b"b").await.unwrap();
    soon("the echo", tcp.read_exact(&mut [0])).await.unwrap();
    assert_eq!(sidecar.health("/readyz").await.status, 200, "those who look after it are served");

    // Not before there is room for a while.
    sidecar.write_memory_used(86);
    eventually("the new reading", async || match sidecar.count("portcullis_memory_used_bytes") {
        86_000_000 => Ok(()),
        used => Err(used),
    })
    .await;
    assert_eq!((sidecar.count(REFUSING), http.get("/").await.status), (1, 503));
    sidecar.write_memory_used(84);
    until_refusing(&sidecar, 0).await;
    assert_eq!(http.get("/").await.status, 200);
    is_served(sidecar.inbound(), &pki.leaf(OTHER)).await.unwrap();
}

#[tokio::test]
async fn our_own_application_is_told_so() {
    let pki = Pki::new();
    let far = Plan::new(&pki, API).inbound("http", Backend::start().await.address).ready().await;
    let near = Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API]).outbound("tcp", far.inbound(), &[API]);
    let near = near.memory_used(95).ready().await;
    until_refusing(&near, 1).await;
    let answer = Http::plain_one(near.outbound()).await.get("/").await;
    assert_eq!((answer.status, answer.header("x-portcullis-reason")), (503, Some("out_of_memory")));
    assert_eq!(answer.header("retry-after"), Some("1"));
    is_closed(&mut plain(near.running().addresses().outbound[1]).await.io).await;
    assert_eq!(near.count(&closed("outbound", "out_of_memory")), 1);
}

/// A cgroup of the kernel's with a memory controller, for one process of the test.
struct Cgroup {
    directory: PathBuf,
    limit: &'static str,
    used: &'static str,
}

impl Cgroup {
    /// `None` where the machine lets us make none.
    fn make() -> Option<Self> {
        let name = format!("portcullis-test-{}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        [
            (root.to_owned(), "memory.max", "memory.current"),
            (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ]
        .into_iter()
        .find_map(|(root, limit, used)| {
            let made = Self { directory: root.join(&name), limit, used };
            std::fs::create_dir(&made.directory).ok()?;
            // Without the controller there is no such file.
            made.directory.join(limit).is_file().then_some(made)
        })
    }

    fn used(&self) -> u64 {
        std::fs::read_to_string(self.directory.join(self.used)).unwrap().trim().parse().unwrap()
    }

    fn set_limit(&self, bytes: u64) {
        std::fs::write(self.directory.join(self.limit), bytes.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Busy until the kernel has buried the process.
        for _ in 0..1_000 {
            if std::fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[tokio::test]
async fn the_kernels_own_figures_are_understood() {
    let Some(cgroup) = Cgroup::make() else {
        eprintln!("no cgroup with a memory controller can be made here: the kernel's own files are not tested");
        return;
    };
    let pki = Pki::new();
    let backend = Backend::start().await;
    let (_folder, config) = files(&pki, "127.0.0.1:0".parse().unwrap(), backend.address);
    let program = portcullis(&[]).get_program().to_owned();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "echo $$ > \"$0\" && exec \"$1\" run --config \"$2\""]);
    command.args([cgroup.directory.join("cgroup.procs").as_os_str(), &program, config.as_ref()]);
    cgroup.set_limit(1 << 30);
    let (running, inbound, said) = spawn(command);
    let leaf = pki.leaf(CALLER);
    eventually("it serves", async || is_served(inbound, &leaf).await).await;
    let mut http = Http::two(inbound, &leaf).await;
    assert_eq!(http.get("/").await.status, 200);

    // Twenty bytes are used of each twenty-one.
    cgroup.set_limit(cgroup.used() / 20 * 21);
    eventually("new work is refused", async || match http.get("/").await.status {
        503 => Ok(()),
        status => Err((status, cgroup.used())),
    })
    .await;
    cgroup.set_limit(1 << 30);
    eventually("new work is taken up", async || match http.get("/").await.status {
        200 => Ok(()),
        status => Err(status),
    })
    .await;
    is_served(inbound, &pki.leaf(OTHER)).await.unwrap();
    drop(running);
    let lines = tokio::task::spawn_blocking(move || said.iter().collect::<Vec<_>>());
    let lines = soon("the end of the log", lines).await.unwrap();
    for words in ["memory is nearly used up", "there is memory again"] {
        assert_eq!(lines.iter().filter(|line| line.contains(words)).count(), 1, "{words}: {lines:#?}");
    }
}
