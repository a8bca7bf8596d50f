//! How a sidecar starts: with what it needs, without it, and with what it must not take.

use std::fs;

use portcullis::ca::{KeyEncoding, LeafOptions, Usage};
use tokio::net::TcpListener;

use crate::backend::Backend;
use crate::client::is_served;
use crate::pki::{API, CALLER, DOMAIN, Pki, write_volume};
use crate::sidecar::{OPEN, Plan};

#[tokio::test]
async fn keys_load_in_every_encoding_that_issuers_write() {
    let pki = Pki::new();
    for key_encoding in [KeyEncoding::Sec1, KeyEncoding::Pkcs8] {
        let backend = Backend::start().await;
        let leaf = pki.odd_leaf(&[API], &LeafOptions { key_encoding, ..LeafOptions::default() });
        let sidecar = Plan::new(&pki, API).leaf(&leaf).inbound("http", backend.address).ready().await;
        is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_wrong_with_our_own_identity_is_said_in_words() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let server_only = LeafOptions { usages: vec![Usage::Server], ..LeafOptions::default() };
    let server_only = pki.odd_leaf(&[API], &server_only);
    let good = pki.leaf(API);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (certificate, key, words) in [
        (server_only.chain.pem(), server_only.key_pem(), "usages: [digital signature, server auth, client auth]"),
        (good.chain.pem(), encrypted, "encrypted"),
    ] {
        let plan = Plan::new(&pki, API).inbound("http", backend.address);
        write_volume(&plan.path("identity"), &[("tls.crt", certificate.as_str()), ("tls.key", key)]);
        let sidecar = plan.start();
        let ready = sidecar.health("/readyz").await;
        assert_eq!(ready.status, 503);
        assert!(ready.text().contains(words), "{}", ready.text());
        assert!(is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.is_err());
        sidecar.changing("identity", |sidecar| sidecar.write_leaf(&good)).await;
        is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.unwrap();
    }
}

#[tokio::test]
async fn a_sidecar_without_files_lives_refuses_and_takes_up_work_when_they_come() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::without_files(&[DOMAIN]).inbound("http", backend.address).start();
    assert_eq!(sidecar.health("/livez").await.status, 200);
    let ready = sidecar.health("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains(DOMAIN) && ready.text().contains("policy"), "{}", ready.text());
    assert!(is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.is_err());
    sidecar.write_policy(OPEN);
    sidecar.write_leaf(&pki.leaf(API));
    sidecar.write_bundle(DOMAIN, &[pki.bundle()]);
    sidecar.eventually_ready().await;
    is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.unwrap();
}

#[tokio::test]
async fn an_empty_bundle_is_a_broken_file() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address);
    let bundle = plan.path("trust").join(DOMAIN);
    write_volume(&bundle, &[("roots.pem", "")]);
    let sidecar = plan.start();
    assert_eq!(sidecar.health("/readyz").await.status, 503);
    sidecar.changing("trust", |sidecar| sidecar.write_bundle(DOMAIN, &[pki.bundle()])).await;
    sidecar.eventually_ready().await;
    write_volume(&bundle, &[("roots.pem", "")]);
    sidecar.eventually_counts("portcullis_reload_total{kind=\"trust\",result=\"refused\",reason=\"empty\"}", 1).await;
    is_served(sidecar.inbound(), &pki.leaf(CALLER)).await.unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_found_and_named() {
    let pki = Pki::new();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let plan =
        Plan::new(&pki, CALLER).outbound("http", address, &[API]).more(&format!("admin: {{listen: \"{address}\"}}"));
    let error = plan.try_start().err().expect("the address is in use");
    let text = error.to_string();
    assert!(text.contains("`admin`") && text.contains(&address.to_string()) && text.contains("in use"), "{text}");
    // Nor does a second sidecar get to share the port of the first.
    let backend = Backend::start().await;
    let first = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let admin = first.running().addresses().admin;
    let second =
        Plan::new(&pki, CALLER).outbound("http", address, &[API]).more(&format!("admin: {{listen: \"{admin}\"}}"));
    assert!(second.try_start().is_err());
}

#[tokio::test]
async fn a_key_never_shows_up_in_what_the_sidecar_says() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let leaf = pki.leaf(API);
    let sidecar = Plan::new(&pki, API).leaf(&leaf).inbound("http", backend.address).ready().await;
    let secret: String = leaf.key_pem().lines().nth(1).unwrap().to_owned();
    for page in ["/config", "/identity", "/trust", "/policy", "/connections", "/ready"] {
        let shown = sidecar.admin(page).await.to_string();
        assert!(!shown.contains(&secret) && !shown.contains("PRIVATE KEY"), "{page}");
    }
    assert!(!sidecar.running().metrics().contains(&secret));
    assert!(fs::read_to_string(sidecar.path("identity").join("tls.key")).unwrap().contains(&secret));
}
