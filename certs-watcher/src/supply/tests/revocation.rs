//! Revocation lists: awaited, taken, overdue, and turned against ourselves.

use super::*;
use crate::pki::section;
use crate::revocation::{RevocationPolicy, StaleList, UnknownStatus};

/// The serial number of the intermediate that issues our leaf.
const ISSUER: u64 = 0x77;

fn pki() -> Prod {
    let root = Authority::root("root");
    let intermediate = root.intermediate_with("prod", |params| params.serial_number = Some(ISSUER.into()));
    let leaf = intermediate.leaf(API);
    Prod { root, intermediate, leaf }
}

/// A world with `lists` as the place of the revocation lists, under this policy.
fn world(pki: &Prod, policy: RevocationPolicy, prepare: impl FnOnce(&Path)) -> World {
    World::start_with(
        |directory| {
            write_all(directory, pki);
            prepare(directory);
        },
        |sources| {
            sources.trust[0].crl = Some(beside(sources, "lists"));
            sources.trust[0].revocation = policy;
        },
    )
}

#[test]
fn lists_that_are_configured_have_to_come_once_before_traffic_is_served() {
    let pki = pki();
    let mut world = world(&pki, RevocationPolicy::default(), |_| {});
    let snapshot = world.credentials.snapshot();
    let not_ready = snapshot.ready(instant(NOW)).unwrap_err();
    assert_eq!(not_ready.label(), "missing");
    assert!(not_ready.to_string().starts_with("revocation lists of `prod.test`: "), "{not_ready}");
    assert!(not_ready.to_string().contains("/lists`"), "{not_ready}");
    assert_eq!(snapshot.awaited, [Subject::Revocation(TrustDomain::new("prod.test").unwrap())]);
    assert_eq!(snapshot.problems[0].severity, Severity::Alarm);
    assert_eq!(world.told(), ["crl missing", "trust 1", "identity 1"]);

    fs::create_dir(world.path("lists")).unwrap();
    world.pass(0).ready(instant(NOW)).unwrap_err();
    assert_eq!(world.labels(), ["empty"], "a directory without lists");
    fs::write(world.path("lists/root.crl"), pki.root.crl(1, &[], NOW + DAY)).unwrap();
    let snapshot = world.pass(0);
    snapshot.ready(instant(NOW)).unwrap();
    assert!(snapshot.awaited.is_empty() && snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    assert_eq!(world.told(), ["crl empty", "crl 2"]);
    assert_eq!(snapshot.trust_generation, 2);
}

#[test]
fn a_new_list_is_a_new_trust_and_a_broken_one_leaves_the_last() {
    let pki = pki();
    let other = pki.root.intermediate_with("prod", |params| params.serial_number = Some(0x99.into()));
    let mut world = world(&pki, RevocationPolicy::default(), |directory| {
        fs::create_dir(directory.join("lists")).unwrap();
        fs::write(directory.join("lists/root.crl"), pki.root.crl(1, &[], NOW + DAY)).unwrap();
    });
    assert_eq!(world.told(), ["trust 1", "crl 1", "identity 1"], "one generation for what came together");
    let caller = other.leaf("spiffe://prod.test/ns/claims/sa/caller");
    assert_eq!(world.verdict(&caller), "accepted");

    let listed = section("X509 CRL", &pki.root.crl(2, &[0x99], NOW + DAY));
    fs::write(world.path("lists/root.crl"), &listed).unwrap();
    assert_eq!(world.pass(10).trust_generation, 1, "not before it stood still");
    assert_eq!(world.pass(100).trust_generation, 2);
    assert_eq!(world.verdict(&caller), "revoked");

    let broken: [(&[u8], &str); 4] = [
        (b"", "empty"),
        (b"garbage", "no_crl"),
        (&listed.as_bytes()[..200], "truncated_pem"),
        (&[0x30, 0x82, 0x01], "unsupported_crl"),
    ];
    for (text, label) in broken {
        fs::write(world.path("lists/root.crl"), text).unwrap();
        world.settle();
        let snapshot = world.pass(2000);
        assert_eq!(world.labels(), [label]);
        assert!(snapshot.problems[0].message.contains("root.crl"), "{:?}", snapshot.problems);
        assert_eq!((snapshot.problems[0].severity, snapshot.trust_generation), (Severity::Warning, 2));
        assert_eq!(world.verdict(&caller), "revoked", "what was revoked stays revoked");
        snapshot.ready(instant(NOW)).unwrap();
    }
    fs::remove_dir_all(world.path("lists")).unwrap();
    world.pass(2000);
    assert_eq!(world.labels(), ["missing"]);
    assert_eq!(world.verdict(&caller), "revoked");
}

#[test]
fn a_list_is_bounded() {
    let pki = pki();
    let world = world(&pki, RevocationPolicy::default(), |directory| {
        fs::write(directory.join("lists"), vec![0x30; 8 * 1024 * 1024 + 1]).unwrap();
    });
    assert_eq!(world.labels(), ["too_large"]);
}

#[test]
fn our_own_revoked_issuer_is_an_alarm_and_takes_no_new_leaf() {
    let pki = pki();
    let mut world = world(&pki, RevocationPolicy::default(), |directory| {
        fs::write(directory.join("lists"), pki.root.crl(1, &[], NOW + DAY)).unwrap();
    });
    fs::write(world.path("lists"), pki.root.crl(2, &[ISSUER], NOW + DAY)).unwrap();
    let snapshot = world.settle();
    assert_eq!(world.labels(), ["not_trusted_by_own_bundle"]);
    assert_eq!(snapshot.problems[0].severity, Severity::Alarm);
    assert!(snapshot.problems[0].message.contains("is revoked by CRL 2"), "{:?}", snapshot.problems);
    snapshot.ready(instant(NOW)).unwrap();
    assert_eq!(snapshot.material.as_ref().unwrap().serial(), "0abc", "it is still presented");

    write_identity(world.directory.path(), &numbered(&pki.intermediate, 2));
    world.settle();
    world.pass(2000);
    assert_eq!(world.labels(), ["revoked", "not_trusted_by_own_bundle"]);
    assert_eq!(world.serial(), "0abc", "the last good one stays");

    write_identity(world.directory.path(), &numbered(&pki.root.intermediate("prod"), 3));
    world.settle();
    assert_eq!(world.serial(), "03");
    assert!(world.labels().is_empty());
}

#[test]
fn an_alarm_about_our_own_leaf_follows_its_cause() {
    let pki = pki();
    let mut world = world(&pki, RevocationPolicy::default(), |directory| {
        fs::write(directory.join("lists"), pki.root.crl(1, &[], NOW + DAY)).unwrap();
    });
    fs::write(world.path("lists"), pki.root.crl(2, &[ISSUER], NOW + DAY)).unwrap();
    let revoked = world.settle().problems.clone();
    fs::write(world.path("trust.pem"), Authority::root("new").pem()).unwrap();
    let removed = world.settle().problems.clone();
    assert_eq!((revoked.len(), removed.len()), (1, 1));
    assert_eq!(revoked[0].label, removed[0].label);
    assert!(revoked[0].message.contains("is revoked by"), "{revoked:?}");
    assert!(removed[0].message.contains("anchor") && !removed[0].message.contains("is revoked by"), "{removed:?}");
}

#[test]
fn an_overdue_list_is_told_with_both_times_until_its_successor_comes() {
    let policies =
        [(StaleList::Warn, Severity::Warning, "accepted"), (StaleList::Refuse, Severity::Alarm, "crl_stale")];
    for (stale, severity, verdict) in policies {
        let pki = pki();
        let mut world = world(&pki, RevocationPolicy { unknown: UnknownStatus::Allow, stale }, |directory| {
            fs::create_dir(directory.join("lists")).unwrap();
            fs::write(directory.join("lists/1.crl"), pki.root.crl(1, &[], NOW + 60)).unwrap();
        });
        world.clock.store(NOW + 60, Ordering::SeqCst);
        world.pass(1000);
        assert!(world.labels().is_empty(), "{stale:?}");

        world.clock.store(NOW + 61, Ordering::SeqCst);
        let snapshot = world.pass(1000);
        let problem = snapshot.problems.iter().find(|problem| problem.label == "crl_stale").unwrap();
        assert_eq!((problem.severity, problem.since), (severity, instant(NOW + 61)));
        assert!(problem.message.contains("2027-01-15T08:01:00Z"), "when it was due: {}", problem.message);
        assert!(problem.message.contains("2027-01-15T08:01:01Z"), "when it was seen: {}", problem.message);
        assert_eq!(world.verdict(&pki.leaf), verdict);
        let told = snapshot.revision();
        world.clock.store(NOW + 62, Ordering::SeqCst);
        assert_eq!(world.pass(1000).revision(), told, "a lasting problem is not published again");

        // Its successor, beside it.
        fs::write(world.path("lists/2.crl"), pki.root.crl(2, &[], NOW + DAY)).unwrap();
        world.settle();
        assert!(world.labels().is_empty(), "{:?}", world.labels());
        assert_eq!(world.verdict(&pki.leaf), "accepted");
    }
}
