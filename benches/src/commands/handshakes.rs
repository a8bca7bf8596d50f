//! `handshakes`: new TLS connections, full ones or resumed ones, each judged by the target before it counts.

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
use crate::client::connect::{Agreed, Route};
use crate::client::credentials::Sessions;
use crate::load::crew;
use crate::outcome::Outcome;

/// New TLS connections: connect, full handshake, one exchange, close.
///
/// A client of TLS 1.3 is done before the server has judged its certificate; so an operation counts only once an answer
/// came back. Against tls:// targets that answer is one byte echoed by `portcullis-bench backend --stream`.
#[derive(Debug, Args)]
pub struct HandshakesArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Resume sessions; fails if the target offers none.
    #[arg(long)]
    resumed: bool,
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
pub fn run(args: &HandshakesArgs) -> Result<Outcome, CommandError> {
    if !args.target.target.scheme.is_secure() {
        return Err(CommandError::Scheme {
            command: "handshakes",
            needs: "an https:// or tls:// target",
            target: args.target.target.to_string(),
        });
    }
    let (sessions, wanted) =
        if args.resumed { (Sessions::Keep, Wanted::Resumed) } else { (Sessions::Forget, Wanted::Full) };
    let plan = args.load.plan(("handshakes", "handshake"), &args.watched, &args.output)?;
    let route = Arc::new(args.target.route(sessions)?);
    let question = Question::new(&args.target, http::Method::GET, Bytes::new())?;
    let mut beginning = Beginning::new("handshakes", &args.target)?;
    let contact = LocalSet::new().block_on(&runtime()?, async {
        let contact = first_contact(&route, &question, plan.timeout).await?;
        if args.resumed {
            collect_sessions(&route, &question, &plan).await?;
        }
        Ok::<_, CommandError>(contact)
    })?;
    beginning.agreed(&contact);
    beginning.planned(&plan);
    beginning.set("handshake", if args.resumed { "resumed" } else { "full" });
    let cycle = Cycle { route, question, model: contact.model, exchanges: 1, wanted };
    let measured = crew::run(&plan, |_| vec![cycle.clone()])?;
    beginning.conclude(&plan, measured, None)
}

/// Sees whether sessions are resumed at all, and lays in one for each connection.
async fn collect_sessions(route: &Route, question: &Question, plan: &crew::Plan) -> Result<(), CommandError> {
    let mut resumed = false;
    // Tickets are used once: as many as there will be connections at once, and some to see whether they work.
    let tries = u32::try_from(plan.connections.max(3)).unwrap_or(u32::MAX);
    for turn in 0..tries {
        let seen = first_contact(route, question, plan.timeout).await?;
        resumed |= Agreed::is_resumed(&seen.agreed);
        if turn >= 3 && !resumed {
            break;
        }
    }
    if resumed { Ok(()) } else { Err(CommandError::NoResumption { tries: tries.min(4) }) }
}
