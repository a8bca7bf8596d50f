//! What the application sees of a request, and the caller of an answer.

use portcullis::http::headers::FORWARDED_CLIENT_CERT;

use crate::backend::Backend;
use crate::client::{Ask, Http};
use crate::frames::{END_HEADERS, END_STREAM, HEADERS, frame};
use crate::outbound::Pair;
use crate::pki::{API, CALLER, Pki};
use crate::rows::{BOTH, End, Outcome, Stage, Way, request_block};
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

/// Sends header fields in both versions: each of them in a line, or as a field of HTTP/2, whose names are small.
async fn both(stage: &Stage, fields: &[(&str, &str)]) -> [Outcome; 2] {
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let one = stage.http1(format!("GET / HTTP/1.1\r\nhost: eligibility.test\r\n{lines}\r\n")).await;
    let small: Vec<_> = fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
    let small: Vec<_> = small.iter().map(|(name, value)| (&**name, *value)).collect();
    let block = request_block("GET", "/", &small);
    let two = stage.http2(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)]).await;
    [one, two]
}

/// The values that the application heard under a name.
fn values<'a>(outcome: &'a Outcome, name: &str) -> Vec<&'a str> {
    assert_eq!((outcome.end, outcome.heard.len()), (End::Answered(200), 1), "{outcome:?}");
    let fields = outcome.heard[0].split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
    fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn no_spelling_of_an_identity_passes_and_users_do() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let forged = [
            "X-Forwarded-Client-Cert",
            "x_forwarded_client_cert",
            "x-forwarded_client-cert",
            "X-Forwarded-Tls-Client-Cert-Info",
            "Client-Cert",
            "client_cert_chain",
            "ssl-client-subject-dn",
            "SSL_CLIENT_VERIFY",
            "X-SSL-Client-CN",
            "x-spiffe-id",
            "l5d-client-id",
            "x-portcullis-caller",
        ];
        let fields: Vec<_> = forged.iter().chain(&forged).map(|name| (*name, "URI=spiffe://prod.test/root")).collect();
        let passing = [("x-remote-user", "eve"), ("x-auth-request-user", "eve"), ("x-forwarded-for", "10.0.0.1")];
        for outcome in both(&stage, &[&fields[..], &passing].concat()).await {
            for name in forged.iter().filter(|name| !name.eq_ignore_ascii_case("x-forwarded-client-cert")) {
                assert_eq!(values(&outcome, name), [""; 0], "{way:?} {name}");
            }
            let told = values(&outcome, "x-forwarded-client-cert");
            match way {
                Way::Inbound => {
                    let [told] = told[..] else { panic!("{told:?}") };
                    let hash = told.strip_prefix(&format!("By={API};Hash=")).unwrap();
                    let hash = hash.strip_suffix(&format!(";URI={CALLER}")).unwrap();
                    assert!(hash.len() == 64 && hash.bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "{told}");
                }
                Way::Outbound => assert_eq!(told, [""; 0]),
            }
            for (name, value) in passing {
                assert_eq!(values(&outcome, name), [value], "{way:?} {name}");
            }
        }
    }
}

#[tokio::test]
async fn connection_removes_what_it_lists_and_neither_ours_nor_the_host() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let listed = "X-Mine, close, host,x-forwarded-client-cert , traceparent,, x-request-id, content-length, b@d";
        let row = format!(
            "POST / HTTP/1.1\r\nhost: eligibility.test\r\nConnection: {listed}\r\nconnection: cookie\r\nx-mine: 1\r\ncookie: a=b\r\n\
             x-request-id: r-1\r\ntraceparent: {TRACE}\r\nkeep-alive: timeout=5\r\nproxy-connection: close\r\n\
             te: gzip, trailers\r\ncontent-length: 2\r\n\r\nhi"
        );
        let outcome = stage.http1(row).await;
        for name in ["x-mine", "cookie", "connection", "keep-alive", "proxy-connection"] {
            assert_eq!(values(&outcome, name), [""; 0], "{way:?} {name}");
        }
        assert_eq!(values(&outcome, "host"), ["eligibility.test"]);
        assert_eq!((values(&outcome, "x-request-id"), values(&outcome, "content-length")), (vec!["r-1"], vec!["2"]));
        assert_eq!(values(&outcome, "traceparent"), [TRACE]);
        assert_eq!(values(&outcome, "x-forwarded-client-cert").len(), usize::from(way == Way::Inbound));
        assert!(outcome.heard[0].ends_with("\r\n\r\nhi") && !outcome.is_open, "{way:?}");
    }
}

#[tokio::test]
async fn request_ids_and_traces_that_are_not_fit_are_made_anew() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let (long, other) = ("x".repeat(129), TRACE.replace("-00f0", "-11f0"));
        for ids in [&["a b"][..], &["a\tb"], &[&long], &["r-1", "r-2"], &["r-1", "r-1"]] {
            let fields: Vec<_> = ids.iter().map(|id| ("x-request-id", *id)).collect();
            for outcome in both(&stage, &fields).await {
                let [made] = values(&outcome, "x-request-id")[..] else { panic!("{outcome:?}") };
                assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{ids:?}: {made}");
            }
        }
        let known = &TRACE[3..35];
        for traces in [&["00-1"][..], &["ff-"], &[TRACE, TRACE], &[TRACE, &other]] {
            let fields: Vec<_> = traces.iter().map(|trace| ("traceparent", *trace)).collect();
            for outcome in both(&stage, &fields).await {
                let [made] = values(&outcome, "traceparent")[..] else { panic!("{outcome:?}") };
                assert!(made.len() == 55 && !made.contains(known), "{traces:?}: {made}");
            }
        }
        for outcome in both(&stage, &[]).await {
            assert_eq!((values(&outcome, "via"), values(&outcome, "server")), (vec![], vec![]));
        }
    }
}

/// One value is allowed; another, and the two joined, are denied.
const REPEATED: &str = r#"
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: repeated}
spec:
  allow:
    - name: gold
      from: {identities: ["spiffe://prod.test/**"]}
      when: {headers: {x-tenant: [gold, silver, bad]}}
    - name: the-request-that-ends-each-row
      from: {identities: ["spiffe://prod.test/**"]}
      to: {paths: ["/last"]}
  deny:
    - name: bad
      when: {headers: {x-tenant: [bad, "gold,silver"]}}
"#;

#[tokio::test]
async fn a_repeated_value_denies_if_any_does_and_allows_if_all_do() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let stage = Stage::planned(Way::Inbound, answer, |plan| plan.policy(REPEATED)).await;
    for (tenants, status) in [
        (&["gold"][..], 200),
        (&["gold", "gold"], 200),
        (&["silver", "gold"], 200),
        (&["gold", "silver"], 403),
        (&["gold,silver"], 403),
        (&["gold", "lead"], 403),
        (&["lead", "gold"], 403),
        (&["gold", "bad"], 403),
        (&["bad", "gold"], 403),
        (&[], 403),
    ] {
        let fields: Vec<_> = tenants.iter().map(|tenant| ("x-tenant", *tenant)).collect();
        for outcome in both(&stage, &fields).await {
            assert_eq!(outcome.end, End::Answered(status), "{tenants:?}");
        }
    }
    let listed = "GET / HTTP/1.1\r\nhost: a\r\nconnection: x-tenant\r\nx-tenant: gold\r\n\r\n";
    assert_eq!(stage.http1(listed).await.end, End::Answered(403), "what is removed is not decided on");
}
