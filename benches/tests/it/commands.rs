//! Every command against a sidecar.

use crate::bench::{Backend, good, raw, refused};
use crate::stage::{CALLER, SERVICE, Stage};

/// Short: what is tested is that the right things are counted, not how fast they are.
const SHORT: [&str; 6] = ["--duration", "700ms", "--warm-up", "50ms", "--connections", "3"];

fn run(command: &str, stage: &Stage, target: &str, more: &[&str]) -> portcullis_benches::outcome::Outcome {
    let options = stage.arguments(target);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    good(&[&[command], options.as_slice(), &SHORT, more].concat())
}

#[test]
fn requests_are_counted_and_matched_over_both_versions_of_http() {
    let stage = Stage::set();
    let (own, backend) = (std::process::id().to_string(), stage.backend.pid());
    for protocol in ["http1", "http2"] {
        let target = format!("https://{}/bytes/20000", stage.http);
        let outcome = run("http", &stage, &target, &["--protocol", protocol, "--pid", &own, "--backend-pid", &backend]);
        assert_eq!(outcome.settings["answers matched by number"], "yes");
        assert_eq!(outcome.settings["answer"], "20000 bytes");
        assert_eq!(outcome.settings["tls"], "TLSv1_3");
        assert!((outcome.bytes as f64 - outcome.operations * 20000.0).abs() < 1.0);
        assert_eq!(outcome.latency.as_ref().unwrap().count as f64, outcome.operations);
        assert!(outcome.costs["target"].us_per_operation() > 0.0, "{:?}", outcome.costs);
        assert!(outcome.costs["backend"].memory_peak_kib > 0);
        assert!(outcome.costs["generator"].limit_per_second > 0.0);
        assert!(outcome.yardstick.before_us > 0.0 && outcome.yardstick.after_us > 0.0);
    }
}

#[test]
fn handshakes_are_full_and_of_the_group_that_was_asked_for() {
    let stage = Stage::set();
    for (group, name) in [("x25519", "X25519"), ("x25519mlkem768", "X25519MLKEM768")] {
        let outcome = run("handshakes", &stage, &format!("https://{}/", stage.http), &["--group", group]);
        assert_eq!(outcome.settings["group"], name);
        assert_eq!(outcome.counts["full"], outcome.operations);
        for span in ["tcp", "tls", "first_answer"] {
            assert!(outcome.spans[span].p50_us > 0.0, "{span}");
        }
        let whole = outcome.latency.unwrap();
        assert!(outcome.spans["tls"].p50_us < whole.p50_us);
    }
    let outcome = run("handshakes", &stage, &format!("tls://{}", stage.tcp), &[]);
    assert!(!outcome.settings.contains_key("alpn"));
}

#[test]
fn bytes_are_streamed_up_down_and_back() {
    let stage = Stage::set();
    for target in [format!("tls://{}", stage.tcp), format!("tcp://{}", stage.backend.stream)] {
        for direction in ["up", "down", "echo"] {
            let outcome = run("stream", &stage, &target, &["--direction", direction, "--piece", "300000"]);
            assert_eq!(outcome.unit, "GB");
            assert!((outcome.operations * 1e9 - outcome.bytes as f64).abs() < 1.0);
            assert!(outcome.bytes >= 300_000, "{direction}");
        }
    }
}

#[test]
fn connections_come_and_go_in_plaintext_too() {
    let stage = Stage::set();
    for target in [
        format!("http://{}/", stage.backend.http),
        format!("tcp://{}", stage.backend.stream),
        format!("https://{}/", stage.http),
    ] {
        let outcome = run("connections", &stage, &target, &["--exchanges", "3"]);
        assert_eq!(outcome.spans.contains_key("tls"), target.starts_with("https"), "{target}");
    }
    let outcome = run("connections", &stage, &format!("http://{}/", stage.backend.http), &["--protocol", "http2"]);
    assert!(outcome.operations > 0.0);
}

#[test]
fn idle_connections_are_held_and_answer_afterwards() {
    let stage = Stage::set();
    let own = std::process::id().to_string();
    let options = stage.arguments(&format!("https://{}/", stage.http));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let held = &["--connections", "150", "--hold", "300ms", "--pid", &own];
    let outcome = good(&[&["idle"], options.as_slice(), held].concat());
    assert_eq!((outcome.counts["connections_held"], outcome.counts["still_answered"]), (150.0, 150.0));
    assert!(outcome.counts["memory_after_kib"] > outcome.counts["memory_before_kib"], "{:?}", outcome.counts);
    assert!(outcome.counts["memory_per_connection_kib"] > 1.0);
}

#[test]
fn every_exchanged_certificate_is_seen_and_no_request_fails() {
    let stage = Stage::set();
    let (pki, directory) = (stage.text("pki"), stage.text("service"));
    let outcome = run(
        "rotate",
        &stage,
        &format!("https://{}/", stage.http),
        &[
            "--ca-dir",
            &pki,
            "--environment",
            "prod",
            "--id",
            SERVICE,
            "--directory",
            &directory,
            "--swaps",
            "4",
            "--interval",
            "800ms",
        ],
    );
    assert_eq!((outcome.counts["swaps"], outcome.counts["swaps_seen"]), (4.0, 4.0));
    assert_eq!(outcome.spans["rename_to_first_new"].count, 4);
}

#[test]
fn a_policy_set_is_in_force_before_the_load() {
    let stage = Stage::set();
    let directory = stage.text("policy");
    for (shape, rules) in [("callers", "10"), ("paths", "1500"), ("mixed", "300")] {
        let outcome = run(
            "policy",
            &stage,
            &format!("https://{}/", stage.http),
            &["--directory", &directory, "--caller", CALLER, "--shape", shape, "--rules", rules],
        );
        assert_eq!(outcome.counts["rules"].to_string(), rules);
        assert!(outcome.counts["in_force_after_ms"] > 0.0);
    }
}

#[test]
fn a_policy_set_that_refuses_nothing_is_found_out() {
    let stage = Stage::set();
    // The application itself, which asks no policy.
    let target = format!("http://{}/", stage.backend.http);
    let directory = stage.text("policy");
    let said = refused(&["policy", "--target", &target, "--directory", &directory, "--caller", CALLER, "--rules", "3"]);
    assert!(said.contains("a path that no rule allows is answered"), "{said}");
}

#[test]
fn runs_are_compared_on_a_page() {
    let dir = tempfile::TempDir::new().unwrap();
    let backend = Backend::start();
    let target = format!("http://{}/", backend.http);
    let alone = dir.path().join("alone");
    let mut files = Vec::new();
    for (number, command) in ["http", "connections"].into_iter().enumerate() {
        let words =
            [&[command, "--target", &target, "--json", "--report", alone.to_str().unwrap()], &SHORT[..]].concat();
        let output = raw(&words);
        assert!(output.status.success());
        let file = dir.path().join(format!("{number}.json"));
        std::fs::write(&file, output.stdout).unwrap();
        files.push(file.display().to_string());
    }
    assert!(alone.join("index.html").is_file() && alone.join("run-1-latency.svg").is_file());
    let out = dir.path().join("page");
    let output = raw(&["report", "--out", out.to_str().unwrap(), &files[0], &files[1]]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("2. connections"), "{page}");
    for plot in ["latency.svg", "rate.svg", "run-2-over-time.svg"] {
        assert!(out.join(plot).is_file(), "{plot}");
    }
    // Nobody named the target's process, so that there is no cost to compare.
    assert!(!out.join("cpu.svg").exists());
    std::fs::write(dir.path().join("broken.json"), "{}").unwrap();
    let broken = dir.path().join("broken.json").display().to_string();
    let said = refused(&["report", "--out", out.to_str().unwrap(), &broken]);
    assert!(said.contains("broken.json` holds no result"), "{said}");
}

#[test]
fn the_yardstick_is_one_figure() {
    let printed = String::from_utf8(raw(&["yardstick", "--json"]).stdout).unwrap();
    let figure: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert!(figure["p256_verify_us"].as_f64().unwrap() > 1.0);
}

#[test]
fn wrong_usage_says_what_is_right() {
    for (arguments, expected) in [
        (&["http"][..], "--target"),
        (&["http", "--target", "127.0.0.1:1"], "write https://HOST:PORT/PATH"),
        (&["http", "--target", "http://a:1/", "--duration", "10"], "10s, 500ms, 2m or 1h"),
        (&["http", "--target", "http://a:1/", "--rate", "0"], "operations per second"),
        (&["http", "--target", "http://a:1/", "--connections", "0"], "1..=100000"),
    ] {
        let output = raw(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    for (arguments, expected) in [
        (&["handshakes", "--target", "http://127.0.0.1:1/"][..], "needs an https:// or tls:// target"),
        (&["http", "--target", "https://127.0.0.1:1/"], "--ca FILE"),
        (&["http", "--target", "https://127.0.0.1:1/", "--ca", "/nowhere/ca.crt"], "/nowhere/ca.crt"),
        (&["http", "--target", "tcp://127.0.0.1:1"], "needs an https:// or http:// target"),
        (&["stream", "--target", "http://127.0.0.1:1"], "needs a tls:// or tcp:// target"),
        (&["idle", "--target", "http://127.0.0.1:1"], "--pid"),
    ] {
        let said = refused(arguments);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_process_that_is_not_there_stops_the_run() {
    let backend = Backend::start();
    let target = format!("http://{}/", backend.http);
    let said = refused(&["http", "--target", &target, "--pid", "2147483647", "--duration", "200ms"]);
    assert!(said.contains("process 2147483647 cannot be watched"), "{said}");
}
