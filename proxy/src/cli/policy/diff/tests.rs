//! `policy diff` through its command line: in each format, of directories and of Git revisions.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cli::policy::tests::{AT, POLICY, compare, directory, portcullis};

/// The policy with a wider rule, one fewer, and a new denial.
fn changed() -> String {
    let wider = POLICY.replace("[GET, HEAD]", "[GET, HEAD, PUT]").replace("/v1/plans/**", "/v1/plans/**\", \"/v2/**");
    let migration = wider.find("    - name: migration").unwrap();
    let deny = wider.find("  deny:").unwrap();
    let mut text = wider;
    text.replace_range(migration..deny, "");
    text + "    - name: no-test-tenant\n      when: {headers: {x-tenant: ['`|@test<b>']}}\n"
}

/// Two directories below one.
fn two(base: &str, head: &str) -> tempfile::TempDir {
    let folder = directory(&[]);
    for (name, text) in [("base", base), ("head", head)] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("policy.yaml"), text).unwrap();
    }
    folder
}

#[test]
fn every_format_tells_every_change() {
    let folder = two(POLICY, &changed());
    for (format, extension) in [("human", "txt"), ("json", "json"), ("markdown", "md"), ("github", "github.txt")] {
        let line = format!("diff DIR/base DIR/head {AT} --format {format}");
        let (text, error) = portcullis(&line, folder.path());
        assert_eq!(error, None, "{text}");
        compare(&format!("diff.{extension}"), &text, folder.path());
    }
}

#[test]
fn a_move_or_another_name_is_no_change() {
    let renamed = POLICY.replace("eligibility-api", "members").replace("name: adjudicator-reads\n", "name: reading\n");
    let folder = two(POLICY, &format!("# more\n{renamed}"));
    let (text, error) = portcullis("diff DIR/base DIR/head", folder.path());
    assert_eq!((text.as_str(), error), ("No change in what is allowed\n", None));
    let (text, _) = portcullis("diff DIR/base DIR/head --format json", folder.path());
    let page: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&page["complete"], page["changes"].as_array().map(Vec::len)), (&Value::Bool(true), Some(0)));
}

#[test]
fn what_only_marks_is_named_and_not_compared() {
    let mark = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                metadata: {name: mark, namespace: e}\nspec: {action: AUDIT, rules: [{}]}\n";
    let folder = two(POLICY, &(POLICY.to_owned() + mark));
    for format in ["human", "markdown", "github", "json"] {
        let line = format!("diff DIR/base DIR/head {AT} --format {format} --fail-on newly-allowed");
        let (text, error) = portcullis(&line, folder.path());
        let is_named = text.contains("Rules that only mark") || text.contains("\"marks_changed\": true");
        assert!(is_named && error.is_none(), "{text} {error:?}");
        let (text, _) = portcullis(&format!("diff DIR/head DIR/head {AT} --format {format}"), folder.path());
        assert!(!text.contains("Rules that only mark") && !text.contains("\"marks_changed\": true"), "{text}");
    }
}

#[test]
fn it_ends_with_one_only_for_what_is_asked() {
    let folder = two(POLICY, &POLICY.replace("[GET, HEAD]", "[GET]"));
    for (more, expected) in [
        ("", None),
        ("--fail-on newly-allowed", None),
        ("--fail-on no-longer-allowed", Some("1 change of a kind that --fail-on names")),
        ("--fail-on audit --fail-on no-longer-allowed", Some("1 change of a kind that --fail-on names")),
    ] {
        let (text, error) = portcullis(&format!("diff DIR/base DIR/head {more}"), folder.path());
        assert_eq!(error.as_deref(), expected, "{more}: {text}");
    }
    fs::write(folder.path().join("head/policy.yaml"), POLICY.replace("spec:", "spce:")).unwrap();
    for format in ["human", "json", "markdown", "github"] {
        let (text, error) = portcullis(&format!("diff DIR/base DIR/head --format {format}"), folder.path());
        assert_eq!(error.as_deref(), Some("the policies do not load: 2 mistakes"), "{text}");
        assert!(text.contains("spce"), "{text}");
    }
}

/// An example of a change is one that `policy explain` decides in the two ways that are told.
#[test]
fn examples_can_be_explained() {
    let folder = two(POLICY, &changed());
    let (text, _) = portcullis(&format!("diff DIR/base DIR/head {AT} --format json"), folder.path());
    let page: Value = serde_json::from_str(&text).unwrap();
    let changes = page["changes"].as_array().unwrap();
    assert!(changes.len() > 3);
    for change in changes {
        let example = &change["example"];
        let word = |key: &str| example[key].as_str().unwrap();
        let mut line = format!(
            "--format json --caller {} --workload {} --port {} --source {} --at {}",
            word("caller"),
            word("workload"),
            example["port"],
            word("source"),
            word("at")
        );
        if let Some(request) = example["request"].as_object() {
            line += &format!(
                " --method {} --path {}",
                request["method"].as_str().unwrap(),
                request["path"].as_str().unwrap()
            );
            for header in request["headers"].as_array().unwrap() {
                line += &format!(" --header {}={}", header[0].as_str().unwrap(), header[1].as_str().unwrap());
            }
        }
        for (side, said) in [("base", "before"), ("head", "after")] {
            let (text, _) = portcullis(&format!("explain DIR/{side} {line}"), folder.path());
            let explained: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(explained["decision"], change[said]["decision"], "{line}");
            assert_eq!(explained["rule"], change[said]["rule"]["rule"], "{line}");
        }
    }
}

fn git(repository: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=Policy", "-c", "user.email=policy@example.org", "-c", "commit.gpgsign=false"];
    let mut command = Command::new("git");
    command.current_dir(repository).args(identity).args(["-c", "init.defaultBranch=main"]).args(arguments);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A repository with a commit tagged `before`, one tagged `after`, and a work tree that is neither.
fn repository() -> tempfile::TempDir {
    let folder = directory(&[]);
    let root = folder.path();
    git(root, &["init", "--quiet"]);
    fs::create_dir_all(root.join("team/policies/below")).unwrap();
    fs::write(root.join("team/policies/policy.yaml"), POLICY).unwrap();
    for (name, text) in [("README.md", "no policy"), (".hidden.yaml", "no: policy"), ("below/x.yaml", "no: policy")] {
        fs::write(root.join("team/policies").join(name), text).unwrap();
    }
    let commit = |tag: &str| {
        git(root, &["add", "--all"]);
        git(root, &["commit", "--quiet", "--message", tag]);
        git(root, &["tag", tag]);
    };
    commit("before");
    fs::write(root.join("team/policies/policy.yaml"), changed()).unwrap();
    commit("after");
    fs::write(root.join("team/policies/policy.yaml"), POLICY.replace("[GET, HEAD]", "[GET]")).unwrap();
    folder
}

#[test]
fn revisions_are_read_without_touching_the_work_tree() {
    let folder = repository();
    let told = |line: &str| {
        let (text, error) = portcullis(&format!("diff {line} {AT}"), folder.path());
        assert_eq!(error, None, "{line}: {text}");
        text
    };
    let whole = told("before after --directory DIR/team/policies");
    assert!(whole.ends_with("newly allowed, 3 no longer allowed\n"), "{whole}");
    assert!(whole.contains("after:team/policies/policy.yaml:7"), "{whole}");
    assert_eq!(told("before:team/policies after:team/policies/ --repository DIR"), whole);
    let tree = told("before DIR/team/policies");
    assert!(tree.ends_with("0 newly allowed, 1 no longer allowed\n"), "{tree}");
    assert_eq!(told("DIR/team/policies DIR/team/policies"), "No change in what is allowed\n");
    let (text, _) =
        portcullis(&format!("diff before after --directory DIR/team/policies {AT} --format github"), folder.path());
    assert!(text.contains("::notice file=team/policies/policy.yaml,line=7,"), "{text}");
    // The directory may be gone from the work tree.
    fs::remove_dir_all(folder.path().join("team")).unwrap();
    assert_eq!(told("before after --directory DIR/team/policies"), whole);
}

#[test]
fn what_is_no_revision_is_said_clearly() {
    let folder = repository();
    let outside = directory(&[("policy.yaml", POLICY)]);
    std::os::unix::fs::symlink("policy.yaml", folder.path().join("team/policies/link.yaml")).unwrap();
    git(folder.path(), &["add", "--all"]);
    git(folder.path(), &["commit", "--quiet", "--message", "link"]);
    let policies = "--directory DIR/team/policies";
    for (line, expected) in [
        (format!("nowhere after {policies}"), "there is no revision `nowhere` here"),
        ("before after".to_owned(), "usage: which directory of revision `before`?"),
        ("before:x after:x --repository DIR".to_owned(), "revision `before` has no directory `x`"),
        (format!("after HEAD {policies}"), "`team/policies/link.yaml` is a symbolic link"),
        (format!("{policies} -- --output=x after"), "usage: `--output=x` is neither a directory nor a revision"),
        (format!("before {}", outside.path().display()), "is in no Git repository"),
    ] {
        let (text, error) = portcullis(&format!("diff {line}"), folder.path());
        let error = error.unwrap_or_default();
        assert!(
            error.contains(expected) && error.starts_with("usage") == expected.starts_with("usage"),
            "{line}: {error}{text}"
        );
    }
}
