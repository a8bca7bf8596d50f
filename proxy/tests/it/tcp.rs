//! Opaque TCP inbound: bytes both ways, half-close kept in both directions, decided once.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{Raw, nobody};
use crate::client::{is_closed, opaque};
use crate::eventually::soon;
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{Plan, closed};

/// The caller may connect to everything, other workloads may not.
pub const CALLER_ONLY: &str = r#"
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: one-caller}
spec:
  allow:
    - name: caller-only
      from: {identities: ["spiffe://prod.test/ns/claims/sa/adjudicator"]}
"#;

#[tokio::test]
async fn a_caller_that_closes_its_half_still_gets_the_answer() {
    let pki = Pki::new();
    let application = Raw::start(|mut stream| async move {
        let mut asked = String::new();
        stream.read_to_string(&mut asked).await.unwrap();
        stream.write_all(format!("answer to {asked}").as_bytes()).await.unwrap();
    })
    .await;
    let sidecar = Plan::new(&pki, API).inbound("tcp", application.address).ready().await;
    let mut stream = opaque(sidecar.inbound(), &pki.leaf(CALLER)).await;
    stream.write_all(b"question").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "answer to question");
}

#[tokio::test]
async fn an_application_that_closes_its_half_still_hears_the_caller() {
    let pki = Pki::new();
    let (heard, mut hearing) = tokio::sync::mpsc::channel(1);
    let application = Raw::start(move |mut stream| {
        let heard = heard.clone();
        async move {
            stream.write_all(b"greeting").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            heard.send(said).await.unwrap();
        }
    })
    .await;
    let sidecar = Plan::new(&pki, API).inbound("tcp", application.address).ready().await;
    let mut stream = opaque(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let mut greeting = String::new();
    soon("the greeting and its end", stream.read_to_string(&mut greeting)).await.unwrap();
    assert_eq!(greeting, "greeting");
    stream.write_all(b"after the end").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(soon("what was said", hearing.recv()).await.unwrap(), "after the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_bytes_pass_both_ways_at_once() {
    const BYTES: usize = 8 << 20;
    let pki = Pki::new();
    let application = Raw::echo().await;
    let sidecar = Plan::new(&pki, API).inbound("tcp", application.address).ready().await;
    let stream = opaque(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let sent: Vec<u8> = (0..BYTES).map(|number| (number % 251) as u8).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        write.write_all(&copy).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::with_capacity(BYTES);
    soon("all bytes", read.read_to_end(&mut got)).await.unwrap();
    writing.await.unwrap();
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
}

#[tokio::test]
async fn a_denied_caller_is_closed_and_the_application_never_hears_of_it() {
    let pki = Pki::new();
    let application = Raw::echo().await;
    let sidecar = Plan::new(&pki, API).policy(CALLER_ONLY).inbound("tcp", application.address).ready().await;
    let mut denied = opaque(sidecar.inbound(), &pki.leaf(OTHER)).await;
    denied.write_all(b"let me in").await.unwrap();
    is_closed(&mut denied).await;
    assert_eq!(application.accepted(), 0);
    assert_eq!(sidecar.count(&closed("inbound", "policy")), 1);

    let mut allowed = opaque(sidecar.inbound(), &pki.leaf(CALLER)).await;
    allowed.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    soon("the echo", allowed.read_exact(&mut echoed)).await.unwrap();
    assert_eq!(&echoed, b"hello");
    assert_eq!(application.accepted(), 1);
}

#[tokio::test]
async fn an_application_that_is_not_there_closes_the_connection() {
    let pki = Pki::new();
    let sidecar = Plan::new(&pki, API).inbound("tcp", nobody().await).ready().await;
    let mut stream = opaque(sidecar.inbound(), &pki.leaf(CALLER)).await;
    is_closed(&mut stream).await;
}
