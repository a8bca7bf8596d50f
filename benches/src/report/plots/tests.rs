//! Every kind of plot with what it should show, and with what it should survive.

use super::*;
use crate::outcome::{Cost, Latency, Outcome, Second};
use crate::report::tests::{assert_no_false_numbers, assert_well_formed, empty, hostile, latency, realistic, series};

#[track_caller]
fn check(svg: &str, shown: &[&str]) {
    assert_well_formed(svg);
    assert_no_false_numbers(svg);
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\""), "{svg}");
    assert!(svg.contains("<title>"), "{svg}");
    assert!(svg.len() < 300_000, "{} bytes", svg.len());
    for words in shown {
        assert!(svg.contains(words), "{words} is not in {svg}");
    }
}

fn bar(group: &str, label: &str, [value, low, high]: [f64; 3]) -> Bar {
    Bar { group: group.to_owned(), label: label.to_owned(), value, low, high }
}

#[test]
fn a_distribution_shows_each_curve_and_its_figures() {
    let ours = latency([3_400.0, 4_200.0, 7_900.0, 21_000.0, 48_000.0]);
    let theirs = latency([3_900.0, 6_100.0, 31_000.0, 240_000.0, 1_010_000.0]);
    let svg = distribution("Latency", &[("Portcullis", &ours), ("Envoy", &theirs)]);
    check(&svg, &["Portcullis", "Envoy", "99.99 %", "3.40 ms", "48.0 ms", "1.01 s", "10 ms", "#2563b8", "#e07b1a"]);
    // The maximum of 540,000 lies at 5.73 nines, which is the right edge: one nine is at 92 + 676 / 5.73.
    check(&svg, &["x=\"209.9\" y=\"376\"", "cx=\"768\""]);
}

#[test]
fn a_distribution_survives_what_is_hardly_one() {
    let nothing = Latency::default();
    check(&distribution("none", &[]), &["no times were measured"]);
    check(&distribution("empty", &[("nothing", &nothing)]), &["no times were measured", "nothing"]);
    let stale = Latency { quantiles: vec![(0.5, 10.0)], ..Latency::default() };
    check(&distribution("stale", &[("stale", &stale)]), &["no times were measured"]);
    let no_number = Latency { count: 9, quantiles: vec![(0.5, f64::NAN), (0.9, f64::INFINITY)], ..Latency::default() };
    check(&distribution("none", &[("none", &no_number)]), &["no times were measured"]);
    let single = Latency { count: 1, p50_us: 1e12, max_us: 1e12, quantiles: vec![(1.0, 1e12)], ..Latency::default() };
    check(&distribution("one", &[("one", &single)]), &["1,000,000 s", "<circle"]);
    let named = Latency { quantiles: Vec::new(), ..latency([1.0, 2.0, 3.0, 4.0, 5.0]) };
    check(&distribution("named", &[("named", &named)]), &["<circle", "5.00 µs"]);
    let hostile = hostile();
    let times = hostile.latency.as_ref().unwrap();
    check(&distribution(&hostile.target, &[(&hostile.target, times), ("<b>", times)]), &["&lt;b&gt;"]);
    let many: Vec<(f64, f64)> = (0..100_000).map(|n| (f64::from(n) / 1e5, f64::from(n + 1))).collect();
    check(&distribution("many", &[("many", &Latency { quantiles: many, ..single })]), &[]);
}

#[test]
fn failures_are_marked_at_their_second() {
    let mut outcome = realistic();
    assert!(!over_time("time", &outcome).contains("failures"));
    outcome.series[7].failures = 12;
    let svg = over_time("time", &outcome);
    check(&svg, &["requests per second", "× failures: 12, in 1 of 30 seconds", "p99", "seconds since the start"]);
    assert_eq!(svg.matches("class=\"s-alarm\"").count(), 3, "a cross of two lines, and one down to the axis");
    // In the middle of the eighth second: 92 + 676 * 7.5 / 30 = 261, drawn at a multiple of 4.
    check(&svg, &["d=\"M260 "]);
}

#[test]
fn over_time_survives_short_long_and_senseless_series() {
    check(&over_time("none", &empty()), &["no second was measured"]);
    // Of its four seconds two have a time that makes sense, and the sum of their failures is beyond 64 bits.
    check(&over_time("hostile", &hostile()), &["3.69e19, in 2 of 2 seconds"]);
    let one = Second { at: 0.25, rate: 1e12, failures: 0, p50_us: 1e12, p99_us: 1e12 };
    check(&over_time("one", &Outcome { series: vec![one], ..realistic() }), &["1e12"]);
    let idle = (1..=3).map(|n| Second { at: f64::from(n), ..Second::default() }).collect();
    check(&over_time("idle", &Outcome { series: idle, ..realistic() }), &[]);
    let mut hours = series(20_000, 1e6);
    hours.iter_mut().for_each(|second| second.failures = 1);
    check(&over_time("hours", &Outcome { series: hours, ..realistic() }), &["in 20,000 of 20,000 seconds"]);
}

#[test]
fn a_second_without_operations_leaves_a_gap() {
    let mut outcome = realistic();
    let curves = |outcome: &Outcome| over_time("gap", outcome).matches("<path").count();
    let whole = curves(&outcome);
    outcome.series[9] = Second { at: 10.0, ..Second::default() };
    // One more piece of the curve of p50 and of that of p99; the rate goes to zero instead.
    assert_eq!(curves(&outcome), whole + 2);
}

#[test]
fn bars_compare_within_groups() {
    let all = [
        bar("HTTP/1.1 request", "Portcullis", [44.0, 42.0, 47.0]),
        bar("HTTP/1.1 request", "Envoy", [55.0, 55.0, 55.0]),
        bar("HTTP/2 request", "Portcullis", [38.0, 37.0, 40.0]),
        bar("HTTP/2 request", "nginx", [f64::NAN, f64::NAN, f64::NAN]),
        bar("HTTP/1.1 request", "nginx", [21.0, 20.0, 23.0]),
    ];
    let svg = bars("CPU", "µs of CPU per request", Better::Lower, &all);
    check(&svg, &["µs of CPU per request; lower is better", "44.0", "42.0 to 47.0", "not measured", "#0f5c33"]);
    assert_eq!(svg.matches(">HTTP/1.1 request<").count(), 1, "{svg}");
    assert!(!svg.contains("55.0 to"), "{svg}");
    // The axis goes from 150 to 600 for 0 to 60: 44 is 330 pixels long.
    assert_eq!(svg.matches("#2563b8").count(), 2, "both bars of Portcullis, and no others, are blue");
    check(&svg, &["width=\"330\"", "width=\"412.5\"", "width=\"157.5\""]);
    check(&bars("rate", "requests per second", Better::Higher, &all), &["higher is better"]);
}

#[test]
fn bars_survive_anything() {
    check(&bars("none", "", Better::Lower, &[]), &[]);
    let nasty = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5.0, 0.0, 1e12, f64::MAX, f64::MIN_POSITIVE];
    for value in nasty {
        for end in nasty {
            check(&bars("<&>", "\"'", Better::Lower, &[bar("<g>", "&l", [value, end, value])]), &["&lt;g&gt;"]);
        }
    }
    let long = "W".repeat(10_000);
    check(&bars(&long, &long, Better::Lower, &[bar(&long, &long, [1.0, 0.5, 2.0])]), &["…"]);
}

#[test]
fn costs_are_stacked_and_summed() {
    let outcome = realistic();
    let cost = outcome.costs.get("target").unwrap();
    check(&costs("CPU", "request", &[("target", cost)]), &["55.4 µs", "31.2 µs + 24.2 µs", "user mode", "kernel"]);
    // The axis goes from 150 to 560 for 0 to 60 µs.
    check(&costs("CPU", "request", &[("target", cost)]), &["x=\"150\" y=\"111\" width=\"213.2\"", "width=\"165.4\""]);
    let odd = Cost { user_us_per_operation: -5.0, system_us_per_operation: 10.0, ..cost.clone() };
    check(&costs("CPU", "request", &[("target", &odd)]), &[">10.0 µs<", ">0 µs + 10.0 µs<"]);
    let hostile = hostile();
    for (name, cost) in &hostile.costs {
        check(&costs(name, name, &[(name, cost)]), &[]);
    }
    check(&costs("none", "request", &[]), &[]);
}

#[test]
fn the_style_for_dark_pages_knows_every_colour() {
    let style = dark_style();
    let svg = over_time("time", &realistic()) + &distribution("none", &[]) + &bars("b", "", Better::Lower, &[]);
    for class in svg.split("class=\"").skip(1).filter_map(|rest| rest.split('"').next()).flat_map(str::split_whitespace)
    {
        assert!(style.contains(&format!(".{class}{{")), "{class}");
    }
}
