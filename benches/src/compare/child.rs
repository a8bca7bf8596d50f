//! A process that we started: on the right cores, in its own directory, with its output in files there.
//!
//! Invariant: it is ended when this value is dropped, with all the processes that it started, however we come to drop it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Command;
use tokio::time::timeout;

use super::cores::{Cores, CoresError, Place};

/// What to start.
#[derive(Debug, Clone)]
pub struct Order {
    /// What people call it; also the name of its output files.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where it is started and writes its output.
    pub directory: PathBuf,
    /// On which cores.
    pub place: Place,
}

/// See the module.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: tokio::process::Child,
    /// Of its process group too.
    pid: Pid,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// Why a process is not there.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("`{name}` cannot be started")]
    Start {
        /// What.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It has ended.
    #[error("`{name}` ended by itself ({status}); its last words:\n{log}")]
    Ended {
        /// What.
        name: String,
        /// How.
        status: ExitStatus,
        /// The end of its output.
        log: String,
    },
    /// It took too long.
    #[error("`{name}` did not {what} within {seconds} s{last}; its last words:\n{log}")]
    Late {
        /// What.
        name: String,
        /// What it was to do.
        what: &'static str,
        /// The deadline.
        seconds: u64,
        /// What was seen last, in brackets, or nothing.
        last: String,
        /// The end of its output.
        log: String,
    },
    /// The cores.
    #[error(transparent)]
    Cores(#[from] CoresError),
}

impl Child {
    /// Starts a process. Its standard input stays open for as long as this value lives.
    ///
    /// # Errors
    /// When the program or its files are not to be had.
    pub fn start(order: &Order, cores: &Cores) -> Result<Self, ChildError> {
        let failed = |source| ChildError::Start { name: order.name.clone(), source };
        let stdout = order.directory.join(format!("{}.stdout", order.name));
        let stderr = order.directory.join(format!("{}.stderr", order.name));
        let mut command = Command::new(&order.program);
        command
            .args(&order.arguments)
            .current_dir(&order.directory)
            .stdin(Stdio::piped())
            .stdout(File::create(&stdout).map_err(failed)?)
            .stderr(File::create(&stderr).map_err(failed)?)
            // Its workers can be ended with it, and Ctrl-C on our terminal reaches us alone.
            .process_group(0);
        let process = cores.on(order.place, || command.spawn())?.map_err(failed)?;
        let number = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = number.ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotFound)))?;
        Ok(Self { name: order.name.clone(), process, pid, stdout, stderr })
    }

    /// Its process number.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// What it wrote to standard output so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// The end of what it wrote to standard error, or else to standard output.
    pub fn last_words(&self) -> String {
        let said = Some(tail(&self.stderr)).filter(|text| !text.is_empty());
        said.unwrap_or_else(|| tail(&self.stdout))
    }

    /// An error if it has ended.
    ///
    /// # Errors
    /// That one.
    pub fn still_runs(&mut self) -> Result<(), ChildError> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(ChildError::Ended { name: self.name.clone(), status, log: self.last_words() }),
            Err(source) => Err(ChildError::Start { name: self.name.clone(), source }),
        }
    }

    /// The error of a process that was waited for too long.
    pub fn late(&self, what: &'static str, deadline: Duration, last: &str) -> ChildError {
        let last = if last.is_empty() { String::new() } else { format!(" ({last})") };
        ChildError::Late { name: self.name.clone(), what, seconds: deadline.as_secs(), last, log: self.last_words() }
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it has not by the deadline. It still runs then.
    pub async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus, ChildError> {
        match timeout(deadline, self.process.wait()).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(source)) => Err(ChildError::Start { name: self.name.clone(), source }),
            Err(_) => Err(self.late("end", deadline, "")),
        }
    }

    /// Asks it to end, waits a little, and then makes it.
    pub async fn stop(mut self) {
        // A process that is gone already is as good as stopped.
        let _ = kill_process(self.pid, Signal::TERM);
        let _ = timeout(PATIENCE, self.process.wait()).await;
        // The drop ends what is left.
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
        // Collected here if it is fast enough, by the runtime otherwise.
        let _ = self.process.try_wait();
    }
}

/// The last lines of a file, few enough for a table.
fn tail(path: &Path) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// From SIGTERM to SIGKILL.
const PATIENCE: Duration = Duration::from_secs(3);

/// Enough for the errors of a configuration.
const LAST_LINES: usize = 8;

#[cfg(test)]
mod tests;
