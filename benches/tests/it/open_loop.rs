//! Latency without coordinated omission: what had to wait because the target stalled is counted with its wait.

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use portcullis_benches::outcome::Limit;

use crate::bench::{bench, good};
use crate::hostile::request;

/// Answers at once, but for one answer in the middle that takes this long.
fn stalling(at: usize, length: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (never, stall) = mpsc::channel::<()>();
        let mut answered = 0;
        for mut stream in listener.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            while request(&mut stream).is_some() {
                answered += 1;
                if answered == at {
                    let _ = stall.recv_timeout(length);
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            }
        }
        drop(never);
    });
    format!("http://{address}/")
}

const ONE: [&str; 6] = ["--connections", "1", "--duration", "2s", "--warm-up", "1ms"];

#[test]
fn one_stall_delays_all_that_were_due_meanwhile() {
    let target = stalling(100, Duration::from_millis(500));
    let ran = bench(&[&["http", "--target", &target, "--rate", "200"], &ONE[..]].concat());
    assert_eq!(ran.code, 0, "{:?}", ran.outcome.failures);
    let latency = ran.outcome.latency.unwrap();
    assert_eq!(latency.count, 400);
    // A hundred requests were due during the stall, so a quarter of all waited; evenly from all of it down to nothing.
    assert!(latency.p90_us > 200_000.0, "{latency:?}");
    assert!((480_000.0..1_500_000.0).contains(&latency.max_us), "{latency:?}");
    assert!(latency.p50_us < 100_000.0, "{latency:?}");
}

#[test]
fn a_closed_loop_sees_the_same_stall_once() {
    let target = stalling(100, Duration::from_millis(500));
    let ran = bench(&[&["http", "--target", &target], &ONE[..]].concat());
    assert_eq!(ran.code, 0, "{:?}", ran.outcome.failures);
    let latency = ran.outcome.latency.unwrap();
    assert!(latency.p90_us < 200_000.0, "{latency:?}");
    assert!(latency.max_us > 480_000.0, "{latency:?}");
}

#[test]
fn every_operation_that_was_due_has_a_latency() {
    let backend = crate::bench::Backend::start();
    let target = format!("http://{}/", backend.http);
    let outcome = good(&["http", "--target", &target, "--rate", "500", "--duration", "1s", "--warm-up", "100ms"]);
    assert_eq!(outcome.latency.unwrap().count, 500);
    // What was answered after the window counts in the latency only; a busy machine may make that some.
    assert!((300.0..=510.0).contains(&outcome.operations), "{}", outcome.operations);
}

#[test]
fn a_rate_that_is_not_kept_is_said() {
    // One answer takes longer than the whole run.
    let target = stalling(10, Duration::from_secs(8));
    let ran = bench(&[
        "http",
        "--target",
        &target,
        "--rate",
        "100",
        "--connections",
        "1",
        "--duration",
        "1s",
        "--warm-up",
        "1ms",
        "--timeout",
        "2s",
    ]);
    assert_eq!(ran.code, 1);
    assert_ne!(ran.outcome.limited_by, Limit::Rate);
    assert!(ran.outcome.failures.contains_key("timeout"), "{:?}", ran.outcome.failures);
    assert!(ran.outcome.remarks.iter().any(|remark| remark.contains("was not reached")), "{:?}", ran.outcome.remarks);
}
