//! Certificates are exchanged under load, as fast as they can be made, and no request fails.

use std::time::{Duration, Instant};

use super::error::DemoError;
use super::load::{Load, Outcome};
use super::narrator::{Narrator, Seen, millis};
use super::sidecar::{Sidecar, plain_serial};
use super::stage::{CALLEE, CALLER, Stage};
use super::wait::{Look, eventually};

pub(super) async fn show(stage: &Stage, narrator: &mut Narrator<'_>) -> Result<(), DemoError> {
    narrator.step(
        "Certificates rotated under load",
        "Eight callers call without a pause, every second time with a POST that must not be sent twice. Meanwhile both\n\
         workloads get new certificates, again and again.",
    );
    let sidecars = [&stage.callee, &stage.caller];
    let (before, handshakes) = (sidecars.map(generation), stage.callee.accepted());
    let load = Load::start(CALLERS, stage.caller.outbound()?)?;
    let rotated = rotate(stage, narrator, &load).await;
    let outcome = load.stop().await;
    let rotated = rotated?;
    narrator.promise("no request fails", requests(&outcome));

    let mut in_force = Vec::new();
    for (sidecar, last) in sidecars.into_iter().zip(&rotated.last) {
        eventually("the last certificate to be in force", async || {
            let serial = sidecar.serial(&stage.tasks).await?;
            Ok(if serial == *last { Look::Done(()) } else { Look::NotYet(serial) })
        })
        .await?;
        in_force.push(format!("{} {last}", sidecar.name));
    }
    let text = format!("serial numbers: {}", in_force.join(", "));
    narrator.promise("the certificates issued last are in force", Seen { as_promised: true, text });

    let mut taken = Vec::new();
    let mut enough = rotated.count >= LEAST;
    for (sidecar, before) in sidecars.into_iter().zip(before) {
        let grown = generation(sidecar) - before;
        enough &= grown * 2.0 >= f64::from(rotated.count);
        taken.push(format!("{} {grown}", sidecar.name));
    }
    let handshakes = stage.callee.accepted() - handshakes;
    let text = format!(
        "{} certificates for each; taken by {}; {handshakes} new handshakes between them",
        rotated.count,
        taken.join(", by ")
    );
    let as_promised = enough && handshakes > 0.0;
    narrator.promise("the rotations took effect while the load ran", Seen { as_promised, text });
    Ok(())
}

struct Rotated {
    /// How often each workload got a certificate.
    count: u32,
    /// The serial numbers of the last ones: the callee's and the caller's.
    last: [String; 2],
}

async fn rotate(stage: &Stage, narrator: &mut Narrator<'_>, load: &Load) -> Result<Rotated, DemoError> {
    let bar = narrator.bar("rotating", LENGTH);
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let started = Instant::now();
    let mut rotated = Rotated { count: 0, last: [String::new(), String::new()] };
    while started.elapsed() < LENGTH {
        ticks.tick().await;
        let pki = &stage.pki;
        let callee = pki.issue(&pki.eligibility, &stage.dir, CALLEE)?;
        let caller = pki.issue(&pki.adjudicator, &stage.dir, CALLER)?;
        rotated.count += 1;
        rotated.last = [callee, caller].map(|leaf| plain_serial(&leaf.chain.serial.to_string()));
        bar.set_position(millis(started.elapsed()));
        let (requests, failed) = (load.requests(), load.failed());
        bar.set_message(format!("{requests} requests, {failed} failed, {} rotations", rotated.count));
    }
    bar.finish_and_clear();
    Ok(rotated)
}

fn requests(outcome: &Outcome) -> Seen {
    let why = outcome.first_failure.as_ref().map(|why| format!("; the first: {why}")).unwrap_or_default();
    let unfinished = if outcome.finished { "" } else { "; some never ended" };
    let slowest = outcome.slowest.as_millis();
    let text = format!(
        "{} failed of {} requests, the slowest took {slowest} ms{why}{unfinished}",
        outcome.failed, outcome.requests
    );
    Seen { as_promised: outcome.failed == 0 && outcome.requests > 0 && outcome.finished, text }
}

fn generation(sidecar: &Sidecar) -> f64 {
    sidecar.metric("portcullis_generation", &[("kind", "identity")])
}

const CALLERS: usize = 8;
/// Long enough for thousands of requests and a hundred rotations.
const LENGTH: Duration = Duration::from_secs(5);
/// Far faster than any issuer.
const PACE: Duration = Duration::from_millis(40);
/// Fewer would be no test; a slow machine makes some twenty.
const LEAST: u32 = 10;
