//! What processes use, their children included: CPU time, waiting for a core, memory. From `/proc`.
//!
//! CPU time is that of `/proc/PID/stat` (ticks of 10 ms as a rule); running and waiting are the nanoseconds of
//! `/proc/PID/task/*/schedstat`. What a child used after its last sample before it ended is not seen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use procfs::ProcResult;
use procfs::process::Process;
use rustix::process::Pid;
use rustix::thread::sched_getaffinity;
use thiserror::Error;

use super::family::family;
use crate::outcome::Cost;

/// Watches some processes from its making on.
#[derive(Debug)]
pub struct Watch {
    roots: Vec<i32>,
    since: Instant,
    /// Every process seen, by pid: what it had used at first and at last.
    seen: BTreeMap<i32, Seen>,
    memory_start: u64,
    memory_peak: u64,
    memory_end: u64,
    /// Cores that the processes may run on.
    allowed: f64,
    /// The share of the time in which the busiest thread ran or waited for a core.
    tick: f64,
}

#[derive(Debug, Clone)]
struct Seen {
    first: Usage,
    last: Usage,
}

/// What one process has used since it began.
#[derive(Debug, Clone, Default)]
struct Usage {
    user_ticks: u64,
    system_ticks: u64,
    /// By thread: running, and waiting for a core.
    threads: BTreeMap<i32, (u64, u64)>,
}

/// What a [`Watch`] found.
#[derive(Debug, Clone)]
pub struct Usages {
    /// The part that the operations do not change; see [`Usages::cost`].
    cost: Cost,
    /// Cores that the processes may run on.
    pub allowed_cores: f64,
    /// The share of the time in which the busiest thread was running or waiting for a core.
    pub busiest_thread: f64,
}

/// A process that was named cannot be watched.
#[derive(Debug, Error)]
#[error("process {pid} cannot be watched: is it running, and is it yours?")]
pub struct WatchError {
    /// The one that was named.
    pub pid: i32,
    /// What `/proc` said.
    #[source]
    pub source: procfs::ProcError,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// When one of the processes does not exist or may not be looked at.
    pub fn start(roots: &[i32]) -> Result<Self, WatchError> {
        for &pid in roots {
            Process::new(pid).and_then(|process| process.stat()).map_err(|source| WatchError { pid, source })?;
        }
        let mut watch = Self {
            roots: roots.to_vec(),
            since: Instant::now(),
            seen: BTreeMap::new(),
            memory_start: 0,
            memory_peak: 0,
            memory_end: 0,
            allowed: roots.iter().map(|pid| cores_of(*pid)).fold(0.0, f64::max),
            tick: 1.0 / u64_to_f64(rustix::param::clock_ticks_per_second()),
        };
        for process in family(roots).unwrap_or_default() {
            if let Some(usage) = usage_of(&process) {
                watch.seen.insert(process.pid, Seen { first: usage.clone(), last: usage });
            }
        }
        watch.memory_start = watch.sample();
        watch.memory_peak = watch.memory_start;
        Ok(watch)
    }

    /// Looks again: for peaks of memory, and for children that come and go. Returns the resident memory in KiB.
    pub fn sample(&mut self) -> u64 {
        let mut memory = 0;
        for process in family(&self.roots).unwrap_or_default() {
            let Some(usage) = usage_of(&process) else { continue };
            memory += resident_kib(&process);
            // Born under watch: all that it used belongs to the window.
            let seen = self
                .seen
                .entry(process.pid)
                .or_insert_with(|| Seen { first: Usage::default(), last: Usage::default() });
            seen.last.user_ticks = usage.user_ticks;
            seen.last.system_ticks = usage.system_ticks;
            // Threads that have ended since stay with what they had used.
            seen.last.threads.extend(usage.threads);
        }
        self.memory_peak = self.memory_peak.max(memory);
        self.memory_end = memory;
        memory
    }

    /// Looks for the last time.
    pub fn finish(mut self) -> Usages {
        self.sample();
        let wall = self.since.elapsed().as_secs_f64().max(f64::EPSILON);
        let (mut user, mut system, mut wanted, mut busiest) = (0.0, 0.0, 0.0, 0.0_f64);
        for seen in self.seen.values() {
            user += u64_to_f64(seen.last.user_ticks.saturating_sub(seen.first.user_ticks)) * self.tick;
            system += u64_to_f64(seen.last.system_ticks.saturating_sub(seen.first.system_ticks)) * self.tick;
            for (thread, (ran, waited)) in &seen.last.threads {
                let (ran_before, waited_before) = seen.first.threads.get(thread).copied().unwrap_or_default();
                let nanos = ran.saturating_sub(ran_before) + waited.saturating_sub(waited_before);
                let share = Duration::from_nanos(nanos).as_secs_f64() / wall;
                wanted += share;
                busiest = busiest.max(share);
            }
        }
        let cost = Cost {
            pids: self.roots,
            user_seconds: user,
            system_seconds: system,
            cores: (user + system) / wall,
            cores_wanted: wanted,
            memory_start_kib: self.memory_start,
            memory_peak_kib: self.memory_peak,
            memory_end_kib: self.memory_end,
            ..Cost::default()
        };
        Usages { cost, allowed_cores: self.allowed, busiest_thread: busiest }
    }
}

impl Usages {
    /// Spread over this many operations. `threads` says how many cores this part can use if it is fewer than it may.
    pub fn cost(&self, operations: f64, threads: Option<usize>) -> Cost {
        let mut cost = self.cost.clone();
        if operations > 0.0 {
            cost.user_us_per_operation = cost.user_seconds * 1e6 / operations;
            cost.system_us_per_operation = cost.system_seconds * 1e6 / operations;
        }
        let usable = threads.map_or(self.allowed_cores, |threads| self.allowed_cores.min(u64_to_f64(threads as u64)));
        let each = cost.us_per_operation();
        cost.limit_per_second = if each > 0.0 { usable * 1e6 / each } else { 0.0 };
        cost
    }
}

/// Proportional set size of the processes and their children in KiB: pages that several share count once in all.
///
/// # Errors
/// When one of them may not be looked at.
pub fn proportional_kib(roots: &[i32]) -> ProcResult<u64> {
    let mut bytes = 0;
    for process in family(roots)? {
        for map in &process.smaps_rollup()?.memory_map_rollup.0 {
            bytes += map.extension.map.get("Pss").copied().unwrap_or_default();
        }
    }
    Ok(bytes / 1024)
}

/// Resident memory of the processes and their children in KiB.
pub fn resident_memory_kib(roots: &[i32]) -> u64 {
    family(roots).unwrap_or_default().iter().map(resident_kib).sum()
}

/// How many cores a process may run on.
pub fn cores_of(pid: i32) -> f64 {
    let set = sched_getaffinity(Pid::from_raw(pid));
    set.map_or(1.0, |set| f64::from(set.count()))
}

fn usage_of(process: &Process) -> Option<Usage> {
    let stat = process.stat().ok()?;
    let mut usage = Usage { user_ticks: stat.utime, system_ticks: stat.stime, threads: BTreeMap::new() };
    for task in process.tasks().ok()?.flatten() {
        if let Ok(times) = task.schedstat() {
            usage.threads.insert(task.tid, (times.sum_exec_runtime, times.run_delay));
        }
    }
    Some(usage)
}

fn resident_kib(process: &Process) -> u64 {
    process.statm().map_or(0, |memory| memory.resident * rustix::param::page_size() as u64 / 1024)
}

#[expect(clippy::cast_precision_loss, reason = "ticks, threads and operations stay far below 2^53")]
fn u64_to_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell that burns CPU in a child of its own until it is killed.
    struct Burner(Child);

    impl Burner {
        fn start() -> Self {
            let script = "sh -c 'while :; do :; done' & child=$!; trap 'kill $child' EXIT; read line";
            let started = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn();
            Self(started.unwrap())
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.0.id()).unwrap()
        }
    }

    impl Drop for Burner {
        fn drop(&mut self) {
            // End of input ends the script, whose trap ends the child.
            drop(self.0.stdin.take());
            let _ = self.0.wait();
        }
    }

    fn spin(length: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < length {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn what_a_child_uses_is_counted() {
        let burner = Burner::start();
        let mut watch = Watch::start(&[burner.pid()]).unwrap();
        let begun = Instant::now();
        let mut used = 0.0;
        while used < 0.1 && begun.elapsed() < Duration::from_secs(30) {
            spin(Duration::from_millis(20));
            watch.sample();
            let ticks: u64 = watch.seen.values().map(|seen| seen.last.user_ticks + seen.last.system_ticks).sum();
            used = u64_to_f64(ticks) * watch.tick;
        }
        let usages = watch.finish();
        let cost = usages.cost(100.0, None);
        assert!(cost.user_seconds + cost.system_seconds >= 0.1, "{cost:?}");
        assert!(cost.cores_wanted > 0.5, "it never sleeps: {cost:?}");
        assert!(usages.busiest_thread > 0.5, "{usages:?}");
        assert!((cost.us_per_operation() - (cost.user_seconds + cost.system_seconds) * 1e4).abs() < 1.0);
        assert!(cost.memory_peak_kib > 0);
    }

    #[test]
    fn a_thread_that_ended_before_the_last_look_is_counted() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut watch = Watch::start(&[own]).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            spin(Duration::from_millis(30));
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let _ = ended.recv();
        });
        let number = told.recv().unwrap();
        watch.sample();
        drop(end);
        thread.join().unwrap();
        watch.sample();
        let (ran, waited) = watch.seen[&own].last.threads[&number];
        assert!(ran + waited > 20_000_000, "{ran} {waited}");
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        // Above the kernel's highest possible pid.
        let error = Watch::start(&[i32::MAX]).unwrap_err();
        assert!(error.to_string().contains("2147483647"), "{error}");
    }

    #[test]
    fn no_more_cores_are_counted_than_there_are_threads() {
        let usages =
            Usages { cost: Cost { user_seconds: 1.0, ..Cost::default() }, allowed_cores: 8.0, busiest_thread: 0.0 };
        assert!((usages.cost(1000.0, Some(2)).limit_per_second - 2000.0).abs() < 1e-6);
        assert!((usages.cost(1000.0, None).limit_per_second - 8000.0).abs() < 1e-6);
        assert!(usages.cost(0.0, None).limit_per_second.abs() < 1e-9);
    }

    #[test]
    fn memory_of_this_process_is_seen_both_ways() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(resident_memory_kib(&[own]) > 500);
        assert!(proportional_kib(&[own]).unwrap() > 200);
    }
}
