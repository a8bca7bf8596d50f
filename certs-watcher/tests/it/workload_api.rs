//! The Workload API as a source, against an agent on a real socket.
//!
//! Time is paused in tests over a Unix socket: it advances only when nobody has anything to do, so back-off takes none.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_certs_watcher::explain;
use portcullis_certs_watcher::workload_api::{Choice, NoSvid, Report, WorkloadApi};
use spiffe::TrustDomain;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::agent::{Agent, Play, frame};
use crate::messages::{Response, Svid, crl};
use crate::pki::{API, Authority, Prod, prod};

const WEB: &str = "spiffe://prod.test/ns/eligibility/sa/web";

/// In paused time: longer than the longest that the client waits for anything.
const DEADLINE: Duration = Duration::from_secs(3600);

struct Seen(watch::Receiver<Report>);

impl Seen {
    /// Waits until a report is as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        if let Ok(report) = timeout(DEADLINE, self.0.wait_for(wanted)).await {
            return report.unwrap().clone();
        }
        panic!("{what}: last seen {:?}", self.0.borrow());
    }

    async fn message(&mut self, number: u64) -> Report {
        let last = |report: &Report| report.last.as_ref().map(|last| last.number);
        self.until(&format!("message {number}"), |report| last(report) == Some(number)).await
    }

    async fn problem(&mut self, label: &str) -> Report {
        let has = |report: &Report| report.problem.as_ref().is_some_and(|problem| problem.label() == label);
        self.until(label, has).await
    }

    /// How often the reports change within this time.
    async fn changes_within(&mut self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut changes = 0;
        self.0.mark_unchanged();
        while tokio::time::timeout_at(end, self.0.changed()).await.is_ok() {
            changes += 1;
        }
        changes
    }
}

/// Runs the source against the endpoint with the test beside it; the source ends when the test does.
async fn run<F: Future<Output = ()>>(endpoint: &str, test: impl FnOnce(Seen) -> F) {
    let (source, reports) = WorkloadApi::new(endpoint.parse().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let test = async {
        test(Seen(reports)).await;
        stop.send(()).unwrap();
    };
    tokio::join!(movable(source.run(async move { drop(stopped.await) })), test);
}

/// Whoever wires the source may run it on any thread.
fn movable<T: Send>(task: T) -> T {
    task
}

/// A directory with a place for a socket.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    (directory, socket)
}

fn api(pki: &Prod) -> Svid {
    Svid::new(API, &pki.leaf, &pki.root)
}

fn message(pki: &Prod) -> Vec<u8> {
    Response::of([api(pki)]).bytes()
}

fn id(report: &Report, choice: &Choice) -> Result<String, &'static str> {
    report.svid(choice).map(|svid| svid.id.to_string()).map_err(|error| error.label())
}

fn domains(report: &Report) -> Vec<String> {
    report.last.as_ref().unwrap().bundles.keys().map(ToString::to_string).collect()
}

async fn a_delivery_and_its_renewal(agent: Agent, pki: Prod) {
    run(&agent.endpoint.clone(), async |mut seen| {
        let report = seen.message(1).await;
        let svid = report.svid(&Choice::First).unwrap();
        assert_eq!((svid.id.to_string().as_str(), &svid.hint, &svid.chain), (API, &None, &pki.leaf.chain));
        assert!(report.problem.is_none());
        assert_eq!(domains(&report), ["prod.test"]);
        assert_eq!(report.last.unwrap().bundles.values().next().unwrap().to_vec(), vec![pki.root.der.clone()]);

        let renewed = pki.intermediate.leaf(API);
        agent.play(Play::Deliver(Response::of([Svid::new(API, &renewed, &pki.root)]).bytes()));
        let report = seen.message(2).await;
        assert_eq!(report.svid(&Choice::First).unwrap().chain, renewed.chain);
        assert_eq!(agent.calls(), 1, "the stream stays open");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_identity_is_delivered_and_renewed_over_a_unix_socket() {
    let ((_directory, socket), pki) = (place(), prod());
    a_delivery_and_its_renewal(Agent::on_unix(&socket, Play::Deliver(message(&pki))), pki).await;
}

/// In real time: what crosses the loopback interface takes some, while nobody in this process has anything to do.
#[tokio::test]
async fn an_identity_is_delivered_and_renewed_over_tcp() {
    let pki = prod();
    let agent = Agent::on_tcp(Play::Deliver(message(&pki))).await;
    timeout(Duration::from_secs(30), a_delivery_and_its_renewal(agent, pki)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_message_does_not_hold_is_revoked() {
    let ((_directory, socket), pki) = (place(), prod());
    let web = || Svid::new(WEB, &pki.intermediate.leaf(WEB), &pki.root).hinted("web");
    let partner = Authority::root("partner");
    let full = Response::of([api(&pki).hinted("api"), web()]).federated("spiffe://partner.test", &partner.der);
    let full = Response { crl: vec![crl(&pki.root)], ..full };
    let agent = Agent::on_unix(&socket, Play::Deliver(full.bytes()));
    run(&agent.endpoint, async |mut seen| {
        let report = seen.message(1).await;
        let by_hint = Choice::Hint("api".to_owned());
        assert_eq!(id(&report, &by_hint).as_deref(), Ok(API));
        assert_eq!(domains(&report), ["partner.test", "prod.test"]);
        assert_eq!(report.last.unwrap().crls.len(), 1);

        agent.play(Play::Deliver(Response::of([web()]).bytes()));
        let report = seen.message(2).await;
        assert_eq!(id(&report, &Choice::First).as_deref(), Ok(WEB));
        let gone = report.svid(&by_hint).unwrap_err();
        assert!(gone.revokes(), "{gone}");
        assert!(gone.to_string().ends_with(&format!("`{WEB}` with the hint `web`")), "{gone}");
        assert_eq!(domains(&report), ["prod.test"]);
        assert!(report.last.unwrap().crls.is_empty());

        agent.play(Play::Deliver(Response::of([web()]).federated("partner.test", &[]).bytes()));
        let report = seen.message(3).await;
        let partner = TrustDomain::new("partner.test").unwrap();
        assert!(report.last.unwrap().bundles[&partner].is_empty(), "told to trust nobody there");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_an_identity_for_us_is_asked_until_it_has_one() {
    let ((_directory, socket), pki) = (place(), prod());
    let agent = Agent::on_unix(&socket, Play::Refuse(7, "No identity issued"));
    run(&agent.endpoint, async |mut seen| {
        let report = seen.problem("permission_denied").await;
        assert_eq!(report.svid(&Choice::First).unwrap_err(), NoSvid::NothingYet);
        let text = explain(report.problem.as_deref().unwrap());
        assert!(text.ends_with("the agent answers PermissionDenied (`No identity issued`)"), "{text}");
        agent.play(Play::Deliver(message(&pki)));
        assert!(seen.message(1).await.problem.is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn permission_denied_withdraws_every_identity_and_leaves_the_trust() {
    let ((_directory, socket), pki) = (place(), prod());
    let agent = Agent::on_unix(&socket, Play::Deliver(message(&pki)));
    run(&agent.endpoint, async |mut seen| {
        seen.message(1).await;
        agent.play(Play::Refuse(7, "entry deleted"));
        let report = seen.problem("permission_denied").await;
        assert_eq!(report.svid(&Choice::First).unwrap_err(), NoSvid::Withdrawn);
        assert_eq!(domains(&report), ["prod.test"]);
        // An agent that is away afterwards does not bring it back.
        agent.play(Play::Refuse(14, "restarting"));
        let report = seen.problem("unavailable").await;
        assert_eq!(report.svid(&Choice::First).unwrap_err(), NoSvid::Withdrawn);
        agent.play(Play::Deliver(message(&pki)));
        assert_eq!(id(&seen.message(2).await, &Choice::First).as_deref(), Ok(API));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_last_good_stays_while_the_agent_is_unavailable() {
    let ((_directory, socket), pki) = (place(), prod());
    let agent = Agent::on_unix(&socket, Play::Deliver(message(&pki)));
    run(&agent.endpoint, async |mut seen| {
        seen.message(1).await;
        agent.play(Play::Refuse(14, "upstream is away"));
        let report = seen.problem("unavailable").await;
        assert_eq!(id(&report, &Choice::First).as_deref(), Ok(API));
        let (calls, failures) = (agent.calls(), seen.changes_within(Duration::from_secs(600)).await);
        assert_eq!(agent.calls() - calls, failures);
        assert!((60..150).contains(&failures), "{failures} calls in ten minutes");
        agent.play(Play::Deliver(message(&pki)));
        assert!(seen.message(2).await.problem.is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_restarts_on_the_same_path_is_found_again() {
    let ((_directory, socket), pki) = (place(), prod());
    let agent = Agent::on_unix(&socket, Play::Deliver(message(&pki)));
    let endpoint = agent.endpoint.clone();
    run(&endpoint, async |mut seen| {
        seen.message(1).await;
        drop(agent);
        let report = seen.problem("unreachable").await;
        assert_eq!(id(&report, &Choice::First).as_deref(), Ok(API));
        let agent = Agent::on_unix(&socket, Play::Deliver(message(&pki)));
        assert!(seen.message(2).await.problem.is_none());
        assert_eq!(agent.connections(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_had_delivered_is_opened_again_at_once() {
    let ((_directory, socket), pki) = (place(), prod());
    let agent = Agent::on_unix(&socket, Play::Deliver(message(&pki)));
    run(&agent.endpoint, async |mut seen| {
        seen.message(1).await;
        let before = Instant::now();
        agent.play(Play::DeliverAndClose(message(&pki)));
        // Message 2 is on the stream that is open, message 3 on the next one.
        seen.message(3).await;
        assert!(before.elapsed() < Duration::from_millis(110), "{:?}", before.elapsed());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_hangs_up_after_each_delivery_makes_no_spin() {
    let ((_directory, socket), pki) = (place(), prod());
    let agent = Agent::on_unix(&socket, Play::DeliverAndClose(message(&pki)));
    run(&agent.endpoint, async |mut seen| {
        seen.message(1).await;
        seen.changes_within(Duration::from_secs(600)).await;
        assert!((60..150).contains(&agent.calls()), "{} calls in ten minutes", agent.calls());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn messages_are_taken_at_a_pace() {
    let ((_directory, socket), pki) = (place(), prod());
    let agent = Agent::on_unix(&socket, Play::Flood(message(&pki)));
    run(&agent.endpoint, async |mut seen| {
        seen.message(1).await;
        let taken = seen.changes_within(Duration::from_secs(10)).await;
        assert!((90..=101).contains(&taken), "{taken} messages in ten seconds");
        assert_eq!(agent.calls(), 1);
    })
    .await;
}

/// What an agent does that cannot be taken, how it is called, and how often it may be asked in ten minutes.
async fn refused(play: Play, label: &str, calls: std::ops::Range<usize>) {
    let ((_directory, socket), pki) = (place(), prod());
    let agent = Agent::on_unix(&socket, Play::Deliver(message(&pki)));
    run(&agent.endpoint, async |mut seen| {
        seen.message(1).await;
        agent.play(play);
        let report = seen.problem(label).await;
        assert_eq!(id(&report, &Choice::First).as_deref(), Ok(API), "{label}: the last good stays");
        let before = agent.connections();
        seen.changes_within(Duration::from_secs(600)).await;
        let asked = agent.connections() - before;
        assert!(calls.contains(&asked), "{label}: {asked} calls in ten minutes");
        agent.play(Play::Deliver(message(&pki)));
        seen.until("it is well again", |report| report.problem.is_none()).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_taken_ends_the_call_and_makes_no_spin() {
    let announced = |length: u32| [&[0][..], &length.to_be_bytes()[..]].concat();
    let backed_off = || 60..150;
    refused(Play::Raw(announced(4 * 1024 * 1024 + 1)), "message_too_large", backed_off()).await;
    refused(Play::Raw(announced(u32::MAX)), "message_too_large", backed_off()).await;
    refused(Play::Raw(vec![1, 0, 0, 0, 0]), "compressed_message", backed_off()).await;
    refused(Play::Drizzle, "http2_error", backed_off()).await;
    refused(Play::HangUp, "connection_lost", backed_off()).await;
    refused(Play::Refuse(16, ""), "unauthenticated", backed_off()).await;
    refused(Play::Refuse(99, "?"), "unknown", backed_off()).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_will_not_change_is_asked_for_seldom() {
    refused(Play::Refuse(3, "security header missing"), "invalid_argument", 55..125).await;
    refused(Play::Refuse(12, "no such method"), "unimplemented", 55..125).await;
    let ((_directory, socket), seldom) = (place(), 55..125);
    let agent = Agent::on_unix(&socket, Play::Http(404, "text/html"));
    run(&agent.endpoint, async |mut seen| {
        let report = seen.problem("not_grpc").await;
        let text = explain(report.problem.as_deref().unwrap());
        assert!(text.contains("404") && text.contains("text/html"), "{text}");
        seen.changes_within(Duration::from_secs(600)).await;
        assert!(seldom.contains(&agent.calls()), "{} calls in ten minutes", agent.calls());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_leaves_the_stream_and_the_last_good() {
    let ((_directory, socket), pki) = (place(), prod());
    let agent = Agent::on_unix(&socket, Play::Deliver(message(&pki)));
    run(&agent.endpoint, async |mut seen| {
        seen.message(1).await;
        let broken = Svid { x509_svid: b"no certificate".to_vec(), ..api(&pki) };
        agent.play(Play::Deliver(Response::of([api(&pki), broken]).bytes()));
        let report = seen.problem("malformed_certificate").await;
        assert_eq!(id(&report, &Choice::First).as_deref(), Ok(API));
        assert_eq!(report.last.unwrap().number, 1);
        let text = explain(report.problem.as_deref().unwrap());
        assert!(text.contains("message 2") && text.contains("certificate 1 in the chain of SVID 2"), "{text}");

        agent.play(Play::Deliver(Vec::new()));
        seen.problem("no_svid").await;
        agent.play(Play::Deliver(b"\xff\xff".to_vec()));
        seen.problem("malformed_message").await;
        agent.play(Play::Deliver(message(&pki)));
        assert!(seen.message(5).await.problem.is_none());
        assert_eq!(agent.calls(), 1, "the stream goes on");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn whoever_is_no_agent_is_told_apart_and_makes_no_spin() {
    let check = async |bytes: &'static [u8], label: &str, calls: std::ops::Range<usize>| {
        let (_directory, socket) = place();
        let agent = Agent::impostor(&socket, bytes, Vec::new());
        run(&agent.endpoint, async |mut seen| {
            seen.problem(label).await;
            seen.changes_within(Duration::from_secs(600)).await;
            assert!(calls.contains(&agent.connections()), "{label}: {} calls", agent.connections());
        })
        .await;
    };
    check(b"HTTP/1.1 400 Bad Request\r\n\r\n", "http2_error", 60..150).await;
    check(&[0xff; 4096], "http2_error", 60..150).await;
    // It accepts, and nobody reads: each call takes ten seconds to give up, and then up to ten to be repeated.
    check(b"", "silent", 25..45).await;
}

#[tokio::test(start_paused = true)]
async fn frames_that_mean_nothing_are_not_read_for_ever() {
    let (_directory, socket) = place();
    // The settings, and then frames of a type that nobody knows, a kilobyte each.
    let frame = [&[0, 4, 0, 0xfa, 0, 0, 0, 0, 0][..], &[0; 1024]].concat();
    let agent = Agent::impostor(&socket, &[0, 0, 0, 4, 0, 0, 0, 0, 0], frame.repeat(16));
    run(&agent.endpoint, async |mut seen| {
        let report = seen.problem("connection_lost").await;
        let text = explain(report.problem.as_deref().unwrap());
        assert!(text.contains("came without a message"), "{text}");
        seen.changes_within(Duration::from_secs(60)).await;
        assert!((10..30).contains(&agent.connections()), "{} calls in a minute", agent.connections());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_not_there_is_tried_ever_less_often() {
    let (_directory, socket) = place();
    run(&format!("unix://{}", socket.display()), async |mut seen| {
        let report = seen.problem("unreachable").await;
        assert!(explain(report.problem.as_deref().unwrap()).contains("No such file"), "{report:?}");
        let tried = seen.changes_within(Duration::from_secs(600)).await;
        assert!((60..150).contains(&tried), "{tried} tries in ten minutes");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_waited_for_without_end() {
    let ((_directory, socket), pki) = (place(), prod());
    let agent = Agent::on_unix(&socket, Play::Nothing);
    run(&agent.endpoint, async |mut seen| {
        // No first message.
        let begun = Instant::now();
        seen.problem("no_message").await;
        assert!((30..=31).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        agent.play(Play::Deliver(message(&pki)));
        seen.until("delivered", |report| report.problem.is_none()).await;

        // The beginning of a message, and not its end.
        let begun = Instant::now();
        agent.play(Play::Raw(frame(&message(&pki))[..100].to_vec()));
        seen.problem("late_message").await;
        assert!((30..=31).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        agent.play(Play::Deliver(message(&pki)));
        seen.until("delivered", |report| report.problem.is_none()).await;

        // A stream that is idle is left alone, and one whose agent is stopped is given up after the next ping.
        assert_eq!(seen.changes_within(Duration::from_secs(7200)).await, 0);
        let begun = Instant::now();
        agent.play(Play::Freeze);
        seen.problem("dead").await;
        assert!(begun.elapsed() <= Duration::from_secs(341), "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn it_stops_when_told_wherever_it_is() {
    let ((_directory, socket), pki) = (place(), prod());
    let missing = format!("unix://{}", socket.with_extension("missing").display());
    run(&missing, async |mut seen| drop(seen.problem("unreachable").await)).await;
    let agent = Agent::on_unix(&socket, Play::Deliver(message(&pki)));
    run(&agent.endpoint, async |mut seen| drop(seen.message(1).await)).await;
}
