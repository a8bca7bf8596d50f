//! HAProxy.

use super::{Found, Launch, PeerError, Seat, Unable, ask, on_path, word_after};
use crate::compare::stage::{Rules, Side};

pub(super) const VERIFIES: &str = "Inbound: the chain to the one root, not who calls: any certificate below the root may. \
     Outbound: the chain and a DNS name, since it knows no SPIFFE ID";

pub(super) fn find() -> Result<Found, Unable> {
    let program = on_path("haproxy").ok_or_else(|| Unable("not found: `apt-get install haproxy`".to_owned()))?;
    let said = ask(&program, &["-vv"]).unwrap_or_default();
    let version = word_after(&said, "HAProxy version ").map(|version| {
        let openssl = word_after(&said, "Running on OpenSSL version : OpenSSL ");
        openssl.map_or_else(|| version.to_owned(), |openssl| format!("{version}, OpenSSL {openssl}"))
    });
    version.map(|version| Found { program, version }).ok_or_else(|| Unable("says no version".to_owned()))
}

pub(super) fn launch(seat: &Seat<'_>) -> Result<Launch, PeerError> {
    if matches!(seat.stage.rules, Rules::Many(_)) {
        return Err(Unable("has no rules on SPIFFE IDs".to_owned()).into());
    }
    let values = if seat.is_tcp() {
        seat.values().with("mode", "tcp").with("alpn", "").with("reuse", "").with("buffers", "tune.bufsize 65536")
    } else {
        let alpn = match seat.side {
            Side::Inbound => "alpn h2,http/1.1",
            // Between two of them HTTP/2, which costs them about half of what HTTP/1.1 does.
            Side::Outbound => "alpn h2",
        };
        seat.values().with("mode", "http").with("alpn", alpn).with("reuse", "http-reuse always").with("buffers", "")
    };
    let template = match seat.side {
        Side::Inbound => INBOUND,
        Side::Outbound => OUTBOUND,
    };
    let arguments = ["-W", "-f", "haproxy.cfg"].map(str::to_owned).to_vec();
    Ok(Launch { files: vec![("haproxy.cfg".to_owned(), values.fill(template)?)], arguments })
}

const INBOUND: &str = include_str!("../../../peers/haproxy/inbound.cfg");
const OUTBOUND: &str = include_str!("../../../peers/haproxy/outbound.cfg");
