//! Does the work of a row with a path that answers, and picks the figures out of what was found.

use std::collections::BTreeMap;

use rustls::NamedGroup;
use serde::{Deserialize, Serialize};

use super::effort::Effort;
use super::errand::{Way, errand};
use super::figure::Figure;
use super::peers::{Peer, Unable};
use super::probe::{Probe, ProbeError};
use super::rows::{Row, Work};
use super::setup::{Running, Secure, SetupError, Surroundings, Wanted, set_up};
use super::stage::{Rules, Stage};
use super::statistics::Summary;
use super::tool::{Tool, ToolError};
use crate::measure::processes::proportional_kib;
use crate::outcome::{Cost, Limit, Outcome, Yardstick};

/// What one round found about one peer in one row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The round, counted from 0.
    pub round: usize,
    /// The numbers.
    pub figures: BTreeMap<Figure, f64>,
    /// What held the rate, where there was one.
    pub limited_by: Option<Limit>,
    /// How fast the machine was.
    pub yardstick: Option<Yardstick>,
}

/// Why a round found nothing about a peer.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The peer cannot do this.
    #[error(transparent)]
    Unable(#[from] Unable),
    /// The path was not to be had.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The generator did not do its work.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The probe found no answer.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Operations failed.
    #[error("{failed} of {operations:.0} operations failed: {kinds}{example}{log}")]
    Failures {
        /// How many.
        failed: u64,
        /// How many did not.
        operations: f64,
        /// How many of which kind.
        kinds: String,
        /// The first one in words, or nothing.
        example: String,
        /// What the proxies said last.
        log: String,
    },
    /// Nothing was done.
    #[error("not a single operation was completed")]
    Nothing,
    /// Some new certificates were never seen.
    #[error("{seen:.0} of {swaps:.0} new certificates were seen")]
    Unnoticed {
        /// Seen ones.
        seen: f64,
        /// All.
        swaps: f64,
    },
    /// The memory of processes could not be read.
    #[error("the memory of the proxy's processes cannot be read")]
    Memory(#[from] procfs::ProcError),
}

impl MeasureError {
    /// That the peer cannot do it, if that is why.
    pub fn unable(&self) -> Option<&Unable> {
        match self {
            Self::Unable(unable) => Some(unable),
            Self::Setup(error) => error.unable(),
            Self::Tool(_)
            | Self::Probe(_)
            | Self::Failures { .. }
            | Self::Nothing
            | Self::Unnoticed { .. }
            | Self::Memory(_) => None,
        }
    }
}

/// One round of one row for one peer, from setting up to tearing down.
///
/// # Errors
/// When the peer cannot do it, or something failed.
pub async fn measure(
    around: &Surroundings<'_>,
    tool: &Tool,
    effort: &Effort,
    row: &Row,
    wanted: &Wanted<'_>,
) -> Result<Sample, MeasureError> {
    if wanted.peer == Peer::Direct && !applies_without_proxy(row.work, wanted.stage) {
        return Err(Unable("there is nothing to measure without a proxy".to_owned()).into());
    }
    if row.work == Work::Start {
        return starts(around, effort, wanted).await;
    }
    let running = set_up(around, wanted).await?;
    let measured = with_path(around, tool, effort, row, (wanted.peer, &running)).await;
    running.stop().await;
    measured
}

async fn with_path(
    around: &Surroundings<'_>,
    tool: &Tool,
    effort: &Effort,
    row: &Row,
    path: (Peer, &Running),
) -> Result<Sample, MeasureError> {
    let (peer, running) = path;
    let pids = running.pids();
    if let Work::Handshakes(group) = row.work
        && running.secure == Secure::Mutual
    {
        offers(around, group, running, row).await?;
    }
    let way = Way {
        peer,
        port: running.port,
        secure: running.secure,
        pids: &pids,
        identity: &running.identity,
        application: around.application.pid(),
        pki: around.pki,
    };
    let Some(errand) = errand(&way, tool.cores.generator_threads(), effort, row) else {
        let kib = f64::from(u32::try_from(proportional_kib(&pids)?).unwrap_or(u32::MAX));
        return Ok(Sample { figures: [(Figure::IdleMemoryMib, kib / 1024.0)].into(), ..Sample::default() });
    };
    let outcome = tool.run(errand.arguments, running.directory(), errand.expected).await?;
    judge(&outcome, row.work, peer, &running.last_words())?;
    Ok(Sample {
        figures: row.figures.iter().filter_map(|figure| Some((*figure, pick(*figure, &outcome)?))).collect(),
        limited_by: Some(outcome.limited_by),
        yardstick: Some(outcome.yardstick),
        ..Sample::default()
    })
}

/// Finds out by trying whether the proxy has a group.
async fn offers(
    around: &Surroundings<'_>,
    group: NamedGroup,
    running: &Running,
    row: &Row,
) -> Result<(), MeasureError> {
    match Probe::mutual(row.stage.carries, around.pki, group)?.ask(running.port).await {
        Err(error) if error.is_no_common_group() => Err(Unable(format!("no {group:?}")).into()),
        other => Ok(other?),
    }
}

/// Starts a path again and again.
async fn starts(around: &Surroundings<'_>, effort: &Effort, wanted: &Wanted<'_>) -> Result<Sample, MeasureError> {
    let mut times = Vec::new();
    for _ in 0..effort.starts {
        let running = set_up(around, wanted).await?;
        times.push(running.start.as_secs_f64() * 1e3);
        running.stop().await;
    }
    let median = Summary::of(&times).ok_or(MeasureError::Nothing)?.median;
    Ok(Sample { figures: [(Figure::StartMs, median)].into(), ..Sample::default() })
}

/// Nothing may have failed, except that a reload may cost others than Portcullis requests: that is a figure.
fn judge(outcome: &Outcome, work: Work, peer: Peer, last_words: &str) -> Result<(), MeasureError> {
    if work == Work::Rotation {
        let count = |name: &str| outcome.counts.get(name).copied().unwrap_or_default();
        let (swaps, seen) = (count("swaps"), count("swaps_seen"));
        if swaps == 0.0 || seen < swaps {
            return Err(MeasureError::Unnoticed { seen, swaps });
        }
    }
    let forgiven = work == Work::Rotation && peer != Peer::Portcullis;
    let failed = outcome.failed();
    if failed > 0 && !forgiven {
        let kinds: Vec<String> = outcome.failures.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let example = outcome.examples.first().map(|example| format!("; the first: {example}")).unwrap_or_default();
        let log = if last_words.is_empty() { String::new() } else { format!("; the proxy said:\n{last_words}") };
        return Err(MeasureError::Failures {
            failed,
            operations: outcome.operations,
            kinds: kinds.join(", "),
            example,
            log,
        });
    }
    if outcome.operations <= 0.0 && work != Work::IdleConnections {
        return Err(MeasureError::Nothing);
    }
    Ok(())
}

/// A figure of an outcome. None where the outcome does not have it: without a proxy, nobody has its costs.
fn pick(figure: Figure, outcome: &Outcome) -> Option<f64> {
    let target = outcome.costs.get("target");
    let latency = outcome.latency.as_ref();
    match figure {
        Figure::CpuUs => target.map(Cost::us_per_operation),
        Figure::CpuSecondsPerGb => target.map(|cost| cost.us_per_operation() / 1e6),
        Figure::Rate | Figure::GbPerSecond => Some(outcome.rate),
        Figure::P50Us => latency.map(|latency| latency.p50_us),
        Figure::P99Us => latency.map(|latency| latency.p99_us),
        Figure::ConnectionKib => outcome.counts.get("memory_per_connection_kib").copied(),
        Figure::NoticedMs => outcome.spans.get("rename_to_first_new").map(|span| span.p50_us / 1e3),
        // Far below 2^52.
        #[expect(clippy::cast_precision_loss, reason = "a number of requests")]
        Figure::FailedRequests => Some(outcome.failed() as f64),
        // Not the generator's.
        Figure::IdleMemoryMib | Figure::StartMs => None,
    }
}

fn applies_without_proxy(work: Work, stage: Stage) -> bool {
    match work {
        // Without TLS there is no group.
        Work::Handshakes(group) => group == NamedGroup::X25519,
        Work::Connections | Work::Stream => true,
        Work::Requests { .. } => stage.rules == Rules::Caller,
        Work::IdleMemory | Work::IdleConnections | Work::Start | Work::Rotation => false,
    }
}

#[cfg(test)]
mod tests;
