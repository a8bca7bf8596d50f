//! Which cores the proxies get and which the generator and the application: one, and all others.
//!
//! A process inherits the cores of the thread that starts it, so the thread takes them on for that moment. Unlike a
//! program such as taskset in between, that costs nothing in the row that measures the start.

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::measure::family::family;

/// The cores of this machine, divided.
#[derive(Debug, Clone)]
pub struct Cores {
    proxies: usize,
    others: Vec<usize>,
}

/// Whose cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The proxies under test, all on one core.
    Proxies,
    /// Generator, application and this program.
    Others,
}

/// Why the cores could not be divided.
#[derive(Debug, thiserror::Error)]
pub enum CoresError {
    /// Only one core.
    #[error("this process may use {0} core(s), and two are needed: one for the proxies, one for the generator")]
    TooFew(usize),
    /// The kernel refused.
    #[error("the cores of a process cannot be read or set")]
    Affinity(#[source] Errno),
    /// A process of a proxy.
    #[error("the processes of a proxy cannot be read")]
    Processes(#[source] procfs::ProcError),
}

impl Cores {
    /// The last core that this process may use is for the proxies, the others are for everything else, among them this
    /// process from here on.
    ///
    /// # Errors
    /// When there are fewer than two.
    pub fn divide() -> Result<Self, CoresError> {
        let allowed = sched_getaffinity(None).map_err(CoresError::Affinity)?;
        let cores = Self::of((0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect())?;
        sched_setaffinity(None, &cores.set(Place::Others)).map_err(CoresError::Affinity)?;
        Ok(cores)
    }

    fn of(mut all: Vec<usize>) -> Result<Self, CoresError> {
        let count = all.len();
        let proxies = all.pop().filter(|_| !all.is_empty()).ok_or(CoresError::TooFew(count))?;
        Ok(Self { proxies, others: all })
    }

    /// Runs something, such as the start of a process, on the cores of a place.
    ///
    /// # Errors
    /// When the kernel refuses. What was run keeps its own result.
    pub fn on<T>(&self, place: Place, start: impl FnOnce() -> T) -> Result<T, CoresError> {
        sched_setaffinity(None, &self.set(place)).map_err(CoresError::Affinity)?;
        let started = start();
        sched_setaffinity(None, &self.set(Place::Others)).map_err(CoresError::Affinity)?;
        Ok(started)
    }

    /// Puts the threads of processes that run already, and of those that they started, on the cores of a place: hitch
    /// ties its workers to cores of its own choice, whatever it was started on.
    ///
    /// # Errors
    /// When the kernel refuses, or a process is gone.
    pub fn hold(&self, place: Place, pids: &[i32]) -> Result<(), CoresError> {
        let set = self.set(place);
        for process in family(pids).map_err(CoresError::Processes)? {
            let tasks = process.tasks().map_err(CoresError::Processes)?;
            for task in tasks {
                let task = Pid::from_raw(task.map_err(CoresError::Processes)?.tid);
                sched_setaffinity(task, &set).map_err(CoresError::Affinity)?;
            }
        }
        Ok(())
    }

    /// Threads for the generator: one core stays for the application, if there is more than one.
    pub fn generator_threads(&self) -> usize {
        self.others.len().saturating_sub(1).max(1)
    }

    /// How they are divided, for people.
    pub fn describe(&self) -> String {
        let others: Vec<String> = self.others.iter().map(ToString::to_string).collect();
        format!("proxies on core {}, generator and application on core {}", self.proxies, others.join(", "))
    }

    fn set(&self, place: Place) -> CpuSet {
        let mut set = CpuSet::new();
        match place {
            Place::Proxies => set.set(self.proxies),
            Place::Others => self.others.iter().for_each(|core| set.set(*core)),
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxies_get_the_last_core_and_nobody_else_gets_it() {
        let cores = Cores::of(vec![0, 2, 3]).unwrap();
        assert_eq!((cores.proxies, cores.others.clone()), (3, vec![0, 2]));
        assert!(!cores.set(Place::Others).is_set(3));
        assert_eq!(cores.set(Place::Proxies).count(), 1);
        assert_eq!(cores.generator_threads(), 1);
        assert!(matches!(Cores::of(vec![0]), Err(CoresError::TooFew(1))));
        assert!(matches!(Cores::of(vec![]), Err(CoresError::TooFew(0))));
    }
}
