//! `yardstick`: how fast the machine is right now.

use clap::Args;

use super::error::CommandError;
use crate::measure::yardstick::p256_verify_us;

/// How fast the machine is: the time of one P-256 verification.
#[derive(Debug, Args)]
pub struct YardstickArgs {
    /// Print JSON instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// Runs the command and returns what to print.
///
/// # Errors
/// When the yardstick cannot be taken.
pub fn run(args: &YardstickArgs) -> Result<String, CommandError> {
    let micros = p256_verify_us()?;
    if args.json {
        return Ok(serde_json::json!({ "p256_verify_us": micros }).to_string());
    }
    Ok(format!("one P-256 verification takes {micros:.1} µs"))
}
