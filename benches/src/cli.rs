//! The command line of `portcullis-bench`: parses, runs, prints. [`crate::commands`] does the work.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::error::CommandError;
use crate::commands::options::OutputArgs;
use crate::commands::{
    backend, connections, handshakes, http, idle, policy, report as report_command, rotate, stream, yardstick,
};
use crate::outcome::Outcome;
use crate::report;

/// Load any mutual-TLS target and measure it: rates, latencies, CPU time and memory.
///
/// Exit status: 0 all went well, 1 something failed during the run, 2 the run could not come about, 64 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "portcullis-bench", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Handshakes(handshakes::HandshakesArgs),
    Http(http::HttpArgs),
    Stream(stream::StreamArgs),
    Idle(idle::IdleArgs),
    Connections(connections::ConnectionsArgs),
    Rotate(rotate::RotateArgs),
    Policy(policy::PolicyArgs),
    Backend(backend::BackendArgs),
    Report(report_command::ReportArgs),
    Yardstick(yardstick::YardstickArgs),
}

/// Does what these arguments say. Results go to `out`, failures to `err`.
pub fn run(arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    match dispatch(&arguments.command, out) {
        Ok(code) => code,
        Err(error) => {
            // Standard error may be closed; there is nobody to tell then.
            let _ = writeln!(err, "portcullis-bench: {}", portcullis::error_chain(&error));
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

fn dispatch(command: &Command, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let (outcome, output) = match command {
        Command::Handshakes(args) => (handshakes::run(args)?, &args.output),
        Command::Http(args) => (http::run(args)?, &args.output),
        Command::Stream(args) => (stream::run(args)?, &args.output),
        Command::Idle(args) => (idle::run(args)?, &args.output),
        Command::Connections(args) => (connections::run(args)?, &args.output),
        Command::Rotate(args) => (rotate::run(args)?, &args.output),
        Command::Policy(args) => (policy::run(args)?, &args.output),
        Command::Backend(args) => return backend::run(args, out).map(|()| ExitCode::SUCCESS),
        Command::Report(args) => {
            let line = report_command::run(args)?;
            return print(out, &line).map(|()| ExitCode::SUCCESS);
        }
        Command::Yardstick(args) => {
            let line = yardstick::run(args)?;
            return print(out, &line).map(|()| ExitCode::SUCCESS);
        }
    };
    show(&outcome, output, out)?;
    // Nothing done at all is no success, whatever did not fail.
    let good = outcome.failures.is_empty() && outcome.operations > 0.0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn show(outcome: &Outcome, output: &OutputArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    if output.json {
        print(out, &serde_json::to_string(outcome).unwrap_or_default())?;
    } else {
        print(out, report::table(outcome).trim_end())?;
    }
    if let Some(directory) = &output.report {
        let page = report::write(directory, std::slice::from_ref(outcome))?;
        if !output.json {
            print(out, &format!("The plots are in {}.", page.display()))?;
        }
    }
    Ok(())
}

fn print(out: &mut dyn Write, text: &str) -> Result<(), CommandError> {
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(CommandError::io("print the result"))
}

const FAILED: u8 = 1;
const COULD_NOT_RUN: u8 = 2;
/// EX_USAGE of sysexits.h.
pub const USAGE: u8 = 64;
