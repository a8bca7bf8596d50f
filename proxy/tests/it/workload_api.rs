//! A sidecar that lives from a Workload API: no file of identity or trust anywhere.

use portcullis::ca::{KeyEncoding, Leaf, LeafOptions};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::agent::{Agent, Play};
use crate::backend::{Backend, Raw};
use crate::client::{is_closed, is_served, opaque};
use crate::eventually::{eventually, soon};
use crate::pki::{API, CALLER, DOMAIN, Pki};
use crate::sidecar::{Plan, Sidecar};

/// A message with one SVID and these roots.
fn message(leaf: &Leaf, roots: &[&Pki]) -> Vec<u8> {
    let chain: Vec<u8> = leaf.chain.der().iter().flat_map(|der| der.to_vec()).collect();
    let bundle: Vec<u8> = roots
        .iter()
        .flat_map(|pki| CertificateDer::from_pem_slice(pki.bundle().as_bytes()).unwrap().to_vec())
        .collect();
    let svid = [field(1, API.as_bytes()), field(2, &chain), field(3, leaf.key().secret_der()), field(4, &bundle)];
    field(1, &svid.concat())
}

/// A length-delimited field of protobuf.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend(content);
    bytes
}

/// A leaf as an agent has it: with its key in PKCS#8.
fn leaf(pki: &Pki) -> Leaf {
    let options = LeafOptions { key_encoding: KeyEncoding::Pkcs8, ..LeafOptions::default() };
    pki.intermediate.issue(&API.parse().unwrap(), &options).unwrap()
}

async fn is_not_ready(sidecar: &Sidecar, words: &str) {
    eventually(words, async || {
        let ready = sidecar.health("/readyz").await;
        if ready.status == 503 && ready.text().contains(words) { Ok(()) } else { Err(ready.text().to_owned()) }
    })
    .await;
}

#[tokio::test]
async fn identity_and_trust_follow_the_workload_api() {
    let (old, new) = (Pki::new(), Pki::new());
    let (backend, raw) = (Backend::start().await, Raw::echo().await);
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::on_unix(&folder.path().join("agent.sock"), Play::Nothing);
    let plan = Plan::without_files(&[DOMAIN]).workload_api(&agent.endpoint).policy(crate::sidecar::OPEN);
    let sidecar = plan.inbound("http", backend.address).inbound("tcp", raw.address).start();
    is_not_ready(&sidecar, "trust bundle of `prod.test`").await;

    agent.play(Play::Deliver(message(&leaf(&old), &[&old, &new])));
    sidecar.eventually_ready().await;
    let tcp = sidecar.running().addresses().inbound[1];
    let (mut of_old, mut of_new) = (opaque(tcp, &old.leaf(CALLER)).await, opaque(tcp, &new.leaf(CALLER)).await);
    for stream in [&mut of_old, &mut of_new] {
        stream.write_all(b"x").await.unwrap();
        soon("the echo", stream.read_exact(&mut [0])).await.unwrap();
    }

    // A renewed SVID closes nothing; a root that is gone closes what hung on it.
    let renewed = leaf(&new);
    let renew = |_: &Sidecar| agent.play(Play::Deliver(message(&renewed, &[&old, &new])));
    sidecar.changing("identity", renew).await;
    assert_eq!(sidecar.admin("/identity").await["certificate"]["serial"], renewed.chain.serial.to_string());
    let exchange = |_: &Sidecar| agent.play(Play::Deliver(message(&renewed, &[&new])));
    sidecar.changing("trust", exchange).await;
    is_closed(&mut of_old).await;
    of_new.write_all(b"x").await.unwrap();
    soon("the echo", of_new.read_exact(&mut [0])).await.unwrap();
    assert!(is_served(sidecar.inbound(), &old.leaf(CALLER)).await.is_err());

    // An agent that hangs up takes nothing away; one that says that there is no identity is told of.
    agent.play(Play::HangUp);
    let calls = agent.connections();
    eventually("it calls again", async || if agent.connections() > calls { Ok(()) } else { Err("not yet") }).await;
    is_served(sidecar.inbound(), &new.leaf(CALLER)).await.unwrap();
    agent.play(Play::Refuse(7, "no identity issued"));
    let problems = async || sidecar.admin("/identity").await["problems"].clone();
    eventually("an alarm", async || match problems().await {
        problems if problems[0]["label"] == "identity_withdrawn" && problems[0]["severity"] == "alarm" => Ok(()),
        problems => Err(problems),
    })
    .await;
    agent.play(Play::Deliver(message(&leaf(&new), &[&new])));
    eventually("the end of the alarm", async || match problems().await {
        problems if problems == serde_json::json!([]) => Ok(()),
        problems => Err(problems),
    })
    .await;
    is_served(sidecar.inbound(), &new.leaf(CALLER)).await.unwrap();
}
