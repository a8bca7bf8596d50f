//! Runs one operation a given number of times, for tools that count what a process does; `benches/instructions` is one.
//!
//! It measures nothing itself. Counting two runs of different length and taking the difference leaves out everything
//! that is done once.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use portcullis::error_chain;
use portcullis_benches::operations::{self, ALL, Code, Operation};

/// Runs one operation of the sidecar, or lists them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The operation.
    #[arg(required_unless_present_any = ["list", "processor"])]
    name: Option<String>,
    /// How many times to run it.
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// List the operations: name, whose code it runs, and how many times give a steady count of instructions.
    #[arg(long, exclusive = true)]
    list: bool,
    /// Show what the processor offers to libraries that choose their code by it.
    #[arg(long, exclusive = true)]
    processor: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match answer(&arguments, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to say that this failed.
            let _ = writeln!(io::stderr(), "portcullis-operations: {}", error_chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn answer(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Box<dyn std::error::Error>> {
    if arguments.list {
        return Ok(list(out)?);
    }
    let Some(name) = &arguments.name else {
        return Ok(writeln!(out, "{}", operations::processor())?);
    };
    let operation = Operation::named(name).ok_or_else(|| format!("there is no operation `{name}`; see --list"))?;
    operation.make()?.run(arguments.times)?;
    Ok(())
}

fn list(out: &mut dyn Write) -> io::Result<()> {
    for Operation { name, code, times, .. } in ALL {
        let code = match code {
            Code::Compiled => "compiled",
            Code::Cryptography => "cryptography",
        };
        writeln!(out, "{name}\t{code}\t{times}")?;
    }
    Ok(())
}
