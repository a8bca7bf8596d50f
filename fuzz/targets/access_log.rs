//! An access log as `policy suggest` reads it: what is suggested compiles, allows every line that was kept, and passes
//! its own tests.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use portcullis::cli::policy::traffic::{Include, Tally};
use portcullis_fuzz::spiffe_id;
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::suggest::{Collector, Options};
use portcullis_policy::{Connection, File, Policy, Request, testing, write};
use serde::Deserialize;
use spiffe::SpiffeId;

/// What of a line decides.
#[derive(Debug, Deserialize)]
struct Line {
    caller: String,
    workload: String,
    port: u16,
    protocol: String,
    method: Option<String>,
    path: Option<String>,
}

/// A line that was kept.
struct Kept {
    line: Line,
    caller: SpiffeId,
    workload: SpiffeId,
}

impl Kept {
    fn of(line: &[u8]) -> Self {
        let line: Line = serde_json::from_slice(line).expect("it was understood before");
        let (caller, workload) = (spiffe_id(&line.caller), spiffe_id(&line.workload));
        Self { line, caller, workload }
    }

    fn is_http(&self) -> bool {
        self.line.protocol != "tcp"
    }

    fn is_allowed(&self, policy: &Policy) -> bool {
        let nowhere = [0, 0, 0, 0].into();
        let connection = Connection {
            caller: &self.caller,
            workload: &self.workload,
            port: self.line.port,
            source: nowhere,
            destination: nowhere,
            server_name: None,
            now: 0,
        };
        let (Some(method), Some(path)) = (&self.line.method, &self.line.path) else {
            return policy.admit_opaque(&connection).verdict.is_allow();
        };
        let path = Path::normalise(path.as_bytes(), EncodedSlash::Refuse).expect("it was taken before");
        let headers: Vec<(String, String)> = Vec::new();
        policy.decide(&Request { connection, method, host: "", path: &path, headers: &headers }).verdict.is_allow()
    }
}

fuzz_target!(|log: &[u8]| {
    for enough in [Some(3), None] {
        let mut collector = Collector::new(Options { enough, ..Options::default() });
        let mut tally = Tally::new(Include::DeniedByDefault, &[]);
        let mut kept = Vec::new();
        for line in log.split_inclusive(|byte| *byte == b'\n') {
            let before = tally.taken();
            tally.read("fuzz.log", line, &mut collector).expect("memory can be read");
            if tally.taken() > before {
                kept.push(Kept::of(line));
            }
        }
        assert!(!tally.summary().is_empty());
        let suggestion = collector.finish().expect("that few paths fit");
        let documents = [suggestion.policies, suggestion.tests].concat();
        let text = write::write(&documents).expect("what is suggested compiles");
        let files = [File { name: "suggested.yaml", bytes: text.as_bytes() }];
        let compiled = Policy::compile(&files).expect("what was written compiles");
        // A rule for opaque TCP would allow every request to a port with HTTP, so there is none.
        let http = kept.iter().filter(|one| one.is_http()).map(|one| (&one.workload, one.line.port));
        let http: BTreeSet<_> = http.collect();
        let covered = |one: &Kept| one.is_http() || !http.contains(&(&one.workload, one.line.port));
        for one in &kept {
            assert_eq!(one.is_allowed(&compiled.policy), covered(one), "{:?}\n{text}", one.line);
        }
        assert_eq!(suggestion.opaque_on_http, kept.iter().filter(|one| !covered(one)).count() as u64);
        let options = portcullis_policy::Options::default();
        for outcome in testing::run(&files, &options, &compiled, 0).expect("it compiled before") {
            assert!(outcome.passed, "{}: {}\n{text}", outcome.case.name, outcome.reason);
        }
    }
});
