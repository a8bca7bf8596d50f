//! What the loader takes, and when.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis_certs_watcher::{Pace, Sources, Watcher, system_clock};

use super::*;

const FIRST: &str = "apiVersion: policy.portcullis.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: first}\n";

fn loader(directory: &Path) -> (Loader, Arc<PolicyStore>) {
    loader_with(directory, None)
}

fn loader_with(directory: &Path, state: Option<PathBuf>) -> (Loader, Arc<PolicyStore>) {
    loader_reading(directory, state, None)
}

fn loader_reading(
    directory: &Path,
    state: Option<PathBuf>,
    labels_file: Option<PathBuf>,
) -> (Loader, Arc<PolicyStore>) {
    let nowhere =
        Sources { identity: directory.join("identity").into(), expected: None, trust: Vec::new(), deny_list: None };
    let (_, credentials) = Watcher::new(nowhere, Pace::default(), system_clock(), Box::new(|_| {}));
    let policy =
        config::Policy { directories: vec![directory.to_owned()], state, labels_file, ..config::Policy::default() };
    let sources = PolicySources { policy, opaque_ports: Vec::new(), credentials };
    Loader::start(sources, Arc::new(Metrics::new()))
}

fn policy(name: &str) -> String {
    let rules = "spec:\n  allow:\n    - {name: all, from: {identities: [spiffe://prod.test/ns/a/sa/b]}}\n";
    FIRST.replace("first", name) + rules
}

#[test]
fn a_plain_file_that_was_read_twice_in_a_moment_is_not_taken_for_finished() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    fs::write(&file, policy("first")).unwrap();
    let (mut loader, store) = loader(folder.path());
    let first = store.current().unwrap().policy.revision().to_owned();
    fs::write(&file, policy("second")).unwrap();
    // Two notices for one write come within a millisecond, and nothing says that the writer is done.
    for _ in 0..3 {
        assert!(matches!(loader.look(), Settled::Moving));
        assert_eq!(store.current().unwrap().policy.revision(), first);
    }
    // The same content, and it has stood still for long enough.
    let (contents, _) = loader.moving.take().unwrap();
    loader.moving = Some((contents, Instant::now().checked_sub(SETTLE).unwrap()));
    assert!(matches!(loader.look(), Settled::Still));
    assert_ne!(store.current().unwrap().policy.revision(), first);
}

#[test]
fn a_directory_that_goes_away_leaves_the_last_good_policy() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("policy");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("policy.yaml"), policy("first")).unwrap();
    let (mut loader, store) = loader(&directory);
    fs::remove_dir_all(&directory).unwrap();
    loader.look();
    assert!(store.problem().unwrap().contains("does not exist"));
    assert_eq!(store.current().unwrap().number, 1);
}

#[test]
fn a_copy_is_not_put_in_force_before_it_can_be_checked_for_this_sidecar() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, state) = (folder.path().join("policy"), folder.path().join("state"));
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("policy.yaml"), policy("first")).unwrap();
    let contents = directory::read(std::slice::from_ref(&directory)).unwrap();
    let kept = Copy { contents: Arc::new(contents), taken: SystemTime::now(), revision: String::new() };
    State::new(state.clone(), vec![directory.clone()]).write(&kept).unwrap();
    fs::write(directory.join("policy.yaml"), "broken").unwrap();
    // Without an identity nobody knows which rules are for this workload.
    let (_loader, store) = loader_with(&directory, Some(state));
    assert!(store.current().is_none());
}

#[test]
fn a_git_revision_alone_makes_another_policy_for_the_records() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy.yaml"), policy("first")).unwrap();
    let (mut loader, store) = loader(folder.path());
    assert_eq!(store.current().unwrap().git_revision, None);
    for (revision, number, expected) in
        [("1a2b3c4", 2, Some("1a2b3c4")), ("5d6e7f8", 3, Some("5d6e7f8")), ("main", 4, None)]
    {
        fs::write(folder.path().join("git-revision"), revision).unwrap();
        loader.take(directory::read(&loader.sources.policy.directories).unwrap());
        let current = store.current().unwrap();
        assert_eq!((current.number, current.git_revision.as_deref()), (number, expected));
    }
    let warnings = store.current().unwrap().warnings.join("\n");
    assert!(warnings.contains("git-revision"), "{warnings}");
}

#[test]
fn what_is_allowed_by_default_ends_when_it_was_said_to() {
    let folder = tempfile::tempdir().unwrap();
    let (mut loader, store) = loader(folder.path());
    assert_eq!(store.current().unwrap().options.default_action, DefaultAction::Deny);
    let now = unix_seconds();
    for (until, number, action, waits) in [
        (None, 2, DefaultAction::Allow, false),
        (Some(now + 3600), 2, DefaultAction::Allow, true),
        (Some(now - 1), 3, DefaultAction::Deny, false),
    ] {
        loader.sources.policy.allow_by_default = Some(config::AllowByDefault { reason: None, until });
        loader.look();
        let current = store.current().unwrap();
        assert_eq!((current.number, current.options.default_action), (number, action), "until {until:?}");
        assert_eq!(loader.default_ends_in() < Duration::MAX, waits, "until {until:?}");
    }
}

#[test]
fn what_is_allowed_by_default_ends_whatever_is_wrong_with_the_documents() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("policy");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("policy.yaml"), policy("first")).unwrap();
    let (mut loader, store) = loader(&directory);
    let allow = |until| Some(config::AllowByDefault { reason: None, until });
    let action = || store.current().unwrap().options.default_action;
    loader.sources.policy.allow_by_default = allow(None);
    loader.look();
    let revision = store.current().unwrap().policy.revision().to_owned();
    let break_a_document = || fs::write(directory.join("policy.yaml"), "broken").unwrap();
    let take_all_away = || fs::remove_dir_all(&directory).unwrap();
    for breaking in [&break_a_document as &dyn Fn(), &take_all_away] {
        loader.sources.policy.allow_by_default = allow(None);
        loader.look();
        assert_eq!(action(), DefaultAction::Allow);
        breaking();
        loader.sources.policy.allow_by_default = allow(Some(unix_seconds() - 1));
        match directory::read(&loader.sources.policy.directories) {
            Ok(contents) => loader.take(contents),
            Err(_) => drop(loader.look()),
        }
        assert_eq!((action(), store.current().unwrap().policy.revision()), (DefaultAction::Deny, &*revision));
        assert!(store.problem().is_some());
    }
}

#[test]
fn labels_are_followed_and_without_them_there_is_no_policy() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, labels) = (folder.path().join("policy"), folder.path().join("labels"));
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("policy.yaml"), policy("first")).unwrap();
    let (mut loader, store) = loader_reading(&directory, None, Some(labels.clone()));
    assert!(store.current().is_none());
    assert!(store.problem().unwrap().contains("the labels of the workload cannot be read"));
    let seen = || store.current().unwrap().options.labels.get("app").cloned();
    for (written, app, problem) in [
        ("app=\"api\"\n", "api", false),
        ("app=\"web\"\n", "web", false),
        ("app=\n", "web", true),
        ("app=\"web\"\n", "web", false),
    ] {
        fs::write(&labels, written).unwrap();
        loader.look();
        loader.moving =
            loader.moving.take().map(|(contents, _)| (contents, Instant::now().checked_sub(SETTLE).unwrap()));
        loader.look();
        assert_eq!((seen().as_deref(), store.problem().is_some()), (Some(app), problem), "{written:?}");
    }
}
