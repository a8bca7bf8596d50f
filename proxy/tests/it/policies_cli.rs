//! `portcullis policy` as a program: how it ends, and that hostile documents end in messages.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn policy(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("policy").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn all(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The policy, and a test of it that passes and leaves nothing to be found.
const GOOD: &str = "apiVersion: policy.portcullis.dev/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec:
  target: {identities: [spiffe://t/api]}
  allow:
    - {name: reads, from: {identities: [spiffe://t/caller]}, to: {methods: [GET], paths: [/a]}}
---
apiVersion: policy.portcullis.dev/v1
kind: PolicyTest
metadata: {name: p}
spec:
  cases:
    - name: reads
      caller: spiffe://t/caller
      workload: spiffe://t/api
      request: {port: 80, method: GET, path: /a}
      expect: allow
";

fn directory(root: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let directory = root.join(name);
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("p.yaml"), text).unwrap();
    directory.display().to_string()
}

#[test]
fn it_ends_with_0_1_or_64() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let good = directory(root, "good", GOOD);
    let failing = directory(root, "failing", GOOD.replace("expect: allow", "expect: deny"));
    let wide = directory(
        root,
        "wide",
        GOOD.replace("spiffe://t/caller], ", "'spiffe://t/**'], ").replace("spiffe://t/caller]", "'spiffe://t/**']"),
    );
    let broken = directory(root, "broken", GOOD.replace("kind: PolicyTest", "kind: PolicyTst"));
    let large = directory(root, "large", vec![b'['; 1024 * 1024]);
    let junk = directory(root, "junk", vec![0xff; 1024 * 1024 + 7]);
    let who = ["--caller", "spiffe://t/caller", "--workload", "spiffe://t/api", "--format", "json"];
    let explain = |directory: &str, more: &[&str]| -> Vec<String> {
        ["explain", directory].iter().chain(&who).chain(more).map(|one| (*one).to_owned()).collect()
    };
    let plain = |words: &[&str]| words.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    for (arguments, code, word) in [
        (plain(&["check", &good]), 0, "nothing found"),
        (plain(&["check", &wide]), 1, "warning[P110]"),
        (plain(&["check", &broken]), 1, "did you mean `PolicyTest`?"),
        (plain(&["check", &large]), 1, "error[P004]"),
        (plain(&["check", &junk]), 1, "error[P002]"),
        (plain(&["check", "/nowhere"]), 1, "does not exist"),
        (plain(&["check"]), 64, "DIR"),
        (plain(&["test", &good, "--min-coverage", "100"]), 0, "1 passed, 0 failed"),
        (plain(&["test", &failing]), 1, "FAILED `reads`"),
        (plain(&["test", &broken]), 1, "error[P020]"),
        (plain(&["test", &good, "--format", "xml"]), 64, "xml"),
        (explain(&good, &["--method", "GET", "--path", "/a?b"]), 0, "\"decision\": \"allow\""),
        (explain(&good, &["--method", "POST", "--path", "/a"]), 0, "\"decision\": \"deny\""),
        (explain(&good, &[]), 0, "\"http\": \"per_request\""),
        (explain(&broken, &[]), 1, "P020"),
        (explain("/nowhere", &[]), 1, "does not exist"),
        (explain(&good, &["--port", "x"]), 64, "--port"),
        (plain(&["schema"]), 0, "https://json-schema.org/draft/2020-12/schema"),
    ] {
        let begun = Instant::now();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = policy(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", all(&output));
        assert!(all(&output).contains(word), "{arguments:?}: {word} is missing from\n{}", all(&output));
        assert!(begun.elapsed() < Duration::from_secs(20), "{arguments:?} took {:?}", begun.elapsed());
    }
}

/// Ten thousand rules in a megabyte, each of which could cover any other.
#[test]
fn a_full_document_of_alike_rules_is_checked_in_time() {
    let mut text = GOOD.split("    - {name: reads").next().unwrap().to_owned();
    for number in 0..9000 {
        let rule = format!(
            "    - {{name: r{number}, from: {{identities: ['spiffe://t/*']}}, to: {{paths: ['/*/{number}']}}}}\n"
        );
        text.push_str(&rule);
    }
    assert!(text.len() < 1024 * 1024, "{}", text.len());
    let folder = tempfile::tempdir().unwrap();
    let full = directory(folder.path(), "full", text);
    let begun = Instant::now();
    let output = policy(&["check", &full]);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    assert!(all(&output).contains("note[P199]"), "{}", all(&output));
    assert!(begun.elapsed() < Duration::from_secs(60), "it took {:?}", begun.elapsed());
}
