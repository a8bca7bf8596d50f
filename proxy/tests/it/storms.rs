//! One identity's storm leaves the others' latency alone: the slowest hundredth of a good caller's requests, beside its own
//! figure without the storm, in the same run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portcullis::ca::Leaf;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::backend::Backend;
use crate::client::{HOST, Http, TLS13, connector};
use crate::eventually::soon;
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{Plan, Sidecar, answered, closed, shaken};

/// How many requests are measured, and the pause between two of them: less than a second and a half, and far below the rate.
const MEASURED: usize = 300;
const PAUSE: Duration = Duration::from_millis(4);
/// What a sidecar that serves both in turn may cost, on a machine that runs the storm as well and has two cores. Where the
/// storm's work is done before the good caller's, it is hundreds.
const FACTOR: u32 = 30;

struct Scene {
    sidecar: Sidecar,
    good: Http,
    stormy: Leaf,
    stopped: Arc<AtomicBool>,
    storm: JoinSet<()>,
}

impl Scene {
    async fn set() -> Self {
        let pki = Pki::new();
        let backend = Backend::start().await;
        let limits = "connectionsPerIdentity: 50, ratePerIdentity: {perSecond: 500, burst: 500}";
        let sidecar = Plan::new(&pki, API).inbound("http", backend.address).limits(limits).more("workers: 2");
        let sidecar = sidecar.ready().await;
        let good = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
        let stopped = Arc::default();
        Self { sidecar, good, stormy: pki.leaf(OTHER), stopped, storm: JoinSet::new() }
    }

    fn tls(&self) -> TlsConnector {
        connector(Some((self.stormy.chain.der(), self.stormy.key())), &["h2"], TLS13)
    }

    /// The slowest but for one in a hundred.
    async fn p99(&mut self) -> Duration {
        let mut took = Vec::with_capacity(MEASURED);
        for _ in 0..MEASURED {
            let started = Instant::now();
            assert_eq!(self.good.get("/").await.status, 200, "nobody else is refused for it");
            took.push(started.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
        took.sort_unstable();
        took[MEASURED - 1 - MEASURED / 100]
    }

    /// Does one thing after another in `tasks` tasks, until the good caller has been measured.
    fn begin<Doing: Future<Output = ()> + Send>(
        &mut self,
        tasks: usize,
        one: impl Fn() -> Doing + Clone + Send + 'static,
    ) {
        for _ in 0..tasks {
            let (stopped, one) = (Arc::clone(&self.stopped), one.clone());
            self.storm.spawn(async move {
                while !stopped.load(Ordering::Relaxed) {
                    one().await;
                }
            });
        }
    }

    /// Measures again beside the storm, and ends it.
    async fn check(&mut self, alone: Duration) -> Duration {
        let started = Instant::now();
        let beside = self.p99().await;
        let lasted = started.elapsed();
        self.stopped.store(true, Ordering::Relaxed);
        while let Some(ended) = soon("the end of the storm", self.storm.join_next()).await {
            ended.unwrap();
        }
        assert!(beside <= alone * FACTOR, "{beside:?} beside the storm, {alone:?} without");
        lasted
    }
}

async fn shake(tls: &TlsConnector, address: SocketAddr) -> Option<impl Sized + use<>> {
    let stream = TcpStream::connect(address).await.ok()?;
    tls.connect(ServerName::try_from(HOST).unwrap(), stream).await.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_connections_delays_nobody_else() {
    let mut scene = Scene::set().await;
    let alone = scene.p99().await;
    let (tls, address) = (scene.tls(), scene.sidecar.inbound());
    let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
    scene.begin(4, move || {
        let (tls, kept) = (tls.clone(), Arc::clone(&kept));
        async move {
            if let Some(stream) = shake(&tls, address).await {
                kept.lock().unwrap().push(stream);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    scene.check(alone).await;
    assert!(scene.sidecar.count(&closed("inbound", "too_many_connections_of_identity")) > 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_requests_delays_nobody_else() {
    let mut scene = Scene::set().await;
    let alone = scene.p99().await;
    let callers = [
        Http::two(scene.sidecar.inbound(), &scene.stormy).await,
        Http::two(scene.sidecar.inbound(), &scene.stormy).await,
    ];
    for caller in callers {
        let caller = Arc::new(caller);
        scene.begin(16, move || {
            let mut http = caller.beside();
            async move { drop(http.get("/").await) }
        });
    }
    scene.check(alone).await;
    assert!(scene.sidecar.count(&answered("inbound", "rate_limited")) > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_handshakes_a_second_delay_nobody_else() {
    let mut scene = Scene::set().await;
    let alone = scene.p99().await;
    let before = scene.sidecar.count(&shaken("inbound"));
    let (tls, address, begun) = (scene.tls(), scene.sidecar.inbound(), Instant::now());
    let number = Arc::new(AtomicU64::new(0));
    // Each at its time, or as soon after it as the machine can.
    scene.begin(16, move || {
        let (tls, number) = (tls.clone(), Arc::clone(&number));
        async move {
            let at = begun + Duration::from_millis(2) * u32::try_from(number.fetch_add(1, Ordering::Relaxed)).unwrap();
            tokio::time::sleep_until(at.into()).await;
            drop(shake(&tls, address).await);
        }
    });
    let lasted = scene.check(alone).await;
    let made = scene.sidecar.count(&shaken("inbound")) - before;
    assert!(made as f64 / lasted.as_secs_f64() > 50.0, "{made} handshakes in {lasted:?} are no storm");
}
