//! Passes made by hand at chosen times: no notification, no waiting.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use spiffe::TrustDomain;
use tempfile::TempDir;

use super::*;
use crate::pki::{API, Authority, DAY, HOUR, Leaf, NOW, Prod, at as instant, prod, set_validity};
use crate::role::Role;
use crate::snapshot::{NotReady, Severity};
use crate::sources::TrustSource;
use crate::verify_peer;

mod deny_list;
mod events;
mod revocation;
mod workload_api;

/// A workload's directories, the supply over them, and the time.
struct World {
    directory: TempDir,
    supply: Supply,
    credentials: Credentials,
    events: Arc<Mutex<Vec<Event>>>,
    clock: Arc<AtomicU64>,
    at: Instant,
}

impl World {
    /// Starts after `prepare` has filled the directory: `identity/` and `trust.pem` in it are the sources.
    fn start(prepare: impl FnOnce(&Path)) -> Self {
        Self::start_with(prepare, |_| {})
    }

    fn start_with(prepare: impl FnOnce(&Path), edit: impl FnOnce(&mut Sources)) -> Self {
        Self::start_over(prepare, edit, Agents::default())
    }

    fn start_over(prepare: impl FnOnce(&Path), edit: impl FnOnce(&mut Sources), agents: Agents) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let mut sources = Sources {
            identity: directory.path().join("identity").into(),
            expected: None,
            trust: vec![TrustSource::new(TrustDomain::new("prod.test").unwrap(), directory.path().join("trust.pem"))],
            deny_list: None,
        };
        edit(&mut sources);
        let clock = Arc::new(AtomicU64::new(NOW));
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let (told, shown) = (events.clone(), clock.clone());
        let (supply, credentials) = Supply::new(
            sources,
            agents,
            Pace::default(),
            Arc::new(move || instant(shown.load(Ordering::SeqCst))),
            Box::new(move |event| told.lock().unwrap().push(event.clone())),
        );
        Self { directory, supply, credentials, events, clock, at: Instant::now() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a pass this long after the last.
    fn pass(&mut self, milliseconds: u64) -> Arc<Snapshot> {
        self.at += Duration::from_millis(milliseconds);
        self.supply.pass(self.at);
        self.credentials.snapshot()
    }

    /// Lets new plain files stand still until they are taken.
    fn settle(&mut self) -> Arc<Snapshot> {
        self.pass(10);
        self.pass(100)
    }

    fn labels(&self) -> Vec<&'static str> {
        self.credentials.snapshot().problems.iter().map(|problem| problem.label).collect()
    }

    /// What happened since the last call, as `identity 2` or `trust missing`.
    fn told(&self) -> Vec<String> {
        let events: Vec<_> = self.events.lock().unwrap().drain(..).collect();
        let text = |event: &Event| match &event.outcome {
            Outcome::Published { generation, .. } => format!("{} {generation}", event.subject.kind()),
            Outcome::Refused { label } => format!("{} {label}", event.subject.kind()),
        };
        events.iter().map(text).collect()
    }

    /// What was published since the last call.
    fn changes(&self) -> Vec<Change> {
        let events: Vec<_> = self.events.lock().unwrap().drain(..).collect();
        let change = |event: Event| match event.outcome {
            Outcome::Published { change, .. } => Some(change),
            Outcome::Refused { .. } => None,
        };
        events.into_iter().filter_map(change).collect()
    }

    /// How a peer that comes with this chain would fare.
    fn verdict(&self, leaf: &Leaf) -> &'static str {
        let now = instant(self.clock.load(Ordering::SeqCst));
        let trust = &self.credentials.snapshot().trust;
        verify_peer(trust, Role::Client, &leaf.chain, now).map_or_else(|error| error.label(), |_| "accepted")
    }

    fn serial(&self) -> String {
        self.credentials.snapshot().material.as_ref().unwrap().serial().to_owned()
    }
}

/// A path beside the identity.
fn beside(sources: &Sources, name: &str) -> PathBuf {
    sources.identity.directory().unwrap().with_file_name(name)
}

fn write_identity(directory: &Path, leaf: &Leaf) {
    let identity = directory.join("identity");
    fs::create_dir_all(&identity).unwrap();
    fs::write(identity.join("tls.crt"), leaf.chain_pem()).unwrap();
    fs::write(identity.join("tls.key"), leaf.key_pem()).unwrap();
}

fn write_all(directory: &Path, pki: &Prod) {
    fs::write(directory.join("trust.pem"), pki.root.pem()).unwrap();
    write_identity(directory, &pki.leaf);
}

/// Swaps files into a volume as the kubelet does.
fn publish(volume: &Path, name: &str, files: &[(&str, &str)]) {
    fs::create_dir_all(volume.join(name)).unwrap();
    for (file, text) in files {
        fs::write(volume.join(name).join(file), text).unwrap();
    }
    symlink(name, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

fn numbered(authority: &Authority, serial: u64) -> Leaf {
    authority.leaf_with(API, |params| params.serial_number = Some(serial.into()))
}

#[test]
fn what_is_there_at_the_start_is_published_at_once() {
    let pki = prod();
    let world = World::start(|directory| write_all(directory, &pki));
    let snapshot = world.credentials.snapshot();
    assert_eq!(snapshot.ready(instant(NOW)).unwrap().id().to_string(), API);
    assert_eq!((snapshot.identity_generation, snapshot.trust_generation), (1, 1));
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    assert_eq!(world.told(), ["trust 1", "identity 1"]);
}

#[test]
fn what_is_absent_at_the_start_is_said_and_taken_when_it_comes() {
    let pki = prod();
    let mut world = World::start(|_| {});
    let not_ready = world.credentials.snapshot().ready(instant(NOW)).unwrap_err();
    assert_eq!(not_ready.label(), "missing");
    assert!(not_ready.to_string().contains("trust.pem"), "{not_ready}");
    assert_eq!(world.labels(), ["missing", "missing"]);
    assert!(world.credentials.snapshot().problems.iter().all(|problem| problem.severity == Severity::Alarm));
    assert_eq!(world.told(), ["trust missing", "identity missing"]);
    world.pass(1000);
    assert!(world.told().is_empty(), "a failure is told once");

    write_identity(world.directory.path(), &pki.leaf);
    world.pass(0);
    assert_eq!(world.labels(), ["no_bundle", "missing"], "nothing to prove it against");
    fs::write(world.path("trust.pem"), pki.root.pem()).unwrap();
    world.pass(0);
    world.credentials.snapshot().ready(instant(NOW)).unwrap();
    assert!(world.labels().is_empty());
    assert_eq!(world.told(), ["identity no_bundle", "trust 1", "identity 1"]);
}

#[test]
fn every_configured_bundle_has_to_come_once_before_traffic_is_served() {
    let pki = prod();
    let mut world = World::start_with(
        |directory| write_all(directory, &pki),
        |sources| {
            let bundle = beside(sources, "partner.pem");
            sources.trust.push(TrustSource::new(TrustDomain::new("partner.test").unwrap(), bundle));
        },
    );
    let not_ready = world.credentials.snapshot().ready(instant(NOW)).unwrap_err();
    assert!(not_ready.to_string().contains("partner.test"), "{not_ready}");
    fs::write(world.path("partner.pem"), Authority::root("partner").pem()).unwrap();
    world.pass(0).ready(instant(NOW)).unwrap();
    fs::remove_file(world.path("partner.pem")).unwrap();
    world.pass(5000);
    world.pass(5000).ready(instant(NOW)).unwrap();
    assert_eq!(world.labels(), ["missing"], "the last good one stays");
}

#[test]
fn a_renewed_leaf_replaces_the_old_one_and_a_broken_one_does_not() {
    let pki = prod();
    let mut world = World::start(|directory| write_all(directory, &pki));
    world.told();
    let renewed = numbered(&pki.intermediate, 2);
    write_identity(world.directory.path(), &renewed);
    assert_eq!(world.pass(10).identity_generation, 1, "not before it stood still");
    assert_eq!(world.pass(100).identity_generation, 2);
    assert_eq!(world.serial(), "02");

    // A key of another generation: waited out, then reported.
    fs::write(world.path("identity/tls.key"), pki.leaf.key_pem()).unwrap();
    world.settle();
    assert!(world.labels().is_empty());
    world.pass(2000);
    assert_eq!(world.labels(), ["key_mismatch"]);
    let snapshot = world.credentials.snapshot();
    snapshot.ready(instant(NOW)).unwrap();
    assert_eq!(snapshot.problems[0].severity, Severity::Warning);
    assert!(snapshot.problems[0].message.contains("the last good one stays"));
    assert_eq!(world.serial(), "02");
    fs::write(world.path("identity/tls.key"), renewed.key_pem()).unwrap();
    world.pass(10);
    assert!(world.labels().is_empty(), "back to what is in use");
    assert_eq!(world.told(), ["identity 2", "identity key_mismatch"]);
    assert_eq!(world.credentials.snapshot().identity_generation, 2);
}

#[test]
fn half_written_files_pass_without_a_word() {
    let pki = prod();
    let mut world = World::start(|directory| write_all(directory, &pki));
    world.told();
    let renewed = numbered(&pki.intermediate, 2);
    let (chain, key) = (renewed.chain_pem(), renewed.key_pem());
    for (certificate, key) in [
        ("", pki.leaf.key_pem()),
        (&chain[..300], pki.leaf.key_pem()),
        (&chain[..], pki.leaf.key_pem()),
        (&chain[..], String::new()),
        (&chain[..], key[..40].to_owned()),
        (&chain[..], key.clone()),
    ] {
        fs::write(world.path("identity/tls.crt"), certificate).unwrap();
        fs::write(world.path("identity/tls.key"), key).unwrap();
        world.settle();
        world.pass(100);
    }
    assert_eq!(world.serial(), "02");
    assert_eq!(world.told(), ["identity 2"]);
}

#[test]
fn identity_directory_that_goes_away_leaves_the_last_good_one() {
    let pki = prod();
    let mut world = World::start(|directory| write_all(directory, &pki));
    world.told();
    fs::remove_dir_all(world.path("identity")).unwrap();
    world.pass(0);
    world.pass(2000);
    assert_eq!(world.labels(), ["missing"]);
    world.credentials.snapshot().ready(instant(NOW)).unwrap();
    write_identity(world.directory.path(), &numbered(&pki.intermediate, 2));
    world.settle();
    assert_eq!(world.serial(), "02");
    assert_eq!(world.told(), ["identity missing", "identity 2"]);
}

#[test]
fn another_identity_is_refused() {
    let pki = prod();
    let other = pki.intermediate.leaf("spiffe://prod.test/ns/eligibility/sa/other");
    let mut world = World::start(|directory| write_all(directory, &pki));
    write_identity(world.directory.path(), &other);
    world.settle();
    world.pass(2000);
    assert_eq!(world.labels(), ["wrong_identity"]);
    assert_eq!(world.credentials.snapshot().material.as_ref().unwrap().id().to_string(), API);

    let expecting =
        World::start_with(|directory| write_all(directory, &pki), |sources| sources.expected = Some(other_id()));
    assert_eq!(expecting.labels(), ["wrong_identity"]);
    assert_eq!(expecting.credentials.snapshot().ready(instant(NOW)).unwrap_err().label(), "wrong_identity");
}

fn other_id() -> spiffe::SpiffeId {
    spiffe::SpiffeId::new("spiffe://prod.test/ns/eligibility/sa/other").unwrap()
}

#[test]
fn time_alone_makes_an_identity_overdue_and_then_ends_it() {
    let pki = prod();
    let mut world = World::start(|directory| write_all(directory, &pki));
    let overdue = world.credentials.snapshot().material.as_ref().unwrap().overdue_from().as_secs();
    world.clock.store(overdue - 1, Ordering::SeqCst);
    world.pass(1000);
    assert!(world.labels().is_empty());
    world.clock.store(overdue, Ordering::SeqCst);
    let snapshot = world.pass(1000);
    assert_eq!(world.labels(), ["near_expiry"]);
    assert_eq!((snapshot.problems[0].severity, snapshot.problems[0].since), (Severity::Warning, instant(overdue)));

    world.clock.store(NOW + DAY + 1, Ordering::SeqCst);
    let snapshot = world.pass(1000);
    assert_eq!(world.labels(), ["expired"]);
    assert!(matches!(snapshot.ready(instant(NOW + DAY + 1)), Err(NotReady::Expired { .. })));
    snapshot.ready(instant(NOW + DAY)).unwrap();
    assert_eq!(snapshot.ready(instant(NOW - HOUR - 1)).unwrap_err().label(), "not_yet_valid");
    assert_eq!(snapshot.identity_generation, 1);
}

#[test]
fn an_expired_or_early_leaf_is_not_published_until_its_time() {
    let pki = prod();
    let early = pki.intermediate.leaf_with(API, |params| set_validity(params, NOW + 60, NOW + DAY));
    let late = pki.intermediate.leaf_with(API, |params| set_validity(params, NOW - DAY, NOW - 1));
    let mut world = World::start(|directory| {
        write_all(directory, &pki);
        write_identity(directory, &early);
    });
    assert_eq!(world.labels(), ["not_yet_valid"]);
    let text = world.credentials.snapshot().problems[0].message.clone();
    assert!(text.contains("2027-01-15T08:01:00Z") && text.contains("2027-01-15T08:00:00Z"), "{text}");
    world.clock.store(NOW + 60, Ordering::SeqCst);
    world.pass(1000).ready(instant(NOW + 60)).unwrap();
    write_identity(world.directory.path(), &late);
    world.settle();
    world.pass(2000);
    assert_eq!(world.labels(), ["expired"]);
    assert_eq!(world.told(), ["trust 1", "identity not_yet_valid", "identity 1", "identity expired"]);
}

#[test]
fn a_root_may_be_added_and_then_removed() {
    let pki = prod();
    let mut world = World::start(|directory| write_all(directory, &pki));
    let new_root = Authority::root("new root");
    let both = format!("{}{}", pki.root.pem(), new_root.pem());
    fs::write(world.path("trust.pem"), both).unwrap();
    let snapshot = world.settle();
    assert_eq!((snapshot.trust_generation, snapshot.identity_generation), (2, 1));
    assert!(world.labels().is_empty());

    fs::write(world.path("trust.pem"), new_root.pem()).unwrap();
    let snapshot = world.settle();
    assert_eq!(snapshot.trust_generation, 3);
    assert_eq!(world.labels(), ["not_trusted_by_own_bundle"]);
    assert_eq!(snapshot.problems[0].severity, Severity::Alarm);
    snapshot.ready(instant(NOW)).unwrap();

    write_identity(world.directory.path(), &numbered(&new_root.intermediate("prod"), 2));
    world.settle();
    assert_eq!(world.serial(), "02");
    assert!(world.labels().is_empty());
}

#[test]
fn a_leaf_that_comes_before_its_root_is_kept_aside_until_the_root_comes() {
    let pki = prod();
    let mut world = World::start(|directory| write_all(directory, &pki));
    world.told();
    let new_root = Authority::root("new root");
    write_identity(world.directory.path(), &numbered(&new_root.intermediate("prod"), 2));
    world.settle();
    world.pass(2000);
    assert_eq!(world.labels(), ["unknown_issuer"]);
    assert_eq!(world.serial(), "0abc");
    fs::write(world.path("trust.pem"), format!("{}{}", pki.root.pem(), new_root.pem())).unwrap();
    world.settle();
    assert_eq!(world.serial(), "02");
    assert!(world.labels().is_empty());
    assert_eq!(world.told(), ["identity unknown_issuer", "trust 2", "identity 2"]);
}

#[test]
fn a_leaf_that_waits_for_its_root_is_published_in_the_pass_that_brings_the_root() {
    let pki = prod();
    let new = Authority::root("new root");
    let mut world = World::start_with(
        |directory| {
            let (chain, key) = (pki.leaf.chain_pem(), pki.leaf.key_pem());
            publish(&directory.join("identity"), "..1", &[("tls.crt", &chain), ("tls.key", &key)]);
            publish(&directory.join("trust"), "..1", &[("prod.pem", &pki.root.pem())]);
        },
        |sources| sources.trust[0].bundle = beside(sources, "trust/prod.pem").into(),
    );
    world.told();
    let renewed = numbered(&new.intermediate("prod"), 2);
    publish(&world.path("identity"), "..2", &[("tls.crt", &renewed.chain_pem()), ("tls.key", &renewed.key_pem())]);
    let snapshot = world.pass(0);
    assert_eq!(world.labels(), ["unknown_issuer"], "told at once, since a swapped volume is never half-written");
    assert!(snapshot.problems[0].message.contains("kept aside"), "{:?}", snapshot.problems);
    assert_eq!((snapshot.identity_generation, snapshot.problems[0].severity), (1, Severity::Warning));

    let bundle = [pki.root.pem(), new.pem()].concat();
    publish(&world.path("trust"), "..2", &[("prod.pem", &bundle)]);
    let snapshot = world.pass(0);
    assert_eq!((snapshot.identity_generation, snapshot.trust_generation), (2, 2));
    assert_eq!(world.serial(), "02");
    assert!(world.labels().is_empty());
}

#[test]
fn a_broken_bundle_leaves_the_last_good_one_and_a_set_without_keys_is_meant() {
    let pki = prod();
    let mut world = World::start(|directory| write_all(directory, &pki));
    let trusted = |world: &World| {
        let snapshot = world.credentials.snapshot();
        let domain = TrustDomain::new("prod.test").unwrap();
        snapshot.trust.bundle(&domain).unwrap().anchors().len()
    };
    for (text, label) in [("", "empty"), ("\n", "empty"), ("garbage", "no_certificate"), ("{", "not_json")] {
        fs::write(world.path("trust.pem"), text).unwrap();
        world.settle();
        world.pass(2000);
        assert_eq!(world.labels(), [label]);
        assert_eq!((trusted(&world), world.credentials.snapshot().trust_generation), (1, 1));
    }
    fs::write(world.path("trust.pem"), r#"{"keys": []}"#).unwrap();
    world.settle();
    assert_eq!((trusted(&world), world.credentials.snapshot().trust_generation), (0, 2));
    assert_eq!(world.labels(), ["not_trusted_by_own_bundle"]);
}

#[test]
fn what_is_odd_about_a_bundle_is_a_warning() {
    let pki = prod();
    let old = Authority::root_with("old", |params| set_validity(params, NOW - DAY, NOW - 1));
    let mut world = World::start_with(
        |directory| {
            write_identity(directory, &pki.leaf);
            let text = format!("{}{}{}", pki.root.pem(), old.pem(), pki.leaf.chain_pem());
            fs::write(directory.join("identity/ca.crt"), text).unwrap();
        },
        |sources| sources.trust[0].bundle = beside(sources, "identity/ca.crt").into(),
    );
    assert_eq!(world.labels(), ["bundle_is_identity_secret", "anchor_not_valid", "anchor_refused"]);
    let snapshot = world.pass(1000);
    snapshot.ready(instant(NOW)).unwrap();
    assert!(snapshot.problems.iter().all(|problem| problem.severity == Severity::Warning));
    assert!(snapshot.problems[0].message.contains("trust-manager"));
}

#[test]
fn a_chain_in_disorder_is_a_warning() {
    let pki = prod();
    let turned = Leaf {
        chain: pki.leaf.chain.iter().rev().cloned().collect(),
        key: rcgen::KeyPair::from_pem(&pki.leaf.key_pem()).unwrap(),
    };
    let world = World::start(|directory| {
        write_all(directory, &pki);
        write_identity(directory, &turned);
    });
    assert_eq!(world.labels(), ["chain_repaired"]);
    world.credentials.snapshot().ready(instant(NOW)).unwrap();
}

#[test]
fn nothing_is_published_when_nothing_changed() {
    let pki = prod();
    let mut world = World::start(|directory| write_all(directory, &pki));
    let mut changed = world.credentials.changed();
    changed.mark_unchanged();
    for _ in 0..5 {
        world.pass(10_000);
    }
    assert!(!changed.has_changed().unwrap());
    fs::write(world.path("trust.pem"), "").unwrap();
    world.pass(10_000);
    world.pass(10_000);
    assert!(changed.has_changed().unwrap(), "a new problem is published");
    assert_eq!(changed.borrow_and_update().problems, 1);
    world.pass(10_000);
    assert!(!changed.has_changed().unwrap(), "a lasting one is not published again");
}
