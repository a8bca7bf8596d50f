//! A second opinion: policies as plain lists of words, written out as documents for the compiler and judged here by the
//! slowest and plainest reading of the language. It shares nothing with the crate but the readings of a path.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;

/// A policy of the model.
#[derive(Debug, Clone)]
pub struct Model {
    pub name: String,
    pub namespace: Option<&'static str>,
    pub audit: bool,
    pub target: Option<Vec<&'static str>>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
pub struct Rule {
    pub deny: bool,
    pub expires: Option<i64>,
    pub matchers: Vec<Matcher>,
}

#[derive(Debug, Clone)]
pub struct Matcher {
    pub kind: &'static str,
    pub not: bool,
    pub values: Vec<&'static str>,
}

/// The facts of a request.
#[derive(Debug, Clone)]
pub struct Facts {
    pub caller: &'static str,
    pub workload: &'static str,
    pub port: u16,
    pub source: &'static str,
    pub now: i64,
    pub host: &'static str,
    pub method: &'static str,
    pub target: &'static str,
    pub headers: Vec<&'static str>,
}

const IDENTITIES: [&str; 12] = [
    "spiffe://t/ns/x/sa/a",
    "spiffe://t/ns/x/sa/b",
    "spiffe://t/ns/y/sa/a",
    "spiffe://u/ns/x/sa/a",
    "spiffe://t/ns/x/sa/*",
    "spiffe://t/ns/*/sa/a",
    "spiffe://t/ns/x/**",
    "spiffe://t/**",
    "spiffe://t/*/x/**",
    "spiffe://t/ns/**",
    "spiffe://t/*/*/*/a",
    "spiffe://u/*/**",
];

fn values(kind: &str) -> Vec<&'static str> {
    match kind {
        "identities" | "identitySets" => IDENTITIES.to_vec(),
        "sources" => vec!["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1", "fd00::/8", "0.0.0.0/0", "::/0"],
        "ports" => vec!["80", "81"],
        "hosts" => vec!["a.example", "*.example", "b.a.example"],
        "methods" => vec!["GET", "POST", "PUT"],
        "paths" => vec![
            "/", "/a", "/a/", "/a/*", "/a/**", "/**", "/{x}/b", "/a/b", "/a;p/b", "/x:y", "/a%3Fb", "/*/*/c", "/*/**",
            "/a/b/c", "/a/*/c", "/*/b/**",
        ],
        "grpc" => vec!["a.B/Get", "a.B/", "/Get"],
        "headers" => vec!["a", "b", "a,b", "a*", "*b", "*"],
        other => panic!("{other}"),
    }
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let kinds = vec![
        "identities",
        "identities",
        "identitySets",
        "sources",
        "ports",
        "hosts",
        "methods",
        "paths",
        "paths",
        "grpc",
        "headers",
    ];
    select(kinds).prop_flat_map(|kind| {
        let most = if kind == "grpc" { 1 } else { 2 };
        let values = prop::collection::vec(select(values(kind)), 1..=most);
        (values, any::<bool>()).prop_map(move |(values, not)| Matcher { kind, not, values })
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let matchers = prop::collection::vec(matcher(), 0..4).prop_map(|all| {
        let mut kept: Vec<Matcher> = Vec::new();
        for one in all {
            // Identities and sets of one rule are alternatives, which the model does not know.
            let group = |kind: &'static str| if kind == "identitySets" { "identities" } else { kind };
            if kept.iter().all(|other| group(other.kind) != group(one.kind) || other.not != one.not) {
                kept.push(one);
            }
        }
        kept
    });
    let expires = select(vec![None, None, None, Some(100), Some(150), Some(200)]);
    (any::<bool>(), expires, matchers).prop_map(|(deny, expires, matchers)| Rule { deny, expires, matchers })
}

pub fn models() -> impl Strategy<Value = Vec<Model>> {
    let targets = vec![
        "spiffe://t/ns/x/sa/a",
        "spiffe://t/ns/x/sa/b",
        "spiffe://t/ns/x/sa/*",
        "spiffe://t/ns/*/sa/a",
        "spiffe://t/*/x/**",
        "spiffe://t/*/**",
        "spiffe://t/ns/**",
        "spiffe://t/**",
    ];
    let target = prop::option::of(prop::collection::vec(select(targets), 1..3));
    let namespace = select(vec![None, None, Some("x")]);
    let audit = select(vec![false, false, false, true]);
    // Few rules, which shrink well, or so many that several hang at the same places of an index.
    let rules = prop_oneof![4 => prop::collection::vec(rule(), 1..5), 1 => prop::collection::vec(rule(), 5..40)];
    let model = (namespace, audit, target, rules);
    prop::collection::vec(model, 0..4).prop_map(|models| {
        let named = models.into_iter().enumerate();
        named
            .map(|(index, (namespace, audit, target, rules))| Model {
                name: format!("p{index}"),
                namespace,
                audit,
                target,
                rules,
            })
            .collect()
    })
}

pub fn facts() -> impl Strategy<Value = Facts> {
    let sources = vec!["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "fd00::1", "2001:db8::1"];
    let hosts = vec!["", "a.example", "A.EXAMPLE:80", "b.a.example.", "example", "other"];
    let targets = vec![
        "/",
        "/a",
        "/a/",
        "/a/b",
        "/a/b/c",
        "/b",
        "/x/b",
        "/a;p/b",
        "/a/%2e%2e/a",
        "/a/..;/b",
        "/a%253b/b",
        "/a%3fb",
        "/x%3ay",
        "/x:y",
        "/a/%252e%252e/b",
        "/a%255c",
        "/a.B/Get",
        "/a.B/Set",
        "/a.B/Get;x",
        "//a//b",
    ];
    let headers = prop::collection::vec(select(vec!["a", "b", "ab", "a,b", ""]), 0..3);
    let callers = IDENTITIES[..4].to_vec();
    let methods = vec!["GET", "get", "POST", "PUT"];
    let connection = (
        select(callers.clone()),
        select(callers),
        select(vec![80_u16, 81]),
        select(sources),
        select(vec![0_i64, 99, 100, 150, 250]),
    );
    let request = (select(hosts), select(methods), select(targets), headers);
    (connection, request).prop_map(|((caller, workload, port, source, now), (host, method, target, headers))| Facts {
        caller,
        workload,
        port,
        source,
        now,
        host,
        method,
        target,
        headers,
    })
}

impl Model {
    /// The document, with the identity sets it names.
    pub fn document(&self) -> String {
        let namespace = self.namespace.map(|namespace| format!(", namespace: {namespace}")).unwrap_or_default();
        let mode = if self.audit { "  mode: audit\n" } else { "" };
        let target = self
            .target
            .as_ref()
            .map(|target| format!("  target: {{identities: {}}}\n", list(target)))
            .unwrap_or_default();
        let header = "apiVersion: policy.portcullis.dev/v1\nkind: ";
        let mut sets = String::new();
        let mut rules = [String::new(), String::new()];
        for (index, rule) in self.rules.iter().enumerate() {
            let mut sections = [("from", String::new()), ("to", String::new()), ("when", String::new())];
            for matcher in &rule.matchers {
                let (section, entry) = matcher.entry(&format!("{}-{index}", self.name));
                sections[section].1.push_str(&entry);
                if matcher.kind == "identitySets" {
                    let set = format!("{}-{index}-{}", self.name, matcher.not);
                    sets.push_str(&format!(
                        "---\n{header}IdentitySet\nmetadata: {{name: {set}}}\nspec: {{identities: {}}}\n",
                        list(&matcher.values)
                    ));
                }
            }
            let sections: String = sections
                .iter()
                .filter(|section| !section.1.is_empty())
                .map(|(key, entries)| format!(", {key}: {{{entries}}}"))
                .collect();
            let expires = rule
                .expires
                .map(|at| format!(", expires: '1970-01-01T00:{:02}:{:02}Z'", at / 60, at % 60))
                .unwrap_or_default();
            rules[usize::from(rule.deny)].push_str(&format!("    - {{name: r{index}{sections}{expires}}}\n"));
        }
        let rules: String = ["allow", "deny"]
            .iter()
            .zip(rules)
            .filter(|(_, rules)| !rules.is_empty())
            .map(|(key, rules)| format!("  {key}:\n{rules}"))
            .collect();
        format!(
            "{header}AuthorizationPolicy\nmetadata: {{name: {}{namespace}}}\nspec:\n{mode}{target}{rules}{sets}",
            self.name
        )
    }

    fn protects(&self, workload: &str) -> bool {
        let in_scope = self.namespace.is_none_or(|namespace| workload.contains(&format!("/ns/{namespace}/")));
        in_scope
            && self
                .target
                .as_ref()
                .is_none_or(|target| target.iter().any(|pattern| identity_matches(pattern, workload)))
    }
}

impl Matcher {
    fn entry(&self, rule: &str) -> (usize, String) {
        let key = |plain: &str| {
            if self.not { format!("not{}{}", plain[..1].to_uppercase(), &plain[1..]) } else { plain.to_owned() }
        };
        let key = key(self.kind);
        match self.kind {
            "identities" | "sources" => (0, format!("{key}: {}, ", list(&self.values))),
            "identitySets" => (0, format!("{key}: [{rule}-{}], ", self.not)),
            "ports" => (1, format!("{key}: [{}], ", self.values.join(", "))),
            "headers" => (2, format!("{key}: {{x-a: {}}}, ", list(&self.values))),
            "grpc" => {
                let (service, method) = self.values[0].split_once('/').unwrap();
                let part = |key: &str, value: &str| {
                    if value.is_empty() { String::new() } else { format!("{key}: [{value}], ") }
                };
                (1, format!("{key}: {{{}{}}}, ", part("services", service), part("methods", method)))
            }
            _ => (1, format!("{key}: {}, ", list(&self.values))),
        }
    }

    fn on_request(&self) -> bool {
        ["hosts", "methods", "paths", "grpc", "headers"].contains(&self.kind)
    }

    fn holds(&self, facts: &Facts, path: &str, deny: bool) -> bool {
        // A deny rule gets every doubt, an allow rule none; `not` turns it around.
        let generous = deny != self.not;
        let any = |matches: &dyn Fn(&str) -> bool| self.values.iter().any(|value| matches(value));
        let matched = match self.kind {
            "identities" | "identitySets" => any(&|pattern| identity_matches(pattern, facts.caller)),
            "sources" => any(&|network| network_contains(network, facts.source)),
            "ports" => any(&|port| port == facts.port.to_string()),
            "hosts" => any(&|host| host_matches(host, facts.host)),
            "methods" => any(&|method| method == facts.method || (generous && method == facts.method.to_uppercase())),
            "paths" => any(&|pattern| path_matches(&segments(pattern), &segments(path))),
            "grpc" => {
                let (service, method) = self.values[0].split_once('/').unwrap();
                let parts = segments(path);
                parts.len() == 2
                    && parts.iter().all(|part| !part.is_empty())
                    && (service.is_empty() || service == parts[0])
                    && (method.is_empty() || method == parts[1])
                    && (generous || facts.method == "POST")
            }
            "headers" => {
                let one = |value: &str| any(&|pattern| value_matches(pattern, value));
                let all = &facts.headers;
                if generous {
                    all.iter().any(|value| one(value))
                        || (all.len() > 1 && (one(&all.join(",")) || one(&all.join(", "))))
                } else {
                    !all.is_empty() && all.iter().all(|value| one(value))
                }
            }
            other => panic!("{other}"),
        };
        matched != self.not
    }
}

/// What was decided, and by which rule of which policy; nobody is named by a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    Allow(String),
    Deny(Option<String>),
}

/// What the enforced policies say, and the audited ones if they have anything to say.
pub type Judged = (Judgement, Option<Judgement>);

/// `None`: the path is in doubt.
pub fn judged(models: &[Model], facts: &Facts, readings: &[&str]) -> Option<Judged> {
    let judge = |path: &&str| {
        judge(models, facts, &|rule| rule.matchers.iter().all(|matcher| matcher.holds(facts, path, rule.deny)))
    };
    let all: Vec<Judged> = readings.iter().map(judge).collect();
    let enforced = strictest(all.iter().map(|judged| &judged.0))?;
    Some((enforced, strictest(all.iter().filter_map(|judged| judged.1.as_ref()))))
}

pub fn judged_opaque(models: &[Model], facts: &Facts) -> Judged {
    judge(models, facts, &|rule| {
        let http = rule.matchers.iter().any(Matcher::on_request);
        rule.holds_on_connection(facts) && (rule.deny || !http)
    })
}

/// Whether the request is allowed in every reading.
pub fn allowed(models: &[Model], facts: &Facts, readings: &[&str]) -> bool {
    matches!(judged(models, facts, readings), Some((Judgement::Allow(_), _)))
}

/// Whether the opaque connection is allowed.
pub fn allowed_opaque(models: &[Model], facts: &Facts) -> bool {
    matches!(judged_opaque(models, facts), (Judgement::Allow(_), _))
}

/// What may be said before a request is known: `None` when it depends on the request.
pub fn judged_connection(models: &[Model], facts: &Facts) -> Option<Judgement> {
    let mut certain = Vec::new();
    let mut possible = Vec::new();
    for (name, rule) in in_force(models, facts, false).filter(|(_, rule)| rule.holds_on_connection(facts)) {
        possible.push(rule);
        if !rule.matchers.iter().any(Matcher::on_request) {
            certain.push((name, rule));
        }
    }
    let first = |deny: bool| certain.iter().find(|(_, rule)| rule.deny == deny).map(|(name, _)| name.clone());
    if let Some(name) = first(true) {
        return Some(Judgement::Deny(Some(name)));
    }
    if possible.iter().all(|rule| rule.deny) {
        return Some(Judgement::Deny(None));
    }
    first(false).filter(|_| possible.iter().all(|rule| !rule.deny)).map(Judgement::Allow)
}

/// The first of the strictest kind: denied by a rule, by default, allowed.
fn strictest<'a>(all: impl Iterator<Item = &'a Judgement>) -> Option<Judgement> {
    let all: Vec<&Judgement> = all.collect();
    let by_rule = all.iter().find(|one| matches!(one, Judgement::Deny(Some(_))));
    let denied = all.iter().find(|one| matches!(one, Judgement::Deny(None)));
    by_rule.or(denied).or(all.first()).map(|one| (*one).clone())
}

/// The rules of one mode that protect the workload and are in force, in the order in which they are named: by policy,
/// those that allow first, by place.
fn in_force<'a>(models: &'a [Model], facts: &'a Facts, audit: bool) -> impl Iterator<Item = (String, &'a Rule)> {
    let mut policies: Vec<&Model> =
        models.iter().filter(|model| model.audit == audit && model.protects(facts.workload)).collect();
    policies.sort_by_key(|model| (model.namespace, &model.name));
    let named = policies.into_iter().flat_map(|model| {
        model.rules.iter().enumerate().map(|(index, rule)| (format!("{}/r{index}", model.name), rule))
    });
    named.filter(|(_, rule)| rule.expires.is_none_or(|end| facts.now < end))
}

fn judge(models: &[Model], facts: &Facts, holds: &dyn Fn(&Rule) -> bool) -> Judged {
    let of_mode = |audit| {
        let matching: Vec<(String, &Rule)> = in_force(models, facts, audit).filter(|(_, rule)| holds(rule)).collect();
        let first = |deny: bool| matching.iter().find(|(_, rule)| rule.deny == deny).map(|(name, _)| name.clone());
        match (first(true), first(false)) {
            (Some(name), _) => Judgement::Deny(Some(name)),
            (None, Some(name)) => Judgement::Allow(name),
            (None, None) => Judgement::Deny(None),
        }
    };
    let audited = of_mode(true);
    let protects = |model: &&Model| model.audit && model.protects(facts.workload);
    let allows = models.iter().filter(protects).any(|model| model.rules.iter().any(|rule| !rule.deny));
    (of_mode(false), Some(audited).filter(|audited| allows || *audited != Judgement::Deny(None)))
}

impl Rule {
    fn holds_on_connection(&self, facts: &Facts) -> bool {
        let mut on_connection = self.matchers.iter().filter(|matcher| !matcher.on_request());
        on_connection.all(|matcher| matcher.holds(facts, "", self.deny))
    }
}

fn list(values: &[&str]) -> String {
    format!("[{}]", values.iter().map(|value| format!("\"{value}\"")).collect::<Vec<_>>().join(", "))
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').skip(1).collect()
}

fn identity_matches(pattern: &str, id: &str) -> bool {
    let split = |text: &'_ str| text.split('/').skip(2).map(str::to_owned).collect::<Vec<_>>();
    let (pattern, id) = (split(pattern), split(id));
    for (index, part) in pattern.iter().enumerate() {
        match (part.as_str(), id.get(index)) {
            ("**", Some(_)) => return true,
            ("*", Some(_)) => {}
            (literal, Some(actual)) if literal == actual => {}
            _ => return false,
        }
    }
    pattern.len() == id.len()
}

fn path_matches(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**"], [_, ..]) => true,
        ([one, pattern @ ..], [actual, path @ ..]) => {
            let wildcard = *one == "*" || one.starts_with('{');
            (if wildcard { !actual.is_empty() } else { one == actual }) && path_matches(pattern, path)
        }
        _ => false,
    }
}

pub fn network_contains(network: &str, source: &str) -> bool {
    let source = source.strip_prefix("::ffff:").unwrap_or(source);
    let (address, length) = network.split_once('/').unwrap_or((network, "32"));
    let bits = |text: &str| match text.parse().unwrap() {
        IpAddr::V4(address) => (4, u128::from(u32::from(address)) << 96),
        IpAddr::V6(address) => (6, u128::from(address)),
    };
    let (length, a, b) = (length.parse::<u32>().unwrap(), bits(address), bits(source));
    a.0 == b.0 && (a.1 ^ b.1).checked_shr(128 - length).unwrap_or(0) == 0
}

fn host_matches(pattern: &str, host: &str) -> bool {
    let host = host.to_lowercase();
    let host = host.split(':').next().unwrap().trim_end_matches('.');
    match pattern.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix) && host.len() > suffix.len(),
        None => host == pattern,
    }
}

fn value_matches(pattern: &str, value: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(suffix), _) => value.ends_with(suffix),
        (_, Some(prefix)) => value.starts_with(prefix),
        _ => value == pattern,
    }
}
