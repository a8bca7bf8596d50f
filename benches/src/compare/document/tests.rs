//! The document says everything that was found and everything that was not.

use super::*;
use crate::compare::machine::Machine;
use crate::compare::measure::Sample;
use crate::compare::results::Participant;
use crate::outcome::Yardstick;

fn sample(round: usize, cpu: f64) -> Sample {
    Sample {
        round,
        figures: [(Figure::CpuUs, cpu), (Figure::Rate, 1024.0 * cpu)].into(),
        limited_by: Some(Limit::Generator),
        yardstick: Some(Yardstick { before_us: 90.0, after_us: 90.0 }),
    }
}

fn results() -> Results {
    let cell = |peer: &str, samples| Cell { peer: peer.to_owned(), samples, ..Cell::default() };
    let failed =
        Cell { failure: Some("7 of 9 | operations\nfailed".to_owned()), ..cell("nginx", vec![sample(0, 9.0)]) };
    let unable = Cell { unable: Some("speaks no HTTP/2".to_owned()), ..cell("hitch", vec![]) };
    let mut row = RowResult {
        name: "http2".to_owned(),
        cells: vec![
            cell("portcullis", vec![sample(0, 10.0), sample(1, 12.0), sample(2, 11.0)]),
            cell("envoy", vec![sample(0, 20.0), sample(1, 24.0), sample(2, 33.0)]),
            failed,
            unable,
        ],
    };
    row.conclude("portcullis");
    let participant = |name: &str, missing: Option<&str>| Participant {
        name: name.to_owned(),
        version: missing.is_none().then(|| "1.2.3".to_owned()),
        missing: missing.map(str::to_owned),
    };
    Results {
        machine: Machine::default(),
        options: "benches/compare --rounds 3".to_owned(),
        rounds: 3,
        seconds: 5.0,
        peers: vec![
            participant("portcullis", None),
            participant("nginx", None),
            participant("haproxy", Some("not found")),
            participant("hitch", None),
        ],
        rows: vec![row],
    }
}

fn line<'a>(text: &'a str, part: &str) -> &'a str {
    text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no line with `{part}` in\n{text}"))
}

#[test]
fn a_row_shows_median_spread_ratio_and_what_held_it() {
    let text = write(&results(), &[], "");
    assert!(line(&text, "| Portcullis | 11 (10–12) |").contains("**the generator held the rate**"));
    assert!(line(&text, "| Envoy |").contains("| 24 (20–33) 2.00× |"), "{text}");
    assert!(line(&text, "| Envoy |").contains("yardstick 90 µs"));
}

#[test]
fn nothing_is_left_out_in_silence() {
    let text = write(&results(), &[], "");
    assert!(text.contains("| HAProxy | missing: not found |"));
    assert!(line(&text, "| hitch | – | – | – | – |").contains("speaks no HTTP/2"));
    // A reason cannot break the table.
    assert!(line(&text, "| nginx | 9 ").contains("**failed** in round 2: 7 of 9 \\| operations failed"));
    let (_, absent) = text.split_once("## What is not there").unwrap();
    for part in ["HAProxy: not found", "hitch, `http2`: speaks", "nginx, `http2`: 7 of 9", "`tcp`: not run"] {
        assert!(absent.contains(part), "{part}");
    }
}

#[test]
fn a_rerun_keeps_the_analysis_and_nothing_else() {
    let first = write(&results(), &[], "");
    assert_eq!(kept(&first), Some(EMPTY));
    let by_hand = first.replace(EMPTY, "We lose.\n\n| a | table |").replace("11 (10–12)", "0");
    let second = write(&results(), &[], kept(&by_hand).unwrap());
    assert!(second.contains("We lose.\n\n| a | table |") && second.contains("11 (10–12)"));
    assert_eq!(kept(&second), kept(&by_hand));
    assert_eq!(kept("# another document"), None);
}

#[test]
fn what_is_written_for_machines_can_be_read_again() {
    let results = results();
    let json = serde_json::to_string(&results).unwrap();
    assert_eq!(serde_json::from_str::<Results>(&json).unwrap(), results);
    assert!(json.contains("\"cpu_us\""));
}
