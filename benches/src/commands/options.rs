//! Options that several commands share, as they stand on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use thiserror::Error;

use crate::client::credentials::{Group, Version};
use crate::client::expected::Expected;
use crate::client::target::Target;

/// Whom to load, and as whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Target")]
pub struct TargetArgs {
    /// What to load: https://HOST:PORT/PATH, http://HOST:PORT/PATH, tls://HOST:PORT or tcp://HOST:PORT.
    #[arg(long, value_name = "URL")]
    pub target: Target,
    /// Directory of the client's identity, as cert-manager writes it: tls.crt and tls.key.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cert", "key"])]
    pub identity: Option<PathBuf>,
    /// Certificate chain of the client, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key of the client, PEM: PKCS#8, PKCS#1 or SEC1.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Certificates that the target's chain may end at, PEM.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Who must answer: a SPIFFE ID, a DNS name or an IP address. Default: the host of the target.
    #[arg(long, value_name = "NAME")]
    pub expect: Option<Expected>,
    /// Server name to ask for, or `none`. Default: the host of the target if that is a DNS name, otherwise none.
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,
    /// Key exchange group; may be repeated, the first one's key share is sent. Default: x25519mlkem768, x25519.
    #[arg(long, value_enum, value_name = "GROUP")]
    pub group: Vec<Group>,
    /// Version of TLS.
    #[arg(long, value_enum, default_value = "1.3")]
    pub tls: Version,
    /// What to speak to https:// and http:// targets; HTTP/2 in plaintext is with prior knowledge.
    #[arg(long, value_enum, default_value_t = Protocol::Http1)]
    pub protocol: Protocol,
    /// Application protocol to offer instead of the one that follows from the target; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub alpn: Vec<String>,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// One request at a time on a connection.
    Http1,
    /// Many at once.
    Http2,
}

/// How much load, and how it is made.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct LoadArgs {
    /// Connections, or clients that connect, at once.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Length of what is measured, as in 10s, 500ms or 2m.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Length of the load before it.
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub warm_up: Duration,
    /// Operations to start per second, evenly, whatever the target does (open loop). Default: as many as it answers.
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Threads that make load. Default: half of the cores that this process may use.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// The longest that an operation may take.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// Processes to watch.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Watched processes")]
pub struct WatchArgs {
    /// Process of the target, on this machine; its children are counted with it. May be repeated.
    #[arg(long, value_name = "PID")]
    pub pid: Vec<i32>,
    /// Process of the application behind the target. May be repeated.
    #[arg(long, value_name = "PID")]
    pub backend_pid: Vec<i32>,
}

/// Where the result goes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Result")]
pub struct OutputArgs {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Write plots and a page that shows them to this directory.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Show no progress bar, even on a terminal.
    #[arg(long)]
    pub quiet: bool,
}

/// A value that an option does not take.
#[derive(Debug, Error)]
pub enum OptionError {
    /// Not a length of time.
    #[error("`{0}` is no length of time from 1ms to 24h: write it as in 10s, 500ms, 2m or 1h")]
    Duration(String),
    /// Not a rate.
    #[error("`{0}` is no rate: give operations per second, from 0.1 to 10000000")]
    Rate(String),
    /// Not a number of bytes.
    #[error("`{0}` is no number of bytes up to 1TiB: write it as in 65536, 64KiB, 16MiB or 1GiB")]
    Bytes(String),
}

/// Reads a length of time.
///
/// # Errors
/// When it is none.
pub fn parse_duration(text: &str) -> Result<Duration, OptionError> {
    let wrong = || OptionError::Duration(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let millis = number.checked_mul(millis).filter(|millis| (1..=86_400_000).contains(millis));
    millis.map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads a number of bytes.
///
/// # Errors
/// When it is none.
pub fn parse_bytes(text: &str) -> Result<u64, OptionError> {
    let wrong = || OptionError::Bytes(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).filter(|bytes| *bytes <= 1 << 40).ok_or_else(wrong)
}

fn parse_rate(text: &str) -> Result<f64, OptionError> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.1..=1e7).contains(rate));
    rate.ok_or_else(|| OptionError::Rate(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_a_unit() {
        for (text, millis) in [("10s", 10_000), ("500ms", 500), ("2m", 120_000), ("24h", 86_400_000)] {
            assert_eq!(parse_duration(text).unwrap().as_millis(), millis);
        }
        for text in ["", "10", "s", "-1s", "1.5s", "25h", "0s", "99999999999999999999s", "1d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_finite_and_bounded() {
        assert!(parse_rate("5000").is_ok() && parse_rate("0.5").is_ok());
        for text in ["", "0", "-1", "NaN", "inf", "1e9", "x"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_may_have_a_binary_unit() {
        assert_eq!(parse_bytes("65536").unwrap(), 65_536);
        assert_eq!(parse_bytes("64KiB").unwrap(), 65_536);
        assert_eq!(parse_bytes("1TiB").unwrap(), 1 << 40);
        for text in ["", "KiB", "1kb", "2TiB", "-1", "99999999999999999999"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
