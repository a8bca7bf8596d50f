//! What a reader has to know before trusting a figure, in whole sentences.

use crate::outcome::{Cost, Limit, Outcome, Yardstick};
use crate::report::{figures, text};

/// From this change of the machine's speed on a comparison of two runs says little.
const SWING: f64 = 0.10;

/// A sentence about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// How much it matters.
    pub weight: Weight,
    /// What it says. May contain text of others.
    pub text: String,
}

/// How much a sentence matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The figures do not mean what they seem to mean.
    Warning,
    /// It helps to read them.
    Note,
}

/// All there is to say about a run, warnings first.
pub fn sentences(outcome: &Outcome) -> Vec<Sentence> {
    let warnings = [nothing(outcome), failures(outcome), bottleneck(outcome), swing(&outcome.yardstick)];
    let notes = [limit(outcome)];
    let as_sentence = |weight: Weight| move |text: String| Sentence { weight, text };
    let mut all: Vec<Sentence> = warnings.into_iter().flatten().map(as_sentence(Weight::Warning)).collect();
    all.extend(notes.into_iter().flatten().map(as_sentence(Weight::Note)));
    all.extend(outcome.remarks.iter().cloned().map(as_sentence(Weight::Note)));
    all
}

/// What held the rate, in a few words.
pub fn limited_by(limit: Limit) -> &'static str {
    match limit {
        Limit::Rate => "the chosen rate",
        Limit::Target => "the target",
        Limit::Generator => "the generator",
        Limit::Backend => "the backend",
        Limit::Unknown => "not known",
    }
}

/// All failures together. Their numbers come from a file and may be too great for an integer.
#[expect(clippy::cast_precision_loss, reason = "shown with three figures")]
pub fn failed(outcome: &Outcome) -> f64 {
    // Not `sum`, which is -0 when there are none.
    outcome.failures.values().fold(0.0, |sum, number| sum + *number as f64)
}

/// By how much the machine's speed changed, as a share of the faster one.
pub fn swing_of(yardstick: &Yardstick) -> Option<f64> {
    let (before, after) = (yardstick.before_us, yardstick.after_us);
    let sound = before.is_finite() && after.is_finite() && before > 0.0 && after > 0.0;
    sound.then(|| (before - after).abs() / before.min(after))
}

fn nothing(outcome: &Outcome) -> Option<String> {
    // Not `<= 0.0`: what is no number counts as nothing too.
    let is_some = outcome.operations > 0.0;
    (!is_some).then(|| "Nothing was completed within the measured time: there is no rate and no latency.".to_owned())
}

fn failures(outcome: &Outcome) -> Option<String> {
    let failed = failed(outcome);
    if failed == 0.0 {
        return None;
    }
    let units = text::plural(&outcome.unit);
    let tried = failed + outcome.operations.max(0.0);
    Some(format!(
        "{} failed. Rate and latency are those of the {units} that were completed.",
        // Gigabytes are not tried one by one.
        if units == outcome.unit {
            figures::count(failed)
        } else {
            format!(
                "{} of {} {units} ({})",
                figures::count(failed),
                figures::count(tried),
                figures::share(failed / tried)
            )
        },
    ))
}

fn bottleneck(outcome: &Outcome) -> Option<String> {
    match outcome.limited_by {
        Limit::Generator => Some(format!(
            "This program was the bottleneck, not the target: the result says little about the target.{} Give this \
             program more `--threads`, on cores that the target does not use, or leave the target fewer cores.",
            ceiling(outcome, "generator", "this program"),
        )),
        Limit::Backend => Some(format!(
            "The application behind the target was the bottleneck: the result says little about the target.{} Give the \
             backend more `--threads`, on cores that the target does not use, ask it for less, or leave the target \
             fewer cores.",
            ceiling(outcome, "backend", "the backend"),
        )),
        Limit::Rate | Limit::Target | Limit::Unknown => None,
    }
}

/// How much that part could have done.
fn ceiling(outcome: &Outcome, part: &str, name: &str) -> String {
    let limit = outcome.costs.get(part).map_or(f64::NAN, |cost: &Cost| cost.limit_per_second);
    if !(limit.is_finite() && limit > 0.0) {
        return String::new();
    }
    let units = text::plural(&outcome.unit);
    format!(" With its cores {name} can do at most about {} {units} per second.", figures::about(limit))
}

fn swing(yardstick: &Yardstick) -> Option<String> {
    let swing = swing_of(yardstick).filter(|swing| *swing > SWING)?;
    let direction = if yardstick.after_us > yardstick.before_us { "slower" } else { "faster" };
    Some(format!(
        "The machine became {direction} by {} during the run (one P-256 verification took {} before and {} after it): \
         repeat the run before you compare it with another.",
        figures::share((swing * 1000.0).round() / 1000.0),
        figures::time(yardstick.before_us),
        figures::time(yardstick.after_us),
    ))
}

fn limit(outcome: &Outcome) -> Option<String> {
    // Connections that only stay have no rate for anything to hold.
    if outcome.rate <= 0.0 {
        return None;
    }
    match outcome.limited_by {
        Limit::Rate => Some("The rate was chosen: look at the latency and at the cost, not at the rate.".to_owned()),
        Limit::Target => Some("The target held the rate: it used all the cores that it may use.".to_owned()),
        Limit::Unknown => Some(unknown(outcome)),
        Limit::Generator | Limit::Backend => None,
    }
}

/// What would tell more.
fn unknown(outcome: &Outcome) -> String {
    if !outcome.costs.contains_key("target") {
        return "What held the rate is not known: name the target's process with `--pid` to see it.".to_owned();
    }
    let seen = "Nothing that was seen held the rate: neither the target nor this program used all of its cores. More \
                `--connections` would show whether waiting did";
    if outcome.costs.contains_key("backend") {
        return format!("{seen}.");
    }
    format!("{seen}; `--backend-pid` shows whether the backend did.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{empty, realistic};

    fn warnings(outcome: &Outcome) -> Vec<String> {
        let all = sentences(outcome).into_iter();
        all.filter(|sentence| sentence.weight == Weight::Warning).map(|sentence| sentence.text).collect()
    }

    #[test]
    fn a_good_run_has_no_warning() {
        assert_eq!(warnings(&realistic()), Vec::<String>::new());
    }

    #[test]
    fn a_bottleneck_beside_the_target_is_said_with_what_to_do() {
        for (limited_by, who) in [(Limit::Generator, "This program"), (Limit::Backend, "The application behind")] {
            let found = warnings(&Outcome { limited_by, ..realistic() });
            let [sentence] = found.as_slice() else { panic!("{found:?}") };
            for part in [who, "says little about the target", "more `--threads`", "can do at most about"] {
                assert!(sentence.contains(part), "{part} is not in {sentence}");
            }
        }
    }

    #[test]
    fn a_machine_that_changed_its_speed_is_said() {
        for (before_us, after_us, said) in [
            (90.0, 98.0, None),
            (98.0, 90.0, None),
            (90.0, 117.0, Some("slower by 30 %")),
            (117.0, 90.0, Some("faster by 30 %")),
            (0.0, 90.0, None),
            (f64::NAN, 90.0, None),
        ] {
            let found = warnings(&Outcome { yardstick: Yardstick { before_us, after_us }, ..realistic() });
            match said {
                Some(words) => assert!(found.iter().any(|sentence| sentence.contains(words)), "{found:?}"),
                None => assert_eq!(found, Vec::<String>::new()),
            }
        }
    }

    #[test]
    fn failures_are_said_with_their_share() {
        let mut outcome = realistic();
        outcome.operations = 990.0;
        outcome.failures.insert("timeout".to_owned(), 10);
        assert!(warnings(&outcome)[0].starts_with("10 of 1,000 requests (1 %) failed."), "{:?}", warnings(&outcome));
        outcome.unit = "GB".to_owned();
        assert!(warnings(&outcome)[0].starts_with("10 failed."), "{:?}", warnings(&outcome));
        outcome.failures.insert("more".to_owned(), u64::MAX);
        assert!(!warnings(&outcome).is_empty());
    }

    #[test]
    fn who_does_not_know_is_told_what_to_name() {
        let mut outcome = Outcome { limited_by: Limit::Unknown, ..realistic() };
        for (missing, named) in [("none", "`--connections`"), ("backend", "`--backend-pid`"), ("target", "`--pid`")] {
            outcome.costs.remove(missing);
            let all = sentences(&outcome);
            assert!(all.iter().any(|sentence| sentence.text.contains(named)), "{named} is not in {all:?}");
        }
    }

    #[test]
    fn an_empty_run_says_so() {
        for operations in [0.0, f64::NAN] {
            let found = warnings(&Outcome { operations, ..empty() });
            assert!(found[0].starts_with("Nothing was completed"), "{found:?}");
        }
    }
}
