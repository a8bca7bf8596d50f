//! `connections`: churn. Connections come, do something, and go, inside TLS or not.

use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use tokio::task::LocalSet;

use super::conclusion::Beginning;
use super::cycle::{Cycle, Wanted};
use super::error::CommandError;
use super::exchange::{Question, first_contact};
use super::options::{LoadArgs, OutputArgs, TargetArgs, WatchArgs};
use super::setup::runtime;
use crate::client::credentials::Sessions;
use crate::load::crew;
use crate::outcome::Outcome;

/// Connection churn: connect, exchange something, close; any target.
#[derive(Debug, Args)]
pub struct ConnectionsArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Exchanges on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    exchanges: u32,
    #[command(flatten)]
    watched: WatchArgs,
    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs the command.
///
/// # Errors
/// When the run could not come about.
pub fn run(args: &ConnectionsArgs) -> Result<Outcome, CommandError> {
    let plan = args.load.plan(("connections", "connection"), &args.watched, &args.output)?;
    let route = Arc::new(args.target.route(Sessions::Forget)?);
    let question = Question::new(&args.target, http::Method::GET, Bytes::new())?;
    let mut beginning = Beginning::new("connections", &args.target)?;
    let contact = LocalSet::new().block_on(&runtime()?, first_contact(&route, &question, plan.timeout))?;
    beginning.agreed(&contact);
    beginning.planned(&plan);
    beginning.set("exchanges", args.exchanges.to_string());
    let cycle = Cycle { route, question, model: contact.model, exchanges: args.exchanges, wanted: Wanted::Any };
    let measured = crew::run(&plan, |_| vec![cycle.clone()])?;
    beginning.conclude(&plan, measured, None)
}
