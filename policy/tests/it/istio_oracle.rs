//! A second opinion on Istio's policies: they are plain lists of words here, written out as documents for the compiler
//! and judged by the slowest and plainest reading of Istio's reference. It shares nothing with the crate.

use proptest::prelude::*;
use proptest::sample::select;

use crate::oracle::network_contains;

/// A policy of the model.
#[derive(Debug, Clone)]
pub struct Policy {
    pub name: String,
    pub namespace: &'static str,
    /// The label `app` that it selects.
    pub app: Option<&'static str>,
    pub action: &'static str,
    pub dry_run: bool,
    pub rules: Vec<Rule>,
}

/// Any of `from`, any of `to`, all of `when`; an empty list asks for nothing.
#[derive(Debug, Clone)]
pub struct Rule {
    pub from: Vec<Vec<Field>>,
    pub to: Vec<Vec<Field>>,
    pub when: Vec<Field>,
}

#[derive(Debug, Clone)]
pub struct Field {
    pub key: &'static str,
    pub not: bool,
    pub values: Vec<&'static str>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Ask {
    pub caller: &'static str,
    pub workload: &'static str,
    pub port: u16,
    pub source: &'static str,
    pub destination: &'static str,
    pub server_name: Option<&'static str>,
    pub host: &'static str,
    pub method: &'static str,
    pub target: &'static str,
    pub headers: Vec<&'static str>,
}

/// What was decided, and by which rule of which policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    Allow(String),
    Deny(Option<String>),
}

impl Judgement {
    pub fn is_allow(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// A verdict, and what marks it.
#[derive(Debug)]
pub struct Judged {
    pub verdict: Judgement,
    pub marked: Option<String>,
}

fn values(key: &str) -> Vec<&'static str> {
    match key {
        "principals" | "source.principal" => vec![
            "t/ns/x/sa/a",
            "u/ns/x/sa/a",
            "cluster.local/ns/x/sa/b",
            "cluster.local/ns/*",
            "t/ns/x/*",
            "t/ns/x*",
            "t/*",
            "t*",
            "*/sa/a",
            "*/ns/y/sa/a",
            "*a",
            "*",
        ],
        "namespaces" | "source.namespace" => vec!["x", "y", "x*", "*x", "y*y", "*", "**"],
        "serviceAccounts" | "source.serviceAccount" => vec!["x/a", "y/a", "a", "b"],
        "trustDomains" | "source.trustDomain" => vec!["t", "u", "t*", "*u", "*"],
        "ipBlocks" | "source.ip" => vec!["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1", "fd00::/8"],
        "destination.ip" => vec!["10.9.0.0/16", "192.0.2.9"],
        "connection.sni" => vec!["a.foo", "*.foo", "b*", "*"],
        "ports" | "destination.port" => vec!["80", "81", "0"],
        "hosts" => vec!["a.example", "A.example:*", "*.example", "a*", "*", "b.example:80", "*:80"],
        "methods" => vec!["GET", "POST", "P*", "*T", "*"],
        "paths" => vec![
            "/a",
            "/a/",
            "/a*",
            "/a/*",
            "/*",
            "*",
            "*b",
            "*/b",
            "/{*}/b",
            "/a/{**}",
            "/{*}/{**}",
            "/{*}/",
            "/a//b",
            "/a//*",
            "*//b",
            "/a/*/b",
            "/a;p/b",
        ],
        "headers" => vec!["a", "b", "a,b", "a*", "*b", "*"],
        other => panic!("{other}"),
    }
}

fn field(keys: &'static [&'static str]) -> impl Strategy<Value = Field> {
    (select(keys), any::<bool>())
        .prop_flat_map(|(key, not)| (prop::collection::vec(select(values(key)), 1..3), Just(key), Just(not)))
        .prop_map(|(values, key, not)| Field { key, not, values })
}

/// Fields of one source or operation: each key once, and accounts not beside principals and namespaces.
fn fields(keys: &'static [&'static str]) -> impl Strategy<Value = Vec<Field>> {
    prop::collection::vec(field(keys), 1..4).prop_map(|all| {
        let mut kept: Vec<Field> = Vec::new();
        for one in all {
            let names = |field: &Field| field.key == "principals" || field.key == "namespaces";
            let account = |field: &Field| field.key == "serviceAccounts";
            let clashes = |other: &Field| {
                (other.key == one.key && other.not == one.not)
                    || (names(other) && account(&one))
                    || (account(other) && names(&one))
            };
            if !kept.iter().any(clashes) {
                kept.push(one);
            }
        }
        kept
    })
}

const FROM: &[&str] = &["principals", "principals", "namespaces", "serviceAccounts", "trustDomains", "ipBlocks"];
const TO: &[&str] = &["ports", "ports", "hosts", "methods", "paths", "paths"];
const WHEN: &[&str] = &[
    "source.principal",
    "source.namespace",
    "source.serviceAccount",
    "source.trustDomain",
    "source.ip",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "headers",
    "headers",
];

fn rule() -> impl Strategy<Value = Rule> {
    let from = prop::collection::vec(fields(FROM), 0..3);
    let to = prop::collection::vec(fields(TO), 0..3);
    let when = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(field(WHEN), 1..3)];
    (from, to, when).prop_map(|(from, to, when)| Rule { from, to, when })
}

pub fn policies() -> impl Strategy<Value = Vec<Policy>> {
    let policy = (
        select(vec!["x", "x", "y", "istio-system"]),
        select(vec![None, None, Some("a"), Some("b")]),
        select(vec!["ALLOW", "ALLOW", "DENY", "AUDIT"]),
        select(vec![false, false, false, true]),
        prop::collection::vec(rule(), 0..4),
    );
    prop::collection::vec(policy, 1..6).prop_map(|all| {
        let named = all.into_iter().enumerate().map(|(index, (namespace, app, action, dry_run, rules))| {
            let action = if rules.is_empty() { "ALLOW" } else { action };
            Policy { name: format!("p{index}"), namespace, app, action, dry_run: dry_run && action != "AUDIT", rules }
        });
        named.collect()
    })
}

pub fn asks() -> impl Strategy<Value = Ask> {
    let callers = vec![
        "spiffe://t/ns/x/sa/a",
        "spiffe://t/ns/x/sa/b",
        "spiffe://t/ns/y/sa/a",
        "spiffe://u/ns/x/sa/a",
        "spiffe://t/ns/xx/sa/a",
        "spiffe://t/ns/yay/sa/x/y",
        "spiffe://tt/ns/y/sa/x",
        "spiffe://u/a",
    ];
    let workloads = vec!["spiffe://t/ns/x/sa/w", "spiffe://t/ns/y/sa/w", "spiffe://t/ns/z/sa/w"];
    let connection = (
        select(callers),
        select(workloads),
        select(vec![80_u16, 81]),
        select(vec!["10.1.2.3", "10.2.0.1", "192.0.2.1", "fd00::1"]),
        select(vec!["10.9.1.1", "192.0.2.9", "192.0.2.10"]),
        select(vec![None, Some("a.foo"), Some("b.bar")]),
    );
    let request = (
        select(vec!["", "a.example", "A.EXAMPLE:80", "b.example:80", "a.example.", "example", "b.a.example"]),
        select(vec!["GET", "get", "POST", "PUT"]),
        select(vec![
            "/", "/a", "/a/", "/a/b", "/b", "/ab", "/a/b/c", "//a//b", "/x/b", "/a;p/b", "/a%3bp/b", "/a/*/b",
            "/a%2fb", "/a/%2e/b", "/x/", "/a%255c",
        ]),
        prop::collection::vec(select(vec!["a", "b", "ab", "a,b", ""]), 0..3),
    );
    (connection, request).prop_map(
        |((caller, workload, port, source, destination, server_name), (host, method, target, headers))| Ask {
            caller,
            workload,
            port,
            source,
            destination,
            server_name,
            host,
            method,
            // Refused before any policy is asked, here and in Istio's strictest normal form.
            target: if target.contains("%2f") { "/a/b" } else { target },
            headers,
        },
    )
}

impl Policy {
    pub fn document(&self) -> String {
        let dry_run = if self.dry_run { ", annotations: {istio.io/dry-run: 'true'}" } else { "" };
        let selector =
            self.app.map(|app| format!("  selector: {{matchLabels: {{app: '{app}'}}}}\n")).unwrap_or_default();
        let rules: String = self.rules.iter().map(|rule| format!("    - {{{}}}\n", rule.keys())).collect();
        let rules = if rules.is_empty() { rules } else { format!("  rules:\n{rules}") };
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {}, namespace: '{}'{dry_run}}}\n\
             spec:\n  action: {}\n{selector}{rules}",
            self.name, self.namespace, self.action
        )
    }

    fn protects(&self, ask: &Ask, app: Option<&str>) -> bool {
        let of_namespace = ask.workload.contains(&format!("/ns/{}/", self.namespace));
        (of_namespace || self.namespace == "istio-system") && (self.app.is_none() || self.app == app)
    }
}

impl Rule {
    fn keys(&self) -> String {
        let section = |key: &str, inner: &str, all: &[Vec<Field>]| {
            let entries = all.iter().map(|fields| {
                let fields: Vec<String> = fields.iter().map(Field::entry).collect();
                format!("{{{inner}: {{{}}}}}", fields.join(", "))
            });
            let entries: Vec<String> = entries.collect();
            if entries.is_empty() { None } else { Some(format!("{key}: [{}]", entries.join(", "))) }
        };
        let when: Vec<String> = self.when.iter().map(Field::condition).collect();
        let when = if when.is_empty() { None } else { Some(format!("when: [{}]", when.join(", "))) };
        let sections = [section("from", "source", &self.from), section("to", "operation", &self.to), when];
        sections.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn all_fields(&self) -> impl Iterator<Item = &Field> {
        self.from.iter().flatten().chain(self.to.iter().flatten()).chain(&self.when)
    }

    /// The first pair of a source and an operation that matches, by name.
    fn matches(&self, number: usize, holds: &dyn Fn(&Field) -> bool) -> Option<String> {
        let any = vec![Vec::new()];
        let (from, to) =
            (if self.from.is_empty() { &any } else { &self.from }, if self.to.is_empty() { &any } else { &self.to });
        for (i, source) in from.iter().enumerate() {
            for (j, operation) in to.iter().enumerate() {
                if source.iter().chain(operation).chain(&self.when).all(holds) {
                    let of = |key: &str, index: usize, all: usize| {
                        if all > 1 { format!(".{key}[{index}]") } else { String::new() }
                    };
                    return Some(format!("rules[{number}]{}{}", of("from", i, from.len()), of("to", j, to.len())));
                }
            }
        }
        None
    }
}

impl Field {
    fn entry(&self) -> String {
        let key = if self.not {
            format!("not{}{}", self.key[..1].to_uppercase(), &self.key[1..])
        } else {
            self.key.to_owned()
        };
        format!("{key}: {}", list(&self.values))
    }

    fn condition(&self) -> String {
        let key = if self.key == "headers" { "request.headers[x-a]" } else { self.key };
        format!("{{key: '{key}', {}: {}}}", if self.not { "notValues" } else { "values" }, list(&self.values))
    }

    fn is_http(&self) -> bool {
        ["hosts", "methods", "paths", "headers"].contains(&self.key)
    }

    fn holds(&self, ask: &Ask, path: &str, denies: bool, own: &str) -> bool {
        // A deny gets every doubt, an allow none; a negation turns that around.
        let generous = denies != self.not;
        let any = |matches: &dyn Fn(&str) -> bool| self.values.iter().any(|value| matches(value));
        let matched = match self.key {
            "principals" | "source.principal" => any(&|value| principal(value, ask.caller)),
            "namespaces" | "source.namespace" => any(&|value| {
                let namespace = ask.caller.splitn(4, '/').nth(3).and_then(|path| path.strip_prefix("ns/"));
                namespace.and_then(|path| path.split_once('/')).is_some_and(|(namespace, _)| glob(value, namespace))
            }),
            "serviceAccounts" | "source.serviceAccount" => any(&|value| {
                let (namespace, account) = value.split_once('/').unwrap_or((own, value));
                ask.caller.splitn(4, '/').nth(3) == Some(&format!("ns/{namespace}/sa/{account}"))
            }),
            "trustDomains" | "source.trustDomain" => any(&|value| text(value, ask.caller.split('/').nth(2).unwrap())),
            "ipBlocks" | "source.ip" => any(&|value| network_contains(value, ask.source)),
            "destination.ip" => any(&|value| network_contains(value, ask.destination)),
            "connection.sni" => any(&|value| text(value, ask.server_name.unwrap_or(""))),
            "ports" | "destination.port" => any(&|value| value == ask.port.to_string()),
            "hosts" => any(&|value| {
                let (value, host) = (value.to_lowercase(), ask.host.to_lowercase());
                let bare = host.split(':').next().unwrap().trim_end_matches('.');
                text(&value, &host) || (generous && text(&value, bare))
            }),
            "methods" => any(&|value| text(value, ask.method) || (generous && text(value, &ask.method.to_uppercase()))),
            "paths" => any(&|value| path_matches(value, path, generous)),
            "headers" => {
                let one = |sent: &str| any(&|value| value == "*" || text(value, sent));
                let sent = &ask.headers;
                if generous {
                    sent.iter().any(|value| one(value))
                        || (sent.len() > 1 && (one(&sent.join(",")) || one(&sent.join(", "))))
                } else {
                    !sent.is_empty() && sent.iter().all(|value| one(value))
                }
            }
            other => panic!("{other}"),
        };
        matched != self.not
    }
}

/// The decision on a request, over all readings of its path.
pub fn judged(policies: &[Policy], app: Option<&str>, ask: &Ask, readings: &[&str]) -> Judged {
    let all = readings.iter().map(|path| {
        judge(policies, app, ask, &|policy, number, rule| {
            let denies = policy.action != "ALLOW";
            rule.matches(number, &|field| field.holds(ask, path, denies, policy.namespace))
        })
    });
    let all: Vec<Judged> = all.collect();
    let by_rule = all.iter().find(|one| matches!(one.verdict, Judgement::Deny(Some(_))));
    let denied = all.iter().find(|one| matches!(one.verdict, Judgement::Deny(None)));
    let strictest = by_rule.or(denied).or(all.first()).map(|one| one.verdict.clone());
    Judged {
        // Without a reading the path is in doubt.
        verdict: strictest.unwrap_or(Judgement::Deny(None)),
        marked: all.iter().find_map(|one| one.marked.clone()),
    }
}

/// The decision on opaque TCP: fields of HTTP are not there, and an ALLOW rule that has one is not there either.
pub fn judged_opaque(policies: &[Policy], app: Option<&str>, ask: &Ask) -> Judged {
    judge(policies, app, ask, &|policy, number, rule| {
        let denies = policy.action != "ALLOW";
        if !denies && rule.all_fields().any(Field::is_http) {
            return None;
        }
        rule.matches(number, &|field| field.is_http() || field.holds(ask, "", denies, policy.namespace))
    })
}

fn judge(
    policies: &[Policy],
    app: Option<&str>,
    ask: &Ask,
    matches: &dyn Fn(&Policy, usize, &Rule) -> Option<String>,
) -> Judged {
    let mut all: Vec<&Policy> = policies.iter().filter(|policy| policy.protects(ask, app) && !policy.dry_run).collect();
    // The mesh's own come first.
    all.sort_by_key(|policy| (policy.namespace != "istio-system", policy.namespace, &policy.name));
    let first = |action: &str| {
        all.iter().filter(|policy| policy.action == action).find_map(|policy| {
            let mut rules = policy.rules.iter().enumerate();
            rules.find_map(|(number, rule)| Some(format!("{}/{}", policy.name, matches(policy, number, rule)?)))
        })
    };
    let verdict = match (first("DENY"), first("ALLOW")) {
        (Some(rule), _) => Judgement::Deny(Some(rule)),
        (None, Some(rule)) => Judgement::Allow(rule),
        (None, None) => Judgement::Deny(None),
    };
    Judged { verdict, marked: first("AUDIT") }
}

fn list(values: &[&str]) -> String {
    format!("[{}]", values.iter().map(|value| format!("'{value}'")).collect::<Vec<_>>().join(", "))
}

/// Exact, prefix, suffix or presence.
fn text(pattern: &str, text: &str) -> bool {
    if pattern == "*" {
        return !text.is_empty();
    }
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => text.ends_with(suffix),
        (_, Some(prefix)) => text.starts_with(prefix),
        _ => text == pattern,
    }
}

/// `cluster.local` stands for `t`, in a principal of five parts.
fn principal(pattern: &str, caller: &str) -> bool {
    let parts: Vec<&str> = pattern.split('/').collect();
    let pattern = match parts.as_slice() {
        ["cluster.local", rest @ ..] if rest.len() == 4 => format!("t/{}", rest.join("/")),
        _ => pattern.to_owned(),
    };
    text(&pattern, caller.strip_prefix("spiffe://").unwrap())
}

/// An asterisk anywhere stands for anything.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len()).any(|at| glob(&pattern[1..], &text[at..])),
        Some(first) => text.starts_with(first) && glob(&pattern[1..], &text[1..]),
    }
}

fn path_matches(pattern: &str, path: &str, generous: bool) -> bool {
    let pattern = match (pattern, generous) {
        ("/a//b", true) => "/a/b",
        ("/a//*", true) => "/a/*",
        ("*//b", true) => "*/b",
        ("/a//b" | "/a//*" | "*//b", false) => return false,
        _ => pattern,
    };
    if !pattern.contains('{') {
        return text(pattern, path);
    }
    let (mut pattern, mut rest) = (pattern.split('/').skip(1), path.split('/').skip(1));
    loop {
        match (pattern.next(), rest.next()) {
            (None, None) | (Some("{**}"), Some(_)) => return true,
            (Some("{*}"), Some(segment)) if !segment.is_empty() => {}
            (Some(literal), Some(segment)) if literal == segment => {}
            _ => return false,
        }
    }
}
