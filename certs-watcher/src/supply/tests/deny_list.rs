//! The deny list: awaited, taken, broken, and turned against ourselves. Its language here: one SPIFFE ID a line.

use super::*;
use crate::sources::DenyListSource;

fn read(_: &Path, text: &[u8]) -> Result<DenyList, String> {
    let mut list = DenyList::default();
    for line in String::from_utf8_lossy(text).lines().filter(|line| *line != "# nobody") {
        let id = spiffe::SpiffeId::new(line).map_err(|_| format!("`{line}` is no SPIFFE ID"))?;
        list.deny_identity(id, "stolen".to_owned());
    }
    Ok(list)
}

fn world(pki: &Prod, prepare: impl FnOnce(&Path)) -> World {
    World::start_with(
        |directory| {
            write_all(directory, pki);
            prepare(directory);
        },
        |sources| {
            sources.deny_list = Some(DenyListSource { path: beside(sources, "deny.yaml"), read });
        },
    )
}

#[test]
fn a_deny_list_that_is_configured_has_to_come_once_before_traffic_is_served() {
    let pki = prod();
    let mut world = world(&pki, |_| {});
    let snapshot = world.credentials.snapshot();
    let not_ready = snapshot.ready(instant(NOW)).unwrap_err();
    assert!(not_ready.to_string().starts_with("deny list: ") && not_ready.label() == "missing", "{not_ready}");
    assert_eq!(snapshot.awaited, [Subject::DenyList]);
    assert_eq!(world.told(), ["deny_list missing", "trust 1", "identity 1"]);
    fs::write(world.path("deny.yaml"), "nonsense").unwrap();
    world.pass(0).ready(instant(NOW)).unwrap_err();
    assert_eq!(world.labels(), ["malformed_deny_list"]);
    fs::write(world.path("deny.yaml"), "# nobody").unwrap();
    world.pass(0).ready(instant(NOW)).unwrap();
    assert_eq!(world.changes(), [Change::DenyList { entries: 0 }], "a list without entries is meant");
}

#[test]
fn whom_it_names_is_refused_and_a_broken_one_leaves_the_last() {
    let pki = prod();
    let caller = pki.intermediate.leaf("spiffe://prod.test/ns/claims/sa/caller");
    let mut world = world(&pki, |directory| fs::write(directory.join("deny.yaml"), "# nobody").unwrap());
    assert_eq!(world.verdict(&caller), "accepted");
    world.changes();

    fs::write(world.path("deny.yaml"), "spiffe://prod.test/ns/claims/sa/caller\n").unwrap();
    assert_eq!(world.settle().trust_generation, 2);
    assert_eq!((world.verdict(&caller), world.verdict(&pki.leaf)), ("denied", "accepted"));
    assert_eq!(world.changes(), [Change::DenyList { entries: 1 }]);

    let large = vec![b'#'; 1024 * 1024 + 1];
    for (text, label) in [(&b""[..], "empty"), (b"nonsense", "malformed_deny_list"), (&large, "too_large")] {
        fs::write(world.path("deny.yaml"), text).unwrap();
        world.settle();
        let snapshot = world.pass(2000);
        assert_eq!(world.labels(), [label]);
        assert_eq!((snapshot.problems[0].severity, snapshot.trust_generation), (Severity::Warning, 2));
        assert_eq!(world.verdict(&caller), "denied", "{label}");
        snapshot.ready(instant(NOW)).unwrap();
    }
    fs::remove_file(world.path("deny.yaml")).unwrap();
    world.pass(2000);
    assert_eq!((world.labels().as_slice(), world.verdict(&caller)), (&["missing"][..], "denied"));

    fs::write(world.path("deny.yaml"), "# nobody").unwrap();
    assert_eq!(world.settle().trust_generation, 3);
    assert_eq!(world.verdict(&caller), "accepted");
}

#[test]
fn our_own_denied_identity_is_an_alarm_and_is_still_presented() {
    let pki = prod();
    let mut world = world(&pki, |directory| fs::write(directory.join("deny.yaml"), "# nobody").unwrap());
    fs::write(world.path("deny.yaml"), API).unwrap();
    let snapshot = world.settle();
    assert_eq!(world.labels(), ["not_trusted_by_own_bundle"]);
    assert_eq!(snapshot.problems[0].severity, Severity::Alarm);
    assert!(snapshot.problems[0].message.contains("denied"), "{:?}", snapshot.problems);
    snapshot.ready(instant(NOW)).unwrap();
}
