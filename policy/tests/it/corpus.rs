//! Every file of `tests/corpus` is a policy with its cases; each case must pass and no file may have a finding.
//!
//! A case names the rule that decides it. One without is decided by none: a default, or a path that is refused.

use std::path::Path;

use portcullis_policy::testing::Decided;
use portcullis_policy::{File, Options, Policy, testing};

#[test]
fn every_case_of_the_corpus_passes() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let (mut cases, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        // Istio's have findings by their nature; see `istio.rs`.
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let files = [File { name: &name, bytes: &bytes }];
        let compiled = Policy::compile(&files).unwrap_or_else(|found| panic!("{found}"));
        assert!(compiled.warnings.is_empty(), "{}", compiled.warnings);
        for outcome in testing::run(&files, &Options::default(), &compiled, 0).unwrap() {
            let case = outcome.case;
            let by_rule = matches!(outcome.decided, Decided::Decision(decision) if decision.verdict.rule().is_some());
            if !outcome.passed || by_rule != case.rule.is_some() {
                wrong.push(format!("{}: {}: {:?}: {}", case.origin, case.name, outcome.decided, outcome.reason));
            }
            cases += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {cases} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases > 800, "only {cases} cases were found");
}

#[test]
fn a_wrong_expectation_fails() {
    let text = "apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec: {allow: [{name: r, to: {methods: [GET, HEAD]}}]}
---
apiVersion: policy.portcullis.dev/v1
kind: PolicyTest
metadata: {name: t}
spec:
  cases:
    - {name: wrong decision, caller: spiffe://t/a, workload: spiffe://t/b, request: {port: 1, method: POST, path: /}, expect: allow}
    - {name: wrong rule, caller: spiffe://t/a, workload: spiffe://t/b, request: {port: 1, method: GET, path: /}, expect: allow, rule: x}
    - {name: refused path, caller: spiffe://t/a, workload: spiffe://t/b, request: {port: 1, method: GET, path: /%zz}, expect: allow}
";
    let files = [File { name: "a.yaml", bytes: text.as_bytes() }];
    let compiled = Policy::compile(&files).unwrap();
    let outcomes = testing::run(&files, &Options::default(), &compiled, 0).unwrap();
    let reasons: Vec<&str> = outcomes.iter().map(|outcome| outcome.reason.as_str()).collect();
    assert!(outcomes.iter().all(|outcome| !outcome.passed));
    assert_eq!(
        reasons,
        [
            "no rule allows it; rule `r` of `p` failed only on method: POST is not GET or HEAD",
            "rule `r` of `p` allows it",
            "answered with 400: the path holds a bad escape",
        ]
    );
}
