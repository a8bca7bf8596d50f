//! Targets that are wrong, broken or hostile: an error of the right kind, soon, and never a hang.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::bench::{bench, refused};
use crate::stage::{CALLER, SERVICE, Stage};

/// Serves every connection with this until the test process ends.
fn serve(with: impl Fn(TcpStream, usize) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let with = with.clone();
            std::thread::spawn(move || with(stream, number));
        }
    });
    address
}

/// Reads the head of a request; `None` at the end of the connection.
pub fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}

fn answer(stream: &mut TcpStream, body: &str) {
    let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
}

const QUICK: [&str; 8] = ["--duration", "500ms", "--warm-up", "1ms", "--timeout", "300ms", "--connections", "2"];

#[test]
fn a_target_that_is_wrong_from_the_start_is_refused_with_its_reason() {
    let silent = serve(|mut stream, _| drop(stream.read_to_end(&mut Vec::new())));
    let ssh = serve(|mut stream, _| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let endless = serve(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ");
        while stream.write_all(&[b'a'; 4096]).is_ok() {}
    });
    let closing = serve(|mut stream, _| drop(request(&mut stream)));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, expected) in [
        (silent, "no answer within the time limit"),
        (ssh, "the answer is not HTTP/1.1"),
        (endless, "the head of the answer is longer than"),
        (closing, "the target closed the connection"),
        (nobody, "nobody listens there"),
    ] {
        for command in ["http", "connections"] {
            let begun = Instant::now();
            let said = refused(&[&[command, "--target", &format!("http://{address}/")], &QUICK[..]].concat());
            assert!(said.contains(expected), "{said}");
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
    }
}

#[test]
fn a_target_that_goes_wrong_later_is_counted_by_kind() {
    // The first answer is good each time.
    let mute = serve(|mut stream, number| {
        if number == 0 {
            request(&mut stream);
            answer(&mut stream, "hello");
        }
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let changing = serve(|mut stream, number| {
        while request(&mut stream).is_some() {
            answer(&mut stream, if number == 0 { "hello" } else { "jello" });
        }
    });
    let denying = serve(|mut stream, number| {
        while request(&mut stream).is_some() {
            if number == 0 {
                answer(&mut stream, "hello");
                continue;
            }
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let mixing = serve(|mut stream, _| {
        let mut last = None;
        while let Some(head) = request(&mut stream) {
            let number = head.lines().find_map(|line| line.strip_prefix("x-portcullis-bench: ")).unwrap().to_owned();
            // From the second on, each request gets the number of the one before it.
            let told = last.replace(number.clone()).unwrap_or(number);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nx-portcullis-bench: {told}\r\ncontent-length: 0\r\n\r\n");
        }
    });
    for (address, kind) in
        [(mute, "timeout"), (changing, "body_differs"), (denying, "status_403"), (mixing, "body_differs")]
    {
        let begun = Instant::now();
        let ran = bench(&[&["http", "--target", &format!("http://{address}/")], &QUICK[..]].concat());
        assert_eq!(ran.code, 1, "{kind}");
        assert!(ran.outcome.failures.contains_key(kind), "{kind}: {:?}", ran.outcome.failures);
        assert!(!ran.outcome.examples.is_empty());
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn who_answers_is_verified() {
    let stage = Stage::set();
    let target = format!("https://{}/", stage.http);
    let (ca, identity) = (stage.text("root.crt"), stage.text("caller"));
    let base = ["handshakes", "--target", &target, "--ca", &ca];
    for (more, expected) in [
        (vec!["--identity", &identity, "--expect", CALLER], format!("it has the URI names [\"{SERVICE}\"]")),
        (
            vec!["--identity", &identity, "--expect", "spiffe://prod.health.internal/ns/bench/sa/serv"],
            SERVICE.to_owned(),
        ),
        // The address of the target, which the certificate does not carry.
        (vec!["--identity", &identity], "it is not for `127.0.0.1`".to_owned()),
        (vec!["--expect", SERVICE], "the target refused with the TLS alert CertificateRequired".to_owned()),
    ] {
        let said = refused(&[&base[..], &more, &QUICK[..]].concat());
        assert!(said.contains(&expected), "{said}");
    }
    // Somebody else's key.
    let (certificate, key) = (stage.text("caller/tls.crt"), stage.text("service/tls.key"));
    let said = refused(&[&base[..], &["--cert", &certificate, "--key", &key, "--expect", SERVICE]].concat());
    assert!(said.contains(&format!("`{certificate}` and `{key}` cannot be used together")), "{said}");
    // A root that has nothing to do with the target's.
    let other = Stage::set();
    let ca = other.text("root.crt");
    let said = refused(
        &[&["handshakes", "--target", &target, "--ca", &ca, "--identity", &identity, "--expect", SERVICE], &QUICK[..]]
            .concat(),
    );
    assert!(said.contains("the target's certificate was refused"), "{said}");
    assert!(said.contains("UnknownIssuer"), "{said}");
}

#[test]
fn plaintext_where_tls_is_due_is_an_error() {
    let plain = serve(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        answer(&mut stream, "hello");
    });
    let stage = Stage::set();
    let options = stage.arguments(&format!("https://{plain}/"));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let said = refused(&[&["handshakes"], options.as_slice(), &QUICK[..]].concat());
    assert!(said.contains("TLS handshake"), "{said}");
}
