//! Outbound listeners whose peers a Service of the policy names, and what its changes do to open connections.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis::config::{self, Answerers};
use portcullis::connections::Connections;
use portcullis::drain::{Drain, Phase};
use portcullis::policy_store::{Loader, PolicySources, PolicyStore};
use portcullis::telemetry::Telemetry;
use portcullis::telemetry::access_log::{self, Destination};
use portcullis::telemetry::episode::Episodes;
use portcullis::telemetry::metrics::Metrics;
use portcullis::telemetry::repeated::Repeated;
use portcullis::telemetry::spans::Spans;
use portcullis::tls::Tls;
use portcullis::upstream::dial::{Target, ToPeer};
use portcullis::upstream::lease::Lease;
use portcullis::upstream::open::Route;
use portcullis::upstream::pool::{Choice, Pool, Shape};
use portcullis_certs_watcher::{
    BundleSource, Pace, RevocationPolicy, Sources, StaleList, TrustSource, UnknownStatus, Watcher, system_clock,
};
use portcullis_policy::ServiceName;
use spiffe::TrustDomain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::backend::{Backend, Raw};
use crate::client::{Http, is_closed, plain};
use crate::eventually::{eventually, soon};
use crate::grpc::{call, message};
use crate::peer;
use crate::pki::{API, CALLER, DOMAIN, OTHER, Pki, write_volume};
use crate::sidecar::{Plan, Sidecar, answered, closed, refused, shaken};
use crate::websocket::UPGRADE;
use crate::wire::Answer;

/// A policy with the Service `api`, for which these may answer.
fn answered_by(identities: &[&str]) -> String {
    service("name: api", identities)
}

fn service(metadata: &str, identities: &[&str]) -> String {
    let identities: Vec<String> = identities.iter().map(|id| format!("\"{id}\"")).collect();
    format!(
        "apiVersion: policy.portcullis.dev/v1\nkind: Service\nmetadata: {{{metadata}}}\nspec:\n  addresses: [127.0.0.1]\n  \
         ports: [{{port: 80, protocol: auto}}]\n  identities: [{}]\n",
        identities.join(", ")
    )
}

#[track_caller]
fn is_refused(answer: &Answer, reason: &str, words: &[&str]) {
    assert_eq!((answer.status, answer.header("x-portcullis-reason")), (503, Some(reason)), "{}", answer.text());
    for word in words {
        assert!(answer.text().contains(word), "{word} is missing: {}", answer.text());
    }
}

async fn swap(near: &Sidecar, policy: &str) {
    near.changing("policy", |near| near.write_policy(policy)).await;
}

#[tokio::test]
async fn the_next_request_on_a_kept_connection_is_judged_by_the_newest_list() {
    let pki = Pki::new();
    for alpn in [&["http/1.1"][..], &["h2"]] {
        let backend = Backend::start().await;
        let address = peer::serve(&pki.leaf(API), alpn, &backend).await;
        let near =
            Plan::new(&pki, CALLER).policy(&answered_by(&[API])).outbound_to("http", address, "api").ready().await;
        let mut wire = plain(near.outbound()).await;
        assert_eq!(wire.get("/").await.status, 200, "{alpn:?}");

        // Whoever may still answer goes on answering, on the same connection.
        swap(&near, &answered_by(&[OTHER, API])).await;
        assert_eq!(wire.get("/").await.status, 200, "{alpn:?}");
        assert_eq!(near.count(&shaken("outbound")), 1, "{alpn:?}");

        swap(&near, &answered_by(&[OTHER])).await;
        let words = ["may not answer for the Service `api`", API, OTHER];
        is_refused(&wire.get("/").await, "upstream_wrong_identity", &words);
        assert_eq!(backend.seen().len(), 2, "{alpn:?}");
        assert_eq!(near.count(&refused("outbound", "wrong_identity")), 1, "{alpn:?}");
        eventually("the connection to who answered before ends", async || {
            let open = near.admin("/connections").await;
            if open.to_string().contains(API) { Err(open) } else { Ok(()) }
        })
        .await;
        assert_eq!(near.health("/readyz").await.status, 200, "whom it names is not for readiness to judge");

        swap(&near, &answered_by(&[API])).await;
        assert_eq!(wire.get("/").await.status, 200, "{alpn:?}");

        // A broken document takes nobody's word away.
        near.write_policy("kind: Service");
        let series = "portcullis_reload_total{kind=\"policy\",result=\"refused\",reason=\"invalid\"}";
        near.eventually_counts(series, 1).await;
        assert_eq!(wire.get("/").await.status, 200, "{alpn:?}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_defined_is_answered_by_nobody() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let far = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let near =
        Plan::new(&pki, CALLER).policy(&service("name: elsewhere", &[API])).outbound_to("http", far.inbound(), "api");
    let near = near.start();
    let words = "the policy in force does not define the Service `api`";
    is_refused(&plain(near.outbound()).await.get("/").await, "no_such_service", &[words]);
    assert_eq!(near.count(&answered("outbound", "no_such_service")), 1);
    let ready = near.health("/readyz").await;
    assert!(ready.status == 503 && ready.text().contains(words), "{}", ready.text());
    let answer = Http::plain_two(near.outbound()).await.send(call("/test.Echo/Unary").text(message("hello"))).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("14")));

    swap(&near, &answered_by(&[API])).await;
    near.eventually_ready().await;
    let mut wire = plain(near.outbound()).await;
    assert_eq!(wire.get("/").await.status, 200);

    swap(&near, &service("name: elsewhere", &[API])).await;
    is_refused(&wire.get("/").await, "no_such_service", &[words]);
    near.eventually_counts(&closed("outbound", "no_such_service"), 1).await;
    assert_eq!(near.health("/readyz").await.status, 200, "one lost Service must not take out a whole fleet");
    assert_eq!((backend.seen().len(), far.count(&shaken("inbound"))), (1, 1));
}

#[tokio::test]
async fn without_a_policy_nobody_answers_for_a_service() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let far = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let plan = Plan::new(&pki, CALLER)
        .outbound_to("http", far.inbound(), "api")
        .outbound_to("tcp", far.inbound(), "api")
        .outbound("http", far.inbound(), &[API]);
    fs::remove_dir_all(plan.path("policy")).unwrap();
    let near = plan.start();
    let listeners = near.running().addresses().outbound.clone();
    let words = ["no policy is loaded", "`api`"];
    is_refused(&plain(listeners[0]).await.get("/").await, "no_such_service", &words);
    is_closed(&mut TcpStream::connect(listeners[1]).await.unwrap()).await;
    near.eventually_counts(&closed("outbound", "no_such_service"), 1).await;
    assert_eq!(far.count(&shaken("inbound")), 0);
    assert_eq!(plain(listeners[2]).await.get("/").await.status, 200, "a list in the configuration needs no policy");
    let ready = near.health("/readyz").await;
    assert!(ready.status == 503 && ready.text().contains("policy:"), "{}", ready.text());

    near.write_policy(&answered_by(&[API]));
    near.eventually_ready().await;
    assert_eq!(plain(listeners[0]).await.get("/").await.status, 200);
}

#[tokio::test]
async fn two_listeners_for_one_address_each_go_by_their_own_service() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let address = peer::serve(&pki.leaf(API), &["h2"], &backend).await;
    let reports = service("name: api, namespace: reports", &[OTHER]).replace("127.0.0.1", "127.0.0.2");
    let policy = format!("{}---\n{reports}", answered_by(&[API]));
    let near = Plan::new(&pki, CALLER)
        .policy(&policy)
        .outbound_to("http", address, "api")
        .outbound_to("http", address, "{name: api, namespace: reports}")
        .ready()
        .await;
    let listeners = near.running().addresses().outbound.clone();
    for _ in 0..2 {
        assert_eq!(plain(listeners[0]).await.get("/").await.status, 200);
        let answer = plain(listeners[1]).await.get("/").await;
        let words = ["the Service `reports/api`", API, OTHER];
        is_refused(&answer, "upstream_wrong_identity", &words);
    }
    let shown = near.admin("/config").await;
    assert_eq!(shown["outbound"][0]["service"]["name"], "api");
    assert_eq!(shown["outbound"][1]["service"]["namespace"], "reports");
}

#[tokio::test]
async fn open_tcp_and_websockets_end_when_their_peer_may_no_longer_answer() {
    let pki = Pki::new();
    let (raw, backend) = (Raw::echo().await, Backend::start().await);
    let far = Plan::new(&pki, API).inbound("tcp", raw.address).inbound("http", backend.address).ready().await;
    let inbound = far.running().addresses().inbound.clone();
    let near = Plan::new(&pki, CALLER)
        .policy(&answered_by(&[API]))
        .outbound_to("tcp", inbound[0], "api")
        .outbound_to("http", inbound[1], "api")
        .ready()
        .await;
    let listeners = near.running().addresses().outbound.clone();
    for (policy, cause) in
        [(answered_by(&[OTHER]), "wrong_identity"), (service("name: elsewhere", &[API]), "no_such_service")]
    {
        let mut stream = TcpStream::connect(listeners[0]).await.unwrap();
        echo(&mut stream).await;
        let mut wire = plain(listeners[1]).await;
        assert_eq!(wire.ask(UPGRADE).await.status, 101);
        assert_eq!(soon("the welcome", wire.exactly(7)).await.unwrap(), b"welcome");

        // Another list that has them in it ends nothing.
        swap(&near, &answered_by(&[API, OTHER])).await;
        echo(&mut stream).await;
        let accepted = raw.accepted();

        swap(&near, &policy).await;
        is_closed(&mut stream).await;
        is_closed(&mut wire.io).await;
        near.eventually_counts(&closed("outbound", cause), 2).await;
        is_closed(&mut TcpStream::connect(listeners[0]).await.unwrap()).await;
        assert_eq!(raw.accepted(), accepted, "{cause}");
        swap(&near, &answered_by(&[API])).await;
    }
}

async fn echo(stream: &mut TcpStream) {
    stream.write_all(b"x").await.unwrap();
    soon("the echo", stream.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn a_list_that_changes_during_a_handshake_counts_for_it() {
    let pki = Pki::new();
    for alpn in [&["http/1.1"][..], &["h2"]] {
        let backend = Backend::start().await;
        let (accepted, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let before = {
            let (accepted, go_on) = (Arc::clone(&accepted), Arc::clone(&go_on));
            move || {
                let (accepted, go_on) = (Arc::clone(&accepted), Arc::clone(&go_on));
                async move {
                    accepted.notify_one();
                    go_on.notified().await;
                }
            }
        };
        let address = peer::serve_after(&pki.leaf(API), alpn, &backend, before).await;
        let near =
            Plan::new(&pki, CALLER).policy(&answered_by(&[API])).outbound_to("http", address, "api").ready().await;
        let mut wire = plain(near.outbound()).await;
        let asking = tokio::spawn(async move { wire.get("/").await });
        soon("the connection", accepted.notified()).await;
        swap(&near, &answered_by(&[OTHER])).await;
        go_on.notify_one();
        is_refused(&soon("the answer", asking).await.unwrap(), "upstream_wrong_identity", &["`api`", OTHER]);
        assert_eq!(backend.seen().len(), 0, "{alpn:?}");
    }
}

/// A pool with a policy that is watched, and with nobody who judges its connections again.
fn pool_without_a_recheck(plan: &Plan, address: SocketAddr, drain: &Drain) -> (Arc<Pool>, Arc<PolicyStore>) {
    let metrics = Arc::new(Metrics::new());
    let trust = TrustSource {
        trust_domain: TrustDomain::new(DOMAIN).unwrap(),
        bundle: BundleSource::Path(plan.path("trust").join(DOMAIN).join("roots.pem")),
        crl: None,
        revocation: RevocationPolicy { unknown: UnknownStatus::Allow, stale: StaleList::Warn },
    };
    let identity = plan.path("identity").into();
    let sources = Sources { identity, expected: None, trust: vec![trust], deny_list: None };
    let (_, credentials) = Watcher::new(sources, Pace::default(), system_clock(), Box::new(|_| {}));
    let directories = vec![plan.path("policy")];
    let policy = PolicySources {
        policy: config::Policy { directories, ..config::Policy::default() },
        opaque_ports: Vec::new(),
        credentials: credentials.clone(),
    };
    let (loader, store) = Loader::start(policy, Arc::clone(&metrics));
    let tasks = drain.tasks();
    tasks.spawn(loader.run(tasks.clone()));
    let telemetry = Telemetry {
        access_log: access_log::open(&Destination::Off, Arc::clone(&metrics)).unwrap().0,
        spans: Spans::start(None, "test", &tasks, &tokio::runtime::Handle::current()).unwrap(),
        repeated: Repeated::default(),
        episodes: Episodes::new(),
        metrics: Arc::clone(&metrics),
    };
    let peer = ToPeer {
        target: Target(address.to_string().into()),
        answerers: Answerers::Service(ServiceName { namespace: None, name: "api".into() }),
        policy: Arc::clone(&store),
        tls: Tls::new(credentials),
        connect: Duration::from_secs(5),
        handshake: Duration::from_secs(10),
        connections: Arc::new(Connections::new(0, 0, metrics)),
        tasks: tasks.clone(),
        telemetry: Arc::new(telemetry),
    };
    let shape = Shape {
        shared: 4,
        idle: Duration::ZERO,
        age: Duration::from_secs(300),
        head: Duration::from_secs(10),
        head_bytes: 64 << 10,
        head_fields: 100,
    };
    (Pool::new(Route::Peer(peer), shape, tasks), store)
}

/// The re-check comes moments later, and the next request must not have to wait for it.
#[tokio::test]
async fn a_pool_lets_go_of_whoever_may_no_longer_answer_by_itself() {
    let pki = Pki::new();
    for alpn in [&["http/1.1"][..], &["h2"]] {
        let backend = Backend::start().await;
        let address = peer::serve(&pki.leaf(API), alpn, &backend).await;
        let plan = Plan::new(&pki, CALLER).policy(&answered_by(&[API]));
        let drain = Drain::new();
        let (pool, store) = pool_without_a_recheck(&plan, address, &drain);
        let mut changed = store.changed();
        let mut swap = async |identities: &[&str]| {
            plan.write_policy(&answered_by(identities));
            soon("the policy", changed.changed()).await.unwrap();
        };
        let number = |lease: &Lease| lease.link().entry.as_ref().unwrap().id;
        let refusal = async || pool.take(Choice::Any).await.map(|lease| number(&lease)).unwrap_err().label();

        let first = pool.take(Choice::Any).await.unwrap();
        let kept = number(&first);
        first.give_back();
        swap(&[OTHER, API]).await;
        let held = pool.take(Choice::Any).await.unwrap();
        assert_eq!(number(&held), kept, "{alpn:?}");
        swap(&[OTHER]).await;
        assert_eq!(refusal().await, "upstream_wrong_identity", "{alpn:?}");
        // What is in use comes back too late.
        held.give_back();
        assert_eq!(refusal().await, "upstream_wrong_identity", "{alpn:?}");
        swap(&[API]).await;
        let second = pool.take(Choice::Any).await.unwrap();
        assert_ne!(number(&second), kept, "{alpn:?}");
        // What came back in time is let go of, too.
        second.give_back();
        swap(&[OTHER]).await;
        assert_eq!(refusal().await, "upstream_wrong_identity", "{alpn:?}");
        drain.advance(Phase::Ended);
    }
}

#[tokio::test]
async fn the_members_of_a_set_answer() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let address = peer::serve(&pki.leaf(API), &["h2"], &backend).await;
    let plan = Plan::new(&pki, CALLER).outbound_to("http", address, "api");
    let by_set = answered_by(&[]).replace("identities: []", "identitySets: [replicas]");
    let set = |member: &str| {
        format!(
            "apiVersion: policy.portcullis.dev/v1\nkind: IdentitySet\nmetadata: {{name: replicas}}\nspec: {{identities: [{member}]}}\n"
        )
    };
    let write = |directory: &std::path::Path, member: &str| {
        write_volume(directory, &[("service.yaml", by_set.as_str()), ("set.yaml", &set(member))]);
    };
    write(&plan.path("policy"), API);
    let near = plan.ready().await;
    assert_eq!(plain(near.outbound()).await.get("/").await.status, 200);
    near.changing("policy", |near| write(&near.path("policy"), OTHER)).await;
    is_refused(&plain(near.outbound()).await.get("/").await, "upstream_wrong_identity", &[OTHER]);
}
