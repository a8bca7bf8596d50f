//! The policy is edited while a connection is open, and the connection feels it.

use std::time::{Duration, Instant};

use super::client::{Ask, Caller};
use super::error::DemoError;
use super::narrator::{Narrator, Seen};
use super::stage::{COVERAGE, PATH, PLANS, Stage};
use super::wait::{Look, eventually};

pub(super) async fn show(stage: &Stage, narrator: &mut Narrator<'_>) -> Result<(), DemoError> {
    narrator.step(
        "A policy edited live",
        "One connection stays open. The rule that lets it read coverage is narrowed to plans, then put back.",
    );
    let mut caller = stage.own_connection().await?;
    let status = caller.call(Ask::get(PATH, "demo-before-edit")).await?.status;
    let seen = Seen { as_promised: status == 200, text: format!("GET {PATH}: {status}") };
    narrator.promise("before the edit the call is allowed", seen);

    let handshakes = stage.callee.accepted();
    let took = edit(stage, &mut caller, PLANS, 403).await?;
    promise(narrator, "the edit denies the next call on the open connection", took);
    let took = edit(stage, &mut caller, COVERAGE, 200).await?;
    promise(narrator, "putting it back allows it again", took);

    let made = stage.callee.accepted() - handshakes;
    // The caller never opens a second connection: had its own been closed, a call would have failed.
    let as_promised = made < 1.0;
    let text = format!("from {} throughout; {made} new handshakes between the sidecars", caller.from());
    narrator.promise("all of it on the connections that were open", Seen { as_promised, text });
    Ok(())
}

/// Writes the policy, and measures until the connection feels it; the writing counts.
async fn edit(stage: &Stage, caller: &mut Caller, paths: &str, expected: u16) -> Result<Duration, DemoError> {
    let started = Instant::now();
    stage.allow_paths(paths)?;
    eventually("the edited policy to be in force", async || {
        let status = caller.call(Ask::get(PATH, "demo-edit")).await?.status;
        Ok(if status == expected { Look::Done(()) } else { Look::NotYet(status.to_string()) })
    })
    .await?;
    Ok(started.elapsed())
}

fn promise(narrator: &mut Narrator<'_>, what: &str, took: Duration) {
    let text = format!("{} ms from the start of the write; promised within {} s", took.as_millis(), LIMIT.as_secs());
    narrator.promise(what, Seen { as_promised: took < LIMIT, text });
}

const LIMIT: Duration = Duration::from_secs(2);
