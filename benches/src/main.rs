//! The `portcullis-bench` program.

use std::process::ExitCode;

use clap::Parser;
use portcullis_benches::cli;

fn main() -> ExitCode {
    match cli::Arguments::try_parse() {
        Ok(arguments) => cli::run(&arguments, &mut std::io::stdout(), &mut std::io::stderr()),
        Err(help) => {
            // Standard output may be closed; there is nobody to tell then.
            let _ = help.print();
            if help.use_stderr() { ExitCode::from(cli::USAGE) } else { ExitCode::SUCCESS }
        }
    }
}
