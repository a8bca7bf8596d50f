//! Policy documents as text: what a tool has to say, written as its authors would write it.
//!
//! The way back from reading documents: values are quoted wherever a reader of YAML could take them for something else,
//! comments cannot be broken out of, and what is written has been compiled before it is handed out. Order is the
//! caller's; nothing here decides what a policy should say.

mod layout;

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::diagnostic::{Diagnostics, quoted};
use crate::policy::Policy;
use crate::rules::{Effect, Mode};
use crate::source::{File, MAX_FILE_BYTES};

use layout::Value;

/// One document, with what stands above it as a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Paragraphs; each is wrapped.
    pub comment: Vec<String>,
    /// What it says.
    pub body: Body,
}

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// `kind: AuthorizationPolicy`
    Policy(PolicyBody),
    /// `kind: IdentitySet`: its name and its members.
    Set(String, Vec<String>),
    /// `kind: PolicyTest`: its name and its cases.
    Test(String, Vec<CaseBody>),
}

/// An `AuthorizationPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyBody {
    /// Its name.
    pub name: String,
    /// Its namespace; without one it is for all.
    pub namespace: Option<String>,
    /// Whether it decides.
    pub mode: Mode,
    /// Identities and patterns of the workloads that it protects; empty for all in scope.
    pub target: Vec<String>,
    /// Rules of which one must match.
    pub allow: Vec<RuleBody>,
    /// Rules of which none may match.
    pub deny: Vec<RuleBody>,
}

/// A rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleBody {
    /// Paragraphs above it; each is wrapped.
    pub comment: Vec<String>,
    /// Its name.
    pub name: String,
    /// What must match.
    pub is: Matched,
    /// What must not match: the `not…` twins.
    pub is_not: Matched,
    /// When it ends, in seconds since 1970.
    pub expires: Option<i64>,
    /// The change that it came with.
    pub ticket: Option<String>,
}

/// The keys of `from`, `to` and `when`; what is empty is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the key of the language that it is named after")]
pub struct Matched {
    pub identities: Vec<String>,
    pub identity_sets: Vec<String>,
    pub sources: Vec<String>,
    pub ports: Vec<u16>,
    pub hosts: Vec<String>,
    pub methods: Vec<String>,
    pub paths: Vec<String>,
    pub grpc: Option<GrpcBody>,
    pub headers: BTreeMap<String, Vec<String>>,
}

/// `grpc`: services and methods; an empty list is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the key of the language that it is named after")]
pub struct GrpcBody {
    pub services: Vec<String>,
    pub methods: Vec<String>,
}

/// A case of a `PolicyTest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseBody {
    /// What it shows.
    pub name: String,
    /// Who calls.
    pub caller: String,
    /// Who is called.
    pub workload: String,
    /// The application's port.
    pub port: u16,
    /// Method and path; `None` for opaque TCP.
    pub request: Option<(String, String)>,
    /// What must be decided.
    pub expect: Effect,
    /// The rule that must decide.
    pub rule: Option<String>,
}

/// Why something cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A value holds what a reviewer cannot see.
    #[error("{} holds a character that nobody who reviews the policy would see", quoted(.0))]
    Invisible(String),
    /// The text is longer than a file of policy may be.
    #[error("it takes {0} bytes, more than the {MAX_FILE_BYTES} that a file of policy may have")]
    TooLarge(usize),
    /// The text does not say what it should: nothing that is not understood is handed out.
    #[error("what was written does not compile")]
    NotUnderstood(#[source] Diagnostics),
}

impl WriteError {
    /// A fixed word for it.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Invisible(_) => "invisible",
            Self::TooLarge(_) => "too_large",
            Self::NotUnderstood(_) => "not_understood",
        }
    }
}

/// Writes documents as one file, below the line that tells editors of the schema.
///
/// # Errors
/// When a value holds an invisible character, when the text is longer than [`MAX_FILE_BYTES`], or when it does not
/// compile, because a value is none of the language.
pub fn write(documents: &[Document]) -> Result<String, WriteError> {
    let mut text = String::from(SCHEMA_LINE);
    for (number, document) in documents.iter().enumerate() {
        if number > 0 {
            text.push_str("---\n");
        }
        layout::comment(&document.comment, 0, &mut text);
        layout::document(&body(&document.body), &mut text)?;
    }
    if text.len() > MAX_FILE_BYTES {
        return Err(WriteError::TooLarge(text.len()));
    }
    match Policy::compile(&[File { name: "written", bytes: text.as_bytes() }]) {
        Ok(_) => Ok(text),
        Err(found) => Err(WriteError::NotUnderstood(found)),
    }
}

fn body(body: &Body) -> Value {
    let (kind, mut metadata, spec) = match body {
        Body::Policy(policy) => ("AuthorizationPolicy", vec![("name", text(&policy.name))], self::policy(policy)),
        Body::Set(name, members) => {
            ("IdentitySet", vec![("name", text(name))], Value::Open(vec![("identities", texts(members))]))
        }
        Body::Test(name, cases) => {
            let cases = cases.iter().map(|case| (Vec::new(), self::case(case))).collect();
            ("PolicyTest", vec![("name", text(name))], Value::Open(vec![("cases", Value::Items(cases))]))
        }
    };
    if let Body::Policy(PolicyBody { namespace: Some(namespace), .. }) = body {
        metadata.push(("namespace", text(namespace)));
    }
    Value::Open(vec![
        ("apiVersion", text("policy.portcullis.dev/v1")),
        ("kind", text(kind)),
        ("metadata", Value::fitting(metadata)),
        ("spec", spec),
    ])
}

fn policy(policy: &PolicyBody) -> Value {
    let mut spec = Vec::new();
    if policy.mode != Mode::Enforce {
        spec.push(("mode", text(policy.mode.label())));
    }
    if !policy.target.is_empty() {
        spec.push(("target", Value::fitting(vec![("identities", texts(&policy.target))])));
    }
    for (key, rules) in [("allow", &policy.allow), ("deny", &policy.deny)] {
        if !rules.is_empty() {
            spec.push((key, Value::Items(rules.iter().map(|one| (one.comment.clone(), rule(one))).collect())));
        }
    }
    Value::Open(spec)
}

fn rule(rule: &RuleBody) -> Value {
    let (is, is_not) = (&rule.is, &rule.is_not);
    let mut keys = vec![("name", text(&rule.name))];
    let from = [
        ("identities", texts(&is.identities)),
        ("notIdentities", texts(&is_not.identities)),
        ("identitySets", texts(&is.identity_sets)),
        ("notIdentitySets", texts(&is_not.identity_sets)),
        ("sources", texts(&is.sources)),
        ("notSources", texts(&is_not.sources)),
    ];
    let to = [
        ("ports", numbers(&is.ports)),
        ("notPorts", numbers(&is_not.ports)),
        ("hosts", texts(&is.hosts)),
        ("notHosts", texts(&is_not.hosts)),
        ("methods", texts(&is.methods)),
        ("notMethods", texts(&is_not.methods)),
        ("paths", texts(&is.paths)),
        ("notPaths", texts(&is_not.paths)),
        ("grpc", grpc(is.grpc.as_ref())),
        ("notGrpc", grpc(is_not.grpc.as_ref())),
    ];
    let when = [("headers", headers(&is.headers)), ("notHeaders", headers(&is_not.headers))];
    for (key, section) in [("from", from.to_vec()), ("to", to.to_vec()), ("when", when.to_vec())] {
        let section: Vec<_> = section.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        if !section.is_empty() {
            keys.push((key, Value::fitting(section)));
        }
    }
    if let Some(end) = rule.expires {
        keys.push(("expires", Value::Plain(instant(end))));
    }
    if let Some(ticket) = &rule.ticket {
        keys.push(("ticket", text(ticket)));
    }
    Value::Open(keys)
}

fn case(case: &CaseBody) -> Value {
    let port = ("port", Value::Plain(case.port.to_string()));
    let asked = match &case.request {
        None => ("connection", Value::fitting(vec![port])),
        Some((method, path)) => ("request", Value::fitting(vec![port, ("method", text(method)), ("path", text(path))])),
    };
    let expect = match case.expect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    };
    let mut keys = vec![
        ("name", text(&case.name)),
        ("caller", text(&case.caller)),
        ("workload", text(&case.workload)),
        asked,
        ("expect", text(expect)),
    ];
    keys.extend(case.rule.as_ref().map(|rule| ("rule", text(rule))));
    Value::Open(keys)
}

fn grpc(grpc: Option<&GrpcBody>) -> Value {
    let keys = grpc.map(|grpc| vec![("services", texts(&grpc.services)), ("methods", texts(&grpc.methods))]);
    let keys: Vec<_> = keys.into_iter().flatten().filter(|(_, value)| !value.is_empty()).collect();
    Value::fitting(keys)
}

fn headers(headers: &BTreeMap<String, Vec<String>>) -> Value {
    Value::Map(headers.iter().map(|(name, values)| (text(name), texts(values))).collect())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn texts(all: &[String]) -> Value {
    Value::List(all.iter().map(|one| text(one)).collect())
}

fn numbers(all: &[u16]) -> Value {
    Value::List(all.iter().map(|one| Value::Plain(one.to_string())).collect())
}

/// Names that are taken.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// The name, or the name with the first number that makes it another.
    pub(crate) fn take(&mut self, name: &str) -> String {
        let numbered = (2_u64..).map(|number| format!("{name}-{number}"));
        let mut all = std::iter::once(name.to_owned()).chain(numbered);
        let free = all.find(|name| !self.0.contains(name)).unwrap_or_default();
        self.0.insert(free.clone());
        free
    }
}

/// Seconds since 1970 as RFC 3339 has them.
pub(crate) fn instant(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(&Rfc3339).ok());
    // Beyond the year 9999 there is no way to write it; the number is refused when it is read again.
    time.unwrap_or_else(|| seconds.to_string())
}

/// What `portcullis policy schema` prints, where the editor's language server looks for it first.
const SCHEMA_LINE: &str = "# yaml-language-server: $schema=policy.schema.json\n";

#[cfg(test)]
mod tests;
