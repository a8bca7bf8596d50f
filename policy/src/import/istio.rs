//! Istio's policies in our words, from the form that both languages are lowered to.
//!
//! What that form can say and our language cannot (texts that end within a segment, server names, marks) is refused. A
//! condition that holds for every caller or request is left out; two conditions of one kind are put together where that
//! is exact.

use std::collections::{BTreeMap, BTreeSet};

use spiffe::SpiffeId;

use super::words::Alternatives;
use super::{FOREIGN, Mapping, NOT_WRITTEN, TWO_CONDITIONS, UNKNOWN_WORKLOAD, WITHOUT_ALLOW, WITHOUT_WORDS};
use crate::diagnostic::{Diagnostic, Diagnostics, Severity, quoted};
use crate::identity::in_namespace;
use crate::matchers::{GrpcMatcher, HeaderMatcher};
use crate::native::{self, CODES, Collected};
use crate::policy::Options;
use crate::rules::{
    Condition, ConnectionMatcher, Effect, Identities, IdentitySet, Lowered, Mode, Origin, PolicyRules, RequestMatcher,
    Rule, Sense,
};
use crate::service::Service;
use crate::source::{File, Position, Source};
use crate::text::TextPattern;
use crate::write::{self, Body, Document, GrpcBody, Matched, Names, PolicyBody, RuleBody};

pub(super) fn import(files: &[File<'_>], mapping: &Mapping, options: &Options) -> Result<Vec<Document>, Diagnostics> {
    let Collected { mut policies, sets, cases, services, mut found } = native::collect(files, options);
    // What is not carried over must not be lost in silence.
    for origin in cases.iter().map(|case| &case.origin).chain(services.iter().map(Service::origin)) {
        let of_ours = Diagnostic::of_all_files(Severity::Error, FOREIGN, "this is a document of our own language");
        let of_ours = of_ours.help("leave it out of the files that are imported");
        found.push(of_ours.at(&origin.file, origin.line, origin.column));
    }
    if found.has_errors() {
        found.sort();
        return Err(found);
    }
    policies.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let sources: Vec<Source<'_>> = files.iter().filter_map(|file| Source::read(*file, &CODES).ok()).collect();
    let mut writer = Writer { mapping, sources: &sources, sets: &sets, found: Diagnostics::default() };
    let mut documents = writer.documents(&policies);
    let used: BTreeSet<&String> = documents.iter().flat_map(sets_of).collect();
    let used: Vec<Document> = sets.iter().filter(|set| used.contains(&set.name)).map(set).collect();
    documents.extend(used);
    let mut found = writer.found;
    if !found.has_errors()
        && let Err(error) = write::write(&documents)
    {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        found.push(Diagnostic::of_all_files(Severity::Error, NOT_WRITTEN, format!("{error}{cause}")));
    }
    found.sort();
    if found.has_errors() { Err(found) } else { Ok(documents) }
}

/// Policies on their way to documents.
pub(super) struct Writer<'a> {
    pub(super) mapping: &'a Mapping,
    /// For the lines that are refused.
    sources: &'a [Source<'a>],
    sets: &'a [IdentitySet],
    found: Diagnostics,
}

impl Writer<'_> {
    fn documents(&mut self, policies: &[PolicyRules]) -> Vec<Document> {
        let denies = policies.iter().flat_map(|policy| &policy.rules).find(|one| one.rule.effect == Effect::Deny);
        if let (Some(first), false) = (denies, policies.iter().any(|policy| policy.allows)) {
            let message =
                "there are policies that deny and none that allows: Istio allows the rest, and here it is denied";
            self.refuse(&first.rule.origin, WITHOUT_ALLOW, message, "add an ALLOW policy for what may be called");
        }
        let mut documents: Vec<Document> = policies.iter().filter_map(|policy| self.policy(policy)).collect();
        let is_left_out =
            |policy: &PolicyRules| policy.allows && policy.rules.is_empty() && policy.mode == Mode::Enforce;
        if let (true, Some(first)) = (policies.iter().any(is_left_out), documents.first_mut()) {
            first.comment.push(LEFT_OUT.to_owned());
        }
        documents
    }

    fn policy(&mut self, policy: &PolicyRules) -> Option<Document> {
        // What allows nothing needs no words: that is the answer without it, unless the configuration has another.
        let origin = &policy.rules.first()?.rule.origin;
        let target = self.target(policy, origin);
        if policy.mode == Mode::Mark {
            let message = "it marks requests and decides nothing, which no policy of ours does";
            self.refuse(origin, WITHOUT_WORDS, message, "leave it out, or write it as a dry run");
            return None;
        }
        let (mut allow, mut deny, mut names) = (Vec::new(), Vec::new(), Names::default());
        for Lowered { rule, matchers } in &policy.rules {
            let mut written = RuleBody {
                comment: vec![format!("From {}.", rule.origin)],
                name: names.take(&spelled(&rule.name)),
                expires: rule.expires,
                ticket: rule.ticket.as_ref().map(ToString::to_string),
                ..RuleBody::default()
            };
            for condition in &matchers.connection {
                self.connection(condition, rule, &mut written);
            }
            for condition in &matchers.request {
                self.request(condition, rule, &mut written);
            }
            match rule.effect {
                Effect::Allow => allow.push(written),
                Effect::Deny => deny.push(written),
            }
        }
        let body = PolicyBody {
            name: policy.name.to_string(),
            namespace: policy.namespace.as_ref().map(ToString::to_string),
            mode: policy.mode,
            target: target?,
            allow,
            deny,
        };
        Some(Document { comment: Vec::new(), body: Body::Policy(body) })
    }

    /// The workloads of a selector, or those that the policy names.
    fn target(&mut self, policy: &PolicyRules, origin: &Origin) -> Option<Vec<String>> {
        if policy.selector.is_empty() {
            let Some(target) = &policy.target else { return Some(Vec::new()) };
            let mut all = Vec::new();
            // The target of a policy names sets in words of its own, which the writer does not have.
            for set in target.sets.iter().filter_map(|set| self.sets.get(set.0)) {
                all.extend(listed(&set.members));
            }
            all.extend(listed(target));
            return Some(all);
        }
        let has_all = |labels: &BTreeMap<String, String>| {
            policy.selector.iter().all(|(key, value)| labels.get(&**key).is_some_and(|actual| **value == **actual))
        };
        let in_scope = |id: &SpiffeId| policy.namespace.as_ref().is_none_or(|namespace| in_namespace(id, namespace));
        let selected = self.mapping.workloads.iter().filter(|one| has_all(&one.labels) && in_scope(&one.identity));
        let ids: BTreeSet<String> = selected.map(|one| one.identity.to_string()).collect();
        if ids.is_empty() {
            let message =
                format!("it is not known which identity the workloads of policy {} have", quoted(&policy.name));
            let help = "say it with --workload 'label=value=spiffe://trust.domain/ns/namespace/sa/account'";
            self.refuse(origin, UNKNOWN_WORKLOAD, message, help);
            return None;
        }
        Some(ids.into_iter().collect())
    }

    fn connection(&mut self, condition: &Condition<ConnectionMatcher>, rule: &Rule, written: &mut RuleBody) {
        let sense = condition.sense;
        match &condition.matcher {
            ConnectionMatcher::Caller(callers) => {
                let Some(alternatives) = self.callers(callers, rule) else { return };
                let sets: Vec<String> =
                    callers.sets.iter().filter_map(|set| self.sets.get(set.0)).map(|set| set.name.clone()).collect();
                let has_callers =
                    !side(written, sense).identities.is_empty() || !side(written, sense).identity_sets.is_empty();
                if has_callers && sense == Sense::Is {
                    self.two(rule, "callers");
                    return;
                }
                match alternatives {
                    Alternatives::Everything => self.everything(rule, sense, "caller"),
                    Alternatives::Some(ids) => {
                        side(written, sense).identities.extend(ids);
                        side(written, sense).identity_sets.extend(sets);
                    }
                }
            }
            ConnectionMatcher::Source(networks) => {
                let all = networks.iter().map(ToString::to_string).collect();
                self.put(rule, sense, &mut side(written, sense).sources, all, "sources");
            }
            ConnectionMatcher::Port(ports) => {
                self.put(rule, sense, &mut side(written, sense).ports, ports.clone(), "ports");
            }
            ConnectionMatcher::Destination(_) => {
                self.without_words(rule, "the address that is called", "name the port");
            }
            ConnectionMatcher::ServerName(_) => {
                self.without_words(rule, "the server name of the handshake", "match the host of requests");
            }
        }
    }

    fn request(&mut self, condition: &Condition<RequestMatcher>, rule: &Rule, written: &mut RuleBody) {
        let sense = condition.sense;
        let side = side(written, sense);
        match &condition.matcher {
            RequestMatcher::Host(hosts) => {
                if let Some(all) = self.hosts(hosts, rule) {
                    self.put(rule, sense, &mut side.hosts, all, "hosts");
                }
            }
            RequestMatcher::Method(methods) => match self.methods(methods, rule) {
                Some(Alternatives::Some(all)) => self.put(rule, sense, &mut side.methods, all, "methods"),
                Some(Alternatives::Everything) => self.every_request(rule, sense, &mut side.paths),
                None => {}
            },
            RequestMatcher::Path(patterns) => match self.paths(patterns, rule) {
                Some(Alternatives::Some(all)) => {
                    if sense == Sense::Is && side.paths == [EVERY_PATH] {
                        side.paths.clear();
                    }
                    self.put(rule, sense, &mut side.paths, all, "paths");
                }
                Some(Alternatives::Everything) => self.every_request(rule, sense, &mut side.paths),
                None => {}
            },
            RequestMatcher::Grpc(GrpcMatcher { services, methods }) => {
                if side.grpc.is_some() {
                    self.two(rule, "gRPC calls");
                    return;
                }
                let owned = |all: &[Box<str>]| all.iter().map(ToString::to_string).collect();
                side.grpc = Some(GrpcBody { services: owned(services), methods: owned(methods) });
            }
            RequestMatcher::Header(HeaderMatcher { name, values }) => {
                if values.iter().any(has_inner_asterisk) {
                    self.without_words(rule, "a header value with an asterisk in it", "match another value");
                    return;
                }
                // Of a repeated header two lists of negations are not the same as one of both.
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                let known = side.headers.entry(name.to_string()).or_insert_with(|| values.clone());
                if *known != values {
                    self.two(rule, "values of a header");
                }
            }
        }
    }

    /// A list under a key. Of negations the lists add up; of the others there can be one.
    fn put<T: PartialEq>(&mut self, rule: &Rule, sense: Sense, key: &mut Vec<T>, all: Vec<T>, what: &str) {
        match sense {
            Sense::Is if !key.is_empty() && *key != all => self.two(rule, what),
            Sense::Is => *key = all,
            Sense::IsNot => key.extend(all),
        }
    }

    /// Said in words all the same: a rule without matchers on HTTP is another one on opaque TCP.
    fn every_request(&mut self, rule: &Rule, sense: Sense, paths: &mut Vec<String>) {
        if sense == Sense::IsNot || paths.is_empty() {
            self.put(rule, sense, paths, vec![EVERY_PATH.to_owned()], "paths");
        }
    }

    fn everything(&mut self, rule: &Rule, sense: Sense, what: &str) {
        if sense == Sense::IsNot {
            self.without_words(rule, &format!("no {what} at all"), "leave the rule out");
        }
    }

    fn two(&mut self, rule: &Rule, what: &str) {
        let message = format!("two lists of {what} must both match, and a rule of ours has one");
        self.refuse(&rule.origin, TWO_CONDITIONS, message, "write the values that are in both lists");
    }

    pub(super) fn without_words(&mut self, rule: &Rule, what: &str, help: &str) {
        self.refuse(&rule.origin, WITHOUT_WORDS, format!("our language has no words for {what}"), help);
    }

    pub(super) fn refuse(&mut self, origin: &Origin, code: &'static str, message: impl Into<String>, help: &str) {
        let position = Position { line: origin.line, column: origin.column };
        let found = match self.sources.iter().find(|source| *source.name() == *origin.file) {
            Some(source) => source.diagnostic(Severity::Error, code, position, message),
            None => {
                Diagnostic::of_all_files(Severity::Error, code, message).at(&origin.file, origin.line, origin.column)
            }
        };
        self.found.push(found.help(help));
    }
}

/// A name as our language has them: rules of Istio's are called by their place, as in `rules[0].from[1]`.
fn spelled(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).filter(|word| !word.is_empty());
    words.map(|word| word.trim_matches(['-', '_', '.'])).collect::<Vec<_>>().join("-")
}

fn set(set: &IdentitySet) -> Document {
    Document { comment: Vec::new(), body: Body::Set(set.name.clone(), listed(&set.members)) }
}

/// The sets that the rules of a document name.
fn sets_of(document: &Document) -> impl Iterator<Item = &String> {
    let rules = match &document.body {
        Body::Policy(policy) => policy.allow.iter().chain(&policy.deny),
        Body::Set(..) | Body::Test(..) => [].iter().chain(&[]),
    };
    rules.flat_map(|rule| rule.is.identity_sets.iter().chain(&rule.is_not.identity_sets))
}

fn side(rule: &mut RuleBody, sense: Sense) -> &mut Matched {
    match sense {
        Sense::Is => &mut rule.is,
        Sense::IsNot => &mut rule.is_not,
    }
}

/// The members of a list of our own language, which is made of exact IDs and patterns by segment.
fn listed(identities: &Identities) -> Vec<String> {
    let exact = identities.exact.iter().map(ToString::to_string);
    exact.chain(identities.patterns.iter().map(ToString::to_string)).collect()
}

/// A `*` that is a character to Istio and none to us.
fn has_inner_asterisk(value: &TextPattern) -> bool {
    match value {
        TextPattern::Exact(text) | TextPattern::Prefix(text) | TextPattern::Suffix(text) => text.contains('*'),
        TextPattern::Present => false,
    }
}

/// With Istio's own default, a policy that allows nothing is what denies.
const LEFT_OUT: &str = "Policies that allow nothing are left out: they need no words where what no rule allows is denied. \
                        Leave `defaultAction` of the sidecar at `deny`.";
/// Below the root is everything.
const EVERY_PATH: &str = "/**";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityPattern;
    use crate::import::Workload;
    use crate::matchers::HostPattern;
    use crate::path::PathPattern;
    use crate::rules::Matchers;
    use crate::text::Glob;
    use spiffe::TrustDomain;

    fn rule(effect: Effect, matchers: Matchers) -> Lowered {
        let origin = Origin { file: "istio.yaml".into(), line: 7, column: 3 };
        let rule = Rule {
            policy: "web".into(),
            namespace: Some("shop".into()),
            name: "r".into(),
            effect,
            mode: Mode::Enforce,
            origin,
            ticket: None,
            expires: None,
        };
        Lowered { rule, matchers }
    }

    fn policy(rules: Vec<Lowered>) -> PolicyRules {
        PolicyRules {
            name: "web".into(),
            namespace: Some("shop".into()),
            mode: Mode::Enforce,
            target: None,
            selector: vec![("app".into(), "web".into())],
            allows: true,
            rules,
        }
    }

    fn mapping() -> Mapping {
        Mapping {
            workloads: vec![
                Workload::parse("app=web,v=1=spiffe://t/ns/shop/sa/web").unwrap(),
                Workload::parse("app=web=spiffe://t/ns/other/sa/web").unwrap(),
            ],
            trust_domain: Some(TrustDomain::new("t").unwrap()),
            trust_domains: BTreeMap::from([("west".to_owned(), TrustDomain::new("w").unwrap())]),
            ..Mapping::default()
        }
    }

    /// The text from the target on, or codes.
    fn imported(policy: PolicyRules, mapping: &Mapping) -> Result<String, Vec<&'static str>> {
        let mut writer = Writer { mapping, sources: &[], sets: &[], found: Diagnostics::default() };
        let documents = writer.documents(&[policy]);
        if writer.found.has_errors() {
            assert!(writer.found.iter().all(|one| one.line == 7 && one.help.is_some()), "{}", writer.found);
            return Err(writer.found.iter().map(|one| one.code).collect());
        }
        let text = write::write(&documents).unwrap();
        Ok(text.lines().filter(|line| line.starts_with("  ")).skip(4).map(str::trim).collect::<Vec<_>>().join(" | "))
    }

    fn caller(sense: Sense, patterns: Vec<IdentityPattern>) -> Condition<ConnectionMatcher> {
        Condition { sense, matcher: ConnectionMatcher::Caller(Identities::new(patterns, Vec::new())) }
    }

    fn text(text: &str) -> TextPattern {
        TextPattern::of_istio(text)
    }

    #[test]
    fn callers_by_whole_segments_have_words() {
        let namespace = |glob| IdentityPattern::Namespace(Glob::new(glob));
        let account = IdentityPattern::ServiceAccount { namespace: "a".into(), account: "b".into() };
        let rows = vec![
            (vec![IdentityPattern::parse("spiffe://t/ns/a/sa/b").unwrap()], Ok("[spiffe://t/ns/a/sa/b]")),
            (vec![namespace("a")], Ok("[\"spiffe://t/ns/a/**\", \"spiffe://w/ns/a/**\"]")),
            (vec![account], Ok("[spiffe://t/ns/a/sa/b, spiffe://w/ns/a/sa/b]")),
            (vec![IdentityPattern::TrustDomain(text("u"))], Ok("[\"spiffe://u/**\"]")),
            (vec![IdentityPattern::Text(text("u/ns/a/*"))], Ok("[\"spiffe://u/ns/a/**\"]")),
            (vec![IdentityPattern::Text(text("u/ns/a/sa/b"))], Ok("[spiffe://u/ns/a/sa/b]")),
            (vec![namespace("a*")], Err("P220")),
            (vec![IdentityPattern::TrustDomain(text("u*"))], Err("P220")),
            (vec![IdentityPattern::Text(text("u/ns/a*"))], Err("P220")),
            (vec![IdentityPattern::Text(text("*/sa/b"))], Err("P220")),
        ];
        for (patterns, expected) in rows {
            let told = format!("{patterns:?}");
            let matchers = Matchers { connection: vec![caller(Sense::Is, patterns)], request: Vec::new() };
            let result = imported(policy(vec![rule(Effect::Allow, matchers)]), &mapping());
            match expected {
                Ok(ids) => assert_eq!(result.unwrap(), format!("from: {{identities: {ids}}}"), "{told}"),
                Err(code) => assert_eq!(result.unwrap_err(), [code], "{told}"),
            }
        }
        let everyone = || Matchers {
            connection: vec![caller(Sense::Is, vec![IdentityPattern::Text(text("*"))])],
            request: Vec::new(),
        };
        assert_eq!(imported(policy(vec![rule(Effect::Allow, everyone())]), &mapping()).unwrap(), "");
        let nobody = Matchers {
            connection: vec![caller(Sense::IsNot, vec![IdentityPattern::Text(text("*"))])],
            request: Vec::new(),
        };
        assert_eq!(imported(policy(vec![rule(Effect::Deny, nobody)]), &mapping()).unwrap_err(), ["P220"]);
        let matchers = Matchers { connection: vec![caller(Sense::Is, vec![namespace("a")])], request: Vec::new() };
        let nowhere = Mapping { trust_domain: None, trust_domains: BTreeMap::new(), ..mapping() };
        assert_eq!(imported(policy(vec![rule(Effect::Allow, matchers)]), &nowhere).unwrap_err(), ["P207"]);
    }

    #[test]
    fn requests_by_whole_segments_have_words() {
        let path = |text: &str| PathPattern::of_istio(text).unwrap();
        let is = |matcher| Condition { sense: Sense::Is, matcher };
        let is_not = |matcher| Condition { sense: Sense::IsNot, matcher };
        let host =
            |names: &[&str]| RequestMatcher::Host(names.iter().map(|one| HostPattern::Text(text(one))).collect());
        let header = |value: &str| HeaderMatcher { name: "a".into(), values: vec![text(value)] };
        type Row = (Vec<Condition<RequestMatcher>>, Result<&'static str, &'static str>);
        let rows: Vec<Row> = vec![
            (vec![is(RequestMatcher::Path(vec![path("/a/*"), path("/b")]))], Ok("to: {paths: [\"/a/**\", /b]}")),
            (vec![is(RequestMatcher::Path(vec![path("/a/{*}/c")]))], Ok("to: {paths: [\"/a/*/c\"]}")),
            (vec![is(RequestMatcher::Path(vec![path("*")]))], Ok("to: {paths: [\"/**\"]}")),
            (vec![is(RequestMatcher::Method(vec![text("*")]))], Ok("to: {paths: [\"/**\"]}")),
            (
                vec![is(RequestMatcher::Method(vec![text("*")])), is(RequestMatcher::Path(vec![path("/a")]))],
                Ok("to: {paths: [/a]}"),
            ),
            (
                vec![
                    is_not(RequestMatcher::Method(vec![text("GET")])),
                    is_not(RequestMatcher::Method(vec![text("PUT")])),
                ],
                Ok("to: {notMethods: [GET, PUT]}"),
            ),
            (vec![is(host(&["a.example", "a.example:*"]))], Ok("to: {hosts: [a.example]}")),
            (vec![is(RequestMatcher::Header(header("b*")))], Ok("when: {headers: {a: [\"b*\"]}}")),
            (vec![is(RequestMatcher::Path(vec![path("/a*")]))], Err("P220")),
            (vec![is(RequestMatcher::Path(vec![path("*.png")]))], Err("P220")),
            (vec![is(RequestMatcher::Method(vec![text("G*")]))], Err("P220")),
            (vec![is(host(&["a.example"]))], Err("P220")),
            (vec![is(host(&["*.example"]))], Err("P220")),
            (vec![is(host(&["a.example:*"]))], Err("P220")),
            (vec![is(RequestMatcher::Header(header("b*c")))], Err("P220")),
            (vec![is(RequestMatcher::Path(vec![path("/a")])), is(RequestMatcher::Path(vec![path("/b")]))], Err("P221")),
            (
                vec![is_not(RequestMatcher::Header(header("b"))), is_not(RequestMatcher::Header(header("c")))],
                Err("P221"),
            ),
        ];
        for (request, expected) in rows {
            let told = format!("{request:?}");
            let matchers = Matchers { connection: Vec::new(), request };
            let result = imported(policy(vec![rule(Effect::Allow, matchers)]), &mapping());
            match expected {
                Ok(rest) => assert_eq!(result.unwrap(), rest, "{told}"),
                Err(code) => assert_eq!(result.unwrap_err(), [code], "{told}"),
            }
        }
    }

    #[test]
    fn rules_that_are_called_by_their_place_get_a_name() {
        for (name, expected) in [("rules[0].from[1]", "rules-0-from-1"), ("reads", "reads"), ("a-b_c.d", "a-b_c.d")] {
            assert_eq!(spelled(name), expected);
        }
        let rules = ["rules[0]", "rules-0"].map(|name| {
            let mut one = rule(Effect::Allow, Matchers::default());
            one.rule.name = name.into();
            one
        });
        let text = imported(policy(rules.into()), &mapping()).unwrap();
        assert!(text.contains("- name: rules-0-2"), "{text}");
    }

    #[test]
    fn documents_of_our_own_are_not_lost_in_silence() {
        let ours = "apiVersion: policy.portcullis.dev/v1
kind: PolicyTest
metadata: {name: t}
spec:
  cases: [{name: a, caller: spiffe://t/a, workload: spiffe://t/b, connection: {port: 1}, expect: deny}]
---
apiVersion: policy.portcullis.dev/v1
kind: Service
metadata: {name: s}
spec: {hosts: [a], ports: [{port: 80, protocol: http}], identities: [spiffe://t/a]}
";
        let file = File { name: "a.yaml", bytes: ours.as_bytes() };
        let found = import(&[file], &mapping(), &Options::default()).unwrap_err();
        let told: Vec<_> = found.iter().map(|one| (one.code, one.line)).collect();
        assert_eq!(told, [("P200", 5), ("P200", 9)]);
    }

    #[test]
    fn what_is_beside_the_rules_is_judged_too() {
        let empty = || vec![rule(Effect::Allow, Matchers::default())];
        let connection = |matcher| {
            let connection = vec![Condition { sense: Sense::Is, matcher }];
            vec![rule(Effect::Allow, Matchers { connection, request: Vec::new() })]
        };
        let networks = || vec!["10.0.0.0/8".parse().unwrap()];
        for (one, expected) in [
            (PolicyRules { mode: Mode::Mark, ..policy(empty()) }, "P220"),
            (PolicyRules { selector: vec![("app".into(), "db".into())], ..policy(empty()) }, "P205"),
            (PolicyRules { allows: false, ..policy(vec![rule(Effect::Deny, Matchers::default())]) }, "P222"),
            (policy(connection(ConnectionMatcher::Destination(networks()))), "P220"),
            (policy(connection(ConnectionMatcher::ServerName(vec![text("a")]))), "P220"),
        ] {
            let told = format!("{one:?}");
            assert_eq!(imported(one, &mapping()).unwrap_err(), [expected], "{told}");
        }
        assert_eq!(
            imported(policy(connection(ConnectionMatcher::Source(networks()))), &mapping()).unwrap(),
            "from: {sources: [\"10.0.0.0/8\"]}"
        );
        let documents = Writer { mapping: &mapping(), sources: &[], sets: &[], found: Diagnostics::default() }
            .documents(&[policy(empty())]);
        let Body::Policy(body) = &documents[0].body else { panic!("{documents:?}") };
        assert_eq!(body.target, ["spiffe://t/ns/shop/sa/web"], "of the policy's own namespace");
    }
}
