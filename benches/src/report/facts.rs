//! What a run found, as lines of words and figures: the same for the terminal and for a page.
//!
//! Only what is there: a line without any figure does not appear, nor does a list without lines.

use crate::outcome::{Cost, Latency, Outcome};
use crate::report::{figures, text, verdict};

/// A small table: what each line is about, and one cell or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What the lines are about, then what each column is. Empty if the cells speak for themselves.
    pub columns: Vec<String>,
    /// The lines, each as long as the columns if there are any.
    pub lines: Vec<Vec<String>>,
    /// What the cells hold.
    pub cells: Cells,
}

/// What the cells of a table hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cells {
    /// Words that are read.
    Words,
    /// Figures that are compared along a column.
    Figures,
}

/// The parts of a run in the order in which a request meets them.
const PARTS: [&str; 3] = ["target", "backend", "generator"];

/// All of it, most important first.
pub fn facts(outcome: &Outcome) -> Vec<Facts> {
    let all = [summary(outcome), times(outcome), costs(outcome), failures(outcome)];
    all.into_iter().filter(|facts| !facts.lines.is_empty()).collect()
}

/// How it was run, on one line.
pub fn settings(outcome: &Outcome) -> String {
    let settings: Vec<String> = outcome.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
    settings.join(", ")
}

/// The rate with its unit.
pub fn rate(outcome: &Outcome) -> String {
    format!("{} {} per second", figures::number(outcome.rate), text::plural(&outcome.unit))
}

/// The latency, if there is any time in it.
pub fn measured(outcome: &Outcome) -> Option<&Latency> {
    outcome.latency.as_ref().filter(|latency| latency.count > 0)
}

/// The parts whose cost is known.
pub fn parts(outcome: &Outcome) -> Vec<(&str, &Cost)> {
    let known = PARTS.iter().filter_map(|part| outcome.costs.get_key_value(*part));
    let others = outcome.costs.iter().filter(|(part, _)| !PARTS.contains(&part.as_str()));
    known.chain(others).map(|(part, cost)| (part.as_str(), cost)).collect()
}

fn summary(outcome: &Outcome) -> Facts {
    let mut lines = Vec::new();
    let mut add = |name: &str, words: String| lines.push(vec![name.to_owned(), words]);
    let units = text::plural(&outcome.unit);

    let settings = settings(outcome);
    if !settings.is_empty() {
        add("settings", settings);
    }
    let window = figures::time(outcome.seconds * 1e6);
    add(&units, format!("{} in {window}", figures::count(outcome.operations)));
    if outcome.rate > 0.0 {
        add("rate", rate(outcome));
    }
    if outcome.bytes > 0 {
        let kib = whole(outcome.bytes) / 1024.0;
        let per_second = if outcome.seconds > 0.0 { kib / outcome.seconds } else { f64::NAN };
        add("payload", format!("{}, {} per second", figures::size(kib), figures::size(per_second)));
    }
    if verdict::failed(outcome) == 0.0 {
        add("failures", "none".to_owned());
    }
    if outcome.rate > 0.0 {
        add("limited by", verdict::limited_by(outcome.limited_by).to_owned());
    }
    for (name, value) in &outcome.counts {
        let (name, value) = counted(name, *value);
        add(&name, value);
    }
    if let Some(swing) = verdict::swing_of(&outcome.yardstick) {
        let (before, after) = (figures::time(outcome.yardstick.before_us), figures::time(outcome.yardstick.after_us));
        let swing = figures::share((swing * 1000.0).round() / 1000.0);
        add("yardstick", format!("{before} before, {after} after, {swing} apart: one P-256 verification"));
    }
    Facts { columns: Vec::new(), lines, cells: Cells::Words }
}

fn times(outcome: &Outcome) -> Facts {
    let named = outcome.spans.iter().map(|(name, latency)| (name.as_str(), latency));
    let all = outcome.latency.iter().map(|latency| ("latency", latency)).chain(named);
    let lines = all
        .filter(|(_, latency)| latency.count > 0)
        .map(|(name, latency)| [vec![name.replace('_', " ")], quantiles(latency)].concat())
        .collect();
    let columns = ["", "p50", "p90", "p99", "p99.9", "max"].map(str::to_owned).to_vec();
    Facts { columns, lines, cells: Cells::Figures }
}

fn quantiles(latency: &Latency) -> Vec<String> {
    let times = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
    times.map(figures::time).to_vec()
}

/// A measure of a part: its name, and how it is found and written.
type Measure = (String, fn(&Cost) -> f64, fn(f64) -> String);

fn costs(outcome: &Outcome) -> Facts {
    let parts = parts(outcome);
    let unit = &outcome.unit;
    let measures: [Measure; 9] = [
        (format!("CPU per {unit}"), Cost::us_per_operation, figures::time),
        ("  in user mode".to_owned(), |cost| cost.user_us_per_operation, figures::time),
        ("  in the kernel".to_owned(), |cost| cost.system_us_per_operation, figures::time),
        ("cores busy".to_owned(), |cost| cost.cores, figures::number),
        ("cores wanted".to_owned(), |cost| cost.cores_wanted, figures::number),
        (format!("at most {} per second", text::plural(unit)), |cost| cost.limit_per_second, figures::number),
        ("memory at the start".to_owned(), |cost| whole(cost.memory_start_kib), figures::size),
        ("memory at its peak".to_owned(), |cost| whole(cost.memory_peak_kib), figures::size),
        ("memory at the end".to_owned(), |cost| whole(cost.memory_end_kib), figures::size),
    ];
    let mut lines = Vec::new();
    for (name, value, written) in measures {
        let values: Vec<f64> = parts.iter().map(|(_, cost)| value(cost)).collect();
        if values.iter().any(|value| value.is_finite() && *value > 0.0) {
            let cells =
                values.into_iter().map(|value| if value > 0.0 { written(value) } else { figures::NONE.to_owned() });
            lines.push([name].into_iter().chain(cells).collect());
        }
    }
    let columns = [String::new()].into_iter().chain(parts.iter().map(|(part, _)| (*part).to_owned())).collect();
    Facts { columns, lines, cells: Cells::Figures }
}

fn failures(outcome: &Outcome) -> Facts {
    let kinds = outcome.failures.iter().filter(|(_, number)| **number > 0);
    let lines = kinds.map(|(kind, number)| vec![kind.clone(), figures::count(whole(*number))]).collect();
    Facts { columns: vec!["failures".to_owned(), "number".to_owned()], lines, cells: Cells::Figures }
}

/// The name of a count without its unit, and the number with it.
fn counted(name: &str, value: f64) -> (String, String) {
    let (name, value) = match (name.strip_suffix("_kib"), name.strip_suffix("_us")) {
        (Some(name), _) => (name, figures::size(value)),
        (None, Some(name)) => (name, figures::time(value)),
        (None, None) => (name, figures::count(value)),
    };
    (name.replace('_', " "), value)
}

#[expect(clippy::cast_precision_loss, reason = "shown with three figures")]
fn whole(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{empty, realistic};

    fn line(outcome: &Outcome, name: &str) -> Option<String> {
        let lines = facts(outcome).into_iter().flat_map(|facts| facts.lines);
        lines.filter(|line| line[0].trim() == name).map(|line| line[1..].join(" | ")).next()
    }

    #[test]
    fn a_run_is_told_in_figures() {
        let outcome = realistic();
        for (name, expected) in [
            ("settings", "connections 64, duration 30s, group x25519mlkem768"),
            ("requests", "540,000 in 30.0 s"),
            ("rate", "18,000 requests per second"),
            ("payload", "527 MiB, 17.6 MiB per second"),
            ("failures", "none"),
            ("limited by", "the target"),
            ("memory per connection", "33.5 KiB"),
            ("yardstick", "90.1 µs before, 92.0 µs after, 2.1 % apart: one P-256 verification"),
            ("latency", "3.40 ms | 4.20 ms | 7.90 ms | 21.0 ms | 48.0 ms"),
            ("tls", "910 µs | 1.20 ms | 2.10 ms | 3.90 ms | 5.10 ms"),
            ("CPU per request", "55.4 µs | 9.10 µs | 21.0 µs"),
            ("in user mode", "31.2 µs | 4.10 µs | 13.0 µs"),
            ("cores busy", "0.997 | 0.164 | 0.378"),
            ("at most requests per second", "18,051 | 219,780 | 142,857"),
            ("memory at its peak", "14.2 MiB | 9.38 MiB | 22.5 MiB"),
        ] {
            assert_eq!(line(&outcome, name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn what_is_not_there_has_no_line() {
        let outcome = empty();
        for name in ["settings", "rate", "payload", "latency", "cores busy", "yardstick"] {
            assert_eq!(line(&outcome, name), None, "{name}");
        }
        let mut outcome = realistic();
        outcome.spans.insert("tcp".to_owned(), Latency::default());
        assert_eq!(line(&outcome, "tcp"), None);
        outcome.costs.remove("backend");
        assert_eq!(line(&outcome, "CPU per request").as_deref(), Some("55.4 µs | 21.0 µs"));
    }

    #[test]
    fn failures_are_listed_by_kind() {
        let mut outcome = realistic();
        outcome.failures.insert("timeout".to_owned(), 1234);
        assert_eq!(line(&outcome, "timeout").as_deref(), Some("1,234"));
        assert_eq!(line(&outcome, "failures"), None);
    }
}
