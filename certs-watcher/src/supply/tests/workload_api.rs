//! A Workload API in the place of files: what it delivers, takes back, and what is said while it is away.

use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use super::*;
use crate::messages::{Response, Svid};
use crate::sources::{BundleSource, IdentitySource};
use crate::workload_api::{CallError, Choice, Code, Delivery, Endpoint, Problem, Report, Status};

const CALLER: &str = "spiffe://prod.test/ns/claims/sa/caller";

/// A world whose identity and bundle come from an API that a test speaks for.
struct Told {
    world: World,
    reports: watch::Sender<Report>,
    messages: u64,
}

fn endpoint() -> Endpoint {
    "unix:///run/agent.sock".parse().unwrap()
}

impl Told {
    fn start() -> Self {
        Self::start_with(|_| {}, |_| {})
    }

    fn start_with(prepare: impl FnOnce(&Path), edit: impl FnOnce(&mut Sources)) -> Self {
        let (reports, told) = watch::channel(Report::default());
        let edit = |sources: &mut Sources| {
            edit(sources);
            sources.identity = IdentitySource::WorkloadApi { endpoint: endpoint(), choice: Choice::First };
            sources.trust[0].bundle = BundleSource::WorkloadApi(endpoint());
        };
        let world = World::start_over(prepare, edit, Agents::telling([(endpoint(), told)]));
        Self { world, reports, messages: 0 }
    }

    fn deliver(&mut self, response: &Response) -> Arc<Snapshot> {
        self.messages += 1;
        let delivery = Delivery::read(self.messages, &response.bytes()).unwrap();
        self.reports.send_replace(Report { last: Some(Arc::new(delivery)), problem: None });
        self.world.pass(0)
    }

    fn fail(&mut self, problem: Problem) -> Arc<Snapshot> {
        self.reports.send_modify(|report| report.problem = Some(Arc::new(problem)));
        self.world.pass(0)
    }

    /// What the client makes of PermissionDenied.
    fn withdraw(&mut self) -> Arc<Snapshot> {
        self.reports.send_modify(|report| {
            let last = report.last.as_ref().unwrap();
            let (bundles, crls) = (last.bundles.clone(), last.crls.clone());
            report.last = Some(Arc::new(Delivery { number: last.number, svids: Vec::new(), bundles, crls }));
        });
        let status = Status { code: Code::PERMISSION_DENIED, message: "no identity issued".to_owned() };
        self.fail(Problem::Call(CallError::Refused { status }))
    }
}

fn of(pki: &Prod, leaf: &Leaf) -> Response {
    Response::of([Svid::new(API, leaf, &pki.root)])
}

#[test]
fn what_is_delivered_is_proven_and_published_like_files() {
    let pki = prod();
    let mut told = Told::start();
    let not_ready = told.world.credentials.snapshot().ready(instant(NOW)).unwrap_err();
    assert_eq!(not_ready.label(), "missing");
    assert!(told.world.told().is_empty() && told.world.labels().is_empty(), "it has not even been called");

    let snapshot = told.deliver(&of(&pki, &pki.leaf));
    assert_eq!(snapshot.ready(instant(NOW)).unwrap().id().to_string(), API);
    assert_eq!(told.world.told(), ["trust 1", "crl 1", "identity 1"]);
    let revision = snapshot.revision();
    assert_eq!(told.deliver(&of(&pki, &pki.leaf)).revision(), revision, "the same again");
    assert!(told.world.told().is_empty());

    told.deliver(&of(&pki, &numbered(&pki.intermediate, 2)));
    assert_eq!(told.world.changes(), [Change::Identity { leaf: true, chain: false, key: true }]);
    assert_eq!(told.world.serial(), "02");
}

#[test]
fn what_cannot_be_proven_leaves_the_last_good_one() {
    let pki = prod();
    let mut told = Told::start();
    told.deliver(&of(&pki, &pki.leaf));
    told.world.told();
    let late = pki.intermediate.leaf_with(API, |params| set_validity(params, NOW - DAY, NOW - 1));
    let foreign = Authority::root("another").intermediate("prod").leaf(API);
    let mixed = Leaf { chain: pki.intermediate.leaf(API).chain, key: rcgen::KeyPair::generate().unwrap() };
    for (leaf, label) in [(late, "expired"), (foreign, "unknown_issuer"), (mixed, "key_mismatch")] {
        let snapshot = told.deliver(&of(&pki, &leaf));
        assert_eq!(told.world.labels(), [label], "at once, since a message is never half-written");
        assert!(snapshot.problems[0].message.starts_with("the workload API at `unix:///run/agent.sock`: "));
        assert_eq!((snapshot.problems[0].severity, snapshot.identity_generation), (Severity::Warning, 1));
        assert_eq!(told.world.told(), [format!("identity {label}")]);
    }
    let other = "spiffe://prod.test/ns/eligibility/sa/other";
    told.deliver(&Response::of([Svid::new(other, &pki.intermediate.leaf(other), &pki.root)]));
    assert_eq!(told.world.labels(), ["wrong_identity"]);
    told.deliver(&of(&pki, &pki.leaf));
    assert!(told.world.labels().is_empty(), "back to what is in use");
}

#[test]
fn a_bundle_that_is_no_longer_delivered_trusts_nobody() {
    let (pki, partner) = (prod(), Authority::root("partner"));
    let domain = TrustDomain::new("partner.test").unwrap();
    let mut told = Told::start_with(
        |_| {},
        |sources| sources.trust.push(TrustSource::new(domain.clone(), BundleSource::WorkloadApi(endpoint()))),
    );
    let caller = partner.leaf("spiffe://partner.test/ns/claims/sa/caller");
    let both = of(&pki, &pki.leaf).federated("spiffe://partner.test", &partner.der);
    told.deliver(&both).ready(instant(NOW)).unwrap();
    assert_eq!(told.world.verdict(&caller), "accepted");
    told.world.told();

    let snapshot = told.deliver(&of(&pki, &pki.leaf));
    assert!(snapshot.trust.bundle(&domain).unwrap().anchors().is_empty());
    assert_ne!(told.world.verdict(&caller), "accepted");
    assert_eq!(told.world.verdict(&pki.leaf), "accepted");
    let changes = told.world.changes();
    let [Change::Trust { added, removed }] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((added.len(), removed.len(), removed[0].name.subject.as_str()), (0, 1, "CN=partner"));
    assert_eq!(told.world.labels(), ["bundle_not_delivered"]);
    assert!(snapshot.problems[0].message.contains("`partner.test`") && snapshot.ready(instant(NOW)).is_ok());

    told.deliver(&both);
    assert_eq!((told.world.verdict(&caller), told.world.labels().len()), ("accepted", 0));
}

#[test]
fn a_bundle_that_nobody_configured_is_not_used() {
    let (pki, partner) = (prod(), Authority::root("partner"));
    let mut told = Told::start();
    let snapshot = told.deliver(&of(&pki, &pki.leaf).federated("spiffe://partner.test", &partner.der));
    assert_eq!(snapshot.trust.bundles().count(), 1);
    assert_eq!(told.world.verdict(&partner.leaf("spiffe://partner.test/caller")), "foreign_trust_domain");
}

#[test]
fn the_lists_of_a_message_count_for_all_its_bundles_and_beside_those_of_files() {
    let (pki, partner) = (prod(), Authority::root("partner"));
    let stolen = |root: &Authority, serial: u64| {
        root.intermediate_with("stolen", |params| params.serial_number = Some(serial.into()))
    };
    let callers = [stolen(&pki.root, 0x91).leaf(CALLER), stolen(&pki.root, 0x92).leaf(CALLER)];
    let foreign = stolen(&partner, 0x93).leaf("spiffe://partner.test/ns/claims/sa/caller");
    let mut told = Told::start_with(
        |directory| fs::write(directory.join("lists"), pki.root.crl(1, &[0x91], NOW + DAY)).unwrap(),
        |sources| {
            sources.trust[0].crl = Some(beside(sources, "lists"));
            let domain = TrustDomain::new("partner.test").unwrap();
            sources.trust.push(TrustSource::new(domain, BundleSource::WorkloadApi(endpoint())));
        },
    );
    let verdicts = |told: &Told| [&callers[0], &callers[1], &foreign].map(|leaf| told.world.verdict(leaf));
    let both = of(&pki, &pki.leaf).federated("spiffe://partner.test", &partner.der);
    told.deliver(&both);
    assert_eq!(verdicts(&told), ["revoked", "accepted", "accepted"]);

    let crl = vec![pki.root.crl(2, &[0x92], NOW + DAY), partner.crl(1, &[0x93], NOW + DAY)];
    told.deliver(&Response { crl, ..both.clone() });
    // The file beside the message is an ordinary one, and has to stand still with it.
    told.world.settle();
    assert_eq!(verdicts(&told), ["revoked", "revoked", "revoked"]);
    told.deliver(&both);
    told.world.settle();
    assert_eq!(verdicts(&told), ["revoked", "accepted", "accepted"], "absent from the full state");
}

#[test]
fn an_identity_that_is_taken_back_is_an_alarm_and_is_presented_until_it_ends() {
    let pki = prod();
    let mut told = Told::start();
    told.deliver(&of(&pki, &pki.leaf));
    told.world.told();
    let snapshot = told.withdraw();
    assert_eq!(told.world.labels(), ["identity_withdrawn"]);
    assert_eq!(told.world.told(), ["identity identity_withdrawn"]);
    assert_eq!(snapshot.problems[0].severity, Severity::Alarm);
    assert!(snapshot.problems[0].message.contains("presented until it ends"), "{:?}", snapshot.problems);
    snapshot.ready(instant(NOW + DAY)).unwrap();
    assert_eq!(snapshot.ready(instant(NOW + DAY + 1)).unwrap_err().label(), "expired");
    assert_eq!(told.world.verdict(&pki.intermediate.leaf(CALLER)), "accepted", "its bundles stay");

    told.deliver(&of(&pki, &pki.leaf)).ready(instant(NOW)).unwrap();
    assert!(told.world.labels().is_empty() && told.world.told().is_empty(), "given back");
}

#[test]
fn an_api_that_is_away_is_told_after_a_while_and_what_it_gave_stays() {
    let pki = prod();
    let mut told = Told::start();
    let label = CallError::Silent.label();
    told.fail(Problem::Call(CallError::Silent)).ready(instant(NOW)).unwrap_err();
    assert_eq!(told.world.told(), [format!("trust {label}"), format!("identity {label}")]);
    assert!(told.world.credentials.snapshot().problems.iter().all(|problem| problem.severity == Severity::Alarm));
    told.deliver(&of(&pki, &pki.leaf));
    assert!(told.world.labels().is_empty());
    told.world.told();

    // A stream that ends, and an agent that is away for some seconds, are no news.
    told.fail(Problem::Call(CallError::Closed));
    told.world.pass(9_999);
    told.fail(Problem::Call(CallError::Silent));
    assert!(told.world.labels().is_empty());
    let snapshot = told.world.pass(1);
    assert_eq!(told.world.labels(), [label; 2], "of the identity, and of the bundle");
    assert!(snapshot.problems.iter().all(|problem| problem.severity == Severity::Warning));
    assert!(snapshot.problems[0].message.contains("stays in use"), "{:?}", snapshot.problems);
    snapshot.ready(instant(NOW)).unwrap();
    let told_once = snapshot.revision();
    assert_eq!(told.world.pass(60_000).revision(), told_once, "a lasting problem is not published again");
    assert!(told.world.told().is_empty(), "nothing was refused");

    told.deliver(&of(&pki, &pki.leaf));
    assert!(told.world.labels().is_empty());
}

#[test]
fn a_message_that_is_refused_whole_is_told_once() {
    let pki = prod();
    let mut told = Told::start();
    told.deliver(&of(&pki, &pki.leaf));
    told.world.told();
    let refused = |number| Problem::Message { number, source: Delivery::read(number, &[]).unwrap_err() };
    let snapshot = told.fail(refused(2));
    assert_eq!(told.world.told(), ["identity no_svid"]);
    assert_eq!(told.world.labels(), ["no_svid"; 2]);
    assert!(snapshot.problems.iter().all(|problem| problem.severity == Severity::Warning));
    told.world.pass(1000);
    assert!(told.world.told().is_empty());
    told.fail(refused(3));
    assert_eq!(told.world.told(), ["identity no_svid"], "another message");
    told.world.credentials.snapshot().ready(instant(NOW)).unwrap();
}

#[test]
fn identity_and_bundle_may_come_from_different_kinds_of_sources() {
    let pki = prod();
    let (reports, told) = watch::channel(Report::default());
    let edit = |sources: &mut Sources| sources.trust[0].bundle = BundleSource::WorkloadApi(endpoint());
    let files = |directory: &Path| write_identity(directory, &pki.leaf);
    let mut world = World::start_over(files, edit, Agents::telling([(endpoint(), told)]));
    assert_eq!(world.labels(), ["no_bundle"], "nothing to prove it against");
    let delivery = Delivery::read(1, &of(&pki, &pki.intermediate.leaf(API)).bytes()).unwrap();
    reports.send_replace(Report { last: Some(Arc::new(delivery)), problem: None });
    assert_eq!(world.pass(0).ready(instant(NOW)).unwrap().serial(), "0abc");
}

#[test]
fn an_empty_bundle_is_meant_and_a_useless_one_is_not() {
    let (pki, partner) = (prod(), Authority::root("partner"));
    let domain = TrustDomain::new("partner.test").unwrap();
    let mut told = Told::start_with(
        |_| {},
        |sources| sources.trust.push(TrustSource::new(domain.clone(), BundleSource::WorkloadApi(endpoint()))),
    );
    let with = |der: &[u8]| of(&pki, &pki.leaf).federated("spiffe://partner.test", der);
    let anchors = |snapshot: &Snapshot| snapshot.trust.bundle(&domain).unwrap().anchors().len();
    assert_eq!(anchors(&told.deliver(&with(&partner.der))), 1);
    let leaf: &CertificateDer<'_> = &pki.leaf.chain[0];
    assert_eq!(anchors(&told.deliver(&with(leaf))), 1, "the last good one stays");
    assert_eq!(told.world.labels(), ["no_anchor"]);
    assert_eq!(anchors(&told.deliver(&with(&[]))), 0);
    assert!(told.world.labels().is_empty());
}
