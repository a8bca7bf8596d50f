//! `portcullis demo`: two services, a sidecar for each, and every promise shown on them and checked.
//!
//! The sidecars are started from configuration files with the code of `run`, and speak over real sockets with
//! certificates of a throw-away authority. Nothing is simulated: what is printed is what was seen, and what was seen is
//! compared with what was promised.

mod adjudicator;
mod calls;
mod client;
mod error;
mod load;
mod narrator;
mod pki;
mod place;
mod policy_edit;
mod refusals;
mod room;
mod rotation;
mod service;
mod sidecar;
mod stage;
mod wait;

use std::io::Write;
use std::time::Instant;

pub use self::error::DemoError;
use self::narrator::{Narrator, Seen};
pub use self::narrator::{Progress, Style};
pub use self::place::Place;
use self::stage::Stage;
use crate::drain::{Drain, Phase};

/// How the demo is told.
#[derive(Debug)]
pub struct Telling {
    /// Whether the narration has colours.
    pub style: Style,
    /// Whether what takes time has a bar.
    pub progress: Progress,
    /// How the reader calls this program, for the commands at the end.
    pub program: String,
}

/// Shows everything in `place` and narrates it.
///
/// # Errors
/// When the set-up fails, or when anything was not as promised; what it was has been printed then.
pub fn run(place: &Place, telling: &Telling, out: &mut dyn Write) -> Result<(), DemoError> {
    let started = Instant::now();
    let mut narrator = Narrator::new(out, telling.style, telling.progress);
    narrator.title("Portcullis: strict mutual TLS between two services, with no control plane", place);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| DemoError::Thread { name: "demo", source })?;
    let stage = runtime.block_on(async {
        let drain = Drain::new();
        let stage = Stage::build(place, drain.tasks(), &mut narrator).await?;
        show(&stage, &mut narrator).await;
        drain.advance(Phase::Ended);
        Ok::<_, DemoError>(stage)
    })?;
    narrator.summary(started.elapsed());
    if place.is_kept() {
        narrator.lines(&stage.by_hand(&telling.program));
    }
    stage.end();
    match narrator.broken() {
        0 => Ok(()),
        broken => Err(DemoError::Broken { broken }),
    }
}

/// The steps. One that breaks off is a broken promise; those after it are shown all the same.
async fn show(stage: &Stage, narrator: &mut Narrator<'_>) {
    let ended = calls::allowed(stage, narrator).await;
    tell(narrator, ended);
    let ended = calls::denied(stage, narrator).await;
    tell(narrator, ended);
    let ended = refusals::plaintext(stage, narrator).await;
    tell(narrator, ended);
    let ended = refusals::strangers(stage, narrator).await;
    tell(narrator, ended);
    let ended = rotation::show(stage, narrator).await;
    tell(narrator, ended);
    let ended = policy_edit::show(stage, narrator).await;
    tell(narrator, ended);
}

fn tell(narrator: &mut Narrator<'_>, ended: Result<(), DemoError>) {
    if let Err(error) = ended {
        let text = crate::error_chain(&error);
        narrator.promise("the step runs to its end", Seen { as_promised: false, text });
    }
}
