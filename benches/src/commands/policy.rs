//! `policy`: a policy set of a chosen size and shape is put in place, then requests as in `http`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use portcullis::ca::{Access, VolumeFile, write_generation};
use spiffe::SpiffeId;
use tokio::task::LocalSet;

use super::conclusion::Beginning;
use super::error::CommandError;
use super::exchange::{Question, first_contact};
use super::http::{RequestArgs, Requests};
use super::options::OutputArgs;
use super::setup::runtime;
use crate::client::credentials::Sessions;
use crate::load::crew::{self, RunError};
use crate::outcome::Outcome;
use crate::policy_set::{Allowed, Shape};

/// Put a policy set of N rules in the target's policy directory, see it in force, then load the target with requests.
///
/// The set is in force when a path that only it allows is answered; a path that it does not allow must be refused. Only
/// its last rule matches the requests. The files are exchanged whole, as the kubelet does it.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// Policy directory of the target.
    #[arg(long, value_name = "DIR", help_heading = "Policy")]
    directory: PathBuf,
    /// SPIFFE ID of the caller, that of the client's certificate.
    #[arg(long, value_name = "SPIFFE_ID", help_heading = "Policy")]
    caller: SpiffeId,
    /// Rules in the set.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Policy")]
    rules: u32,
    /// What they look like.
    #[arg(long, value_enum, default_value_t = Shape::Callers, help_heading = "Policy")]
    shape: Shape,
    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs the command.
///
/// # Errors
/// When the run could not come about, or the target does not follow the set.
pub fn run(args: &PolicyArgs) -> Result<Outcome, CommandError> {
    let mut beginning = Beginning::new("policy", &args.request.target)?;
    let written = put_in_place(args)?;
    let requests = Requests::prepare(&args.request, "policy", &args.output)?;
    requests.describe(&mut beginning, &args.request);
    beginning.set("rules", args.rules.to_string());
    beginning.set("shape", args.shape.word());
    let measured = crew::run(&requests.plan, |_| requests.users())?;
    let mut outcome = beginning.conclude(&requests.plan, measured, None)?;
    outcome.counts.insert("rules".to_owned(), f64::from(args.rules));
    outcome.counts.insert("in_force_after_ms".to_owned(), written.as_secs_f64() * 1000.0);
    Ok(outcome)
}

/// Writes the set and waits until the target follows it. Returns how long that took.
fn put_in_place(args: &PolicyArgs) -> Result<Duration, CommandError> {
    // Unlike any that an earlier run may have left behind.
    let nonce = time::OffsetDateTime::now_utc().unix_timestamp_nanos();
    let probe = format!("/portcullis-bench/revision/{nonce}");
    let path = args.request.target.target.path.split('?').next().unwrap_or("/");
    let allowed = Allowed { caller: &args.caller, paths: &[path, &probe] };
    let files = args.shape.files(args.rules, &allowed);
    let volume: Vec<VolumeFile<'_>> = files
        .iter()
        .map(|file| VolumeFile { name: &file.name, contents: file.text.as_bytes(), access: Access::Public })
        .collect();
    let begun = write_generation(&args.directory, &volume)?;
    let ask = |path: &str| {
        let mut target = args.request.target.clone();
        path.clone_into(&mut target.target.path);
        let route = target.route(Sessions::Forget)?;
        let question = Question::new(&target, http::Method::GET, Bytes::new())?;
        LocalSet::new().block_on(&runtime()?, first_contact(&route, &question, args.request.load.timeout))
    };
    let refused = |why: String| CommandError::PolicyNotInForce { path: args.directory.clone(), why };
    loop {
        match ask(&probe) {
            Ok(_) => break,
            Err(CommandError::Run(RunError::NotReady(failure))) if begun.elapsed() > IN_FORCE => {
                return Err(refused(format!("`{probe}` is still not answered: {}", failure.text)));
            }
            Err(CommandError::Run(RunError::NotReady(_))) => {
                runtime()?.block_on(async { tokio::time::sleep(PAUSE).await });
            }
            Err(other) => return Err(other),
        }
    }
    let took = begun.elapsed();
    match ask("/portcullis-bench/denied") {
        Ok(_) => Err(refused("a path that no rule allows is answered".to_owned())),
        Err(CommandError::Run(RunError::NotReady(failure))) if failure.kind == "status_403" => Ok(took),
        Err(other) => Err(other),
    }
}

/// A million rules take some seconds to compile.
const IN_FORCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(2);
