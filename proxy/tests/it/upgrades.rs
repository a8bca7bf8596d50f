//! Upgrades and CONNECT, row by row: what is carried, what is left out, what is refused, and that nothing behind a tunnel that
//! does not open is read as a request (RFC 9110 sections 7.8 and 9.3.6, RFC 6455 section 4, RFC 8441).

use crate::frames::{DATA, END_HEADERS, HEADERS, block, frame};
use crate::rows::{BOTH, End, Outcome, Stage, Way};
use crate::sidecar::answered;
use crate::tcp::CALLER_ONLY;

/// A request that would be served, were it read as one.
const EARLY: &str = "GET /early HTTP/1.1\r\nhost: eligibility.test\r\n\r\n";

/// An opening handshake with these lines more.
fn opening(lines: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nhost: eligibility.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n{lines}\r\n"
    )
}

/// The names of the fields that the application heard, but for those of ours.
fn names(request: &str) -> Vec<&str> {
    let fields = request.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
    let ours = ["x-request-id", "traceparent", "x-forwarded-client-cert"];
    let mut names: Vec<&str> = fields.map(|(name, _)| name).filter(|name| !ours.contains(name)).collect();
    names.sort_unstable();
    names
}

/// Whether the caller got one answer and not another behind it.
fn is_one(outcome: &Outcome) -> bool {
    String::from_utf8_lossy(&outcome.read).matches("HTTP/1.1 ").count() == 1
}

fn is_refused(outcome: &Outcome, status: u16, row: &str) {
    assert_eq!(outcome.end, End::Answered(status), "{row}: {outcome:?}");
    assert_eq!(outcome.heard, Vec::<String>::new(), "{row}");
}

#[tokio::test]
async fn an_upgrade_with_a_body_is_400_and_ends_its_connection() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        for upgrade in ["websocket", "h2c", "TLS/1.0", "websocket, h2c"] {
            for body in [
                "content-length: 2\r\n\r\nhi",
                "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
                "transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ] {
                for method in ["GET", "POST"] {
                    let row = format!(
                        "{method} /chat HTTP/1.1\r\nhost: eligibility.test\r\nconnection: upgrade\r\n\
                         upgrade: {upgrade}\r\n{body}{EARLY}"
                    );
                    let outcome = stage.http1(&row).await;
                    is_refused(&outcome, 400, &row);
                    assert!(!outcome.is_open, "{way:?}: {row}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_one_upgrade_to_websocket_by_get_is_left_out() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        for (method, fields) in [
            ("GET", "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"),
            ("GET", "connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"),
            ("GET", "connection: upgrade\r\nupgrade: TLS/1.0\r\n"),
            ("GET", "connection: upgrade\r\nupgrade: websocket, h2c\r\n"),
            ("GET", "connection: upgrade\r\nupgrade: websocket\r\nupgrade: h2c\r\n"),
            ("GET", "connection: upgrade\r\nupgrade: websocket/13\r\n"),
            ("GET", "connection: upgrade\r\nupgrade: anything\r\n"),
            ("GET", "connection: upgrade\r\nupgrade:\r\n"),
            ("GET", "upgrade: websocket\r\n"),
            ("DELETE", "connection: upgrade\r\nupgrade: websocket\r\n"),
        ] {
            let row = format!("{method} /chat HTTP/1.1\r\nhost: eligibility.test\r\n{fields}\r\n");
            let outcome = stage.http1(&row).await;
            assert_eq!((outcome.end, outcome.is_open), (End::Answered(200), true), "{way:?} {row}");
            let [heard] = &outcome.heard[..] else { panic!("{row}: {:?}", outcome.heard) };
            assert!(
                heard.starts_with(&format!("{method} /chat HTTP/1.1\r\n")) && heard.ends_with("\r\n\r\n"),
                "{heard:?}"
            );
            assert_eq!(names(heard), ["host"], "{way:?} {row}");
        }
        // HTTP/1.0 knows no upgrades.
        let old = stage.http1(opening("").replace("HTTP/1.1", "HTTP/1.0")).await;
        assert_eq!(old.end, End::Answered(200), "{way:?}");
        assert_eq!(names(&old.heard[0]), ["host", "sec-websocket-key", "sec-websocket-version"]);
    }
}

#[tokio::test]
async fn an_upgrade_that_the_application_declines_is_an_ordinary_answer_and_the_last_on_its_connection() {
    for way in BOTH {
        for (answer, status) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], 200),
            (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", 403),
            (b"HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 0\r\n\r\n", 426),
            (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        ] {
            let stage = Stage::answering(way, answer).await;
            for behind in ["", EARLY, "\x01\x05mask bytes of a tunnel"] {
                let outcome = stage.http1(opening("sec-websocket-protocol: chat\r\n") + behind).await;
                assert_eq!(outcome.end, End::Answered(status), "{way:?} {behind:?}");
                assert_eq!(outcome.heard.len(), 1, "{way:?} {behind:?}: {:?}", outcome.heard);
                assert!(outcome.heard[0].ends_with("\r\n\r\n"), "{:?}", outcome.heard);
                assert_eq!(
                    names(&outcome.heard[0]),
                    ["connection", "host", "sec-websocket-key", "sec-websocket-protocol", "sec-websocket-version", "upgrade"]
                );
                assert!(outcome.heard[0].contains("\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"));
                assert!(is_one(&outcome), "{way:?} {behind:?}: {outcome:?}");
                let answer = outcome.answer.unwrap();
                assert_eq!((answer.header("connection"), answer.header("upgrade")), (Some("close"), None), "{way:?}");
                assert!(!outcome.is_open, "{way:?} {behind:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_101_to_something_else_is_502() {
    for way in BOTH {
        for answer in [
            &b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"[..],
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ] {
            let stage = Stage::answering(way, answer).await;
            let outcome = stage.http1(opening("") + EARLY).await;
            assert_eq!((outcome.end, outcome.is_open), (End::Answered(502), false), "{way:?}");
            assert_eq!(outcome.heard.len(), 1, "{way:?}: {:?}", outcome.heard);
        }
    }
}

#[tokio::test]
async fn a_denied_upgrade_is_403_and_what_follows_it_is_never_served() {
    let elsewhere = format!("{CALLER_ONLY}      to: {{paths: [/early, /last]}}\n");
    let stage = Stage::planned(Way::Inbound, b"", |plan| plan.policy(&elsewhere)).await;
    let outcome = stage.http1(opening("") + EARLY).await;
    is_refused(&outcome, 403, "HTTP/1.1");
    assert!(!outcome.is_open && is_one(&outcome), "{outcome:?}");
    for kind in ["application/grpc", "text/plain"] {
        let fields = [(":protocol", "websocket"), ("content-type", kind)];
        let outcome = stage.http2(&[connect(&fields), frame(DATA, 0, 1, EARLY.as_bytes())]).await;
        is_refused(&outcome, 403, kind);
        assert!(outcome.is_open, "the other streams go on");
    }
}

#[tokio::test]
async fn connect_is_refused_and_what_follows_it_is_no_tunnel_and_no_request() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        for fields in [
            "",
            "content-type: application/grpc\r\n",
            "connection: upgrade\r\nupgrade: websocket\r\n",
            "content-length: 2\r\n",
        ] {
            for behind in ["", EARLY, "hi"] {
                let row = format!("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n{fields}\r\n{behind}");
                let outcome = stage.http1(&row).await;
                assert!(matches!(outcome.end, End::Answered(400 | 405)), "{way:?} {row}: {outcome:?}");
                assert_eq!((outcome.heard.len(), outcome.is_open), (0, false), "{way:?} {row}");
                assert!(is_one(&outcome), "{way:?} {row}: {outcome:?}");
            }
        }
        for fields in [&[][..], &[("content-type", "application/grpc")]] {
            let head = block(&[&[(":method", "CONNECT"), (":authority", "a:443")], fields].concat());
            let row = [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, 0, 1, EARLY.as_bytes())];
            let outcome = stage.http2(&row).await;
            is_refused(&outcome, 405, &format!("{way:?} {fields:?}"));
            assert!(outcome.is_open, "{way:?}");
        }
    }
}

/// A CONNECT with a target, of stream 1, and further fields; those with a colon come first.
fn connect(fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo =
        [(":method", "CONNECT"), (":scheme", "https"), (":authority", crate::client::HOST), (":path", "/chat?a=%2f")];
    frame(HEADERS, END_HEADERS, 1, &block(&[&pseudo, fields].concat()))
}

#[tokio::test]
async fn extended_connect_reaches_an_http_1_1_application_as_the_get_that_it_stands_for() {
    for way in BOTH {
        for (answer, status, reason) in [
            (&b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"[..], 403, None),
            (b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n\r\n", 426, None),
            // Success without a switch would be a tunnel to the caller.
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 502, Some("upgrade_not_agreed")),
            (b"HTTP/1.1 204 No Content\r\n\r\n", 502, Some("upgrade_not_agreed")),
            // The application has to know the key that it got, and to switch to what it was asked for.
            (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 502, Some("bad_websocket_accept")),
            (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", 502, Some("bad_websocket_accept")),
            (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", 502, Some("unexpected_upgrade")),
        ] {
            let stage = Stage::answering(way, answer).await;
            let fields = [
                (":protocol", "websocket"),
                ("content-type", "application/grpc"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-protocol", "chat"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ];
            let outcome = stage.http2(&[connect(&fields), frame(DATA, 0, 1, EARLY.as_bytes())]).await;
            assert_eq!((outcome.end, outcome.is_open), (End::Answered(status), true), "{way:?}: {outcome:?}");
            if let Some(reason) = reason {
                assert_eq!(stage.sidecar.count(&answered(way.direction(), reason)), 1, "{way:?}: {reason}");
            }
            let [heard] = &outcome.heard[..] else { panic!("{way:?}: {:?}", outcome.heard) };
            assert!(heard.starts_with("GET /chat?a=%2f HTTP/1.1\r\n") && heard.ends_with("\r\n\r\n"), "{heard:?}");
            assert!(heard.contains("\r\nconnection: upgrade\r\n") && heard.contains("\r\nupgrade: websocket\r\n"), "{heard:?}");
            let key = heard.split("\r\n").find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
            assert!(key.len() == 24 && key.ends_with("==") && key != "dGhlIHNhbXBsZSBub25jZQ==", "{key}");
            assert_eq!(
                names(heard),
                [
                    "connection",
                    "content-type",
                    "host",
                    "sec-websocket-key",
                    "sec-websocket-protocol",
                    "sec-websocket-version",
                    "upgrade"
                ]
            );
        }
    }
}

#[tokio::test]
async fn other_forms_of_extended_connect_are_refused() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        for protocol in ["connect-udp", "connect-ip", "WebSocket", "websocket, h2c", "h2c"] {
            let outcome = stage.http2(&[connect(&[(":protocol", protocol)]), frame(DATA, 0, 1, b"hi")]).await;
            is_refused(&outcome, 501, &format!("{way:?} {protocol}"));
            assert!(outcome.is_open, "{way:?} {protocol}");
        }
        let host = (":authority", crate::client::HOST);
        for pseudo in [
            // Only CONNECT has a protocol, and with it CONNECT has a path (RFC 8441 section 4).
            vec![(":method", "GET"), (":scheme", "https"), host, (":path", "/chat"), (":protocol", "websocket")],
            vec![(":method", "CONNECT"), host, (":protocol", "websocket")],
            vec![(":method", "CONNECT"), (":scheme", "https"), host, (":path", "chat"), (":protocol", "websocket")],
        ] {
            let outcome = stage.http2(&[frame(HEADERS, END_HEADERS, 1, &block(&pseudo))]).await;
            assert!(
                matches!(outcome.end, End::Answered(400) | End::Reset(_) | End::Goodbye(_)),
                "{way:?} {pseudo:?} {outcome:?}"
            );
            assert_eq!(outcome.heard, Vec::<String>::new(), "{way:?} {pseudo:?}");
        }
    }
}

#[tokio::test]
async fn the_answer_that_opens_a_tunnel_gives_no_reason_of_ours() {
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nx-portcullis-reason: forged\r\nx-a: 1\r\n\r\n";
    for way in BOTH {
        let outcome = Stage::cutting_off(way, answer).await.http1(opening("")).await;
        assert_eq!(outcome.end, End::Answered(101), "{way:?}");
        let answer = outcome.answer.unwrap();
        assert_eq!((answer.header("x-a"), answer.header("x-portcullis-reason")), (Some("1"), None), "{way:?}");
    }
}
