//! What is suggested allows all that was seen, and nothing but that and what a pattern with values in it stands for.

use proptest::prelude::*;
use proptest::sample::select;

use portcullis_policy::diagnostic::Severity;
use portcullis_policy::findings::{self, Question};
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::suggest::{Asked, Collector, Observed, Options, Suggestion};
use portcullis_policy::write::write;
use portcullis_policy::{Compiled, Connection, File, Mode, Policy, Request, testing};
use spiffe::SpiffeId;

use crate::properties::cases;

#[derive(Debug, Clone, PartialEq)]
struct Fact {
    caller: &'static str,
    workload: &'static str,
    port: u16,
    method: &'static str,
    path: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Http,
    Grpc,
    Tcp,
}

const WORDS: [&str; 4] = ["members", "export", "a.B", "Get"];
const VALUES: [&str; 6] =
    ["1", "2", "3", "deadbeef00", "550e8400-e29b-41d4-a716-446655440000", "01ARZ3NDEKTSV4RRFFQ69G5FAV"];

fn is_value(segment: &str) -> bool {
    VALUES.contains(&segment)
}

fn fact() -> impl Strategy<Value = Fact> {
    let callers = vec!["spiffe://t/ns/x/sa/a", "spiffe://t/ns/x/sa/b", "spiffe://t/vm/c"];
    let workloads = vec!["spiffe://t/ns/y/sa/api", "spiffe://t/ns/y/sa/db"];
    let segment = prop_oneof![select(WORDS.to_vec()), select(VALUES.to_vec())];
    let path = (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(segments, slash)| {
        format!("/{}{}", segments.join("/"), if slash && !segments.is_empty() { "/" } else { "" })
    });
    let kind = select(vec![Kind::Http, Kind::Http, Kind::Http, Kind::Http, Kind::Grpc, Kind::Tcp]);
    let port = select(vec![80_u16, 80, 81, 5432]);
    (select(callers), select(workloads), port, select(vec!["GET", "POST"]), path, kind).prop_map(
        |(caller, workload, port, method, path, kind)| match kind {
            Kind::Tcp => Fact { caller, workload, port: 5432, method: "", path: String::new(), kind },
            Kind::Grpc => Fact { caller, workload, port: 80, method: "POST", path: "/a.B/Get".to_owned(), kind },
            Kind::Http => Fact { caller, workload, port, method, path, kind },
        },
    )
}

fn suggest(facts: &[Fact], options: Options) -> Suggestion {
    let mut collector = Collector::new(options);
    for (number, fact) in facts.iter().enumerate() {
        let (caller, workload) = (SpiffeId::new(fact.caller).unwrap(), SpiffeId::new(fact.workload).unwrap());
        let asked = match fact.kind {
            Kind::Tcp => Asked::Connection,
            kind => Asked::Request { method: fact.method, path: &fact.path, grpc: kind == Kind::Grpc },
        };
        let at = 1_800_000_000 + i64::try_from(number % 2).unwrap();
        collector.take(&Observed { caller: &caller, workload: &workload, port: fact.port, asked, at }).unwrap();
    }
    collector.finish().unwrap()
}

fn text(suggestion: &Suggestion) -> String {
    let all: Vec<_> = suggestion.policies.iter().chain(&suggestion.tests).cloned().collect();
    write(&all).unwrap()
}

fn is_allowed(policy: &Policy, fact: &Fact) -> bool {
    let (caller, workload) = (SpiffeId::new(fact.caller).unwrap(), SpiffeId::new(fact.workload).unwrap());
    let connection = Connection {
        caller: &caller,
        workload: &workload,
        port: fact.port,
        source: [10, 0, 0, 1].into(),
        destination: [10, 0, 0, 2].into(),
        server_name: None,
        now: 0,
    };
    if fact.kind == Kind::Tcp {
        return policy.admit_opaque(&connection).verdict.is_allow();
    }
    let path = Path::normalise(fact.path.as_bytes(), EncodedSlash::Refuse).unwrap();
    let headers: Vec<(String, String)> = Vec::new();
    let request = Request { connection, method: fact.method, host: "h", path: &path, headers: &headers };
    policy.decide(&request).verdict.is_allow()
}

/// Whether HTTP was seen at the port: opaque connections there are not covered then.
fn carries_http(facts: &[Fact], fact: &Fact) -> bool {
    facts.iter().any(|one| one.workload == fact.workload && one.port == fact.port && one.kind != Kind::Tcp)
}

/// The same but for the path, and how its segments differ: each pair that does.
fn differs(seen: &Fact, fact: &Fact) -> Option<Vec<(String, String)>> {
    let parties = |one: &Fact| (one.caller, one.workload, one.port, one.method);
    let (mine, theirs): (Vec<_>, Vec<_>) = (seen.path.split('/').collect(), fact.path.split('/').collect());
    if parties(seen) != parties(fact) || mine.len() != theirs.len() || seen.kind == Kind::Tcp {
        return None;
    }
    let pairs = mine.iter().zip(theirs).filter(|(mine, theirs)| **mine != *theirs);
    Some(pairs.map(|(mine, theirs)| ((*mine).to_owned(), theirs.to_owned())).collect())
}

/// Whether anything that was seen speaks for allowing it.
fn may_be_allowed(facts: &[Fact], fact: &Fact, exact: bool) -> bool {
    let same_connection = |one: &&Fact| {
        one.kind == Kind::Tcp && (one.caller, one.workload, one.port) == (fact.caller, fact.workload, fact.port)
    };
    if facts.iter().any(|one| same_connection(&one)) && !carries_http(facts, fact) {
        return true;
    }
    if fact.kind == Kind::Tcp {
        return false;
    }
    let seen_by_others = facts.iter().any(|one| {
        one.kind != Kind::Tcp && (one.workload, one.port, &one.path) == (fact.workload, fact.port, &fact.path)
    });
    facts.iter().filter_map(|seen| differs(seen, fact)).any(|pairs| {
        pairs.is_empty()
            || !exact
                && pairs
                    .iter()
                    .all(|(mine, theirs)| is_value(mine) && !theirs.is_empty() && (is_value(theirs) || !seen_by_others))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_that_was_seen_is_allowed_and_little_else(
        facts in prop::collection::vec(fact(), 1..80),
        others in prop::collection::vec(fact(), 40),
        exact in any::<bool>(),
    ) {
        let options = Options { enough: (!exact).then_some(3), ..Options::default() };
        let suggestion = suggest(&facts, options);
        let text = text(&suggestion);
        let files = [File { name: "a.yaml", bytes: text.as_bytes() }];
        let compiled = Policy::compile(&files).unwrap();
        let Compiled { policy, warnings, .. } = &compiled;
        prop_assert!(warnings.is_empty(), "{}\n{}", warnings, text);
        let mut left_out = 0;
        for fact in &facts {
            let is_covered = fact.kind != Kind::Tcp || !carries_http(&facts, fact);
            left_out += u64::from(!is_covered);
            prop_assert_eq!(is_allowed(policy, fact), is_covered, "{:?}\n{}", fact, text);
        }
        prop_assert_eq!(suggestion.opaque_on_http, left_out);
        for fact in &others {
            prop_assert!(!is_allowed(policy, fact) || may_be_allowed(&facts, fact, exact), "{:?}\n{}", fact, text);
        }
        for outcome in testing::run(&files, &portcullis_policy::Options::default(), &compiled, 0).unwrap() {
            prop_assert!(outcome.passed, "{}: {}\n{}", outcome.case.name, outcome.reason, text);
        }
        let found = findings::examine(&files, &Question { now: 0, inventory: None, sidecar: None, options: &portcullis_policy::Options::default() }).unwrap();
        prop_assert!(found.iter().all(|one| one.severity == Severity::Note), "{}\n{}", found, text);
    }

    #[test]
    fn the_order_of_lines_does_not_show(facts in prop::collection::vec(fact(), 1..40)) {
        // The time of a line goes by its number, so that it stays with it only in the sum.
        let mut backward: Vec<Fact> = facts.iter().rev().cloned().collect();
        if facts.len() % 2 == 0 {
            backward.rotate_left(1);
        }
        let without_times = |text: String| {
            text.lines().filter(|line| !line.trim_start().starts_with("# ") || line.contains("values")).collect::<Vec<_>>().join("\n")
        };
        let (forward, backward) = (suggest(&facts, Options::default()), suggest(&backward, Options::default()));
        prop_assert_eq!(without_times(text(&forward)), without_times(text(&backward)));
    }
}

#[test]
fn nothing_is_tested_in_audit_mode() {
    let fact = Fact {
        caller: "spiffe://t/a",
        workload: "spiffe://t/b",
        port: 80,
        method: "GET",
        path: "/".to_owned(),
        kind: Kind::Http,
    };
    let suggestion = suggest(std::slice::from_ref(&fact), Options { mode: Mode::Audit, ..Options::default() });
    assert!(suggestion.tests.is_empty());
    let text = text(&suggestion);
    assert!(text.contains("  mode: audit\n"), "{text}");
    let compiled = Policy::compile(&[File { name: "a.yaml", bytes: text.as_bytes() }]).unwrap();
    assert!(!is_allowed(&compiled.policy, &fact));
}
