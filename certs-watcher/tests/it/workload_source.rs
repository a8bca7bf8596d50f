//! A watcher whose identity and trust come from a Workload API on a real socket, and from nowhere else.

use std::path::Path;

use portcullis_certs_watcher::workload_api::Choice;
use portcullis_certs_watcher::{BundleSource, IdentitySource, Role, Snapshot, Sources, TrustSource, verify_peer};
use spiffe::TrustDomain;

use crate::agent::{Agent, Play};
use crate::messages::{Response, Svid};
use crate::pki::{API, Authority, DAY, Leaf, NOW, Prod, now, prod};
use crate::world::{ANNOUNCED_ONLY, World, serial_of};

fn partner() -> TrustDomain {
    TrustDomain::new("partner.test").unwrap()
}

/// All from the agent at `agent.sock`, which is not there yet.
fn from_agent(sources: &mut Sources) {
    let socket = sources.identity.directory().unwrap().with_file_name("agent.sock");
    let endpoint: portcullis_certs_watcher::workload_api::Endpoint =
        format!("unix://{}", socket.display()).parse().unwrap();
    sources.identity = IdentitySource::WorkloadApi { endpoint: endpoint.clone(), choice: Choice::First };
    sources.trust[0].bundle = BundleSource::WorkloadApi(endpoint.clone());
    sources.trust.push(TrustSource::new(partner(), BundleSource::WorkloadApi(endpoint)));
}

fn deliver(pki: &Prod, serial: u64, edit: impl FnOnce(Response) -> Response) -> Play {
    let leaf = pki.intermediate.leaf_with(API, |params| params.serial_number = Some(serial.into()));
    Play::Deliver(edit(Response::of([Svid::new(API, &leaf, &pki.root)])).bytes())
}

fn verdict(snapshot: &Snapshot, leaf: &Leaf) -> &'static str {
    verify_peer(&snapshot.trust, Role::Client, &leaf.chain, now()).map_or_else(|error| error.label(), |_| "accepted")
}

fn has_problem(snapshot: &Snapshot, label: &str) -> bool {
    snapshot.problems.iter().any(|problem| problem.label == label)
}

#[tokio::test]
async fn what_the_agent_streams_is_in_force_as_it_comes() {
    let (pki, foreign) = (prod(), Authority::root("partner"));
    let stolen = foreign.intermediate_with("stolen", |params| params.serial_number = Some(0x91.into()));
    let caller = stolen.leaf("spiffe://partner.test/ns/claims/sa/caller");
    let federated = |response: Response| response.federated("spiffe://partner.test", &foreign.der);
    let nothing = |_: &Path| {};
    World::run_over(from_agent, ANNOUNCED_ONLY, nothing, async |world| {
        // The agent starts after the workload.
        world.eventually("nobody there", |snapshot| has_problem(snapshot, "unreachable")).await;
        world.credentials.snapshot().ready(now()).unwrap_err();
        let agent = Agent::on_unix(&world.path("agent.sock"), deliver(&pki, 1, federated));
        world.eventually("first", |snapshot| snapshot.ready(now()).is_ok()).await;
        let snapshot = world.credentials.snapshot();
        assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
        assert_eq!((serial_of(&snapshot), verdict(&snapshot, &caller)), (Some("01"), "accepted"));

        for serial in 2..=20 {
            agent.play(deliver(&pki, serial, federated));
            world.eventually_serial(&format!("{serial:02x}")).await;
        }

        // The partner revokes an issuer; then the registration entry federates with it no longer.
        let crl = foreign.crl(1, &[0x91], NOW + DAY);
        agent.play(deliver(&pki, 21, |response| Response { crl: vec![crl], ..federated(response) }));
        world.eventually("CRL", |snapshot| verdict(snapshot, &caller) == "revoked").await;
        agent.play(deliver(&pki, 22, |response| response));
        let alone = |snapshot: &Snapshot| snapshot.trust.bundle(&partner()).unwrap().anchors().is_empty();
        world.eventually("no bundle", alone).await;
        assert!(has_problem(&world.credentials.snapshot(), "bundle_not_delivered"));
        world.credentials.snapshot().ready(now()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_goes_away_and_comes_back_takes_nothing_with_it() {
    let pki = prod();
    World::run_over(
        from_agent,
        ANNOUNCED_ONLY,
        |_| {},
        async |world| {
            let agent = Agent::on_unix(&world.path("agent.sock"), deliver(&pki, 1, |response| response));
            world.eventually_serial("01").await;
            drop(agent);
            let agent = Agent::on_unix(&world.path("agent.sock"), deliver(&pki, 2, |response| response));
            world.eventually_serial("02").await;
            world.credentials.snapshot().ready(now()).unwrap();

            // The registration entry is deleted, and made again.
            agent.play(Play::Refuse(7, "no identity issued"));
            world.eventually("withdrawn", |snapshot| has_problem(snapshot, "identity_withdrawn")).await;
            world.credentials.snapshot().ready(now()).unwrap();
            agent.play(deliver(&pki, 3, |response| response));
            world.eventually_serial("03").await;
            world.eventually("over", |snapshot| !has_problem(snapshot, "identity_withdrawn")).await;
        },
    )
    .await;
}
