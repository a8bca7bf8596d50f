//! What policy sets cost: CPU time of decisions beside each other at a small and a large set, and loading.
//!
//! Unlike `benches/operations.rs` it asks every rule of a set once before it asks any again, which is what makes a
//! processor wait for memory. The sets take turns in one process, and the clock is the thread's, so that a busy machine
//! disturbs both alike.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use portcullis::error_chain;
use portcullis_benches::operations::policy_shapes::{Set, Shape, compiled, documents};
use procfs::process::Process;
use rustix::time::{ClockId, clock_gettime};

/// Measures what policy sets cost.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Times decisions at sets of several sizes, which take turns: every rule in turn, and one again and again.
    Ask {
        /// What the rules look like.
        shape: Shape,
        /// The sizes.
        #[arg(long, value_delimiter = ',', default_value = "10,100000")]
        rules: Vec<usize>,
        /// How many times each set has its turn.
        #[arg(long, default_value_t = 4_000)]
        turns: usize,
    },
    /// Loads one set: CPU time, and what it adds to the memory of the process.
    Load {
        /// What the rules look like.
        shape: Shape,
        /// How many.
        #[arg(long, default_value_t = 100_000)]
        rules: usize,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let out = &mut io::stdout().lock();
    let done = match arguments.what {
        What::Ask { shape, rules, turns } => ask(shape, &rules, turns, out),
        What::Load { shape, rules } => load(shape, rules, out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to say that this failed.
            let _ = writeln!(io::stderr(), "portcullis-decisions: {}", error_chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn ask(shape: Shape, sizes: &[usize], turns: usize, out: &mut dyn Write) -> Result<(), Box<dyn std::error::Error>> {
    let mut sets = Vec::new();
    for rules in sizes {
        let set = Set::of(shape, compiled(&documents(shape, *rules))?, QUESTIONS)?;
        sets.push((*rules, set, Vec::new(), Vec::new()));
    }
    for turn in 0..turns {
        for (_, set, each, again) in &mut sets {
            let questions = (0..AT_ONCE).map(|step| (turn * AT_ONCE + step) % QUESTIONS);
            each.push(time(set, questions)?);
            again.push(time(set, std::iter::repeat_n(turn % QUESTIONS, AT_ONCE))?);
        }
    }
    for (rules, _, each, again) in &mut sets {
        let (each, again) = (Figure::of(each), Figure::of(again));
        writeln!(out, "{shape:?}, {rules} rules: every rule in turn {each}, one again {again}")?;
    }
    Ok(())
}

/// Nanoseconds of CPU time for one decision. The facts of a request were just received, but what the policy says to them
/// was not looked at for long.
fn time(set: &Set, questions: impl Iterator<Item = usize> + Clone) -> Result<f64, Box<dyn std::error::Error>> {
    questions.clone().for_each(|number| set.receive(number));
    let started = cpu_nanoseconds();
    for number in questions {
        std::hint::black_box(set.ask(number)?);
    }
    Ok((cpu_nanoseconds() - started) / AT_ONCE as f64)
}

/// Of many turns; what disturbs a turn only makes it longer.
struct Figure {
    median: f64,
    tenth: f64,
}

impl Figure {
    fn of(turns: &mut [f64]) -> Self {
        turns.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| turns.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(turns.len() / 2), tenth: at(turns.len() / 10) }
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} ns (a tenth of the turns below {:.0})", self.median, self.tenth)
    }
}

fn load(shape: Shape, rules: usize, out: &mut dyn Write) -> Result<(), Box<dyn std::error::Error>> {
    let texts = documents(shape, rules);
    let before = resident()?;
    let started = cpu_nanoseconds();
    let policy = compiled(&texts)?;
    let seconds = (cpu_nanoseconds() - started) / 1e9;
    let (now, peak) = resident()?;
    let megabytes = |bytes: u64| bytes.saturating_sub(before.0) as f64 / 1e6;
    let (resident, at_most) = (megabytes(now), megabytes(peak));
    writeln!(
        out,
        "{shape:?}, {} rules: {seconds:.2} s of CPU, {resident:.0} MB resident, {at_most:.0} MB while loading",
        policy.rules().count()
    )?;
    Ok(())
}

/// Now, and at the most until now.
fn resident() -> Result<(u64, u64), Box<dyn std::error::Error>> {
    let status = Process::myself()?.status()?;
    let bytes = |kilobytes: Option<u64>| kilobytes.unwrap_or_default() * 1024;
    Ok((bytes(status.vmrss), bytes(status.vmhwm)))
}

fn cpu_nanoseconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// Every rule of the largest set has its turn.
const QUESTIONS: usize = 100_000;
/// Between two looks at the clock, which take as long as one decision; their facts fit into the first caches.
const AT_ONCE: usize = 64;
