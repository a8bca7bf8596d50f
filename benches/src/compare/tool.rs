//! `portcullis-bench`, the program beside this one: as the application behind the proxies, and as their load.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::child::{Child, ChildError, Order};
use super::cores::{Cores, Place};
use crate::outcome::Outcome;

/// Where the program is and on which cores it runs.
#[derive(Debug, Clone)]
pub struct Tool {
    program: PathBuf,
    /// How the cores are divided.
    pub cores: Cores,
}

/// The application behind the proxies.
#[derive(Debug)]
pub struct Application {
    child: Child,
    /// Where it speaks HTTP.
    pub http: u16,
    /// Where it speaks opaque bytes.
    pub stream: u16,
}

/// Why a run of the program says nothing.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not there.
    #[error("`{}` is not there: build it with the same profile, `-p portcullis-benches`", .0.display())]
    Missing(PathBuf),
    /// It did not start or end.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// It could not run.
    #[error("portcullis-bench {command} could not run ({status}): {log}")]
    Refused {
        /// What was to run.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        log: String,
    },
    /// It printed something else than was agreed.
    #[error("portcullis-bench {command} printed something else than one outcome")]
    Garbled {
        /// What was to run.
        command: String,
        /// Why it could not be read.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct Addresses {
    http: std::net::SocketAddr,
    stream: std::net::SocketAddr,
}

impl Tool {
    /// Looks for the program beside this one.
    ///
    /// # Errors
    /// When it is not there.
    pub fn find(cores: Cores) -> Result<Self, ToolError> {
        let ours = std::env::current_exe().unwrap_or_default();
        let program = ours.with_file_name("portcullis-bench");
        if !program.is_file() {
            return Err(ToolError::Missing(program));
        }
        Ok(Self { program, cores })
    }

    /// Starts the application.
    ///
    /// # Errors
    /// When it does not say where it listens.
    pub async fn application(&self, directory: &Path) -> Result<Application, ToolError> {
        let arguments = ["backend", "--http", "127.0.0.1:0", "--stream", "127.0.0.1:0", "--threads", "1"];
        let mut child = self.start("application", arguments.map(str::to_owned).to_vec(), directory)?;
        let begun = Instant::now();
        loop {
            child.still_runs()?;
            let said = child.output();
            if let Some(line) = said.split_inclusive('\n').find(|line| line.ends_with('\n')) {
                let addresses: Addresses = serde_json::from_str(line)
                    .map_err(|source| ToolError::Garbled { command: "backend".to_owned(), source })?;
                return Ok(Application { child, http: addresses.http.port(), stream: addresses.stream.port() });
            }
            if begun.elapsed() > START {
                return Err(child.late("say where it listens", START, "").into());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs a command to its end. What failed within it is in the outcome.
    ///
    /// # Errors
    /// When it could not run, or does not end a minute after it should have.
    pub async fn run(
        &self,
        arguments: Vec<String>,
        directory: &Path,
        expected: Duration,
    ) -> Result<Outcome, ToolError> {
        let command = arguments.first().cloned().unwrap_or_default();
        let mut child = self.start("generator", arguments, directory)?;
        let status = child.ended(expected + GRACE).await?;
        if !matches!(status.code(), Some(0 | 1)) {
            return Err(ToolError::Refused { command, status, log: child.last_words() });
        }
        serde_json::from_str(&child.output()).map_err(|source| ToolError::Garbled { command, source })
    }

    fn start(&self, name: &str, arguments: Vec<String>, directory: &Path) -> Result<Child, ChildError> {
        let order = Order {
            name: name.to_owned(),
            program: self.program.clone(),
            arguments,
            directory: directory.to_owned(),
            place: Place::Others,
        };
        Child::start(&order, &self.cores)
    }
}

impl Application {
    /// Its process number.
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Ends it.
    pub async fn stop(self) {
        self.child.stop().await;
    }
}

/// For the application to say where it listens.
const START: Duration = Duration::from_secs(20);

/// Beyond the time that a command should take: for its connections, its yardstick, and what it waits for at its end.
const GRACE: Duration = Duration::from_secs(60);
