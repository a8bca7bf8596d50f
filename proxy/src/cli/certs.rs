//! `portcullis certs`: what is in certificate files, what is wrong with it, and why a peer is believed or not.
//!
//! Parses and prints; `certs-watcher` knows and judges (`inspect.rs`, `findings.rs`, `examine.rs` there).

use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use portcullis_certs_watcher::inspect::Target;
use rustls_pki_types::UnixTime;
use spiffe::TrustDomain;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::paint::{Colour, Count, Paint};

mod inspect;
mod page;
mod tree;
mod verify;
mod words;

/// Look at certificates and bundles.
#[derive(Debug, Subcommand)]
#[command(about = "Look at certificates, revocation lists and trust bundles, and find what is wrong with them")]
pub enum Command {
    /// Show what is in a path, and every problem with its remedy.
    ///
    /// PATH is a directory with tls.crt and tls.key (a Secret volume), a file in PEM or DER (certificates, revocation
    /// lists, a key), a SPIFFE bundle in JSON, or a directory of such files. Private keys are checked, never shown.
    /// Ends with 1 if a sidecar would refuse what is there, with 64 if the command line is wrong.
    Inspect(inspect::Inspect),
    /// Tell step by step why a peer with this chain is accepted or not, naming the certificate at fault.
    ///
    /// The verdict is that of the function by which a sidecar judges handshakes. Ends with 1 if the peer is not accepted
    /// or something cannot be read, with 64 if the command line is wrong.
    Verify(verify::Verify),
}

/// Options of every command.
#[derive(Debug, Args)]
struct Common {
    /// Judge as of this time (RFC 3339, as in 2026-11-22T03:29:01Z) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<UnixTime>,
    /// When to use colours; `auto` is on a terminal.
    #[arg(long, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
}

impl Common {
    fn now(&self) -> UnixTime {
        self.at.unwrap_or_else(UnixTime::now)
    }

    fn paint(&self, found: Paint) -> Paint {
        self.color.paint(found)
    }
}

/// `TRUST_DOMAIN=PATH`.
#[derive(Clone, Debug)]
struct Owned {
    trust_domain: TrustDomain,
    path: PathBuf,
}

impl FromStr for Owned {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (domain, path) =
            text.split_once('=').ok_or("write TRUST_DOMAIN=PATH, as in prod.health.internal=bundle.pem")?;
        let trust_domain = TrustDomain::new(domain).map_err(|error| format!("`{domain}`: {error}"))?;
        if trust_domain.as_str() != domain {
            return Err(format!("`{domain}` is not a bare trust domain: write `{trust_domain}`"));
        }
        if path.is_empty() {
            return Err("there is no path after `=`".to_owned());
        }
        Ok(Self { trust_domain, path: PathBuf::from(path) })
    }
}

/// A path, or `TRUST_DOMAIN=PATH` for a bundle. A path that has `=` in its first part is written with `./` before it.
fn parse_target(text: &str) -> Result<Target, String> {
    match text.split_once('=') {
        Some((domain, _)) if !domain.contains('/') => {
            let Owned { trust_domain, path } = text.parse()?;
            Ok(Target { path, trust_domain: Some(trust_domain) })
        }
        _ if text.is_empty() => Err("the path is empty".to_owned()),
        _ => Ok(Target { path: PathBuf::from(text), trust_domain: None }),
    }
}

fn parse_time(text: &str) -> Result<UnixTime, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| format!("`{text}` is no time of RFC 3339: write it as in 2026-11-22T03:29:01Z"))?;
    let seconds = u64::try_from(time.unix_timestamp()).map_err(|_| format!("`{text}` is before 1970"))?;
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// Why a command does not end with 0. What was found has been printed by then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A sidecar would refuse what is there.
    #[error("{} would make a sidecar refuse this", Count(*.errors, "problem"))]
    Refused {
        /// How many problems.
        errors: usize,
    },
    /// There is drift, and `--deny-warnings` was given.
    #[error("{}, and --deny-warnings is given", Count(*.warnings, "warning"))]
    Warned {
        /// How many warnings.
        warnings: usize,
    },
    /// A peer with this chain would be refused.
    #[error("a sidecar would refuse this peer as {roles}")]
    NotAccepted {
        /// In which roles.
        roles: String,
    },
    /// Something that the verdict depends on cannot be read.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Input {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The deny list has mistakes.
    #[error("`{}` has mistakes:\n{mistakes}", path.display())]
    DenyList {
        /// The file.
        path: PathBuf,
        /// Each with its place and what to do.
        mistakes: String,
    },
    /// Two bundles are given for one trust domain.
    #[error("--trust is given twice for `{trust_domain}`: a trust domain has one bundle, which may be a directory")]
    TrustTwice {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
    /// Revocation lists are given for a trust domain without a bundle.
    #[error("--crl is given for `{trust_domain}`, and --trust is not: without a bundle nobody of it is believed")]
    CrlWithoutTrust {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
    /// The result could not be printed.
    #[error("could not print the result")]
    Print(#[from] io::Error),
    /// The result could not be written as JSON.
    #[error("could not write the result as JSON")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// 64 for a command line that contradicts itself, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::TrustTwice { .. } | Self::CrlWithoutTrust { .. } => 64,
            Self::Refused { .. }
            | Self::Warned { .. }
            | Self::NotAccepted { .. }
            | Self::Input { .. }
            | Self::DenyList { .. }
            | Self::Print(_)
            | Self::Json(_) => 1,
        }
    }
}

/// Carries out a command and prints what it found to `out`.
///
/// # Errors
/// When what was looked at is refused, or `out` cannot be written.
pub fn run(command: &Command, paint: Paint, out: &mut dyn Write) -> Result<(), Error> {
    match command {
        Command::Inspect(inspect) => inspect::run(inspect, paint, out),
        Command::Verify(verify) => verify::run(verify, paint, out),
    }
}

#[cfg(test)]
mod tests;
