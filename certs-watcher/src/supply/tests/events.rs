//! What is told about a change, and when the next look is due.

use super::*;
use crate::change::AnchorName;
use crate::pki::{base64, leaf_params};

/// A SPIFFE bundle of these anchors.
fn spiffe_bundle(sequence: Option<u64>, hint: Option<u64>, anchors: &[&Authority]) -> String {
    let key = |anchor: &&Authority| serde_json::json!({"kty": "EC", "use": "x509-svid", "x5c": [base64(&anchor.der)]});
    let mut document = serde_json::json!({"keys": anchors.iter().map(key).collect::<Vec<_>>()});
    if let Some(sequence) = sequence {
        document["spiffe_sequence"] = sequence.into();
    }
    if let Some(hint) = hint {
        document["spiffe_refresh_hint"] = hint.into();
    }
    document.to_string()
}

#[test]
fn an_identity_tells_which_of_its_parts_are_new() {
    let pki = prod();
    let issue = |authority: &Authority, key: &rcgen::KeyPair| {
        let der = leaf_params(API).signed_by(key, &authority.issuer).unwrap().der().clone();
        let chain = std::iter::once(der).chain(authority.chain.iter().cloned()).collect();
        Leaf { chain, key: rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap() }
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let first = issue(&pki.intermediate, &key);
    let mut world = World::start(|directory| {
        write_all(directory, &pki);
        write_identity(directory, &first);
    });
    let identity = |leaf, chain, key| [Change::Identity { leaf, chain, key }];
    assert_eq!(world.changes()[1..], identity(true, true, true));

    // The same key, certified anew by the same issuer; then a new key; then another issuer of the old key.
    write_identity(world.directory.path(), &numbered_with(&pki.intermediate, &key));
    world.settle();
    assert_eq!(world.changes(), identity(true, false, false));
    write_identity(world.directory.path(), &numbered(&pki.intermediate, 3));
    world.settle();
    assert_eq!(world.changes(), identity(true, false, true));
    let last = numbered(&pki.root.intermediate("prod"), 4);
    write_identity(world.directory.path(), &last);
    world.settle();
    assert_eq!(world.changes(), identity(true, true, true));

    // Only one more certificate beside the leaf.
    let mut longer = last;
    longer.chain.push(pki.root.der.clone());
    write_identity(world.directory.path(), &longer);
    world.settle();
    assert_eq!(world.changes(), identity(false, true, false));
}

fn numbered_with(authority: &Authority, key: &rcgen::KeyPair) -> Leaf {
    let mut params = leaf_params(API);
    params.serial_number = Some(2.into());
    let der = params.signed_by(key, &authority.issuer).unwrap().der().clone();
    let chain = std::iter::once(der).chain(authority.chain.iter().cloned()).collect();
    Leaf { chain, key: rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap() }
}

#[test]
fn a_bundle_tells_which_anchors_came_and_went() {
    let pki = prod();
    let (second, third) = (Authority::root("second"), Authority::root("third"));
    let name = |authority: &Authority| {
        let certificate = crate::Certificate::parse(&authority.der).unwrap();
        AnchorName { name: certificate.name(), fingerprint: certificate.fingerprint() }
    };
    let mut world = World::start(|directory| write_all(directory, &pki));
    let first = &world.changes()[0];
    assert_eq!(*first, Change::Trust { added: vec![name(&pki.root)], removed: Vec::new() });

    fs::write(world.path("trust.pem"), [pki.root.pem(), second.pem(), third.pem()].concat()).unwrap();
    world.settle();
    let change = world.changes().remove(0);
    assert_eq!(change, Change::Trust { added: vec![name(&second), name(&third)], removed: Vec::new() });
    fs::write(world.path("trust.pem"), [third.pem(), pki.root.pem()].concat()).unwrap();
    world.settle();
    let change = world.changes().remove(0);
    assert_eq!(change, Change::Trust { added: Vec::new(), removed: vec![name(&second)] });
    let line = change.to_string();
    assert!(line.starts_with("anchors added: none; removed: `CN=second` (serial "), "{line}");
    assert!(line.ends_with(&name(&second).fingerprint.to_string()), "{line}");
}

#[test]
fn the_same_content_again_is_no_event() {
    let pki = prod();
    let mut world = World::start(|directory| write_all(directory, &pki));
    let told = world.credentials.snapshot().revision();
    world.told();
    for _ in 0..3 {
        write_all(world.directory.path(), &pki);
        assert_eq!(world.settle().revision(), told);
    }
    assert!(world.told().is_empty());
}

#[test]
fn a_snapshot_says_since_when_each_generation_is_in_force() {
    let pki = prod();
    let mut world = World::start(|_| {});
    let since = |snapshot: &Snapshot| (snapshot.trust_since, snapshot.identity_since);
    assert_eq!(since(&world.credentials.snapshot()), (None, None));
    write_all(world.directory.path(), &pki);
    assert_eq!(since(&world.pass(0)), (Some(instant(NOW)), Some(instant(NOW))));
    world.clock.store(NOW + 5, Ordering::SeqCst);
    write_identity(world.directory.path(), &numbered(&pki.intermediate, 2));
    assert_eq!(since(&world.settle()), (Some(instant(NOW)), Some(instant(NOW + 5))));
}

#[test]
fn a_sequence_that_went_back_is_used_with_a_warning() {
    let pki = prod();
    let second = Authority::root("second");
    let mut world = World::start(|directory| {
        write_identity(directory, &pki.leaf);
        fs::write(directory.join("trust.pem"), spiffe_bundle(Some(7), None, &[&pki.root, &second])).unwrap();
    });
    fs::write(world.path("trust.pem"), spiffe_bundle(Some(5), None, &[&pki.root])).unwrap();
    let snapshot = world.settle();
    assert_eq!((snapshot.trust_generation, world.labels().as_slice()), (2, &["sequence_went_back"][..]));
    let problem = &snapshot.problems[0];
    assert_eq!(problem.severity, Severity::Warning);
    assert!(problem.message.contains("`spiffe_sequence` 5") && problem.message.contains('7'), "{}", problem.message);
    // Newer than that one, and still older than what was in use before.
    fs::write(world.path("trust.pem"), spiffe_bundle(Some(6), None, &[&pki.root])).unwrap();
    world.settle();
    assert_eq!(world.labels(), ["sequence_went_back"]);
    fs::write(world.path("trust.pem"), spiffe_bundle(Some(7), None, &[&pki.root])).unwrap();
    world.settle();
    assert!(world.labels().is_empty());
}

#[test]
fn the_next_look_is_as_soon_as_the_bundle_hints_and_no_sooner_than_a_second() {
    let pki = prod();
    for (hint, seconds) in [(None, 10), (Some(300), 10), (Some(4), 4), (Some(0), 1)] {
        let mut world = World::start(|directory| {
            write_identity(directory, &pki.leaf);
            fs::write(directory.join("trust.pem"), spiffe_bundle(None, hint, &[&pki.root])).unwrap();
        });
        assert_eq!(world.supply.pass(world.at), Duration::from_secs(seconds), "{hint:?}");
    }
}

#[test]
fn the_next_look_is_within_a_second_once_a_renewal_is_late() {
    let pki = prod();
    let mut world = World::start(|directory| write_all(directory, &pki));
    let overdue = world.credentials.snapshot().material.as_ref().unwrap().overdue_from().as_secs();
    for (clock, seconds) in [(overdue - 1, 10), (overdue, 1), (NOW + DAY, 1), (NOW + DAY + 1, 1), (NOW + 9 * DAY, 1)] {
        world.clock.store(clock, Ordering::SeqCst);
        assert_eq!(world.supply.pass(world.at), Duration::from_secs(seconds), "at {clock}");
    }
    // What comes then is taken without being announced.
    world.clock.store(overdue, Ordering::SeqCst);
    write_identity(world.directory.path(), &numbered(&pki.intermediate, 2));
    world.settle();
    assert_eq!(world.serial(), "02");
}
