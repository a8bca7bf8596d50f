//! `limits.ratePerIdentity`: what a caller over its rate sees, and that nobody else notices.

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Http, is_closed, opaque, secured};
use crate::eventually::soon;
use crate::grpc::call;
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::process::{files, start_listening};
use crate::sidecar::{Plan, Sidecar, answered, closed};
use crate::tcp::CALLER_ONLY;

const BURST: usize = 5;
const LIMITS: &str = "ratePerIdentity: {perSecond: 1, burst: 5}";

async fn limited(pki: &Pki, protocol: &str) -> (Sidecar, Backend) {
    let backend = Backend::start().await;
    (Plan::new(pki, API).inbound(protocol, backend.address).limits(LIMITS).ready().await, backend)
}

/// Asks until it is refused. The rate goes on meanwhile, so a few more than the burst may pass.
async fn passed_before_429(http: &mut Http) -> usize {
    for passed in 0..BURST * 10 {
        let answer = http.get("/").await;
        if answer.status == 429 {
            let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert_eq!((seconds, answer.text()), (1, ""));
            return passed;
        }
        assert_eq!(answer.status, 200);
    }
    panic!("never refused");
}

#[tokio::test]
async fn a_caller_over_its_rate_is_429_on_all_its_connections_and_others_are_served() {
    let pki = Pki::new();
    let (sidecar, backend) = limited(&pki, "http").await;
    let leaf = pki.leaf(CALLER);
    let (mut two, mut one) = (Http::two(sidecar.inbound(), &leaf).await, Http::one(sidecar.inbound(), &leaf).await);
    let passed = passed_before_429(&mut two).await;
    assert!(passed >= BURST, "{passed}");
    // Whichever it uses, old or new, and another leaf of the same identity.
    let mut renewed = Http::one(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let more = passed_before_429(&mut one).await + passed_before_429(&mut renewed).await;
    assert!(more < BURST, "{more} passed on other connections");
    assert!(sidecar.count(&answered("inbound", "rate_limited")) >= 3);
    let mut other = Http::two(sidecar.inbound(), &pki.leaf(OTHER)).await;
    for _ in 0..BURST {
        assert_eq!(other.get("/").await.status, 200, "another caller is not concerned");
    }
    assert_eq!(backend.seen().len(), passed + more + BURST, "the application hears nothing of the others");
    // The connection stays, and the caller is served again when its time has come.
    crate::eventually::eventually("served again", async || match two.get("/").await.status {
        200 => Ok(()),
        status => Err(status),
    })
    .await;
}

#[tokio::test]
async fn a_grpc_caller_over_its_rate_gets_resource_exhausted() {
    let pki = Pki::new();
    let (sidecar, _backend) = limited(&pki, "grpc").await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let refused = crate::eventually::eventually("a refusal", async || {
        let answer = http.send(call("/test.Echo/Stream")).await;
        if answer.header("grpc-status") == Some("8") { Ok(answer) } else { Err(answer) }
    });
    let answer = refused.await;
    assert_eq!((answer.status, answer.header("retry-after")), (200, Some("1")));
}

#[tokio::test]
async fn connections_of_opaque_tcp_count_and_are_closed() {
    let pki = Pki::new();
    let application = Raw::echo().await;
    let sidecar = Plan::new(&pki, API).inbound("tcp", application.address).limits(LIMITS).ready().await;
    let mut kept = Vec::new();
    let leaf = pki.leaf(CALLER);
    crate::eventually::eventually("a refusal", async || {
        kept.push(opaque(sidecar.inbound(), &leaf).await);
        match sidecar.count(&closed("inbound", "rate_limited")) {
            0 => Err(kept.len()),
            _ => Ok(()),
        }
    })
    .await;
    assert!(application.accepted() >= BURST);
    is_closed(kept.last_mut().unwrap()).await;
}

#[tokio::test]
async fn the_rate_is_asked_before_the_policy() {
    let pki = Pki::new();
    let (sidecar, _backend) = limited(&pki, "http").await;
    sidecar.changing("policy", |sidecar| sidecar.write_policy(CALLER_ONLY)).await;
    let mut wire = secured(sidecar.inbound(), &pki.leaf(OTHER)).await;
    let mut last = 0;
    for _ in 0..BURST * 10 {
        last = wire.get("/").await.status;
        if last != 403 {
            break;
        }
    }
    assert_eq!(last, 429, "whoever is denied cannot ask without end either");
}

#[tokio::test]
async fn a_storm_makes_one_line_in_the_log() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let (_folder, config) = files(&pki, "127.0.0.1:0".parse().unwrap(), backend.address);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}limits: {{{LIMITS}}}\n")).unwrap();
    let (running, inbound, said) = start_listening(&config);
    let mut http = Http::two(inbound, &pki.leaf(CALLER)).await;
    passed_before_429(&mut http).await;
    for _ in 0..200 {
        http.send(Ask::get("/")).await;
    }
    drop(running);
    let lines = tokio::task::spawn_blocking(move || said.iter().collect::<Vec<_>>());
    let lines = soon("the end of the log", lines).await.unwrap();
    let about: Vec<_> = lines.iter().filter(|line| line.contains("a limit is reached")).collect();
    assert_eq!(about.len(), 1, "{lines:#?}");
    assert!(about[0].contains("ratePerIdentity") && about[0].contains(CALLER), "{}", about[0]);
}
