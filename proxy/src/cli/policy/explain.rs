//! `portcullis policy explain`: one question, the decision, and every rule that could have made it.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use portcullis_policy::diagnostic::Diagnostics;
use portcullis_policy::testing::Asked;
use portcullis_policy::{Admission, Candidate, Compiled, Connection, Effect, Mode, Policy, Rule, Verdict};
use serde_json::{Value, json};
use spiffe::SpiffeId;

use super::ask::{Answer, ask};
use super::format::{Format, Place, clean, print_json, print_mistakes, workflow_command};
use super::{Common, Error, files};
use crate::cli::paint::{Ink, Paint};
use crate::cli::sarif;
use crate::http::target;

/// Options of `policy explain`.
#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    common: Common,
    /// SPIFFE ID of the caller.
    #[arg(long, value_name = "ID", value_parser = parse_identity)]
    caller: SpiffeId,
    /// SPIFFE ID of the workload that is called.
    #[arg(long, value_name = "ID", value_parser = parse_identity)]
    workload: SpiffeId,
    /// The application's port; without it no rule that names ports matches.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The caller's address.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    source: IpAddr,
    /// The address that is called.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    destination: IpAddr,
    /// The server name of the caller's TLS handshake.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Method of the request; GET if only other parts of a request are given.
    #[arg(long, value_parser = parse_method)]
    method: Option<String>,
    /// Host of the request.
    #[arg(long, value_parser = parse_host)]
    host: Option<String>,
    /// Path of the request, as the caller sends it; a query is ignored. `/` if only other parts are given.
    #[arg(long)]
    path: Option<String>,
    /// A header field of the request; may be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
}

impl Explain {
    fn asked(&self) -> Asked {
        if self.method.is_none() && self.path.is_none() && self.host.is_none() && self.headers.is_empty() {
            return Asked::Connection;
        }
        Asked::Request {
            method: self.method.clone().unwrap_or_else(|| Method::GET.to_string()),
            host: self.host.clone().unwrap_or_default(),
            target: self.path.clone().unwrap_or_else(|| "/".to_owned()),
            headers: self.headers.clone(),
        }
    }

    fn connection(&self) -> Connection<'_> {
        Connection {
            caller: &self.caller,
            workload: &self.workload,
            port: self.port.unwrap_or(0),
            source: self.source,
            destination: self.destination,
            server_name: self.server_name.as_deref(),
            now: self.common.now(),
        }
    }
}

pub(super) fn run(explain: &Explain, paint: Paint, out: &mut dyn Write) -> Result<(), Error> {
    let format = explain.common.format;
    let paint = explain.common.color.paint(paint);
    let contents = explain.common.read()?;
    let refuse = |found: Diagnostics, out: &mut dyn Write| {
        print_mistakes(&found, format, paint, out)?;
        Err(Error::do_not_load(&found))
    };
    let options = match explain.common.configuration()? {
        Ok(config) => explain.common.options(config.as_ref())?,
        Err(found) => return refuse(found, out),
    };
    let compiled = match Policy::compile_with(&files(&contents), &options) {
        Ok(Compiled { policy, .. }) => policy,
        Err(found) => return refuse(found, out),
    };
    let (connection, asked) = (explain.connection(), explain.asked());
    let answer = ask(&compiled, connection, &asked);
    let http = matches!(asked, Asked::Connection).then(|| http(&compiled, &connection));
    let page = Page { explain, policy: &compiled, asked: &asked, answer: &answer, http };
    match format {
        Format::Human => out.write_all(page.human(paint).as_bytes())?,
        Format::Json => print_json(&page.json(), out)?,
        Format::Sarif => print_json(&page.sarif(), out)?,
        Format::Github => out.write_all(page.github().as_bytes())?,
    }
    Ok(())
}

/// What an HTTP connection gets before its first request.
fn http(policy: &Policy, connection: &Connection<'_>) -> &'static str {
    match policy.admit(connection) {
        Admission::Allow(_) => "allow",
        Admission::Deny(_) => "deny",
        Admission::PerRequest => "per_request",
    }
}

/// Everything that is told.
struct Page<'a> {
    explain: &'a Explain,
    policy: &'a Policy,
    asked: &'a Asked,
    answer: &'a Answer,
    /// Of a connection question, what it is if HTTP is spoken.
    http: Option<&'static str>,
}

impl Page<'_> {
    fn reason(&self) -> String {
        let mut reason = self.answer.reason();
        let on_port = |candidate: &Candidate| candidate.misses.iter().any(|miss| miss.matcher == "port");
        if self.explain.port.is_none() && self.candidates().iter().any(on_port) {
            reason.push_str(" (no --port was given)");
        }
        reason
    }

    fn candidates(&self) -> &[Candidate] {
        match self.answer {
            Answer::Explained(explanation) => &explanation.candidates,
            Answer::Refused(_) => &[],
        }
    }

    /// What the policies in audit mode would have decided.
    fn audit(&self) -> Option<(&'static str, Option<&Rule>)> {
        let Answer::Explained(explanation) = self.answer else { return None };
        let verdict: Verdict = explanation.decision.audit?;
        let word = if verdict.is_allow() { "allow" } else { "deny" };
        Some((word, verdict.rule().and_then(|rule| self.policy.rule(rule))))
    }

    /// `GET /v1/plans`, or what kind of connection.
    fn question(&self) -> String {
        let port = self.explain.port.map(|port| format!(" port {port}")).unwrap_or_default();
        let what = match self.asked {
            Asked::Connection => "opaque TCP".to_owned(),
            Asked::Request { method, host, target, .. } => {
                let host = if host.is_empty() { String::new() } else { format!(" host {host}") };
                format!("{method} {}{host}", without_query(target))
            }
        };
        format!("{} → {}{port}: {what}", self.explain.caller, self.explain.workload)
    }

    fn json(&self) -> Value {
        let rule = self.answer.rule(self.policy);
        let mut object = json!({
            "decision": self.answer.word(),
            "policy": rule.map(|rule| &*rule.policy),
            "rule": rule.map(|rule| &*rule.name),
            "source": rule.map(|rule| rule.origin.to_string()),
            "reason": self.reason(),
            "caller": self.explain.caller.to_string(),
            "workload": self.explain.workload.to_string(),
            "port": self.explain.port,
        });
        let mut add = |key: &str, value: Value| {
            object.as_object_mut().into_iter().for_each(|object| drop(object.insert(key.to_owned(), value.clone())));
        };
        if let Asked::Request { method, host, target, .. } = self.asked {
            add("method", json!(method));
            add("host", json!((!host.is_empty()).then_some(host)));
            add("path", json!(without_query(target)));
        }
        if let Some(http) = self.http {
            add("http", json!(http));
        }
        if let Answer::Refused(error) = self.answer {
            add("status", json!(400));
            add("label", json!(error.label()));
        }
        if let Some((decision, rule)) = self.audit() {
            add("audit", json!({ "decision": decision, "rule": rule.map(described) }));
        }
        let candidate = |candidate: &Candidate| {
            let rule = self.policy.rule(candidate.rule)?;
            let misses = candidate.misses.iter().map(|miss| json!({ "on": miss.matcher, "why": miss.message }));
            let mut described = described(rule);
            described.as_object_mut()?.insert("misses".to_owned(), misses.collect());
            Some(described)
        };
        add("candidates", self.candidates().iter().filter_map(candidate).collect());
        object
    }

    fn human(&self, paint: Paint) -> String {
        let decision = match self.answer.is_allow() {
            true => paint.ink(Ink::Green, "ALLOWED"),
            false => paint.ink(Ink::Red, "DENIED"),
        };
        let mut lines = vec![clean(&self.question()), format!("{decision}: {}", clean(&self.reason()))];
        if let Some(rule) = self.answer.rule(self.policy) {
            lines.push(format!("  at {}", clean(&place(rule))));
        } else if let Some(rule) = self.answer.nearest_miss(self.policy) {
            lines.push(format!("  nearest miss at {}", clean(&place(rule))));
        }
        if let Some(http) = self.http {
            lines.push(format!(
                "  as HTTP: {}",
                match http {
                    "allow" => "every request is allowed, unless its path is in doubt",
                    "deny" => "every request is denied with 403",
                    _ => "it depends on the request: ask again with --method and --path",
                }
            ));
        }
        if let Some((word, rule)) = self.audit() {
            let by = rule.map(|rule| format!(" by rule `{}` of `{}`", rule.name, rule.policy)).unwrap_or_default();
            lines.push(format!("  audited policies alone: {word}{by}"));
        }
        if !self.candidates().is_empty() {
            lines.extend([String::new(), paint.ink(Ink::Bold, "rules for this workload:")]);
        }
        for candidate in self.candidates() {
            lines.extend(self.candidate(candidate, paint));
        }
        lines.into_iter().map(|line| line + "\n").collect()
    }

    fn candidate(&self, candidate: &Candidate, paint: Paint) -> Vec<String> {
        let Some(rule) = self.policy.rule(candidate.rule) else { return Vec::new() };
        let mark =
            if candidate.misses.is_empty() { paint.ink(Ink::Green, "matches") } else { paint.ink(Ink::Dim, "misses ") };
        let audit = if rule.mode == Mode::Audit { " (audit)" } else { "" };
        let mut lines = vec![format!(
            "  {mark} {:<5} `{}` of `{}`{audit}, {}",
            effect(rule),
            rule.name,
            rule.policy,
            clean(&place(rule))
        )];
        lines.extend(candidate.misses.iter().map(|miss| format!("            {}", clean(&miss.to_string()))));
        lines
    }

    fn sarif(&self) -> Value {
        let rule = self.answer.rule(self.policy).or_else(|| self.answer.nearest_miss(self.policy));
        let code = sarif::Rule { code: "explain", name: "explain", title: "A decision, explained", remedy: "" };
        let entry = sarif::Entry {
            code: code.code,
            level: "note",
            message: format!("{}: {}", self.answer.word(), self.reason()),
            path: rule.map(|rule| rule.origin.file.to_string()).unwrap_or_default(),
            line: rule.map(|rule| rule.origin.line),
            column: rule.map(|rule| rule.origin.column),
        };
        sarif::log(&[code], &[entry])
    }

    fn github(&self) -> String {
        let rule = self.answer.rule(self.policy).or_else(|| self.answer.nearest_miss(self.policy));
        let place =
            rule.map(|rule| Place { file: &rule.origin.file, line: rule.origin.line, column: rule.origin.column });
        let message = format!("{}\n{}", self.question(), self.reason());
        workflow_command("notice", place, self.answer.word(), &message)
    }
}

fn described(rule: &Rule) -> Value {
    json!({
        "policy": &*rule.policy,
        "namespace": rule.namespace.as_deref(),
        "rule": &*rule.name,
        "effect": effect(rule),
        "mode": rule.mode.label(),
        "source": rule.origin.to_string(),
    })
}

fn effect(rule: &Rule) -> &'static str {
    match rule.effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    }
}

/// `file:line`
fn place(rule: &Rule) -> String {
    rule.origin.to_string()
}

fn without_query(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

fn parse_identity(text: &str) -> Result<SpiffeId, String> {
    SpiffeId::new(text).map_err(|error| error.to_string())
}

fn parse_method(text: &str) -> Result<String, String> {
    let method = Method::from_bytes(text.as_bytes()).map_err(|_| format!("`{}` is not a method", clean(text)))?;
    if method == Method::CONNECT {
        return Err("CONNECT is not carried: the proxy answers 405".to_owned());
    }
    Ok(method.to_string())
}

/// A host that the proxy takes for one.
fn parse_host(text: &str) -> Result<String, String> {
    let value = HeaderValue::try_from(text).map_err(|_| "a host has no control characters".to_owned())?;
    let headers = HeaderMap::from_iter([(http::header::HOST, value)]);
    let host = target::host(&Uri::from_static("/"), &headers, Version::HTTP_11);
    host.map(String::from).map_err(|refusal| format!("the proxy answers 400: {}", refusal.text))
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, as in x-tenant=blue")?;
    let parsed = HeaderName::try_from(name).map_err(|_| format!("`{}` is not a header name", clean(name)))?;
    HeaderValue::try_from(value).map_err(|_| "a header value has no control characters".to_owned())?;
    match parsed.as_str() {
        "host" => Err("write the host with --host".to_owned()),
        name => Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned())),
    }
}

pub(super) fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, as in app=api")?;
    if key.is_empty() { Err("the key is empty".to_owned()) } else { Ok((key.to_owned(), value.to_owned())) }
}
