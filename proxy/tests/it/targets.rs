//! Request targets, row by row: what is decided on is what arrives, in every form and spelling (RFC 9112 section 3.2,
//! RFC 9113 section 8.3.1, RFC 3986).

use crate::frames::{END_HEADERS, END_STREAM, HEADERS, block, frame};
use crate::rows::{BOTH, End, Outcome, Stage, Way};
use crate::sidecar::{Plan, answered};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Everything is allowed but what lies below `/admin`, and one host.
const POLICY: &str = r#"
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: rows}
spec:
  allow:
    - name: everyone
      from: {identities: ["spiffe://prod.test/**"]}
  deny:
    - name: no-admin
      to: {paths: ["/admin", "/admin/**"]}
    - name: no-such-host
      to: {hosts: ["closed.test", "[2001:db8::1]"]}
"#;

async fn stage(way: Way) -> Stage {
    Stage::planned(way, OK, |plan: Plan| plan.policy(POLICY)).await
}

/// Sends a target over HTTP/1.1, with this method and these header lines.
async fn one(stage: &Stage, method: &str, target: &[u8], lines: &str) -> Outcome {
    stage.http1([method.as_bytes(), b" ", target, b" HTTP/1.1\r\n", lines.as_bytes(), b"\r\n"].concat()).await
}

/// Sends a target over HTTP/2, with this method and authority.
async fn two(stage: &Stage, method: &str, target: &[u8], fields: &[(&str, &str)]) -> Outcome {
    let pseudo: [(&str, &[u8]); 3] = [(":method", method.as_bytes()), (":scheme", b"https"), (":path", target)];
    let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
    let block = block(&pseudo.into_iter().chain(fields).collect::<Vec<_>>());
    stage.http2(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)]).await
}

/// The target that the application heard; `Err` with how it ended when it heard none.
fn arrived(outcome: &Outcome) -> Result<&str, End> {
    match (&outcome.heard[..], outcome.end) {
        ([], end) => Err(end),
        ([heard], End::Answered(200)) => Ok(heard.split(' ').nth(1).unwrap()),
        other => panic!("heard and refused, or heard twice: {other:?}"),
    }
}

/// The host that the application heard.
fn host(outcome: &Outcome) -> Result<&str, End> {
    arrived(outcome)?;
    let hosts: Vec<&str> = outcome.heard[0].split("\r\n").filter_map(|line| line.strip_prefix("host: ")).collect();
    let [host] = hosts[..] else { panic!("{} Host fields: {}", hosts.len(), outcome.heard[0]) };
    Ok(host)
}

const HOST: &str = "host: eligibility.test\r\n";
const AUTHORITY: (&str, &str) = (":authority", "eligibility.test");

/// Checks a target in both versions, in origin-form and, over HTTP/1.1, in absolute-form.
async fn check(stage: &Stage, target: &[u8], expected: Result<&str, u16>) {
    let told = || format!("{:?} {}", stage.way, target.escape_ascii());
    let expected = expected.map_err(End::Answered);
    let absolute = [b"http://eligibility.test", target].concat();
    assert_eq!(arrived(&one(stage, "GET", target, HOST).await), expected, "{}", told());
    assert_eq!(arrived(&one(stage, "GET", &absolute, HOST).await), expected, "absolute: {}", told());
    assert_eq!(arrived(&two(stage, "GET", target, &[AUTHORITY]).await), expected, "HTTP/2: {}", told());
}

#[tokio::test]
async fn inbound_has_one_normal_form() {
    let stage = stage(Way::Inbound).await;
    let rows: &[(&str, &str)] = &[
        ("/", "/"),
        ("/a", "/a"),
        ("/%61%2D%2e%5F%7ea", "/a-._~a"),
        ("/%c3%a9%3a%40", "/%C3%A9%3A%40"),
        ("/a\"^{|}", "/a%22%5E%7B%7C%7D"),
        ("/./a/../b/.", "/b/"),
        ("/%2e%2E/a", "/a"),
        ("/../../a", "/a"),
        ("//a///b//", "/a/b/"),
        ("//elsewhere.test/a", "/elsewhere.test/a"),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/a%3bv/%23/%3f/%2561", "/a%3Bv/%23/%3F/%2561"),
    ];
    for (target, normal) in rows {
        check(&stage, target.as_bytes(), Ok(normal)).await;
    }
}

#[tokio::test]
async fn inbound_refuses_what_has_no_one_meaning_whatever_the_policy_says() {
    let stage = stage(Way::Inbound).await;
    for (target, reason) in [
        ("/a%2fb", "encoded_slash"),
        ("/a%2Fb", "encoded_slash"),
        ("/a%5cb", "backslash"),
        ("/a\\b", "backslash"),
        ("/a%00", "control_character"),
        ("/a%0d%0ab", "control_character"),
        ("/a%7f", "control_character"),
        ("/a%c2%85", "control_character"),
        ("/\u{e9}", "unescaped_character"),
        ("/%", "bad_escape"),
        ("/%2", "bad_escape"),
        ("/%zz", "bad_escape"),
        ("/%u002e", "bad_escape"),
        ("/%ff", "not_utf8"),
        ("/%c0%ae", "not_utf8"),
        ("/%ed%a0%80", "not_utf8"),
    ] {
        let before = stage.sidecar.count(&answered("inbound", reason));
        check(&stage, target.as_bytes(), Err(400)).await;
        assert_eq!(stage.sidecar.count(&answered("inbound", reason)), before + 3, "{target}: {reason}");
    }
}

#[tokio::test]
async fn what_a_rule_denies_is_denied_in_every_spelling() {
    let stage = stage(Way::Inbound).await;
    for target in [
        "/admin",
        "/admin?",
        "/admin/x?a=/open",
        "//admin",
        "///admin//x",
        "/./admin",
        "/a/../admin",
        "/a/%2e%2e/admin",
        "/..//admin",
        "/%61dmin",
        "/%61%64%6d%69%6E/",
        "/admin;x",
        "/;x/admin",
        "/admin%3bx",
        "/a/..;/admin",
        "/%2561dmin",
        "/%252e/admin",
        "/a%252f..%252fadmin",
        "/admin%23",
        "/admin%3fx",
        "/admin%3Fx=/open",
        "/a/%252e%252e/admin",
    ] {
        check(&stage, target.as_bytes(), Err(403)).await;
    }
}

#[tokio::test]
async fn the_query_is_neither_decided_on_nor_changed() {
    for way in BOTH {
        let stage = stage(way).await;
        for query in [
            "?",
            "??",
            "?a=%2f..//;",
            "?a=/../admin",
            "?%00%5c%zz%",
            "?%2F%2e%7e%c3%A9",
            "?a=b?c=d&&=",
            "?a\\b",
            "?{}|^`",
            "?//;@:[]",
            "?\u{e9}",
        ] {
            let target = format!("/a{query}");
            check(&stage, target.as_bytes(), Ok(&target)).await;
        }
    }
}

#[tokio::test]
async fn outbound_passes_a_target_on_unchanged() {
    let stage = stage(Way::Outbound).await;
    for target in [
        "/",
        "//admin",
        "//elsewhere.test/a",
        "/./a/../b//c/",
        "/%61%2f%5C%00%zz%",
        "/a;b=c/d,e",
        "/a\"{}|^\\",
        "/%c3%A9",
    ] {
        check(&stage, target.as_bytes(), Ok(target)).await;
    }
}

#[tokio::test]
async fn the_form_of_the_target_fits_the_method() {
    for way in BOTH {
        let stage = stage(way).await;
        // Inbound has no path to decide on for the asterisk.
        let star = if way == Way::Outbound { Ok("*") } else { Err(End::Answered(400)) };
        assert_eq!(arrived(&one(&stage, "OPTIONS", b"*", HOST).await), star, "{way:?}");
        assert_eq!(arrived(&two(&stage, "OPTIONS", b"*", &[AUTHORITY]).await), star, "{way:?}");
        for (method, target, expected) in [
            ("GET", "*", Err(400)),
            ("GET", "a", Err(400)),
            ("GET", "eligibility.test", Err(400)),
            ("GET", "eligibility.test:80", Err(400)),
            ("GET", "?a", Err(400)),
            ("GET", "http://eligibility.test", Ok("/")),
            ("GET", "http://eligibility.test/", Ok("/")),
            ("GET", "HTTP://ELIGIBILITY.test/a", Ok("/a")),
            ("GET", "https://eligibility.test/a?b", Ok("/a?b")),
            ("GET", "ftp://eligibility.test/a", Err(400)),
            ("GET", "http://eligibility.test?a", Err(400)),
            ("OPTIONS", "http://eligibility.test", Ok("/")),
            ("GET", "http:/a", Err(400)),
            ("GET", "http:///a", Err(400)),
            ("GET", "http://", Err(400)),
            ("GET", "://eligibility.test/a", Err(400)),
            ("GET", "file:a", Err(400)),
        ] {
            let found = one(&stage, method, target.as_bytes(), HOST).await;
            assert_eq!(arrived(&found), expected.map_err(End::Answered), "{way:?} {method} {target}");
        }
    }
}

#[tokio::test]
async fn the_application_never_receives_a_fragment_or_what_ends_a_line() {
    for way in BOTH {
        let stage = stage(way).await;
        for target in ["/a#b", "/a?b#c", "/a#/../admin"] {
            let kept = target.split('#').next().unwrap();
            for outcome in [
                one(&stage, "GET", target.as_bytes(), HOST).await,
                two(&stage, "GET", target.as_bytes(), &[AUTHORITY]).await,
            ] {
                assert_eq!(arrived(&outcome), Ok(kept), "{way:?} {target}");
            }
        }
        for target in [&b"/a b"[..], b"/a\tb", b"/a\rb", b"/a\nb", b"/a\0b", b"/a\x7fb", b"/a\xff", b"/a?b c", b"/a?\0"]
        {
            let (one, two) = (one(&stage, "GET", target, HOST).await, two(&stage, "GET", target, &[AUTHORITY]).await);
            for outcome in [one, two] {
                assert!(arrived(&outcome).is_err(), "{way:?} {}: {outcome:?}", target.escape_ascii());
            }
        }
    }
}

#[tokio::test]
async fn the_places_that_name_a_host_agree_or_it_is_400() {
    for way in BOTH {
        let stage = stage(way).await;
        for (target, lines, expected) in [
            ("/", "host: A.test:8443\r\n", Ok("A.test:8443")),
            ("/", "host: a.test.\r\n", Ok("a.test.")),
            ("/", "host:\t a.test \t\r\n", Ok("a.test")),
            ("/", "host: [::1]:0\r\n", Ok("[::1]:0")),
            ("/", "host: a.test:65535\r\n", Ok("a.test:65535")),
            ("/", "host: a.test:\r\n", Ok("a.test:")),
            ("http://a.test/", "host: A.TEST\r\n", Ok("a.test")),
            ("http://a.test:81/", "host: a.test:81\r\n", Ok("a.test:81")),
            ("http://a.test:81/", "host: a.test:82\r\n", Err(400)),
            ("http://a.test:80/", "host: a.test\r\n", Err(400)),
            ("http://a.test/", "host: b.test\r\n", Err(400)),
            ("http://a.test/", "host:\r\n", Err(400)),
            ("http://u@a.test/", "host: a.test\r\n", Err(400)),
            ("http://u@a.test/", "host: u@a.test\r\n", Err(400)),
            ("//b.test/", "host: a.test\r\n", Ok("a.test")),
            ("/", "", Err(400)),
            ("/", "host: a.test\r\nhost: a.test\r\n", Err(400)),
            ("/", "host: a.test\r\nHOST: b.test\r\n", Err(400)),
            ("http://a.test/", "host: a.test\r\nhost: a.test\r\n", Err(400)),
            ("/", "host: a.test, b.test\r\n", Err(400)),
            ("/", "host: a.test,b.test\r\n", Err(400)),
            ("/", "host: u@a.test\r\n", Err(400)),
            ("/", "host: u:p@a.test\r\n", Err(400)),
            ("/", "host: a.test:65536\r\n", Err(400)),
            ("/", "host: a.test:-1\r\n", Err(400)),
            ("/", "host: a.test:+80\r\n", Err(400)),
            ("/", "host: a.test:http\r\n", Err(400)),
            ("/", "host: a.test:80:80\r\n", Err(400)),
            ("/", "host: :80\r\n", Err(400)),
            ("/", "host: ::1\r\n", Err(400)),
            ("/", "host: [::1\r\n", Err(400)),
            ("/", "host: [::1]x\r\n", Err(400)),
            ("/", "host: [a.test]\r\n", Err(400)),
            ("/", "host: []\r\n", Err(400)),
            ("/", "host: a.test/b\r\n", Err(400)),
            ("/", "host: a.test?b\r\n", Err(400)),
            ("/", "host: a.test#b\r\n", Err(400)),
            ("/", "host: a.test\\b\r\n", Err(400)),
            ("/", "host: a%2etest\r\n", Err(400)),
            ("/", "host: a b\r\n", Err(400)),
            ("/", "host: a\tb\r\n", Err(400)),
            ("/", "host: a\u{e9}.test\r\n", Err(400)),
        ] {
            let outcome = one(&stage, "GET", target.as_bytes(), lines).await;
            assert_eq!(host(&outcome), expected.map_err(End::Answered), "{way:?} {target} {lines:?}");
        }
        for (fields, expected) in [
            (&[(":authority", "a.test"), ("host", "A.test")][..], Ok("a.test")),
            (&[("host", "a.test")], Ok("a.test")),
            (&[(":authority", "a.test"), ("host", "b.test")], Err(400)),
            (&[(":authority", "a.test:81"), ("host", "a.test:82")], Err(400)),
            (&[(":authority", "a.test:80"), ("host", "a.test")], Err(400)),
            (&[(":authority", "a.test"), ("host", "a.test"), ("host", "a.test")], Err(400)),
            (&[("host", "a.test"), ("host", "a.test")], Err(400)),
            (&[("host", "u@a.test")], Err(400)),
            (&[(":authority", "a.test:65536")], Err(400)),
        ] {
            let outcome = two(&stage, "GET", b"/", fields).await;
            assert_eq!(host(&outcome), expected.map_err(End::Answered), "{way:?} {fields:?}");
        }
    }
}

#[tokio::test]
async fn http_1_0_may_name_no_host_and_the_application_still_gets_one() {
    for way in BOTH {
        let stage = stage(way).await;
        let address = stage.recorder.address.to_string();
        for row in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nhost:\r\n\r\n"] {
            assert_eq!(host(&stage.http1(row).await), Ok(&*address), "{way:?} {row:?}");
        }
    }
}

#[tokio::test]
async fn a_host_rule_holds_without_case_port_and_trailing_dot() {
    let stage = stage(Way::Inbound).await;
    for name in [
        "closed.test",
        "CLOSED.Test:8443",
        "closed.test:",
        "closed.test.",
        "closed.test.:1",
        "[2001:db8::1]",
        "[2001:DB8::1]:80",
        "[2001:db8:0::1]",
        "[2001:0db8:0:0:0:0:0:1]:80",
    ] {
        let outcome = one(&stage, "GET", b"/", &format!("host: {name}\r\n")).await;
        assert_eq!(host(&outcome), Err(End::Answered(403)), "{name}");
        let outcome = two(&stage, "GET", b"/", &[(":authority", name)]).await;
        assert_eq!(host(&outcome), Err(End::Answered(403)), "HTTP/2 {name}");
    }
    for name in ["notclosed.test", "closed.test.example", "a.closed.test"] {
        let outcome = one(&stage, "GET", b"/", &format!("host: {name}\r\n")).await;
        assert_eq!(host(&outcome), Ok(name));
    }
}

#[tokio::test]
async fn an_encoded_slash_that_the_application_needs_is_forwarded_and_decided_in_every_reading() {
    let decide = |keys: &'static str| {
        Stage::planned(Way::Inbound, OK, move |plan: Plan| {
            plan.policy(POLICY).paths(&format!("{{encodedSlash: decide, reason: object names{keys}}}"))
        })
    };
    let stage = decide("").await;
    for (target, expected) in [
        ("/objects/a%2fb?c=%2f", Ok("/objects/a%2Fb?c=%2f")),
        ("/objects/..%2Fx", Ok("/objects/..%2Fx")),
        ("/objects/..%2fadmin", Err(403)),
        ("/admin%2Fx", Err(403)),
        ("/%2fadmin", Err(403)),
        ("/a%2f..%2f..%2fadmin", Err(403)),
        ("/a%252fb", Ok("/a%252fb")),
        ("/a%5cb", Err(400)),
        ("/a%00", Err(400)),
    ] {
        check(&stage, target.as_bytes(), expected).await;
    }
    assert_eq!(stage.sidecar.count("portcullis_encoded_slash_listeners"), 1);
    let over = decide(", until: 2020-01-31T00:00:00Z").await;
    check(&over, b"/objects/a%2fb", Err(400)).await;
}
