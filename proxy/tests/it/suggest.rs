//! `portcullis policy suggest` on the access log that a sidecar wrote, and what is suggested in force in that sidecar.

use std::process::{Command, Stdio};

use crate::backend::Backend;
use crate::client::{Ask, Http};
use crate::eventually::eventually;
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::Plan;

fn suggest(log: &str, more: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["policy", "suggest", "--from", log]).args(more).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn what_is_suggested_from_a_log_allows_what_was_asked_and_no_more() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API);
    let log = plan.path("access.log").display().to_string();
    let sidecar = plan.more(&format!("logs: {{access: {log}}}")).inbound("http", backend.address).ready().await;
    let seen = [
        (CALLER, "GET", "/v1/members/1"),
        (CALLER, "GET", "/v1/members/2?secret"),
        (CALLER, "GET", "/v1/x/../members//3"),
        (CALLER, "PUT", "/v1/plans"),
        (OTHER, "GET", "/v1/members/export"),
    ];
    for (who, method, path) in seen {
        let answer = Http::one(sidecar.inbound(), &pki.leaf(who)).await.send(Ask::new(method, path)).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    eventually("the lines of the access log", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.lines().count() == seen.len() { Ok(()) } else { Err(text) }
    })
    .await;

    let suggested = suggest(&log, &[]);
    assert!(!suggested.contains("secret"), "{suggested}");
    sidecar.changing("policy", |sidecar| sidecar.write_policy(&suggested)).await;
    let others = [
        (CALLER, "GET", "/v1/members/4", 200),
        (CALLER, "GET", "/v1/members/export", 403),
        (CALLER, "PUT", "/v1/members/1", 403),
        (CALLER, "GET", "/v1/members", 403),
        (OTHER, "GET", "/v1/members/1", 403),
        (OTHER, "PUT", "/v1/plans", 403),
    ];
    for (who, method, path, status) in
        seen.map(|(who, method, path)| (who, method, path, 200)).into_iter().chain(others)
    {
        let answer = Http::one(sidecar.inbound(), &pki.leaf(who)).await.send(Ask::new(method, path)).await;
        assert_eq!(answer.status, status, "{who} {method} {path}\n{suggested}");
    }

    // What was denied for want of a rule can be taken in.
    eventually("the lines of the denied", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.lines().count() == 2 * seen.len() + others.len() { Ok(()) } else { Err(text) }
    })
    .await;
    let audited = suggest(&log, &["--include", "denied"]);
    assert!(
        audited.contains("  mode: audit\n") && audited.contains("methods: [PUT], paths: [/v1/members/1]"),
        "{audited}"
    );
}
