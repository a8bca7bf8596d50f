//! What the application sees of a request, and the caller of an answer.

use portcullis::http::headers::FORWARDED_CLIENT_CERT;

use crate::backend::Backend;
use crate::client::{Ask, Http};
use crate::outbound::Pair;
use crate::pki::{API, CALLER, Pki};
use crate::rows::{End, Stage, Way};
use crate::sidecar::Plan;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

#[tokio::test]
async fn the_application_learns_who_called_from_nobody_but_the_sidecar() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let forged = format!("By={API};URI=spiffe://prod.test/ns/ops/sa/root");
    for version in [1, 2] {
        let leaf = pki.leaf(CALLER);
        let mut http = match version {
            1 => Http::one(sidecar.inbound(), &leaf).await,
            _ => Http::two(sidecar.inbound(), &leaf).await,
        };
        let ask = Ask::get("/")
            .header("x-forwarded-client-cert", &forged)
            .header("x_forwarded_client_cert", &forged)
            .header("client-cert", ":AAAA:")
            .header("x-forwarded-for", "10.0.0.1");
        assert_eq!(http.send(ask).await.status, 200);
        let seen = backend.last();
        let forwarded = seen.header(FORWARDED_CLIENT_CERT.as_str()).unwrap();
        let parts: Vec<_> = forwarded.split(';').collect();
        assert_eq!((parts[0], parts[2]), (&*format!("By={API}"), &*format!("URI={CALLER}")));
        assert_eq!(parts[1].strip_prefix("Hash=").unwrap().len(), 64, "{forwarded}");
        assert_eq!((seen.header("x_forwarded_client_cert"), seen.header("client-cert")), (None, None));
        assert_eq!(seen.header("x-forwarded-for"), Some("10.0.0.1"));
    }
}

#[tokio::test]
async fn hop_by_hop_fields_end_here_in_both_directions() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let mut http = Http::one(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let ask = Ask::get("/hop")
        .header("connection", "x-mine, keep-alive")
        .header("x-mine", "1")
        .header("keep-alive", "timeout=1")
        .header("te", "gzip");
    let answer = http.send(ask).await;
    let seen = backend.last();
    for name in ["x-mine", "keep-alive", "te", "connection", "proxy-connection"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    for name in ["x-hop", "keep-alive", "connection"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn ids_are_carried_or_made_and_go_through_both_sidecars() {
    let backend = Backend::start().await;
    let pair = Pair::new("http", "http", backend.address).await;
    let mut http = Http::plain_one(pair.near.outbound()).await;
    let ask = Ask::get("/").header("x-request-id", "mine-1").header("traceparent", TRACE);
    assert_eq!(http.send(ask).await.status, 200);
    let seen = backend.last();
    assert_eq!((seen.header("x-request-id"), seen.header("traceparent")), (Some("mine-1"), Some(TRACE)));
    assert_eq!(http.get("/").await.status, 200);
    let made = backend.last();
    assert_eq!(made.header("x-request-id").unwrap().len(), 32);
    assert!(made.header("traceparent").unwrap().starts_with("00-"));
    assert_eq!(made.header("host"), Some("eligibility.test"), "the host is the caller's");
}

#[tokio::test]
async fn cookie_crumbs_are_one_field_for_an_http_1_1_application() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let ask = Ask::get("/").header("cookie", "a=1").header("cookie", "b=2");
    assert_eq!(http.send(ask).await.status, 200);
    assert_eq!(backend.last().header("cookie"), Some("a=1; b=2"));
}

#[tokio::test]
async fn connections_to_the_application_are_used_again() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).more("workers: 1").ready().await;
    let mut http = Http::two(sidecar.inbound(), &pki.leaf(CALLER)).await;
    for _ in 0..50 {
        assert_eq!(http.get("/").await.status, 200);
    }
    assert_eq!(backend.connections(), 1);
    assert!(backend.seen().iter().all(|seen| seen.connection == 1));
}

/// CVE-2019-18802 and CVE-2026-73552: space around a value, or bytes that are no text, took rules in.
#[tokio::test]
async fn a_value_is_decided_on_in_its_bytes_and_without_the_space_around_it() {
    const POLICY: &str = "
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: values}
spec:
  allow: [{name: all}]
  deny:
    - {name: admins, when: {headers: {x-role: ['admin*']}}}
    - {name: strangers, to: {paths: [/tenant]}, when: {notHeaders: {x-tenant: ['good*']}}}
";
    let stage =
        Stage::planned(Way::Inbound, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", |plan| plan.policy(POLICY))
            .await;
    let rows: &[(&str, &[u8], u16)] = &[
        ("/a", b"x-role: user", 200),
        ("/a", b"x-role: admin", 403),
        ("/a", b"x-role:admin", 403),
        ("/a", b"x-role: \t admin\t ", 403),
        ("/a", b"x-role: admin\xff", 403),
        ("/tenant", b"x-tenant: good", 200),
        ("/tenant", b"x-tenant: \tgood \t", 200),
        ("/tenant", b"x-tenant: \xffgood", 403),
        ("/tenant", b"x-tenant: \xc3\x28", 403),
    ];
    for (path, field, status) in rows {
        let head = format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n");
        let outcome = stage.http1([head.as_bytes(), field, b"\r\n\r\n"].concat()).await;
        assert_eq!(outcome.end, End::Answered(*status), "{}", field.escape_ascii());
    }
}
