//! Runs as they come, and runs as nobody would wish them, for the tests of all parts of the report.
//!
//! To look at a report: `PORTCULLIS_REPORT_EXAMPLE=DIR cargo test -p portcullis-benches an_example`, then open
//! `DIR/index.html`.

mod xml;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::outcome::{Cost, Limit, Second, Yardstick};

pub use xml::assert_well_formed;

/// A run of half a minute at the target's limit.
pub fn realistic() -> Outcome {
    let cost = |user, system, cores, limit, memory: [u64; 3]| Cost {
        pids: vec![4711],
        user_seconds: user * 0.54,
        system_seconds: system * 0.54,
        user_us_per_operation: user,
        system_us_per_operation: system,
        cores,
        cores_wanted: cores * 1.2,
        limit_per_second: limit,
        memory_start_kib: memory[0],
        memory_peak_kib: memory[1],
        memory_end_kib: memory[2],
    };
    let named = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Outcome {
        version: "0.1.0".to_owned(),
        command: "http".to_owned(),
        target: "https://127.0.0.1:4443/bytes/1024".to_owned(),
        settings: named(&[("connections", "64"), ("duration", "30s"), ("group", "x25519mlkem768")]),
        started: "2026-11-22T06:26:41Z".to_owned(),
        seconds: 30.0,
        unit: "request".to_owned(),
        operations: 540_000.0,
        rate: 18_000.0,
        bytes: 540_000 * 1024,
        failures: BTreeMap::new(),
        examples: Vec::new(),
        latency: Some(latency([3_400.0, 4_200.0, 7_900.0, 21_000.0, 48_000.0])),
        spans: BTreeMap::from([("tls".to_owned(), latency([910.0, 1_200.0, 2_100.0, 3_900.0, 5_100.0]))]),
        series: series(30, 18_000.0),
        costs: BTreeMap::from([
            ("target".to_owned(), cost(31.2, 24.2, 0.997, 18_051.0, [12_000, 14_500, 14_200])),
            ("backend".to_owned(), cost(4.1, 5.0, 0.164, 219_780.0, [9_600, 9_600, 9_600])),
            ("generator".to_owned(), cost(13.0, 8.0, 0.378, 142_857.0, [20_000, 23_000, 22_000])),
        ]),
        yardstick: Yardstick { before_us: 90.1, after_us: 92.0 },
        limited_by: Limit::Target,
        counts: BTreeMap::from([("memory_per_connection_kib".to_owned(), 33.5)]),
        remarks: Vec::new(),
    }
}

/// A run in which nothing happened.
pub fn empty() -> Outcome {
    Outcome {
        version: String::new(),
        command: "handshakes".to_owned(),
        target: "tls://127.0.0.1:1".to_owned(),
        settings: BTreeMap::new(),
        started: String::new(),
        seconds: 0.0,
        unit: "handshake".to_owned(),
        operations: 0.0,
        rate: 0.0,
        bytes: 0,
        failures: BTreeMap::new(),
        examples: Vec::new(),
        latency: None,
        spans: BTreeMap::new(),
        series: Vec::new(),
        costs: BTreeMap::new(),
        yardstick: Yardstick::default(),
        limited_by: Limit::Unknown,
        counts: BTreeMap::new(),
        remarks: Vec::new(),
    }
}

/// A run whose every text and number is out to do harm.
pub fn hostile() -> Outcome {
    let text = "</title></style><script>alert(1)</script>\"'&\x1b[2J\u{202e}\0]]>-->`<b>`";
    let times = Latency {
        count: u64::MAX,
        min_us: f64::NEG_INFINITY,
        mean_us: f64::NAN,
        p50_us: f64::NAN,
        p90_us: f64::INFINITY,
        p99_us: 1e12,
        p999_us: f64::MAX,
        max_us: -1.0,
        quantiles: vec![(f64::NAN, 1.0), (0.5, f64::NAN), (2.0, 1.0), (0.9, 1e12), (0.1, 1e-300), (1.0, f64::MAX)],
    };
    let second = |at, rate| Second { at, rate, failures: u64::MAX, p50_us: f64::NAN, p99_us: 1e12 };
    let cost = Cost {
        user_us_per_operation: f64::INFINITY,
        system_us_per_operation: 1e12,
        cores: f64::NAN,
        cores_wanted: -3.0,
        limit_per_second: 1e300,
        memory_peak_kib: u64::MAX,
        ..Cost::default()
    };
    Outcome {
        version: text.to_owned(),
        command: text.to_owned(),
        target: format!("{text}{}", "W".repeat(10_000)),
        settings: BTreeMap::from([(text.to_owned(), text.repeat(50))]),
        started: text.to_owned(),
        seconds: f64::NAN,
        unit: text.to_owned(),
        operations: f64::INFINITY,
        rate: f64::INFINITY,
        bytes: u64::MAX,
        failures: BTreeMap::from([(text.to_owned(), u64::MAX), ("timeout".to_owned(), u64::MAX)]),
        examples: vec![text.repeat(100), String::new()],
        latency: Some(times.clone()),
        spans: BTreeMap::from([(text.to_owned(), times)]),
        series: vec![second(f64::NAN, 1.0), second(1.0, f64::INFINITY), second(0.5, 1.0), second(1e12, -5.0)],
        costs: BTreeMap::from([(text.to_owned(), cost.clone()), ("target".to_owned(), cost)]),
        yardstick: Yardstick { before_us: f64::INFINITY, after_us: 1e12 },
        limited_by: Limit::Backend,
        counts: BTreeMap::from([(text.to_owned(), f64::NAN), ("swaps_us".to_owned(), f64::INFINITY)]),
        remarks: vec![text.to_owned()],
    }
}

/// A distribution that passes the five named quantiles.
pub fn latency([p50_us, p90_us, p99_us, p999_us, max_us]: [f64; 5]) -> Latency {
    let marks = [(0.0, p50_us * 0.6), (0.301, p50_us), (1.0, p90_us), (2.0, p99_us), (3.0, p999_us), (5.7, max_us)];
    let mut quantiles = Vec::new();
    for pair in marks.windows(2) {
        for step in 0..20 {
            let share = f64::from(step) / 20.0;
            let nines = pair[0].0 + share * (pair[1].0 - pair[0].0);
            let bend = share + 0.12 * (share * std::f64::consts::TAU).sin() / 2.0;
            quantiles.push((1.0 - 10_f64.powf(-nines), pair[0].1 * (pair[1].1 / pair[0].1).powf(bend)));
        }
    }
    quantiles.push((1.0, max_us));
    let (min_us, mean_us) = (p50_us * 0.6, p50_us * 1.1);
    Latency { count: 540_000, min_us, mean_us, p50_us, p90_us, p99_us, p999_us, max_us, quantiles }
}

/// Seconds that swing a little around a rate.
pub fn series(seconds: u32, rate: f64) -> Vec<Second> {
    let wave = |n: u32, length: f64| (f64::from(n) * length).sin();
    let second = |n: u32| Second {
        at: f64::from(n + 1),
        rate: rate * (1.0 + 0.03 * wave(n, 1.7) + 0.02 * wave(n, 0.4)),
        failures: 0,
        p50_us: 3_400.0 * (1.0 + 0.04 * wave(n, 2.1)),
        p99_us: 7_900.0 * (1.0 + 0.3 * wave(n, 1.3)),
    };
    (0..seconds).map(second).collect()
}

/// What is no number must not read as one, wherever it came from.
#[track_caller]
pub fn assert_no_false_numbers(text: &str) {
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        assert!(!["NaN", "nan", "inf", "infinity"].contains(&word), "{word} in {text}");
    }
}

/// The same run with trouble in it: refused connections, a stall, a busy machine.
fn troubled() -> Outcome {
    let mut outcome = realistic();
    outcome.target = "https://127.0.0.1:4444/bytes/1024".to_owned();
    outcome.latency = Some(latency([3_900.0, 6_100.0, 31_000.0, 240_000.0, 1_010_000.0]));
    outcome.failures = BTreeMap::from([("connection reset".to_owned(), 37), ("timeout".to_owned(), 5)]);
    outcome.examples = vec!["reading the answer: connection reset by peer".to_owned()];
    outcome.limited_by = Limit::Generator;
    outcome.costs.get_mut("generator").unwrap().limit_per_second = 18_437.0;
    outcome.yardstick.after_us = 121.0;
    for (second, failures) in [(11, 3), (12, 31), (22, 8)] {
        outcome.series[second].failures = failures;
        outcome.series[second].rate *= 0.4;
        outcome.series[second].p99_us *= 40.0;
    }
    outcome.series[13] = Second { at: 14.0, failures: 0, ..Second::default() };
    outcome
}

/// Bars as a comparison of proxies has them.
fn comparison() -> String {
    let rows = [
        (
            "New connection with one exchange, X25519",
            [("Portcullis", 512.0), ("Envoy", 605.0), ("nginx", 1344.0), ("HAProxy", 1306.0), ("hitch", 1150.0)],
        ),
        (
            "New connection with one exchange, X25519MLKEM768",
            [("Portcullis", 640.0), ("Envoy", 702.0), ("nginx", 1501.0), ("HAProxy", 1488.0), ("hitch", f64::NAN)],
        ),
    ];
    let bar = |group: &str, label: &str, value: f64| {
        let (group, label) = (group.to_owned(), label.to_owned());
        Bar { group, label, value, low: value * 0.96, high: value * 1.07 }
    };
    let all: Vec<Bar> =
        rows.iter().flat_map(|(group, bars)| bars.iter().map(|(label, value)| bar(group, label, *value))).collect();
    let unit = "µs of CPU time of the proxy per connection, median of five rounds, whiskers from least to most";
    plots::bars("What a new connection costs", unit, Better::Lower, &all)
}

#[track_caller]
fn written(dir: &Path, outcomes: &[Outcome]) -> (String, Vec<String>) {
    let index = write(dir, outcomes).unwrap();
    assert_eq!(index, dir.join("index.html"));
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    (fs::read_to_string(index).unwrap(), names)
}

#[test]
fn an_example() {
    let temporary = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("PORTCULLIS_REPORT_EXAMPLE").map(PathBuf::from);
    let dir = kept.unwrap_or(temporary.path().to_owned());
    let (page, names) = written(&dir, &[realistic(), troubled()]);
    fs::write(dir.join("comparison.svg"), comparison()).unwrap();
    for name in ["latency.svg", "run-1-latency.svg", "run-1-over-time.svg", "run-1-cpu.svg", "run-2-over-time.svg"] {
        assert!(names.iter().any(|found| found == name), "{name} is not among {names:?}");
        let svg = fs::read_to_string(dir.join(name)).unwrap();
        assert_well_formed(&svg);
        assert!(page.contains(&svg), "{name} is not in the page");
    }
    for words in ["18,000", "3.40 ms", "55.4 µs", "says little about the target", "connection reset by peer", "34.3 %"]
    {
        assert!(page.contains(words), "{words} is not in the page");
    }
}

#[test]
fn a_page_needs_nothing_and_runs_nothing_whoever_wrote_the_text() {
    for outcomes in [vec![], vec![empty()], vec![hostile()], vec![hostile(), realistic(), hostile()]] {
        let dir = tempfile::tempdir().unwrap();
        let (page, names) = written(dir.path(), &outcomes);
        let markup = page.strip_prefix("<!DOCTYPE html>").unwrap().replace("\">\n<meta", "\"/>\n<meta");
        let markup = markup.replace("initial-scale=1\">", "initial-scale=1\"/>");
        assert_well_formed(&markup);
        assert_no_false_numbers(&page);
        for never in ["<script", "\x1b", "\0", "\u{202e}", "src=", "@import", "url(", " onload", "https://fonts"] {
            assert!(!page.contains(never), "{never:?} is in the page");
        }
        for name in names {
            assert!(!name.contains("script") && !name.ends_with(".partial"), "{name}");
            if name.ends_with(".svg") {
                assert_well_formed(&fs::read_to_string(dir.path().join(name)).unwrap());
            }
        }
    }
}

#[test]
fn nothing_but_its_own_names_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = dir.path().join("elsewhere");
    for name in ["elsewhere", "notes.txt", "run-9-cpu.svg"] {
        fs::write(dir.path().join(name), "mine").unwrap();
    }
    // Links where the report writes: they are replaced, what they lead to is not.
    std::os::unix::fs::symlink(&elsewhere, dir.path().join("index.html")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, dir.path().join("index.html.partial")).unwrap();
    let (page, _) = written(dir.path(), &[realistic()]);
    assert!(page.contains("18,000"));
    for name in ["elsewhere", "notes.txt", "run-9-cpu.svg"] {
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), "mine", "{name}");
    }
}

#[test]
fn what_cannot_be_written_is_said_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = write(&file.join("below"), &[]).unwrap_err();
    assert!(matches!(&error, ReportError::Directory { .. }), "{error:?}");
    assert!(error.to_string().contains("file/below`"), "{error}");

    fs::create_dir(dir.path().join("index.html")).unwrap();
    let error = write(dir.path(), &[]).unwrap_err();
    assert!(matches!(&error, ReportError::File { .. }), "{error:?}");
    assert!(error.to_string().contains("index.html`"), "{error}");
}
