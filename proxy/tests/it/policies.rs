//! Policy as callers meet it: what it matches, how it changes, and what a change does to open connections.

use std::fs;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{Backend, Raw};
use crate::client::{Ask, Http, is_closed, opaque, secured};
use crate::eventually::{eventually, soon};
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{OPEN, Plan, answered, closed, requests};
use crate::tcp::CALLER_ONLY;

/// One document with these rules.
fn rules(port: u16, rules: &str) -> String {
    let head =
        "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: eligibility-api}\nspec:\n";
    format!("{head}{}", rules.replace("PORT", &port.to_string()))
}

const DETAILED: &str = r#"
  allow:
    - name: adjudicator-reads
      from: {identities: ["spiffe://prod.test/ns/claims/sa/adjudicator"]}
      to: {ports: [PORT], methods: [GET], paths: ["/v1/members/{id}/coverage", "/v1/plans/**"]}
    - name: anyone-with-the-tenant
      from: {identities: ["spiffe://prod.test/ns/*/sa/*"]}
      to: {paths: ["/tenant"]}
      when: {headers: {x-tenant: [gold]}}
  deny:
    - name: no-secrets
      to: {paths: ["/v1/plans/secret/**"]}
"#;

#[tokio::test]
async fn default_deny_deny_beats_allow_and_every_matcher_counts() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let policy = rules(backend.address.port(), DETAILED);
    let sidecar = Plan::new(&pki, API).policy(&policy).inbound("http", backend.address).ready().await;
    let ask = |method, path: &str| Ask::new(method, path);
    for (who, ask, status) in [
        (CALLER, ask("GET", "/v1/members/42/coverage"), 200),
        (CALLER, ask("GET", "/v1/members/42/coverage?detail=/../x"), 200),
        (CALLER, ask("GET", "/v1/members/./42/x/../coverage"), 200),
        (CALLER, ask("POST", "/v1/members/42/coverage"), 403),
        (CALLER, ask("GET", "/v1/members/42/43/coverage"), 403),
        (CALLER, ask("GET", "/v1/members/42/coverage/"), 403),
        (CALLER, ask("GET", "/v1/plans/7"), 200),
        (CALLER, ask("GET", "/v1/plans/secret/7"), 403),
        (CALLER, ask("GET", "/v1/plans/x/../secret/7"), 403),
        (CALLER, ask("GET", "/v1/plans/%73ecret/7"), 403),
        (OTHER, ask("GET", "/v1/plans/7"), 403),
        (OTHER, ask("GET", "/tenant").header("x-tenant", "gold"), 200),
        (OTHER, ask("GET", "/tenant").header("x-tenant", "lead"), 403),
        (OTHER, ask("GET", "/tenant").header("x-tenant", "gold").header("x-tenant", "lead"), 403),
        (OTHER, ask("GET", "/tenant").header("x-tenant", "gold").header("connection", "x-tenant"), 403),
        (OTHER, ask("GET", "/"), 403),
    ] {
        let row = format!("{who} {} {}", ask.method, ask.path);
        let mut http = Http::one(sidecar.inbound(), &pki.leaf(who)).await;
        let answer = http.send(ask).await;
        assert_eq!(answer.status, status, "{row}");
        if status == 403 {
            // A foreign peer learns the status and the request's ID, and nothing else of ours.
            assert_eq!((answer.text(), answer.header("x-portcullis-reason")), ("", None), "{row}");
            assert!(answer.header("x-request-id").is_some(), "{row}");
        }
    }
    let decided = |decision: &str, rule: &str| {
        let labels = format!("decision=\"{decision}\",policy=\"eligibility-api\",rule=\"{rule}\",mode=\"enforce\"");
        sidecar.count(&format!("portcullis_policy_decisions_total{{{labels}}}"))
    };
    assert_eq!(decided("allow", "adjudicator-reads"), 4);
    assert_eq!(decided("deny", "no-secrets"), 3);
    assert_eq!(decided("allow", "anyone-with-the-tenant"), 1);
}

#[tokio::test]
async fn a_rule_for_another_port_does_not_count() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let elsewhere = rules(1, DETAILED);
    let sidecar = Plan::new(&pki, API).policy(&elsewhere).inbound("http", backend.address).ready().await;
    let answer = Http::one(sidecar.inbound(), &pki.leaf(CALLER)).await.get("/v1/plans/7").await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn what_no_policy_may_decide_on_is_400() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    for (path, reason) in [
        ("/a%2fb", "encoded_slash"),
        ("/a%5Cb", "backslash"),
        ("/a%00", "control_character"),
        ("/%zz", "bad_escape"),
        ("/%u002e", "bad_escape"),
        ("/%ff", "not_utf8"),
    ] {
        let mut wire = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
        assert_eq!(wire.get(path).await.status, 400, "{path}");
        assert!(sidecar.count(&answered("inbound", reason)) >= 1, "{path}: {reason}");
    }
    assert_eq!(backend.seen().len(), 0);
    let mut wire = secured(sidecar.inbound(), &pki.leaf(CALLER)).await;
    assert_eq!(wire.get("//admin/./x//y/..").await.status, 200);
    assert_eq!(backend.last().target, "/admin/x/", "the normal form that was decided on is what arrives");
}

#[tokio::test]
async fn a_change_takes_effect_on_open_connections() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let mut one = Http::one(sidecar.inbound(), &pki.leaf(CALLER)).await;
    assert_eq!(one.get("/v1/plans/1").await.status, 200);
    let narrower = rules(backend.address.port(), DETAILED);
    sidecar.changing("policy", |sidecar| sidecar.write_policy(&narrower)).await;
    assert_eq!(one.get("/other").await.status, 403, "on the very same connection");
    assert_eq!(one.get("/v1/plans/1").await.status, 200, "which stays, since something may still be allowed");
    sidecar.changing("policy", |sidecar| sidecar.write_policy(OPEN)).await;
    assert_eq!(one.get("/other").await.status, 200);
}

#[tokio::test]
async fn a_broken_policy_leaves_the_last_good_one_in_force() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let sidecar = Plan::new(&pki, API).inbound("http", backend.address).ready().await;
    let mut one = Http::one(sidecar.inbound(), &pki.leaf(CALLER)).await;
    sidecar.write_policy("apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {nam: x}\n");
    sidecar
        .eventually_counts("portcullis_reload_total{kind=\"policy\",result=\"refused\",reason=\"invalid\"}", 1)
        .await;
    assert_eq!(one.get("/still").await.status, 200);
    assert_eq!(sidecar.health("/readyz").await.status, 200);
    let problem = sidecar.admin("/policy").await["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("policy.yaml:3:12: error[P"), "{problem}");
    sidecar.write_policy(CALLER_ONLY);
    eventually("the problem is gone", async || match sidecar.admin("/policy").await["problem"].clone() {
        serde_json::Value::Null => Ok(()),
        problem => Err(problem),
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_is_no_longer_admitted_loses_its_open_connections_and_nobody_else_does() {
    let pki = Pki::new();
    let (raw, backend) = (Raw::echo().await, Backend::start().await);
    let plan = Plan::new(&pki, API).inbound("tcp", raw.address).inbound("http", backend.address);
    let sidecar = plan.ready().await;
    let http = sidecar.running().addresses().inbound[1];
    let mut loser = opaque(sidecar.inbound(), &pki.leaf(OTHER)).await;
    let mut keeper = opaque(sidecar.inbound(), &pki.leaf(CALLER)).await;
    let mut losing = Http::two(http, &pki.leaf(OTHER)).await;
    let mut keeping = Http::two(http, &pki.leaf(CALLER)).await;
    for stream in [&mut loser, &mut keeper] {
        stream.write_all(b"x").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
    }
    assert_eq!(losing.get("/").await.status, 200);
    assert_eq!(keeping.get("/").await.status, 200);
    sidecar.changing("policy", |sidecar| sidecar.write_policy(CALLER_ONLY)).await;
    is_closed(&mut loser).await;
    eventually("the connection hears GOAWAY", async || if losing.is_over() { Ok(()) } else { Err("open") }).await;
    assert_eq!(sidecar.count(&closed("inbound", "policy")), 2);
    keeper.write_all(b"y").await.unwrap();
    soon("the echo", keeper.read_exact(&mut [0])).await.unwrap();
    assert_eq!(keeping.get("/").await.status, 200);
}

#[tokio::test]
async fn no_documents_are_a_policy_and_no_directory_is_none() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let plan = Plan::new(&pki, API).inbound("http", backend.address);
    let policy = plan.path("policy");
    fs::remove_dir_all(&policy).unwrap();
    let sidecar = plan.start();
    let ready = sidecar.health("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("does not exist"), "{}", ready.text());
    assert_eq!(sidecar.health("/livez").await.status, 200);
    fs::create_dir(&policy).unwrap();
    sidecar.eventually_ready().await;
    let answer = Http::one(sidecar.inbound(), &pki.leaf(CALLER)).await.get("/").await;
    assert_eq!(answer.status, 403, "an empty policy denies everything");
    sidecar.eventually_counts(&requests("inbound", 403), 1).await;
}

#[tokio::test]
async fn http_matchers_on_an_opaque_port_are_a_mistake() {
    let pki = Pki::new();
    let raw = Raw::echo().await;
    let policy = rules(raw.address.port(), DETAILED);
    let sidecar = Plan::new(&pki, API).policy(&policy).inbound("tcp", raw.address).start();
    let ready = sidecar.health("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("adjudicator-reads") && ready.text().contains("opaque TCP"), "{}", ready.text());
}

#[tokio::test]
async fn what_is_allowed_by_default_is_seen_everywhere_and_ends_on_time() {
    let pki = Pki::new();
    let backend = Backend::start().await;
    let until = OffsetDateTime::now_utc() + Duration::from_secs(3);
    let keys = format!(", defaultAction: allow, defaultActionUntil: \"{}\"", until.format(&Rfc3339).unwrap());
    let policy = rules(backend.address.port(), "\n  deny:\n    - {name: closed, to: {paths: [/closed]}}\n");
    let plan = Plan::new(&pki, API).policy(&policy).policy_keys(&keys).inbound("http", backend.address);
    let sidecar = plan.ready().await;
    let mut http = Http::one(sidecar.inbound(), &pki.leaf(CALLER)).await;
    assert_eq!((http.get("/open").await.status, http.get("/closed").await.status), (200, 403));
    assert_eq!(sidecar.count("portcullis_policy_default_allow"), 1);
    let by_default = "decision=\"allow\",policy=\"\",rule=\"default_action\",mode=\"enforce\"";
    assert_eq!(sidecar.count(&format!("portcullis_policy_decisions_total{{{by_default}}}")), 1);
    assert_eq!(sidecar.admin("/policy").await["defaultAction"], "allow");
    sidecar.eventually_counts("portcullis_generation{kind=\"policy\"}", 2).await;
    assert_eq!(sidecar.count("portcullis_policy_default_allow"), 0);
    // The old connection is closed: nothing allows its caller anything.
    assert_eq!(Http::one(sidecar.inbound(), &pki.leaf(CALLER)).await.get("/open").await.status, 403);
    assert_eq!(sidecar.admin("/policy").await["defaultAction"], "deny");
}
