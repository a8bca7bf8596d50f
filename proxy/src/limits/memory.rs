//! The overload guard: near the memory limit of its cgroup the process refuses new work, so that the kernel does not end it
//! with all the work in hand.
//!
//! What is used is what the kubelet goes by: all that is charged, less file pages that are not in use and would be given back
//! first. Read on the control thread; the data path asks one atomic. Without a limit there is no guard.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::config::SystemFiles;
use crate::drain::{Phase, Tasks};
use crate::telemetry::metrics::Metrics;

/// The reason in metrics, log and answers.
pub const OUT_OF_MEMORY: &str = "out_of_memory";

/// Whether new work is refused.
#[derive(Debug, Default)]
pub struct Memory {
    is_short: AtomicBool,
    refused: AtomicU64,
}

/// The memory controller of the cgroup that the process is in, and of those around it.
#[derive(Debug)]
pub struct Cgroup {
    /// Innermost first.
    directories: Vec<PathBuf>,
    names: &'static Names,
}

/// What a version of cgroups calls its files.
#[derive(Debug)]
struct Names {
    used: &'static str,
    limit: &'static str,
    /// A line of `memory.stat`.
    inactive: &'static str,
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    used: u64,
    limit: u64,
}

/// When to refuse and when to take up again, as thousandths of the limit.
#[derive(Debug)]
struct Judge {
    is_short: bool,
    refuse_from: u64,
    /// For how many looks nothing has moved, and where.
    still: (u32, u64),
}

impl Memory {
    /// Whether a new connection or request is to be refused, which is counted.
    pub fn refuses(&self) -> bool {
        let is_short = self.is_short.load(Ordering::Relaxed);
        if is_short {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        is_short
    }

    /// Looks after the memory until the process ends.
    pub async fn watch(self: Arc<Self>, cgroup: Cgroup, metrics: Arc<Metrics>, tasks: Tasks) {
        let mut judge = Judge::default();
        loop {
            // A limit may come, go and change while the process runs.
            let reading = cgroup.read();
            let thousandths = reading.map_or(0, Reading::thousandths);
            let was_short = judge.is_short;
            let is_short = judge.look(thousandths);
            self.is_short.store(is_short, Ordering::Relaxed);
            if let Some(Reading { used, limit }) = reading {
                metrics.memory(used as f64, limit as f64, if is_short { 1.0 } else { 0.0 });
                if is_short && !was_short {
                    tracing::warn!(used, limit, "memory is nearly used up: new work is refused");
                }
            }
            if was_short && !is_short {
                let refused = self.refused.swap(0, Ordering::Relaxed);
                tracing::warn!(refused, "there is memory again: new work is taken up");
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = tasks.reached(Phase::Ended) => return,
            }
        }
    }
}

impl Cgroup {
    /// Finds the one of this process; `None` where there is none with a memory controller.
    pub fn find(files: &SystemFiles) -> Option<Self> {
        let own = std::fs::read_to_string(&files.own_cgroup).ok()?;
        // Both versions may be mounted, and only one of them has the memory controller.
        [(&VERSION_2, ""), (&VERSION_1, "memory")].into_iter().find_map(|(names, controller)| {
            let below = own.lines().find_map(|line| path_of(line, controller))?;
            let root = files.cgroups.join(controller);
            let directories = below.ancestors().map(|path| root.join(path));
            let directories: Vec<_> = directories.filter(|path| path.join(names.limit).is_file()).collect();
            (!directories.is_empty()).then_some(Self { directories, names })
        })
    }

    /// What is used of the innermost limit; `None` without a limit, or when it cannot be read.
    fn read(&self) -> Option<Reading> {
        self.directories.iter().find_map(|directory| {
            let text = |name| std::fs::read_to_string(directory.join(name)).ok();
            let limit = text(self.names.limit)?.trim().parse().ok().filter(|limit| (1..UNLIMITED).contains(limit))?;
            let charged: u64 = text(self.names.used)?.trim().parse().ok()?;
            let stat = text("memory.stat").unwrap_or_default();
            let inactive = stat.lines().find_map(|line| line.strip_prefix(self.names.inactive)?.trim().parse().ok());
            Some(Reading { used: charged.saturating_sub(inactive.unwrap_or(0)), limit })
        })
    }
}

/// The cgroup below the mount of its controller, from a line of `/proc/PID/cgroup` (cgroups(7)): `0::/a/b` in version 2,
/// `4:memory:/a/b` in version 1. What lies outside of the namespace is seen from its root.
fn path_of<'a>(line: &'a str, controller: &str) -> Option<&'a Path> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    if !controllers.split(',').any(|one| one == controller) {
        return None;
    }
    let path = Path::new(path.trim_start_matches('/'));
    let is_inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    Some(if is_inside { path } else { Path::new("") })
}

impl Reading {
    fn thousandths(self) -> u64 {
        let Self { used, limit } = self;
        u64::try_from(u128::from(used) * 1_000 / u128::from(limit.max(1))).unwrap_or(u64::MAX)
    }
}

impl Judge {
    fn look(&mut self, now: u64) -> bool {
        let (looks, at) = self.still;
        self.still = if now.abs_diff(at) <= STILL { (looks.saturating_add(1), at) } else { (0, now) };
        if now < TAKE_AGAIN_BELOW {
            *self = Self { still: self.still, ..Self::default() };
        } else if !self.is_short {
            self.is_short = now >= self.refuse_from;
            self.still = (0, now);
        } else if self.still.0 >= STILL_FOR && now + STEP <= REFUSE_AT_MOST {
            // What nothing gives back is not held by work that ends: the allocator keeps freed memory for what comes next.
            // Without this the process could refuse for ever.
            self.is_short = false;
            self.refuse_from = (now + STEP).max(REFUSE_FROM);
        }
        self.is_short
    }
}

impl Default for Judge {
    fn default() -> Self {
        Self { is_short: false, refuse_from: REFUSE_FROM, still: (0, 0) }
    }
}

static VERSION_2: Names = Names { used: "memory.current", limit: "memory.max", inactive: "inactive_file " };
static VERSION_1: Names =
    Names { used: "memory.usage_in_bytes", limit: "memory.limit_in_bytes", inactive: "total_inactive_file " };

/// Version 1 has no word for no limit, but a number of pages that no machine has.
const UNLIMITED: u64 = 1 << 60;
/// What 10 Gbit/s bring meanwhile is 300 MB, but no one buffers that: windows and heads bound what each stream may hold.
const INTERVAL: Duration = Duration::from_millis(250);
/// A tenth for the work in hand.
const REFUSE_FROM: u64 = 900;
/// So far below that it does not change with each request.
const TAKE_AGAIN_BELOW: u64 = 850;
/// What may be used more than was kept, each time that nothing was given back.
const STEP: u64 = 20;
/// Never nearer to the limit than that.
const REFUSE_AT_MOST: u64 = 970;
/// Moves no more than this,
const STILL: u64 = 5;
/// for so many looks, which is ten seconds.
const STILL_FOR: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_from_nine_tenths_and_takes_up_again_below() {
        let mut judge = Judge::default();
        for (thousandths, is_short) in
            [(0, false), (899, false), (900, true), (890, true), (850, true), (849, false), (899, false), (1_000, true)]
        {
            assert_eq!(judge.look(thousandths), is_short, "{thousandths}");
        }
    }

    #[test]
    fn memory_that_nobody_gives_back_does_not_stop_work_for_ever() {
        let mut judge = Judge::default();
        let looks_until = |judge: &mut Judge, thousandths, is_short| {
            (1..1_000).find(|_| judge.look(thousandths) == is_short).expect("it changes")
        };
        assert_eq!(looks_until(&mut judge, 910, true), 1);
        assert_eq!(looks_until(&mut judge, 910, false), STILL_FOR as usize);
        assert!((0..100).all(|_| !judge.look(929)), "a bit more than was kept");
        assert_eq!(looks_until(&mut judge, 930, true), 1);
        assert_eq!(looks_until(&mut judge, 930, false), STILL_FOR as usize);
        assert_eq!(looks_until(&mut judge, 951, true), 1);
        assert!((0..1_000).all(|_| judge.look(951)), "never nearer to the limit");
        assert!(!judge.look(800) && judge.look(900), "from the beginning again");

        // Whatever moves is given back, or taken.
        let mut judge = Judge::default();
        judge.look(940);
        assert!((0..1_000).all(|turn| judge.look(if turn % 2 == 0 { 940 } else { 920 })));
    }

    struct Files {
        folder: tempfile::TempDir,
        system: SystemFiles,
    }

    fn files(own: &str, contents: &[(&str, &str)]) -> Files {
        let folder = tempfile::tempdir().unwrap();
        let system = SystemFiles { cgroups: folder.path().join("cgroup"), own_cgroup: folder.path().join("own") };
        std::fs::write(&system.own_cgroup, own).unwrap();
        for (name, text) in contents {
            let path = system.cgroups.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Files { folder, system }
    }

    fn check(own: &str, contents: &[(&str, &str)], expected: Option<(u64, u64)>) {
        let files = files(own, contents);
        let read = Cgroup::find(&files.system).and_then(|cgroup| cgroup.read());
        assert_eq!(read, expected.map(|(used, limit)| Reading { used, limit }), "{own} {contents:?}");
        drop(files.folder);
    }

    #[test]
    fn the_innermost_limit_counts_in_both_versions() {
        let stat = "anon 5\ninactive_file 30\nactive_file 7\n";
        let version_2 = |at: &str, limit: &str| {
            [("memory.current", "100\n"), ("memory.max", limit), ("memory.stat", stat)]
                .map(|(n, t)| (format!("{at}{n}"), t.to_owned()))
        };
        type Row = (&'static str, Vec<(String, String)>, Option<(u64, u64)>);
        let rows: [Row; 6] = [
            ("0::/\n", version_2("", "200\n").to_vec(), Some((70, 200))),
            ("0::/\n", version_2("", "max\n").to_vec(), None),
            ("0::/a/b\n", [version_2("a/b/", "max\n"), version_2("a/", "150\n")].concat(), Some((70, 150))),
            ("0::/a/b\n", [version_2("a/b/", "120\n"), version_2("a/", "150\n")].concat(), Some((70, 120))),
            // As a container sees it whose namespace is the host's: the path is not there, its own root is.
            ("0::/kubepods/pod1/abc\n", version_2("", "200\n").to_vec(), Some((70, 200))),
            ("0::/../../other\n", version_2("", "200\n").to_vec(), Some((70, 200))),
        ];
        for (own, contents, expected) in rows {
            let contents: Vec<_> = contents.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
            check(own, &contents, expected);
        }
        let stat = "inactive_file 1\ntotal_inactive_file 40\n";
        let version_1 = |limit| {
            [
                ("memory/a/memory.usage_in_bytes", "100"),
                ("memory/a/memory.limit_in_bytes", limit),
                ("memory/a/memory.stat", stat),
            ]
        };
        let own = "5:cpu,cpuacct:/x\n4:memory:/a\n0::/\n";
        check(own, &version_1("400\n"), Some((60, 400)));
        check(own, &version_1("9223372036854771712\n"), None);
    }

    #[test]
    fn what_cannot_be_read_is_no_limit() {
        check("", &[], None);
        check("0::/\n", &[], None);
        check("nonsense\n0:\n", &[("memory.max", "5"), ("memory.current", "5")], None);
        for (limit, current) in [("", "5"), ("0", "5"), ("-1", "5"), ("5", ""), ("5", "x")] {
            check("0::/\n", &[("memory.max", limit), ("memory.current", current)], None);
        }
        check(
            "0::/\n",
            &[("memory.max", "5"), ("memory.current", "7"), ("memory.stat", "inactive_file x\n")],
            Some((7, 5)),
        );
        check(
            "0::/\n",
            &[("memory.max", "5"), ("memory.current", "7"), ("memory.stat", "inactive_file 9\n")],
            Some((0, 5)),
        );
    }
}
