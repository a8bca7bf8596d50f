//! Istio's policies, by what Istio's reference says that they mean: a corpus that tests itself, the options that they are
//! read with, and generated policies against an oracle.

use std::collections::{BTreeMap, HashSet};
use std::path::Path as FilePath;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use portcullis_policy::findings::{Question, examine};
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{
    Admission, Connection, DefaultAction, Denial, File, Options, Policy, Request, RuleRef, Verdict, testing,
};
use spiffe::{SpiffeId, TrustDomain};

use crate::istio_oracle::{Ask, Judgement, Policy as Model, asks, judged, judged_opaque, policies};
use crate::properties::{ask as ask_facts, cases};
use crate::{istio_oracle, oracle};

#[test]
fn every_case_of_the_corpus_passes() {
    let directory = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/istio");
    let mut cases = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let files = [File { name: &name, bytes: &bytes }];
        let compiled = Policy::compile(&files).unwrap_or_else(|found| panic!("{found}"));
        for outcome in testing::run(&files, &Options::default(), &compiled, 0).unwrap() {
            let case = outcome.case;
            assert!(outcome.passed, "{}: {}: {:?}: {}", case.origin, case.name, outcome.decided, outcome.reason);
            cases += 1;
        }
    }
    assert!(cases > 150, "only {cases} cases were found");
}

fn document(metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn compile(options: &Options, documents: &str) -> Policy {
    Policy::compile_with(&[File { name: "a.yaml", bytes: documents.as_bytes() }], options)
        .unwrap_or_else(|found| panic!("{found}"))
        .policy
}

/// Asks about opaque TCP.
fn opaque<T>(caller: &str, workload: &str, ask: impl FnOnce(&Connection<'_>) -> T) -> T {
    let (caller, workload) = (SpiffeId::new(caller).unwrap(), SpiffeId::new(workload).unwrap());
    let address = "192.0.2.1".parse().unwrap();
    let (source, destination) = (address, address);
    ask(&Connection { caller: &caller, workload: &workload, port: 80, source, destination, server_name: None, now: 0 })
}

fn allowed(policy: &Policy, caller: &str, workload: &str) -> bool {
    opaque(caller, workload, |connection| policy.admit_opaque(connection).verdict.is_allow())
}

fn name(policy: &Policy, rule: RuleRef) -> String {
    policy.rule(rule).map(|rule| format!("{}/{}", rule.policy, rule.name)).unwrap()
}

#[test]
fn audit_marks_and_decides_nothing() {
    let documents = document("name: all, namespace: foo", "rules: [{}]")
        + &document("name: mark, namespace: foo", "action: AUDIT, rules: [{to: [{operation: {paths: [/x]}}]}]")
        + &document("name: mark-b, namespace: foo", "action: AUDIT, rules: [{from: [{source: {namespaces: [b]}}]}]");
    let policy = compile(&Options::default(), &documents);
    let ask = |caller: &str, target: &str| {
        opaque(caller, "spiffe://t/ns/foo/sa/w", |connection| {
            let path = Path::normalise(target.as_bytes(), EncodedSlash::Refuse).unwrap();
            let headers: Vec<(String, String)> = Vec::new();
            let decision = policy.decide(&Request {
                connection: *connection,
                method: "GET",
                host: "",
                path: &path,
                headers: &headers,
            });
            assert!(decision.verdict.is_allow());
            assert_eq!(decision.audit, None);
            decision.marked.map(|rule| name(&policy, rule))
        })
    };
    assert_eq!(ask("spiffe://t/ns/a/sa/x", "/x").as_deref(), Some("mark/rules[0]"));
    assert_eq!(ask("spiffe://t/ns/a/sa/x", "/y"), None);
    assert_eq!(ask("spiffe://t/ns/b/sa/x", "/y").as_deref(), Some("mark-b/rules[0]"));
    // On TCP nothing of HTTP is asked for.
    let decision =
        opaque("spiffe://t/ns/a/sa/x", "spiffe://t/ns/foo/sa/w", |connection| policy.admit_opaque(connection));
    assert!(decision.verdict.is_allow());
    assert_eq!(decision.marked.map(|rule| name(&policy, rule)).as_deref(), Some("mark/rules[0]"));
}

#[test]
fn a_dry_run_tells_what_it_would_decide() {
    let documents = document("name: all, namespace: foo", "rules: [{}]")
        + &document(
            "name: tried, namespace: foo, annotations: {istio.io/dry-run: 'true'}",
            "action: DENY, rules: [{from: [{source: {namespaces: [b]}}]}]",
        );
    let policy = compile(&Options::default(), &documents);
    let ask = |caller: &str| {
        let decision = opaque(caller, "spiffe://t/ns/foo/sa/w", |connection| policy.admit_opaque(connection));
        assert!(decision.verdict.is_allow());
        decision.audit.and_then(Verdict::rule).map(|rule| name(&policy, rule))
    };
    assert_eq!(ask("spiffe://t/ns/b/sa/x").as_deref(), Some("tried/rules[0]"));
    assert_eq!(ask("spiffe://t/ns/a/sa/x"), None);
}

#[test]
fn cluster_local_is_the_meshs_own_trust_domain_in_whole_principals() {
    let allow = |principal: &str| {
        document(
            "name: p, namespace: foo",
            &format!("rules: [{{from: [{{source: {{principals: ['{principal}']}}}}]}}]"),
        )
    };
    let workload = "spiffe://prod/ns/foo/sa/w";
    let is_allowed = |local: Option<&str>, principal: &str, caller: &str| {
        let cluster_local = local.map(|local| TrustDomain::new(local).unwrap());
        let options = Options { cluster_local, ..Options::default() };
        allowed(&compile(&options, &allow(principal)), caller, workload)
    };
    let prod = Some("prod");
    for (local, principal, caller, expected) in [
        (prod, "cluster.local/ns/a/sa/b", "spiffe://prod/ns/a/sa/b", true),
        (prod, "cluster.local/ns/a/sa/b", "spiffe://cluster.local/ns/a/sa/b", false),
        (prod, "cluster.local/ns/a/sa/*", "spiffe://prod/ns/a/sa/c", true),
        (prod, "cluster.local/ns/a/*", "spiffe://prod/ns/a/sa/b", false),
        (prod, "cluster.local/ns/a/*", "spiffe://cluster.local/ns/a/sa/b", true),
        (None, "cluster.local/ns/a/sa/b", "spiffe://prod/ns/a/sa/b", false),
        (None, "cluster.local/ns/a/sa/b", "spiffe://cluster.local/ns/a/sa/b", true),
        (prod, "cluster.localhost/ns/a/sa/b", "spiffe://prod/ns/a/sa/b", false),
    ] {
        assert_eq!(is_allowed(local, principal, caller), expected, "{local:?} {principal} {caller}");
    }
}

#[test]
fn the_root_namespace_and_the_default_are_given() {
    let root = document("name: all, namespace: mesh-root", "rules: [{}]");
    let options = Options { root_namespace: "mesh-root".to_owned(), ..Options::default() };
    let (caller, workload) = ("spiffe://t/ns/a/sa/x", "spiffe://t/ns/foo/sa/w");
    assert!(allowed(&compile(&options, &root), caller, workload));
    assert!(!allowed(&compile(&Options::default(), &root), caller, workload));
    let deny = document("name: d, namespace: foo", "action: DENY, rules: [{from: [{source: {namespaces: [b]}}]}]");
    let options = Options { default_action: DefaultAction::Allow, ..Options::default() };
    let policy = compile(&options, &deny);
    assert!(allowed(&policy, caller, workload));
    assert!(!allowed(&policy, "spiffe://t/ns/b/sa/x", workload));
    // An ALLOW without rules is an ALLOW: what it does not allow is denied.
    let policy = compile(&options, &(deny + &document("name: nothing, namespace: foo", "")));
    let verdict = opaque(caller, workload, |connection| policy.admit_opaque(connection).verdict);
    assert_eq!(verdict, Verdict::Deny(Denial::NoRule));
    assert!(allowed(&policy, caller, "spiffe://t/ns/other/sa/w"));
}

fn compile_models(models: &[Model], labels: &BTreeMap<String, String>) -> Policy {
    let documents: Vec<(String, String)> =
        models.iter().enumerate().map(|(index, model)| (format!("{index}.yaml"), model.document())).collect();
    let files: Vec<File<'_>> = documents.iter().map(|(name, text)| File { name, bytes: text.as_bytes() }).collect();
    let options =
        Options { labels: labels.clone(), cluster_local: Some(TrustDomain::new("t").unwrap()), ..Options::default() };
    Policy::compile_with(&files, &options).unwrap_or_else(|found| panic!("{found}")).policy
}

fn with_request<T>(ask: &Ask, judge: impl FnOnce(&Request<'_>, &[&str]) -> T) -> T {
    let (caller, workload) = (SpiffeId::new(ask.caller).unwrap(), SpiffeId::new(ask.workload).unwrap());
    let connection = Connection {
        caller: &caller,
        workload: &workload,
        port: ask.port,
        source: ask.source.parse().unwrap(),
        destination: ask.destination.parse().unwrap(),
        server_name: ask.server_name,
        now: 0,
    };
    let path = Path::normalise(ask.target.as_bytes(), EncodedSlash::Refuse).unwrap();
    let headers: Vec<(String, String)> =
        ask.headers.iter().map(|value| ("X-A".to_owned(), (*value).to_owned())).collect();
    let readings: Vec<&str> = path.readings().into_iter().flatten().collect();
    judge(&Request { connection, method: ask.method, host: ask.host, path: &path, headers: &headers }, &readings)
}

fn judgement(policy: &Policy, verdict: Verdict) -> Judgement {
    match verdict {
        Verdict::Allow(rule) => Judgement::Allow(name(policy, rule)),
        Verdict::Deny(_) => Judgement::Deny(verdict.rule().map(|rule| name(policy, rule))),
        Verdict::AllowByDefault => panic!("nothing is allowed by default here"),
    }
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let app = prop::option::of(prop::sample::select(vec!["a", "b"]));
    app.prop_map(|app| app.map(|app| ("app".to_owned(), app.to_owned())).into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5 * cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decisions_equal_the_oracle(models in policies(), labels in labels(), all in prop::collection::vec(asks(), 30)) {
        let policy = compile_models(&models, &labels);
        for ask in all {
            let app = labels.get("app").map(String::as_str);
            with_request(&ask, |request, readings| {
                let decision = policy.decide(request);
                let expected = judged(&models, app, &ask, readings);
                prop_assert_eq!(judgement(&policy, decision.verdict), expected.verdict, "{:?} {:?}", &models, &ask);
                prop_assert_eq!(decision.marked.map(|rule| name(&policy, rule)), expected.marked, "{:?}", &ask);
                let opaque = policy.admit_opaque(&request.connection);
                let expected = judged_opaque(&models, app, &ask);
                prop_assert_eq!(judgement(&policy, opaque.verdict), expected.verdict, "{:?} {:?}", &models, &ask);
                prop_assert_eq!(opaque.marked.map(|rule| name(&policy, rule)), expected.marked, "{:?}", &ask);
                // What is said of the connection before its first request must hold of this one.
                match policy.admit(&request.connection) {
                    Admission::Allow(_) => prop_assert!(decision.verdict.is_allow() || readings.is_empty()),
                    Admission::Deny(_) => prop_assert!(!decision.verdict.is_allow()),
                    Admission::PerRequest => {}
                }
                let explained = policy.explain(request);
                prop_assert_eq!(explained.decision, decision);
                Ok(())
            })?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Policies of both languages are one set: what one denies is denied, what neither denies and one allows is allowed.
    #[test]
    fn both_languages_decide_together(
        ours in oracle::models(),
        theirs in policies(),
        all in prop::collection::vec(oracle::facts(), 20),
    ) {
        let renamed = |model: Model| Model { name: format!("i{}", model.name), ..model };
        let theirs: Vec<Model> = theirs.into_iter().map(renamed).collect();
        let documents = ours.iter().map(oracle::Model::document).chain(theirs.iter().map(Model::document));
        let documents: Vec<String> = documents.collect();
        let options = Options { cluster_local: Some(TrustDomain::new("t").unwrap()), ..Options::default() };
        let policy = compile(&options, &documents.join("---\n"));
        for facts in all {
            let ask = Ask {
                caller: facts.caller,
                workload: facts.workload,
                port: facts.port,
                source: facts.source,
                destination: facts.source,
                server_name: None,
                host: facts.host,
                method: facts.method,
                target: facts.target,
                headers: facts.headers.clone(),
            };
            let together = |ours: oracle::Judgement, theirs: Judgement| match (ours, theirs) {
                (oracle::Judgement::Deny(Some(_)), _) | (_, Judgement::Deny(Some(_))) => false,
                (ours, theirs) => theirs.is_allow() || matches!(ours, oracle::Judgement::Allow(_)),
            };
            ask_facts(&facts, |request, readings| {
                let expected = readings.iter().all(|reading| {
                    let readings = [*reading];
                    let judged = oracle::judged(&ours, &facts, &readings).unwrap();
                    together(judged.0, istio_oracle::judged(&theirs, None, &ask, &readings).verdict)
                });
                let expected = expected && !readings.is_empty();
                prop_assert_eq!(policy.decide(request).verdict.is_allow(), expected, "{:?} {:?}", documents, facts);
                let opaque = policy.admit_opaque(&request.connection).verdict.is_allow();
                let expected = together(oracle::judged_opaque(&ours, &facts).0, judged_opaque(&theirs, None, &ask).verdict);
                prop_assert_eq!(opaque, expected, "{:?} {:?}", documents, facts);
                Ok(())
            })?;
        }
    }
}

/// The rules that are said to change nothing: by the number of their policy, and of themselves in it.
fn reported(models: &[Model]) -> HashSet<(usize, usize)> {
    let documents: Vec<(String, String)> =
        models.iter().enumerate().map(|(index, model)| (format!("{index}.yaml"), model.document())).collect();
    let files: Vec<File<'_>> = documents.iter().map(|(name, text)| File { name, bytes: text.as_bytes() }).collect();
    let options = Options { cluster_local: Some(TrustDomain::new("t").unwrap()), ..Options::default() };
    let question = Question { now: 0, options: &options, inventory: None, sidecar: None };
    let found = examine(&files, &question).unwrap_or_else(|found| panic!("{found}"));
    let changes_nothing = found.iter().filter(|one| ["P101", "P102", "P103", "P104"].contains(&one.code));
    let names = changes_nothing.map(|one| {
        let (rule, rest) = one.message.strip_prefix("rule `rules[").and_then(|rest| rest.split_once(']')).unwrap();
        let policy = rest.strip_prefix("` of `p").and_then(|rest| rest.split('`').next()).unwrap();
        (policy.parse().unwrap(), rule.parse().unwrap())
    });
    names.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_reported_can_be_removed(models in policies(), all in prop::collection::vec(asks(), 12)) {
        let gone = reported(&models);
        let mut fewer = models.clone();
        for (policy, model) in fewer.iter_mut().enumerate() {
            let mut number = 0;
            model.rules.retain(|_| {
                number += 1;
                !gone.contains(&(policy, number - 1))
            });
        }
        for ask in all {
            for app in [None, Some("a"), Some("b")] {
                with_request(&ask, |_, readings| {
                    let is_allowed = |models: &[Model]| judged(models, app, &ask, readings).verdict.is_allow();
                    prop_assert_eq!(is_allowed(&models), is_allowed(&fewer), "{:?} {:?}", gone, ask);
                    let is_allowed = |models: &[Model]| judged_opaque(models, app, &ask).verdict.is_allow();
                    prop_assert_eq!(is_allowed(&models), is_allowed(&fewer), "{:?} {:?}", gone, ask);
                    Ok(())
                })?;
            }
        }
    }
}

/// The property above would hold of a check that finds nothing.
#[test]
fn something_is_reported_of_generated_sets() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut found = 0;
    for _ in 0..200 {
        found += reported(&policies().new_tree(&mut runner).unwrap().current()).len();
    }
    assert!(found > 20, "{found}");
}

/// A part of a rule cannot be taken out by itself: what is left of an ALLOW could then be for opaque TCP as well.
#[test]
fn parts_of_a_rule_are_not_said_to_be_superfluous() {
    let superfluous = |rules: &str| {
        let documents = document("name: p, namespace: foo", &format!("rules: [{rules}]"));
        let files = [File { name: "a.yaml", bytes: documents.as_bytes() }];
        let options = Options::default();
        let question = Question { now: 0, options: &options, inventory: None, sidecar: None };
        let found = examine(&files, &question).unwrap();
        let changes_nothing = found.iter().filter(|one| one.code.starts_with("P10"));
        changes_nothing.map(|one| one.message.clone()).collect::<Vec<_>>()
    };
    let (whole, parts) = (
        "{to: [{operation: {methods: [GET]}}]}",
        "{to: [{operation: {ports: ['80']}}, {operation: {methods: [GET]}}]}",
    );
    for (rules, number) in [(format!("{whole}, {parts}"), 0), (format!("{parts}, {whole}"), 1)] {
        let found = superfluous(&rules);
        assert!(found.len() == 1 && found[0].starts_with(&format!("rule `rules[{number}]` of `p`")), "{found:?}");
    }
}
