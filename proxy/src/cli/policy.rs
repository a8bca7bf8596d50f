//! `portcullis policy`: what a set of policy documents decides and why, and what its authors should look at.
//!
//! Reads files and prints; `portcullis-policy` knows and judges (`explain.rs`, `testing.rs`, `findings.rs` there).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use portcullis_policy::diagnostic::{Diagnostics, Severity};
use portcullis_policy::{File, Options};
use spiffe::SpiffeId;
use spiffe::TrustDomain;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::diff::revision::RevisionError;
use self::explain::parse_label;
use self::format::Format;
use super::paint::{Colour, Count, Paint};
use crate::config::Config;
use crate::policy_store::directory::{self, Contents, DirectoryError};
use crate::policy_store::labels_file::{self, LabelsError};
use crate::policy_store::unix_seconds;

mod ask;
mod check;
mod diff;
mod explain;
mod format;
mod graph;
mod import;
mod schema;
mod suggest;
mod test;
pub mod traffic;

/// Look at policy documents.
#[derive(Debug, Subcommand)]
#[command(about = "Check policies, test them, and ask them who may call whom and why")]
pub enum Command {
    /// List every mistake in the documents, and what their authors should look at.
    ///
    /// DIR holds .yaml and .yml files, as a policy ConfigMap does; folders below it are not read. Ends with 1 on an error
    /// or a warning, with 64 if the command line is wrong.
    Check(check::Check),
    /// Run every case of every PolicyTest, and tell which rules no case exercises.
    ///
    /// Ends with 1 if a case fails, if there is none, or if the documents do not load.
    Test(test::Test),
    /// Tell what is decided, by which rule, and why the others do not decide.
    ///
    /// Ends with 0 whatever the decision, with 1 if the documents do not load.
    Explain(explain::Explain),
    /// Write the least allow-list that covers what access logs show, with comments and tests.
    ///
    /// Ends with 1 if there is nothing to suggest from.
    Suggest(suggest::Suggest),
    /// Write the policies of Istio or Linkerd as documents of this language.
    ///
    /// What does not mean the same here is refused with its place, and then nothing is written: half a policy is another
    /// policy. Ends with 1 if anything is refused.
    Import(import::Import),
    /// Tell what a change of policies changes in what is allowed, not in text.
    ///
    /// BASE and HEAD are directories or Git revisions. Ends with 0 whatever has changed; with 1 if --fail-on names it, or
    /// if documents do not load.
    Diff(diff::Options),
    /// Draw who may call whom.
    Graph(graph::Options),
    /// Print the JSON Schema (2020-12) of the documents, for editors.
    Schema,
}

/// Options of every command that reads documents.
#[derive(Debug, Args)]
struct Common {
    /// Directory with policy documents; may be repeated, and all of them are one set.
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,
    /// How to print it; `sarif` is for code scanning, `github` for annotations of a GitHub workflow.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Judge as of this time (RFC 3339, as in 2026-11-22T03:29:01Z) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<i64>,
    /// Configuration of the sidecar that the documents are for: they are read as its `policy` says. Options beside this one
    /// go before what it says.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A label of the workload, for policies that select by label; may be repeated. A test case may have labels of its own.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    setting: Setting,
    /// When to use colours; `auto` is on a terminal.
    #[arg(long, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
}

impl Common {
    /// Seconds since 1970.
    fn now(&self) -> i64 {
        self.at.unwrap_or_else(unix_seconds)
    }

    /// The sidecar's configuration, or every mistake in it.
    fn configuration(&self) -> Result<Result<Option<Config>, Diagnostics>, Error> {
        let Some(path) = &self.config else { return Ok(Ok(None)) };
        let bytes = read_file(path, MOST_CONFIGURATION)?;
        Ok(Config::read(&path.display().to_string(), &bytes, None).map(|checked| Some(checked.config)))
    }

    /// What the documents are compiled for: what the command line says, else the configuration.
    fn options(&self, config: Option<&Config>) -> Result<Options, Error> {
        let mut options = config.map_or_else(Options::default, |config| config.policy.options(self.now()));
        if !self.labels.is_empty() {
            options.labels = self.labels.iter().cloned().collect();
        } else if let Some(file) = config.and_then(|config| config.policy.labels_file.as_deref()) {
            options.labels = labels_file::read(file)?;
        }
        Ok(self.setting.over(options))
    }

    fn read(&self) -> Result<Contents, Error> {
        Ok(directory::read(&self.directories)?)
    }
}

/// What documents are compiled for, besides what they say.
#[derive(Debug, Args)]
struct Setting {
    /// What holds for a workload that no policy which allows protects, as the sidecar's `policy.defaultAction`. Default
    /// deny.
    #[arg(long, value_enum)]
    default_action: Option<DefaultAction>,
    /// The namespace whose Istio policies hold for every workload, as the sidecar's `policy.rootNamespace`. Default
    /// istio-system.
    #[arg(long, value_name = "NAMESPACE")]
    root_namespace: Option<String>,
    /// The trust domain that `cluster.local` stands for in Istio policies, as the sidecar's `policy.clusterLocal`.
    #[arg(long, value_name = "TRUST_DOMAIN", value_parser = parse_trust_domain)]
    cluster_local: Option<TrustDomain>,
}

impl Setting {
    fn options(&self, labels: BTreeMap<String, String>) -> Options {
        self.over(Options { labels, ..Options::default() })
    }

    /// These, and where they are silent those.
    fn over(&self, those: Options) -> Options {
        Options {
            labels: those.labels,
            default_action: match self.default_action {
                Some(DefaultAction::Deny) => portcullis_policy::DefaultAction::Deny,
                Some(DefaultAction::Allow) => portcullis_policy::DefaultAction::Allow,
                None => those.default_action,
            },
            root_namespace: self.root_namespace.clone().unwrap_or(those.root_namespace),
            cluster_local: self.cluster_local.clone().or(those.cluster_local),
        }
    }
}

/// What holds where nothing is there to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DefaultAction {
    Deny,
    Allow,
}

fn files(contents: &Contents) -> Vec<File<'_>> {
    contents.files.iter().map(|file| File { name: &file.name, bytes: &file.bytes }).collect()
}

fn parse_trust_domain(text: &str) -> Result<TrustDomain, String> {
    TrustDomain::new(text).map_err(|error| error.to_string())
}

fn parse_time(text: &str) -> Result<i64, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339);
    let time = time.map_err(|_| format!("`{text}` is no time of RFC 3339: write it as in 2026-11-22T03:29:01Z"))?;
    Ok(time.unix_timestamp())
}

fn parse_identity(text: &str) -> Result<SpiffeId, String> {
    SpiffeId::new(text).map_err(|error| error.to_string())
}

/// A file that is given beside the documents, at most `most` bytes of it.
fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let unusable = |reason: String| Error::Input { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    read.map_err(|error| unusable(error.to_string()))?;
    if bytes.len() as u64 > most {
        return Err(unusable(format!("it has more than {} MiB", most >> 20)));
    }
    Ok(bytes)
}

/// Why a command does not end with 0. What was found has been printed by then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The documents cannot be used.
    #[error("the policies do not load: {}", Count(*.errors, "mistake"))]
    DoNotLoad {
        /// How many mistakes.
        errors: usize,
    },
    /// Someone should look.
    #[error("{} and {}", Count(*.errors, "error"), Count(*.warnings, "warning"))]
    Found {
        /// How many errors.
        errors: usize,
        /// How many warnings.
        warnings: usize,
    },
    /// Cases did not come out as they say.
    #[error("{} of {} failed", .failed, Count(*.cases, "case"))]
    Failed {
        /// How many failed.
        failed: usize,
        /// How many there are.
        cases: usize,
    },
    /// There is nothing to run.
    #[error("there is no test case")]
    NoCases,
    /// Too few rules decide a case.
    #[error("{percent} % of the rules are exercised, and --min-coverage is {minimum} %")]
    Coverage {
        /// How many are exercised.
        percent: usize,
        /// How many must be.
        minimum: u8,
    },
    /// A Git revision cannot be read.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// Something changed that was not to.
    #[error("{}", diff::changed(*.count))]
    Changed {
        /// How many changes.
        count: usize,
    },
    /// It is not known whether something changed that was not to.
    #[error("the comparison is incomplete")]
    Incomplete,
    /// A file that was given beside the documents cannot be used.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The configuration says where the labels of the workload are, and they are not there.
    #[error("{0}: give them with --label")]
    Labels(#[from] LabelsError),
    /// It is not known whose sidecar a configuration is for.
    #[error("the configuration names no `identity.spiffeId`: say whose sidecar it is for with --workload")]
    NoWorkload,
    /// No line of the logs speaks for a rule.
    #[error("there is nothing to suggest from. {summary}")]
    NothingSeen {
        /// What became of the lines.
        summary: String,
    },
    /// Tests were asked for that would fail.
    #[error(
        "tests of a policy in audit mode would fail, since it allows nothing: add --mode enforce, or leave --tests out"
    )]
    NoTestsInAudit,
    /// More was seen than a policy can hold.
    #[error("suggest from less of the log, or for one workload after the other with --workload")]
    TooManyPaths(#[from] portcullis_policy::suggest::TooManyPaths),
    /// Something cannot be carried over.
    #[error("nothing was imported: {}{}{told}", Count(*.errors, "mistake"), if told.is_empty() { "" } else { "\n" })]
    NotImported {
        /// What, for people; empty where it was printed.
        told: String,
        /// How many mistakes.
        errors: usize,
    },
    /// The files let nobody call anything.
    #[error("there is nothing to import: the files let nobody call anything, which needs no policy")]
    NothingImported,
    /// Something on the command line stands there twice.
    #[error("{what} is given twice")]
    GivenTwice {
        /// What.
        what: String,
    },
    /// The documents could not be written.
    #[error("the documents could not be written")]
    Write(#[from] portcullis_policy::write::WriteError),
    /// The result could not be printed.
    #[error("could not print the result")]
    Print(#[from] io::Error),
    /// The result could not be written as JSON.
    #[error("could not write the result as JSON")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// 64 for a command line that says too little, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoWorkload
            | Self::NoTestsInAudit
            | Self::GivenTwice { .. }
            | Self::Revision(RevisionError::Option(_) | RevisionError::NoDirectory(_)) => 64,
            Self::Directory(_)
            | Self::DoNotLoad { .. }
            | Self::Found { .. }
            | Self::Failed { .. }
            | Self::NoCases
            | Self::Coverage { .. }
            | Self::Revision(_)
            | Self::Changed { .. }
            | Self::Incomplete
            | Self::Input { .. }
            | Self::Labels(_)
            | Self::NothingSeen { .. }
            | Self::TooManyPaths(_)
            | Self::NotImported { .. }
            | Self::NothingImported
            | Self::Write(_)
            | Self::Print(_)
            | Self::Json(_) => 1,
        }
    }

    fn do_not_load(found: &Diagnostics) -> Self {
        Self::DoNotLoad { errors: count(found, Severity::Error) }
    }
}

/// What `run` reads of a configuration.
const MOST_CONFIGURATION: u64 = 1 << 20;

fn count(found: &Diagnostics, severity: Severity) -> usize {
    found.iter().filter(|one| one.severity == severity).count()
}

/// Carries out a command and prints what it found to `out`.
///
/// # Errors
/// When the documents do not load, something was found, or `out` cannot be written.
pub fn run(command: &Command, paint: Paint, out: &mut dyn Write) -> Result<(), Error> {
    let outcome = match command {
        Command::Check(check) => check::run(check, paint, out),
        Command::Test(test) => test::run(test, paint, out),
        Command::Explain(explain) => explain::run(explain, paint, out),
        Command::Suggest(suggest) => suggest::run(suggest, out),
        Command::Import(import) => import::run(import, out),
        Command::Diff(options) => diff::run(options, paint, out),
        Command::Graph(options) => graph::run(options, paint, out),
        Command::Schema => schema::run(out),
    };
    out.flush()?;
    outcome
}

#[cfg(test)]
mod tests;
