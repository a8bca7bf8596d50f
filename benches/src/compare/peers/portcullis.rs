//! Portcullis, as it was built together with this program.

use super::{Found, Launch, PeerError, Seat, Unable, ask};
use crate::compare::pki::Workload;
use crate::compare::stage::{Rules, Side};
use crate::compare::template::fill;

pub(super) const VERIFIES: &str = "Both sides: the chain to the trust domain's own root, the X509-SVID rules on the \
     certificates, and the SPIFFE ID: which callers its policy allows, and which service answers. HTTP is decided for \
     each request";

pub(super) fn find() -> Result<Found, Unable> {
    let beside = std::env::current_exe().ok().and_then(|ours| Some(ours.parent()?.join("portcullis")));
    let program = beside.filter(|program| program.is_file());
    let program = program.ok_or_else(|| {
        Unable("`portcullis` is not beside this program: build it with the same profile, `-p portcullis`".to_owned())
    })?;
    let said = ask(&program, &["--version"]).unwrap_or_default();
    let version = said.trim().strip_prefix("portcullis ").map(|version| format!("{version}, rustls with AWS-LC"));
    version.map(|version| Found { program, version }).ok_or_else(|| Unable("says no version".to_owned()))
}

pub(super) fn launch(seat: &Seat<'_>) -> Result<Launch, PeerError> {
    let [admin, metrics, health] = seat.spare;
    let values = seat
        .values()
        .with("policy", seat.directory.join("policy").display().to_string())
        .with("protocol", if seat.is_tcp() { "tcp" } else { "http" })
        .with("admin", admin.to_string())
        .with("metrics", metrics.to_string())
        .with("health", health.to_string());
    let mut files = Vec::new();
    match seat.side {
        Side::Inbound => {
            files.push(("sidecar.yaml".to_owned(), values.fill(INBOUND)?));
            for (number, rules) in rules(seat).chunks(RULES_IN_A_FILE).enumerate() {
                let values =
                    [("number", &*number.to_string()), ("server", Workload::Server.id()), ("rules", &rules.join("\n"))];
                files.push((format!("policy/bench-{number}.yaml"), fill(POLICY, &values)?));
            }
        }
        Side::Outbound => files.push(("sidecar.yaml".to_owned(), values.fill(OUTBOUND)?)),
    }
    let arguments = ["run", "--config", "sidecar.yaml"].map(str::to_owned).to_vec();
    Ok(Launch { files, arguments })
}

/// The rules, a line each.
fn rules(seat: &Seat<'_>) -> Vec<String> {
    let caller = Workload::Caller.id();
    let line = |(number, (caller, path)): (usize, (String, String))| {
        format!("    - {{name: rule-{number:05}, from: {{identities: [\"{caller}\"]}}, to: {{paths: [\"{path}\"]}}}}")
    };
    match seat.stage.rules {
        Rules::Caller => vec![format!("    - {{name: caller, from: {{identities: [\"{caller}\"]}}}}")],
        Rules::Many(count) => Rules::pairs(count, caller).enumerate().map(line).collect(),
    }
}

/// A file of policy may have 1 MiB.
const RULES_IN_A_FILE: usize = 2_000;

const INBOUND: &str = include_str!("../../../peers/portcullis/inbound.yaml");
const OUTBOUND: &str = include_str!("../../../peers/portcullis/outbound.yaml");
const POLICY: &str = include_str!("../../../peers/portcullis/policy.yaml");
