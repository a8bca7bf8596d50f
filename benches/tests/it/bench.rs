//! Runs the program and reads what it prints.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use portcullis_benches::outcome::Outcome;
use serde_json::Value;

/// A run that came about: its outcome and whether it went well.
pub struct Ran {
    pub outcome: Outcome,
    pub code: i32,
}

/// Runs it with `--json` and returns the outcome.
pub fn bench(arguments: &[&str]) -> Ran {
    let output = raw(&[arguments, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let outcome = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: `{text}`, it said `{said}`"));
    Ran { outcome, code: output.status.code().unwrap() }
}

/// Runs it and expects it to do its work without any failure.
pub fn good(arguments: &[&str]) -> Outcome {
    let ran = bench(arguments);
    assert_eq!(ran.code, 0, "{:?} {:?}", ran.outcome.failures, ran.outcome.examples);
    assert!(ran.outcome.failures.is_empty());
    assert!(ran.outcome.operations > 0.0);
    ran.outcome
}

/// Runs it and expects that it could not run. Returns what it said.
pub fn refused(arguments: &[&str]) -> String {
    let output = raw(arguments);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

pub fn raw(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The backend as a process of its own. It ends with this.
pub struct Backend {
    child: Child,
    pub http: String,
    pub stream: String,
}

impl Backend {
    pub fn start() -> Self {
        let mut child =
            Command::new(PROGRAM).arg("backend").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addresses: Value = serde_json::from_str(&line).unwrap();
        let address = |name: &str| addresses[name].as_str().unwrap().to_owned();
        Self { http: address("http"), stream: address("stream"), child }
    }

    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_portcullis-bench");
