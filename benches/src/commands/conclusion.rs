//! What was measured, made into an outcome: costs per operation, what held the rate, and what else a reader has to know.

use std::collections::BTreeMap;
use std::time::Duration;

use time::format_description::well_known::Rfc3339;

use super::error::CommandError;
use super::exchange::Contact;
use super::options::TargetArgs;
use crate::load::crew::{Measured, Plan};
use crate::load::tickets::Pace;
use crate::measure::saturation::Parts;
use crate::measure::yardstick::p256_verify_us;
use crate::outcome::{Limit, Outcome, Yardstick};

/// What is known before a run and told after it.
#[derive(Debug)]
pub struct Beginning {
    command: &'static str,
    target: String,
    settings: BTreeMap<String, String>,
    yardstick_us: f64,
}

impl Beginning {
    /// Takes the yardstick and notes what will be run.
    ///
    /// # Errors
    /// When the yardstick cannot be taken.
    pub fn new(command: &'static str, args: &TargetArgs) -> Result<Self, CommandError> {
        let yardstick_us = p256_verify_us()?;
        Ok(Self { command, target: args.target.to_string(), settings: BTreeMap::new(), yardstick_us })
    }

    /// Notes a setting.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.settings.insert(name.to_owned(), value.into());
    }

    /// Notes what the first contact agreed on.
    pub fn agreed(&mut self, contact: &Contact) {
        let agreed = &contact.agreed;
        if let Some(version) = agreed.version {
            self.set("tls", format!("{version:?}"));
        }
        if let Some(group) = agreed.group {
            self.set("group", format!("{group:?}"));
        }
        if let Some(suite) = agreed.suite {
            self.set("cipher suite", format!("{suite:?}"));
        }
        if let Some(alpn) = &agreed.alpn {
            self.set("alpn", alpn.escape_ascii().to_string());
        }
    }

    /// Notes the plan.
    pub fn planned(&mut self, plan: &Plan) {
        self.set("connections", plan.connections.to_string());
        self.set("threads", plan.threads.to_string());
        self.set("duration", format!("{:?}", plan.duration));
        self.set("warm-up", format!("{:?}", plan.warm_up));
        match plan.pace {
            Pace::Closed => self.set("rate", "as fast as answered"),
            Pace::Open(rate) => self.set("rate", format!("{rate}/s")),
        }
    }

    /// An outcome without any operation in it, for commands that count otherwise.
    ///
    /// # Errors
    /// When the yardstick cannot be taken again.
    pub fn bare(self, began: time::OffsetDateTime, unit: &str) -> Result<Outcome, CommandError> {
        Ok(Outcome {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: self.command.to_owned(),
            target: self.target,
            settings: self.settings,
            started: began.truncate_to_second().format(&Rfc3339).unwrap_or_default(),
            seconds: 0.0,
            unit: unit.to_owned(),
            operations: 0.0,
            rate: 0.0,
            bytes: 0,
            failures: BTreeMap::new(),
            examples: Vec::new(),
            latency: None,
            spans: BTreeMap::new(),
            series: Vec::new(),
            costs: BTreeMap::new(),
            yardstick: Yardstick { before_us: self.yardstick_us, after_us: p256_verify_us()? },
            limited_by: Limit::Unknown,
            counts: BTreeMap::new(),
            remarks: Vec::new(),
        })
    }

    /// The outcome of a run. With `bytes_each` an operation is so many bytes, whatever was counted.
    ///
    /// # Errors
    /// When the yardstick cannot be taken again.
    pub fn conclude(self, plan: &Plan, measured: Measured, bytes_each: Option<f64>) -> Result<Outcome, CommandError> {
        let Measured { tally, window, began, generator, target, backend } = measured;
        let mut outcome = self.bare(began, plan.unit)?;
        outcome.seconds = window.as_secs_f64();
        outcome.bytes = tally.bytes;
        outcome.operations = match bytes_each {
            Some(each) => count(tally.bytes) / each,
            None => count(tally.done),
        };
        outcome.rate = outcome.operations / outcome.seconds.max(f64::EPSILON);
        outcome.series = tally.series(window, bytes_each);
        outcome.latency = tally.times.latency();
        outcome.spans =
            tally.spans.iter().filter_map(|(name, times)| Some(((*name).to_owned(), times.latency()?))).collect();
        outcome.counts = tally.counts.iter().map(|(name, number)| ((*name).to_owned(), count(*number))).collect();
        outcome.failures = tally.failures.iter().map(|(kind, number)| (kind.to_string(), *number)).collect();
        outcome.examples = tally.examples;
        let parts = Parts { target: target.as_ref(), generator: Some(&generator), backend: backend.as_ref() };
        outcome.limited_by = if is_reached(plan.pace, outcome.rate) { Limit::Rate } else { parts.limit() };
        let operations = outcome.operations;
        outcome.costs.insert("generator".to_owned(), generator.cost(operations, Some(plan.threads)));
        for (name, usages) in [("target", &target), ("backend", &backend)] {
            if let Some(usages) = usages {
                outcome.costs.insert(name.to_owned(), usages.cost(operations, None));
            }
        }
        outcome.remarks = remarks(plan, &outcome);
        Ok(outcome)
    }
}

/// Whether operations were completed as fast as they were due.
fn is_reached(pace: Pace, rate: f64) -> bool {
    match pace {
        Pace::Open(chosen) => rate >= REACHED * chosen,
        Pace::Closed => false,
    }
}

/// What a reader has to know and cannot see from the other figures.
fn remarks(plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Pace::Open(rate) = plan.pace
        && outcome.limited_by != Limit::Rate
    {
        remarks.push(format!(
            "The chosen rate of {rate}/s was not reached: latencies grow with the length of the run and say only that."
        ));
    }
    if plan.duration < TICKS && !plan.target.is_empty() {
        remarks.push("The run was short beside the 10 ms in which the kernel counts CPU time.".to_owned());
    }
    remarks
}

#[expect(clippy::cast_precision_loss, reason = "operations and bytes of a run are far below 2^53")]
fn count(number: u64) -> f64 {
    number as f64
}

/// A rate counts as reached when at most this share is missing: what was under way at the end of the window.
const REACHED: f64 = 0.98;
const TICKS: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_reached_but_for_what_was_under_way() {
        assert!(is_reached(Pace::Open(5000.0), 4990.0));
        assert!(!is_reached(Pace::Open(5000.0), 4800.0));
        assert!(!is_reached(Pace::Closed, 1e6));
    }
}
