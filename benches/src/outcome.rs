//! What a run found: the shape of `--json`, and what tables and plots are drawn from.
//!
//! Field names are part of the tool's interface; a reader may rely on them within a major version. Times are in
//! microseconds and carry `_us`, sizes in KiB carry `_kib`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One run of one command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Version of the tool.
    pub version: String,
    /// What was run, such as `http`.
    pub command: String,
    /// The target as it was given.
    pub target: String,
    /// How it was run: connections, rate, group and so on, as text for people.
    pub settings: BTreeMap<String, String>,
    /// When the measured window began, RFC 3339.
    pub started: String,
    /// Length of the measured window.
    pub seconds: f64,
    /// What one operation is, in the singular: `request`, `handshake`, `connection`, `GB`.
    pub unit: String,
    /// Operations that were completed and verified within the window.
    pub operations: f64,
    /// Operations per second.
    pub rate: f64,
    /// Payload that was moved within the window, without TLS and HTTP overhead.
    pub bytes: u64,
    /// Failures by kind. Empty when everything went well.
    pub failures: BTreeMap<String, u64>,
    /// The first few failures in words.
    pub examples: Vec<String>,
    /// From the intended start of an operation to its verified end. With a fixed rate the intended start is the
    /// scheduled one, so that a stall counts against everything that had to wait for it.
    pub latency: Option<Latency>,
    /// Other spans of the same operations by name, such as `tls` of a handshake.
    pub spans: BTreeMap<String, Latency>,
    /// How it went second by second.
    pub series: Vec<Second>,
    /// What it cost: `target`, `generator` and, if its process was named, `backend`.
    pub costs: BTreeMap<String, Cost>,
    /// How fast the machine was.
    pub yardstick: Yardstick,
    /// What held the rate.
    pub limited_by: Limit,
    /// The number of whatever only this command counts, such as `full`, `resumed` or `swaps`.
    pub counts: BTreeMap<String, f64>,
    /// What a reader has to know, in whole sentences.
    pub remarks: Vec<String>,
}

/// A distribution of times.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Times in it.
    pub count: u64,
    /// The shortest.
    pub min_us: f64,
    /// Their sum over their number.
    pub mean_us: f64,
    /// Half took at most this.
    pub p50_us: f64,
    /// 90 % took at most this.
    pub p90_us: f64,
    /// 99 % took at most this.
    pub p99_us: f64,
    /// 99.9 % took at most this.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// The distribution: a quantile in 0..=1 and its time, ascending in both.
    pub quantiles: Vec<(f64, f64)>,
}

/// One second of a run; the last may be shorter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Its end, in seconds since the start of the measured window.
    pub at: f64,
    /// Operations per second in it.
    pub rate: f64,
    /// Failures in it.
    pub failures: u64,
    /// Half of its operations took at most this.
    pub p50_us: f64,
    /// 99 % of its operations took at most this.
    pub p99_us: f64,
}

/// What processes used within the measured window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The processes that were named, without their children, which are counted too.
    pub pids: Vec<i32>,
    /// CPU time in user mode.
    pub user_seconds: f64,
    /// CPU time in the kernel.
    pub system_seconds: f64,
    /// CPU time in user mode for one operation.
    pub user_us_per_operation: f64,
    /// CPU time in the kernel for one operation.
    pub system_us_per_operation: f64,
    /// Cores that were busy on average.
    pub cores: f64,
    /// Threads that were running or waiting for a core, on average.
    pub cores_wanted: f64,
    /// Operations per second that this part could do at most with the cores it may use, by its own CPU time.
    pub limit_per_second: f64,
    /// Resident memory when the window began.
    pub memory_start_kib: u64,
    /// The most resident memory that was seen, sampled some times a second.
    pub memory_peak_kib: u64,
    /// Resident memory when the window ended.
    pub memory_end_kib: u64,
}

/// The time of one P-256 verification: the speed of shared machines swings, and this shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Yardstick {
    /// Right before the run.
    pub before_us: f64,
    /// Right after it.
    pub after_us: f64,
}

/// Which part held the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The chosen rate.
    Rate,
    /// The target: it used all the cores that it may use.
    Target,
    /// This program: the result says little about the target.
    Generator,
    /// The application behind the target: the result says little about the target.
    Backend,
    /// None of those that could be seen: latency, or a process that was not named.
    Unknown,
}

impl Cost {
    /// CPU time for one operation, user and system together, in microseconds.
    pub fn us_per_operation(&self) -> f64 {
        self.user_us_per_operation + self.system_us_per_operation
    }
}

impl Outcome {
    /// All failures together.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}
