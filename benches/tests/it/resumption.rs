//! `handshakes --resumed`: counts only what was resumed, and says so when nothing can be.

use std::fs;
use std::net::TcpListener as StdListener;
use std::sync::Arc;

use portcullis_certs_watcher::pem;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::bench::{good, refused};
use crate::stage::{CALLER, Pki, SERVICE, Stage};

/// A server of HTTP with client certificates, as rustls makes it: it gives out tickets. Runs until the test process ends.
fn ticketing(dir: &TempDir) -> String {
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(pem::certificates(&read("root.crt")).unwrap()[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            pem::certificates(&read("service/tls.crt")).unwrap(),
            pem::private_key(&read("service/tls.key")).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        if stream.write_all(answer).await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
    format!("https://{address}/")
}

#[test]
fn sessions_are_resumed_where_they_are_offered() {
    let dir = TempDir::new().unwrap();
    let pki = Pki::make(&dir);
    pki.write(CALLER, &dir, "caller");
    pki.write(SERVICE, &dir, "service");
    let target = ticketing(&dir);
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (identity, ca) = (at("caller"), at("root.crt"));
    let base = ["handshakes", "--target", &target, "--identity", &identity, "--ca", &ca, "--expect", SERVICE];
    let short = ["--duration", "500ms", "--warm-up", "50ms", "--connections", "3"];
    let resumed = good(&[&base[..], &short, &["--resumed"]].concat());
    assert_eq!(resumed.counts["resumed"], resumed.operations);
    let full = good(&[&base[..], &short].concat());
    assert_eq!(full.counts["full"], full.operations);
}

#[test]
fn a_target_without_sessions_is_told_apart() {
    let stage = Stage::set();
    let options = stage.arguments(&format!("https://{}/", stage.http));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let said = refused(&[&["handshakes", "--resumed"], options.as_slice()].concat());
    assert!(said.contains("the target offers no session resumption"), "{said}");
}
