//! What the access log says about a decision: which policy of which revision, and what policies in audit mode thought.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{Backend, Raw};
use crate::client::{Http, opaque};
use crate::eventually::eventually;
use crate::pki::{API, CALLER, OTHER, Pki, write_volume};
use crate::sidecar::{Plan, Sidecar};
use crate::tcp::CALLER_ONLY;

/// An audited policy that would let the other caller in, and deny one path to everybody.
const AUDITED: &str = r#"
---
apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: on-trial}
spec:
  mode: audit
  allow:
    - name: let-the-other-in
      from: {identities: ["spiffe://prod.test/ns/reports/sa/*"]}
  deny:
    - name: close-the-old-path
      to: {paths: ["/old"]}
"#;

const GIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A sidecar that writes its access log to a file, with these policies and a Git revision.
fn logging(plan: Plan, policy: &str) -> Plan {
    write_volume(&plan.path("policy"), &[("policy.yaml", policy), ("git-revision", GIT)]);
    let path = plan.path("access.log");
    plan.more(&format!("logs: {{access: {}}}", path.display()))
}

/// The lines of the access log, once there are `count`.
async fn lines(sidecar: &Sidecar, count: usize) -> Vec<Value> {
    let path = sidecar.path("access.log");
    eventually("the lines of the access log", async || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.len() >= count { Ok(lines) } else { Err(text) }
    })
    .await
}

#[track_caller]
fn check(line: &Value, expected: &Value) {
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&line[key], value, "{key} of {line}");
    }
}

#[tokio::test]
async fn every_decision_names_its_revision_and_what_was_audited() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address);
    let sidecar = logging(plan, &format!("{CALLER_ONLY}{AUDITED}")).ready().await;
    let revision = sidecar.admin("/policy").await["revision"].clone();
    assert_eq!(revision.as_str().unwrap().len(), 32);
    for (who, path) in [(CALLER, "/new"), (OTHER, "/new"), (CALLER, "/old")] {
        Http::one(sidecar.inbound(), &pki.leaf(who)).await.get(path).await;
    }
    let lines = lines(&sidecar, 3).await;
    for (index, expected) in [
        // Allowed, and by the policy on trial it would not have been: its allow rules name somebody else.
        json!({"status": 200, "decision": "allow", "rule": "caller-only", "audit_decision": "deny",
               "audit_policy": null, "audit_rule": null}),
        json!({"status": 403, "decision": "deny", "reason": "no_rule", "policy": null, "audit_decision": "allow",
               "audit_policy": "on-trial", "audit_rule": "let-the-other-in"}),
        json!({"status": 200, "decision": "allow", "audit_decision": "deny", "audit_policy": "on-trial",
               "audit_rule": "close-the-old-path"}),
    ]
    .iter()
    .enumerate()
    {
        check(&lines[index], expected);
        check(&lines[index], &json!({"policy_revision": revision, "policy_git_revision": GIT}));
    }
    for (decision, rule) in [("allow", "let-the-other-in"), ("deny", "close-the-old-path")] {
        let labels = format!("decision=\"{decision}\",policy=\"on-trial\",rule=\"{rule}\",mode=\"audit\"");
        assert_eq!(sidecar.count(&format!("portcullis_policy_decisions_total{{{labels}}}")), 1, "{rule}");
    }
    let default = "portcullis_policy_decisions_total{decision=\"deny\",policy=\"\",rule=\"no_rule\",mode=\"audit\"}";
    assert_eq!(sidecar.count(default), 1);
    let enforced = default.replace("audit", "enforce");
    assert_eq!(sidecar.count(&enforced), 1, "what was audited is not counted as decided");
}

#[tokio::test]
async fn opaque_connections_name_it_too_whether_they_are_let_in_or_not() {
    let pki = Pki::new();
    let raw = Raw::echo().await;
    let audited = AUDITED.split("  deny:").next().unwrap();
    let sidecar =
        logging(Plan::new(&pki, API).inbound("tcp", raw.address), &format!("{CALLER_ONLY}{audited}")).ready().await;
    let revision = sidecar.admin("/policy").await["revision"].clone();
    for who in [CALLER, OTHER] {
        let mut stream = opaque(sidecar.inbound(), &pki.leaf(who)).await;
        stream.shutdown().await.unwrap();
        // Whoever is not let in may see the connection break.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let lines = lines(&sidecar, 2).await;
    check(&lines[0], &json!({"decision": "allow", "rule": "caller-only", "audit_decision": "deny"}));
    check(&lines[1], &json!({"decision": "deny", "reason": "no_rule", "audit_rule": "let-the-other-in"}));
    for line in &lines {
        check(line, &json!({"protocol": "tcp", "policy_revision": revision, "policy_git_revision": GIT}));
    }
}

#[tokio::test]
async fn what_no_policy_decided_names_none() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let far = logging(Plan::new(&pki, API).inbound("http", backend.address), CALLER_ONLY).ready().await;
    let near = logging(Plan::new(&pki, CALLER).outbound("http", far.inbound(), &[API]), CALLER_ONLY).ready().await;
    assert_eq!(Http::plain_one(near.outbound()).await.get("/").await.status, 200);
    assert_eq!(Http::one(far.inbound(), &pki.leaf(CALLER)).await.get("/%zz").await.status, 400);
    let unaudited = &lines(&far, 2).await;
    check(&unaudited[0], &json!({"policy_git_revision": GIT, "audit_decision": null, "audit_rule": null}));
    for line in [&unaudited[1], &lines(&near, 1).await[0]] {
        check(line, &json!({"decision": null, "policy_revision": null, "policy_git_revision": null}));
    }
}
