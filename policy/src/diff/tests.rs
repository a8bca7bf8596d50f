//! Changes as they are told: which calls, in whose words, by which rules.

use std::fmt::Write as _;

use super::*;
use crate::source::File;

fn compile(documents: &str) -> Policy {
    let files = [File { name: "p.yaml", bytes: documents.as_bytes() }];
    Policy::compile(&files).unwrap_or_else(|found| panic!("{found}")).policy
}

/// A policy for one workload; each line is an entry of `allow` or `deny`.
fn policy(allow: &[&str], deny: &[&str]) -> String {
    let mut text = "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: api}\n\
                    spec:\n  target: {identities: ['spiffe://t/ns/e/sa/api']}\n"
        .to_owned();
    for (key, rules) in [("allow", allow), ("deny", deny)].iter().filter(|(_, rules)| !rules.is_empty()) {
        writeln!(text, "  {key}:").unwrap();
        rules.iter().for_each(|rule| writeln!(text, "    - {{{rule}}}").unwrap());
    }
    text
}

/// `+ caller=…; path=… [rule]`, one a line; `~` for audited policies.
fn told(base: &str, head: &str) -> Vec<String> {
    let (base, head) = (compile(base), compile(head));
    let diff = compare(&base, &head, 1000);
    assert_eq!(diff.left_out, Vec::<String>::new());
    let line = |change: &Change| {
        let sign = if change.is_newly_allowed() { "+" } else { "-" };
        let sign = if change.mode == Mode::Audit { "~" } else { sign };
        let extents = change.extents.iter().map(|(axis, extent)| format!("{}={extent}", axis.label()));
        let name =
            |policy: &Policy, said: Said| said.rule.and_then(|rule| policy.rule(rule)).map(|rule| rule.name.clone());
        let rules = [name(&base, change.said.base), name(&head, change.said.head)];
        let rules: Vec<String> =
            rules.into_iter().map(|name| name.map_or("-".to_owned(), |name| name.to_string())).collect();
        format!("{sign} {:?} {} [{}]", change.traffic, extents.collect::<Vec<_>>().join("; "), rules.join(" → "))
    };
    diff.changes.iter().map(line).collect()
}

const READS: &str = "name: reads, from: {identities: ['spiffe://t/ns/c/sa/a']}, to: {ports: [8080], methods: [GET, HEAD], \
                     paths: ['/v1/members/{id}', '/v1/plans/**']}";
const API: &str = "workload=spiffe://t/ns/e/sa/api";

#[test]
fn a_new_rule_is_told_as_it_is_written() {
    let rows = told(
        &policy(&["name: x, from: {identities: ['spiffe://t/ns/x/sa/x']}"], &[]),
        &policy(&[READS, "name: x, from: {identities: ['spiffe://t/ns/x/sa/x']}"], &[]),
    );
    assert_eq!(
        rows,
        [format!(
            "+ Requests {API}; caller=spiffe://t/ns/c/sa/a; port=8080; path=/v1/members/*, /v1/plans/**; method=GET, HEAD \
             [- → reads]"
        )]
    );
}

#[test]
fn only_what_is_new_of_a_rule_is_told() {
    let wider = READS.replace("[GET, HEAD]", "[GET, HEAD, POST]").replace("'/v1/plans/**'", "'/v1/plans/**', '/v2/**'");
    let rows = told(&policy(&[READS], &[]), &policy(&[&wider], &[]));
    let caller = "caller=spiffe://t/ns/c/sa/a; port=8080";
    assert_eq!(
        rows,
        [
            format!("+ Requests {API}; {caller}; path=/v1/members/*, /v1/plans/**; method=POST [- → reads]"),
            format!("+ Requests {API}; {caller}; path=/v2/**; method=GET, HEAD, POST [- → reads]"),
        ]
    );
}

#[test]
fn a_deny_rule_takes_away_what_it_names_of_what_was_allowed() {
    let rows = told(
        &policy(&[READS], &[]),
        &policy(
            &[READS],
            &["name: admin, from: {notIdentities: ['spiffe://t/ns/ops/**']}, to: {paths: ['/v1/plans/admin/**']}"],
        ),
    );
    // The rule has a matcher on the path, so that opaque TCP is denied too, but nothing allowed it.
    let row = "caller=spiffe://t/ns/c/sa/a; port=8080; path=/v1/plans/admin/**; method=GET, HEAD [reads → admin]";
    assert_eq!(rows, [format!("- Requests {API}; {row}")]);
}

#[test]
fn connections_headers_hosts_and_sources() {
    let open = "name: open, from: {identities: ['spiffe://t/ns/**']}, to: {ports: [5432]}";
    assert_eq!(
        told(&policy(&[READS], &[]), &policy(&[READS, open], &[])),
        [format!("+ Everything {API}; caller=spiffe://t/ns/**; port=5432 [- → open]")]
    );
    let tenant = "name: d, from: {sources: [10.0.0.0/8]}, when: {headers: {x-tenant: [test, 'old-*']}}";
    assert_eq!(
        told(&policy(&[open], &[]), &policy(&[open], &[tenant])),
        [
            format!("- Opaque {API}; caller=spiffe://t/ns/**; port=5432; source=10.0.0.0/8 [open → d]"),
            format!(
                "- Requests {API}; caller=spiffe://t/ns/**; port=5432; source=10.0.0.0/8; header=test, old-* [open → d]"
            ),
        ]
    );
    let hosts = "name: h, to: {ports: [80], hosts: ['*.example'], notMethods: [POST]}";
    assert_eq!(
        told(&policy(&[READS], &[]), &policy(&[READS, hosts], &[])),
        [format!("+ Requests {API}; port=80; method=any except POST; host=*.example [- → h]")]
    );
}

#[test]
fn time_and_audit_are_told() {
    let until = |end: &str| format!("name: t, from: {{identities: ['spiffe://t/a']}}, expires: {end}");
    let row = format!("+ Everything {API}; caller=spiffe://t/a; time=1970-01-02T00:00:00Z [- → t]");
    assert_eq!(told(&policy(&[READS], &[]), &policy(&[READS, &until("1970-01-02T00:00:00Z")], &[])), [row]);
    let row = "time=1970-01-03T00:00:00Z except 1970-01-02T00:00:00Z";
    assert_eq!(
        told(&policy(&[&until("1970-01-02T00:00:00Z")], &[]), &policy(&[&until("1970-01-03T00:00:00Z")], &[])),
        [format!("+ Everything {API}; caller=spiffe://t/a; {row} [- → t]")]
    );
    // What has ended is no change.
    assert_eq!(told(&policy(&[READS], &[]), &policy(&[READS, &until("1970-01-01T00:00:01Z")], &[])), [""; 0]);
    let audited = policy(&[READS], &[]).replace("spec:\n", "spec:\n  mode: audit\n");
    let rows = told(&policy(&[READS], &[]), &audited);
    let call = "caller=spiffe://t/ns/c/sa/a; port=8080; path=/v1/members/*, /v1/plans/**; method=GET, HEAD";
    assert_eq!(rows[0], format!("- Requests {API}; {call} [reads → -]"));
    assert!(
        rows[1..].iter().all(|row| row.starts_with('~'))
            && rows[1..].contains(&format!("~ Requests {API}; {call} [- → reads]")),
        "{rows:#?}"
    );
}

#[test]
fn a_set_that_gains_a_member_changes_for_that_member() {
    let with = |members: &str| {
        let set = format!(
            "---\napiVersion: policy.portcullis.dev/v1\nkind: IdentitySet\nmetadata: {{name: s}}\nspec: {{identities: [{members}]}}\n"
        );
        policy(&["name: r, from: {identitySets: [s]}, to: {ports: [1]}"], &[]) + &set
    };
    assert_eq!(
        told(&with("'spiffe://t/a', 'spiffe://t/b'"), &with("'spiffe://t/c', 'spiffe://t/b', 'spiffe://t/a'")),
        [format!("+ Everything {API}; caller=spiffe://t/c; port=1 [- → r]")]
    );
}

#[test]
fn grpc_calls_are_told_as_paths() {
    let grpc = |methods: &str| format!("name: g, to: {{ports: [1], grpc: {{services: [a.B], methods: [{methods}]}}}}");
    assert_eq!(
        told(&policy(&[&grpc("Get")], &[]), &policy(&[&grpc("Get, Set")], &[])),
        [format!("+ Requests {API}; port=1; path=/a.B/Set; method=POST [- → g]")]
    );
}

/// Sets of tens of thousands of rules of which few differ are compared in part only where they differ.
#[test]
fn what_is_the_same_is_not_looked_at_closely() {
    let mut rules = Vec::new();
    for number in 0..5000 {
        rules.push(format!(
            "name: r{number}, from: {{identities: ['spiffe://t/ns/n{}/sa/s{number}']}}, to: {{methods: [GET], paths: ['/v{}/{{id}}/{number}']}}",
            number % 50,
            number % 7
        ));
    }
    let base: Vec<&str> = rules.iter().map(String::as_str).collect();
    let mut changed: Vec<String> = rules.clone();
    for number in [7, 700, 4999] {
        changed[number] = changed[number].replace("[GET]", "[GET, PUT]");
    }
    let head: Vec<&str> = changed.iter().map(String::as_str).collect();
    let rows = told(&policy(&base, &[]), &policy(&head, &[]));
    assert_eq!(rows.len(), 3, "{rows:#?}");
    assert!(rows[0].contains("path=/v0/*/700; method=PUT"), "{rows:#?}");
}

#[test]
fn what_is_too_much_is_said() {
    // Every rule cuts every other in every axis: the cells are as many as all their combinations.
    let rule = |number: usize, more: &str| {
        let headers: Vec<String> = (0..24).map(|h| format!("x-{h}: [v{}{more}]", (number >> (h % 8)) & 3)).collect();
        format!("name: r{number}, when: {{notHeaders: {{{}}}}}", headers.join(", "))
    };
    let all = |more: &str| (0..40).map(|number| rule(number, more)).collect::<Vec<_>>();
    let (base, head) = (all(""), all("w"));
    let text = |rules: &[String]| policy(&rules.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    let diff = compare_within(200_000, &compile(&text(&base)), &compile(&text(&head)), 0);
    assert_eq!(diff.left_out, ["requests: spiffe://t/ns/e/sa/api"]);
}

/// Changes of Istio's documents, which the same engine decides.
mod through_istio {
    use super::*;
    use crate::Options;

    /// Lines as [`told`] has them, and what was left out, for a workload with the label `app: api`, or without labels.
    fn changes(base: &str, head: &str, is_labelled: bool) -> (Vec<String>, Vec<String>) {
        let labels = is_labelled.then(|| ("app".to_owned(), "api".to_owned())).into_iter().collect();
        let options = Options { labels, ..Options::default() };
        let compile = |documents: &str| {
            let files = [File { name: "i.yaml", bytes: documents.as_bytes() }];
            Policy::compile_with(&files, &options).unwrap_or_else(|found| panic!("{found}")).policy
        };
        let diff = compare(&compile(base), &compile(head), 1000);
        let line = |change: &Change| {
            let sign = if change.is_newly_allowed() { "+" } else { "-" };
            let extents = change.extents.iter().map(|(axis, extent)| format!("{}={extent}", axis.label()));
            format!("{sign} {:?} {}", change.traffic, extents.collect::<Vec<_>>().join("; "))
        };
        (diff.changes.iter().map(line).collect(), diff.left_out)
    }

    fn document(name: &str, spec: &str) -> String {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: e}}\n\
             spec: {{{spec}}}\n---\n"
        )
    }

    /// One rule for callers, as Istio writes them, and an operation.
    fn rule(principals: &str, operation: &str) -> String {
        format!("rules: [{{from: [{{source: {{principals: [{principals}]}}}}], to: [{{operation: {{{operation}}}}}]}}]")
    }

    const READS: &str = "ports: ['8080'], methods: [GET], paths: [/v1/*]";

    #[test]
    fn another_principal_and_another_prefix() {
        let base = document("reads", &rule("t/ns/c/sa/a", READS));
        let (rows, left_out) = changes(&base, &document("reads", &rule("t/ns/c/sa/b", READS)), false);
        let line = |sign: &str, account: &str, path: &str| {
            format!(
                "{sign} Requests workload=namespace e; caller=spiffe://t/ns/c/sa/{account}; port=8080; path={path}; method=GET"
            )
        };
        assert_eq!(rows, [line("+", "b", "/v1/**"), line("-", "a", "/v1/**")]);
        assert_eq!(left_out, [""; 0]);
        let (rows, _) =
            changes(&base, &document("reads", &rule("t/ns/c/sa/a", &READS.replace("/v1/", "/v1/a"))), false);
        assert_eq!(rows, [line("-", "a", "/v1/** except /v1/a*")]);
    }

    #[test]
    fn a_new_denial_takes_away() {
        let base = document("reads", &rule("t/ns/c/sa/a", READS));
        let head =
            base.clone() + &document("admin", "action: DENY, rules: [{to: [{operation: {paths: [/v1/admin*]}}]}]");
        let row =
            "- Requests workload=namespace e; caller=spiffe://t/ns/c/sa/a; port=8080; path=/v1/admin*; method=GET";
        assert_eq!(changes(&base, &head, false), (vec![row.to_owned()], vec![]));
    }

    #[test]
    fn a_selector_counts_with_the_labels_that_it_names() {
        let spec = |account: &str| {
            format!("selector: {{matchLabels: {{app: api}}}}, {}", rule(&format!("t/ns/c/sa/{account}"), READS))
        };
        let (base, head) = (document("reads", &spec("a")), document("reads", &spec("b")));
        let (rows, left_out) = changes(&base, &head, true);
        assert_eq!((rows.len(), left_out), (2, vec![]), "{rows:?}");
        let (rows, left_out) = changes(&base, &head, false);
        let unknown = |what: &str| format!("{what}: workloads with labels that were not given, of which rules changed");
        assert_eq!((rows, left_out), (vec![], vec![unknown("requests")]));
    }

    #[test]
    fn what_only_marks_is_not_compared() {
        let base = document("reads", &rule("t/ns/c/sa/a", READS));
        let head = base.clone() + &document("mark", "action: AUDIT, rules: [{}]");
        assert_eq!(changes(&base, &head, false), (vec![], vec![]));
        let do_marks_change = |base: &str, head: &str| compare(&compile(base), &compile(head), 1000).marks_changed;
        assert!(do_marks_change(&base, &head) && do_marks_change(&head, &base));
        assert!(!do_marks_change(&head, &head) && !do_marks_change("", &base));
    }
}

/// Istio's patterns as terms: they match what the engine matches, and the walk finds every combination.
mod of_istio {
    use std::collections::BTreeSet;

    use super::super::cells::{Focus, Universe};
    use super::super::lower::{host, identity, path};
    use super::super::space::Space;
    use super::super::term::{Term, Value};
    use super::*;
    use crate::identity::IdentityPattern;
    use crate::matchers::{Doubt, HostPattern};
    use crate::path::PathPattern;
    use crate::text::{Glob, TextPattern};

    fn text(text: &str) -> TextPattern {
        TextPattern::of_istio(text)
    }

    /// All combinations of terms that a value of the universe matches are among those that were found.
    fn check(axis: &Axis, terms: &[Term], values: &[Value<'static>], engine: &dyn Fn(usize, &Value<'static>) -> bool) {
        let mut space = Space::default();
        let numbers: Vec<u32> = terms.iter().map(|term| space.term(term.clone())).collect();
        let universe = Universe::of(axis, &numbers, Focus::Everything, (&space, 0), &mut Budget::new(1_000_000));
        let universe = universe.unwrap_or_else(|_| panic!("too much"));
        let found: BTreeSet<Vec<u32>> = universe.elements.iter().map(|element| element.terms.clone()).collect();
        let samples: Vec<&Value<'static>> =
            values.iter().chain(universe.elements.iter().map(|one| &one.value)).collect();
        for value in samples {
            let mut matching = Vec::new();
            for (index, (term, number)) in terms.iter().zip(&numbers).enumerate() {
                assert_eq!(term.matches(value), engine(index, value), "{term} {value:?}");
                matching.extend(term.matches(value).then_some(*number));
            }
            matching.sort_unstable();
            matching.dedup();
            assert!(found.contains(&matching), "{value:?}: {matching:?} {found:?}");
        }
        for element in &universe.elements {
            let matching = terms.iter().zip(&numbers).filter(|(term, _)| term.matches(&element.value));
            assert_eq!(
                matching.map(|(_, number)| *number).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(),
                element.terms
            );
        }
    }

    fn words(all: &[&str], depth: usize) -> Vec<String> {
        let mut texts: Vec<String> = vec![String::new()];
        let mut last = texts.clone();
        for _ in 0..depth {
            last = last.iter().flat_map(|text| all.iter().map(move |word| format!("{text}/{word}"))).collect();
            texts.extend(last.iter().cloned());
        }
        texts.retain(|text| !text.is_empty());
        texts
    }

    #[test]
    fn identities() {
        let patterns = vec![
            IdentityPattern::Namespace(Glob::new("a*")),
            IdentityPattern::Namespace(Glob::new("ab")),
            IdentityPattern::ServiceAccount { namespace: "a".into(), account: "sa".into() },
            IdentityPattern::TrustDomain(text("t*")),
            IdentityPattern::TrustDomain(text("*x")),
            IdentityPattern::Text(text("t/ns/a*")),
            IdentityPattern::Text(text("*/sa/b")),
            IdentityPattern::Text(text("*a/sa")),
            IdentityPattern::Text(text("t/ns/a/sa/b")),
            IdentityPattern::Text(text("*")),
            IdentityPattern::parse("spiffe://t/ns/*/sa/b").unwrap(),
        ];
        let paths = words(&["ns", "a", "ab", "sa", "b"], 4);
        let ids = paths.iter().flat_map(|path| ["t", "tx", "u"].map(|domain| format!("spiffe://{domain}{path}")));
        let values: Vec<Value<'static>> = ids.map(|id| Value::Text(id.into())).collect();
        let terms: Vec<Term> = patterns.iter().map(identity).collect();
        check(&Axis::Caller, &terms, &values, &|index, value| {
            let Value::Text(id) = value else { panic!("{value:?}") };
            patterns[index].matches(&SpiffeId::new(&**id).unwrap())
        });
    }

    #[test]
    fn paths() {
        let patterns: Vec<PathPattern> =
            ["/a*", "/a/b*", "*/b", "*b", "/ab", "*", "/a/{*}/b", "/a/{**}", "*.b", "b*", "/a/*", "*b/"]
                .iter()
                .map(|text| PathPattern::of_istio(text).unwrap())
                .collect();
        let mut all = words(&["a", "ab", "b", "c.b", "x"], 4);
        all.extend(words(&["a", "b"], 2).into_iter().map(|path| path + "/"));
        all.push("/".to_owned());
        let values: Vec<Value<'static>> = all.into_iter().map(|path| Value::Text(path.into())).collect();
        let terms: Vec<Term> = patterns.iter().map(path).collect();
        check(&Axis::Path, &terms, &values, &|index, value| {
            let Value::Text(path) = value else { panic!("{value:?}") };
            patterns[index].matches(path)
        });
    }

    #[test]
    fn hosts() {
        let texts = ["a.example", "a.example:*", "*.example", "*", "*:80", "a.*"];
        let of_istio = texts.iter().map(|one| HostPattern::Text(text(one)));
        let patterns: Vec<HostPattern> = of_istio.chain([HostPattern::parse("*.example").unwrap()]).collect();
        let hosts = ["", "a.example", "A.example:80", "b.example", "b.example:81", "a.x", "x", "x:80"];
        let values: Vec<Value<'static>> = hosts.iter().map(|host| Value::Text((*host).into())).collect();
        for doubt in [Doubt::Matches, Doubt::Misses] {
            let terms: Vec<Term> = patterns.iter().map(|pattern| host(pattern, doubt)).collect();
            check(&Axis::Host, &terms, &values, &|index, value| {
                let Value::Text(host) = value else { panic!("{value:?}") };
                patterns[index].matches(host, doubt)
            });
        }
    }
}
