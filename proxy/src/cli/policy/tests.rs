//! Tests of `policy.rs` through its command line: what is printed in each format, and how it ends.
//!
//! The golden files in `tests/` are written anew when `UPDATE_GOLDEN` is set.

use std::fs;
use std::path::Path;

use clap::{CommandFactory, Parser};
use serde_json::Value;

use super::*;

#[derive(Debug, Parser)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

/// What is printed, and the error that it ends with.
fn portcullis_with(paint: Paint, arguments: &[&str]) -> (String, Option<String>) {
    let program = match Program::try_parse_from(std::iter::once(&"policy").chain(arguments)) {
        Ok(program) => program,
        Err(error) => return (String::new(), Some(format!("usage: {error}"))),
    };
    let mut out = Vec::new();
    let error = run(&program.command, paint, &mut out).err();
    let error = error.map(|error| format!("{}{error}", if error.exit_code() == 64 { "usage: " } else { "" }));
    (String::from_utf8(out).unwrap(), error)
}

pub(super) fn portcullis(line: &str, directory: &Path) -> (String, Option<String>) {
    let line = line.replace("DIR", &directory.display().to_string());
    portcullis_with(Paint::Plain, &line.split_whitespace().collect::<Vec<_>>())
}

pub(super) const POLICY: &str = r#"apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: eligibility-api, namespace: eligibility}
spec:
  target: {identities: [spiffe://prod.health.internal/ns/eligibility/sa/api]}
  allow:
    - name: adjudicator-reads
      from: {identities: [spiffe://prod.health.internal/ns/claims/sa/adjudicator]}
      to: {ports: [8080], methods: [GET, HEAD], paths: ["/v1/members/{id}/coverage", "/v1/plans/**"]}
    - name: adjudicator-reads-plans
      from: {identities: [spiffe://prod.health.internal/ns/claims/sa/adjudicator]}
      to: {ports: [8080], methods: [GET], paths: ["/v1/plans/gold"]}
    - name: migration
      from: {identities: [spiffe://prod.health.internal/ns/claims/sa/migrator]}
      to: {ports: [8080], methods: [POST], paths: ["/v1/plans"]}
      expires: 2027-01-20T00:00:00Z
      ticket: CHG0031337
  deny:
    - name: only-operators-administer
      from: {notIdentities: ["spiffe://prod.health.internal/ns/ops/sa/*"]}
      to: {paths: ["/v1/plans/admin/**"]}
"#;

const TESTS: &str = r#"apiVersion: policy.portcullis.dev/v1
kind: PolicyTest
metadata: {name: eligibility-api}
spec:
  cases:
    - name: adjudicator reads coverage
      caller: spiffe://prod.health.internal/ns/claims/sa/adjudicator
      workload: spiffe://prod.health.internal/ns/eligibility/sa/api
      request: {port: 8080, method: GET, path: /v1/members/42/coverage}
      expect: allow
    - name: "adjudicator writes \e[31m"
      caller: spiffe://prod.health.internal/ns/claims/sa/adjudicator
      workload: spiffe://prod.health.internal/ns/eligibility/sa/api
      request: {port: 8080, method: POST, path: /v1/members/42/coverage}
      expect: allow
    - name: adjudicator administers
      caller: spiffe://prod.health.internal/ns/claims/sa/adjudicator
      workload: spiffe://prod.health.internal/ns/eligibility/sa/api
      request: {port: 8080, method: GET, path: /v1/plans/admin/x}
      expect: deny
      rule: adjudicator-reads
    - name: an escaped slash
      caller: spiffe://prod.health.internal/ns/claims/sa/adjudicator
      workload: spiffe://prod.health.internal/ns/eligibility/sa/api
      request: {port: 8080, method: GET, path: /v1/plans/a%2fb}
      expect: deny
"#;

pub(super) fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

pub(super) fn compare(name: &str, text: &str, folder: &Path) {
    let text = text.replace(&folder.display().to_string(), "DIR");
    let text = text.replace(&format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION")), "\"version\": \"VERSION\"");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/policy/tests").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &text).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(text, expected, "{name}");
}

const WHO: &str = "--caller spiffe://prod.health.internal/ns/claims/sa/adjudicator \
                   --workload spiffe://prod.health.internal/ns/eligibility/sa/api";
pub(super) const AT: &str = "--at 2027-01-15T08:00:00Z";

#[test]
fn the_command_line_is_well_formed() {
    Program::command().debug_assert();
}

#[test]
fn every_command_prints_every_format() {
    let folder = directory(&[("policy.yaml", POLICY), ("tests.yaml", TESTS)]);
    let explain = format!("explain DIR {AT} {WHO} --port 8080 --method POST --path /v1/plans/gold?x=1");
    let lines = [("explain", explain), ("test", format!("test DIR {AT}")), ("check", format!("check DIR {AT}"))];
    for (name, line) in lines {
        for (format, extension) in [("human", "txt"), ("json", "json"), ("sarif", "sarif"), ("github", "github.txt")] {
            let (text, error) = portcullis(&format!("{line} --format {format}"), folder.path());
            assert_eq!(error.is_none(), name == "explain", "{line}: {error:?}");
            assert!(!text.contains('\u{1b}'), "{line} --format {format}");
            compare(&format!("{name}.{extension}"), &text, folder.path());
        }
    }
    let line = format!("check DIR {AT}").replace("DIR", &folder.path().display().to_string());
    let (text, _) = portcullis_with(Paint::Colours, &line.split_whitespace().collect::<Vec<_>>());
    assert!(text.contains("\u{1b}[1;33mwarning[P101]\u{1b}[0m"), "{text}");
}

#[test]
fn mistakes_and_missing_cases_look_the_same_in_every_format() {
    let mistakes = directory(&[
        ("a.yaml", &POLICY.replace("methods:", "methdos:").replace("mode: enforce", "mode: 1")),
        ("b,c.yaml", &TESTS.replace("expect: deny", "expect: no").replace("port: 8080", "port: 08080")),
        ("d.yaml", "kind: [Service"),
    ]);
    let untested = directory(&[("policy.yaml", POLICY)]);
    let rows = [
        ("mistakes", "check DIR".to_owned(), &mistakes, "the policies do not load: 10 mistakes"),
        ("no-cases", format!("test DIR {AT} --min-coverage 50"), &untested, "there is no test case"),
    ];
    for (name, line, folder, ends) in rows {
        for (format, extension) in [("human", "txt"), ("json", "json"), ("sarif", "sarif"), ("github", "github.txt")] {
            let (text, error) = portcullis(&format!("{line} --format {format}"), folder.path());
            assert_eq!(error.as_deref(), Some(ends), "{line} --format {format}");
            compare(&format!("{name}.{extension}"), &text, folder.path());
        }
    }
}

#[test]
fn explain_answers_what_is_pinned() {
    let folder = directory(&[("policy.yaml", POLICY)]);
    let asked = |more: &str| {
        let (text, error) = portcullis(&format!("explain DIR {AT} {WHO} {more} --format json"), folder.path());
        assert_eq!(error, None, "{more}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let source = |line: usize| format!("{}/policy.yaml:{line}", folder.path().display());
    let rows = [
        ("--port 8080 --method GET --path /v1/plans/silver?a=/b", "allow", Some(("adjudicator-reads", 7))),
        // The path is brought to the form in which the proxy forwards it.
        ("--port 8080 --method GET --path /x/..//v1/plans/%73ilver", "allow", Some(("adjudicator-reads", 7))),
        ("--port 8080 --method GET --path /v1/plans/admin/x", "deny", Some(("only-operators-administer", 19))),
        ("--port 8080 --path /v1/plans/x", "allow", Some(("adjudicator-reads", 7))),
        ("--port 8080 --method PUT --path /v1/plans/x", "deny", None),
        ("--port 8080 --method GET --path /v1/plans/a%2fb", "deny", None),
        ("--port 8080", "deny", Some(("only-operators-administer", 19))),
    ];
    for (more, decision, rule) in rows {
        let answer = asked(more);
        assert_eq!(answer["decision"], decision, "{more}: {answer}");
        assert_eq!(answer["rule"].as_str(), rule.map(|(name, _)| name), "{more}: {answer}");
        assert_eq!(answer["policy"].as_str(), rule.map(|_| "eligibility-api"), "{more}");
        assert_eq!(answer["source"].as_str().map(str::to_owned), rule.map(|(_, line)| source(line)), "{more}");
        assert!(answer["reason"].is_string(), "{more}");
    }
    assert_eq!(asked("--port 8080 --path /v1/plans/a%2fb")["status"], 400);
    assert_eq!(asked("--port 8080")["http"], "per_request");
    assert_eq!(asked("--port 9")["http"], "deny");
    let reason = asked("--method GET --path /v1/plans/x")["reason"].as_str().unwrap().to_owned();
    assert!(reason.ends_with("(no --port was given)"), "{reason}");
    let migrator = |at: &str| {
        let line = format!("explain DIR --at {at} {WHO} --port 8080 --method POST --path /v1/plans --format json");
        let (text, _) = portcullis(&line.replace("sa/adjudicator", "sa/migrator"), folder.path());
        serde_json::from_str::<Value>(&text).unwrap()["decision"].clone()
    };
    assert_eq!((migrator("2027-01-19T23:59:59Z"), migrator("2027-01-20T00:00:00Z")), ("allow".into(), "deny".into()));
}

#[test]
fn several_directories_are_one_set() {
    let (policies, tests) = (directory(&[("policy.yaml", POLICY)]), directory(&[("tests.yaml", TESTS)]));
    let both = format!("test {} DIR", policies.path().display());
    let (text, error) = portcullis(&both, tests.path());
    assert_eq!(error.as_deref(), Some("2 of 4 cases failed"), "{text}");
    let (_, error) = portcullis("test DIR", policies.path());
    assert_eq!(error.as_deref(), Some("there is no test case"));
}

#[test]
fn coverage_may_be_asked_for() {
    let passing = TESTS.split("    - name: \"adjudicator writes").next().unwrap();
    let folder = directory(&[("policy.yaml", POLICY), ("tests.yaml", passing)]);
    assert_eq!(portcullis("test DIR --min-coverage 25", folder.path()).1, None);
    let (text, error) = portcullis("test DIR --min-coverage 26 --format github", folder.path());
    assert_eq!(error.as_deref(), Some("25 % of the rules are exercised, and --min-coverage is 26 %"));
    assert!(text.contains("::error title=P192::"), "{text}");
}

#[test]
fn mistakes_are_listed_whole_by_every_command() {
    let folder = directory(&[
        ("a.yaml", &POLICY.replace("methods:", "methdos:")),
        ("b\u{1b}[31m.yaml", &TESTS.replace("expect: deny", "expect: no")),
    ]);
    for line in ["check DIR".to_owned(), "test DIR".to_owned(), format!("explain DIR {WHO}")] {
        let (text, error) = portcullis(&line, folder.path());
        assert_eq!(error.as_deref(), Some("the policies do not load: 5 mistakes"), "{line}: {text}");
        assert!(
            text.contains("error[P009]: unknown key `methdos`") && text.contains("= help: did you mean `methods`?")
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let (text, _) = portcullis(&format!("{line} --format json"), folder.path());
        let found = serde_json::from_str::<Value>(&text).unwrap();
        assert_eq!(found["findings"].as_array().unwrap().len(), 5);
    }
}

#[test]
fn check_takes_an_inventory_a_configuration_and_codes_to_ignore() {
    let config = "identity: {directory: id}\ntrust: [{trustDomain: prod.health.internal, bundle: b.pem}]\n\
                  policy: {directory: p}\ninbound: [{listen: '127.0.0.1:1', forward: '127.0.0.1:8080', protocol: tcp}]\n";
    let folder = directory(&[
        ("policy.yaml", POLICY),
        ("inventory", "spiffe://prod.health.internal/ns/claims/sa/adjudicators\n"),
        ("empty", "# nobody\n"),
        ("sidecar", config),
        ("wrong", "identity: 1\n"),
        (
            "caller",
            &format!(
                "{config}outbound: [{{listen: '127.0.0.1:2', connect: 'a:1', protocol: http, service: ledger}}]\n"
            ),
        ),
    ]);
    let api = "--workload spiffe://prod.health.internal/ns/eligibility/sa/api";
    for (more, ends, word) in [
        ("", "0 errors and 2 warnings", "warning[P101]"),
        ("--ignore P101 --ignore P121", "", "note[P140]"),
        (
            "--ignore P101 --ignore P121 --inventory DIR/inventory",
            "0 errors and 5 warnings",
            "did you mean `spiffe://prod.health.internal/ns/claims/sa/adjudicators`?",
        ),
        ("--inventory DIR/empty", "the policies do not load: 1 mistake", "names no identity"),
        ("--inventory DIR/nowhere", "`DIR/nowhere` cannot be used: No such file or directory (os error 2)", ""),
        (&format!("--config DIR/sidecar {api}"), "3 errors and 2 warnings", "error[C022]"),
        (
            "--config DIR/sidecar",
            "usage: the configuration names no `identity.spiffeId`: say whose sidecar it is for with --workload",
            "",
        ),
        (
            "--config DIR/sidecar --workload spiffe://prod.health.internal/ns/x/sa/y",
            "0 errors and 2 warnings",
            "warning[P101]",
        ),
        (
            "--config DIR/caller --workload spiffe://prod.health.internal/ns/x/sa/y",
            "0 errors and 3 warnings",
            "warning[P162]: no document defines the Service `ledger`, which the sidecar's configuration names",
        ),
        ("--config DIR/wrong", "the policies do not load", "error[C"),
    ] {
        let (text, error) = portcullis(&format!("check DIR {AT} {more}"), folder.path());
        let error = error.unwrap_or_default().replace(&folder.path().display().to_string(), "DIR");
        assert!(error.starts_with(ends) && error.is_empty() == ends.is_empty(), "{more}: {error}\n{text}");
        assert!(text.contains(word), "{more}: {text}");
    }
}

#[test]
fn documents_are_read_as_the_configuration_says_unless_the_command_line_does() {
    let istio = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: not-them, namespace: mesh}\n\
                 spec:\n  action: DENY\n  selector: {matchLabels: {app: api}}\n  rules:\n    - from: [{source: {principals: \
                 [cluster.local/ns/claims/sa/adjudicator]}}]\n";
    let case = "apiVersion: policy.portcullis.dev/v1\nkind: PolicyTest\nmetadata: {name: t}\nspec:\n  cases:\n    - name: \
                others\n      caller: spiffe://prod.health.internal/ns/ops/sa/cron\n      workload: \
                spiffe://prod.health.internal/ns/eligibility/sa/api\n      request: {port: 8080, method: GET, path: /}\n      \
                expect: allow\n";
    let folder = directory(&[("istio.yaml", istio), ("case.yaml", case), ("labels", "app=\"api\"\n")]);
    let config = |name: &str, policy: &str| {
        let text = format!(
            "identity: {{directory: id, spiffeId: 'spiffe://prod.health.internal/ns/eligibility/sa/api'}}\n\
             trust: [{{trustDomain: prod.health.internal, bundle: b.pem}}]\npolicy: {{directory: p, rootNamespace: mesh, \
             clusterLocal: prod.health.internal, defaultAction: allow, {policy}}}\n\
             inbound: [{{listen: '127.0.0.1:1', forward: '127.0.0.1:8080', protocol: http}}]\n"
        );
        fs::write(folder.path().join(name), text).unwrap();
    };
    config("labelled", "labels: {app: api}");
    config("by-file", &format!("labelsFile: '{}/labels'", folder.path().display()));
    config("nowhere", "labelsFile: /nowhere/labels");
    for (more, decision, policy) in [
        ("", "deny", None),
        ("--config DIR/labelled", "deny", Some("not-them")),
        ("--config DIR/by-file", "deny", Some("not-them")),
        ("--config DIR/nowhere --label app=api", "deny", Some("not-them")),
        ("--config DIR/labelled --label app=web", "allow", None),
        ("--config DIR/labelled --root-namespace istio-system", "allow", None),
        ("--config DIR/labelled --cluster-local test.health.internal", "allow", None),
        ("--config DIR/labelled --label app=web --default-action deny", "deny", None),
    ] {
        let (text, error) = portcullis(&format!("explain DIR {WHO} --path / --format json {more}"), folder.path());
        assert_eq!(error, None, "{more}");
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((told["decision"].as_str(), told["policy"].as_str()), (Some(decision), policy), "{more}: {text}");
    }
    let (_, error) = portcullis(&format!("explain DIR {WHO} --config DIR/nowhere"), folder.path());
    assert!(error.as_ref().is_some_and(|error| error.contains("`/nowhere/labels`")), "{error:?}");

    for (more, passes) in
        [("", false), ("--config DIR/labelled", true), ("--config DIR/labelled --default-action deny", false)]
    {
        let (text, error) = portcullis(&format!("test DIR {more}"), folder.path());
        assert_eq!(error.is_none(), passes, "{more}: {text}");
    }

    // P081: nothing allows. P091: `cluster.local` as it stands. P092: no labels.
    for (more, expected) in [
        ("", ["P081", "P091", "P092"].as_slice()),
        ("--config DIR/labelled", &[]),
        ("--config DIR/labelled --default-action deny", &["P081"]),
    ] {
        let (text, _) = portcullis(&format!("check DIR --format json {more}"), folder.path());
        let told: Value = serde_json::from_str(&text).unwrap();
        let codes: Vec<_> =
            told["findings"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
        let told: Vec<_> = ["P081", "P091", "P092"].into_iter().filter(|code| codes.contains(code)).collect();
        assert_eq!(told, expected, "{more}: {codes:?}");
    }
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    let folder = directory(&[("policy.yaml", POLICY)]);
    for (line, word) in [
        ("check".to_owned(), "DIR"),
        ("check DIR --format xml".to_owned(), "github"),
        ("check DIR --at noon".to_owned(), "RFC 3339"),
        ("check DIR --workload spiffe://t/a".to_owned(), "--config"),
        ("test DIR --min-coverage 101".to_owned(), "101"),
        ("explain DIR --caller spiffe://t/a".to_owned(), "--workload"),
        (format!("explain DIR {WHO} --port 0"), "0"),
        (format!("explain DIR {WHO} --method G(T"), "method"),
        (format!("explain DIR {WHO} --method CONNECT"), "405"),
        (format!("explain DIR {WHO} --host a:x"), "malformed"),
        (format!("explain DIR {WHO} --header x"), "NAME=VALUE"),
        (format!("explain DIR {WHO} --header host=a"), "--host"),
        (format!("explain DIR {WHO} --label x"), "KEY=VALUE"),
        ("explain DIR --caller x --workload y".to_owned(), "caller"),
    ] {
        let (_, error) = portcullis(&line, folder.path());
        let error = error.unwrap_or_default();
        assert!(error.starts_with("usage: ") && error.contains(word), "{line}: {error}");
    }
    let (_, error) = portcullis("check DIR/nowhere", folder.path());
    assert!(error.unwrap().contains("does not exist"));
}

#[test]
fn workflow_commands_cannot_be_broken_out_of() {
    let place = format::Place { file: "a:b,c\n::warning::x", line: 1, column: 2 };
    let text = format::workflow_command("error", Some(place), "P0,1", "100%\n::stop-commands::x\r\u{1b}[31m");
    assert_eq!(
        text,
        "::error file=a%3Ab%2Cc%0A%3A%3Awarning%3A%3Ax,line=1,col=2,title=P0%2C1::100%25%0A::stop-commands::x\\r\\u{1b}[31m\n"
    );
}

#[test]
fn the_handbook_has_every_code() {
    let handbook = include_str!("../../../../docs/policy.md");
    for code in portcullis_policy::codes::ALL {
        let row = format!("| `{}` | {} | {} |", code.code, code.title, code.remedy);
        assert!(handbook.contains(&row), "docs/policy.md lacks\n{row}");
    }
}
