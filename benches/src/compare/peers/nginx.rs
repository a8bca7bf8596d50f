//! nginx. Opaque TCP needs its module `stream`, which Debian packages by itself.

use std::path::Path;

use super::{Found, Launch, PeerError, Seat, Unable, ask, on_path, word_after};
use crate::compare::stage::{Carries, Rules, Side};

pub(super) const VERIFIES: &str = "Inbound: the chain to the one root, not who calls: any certificate below the root may. \
     Outbound: the chain and a DNS name, since it knows no SPIFFE ID; with certificates that have only a SPIFFE ID it \
     could verify nobody. It forwards HTTP/1.1 to its peer, also what came as HTTP/2";

pub(super) fn find() -> Result<Found, Unable> {
    let program = on_path("nginx").ok_or_else(|| Unable("not found: `apt-get install nginx`".to_owned()))?;
    let said = ask(&program, &["-V"]).unwrap_or_default();
    let version = word_after(&said, "nginx version: nginx/").map(|version| match openssl(&said) {
        Some(openssl) => format!("{version}, OpenSSL {openssl}"),
        None => version.to_owned(),
    });
    version.map(|version| Found { program, version }).ok_or_else(|| Unable("says no version".to_owned()))
}

/// What it runs with, if that differs from what it was built with.
fn openssl(said: &str) -> Option<&str> {
    word_after(said, "(running with OpenSSL ").or_else(|| word_after(said, "built with OpenSSL "))
}

pub(super) fn launch(seat: &Seat<'_>) -> Result<Launch, PeerError> {
    if matches!(seat.stage.rules, Rules::Many(_)) {
        return Err(Unable("has no rules on SPIFFE IDs".to_owned()).into());
    }
    let load_module = if seat.is_tcp() { load_stream()? } else { String::new() };
    let values = seat
        .values()
        .with("load_module", load_module)
        .with("http2", if seat.stage.carries == Carries::Http2 { "http2" } else { "" });
    let template = match (seat.side, seat.is_tcp()) {
        (Side::Inbound, false) => INBOUND_HTTP,
        (Side::Inbound, true) => INBOUND_TCP,
        (Side::Outbound, false) => OUTBOUND_HTTP,
        (Side::Outbound, true) => OUTBOUND_TCP,
    };
    let directory = seat.directory.display().to_string();
    let arguments = ["-p", &directory, "-c", "nginx.conf", "-e", "stderr"].map(str::to_owned).to_vec();
    // Relative to -p, which is the seat's directory.
    Ok(Launch { files: vec![("nginx.conf".to_owned(), values.fill(template)?)], arguments })
}

/// The line that loads the module, nothing where it is built in.
fn load_stream() -> Result<String, Unable> {
    let said = on_path("nginx").and_then(|program| ask(&program, &["-V"])).unwrap_or_default();
    if said.split_whitespace().any(|option| option == "--with-stream") {
        return Ok(String::new());
    }
    let directory = word_after(&said, "--modules-path=").unwrap_or("/usr/lib/nginx/modules");
    let module = Path::new(directory).join("ngx_stream_module.so");
    if !module.is_file() {
        return Err(Unable("its module `stream` is not installed: `apt-get install libnginx-mod-stream`".to_owned()));
    }
    Ok(format!("load_module {};", module.display()))
}

const INBOUND_HTTP: &str = include_str!("../../../peers/nginx/inbound-http.conf");
const INBOUND_TCP: &str = include_str!("../../../peers/nginx/inbound-tcp.conf");
const OUTBOUND_HTTP: &str = include_str!("../../../peers/nginx/outbound-http.conf");
const OUTBOUND_TCP: &str = include_str!("../../../peers/nginx/outbound-tcp.conf");
