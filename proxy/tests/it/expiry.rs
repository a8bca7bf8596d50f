//! Rules end when they say they do, also for what they have let in already.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Http, flowing, is_closed, opaque, secured};
use crate::eventually::{eventually, soon};
use crate::grpc::{call, message};
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{Plan, answered, closed};
use crate::websocket::UPGRADE;

/// Two callers, one of them until `expires`, and one more rule that lets it do something else for ever.
fn until(expires: SystemTime, more: &str) -> String {
    let expires = OffsetDateTime::from(expires).replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap();
    format!(
        r#"
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {{name: temporary}}
spec:
  allow:
    - name: for-ever
      from: {{identities: ["{CALLER}"]}}
    - name: for-a-while
      from: {{identities: ["{OTHER}"]}}
      expires: {expires}
{more}"#
    )
}

/// Far enough ahead for a connection to be made before, and no further.
fn soon_over() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3)
}

#[tokio::test]
async fn an_opaque_connection_ends_with_the_rule_that_allowed_it() {
    let pki = Pki::new();
    let raw = Raw::echo().await;
    let plan = Plan::new(&pki, API).inbound("tcp", raw.address);
    let sidecar = plan.policy(&until(soon_over(), "")).ready().await;
    let mut keeper = opaque(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let mut loser = opaque(sidecar.inbound(), &pki.leaf(OTHER)).await;
    for stream in [&mut keeper, &mut loser] {
        stream.write_all(b"x").await.unwrap();
        soon("the echo", stream.read_exact(&mut [0])).await.unwrap();
    }
    assert_eq!(sidecar.count(&closed("inbound", "policy")), 0, "not before its time");
    sidecar.eventually_counts(&closed("inbound", "policy"), 1).await;
    is_closed(&mut loser).await;
    keeper.write_all(b"y").await.unwrap();
    soon("the echo", keeper.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn a_websocket_ends_with_the_rule_that_allowed_its_request_while_others_let_its_caller_do_other_things() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address);
    let elsewhere = format!(
        "    - name: elsewhere\n      from: {{identities: [\"{OTHER}\"]}}\n      to: {{paths: [/elsewhere]}}\n"
    );
    let sidecar = plan.policy(&until(soon_over(), &elsewhere)).ready().await;
    let mut http = Http::one(sidecar.inbound(), &pki.leaf(OTHER)).await;
    let mut wire = secured(sidecar.inbound(), &pki.leaf(OTHER)).await;
    assert_eq!(wire.ask(UPGRADE).await.status, 101);
    assert_eq!(soon("the welcome", wire.exactly(7)).await.unwrap(), b"welcome");
    assert_eq!(http.get("/orders").await.status, 200);
    eventually("the next request is denied", async || match http.get("/orders").await.status {
        403 => Ok(()),
        status => Err(status),
    })
    .await;
    sidecar.eventually_counts(&closed("inbound", "policy"), 1).await;
    assert_eq!(soon("the end of the tunnel", wire.rest()).await, b"");
    assert_eq!(sidecar.count(&closed("inbound", "policy")), 1, "the connection of the requests stays");
    assert_eq!(http.get("/elsewhere").await.status, 200);
}

#[tokio::test]
async fn a_websocket_ends_when_another_policy_denies_its_request() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let upgrade = UPGRADE.replace("host:", "x-tenant: gold\r\nhost:");
    let mut wires =
        [secured(sidecar.inbound(), &pki.leaf(CALLER)).await, secured(sidecar.inbound(), &pki.leaf(CALLER)).await];
    for (wire, request) in wires.iter_mut().zip([UPGRADE, &upgrade]) {
        assert_eq!(wire.ask(request).await.status, 101);
        assert_eq!(soon("the welcome", wire.exactly(7)).await.unwrap(), b"welcome");
    }
    let policy = "
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: tenants}
spec:
  allow:
    - name: gold-only
      from: {identities: [\"spiffe://prod.test/**\"]}
      when: {headers: {x-tenant: [gold]}}
";
    sidecar.changing("policy", |sidecar| sidecar.write_policy(policy)).await;
    let [mut loser, mut keeper] = wires;
    assert_eq!(soon("the end of the tunnel", loser.rest()).await, b"");
    keeper.write("still here").await;
    assert_eq!(soon("the echo", keeper.exactly(10)).await.unwrap(), b"still here");
}

/// A stream that goes on for as long as nobody ends it, with what is sent on it and what comes back.
pub async fn stream(http: &mut Http, tenant: &str) -> (mpsc::Sender<Frame<Bytes>>, Incoming) {
    let (sender, body) = flowing();
    let call = call("/test.Echo/Stream").header("x-tenant", tenant);
    let mut answers = soon("the head", http.open(call.body(body))).await.unwrap().into_body();
    is_alive(&sender, &mut answers).await;
    (sender, answers)
}

pub async fn is_alive(sender: &mpsc::Sender<Frame<Bytes>>, answers: &mut Incoming) {
    sender.send(Frame::data(message("still here"))).await.unwrap();
    let frame = soon("the echo", answers.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), message("still here"));
}

#[tokio::test]
async fn streams_and_waiting_requests_end_with_the_rule_that_allowed_them_while_others_let_their_caller_do_other_things()
 {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("auto", backend.address);
    let elsewhere = format!(
        "    - name: elsewhere\n      from: {{identities: [\"{OTHER}\"]}}\n      to: {{paths: [/elsewhere]}}\n"
    );
    let sidecar = plan.policy(&until(soon_over(), &elsewhere)).ready().await;
    let mut loser = Http::two(sidecar.inbound(), &pki.leaf(OTHER)).await;
    let mut keeper = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let (_lost, mut lost_answers) = stream(&mut loser, "gold").await;
    let (kept, mut kept_answers) = stream(&mut keeper, "gold").await;
    let mut waiting =
        [Http::one(sidecar.inbound(), &pki.leaf(OTHER)).await, Http::two(sidecar.inbound(), &pki.leaf(OTHER)).await];
    let [one, two] = &mut waiting;
    let (one, two) = tokio::join!(one.get("/never"), two.get("/never"));
    assert_eq!((one.status, two.status), (403, 403));
    let ended = soon("the end of the stream", lost_answers.frame()).await.expect("an error, and no proper end");
    assert!(ended.is_err());
    sidecar.eventually_counts(&answered("inbound", "no_longer_allowed"), 3).await;
    assert_eq!(loser.get("/elsewhere").await.status, 200, "the connection stays");
    assert_eq!(sidecar.count(&closed("inbound", "policy")), 0);
    is_alive(&kept, &mut kept_answers).await;
}

#[tokio::test]
async fn streams_end_when_another_policy_denies_them() {
    let tenants = |which: &str| {
        format!(
            "
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {{name: tenants}}
spec:
  allow:
    - name: tenants
      from: {{identities: [\"spiffe://prod.test/**\"]}}
      when: {{headers: {{x-tenant: [{which}]}}}}
    - name: elsewhere
      from: {{identities: [\"spiffe://prod.test/**\"]}}
      to: {{paths: [/elsewhere]}}
"
        )
    };
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("grpc", backend.address);
    let sidecar = plan.ready().await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    // Nobody looked at its header fields, so nobody can say what they were.
    let (_forgotten, mut forgotten) = stream(&mut http, "gold").await;
    sidecar.changing("policy", |sidecar| sidecar.write_policy(&tenants("gold, silver"))).await;
    let (gold, mut gold_answers) = stream(&mut http, "gold").await;
    let (_silver, mut silver) = stream(&mut http, "silver").await;
    assert!(soon("the end of the stream", forgotten.frame()).await.expect("an error").is_err());
    sidecar.changing("policy", |sidecar| sidecar.write_policy(&tenants("gold"))).await;
    assert!(soon("the end of the stream", silver.frame()).await.expect("an error").is_err());
    is_alive(&gold, &mut gold_answers).await;
    sidecar.eventually_counts(&answered("inbound", "no_longer_allowed"), 2).await;
}

#[tokio::test]
async fn a_download_over_http1_ends_with_the_rule_that_allowed_it() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address);
    let elsewhere = format!(
        "    - name: elsewhere\n      from: {{identities: [\"{OTHER}\"]}}\n      to: {{paths: [/elsewhere]}}\n"
    );
    let sidecar = plan.policy(&until(soon_over(), &elsewhere)).ready().await;
    let mut http = Http::one(sidecar.inbound(), &pki.leaf(OTHER)).await;
    let (sender, body) = flowing();
    let mut answers = soon("the head", http.open(Ask::new("POST", "/echo").body(body))).await.unwrap().into_body();
    is_alive(&sender, &mut answers).await;
    let ended = soon("the end of the download", answers.frame()).await.expect("an error, and no proper end");
    assert!(ended.is_err());
}
