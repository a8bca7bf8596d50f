//! A call that is allowed, and two that are denied.

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::adjudicator::Heard;
use super::client::{Ask, Caller};
use super::error::DemoError;
use super::narrator::{Narrator, Seen};
use super::stage::{ALLOW_RULE, DENY_RULE, Stage};

pub(super) async fn allowed(stage: &Stage, narrator: &mut Narrator<'_>) -> Result<(), DemoError> {
    narrator.step(
        "An allowed call",
        "Asked about a claim, the claims adjudicator calls eligibility: it speaks plain HTTP to its own sidecar, and between\n\
         the sidecars it is mutual TLS.",
    );
    let (heard, line) = call(stage, Method::GET, "demo-allowed").await?;
    let caller = stage.pki.adjudicator.to_string();
    let as_promised = heard.status == 200 && heard.answer.contains(&caller);
    let text = format!("{}: {} {}", heard.called, heard.status, heard.answer);
    narrator.promise("the service answers, and was told who called", Seen { as_promised, text });

    let as_promised = field(&line, "decision") == "allow"
        && field(&line, "rule") == ALLOW_RULE
        && field(&line, "caller") == caller
        && field(&line, "workload") == stage.pki.eligibility.to_string();
    narrator.promise("the access log names caller and rule", Seen { as_promised, text: told(&line) });
    Ok(())
}

pub(super) async fn denied(stage: &Stage, narrator: &mut Narrator<'_>) -> Result<(), DemoError> {
    narrator.step(
        "Calls denied by policy",
        "The same caller writes, which no rule allows, and reaches for /admin, which a rule denies.",
    );
    let before = stage.service.served();
    let (heard, line) = call(stage, Method::POST, "demo-no-rule").await?;
    let as_promised = heard.status == 403 && field(&line, "decision") == "deny" && field(&line, "reason") == "no_rule";
    let text = format!("{}: {}; {}", heard.called, heard.status, told(&line));
    narrator.promise("what no rule allows is denied", Seen { as_promised, text });

    let (heard, line) = call(stage, Method::DELETE, "demo-deny-rule").await?;
    let as_promised = heard.status == 403 && field(&line, "decision") == "deny" && field(&line, "rule") == DENY_RULE;
    let text = format!("{}: {}; {}", heard.called, heard.status, told(&line));
    narrator.promise("what a rule denies is denied, by its name", Seen { as_promised, text });

    let reached = stage.service.served() - before;
    let seen = Seen { as_promised: reached == 0, text: format!("{reached} requests reached it") };
    narrator.promise("the service saw neither", seen);
    Ok(())
}

/// Asks the adjudicator about a claim, whereupon it calls eligibility.
async fn call(stage: &Stage, method: Method, id: &str) -> Result<(Heard, Value), DemoError> {
    let mut user = Caller::connect(stage.adjudicator.address, &stage.tasks).await?;
    let reply = user.call(Ask { method, path: "/claims/42", request_id: id, body: Bytes::new() }).await?;
    let heard = Heard::read(&reply.body)?;
    Ok((heard, stage.callee.logged(id).await?))
}

fn field<'a>(line: &'a Value, name: &str) -> &'a str {
    line.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// What matters of a line of the access log.
fn told(line: &Value) -> String {
    let fields = ["decision", "policy", "rule", "reason", "caller"].into_iter().map(|name| (name, field(line, name)));
    let words: Vec<String> =
        fields.filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name}={value}")).collect();
    format!("logged: {}", words.join(" "))
}
