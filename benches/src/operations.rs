//! Single operations of the sidecar whose costs are followed from change to change.
//!
//! One list for both who measure: `benches/operations.rs` times them by criterion, `portcullis-operations` runs them for
//! `benches/instructions`, which counts their instructions. Each is made once and run many times, with the product's
//! own functions; whatever it gives is checked, so that nothing is measured that fails.

mod certificate;
mod copy;
mod failure;
mod guard;
mod handshake;
mod mesh;
mod policy;
pub mod policy_shapes;
mod processor;
mod record;
mod request;

use std::time::{Duration, Instant};

use certificate::Anchors;
pub use failure::Failure;
use policy_shapes::Shape;
pub use processor::processor;

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its name, which is fixed: records go by it.
    pub name: &'static str,
    /// What it belongs to.
    pub group: &'static str,
    /// Whose instructions it runs.
    pub code: Code,
    /// Payload that one run moves; 0 where that is no measure.
    pub bytes: u64,
    /// How many runs give a steady count of instructions.
    pub times: u32,
    make: fn() -> Result<Work, Failure>,
}

/// Whether the instructions that run depend on the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// What the compiler made: the same on every processor of an architecture, but for libc's copying of memory.
    Compiled,
    /// Mostly aws-lc, which chooses its assembly by what the processor can do.
    Cryptography,
}

/// What is run again and again.
pub enum Work {
    /// All of it counts.
    Whole(Box<dyn FnMut() -> Result<(), Failure>>),
    /// Only what it does by `counted` counts, and the time of that is what it returns.
    Part(Box<dyn FnMut() -> Result<Duration, Failure>>),
}

/// Every operation, in the order of tables.
pub const ALL: &[Operation] = &[
    operation("handshake", "handshake_full_x25519", Code::Cryptography, 24, handshake::full_x25519),
    operation("handshake", "handshake_full_x25519mlkem768", Code::Cryptography, 24, handshake::full_x25519mlkem768),
    operation("handshake", "handshake_server_x25519", Code::Cryptography, 24, handshake::server_x25519),
    operation("handshake", "handshake_server_x25519mlkem768", Code::Cryptography, 24, handshake::server_x25519mlkem768),
    operation("handshake", "handshake_resumed_x25519", Code::Cryptography, 24, handshake::resumed_x25519),
    operation("handshake", "handshake_resumed_server_x25519", Code::Cryptography, 24, handshake::resumed_server_x25519),
    Operation {
        bytes: record::BYTES,
        ..operation("record", "record_encrypt_16k", Code::Cryptography, 200, record::encrypt)
    },
    Operation {
        bytes: record::BYTES,
        ..operation("record", "record_decrypt_16k", Code::Cryptography, 200, record::decrypt)
    },
    operation("certificate", "svid_parse", Code::Compiled, 1_000, certificate::parse),
    operation("certificate", "chain_verify_2_cold", Code::Cryptography, 64, || {
        certificate::verify_cold(Anchors::Intermediate)
    }),
    operation("certificate", "chain_verify_3_cold", Code::Cryptography, 64, || certificate::verify_cold(Anchors::Root)),
    operation("certificate", "chain_verify_2_warm", Code::Cryptography, 1_024, || {
        certificate::verify_warm(Anchors::Intermediate)
    }),
    operation("certificate", "chain_verify_3_warm", Code::Cryptography, 1_024, || {
        certificate::verify_warm(Anchors::Root)
    }),
    operation("policy", "policy_decide_10", Code::Compiled, 2_000, || policy::decide(10)),
    operation("policy", "policy_decide_1000", Code::Compiled, 192, || policy::decide(1_000)),
    operation("policy", "policy_decide_10000", Code::Compiled, 32, || policy::decide(10_000)),
    operation("policy", "policy_admit_1000", Code::Compiled, 96, || policy::admit(1_000)),
    operation("policy", "policy_decide_exact_10", Code::Compiled, 8_192, || policy_shapes::decide(Shape::Exact, 10)),
    operation("policy", "policy_decide_exact_100000", Code::Compiled, 8_192, || {
        policy_shapes::decide(Shape::Exact, 100_000)
    }),
    operation("policy", "policy_decide_patterns_10", Code::Compiled, 8_192, || {
        policy_shapes::decide(Shape::Patterns, 10)
    }),
    operation("policy", "policy_decide_patterns_100000", Code::Compiled, 8_192, || {
        policy_shapes::decide(Shape::Patterns, 100_000)
    }),
    operation("policy", "policy_decide_paths_10", Code::Compiled, 8_192, || policy_shapes::decide(Shape::Paths, 10)),
    operation("policy", "policy_decide_paths_100000", Code::Compiled, 8_192, || {
        policy_shapes::decide(Shape::Paths, 100_000)
    }),
    operation("policy", "policy_decide_identities_10", Code::Compiled, 8_192, || {
        policy_shapes::decide(Shape::Identities, 10)
    }),
    operation("policy", "policy_decide_identities_100000", Code::Compiled, 8_192, || {
        policy_shapes::decide(Shape::Identities, 100_000)
    }),
    operation("policy", "policy_decide_deny_10", Code::Compiled, 8_192, || policy_shapes::decide(Shape::Deny, 10)),
    operation("policy", "policy_decide_deny_100000", Code::Compiled, 8_192, || {
        policy_shapes::decide(Shape::Deny, 100_000)
    }),
    operation("request", "headers_inbound", Code::Compiled, 1_000, request::headers_inbound),
    operation("request", "headers_outbound", Code::Compiled, 1_000, request::headers_outbound),
    operation("request", "path_normalise", Code::Compiled, 5_000, request::path_in_normal_form),
    operation("request", "path_normalise_escaped", Code::Compiled, 5_000, request::path_with_escapes),
    operation("request", "http2_guard", Code::Compiled, 10_000, guard::request),
    Operation { bytes: copy::BYTES, ..operation("tcp", "tcp_copy_1m", Code::Compiled, 20, copy::plain) },
    Operation { bytes: copy::BYTES, ..operation("tcp", "tcp_copy_tls_1m", Code::Cryptography, 8, copy::from_tls) },
];

const fn operation(
    group: &'static str,
    name: &'static str,
    code: Code,
    times: u32,
    make: fn() -> Result<Work, Failure>,
) -> Operation {
    Operation { name, group, code, bytes: 0, times, make }
}

impl Operation {
    /// The operation of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|operation| operation.name == name)
    }

    /// Makes what it works with: certificates, a policy, a connection.
    ///
    /// # Errors
    /// When something of that cannot be made.
    pub fn make(&self) -> Result<Work, Failure> {
        (self.make)()
    }
}

impl Work {
    /// Runs it `times` times, and says how long that took.
    ///
    /// # Errors
    /// When one of the runs fails or gives something else than it should.
    pub fn run(&mut self, times: u64) -> Result<Duration, Failure> {
        match self {
            Self::Whole(run) => {
                let (outcome, took) = counted(|| (0..times).try_for_each(|_| run()));
                outcome.map(|()| took)
            }
            Self::Part(run) => (0..times).map(|_| run()).sum(),
        }
    }

    /// See [`Work::Whole`].
    fn whole<T>(mut run: impl FnMut() -> Result<T, Failure> + 'static) -> Self {
        Self::Whole(Box::new(move || {
            std::hint::black_box(run()?);
            Ok(())
        }))
    }

    /// See [`Work::Part`].
    fn part<T>(mut run: impl FnMut() -> Result<(T, Duration), Failure> + 'static) -> Self {
        Self::Part(Box::new(move || {
            let (made, took) = run()?;
            std::hint::black_box(made);
            Ok(took)
        }))
    }
}

/// What counts. Two looks at the clock, about 50 ns, are in its time. `benches/instructions` counts while a function of
/// this name is running, so it must stay one: not inlined, and never within itself.
#[inline(never)]
fn counted<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let made = work();
    (made, started.elapsed())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_can_be_repeated() {
        for operation in ALL {
            let mut work = operation.make().unwrap_or_else(|failure| panic!("{}: {failure}", operation.name));
            let took = work.run(2).unwrap_or_else(|failure| panic!("{}: {failure}", operation.name));
            assert!(took > Duration::ZERO, "{}", operation.name);
        }
    }

    #[test]
    fn names_are_unique_and_each_has_a_record() {
        let names: BTreeSet<_> = ALL.iter().map(|operation| operation.name).collect();
        assert_eq!(names.len(), ALL.len());
        let lines = include_str!("../instructions.tsv").lines().filter(|line| !line.starts_with('#'));
        let recorded: BTreeSet<_> = lines.skip(1).filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(recorded, names, "run benches/instructions --record");
    }
}
