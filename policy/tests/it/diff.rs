//! The difference of two sets: what is reported changed has changed, and what is not has not.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use portcullis_policy::diff::{self, Answer, Change, Diff};
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{Connection, Decision, DefaultAction, Mode, Options, Policy, Request};
use spiffe::SpiffeId;

use crate::oracle::{Facts, Model, models};
use crate::properties::{cases, compile, compile_with};

/// What policies of one mode say.
fn answer(decision: Decision, mode: Mode) -> Answer {
    let verdict = if mode == Mode::Enforce { Some(decision.verdict) } else { decision.audit };
    match verdict {
        None => Answer::Nothing,
        Some(verdict) if verdict.is_allow() => Answer::Allow,
        Some(_) => Answer::Deny,
    }
}

/// Every call of a small universe.
fn universe() -> Vec<Facts> {
    const CALLERS: [&str; 4] =
        ["spiffe://t/ns/x/sa/a", "spiffe://t/ns/x/sa/b", "spiffe://t/ns/y/sa/a", "spiffe://u/ns/x/sa/a"];
    const PATHS: [&str; 9] = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/b/b/b", "/x:y", "/a.B/Get", "/a.B/Set"];
    let connections = || {
        let workloads = CALLERS.iter().take(3);
        let pairs = workloads.flat_map(move |workload| CALLERS.iter().map(move |caller| (*workload, *caller)));
        let ports = pairs.flat_map(|pair| [80, 82].map(|port| (pair, port)));
        let sources = ports.flat_map(|one| ["10.1.2.3", "::ffff:192.0.2.1"].map(|source| (one, source)));
        sources.flat_map(|one| [0, 120].map(|now| (one, now)))
    };
    let requests = || {
        let all = PATHS.iter().flat_map(|path| ["GET", "get", "POST"].map(|method| (*path, method)));
        let hosts = all.flat_map(|one| ["", "b.a.example"].map(|host| (one, host)));
        hosts.flat_map(|one| [vec![], vec!["a"], vec!["b"]].map(|headers| (one, headers)))
    };
    let all = connections().flat_map(|connection| requests().map(move |request| (connection, request)));
    let facts = all.map(|(((((workload, caller), port), source), now), (((target, method), host), headers))| Facts {
        caller,
        workload,
        port,
        source,
        now,
        host,
        method,
        target,
        headers,
    });
    facts.collect()
}

/// Two sets that have something in common, or little.
fn pairs() -> impl Strategy<Value = (Vec<Model>, Vec<Model>)> {
    let edited = (models(), models(), prop::collection::vec(select(vec![0, 0, 0, 1, 2, 3]), 8)).prop_map(
        |(base, other, edits)| {
            let mut spare = other.into_iter().flat_map(|model| model.rules);
            let mut head = base.clone();
            for (model, edit) in head.iter_mut().zip(edits) {
                match edit {
                    1 => drop(model.rules.pop()),
                    2 => model.rules.extend(spare.next()),
                    3 => model.audit = !model.audit,
                    _ => {}
                }
            }
            head.retain(|model| !model.rules.is_empty());
            (base, head)
        },
    );
    prop_oneof![edited, (models(), models())]
}

/// The changes of one mode that cover a call.
fn covering(diff: &Diff, mode: Mode, covers: impl Fn(&Change) -> bool) -> Vec<&Change> {
    diff.changes.iter().filter(|change| change.mode == mode && covers(change)).collect()
}

fn check(base: &Policy, head: &Policy, diff: &Diff, request: &Request<'_>) -> Result<(), TestCaseError> {
    let decided = [base, head].map(|policy| policy.decide(request));
    let opaque = [base, head].map(|policy| policy.admit_opaque(&request.connection));
    for mode in [Mode::Enforce, Mode::Audit] {
        for (decisions, covering) in [
            (decided, covering(diff, mode, |change| change.covers(request))),
            (opaque, covering(diff, mode, |change| change.covers_opaque(&request.connection))),
        ] {
            let [before, after] = decisions.map(|decision| answer(decision, mode));
            prop_assert_eq!(before != after, !covering.is_empty(), "{:?} {:?}", before, after);
            for change in covering {
                prop_assert_eq!((change.said.base.answer, change.said.head.answer), (before, after), "{:?}", change);
            }
        }
    }
    Ok(())
}

/// A call with its own facts, made once.
struct Call {
    caller: SpiffeId,
    workload: SpiffeId,
    facts: Facts,
    headers: Vec<(String, String)>,
}

impl Call {
    fn new(facts: Facts) -> Self {
        let (caller, workload) = (SpiffeId::new(facts.caller).unwrap(), SpiffeId::new(facts.workload).unwrap());
        let headers = facts.headers.iter().map(|value| ("X-A".to_owned(), (*value).to_owned())).collect();
        Self { caller, workload, facts, headers }
    }

    fn ask(&self, ask: impl FnOnce(&Request<'_>) -> Result<(), TestCaseError>) -> Result<(), TestCaseError> {
        let Self { caller, workload, facts, headers } = self;
        let source = facts.source.parse().unwrap();
        let connection = Connection {
            caller,
            workload,
            port: facts.port,
            source,
            destination: source,
            server_name: None,
            now: facts.now,
        };
        let path = Path::normalise(facts.target.as_bytes(), EncodedSlash::Refuse).unwrap();
        let request = Request { connection, method: facts.method, host: facts.host, path: &path, headers };
        ask(&request).map_err(|error| TestCaseError::fail(format!("{error}: {facts:?}")))
    }
}

#[test]
fn the_changes_are_exactly_what_is_decided_differently() {
    let universe: Vec<Call> = universe().into_iter().map(Call::new).collect();
    let config = ProptestConfig { cases: cases() / 40, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&(pairs(), any::<bool>()), |((base, head), is_open)| {
        let default_action = if is_open { DefaultAction::Allow } else { DefaultAction::Deny };
        let options = Options { default_action, ..Options::default() };
        let (base, head) = (compile_with(&base, &options), compile_with(&head, &options));
        let diff = diff::compare(&base, &head, 0);
        prop_assert!(diff.left_out.is_empty(), "{:?}", diff.left_out);
        universe.iter().try_for_each(|call| call.ask(|request| check(&base, &head, &diff, request)))
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases() / 2, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_rules_elsewhere_are_no_change(models in models()) {
        let renamed = models.iter().rev().map(|model| Model { name: format!("renamed-{}", model.name), ..model.clone() });
        let diff = diff::compare(&compile(&models), &compile(&renamed.collect::<Vec<_>>()), 0);
        prop_assert_eq!(diff.changes, vec![]);
    }
}
