//! hitch, which terminates TLS and does nothing else.

use super::{Found, Launch, PeerError, Seat, Unable, ask, on_path, word_after};
use crate::compare::stage::{Carries, Hops, Rules};

pub(super) const VERIFIES: &str = "Inbound: the chain to the one root, not who calls: any certificate below the root may. \
     It looks at no HTTP: with it, the requests of the rows on HTTP/1.1 are opaque bytes";

pub(super) fn find() -> Result<Found, Unable> {
    let program = on_path("hitch").ok_or_else(|| Unable("not found: `apt-get install hitch`".to_owned()))?;
    let said = ask(&program, &["--version"]).unwrap_or_default();
    let version = word_after(&said, "hitch ").map(str::to_owned);
    version.map(|version| Found { program, version }).ok_or_else(|| Unable("says no version".to_owned()))
}

pub(super) fn launch(seat: &Seat<'_>) -> Result<Launch, PeerError> {
    let unable = match (seat.stage.hops, seat.stage.rules, seat.stage.carries) {
        (Hops::Two, _, _) => Some("as a client it presents no certificate"),
        (Hops::One, Rules::Many(_), _) => Some("has no rules"),
        (Hops::One, Rules::Caller, Carries::Http2) => Some("speaks no HTTP/2"),
        (Hops::One, Rules::Caller, Carries::Http1 | Carries::Tcp) => None,
    };
    if let Some(reason) = unable {
        return Err(Unable(reason.to_owned()).into());
    }
    // It refuses to stay root, and whoever is not root cannot become another.
    let user = if rustix::process::geteuid().is_root() { "user = \"nobody\"" } else { "" };
    let files = vec![("hitch.conf".to_owned(), seat.values().with("user", user).fill(INBOUND)?)];
    Ok(Launch { files, arguments: vec!["--config=hitch.conf".to_owned()] })
}

const INBOUND: &str = include_str!("../../../peers/hitch/inbound.conf");
