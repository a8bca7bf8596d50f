//! The `portcullis` program.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use portcullis::cli;

#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about = "A strict-mTLS sidecar proxy")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar.
    Run(cli::run::FileArgs),
    /// Check a configuration without running it: exit 64 and every mistake listed if it is wrong.
    Validate(cli::run::FileArgs),
    #[command(subcommand)]
    Ca(cli::ca::Command),
    #[command(subcommand)]
    Certs(cli::certs::Command),
    #[command(subcommand)]
    Policy(cli::policy::Command),
    /// Show everything on two services and their sidecars, check it, and exit 1 if anything is not as promised.
    Demo(cli::demo::DemoArgs),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(help) => {
            // Standard output may be closed; there is nobody to tell then.
            let _ = help.print();
            return if help.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let (mut stdout, mut stderr) = (std::io::stdout().lock(), std::io::stderr());
    let (outcome, code) = match arguments.command {
        Command::Run(args) => {
            drop(stdout);
            tell(cli::run::run(&args, &mut stderr), cli::run::RunError::exit_code)
        }
        Command::Validate(args) => tell(cli::run::validate(&args, &mut stderr), cli::run::RunError::exit_code),
        Command::Ca(command) => tell(cli::ca::run(&command, &mut stdout), |_| 1),
        Command::Certs(command) => {
            let paint = cli::paint::Paint::of(&stdout);
            tell(cli::certs::run(&command, paint, &mut stdout), cli::certs::Error::exit_code)
        }
        Command::Policy(command) => {
            let paint = cli::paint::Paint::of(&stdout);
            tell(cli::policy::run(&command, paint, &mut stdout), cli::policy::Error::exit_code)
        }
        Command::Demo(args) => tell(cli::demo::run(&args, &mut stdout), |_| 1),
    };
    if let Some(message) = outcome {
        let _ = writeln!(stderr, "portcullis: {message}");
    }
    ExitCode::from(code)
}

fn tell<E: std::error::Error>(outcome: Result<(), E>, code: impl Fn(&E) -> u8) -> (Option<String>, u8) {
    match outcome {
        Ok(()) => (None, 0),
        Err(error) => (Some(portcullis::error_chain(&error)), code(&error)),
    }
}

/// EX_USAGE of sysexits.h.
const USAGE: u8 = 64;
