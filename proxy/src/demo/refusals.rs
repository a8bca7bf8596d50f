//! Callers that do not get as far as a policy: plaintext, a foreign trust domain, and a forged identity.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Ask, Caller};
use super::error::DemoError;
use super::narrator::{Narrator, Seen};
use super::pki::{DEV, PROD};
use super::sidecar::{Plan, Side, Sidecar};
use super::stage::{PATH, Stage};
use super::wait::{Look, eventually};

pub(super) async fn plaintext(stage: &Stage, narrator: &mut Narrator<'_>) -> Result<(), DemoError> {
    narrator.step("A plaintext attempt", "Somebody sends plain HTTP to the port of the service's sidecar.");
    let (served, refused) = (stage.service.served(), stage.callee.refused("plaintext"));
    let to = stage.callee.inbound()?;
    let trying = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(format!("GET {PATH} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await?;
        let mut got = Vec::new();
        // A reset ends it as well as a close does.
        let _ = stream.read_to_end(&mut got).await;
        Ok(got)
    };
    let timed = tokio::time::timeout(LIMIT, trying).await;
    let got = match timed {
        Ok(got) => got.map_err(|source| DemoError::Thread { name: "the plaintext caller", source })?,
        Err(_) => return Err(DemoError::Answer(format!("{to}, which holds the plaintext connection open,"))),
    };
    let answered = got.windows(5).any(|bytes| bytes == b"HTTP/");
    let reached = stage.service.served() - served;
    let text = format!("{} bytes came back (a TLS alert), {reached} requests reached the service", got.len());
    let seen = Seen { as_promised: !answered && got.len() <= ALERT && reached == 0, text };
    narrator.promise("the connection is closed without an answer", seen);
    counted(stage, narrator, "plaintext", refused).await
}

pub(super) async fn strangers(stage: &Stage, narrator: &mut Narrator<'_>) -> Result<(), DemoError> {
    narrator.step(
        "Callers of a foreign trust domain",
        "Two more sidecars, below the same root. One is the claims adjudicator of \"dev\". The other forges: it says\n\
         to be that of \"prod\", with a certificate that the intermediate of \"dev\" signed for it.",
    );
    let pki = &stage.pki;
    pki.issue(&pki.foreign, &stage.dir, "stranger")?;
    let trust = [(PROD, pki.trust_prod.as_path()), (DEV, pki.trust_dev.as_path())];
    let what = format!("{} is refused", pki.foreign);
    stranger(stage, narrator, "stranger", &trust, (&what, "foreign_trust_domain")).await?;
    pki.forge(&pki.adjudicator, &stage.dir, "forger")?;
    let trust = [(PROD, pki.trust_either.as_path())];
    let what = format!("{}, signed by dev, is refused", pki.adjudicator);
    stranger(stage, narrator, "forger", &trust, (&what, "unknown_issuer")).await
}

async fn stranger(
    stage: &Stage,
    narrator: &mut Narrator<'_>,
    name: &'static str,
    trust: &[(&str, &Path)],
    (what, reason): (&str, &str),
) -> Result<(), DemoError> {
    let (served, refused) = (stage.service.served(), stage.callee.refused(reason));
    let accepted = stage.callee.accepted();
    let side = Side::Outbound { connect: stage.callee.inbound()?, identity: &stage.pki.eligibility };
    let sidecar = Sidecar::start(&Plan { name, dir: &stage.dir, trust, side }).await?;
    let mut caller = Caller::connect(sidecar.outbound()?, &stage.tasks).await?;
    let reply = caller.call(Ask::get(PATH, name)).await?;
    let reached = stage.service.served() - served;
    let made = stage.callee.accepted() - accepted;
    let told = reply.reason.unwrap_or_default();
    let text = format!(
        "its own sidecar answers {} {told}; {made} handshakes succeeded, {reached} requests reached the service",
        reply.status
    );
    let refused_by_own = reply.status == 503 && told == "upstream_refused_us";
    narrator.promise(what, Seen { as_promised: refused_by_own && reached == 0 && made < 1.0, text });
    counted(stage, narrator, reason, refused).await
}

/// The refusal must be in the metrics of the service's sidecar.
async fn counted(stage: &Stage, narrator: &mut Narrator<'_>, reason: &str, before: f64) -> Result<(), DemoError> {
    let now = eventually("a refused handshake to be counted", async || {
        let now = stage.callee.refused(reason);
        Ok(if now > before { Look::Done(now) } else { Look::NotYet(format!("{reason}: {now}")) })
    })
    .await?;
    let text = format!(
        "portcullis_tls_handshakes_total{{direction=\"inbound\",result=\"refused\",reason=\"{reason}\"}}: {before} → {now}"
    );
    narrator.promise("the refusal is counted with its reason", Seen { as_promised: true, text });
    Ok(())
}

/// A refusal takes a millisecond; the sidecar itself waits 10 s for a slow handshake.
const LIMIT: Duration = Duration::from_secs(15);
/// Bytes of a TLS alert in plaintext.
const ALERT: usize = 7;
