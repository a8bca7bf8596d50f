//! Files as they are laid out and broken in the field, under a running watcher: what is not whole is never published, what
//! was published stays, and what is whole in the end is taken without polling.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use portcullis_certs_watcher::{Outcome, Pace, Subject};

use crate::pki::{API, Authority, Leaf, Prod, prod};
use crate::world::{ANNOUNCED_ONLY, Links, World, publish, serial_of, write_leaf};

fn numbered(authority: &Authority, serial: u64) -> Leaf {
    authority.leaf_with(API, |params| params.serial_number = Some(serial.into()))
}

fn prepared(pki: &Prod, identity: impl FnOnce(&Path)) -> impl FnOnce(&Path) {
    let anchor = pki.root.pem();
    move |directory| {
        publish(&directory.join("trust"), "..1", Links::After, &[("prod.pem", &anchor)]);
        identity(&directory.join("identity"));
    }
}

/// A volume of a CSI driver or of the kubelet, in its first generation.
fn volume(leaf: &Leaf) -> impl FnOnce(&Path) {
    let (chain, key) = (leaf.chain_pem(), leaf.key_pem());
    move |identity| publish(identity, "..1", Links::After, &[("tls.crt", &chain), ("tls.key", &key)])
}

impl World {
    /// The labels of what was refused about the identity.
    fn refusals(&self) -> Vec<&'static str> {
        let events = self.events.lock().unwrap();
        let labels = events.iter().map(|event| match (&event.subject, &event.outcome) {
            (Subject::Identity, Outcome::Refused { label }) => Some(*label),
            _ => None,
        });
        labels.flatten().collect()
    }

    /// Waits until so many refusals of the identity were told.
    async fn eventually_refused(&self, what: &str, count: usize) {
        let wait = async {
            while self.refusals().len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        waited.unwrap_or_else(|_| panic!("{what}: refused are {:?}", self.refusals()));
    }
}

/// What is wrong is said at once, so that no test has to wait for it; nothing is found by looking again.
const IMPATIENT: Pace = Pace { patience: Duration::ZERO, ..ANNOUNCED_ONLY };

/// Every length is tried near the end, where it matters, and one in seventeen before.
fn cuts(text: &str) -> Vec<usize> {
    (0..text.len()).filter(|length| length % 17 == 0 || length + 40 > text.len()).collect()
}

#[tokio::test]
async fn a_generation_cut_off_anywhere_is_refused_and_the_last_good_one_stays() {
    let pki = prod();
    World::run_at(IMPATIENT, prepared(&pki, volume(&pki.leaf)), async |world| {
        let identity = world.path("identity");
        let next = numbered(&pki.intermediate, 2);
        let (chain, key) = (next.chain_pem(), next.key_pem());
        // Without its last line feed, a file is whole all the same.
        let whole = |text: &str, length| text[..length].trim_end() == text.trim_end();
        let mut generation = 1;
        let mut refused = 0;
        let certificates = cuts(&chain).into_iter().filter(|length| !whole(&chain, *length));
        let keys = cuts(&key).into_iter().filter(|length| !whole(&key, *length));
        let halves = certificates
            .map(|length| (&chain[..length], &key[..]))
            .chain(keys.map(|length| (&chain[..], &key[..length])));
        for (chain, key) in halves {
            generation += 1;
            refused += 1;
            let files = [("tls.crt", chain), ("tls.key", key)];
            publish(&identity, &format!("..{generation}"), Links::Before, &files);
            world.eventually_refused(&format!("{} and {} bytes", chain.len(), key.len()), refused).await;
            assert_eq!(serial_of(&world.credentials.snapshot()), Some("0abc"));
        }
        assert!(refused > 100, "{refused} cuts");
        let known = ["empty", "no_certificate", "no_key", "truncated_pem", "damaged_pem", "unknown_issuer"];
        let strange: Vec<_> = world.refusals().into_iter().filter(|label| !known.contains(label)).collect();
        assert!(strange.is_empty(), "{strange:?}");

        publish(&identity, "..whole", Links::Before, &[("tls.crt", chain.trim_end()), ("tls.key", key.trim_end())]);
        world.eventually_serial("02").await;
        assert!(world.credentials.snapshot().problems.is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_is_not_a_readable_file_is_refused_without_waiting_for_it() {
    let pki = prod();
    World::run_at(IMPATIENT, prepared(&pki, volume(&pki.leaf)), async |world| {
        let identity = world.path("identity");
        let next = numbered(&pki.intermediate, 2);
        // A volume whose `tls.key` is what `place` makes of it.
        let swap = |generation: &str, place: &dyn Fn(&Path)| {
            let directory = identity.join(generation);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("tls.crt"), next.chain_pem()).unwrap();
            place(&directory.join("tls.key"));
            symlink(generation, identity.join("..data_tmp")).unwrap();
            fs::rename(identity.join("..data_tmp"), identity.join("..data")).unwrap();
        };
        let mut expected = Vec::new();
        for (generation, label, place) in [
            // A failure that lasts is told once, so no two of a kind follow each other.
            ("..absent", "missing", &(|_: &Path| {}) as &dyn Fn(&Path)),
            ("..directory", "not_a_file", &|key| fs::create_dir(key).unwrap()),
            ("..dangling", "missing", &|key| symlink("nowhere", key).unwrap()),
            // To open it would wait for a writer.
            ("..fifo", "not_a_file", &|key| assert!(Command::new("mkfifo").arg(key).status().unwrap().success())),
            ("..circle", "unreadable", &|key| symlink("tls.key", key).unwrap()),
            // To read it would never end.
            ("..device", "not_a_file", &|key| symlink("/dev/zero", key).unwrap()),
            ("..large", "too_large", &|key| fs::write(key, vec![b'x'; 2 << 20]).unwrap()),
            ("..full", "not_a_file", &|key| symlink("/dev/full", key).unwrap()),
            ("..empty", "empty", &|key| fs::write(key, "").unwrap()),
            ("..socket", "not_a_file", &|key| drop(UnixListener::bind(key).unwrap())),
            ("..other", "key_mismatch", &|key| fs::write(key, pki.leaf.key_pem()).unwrap()),
        ] {
            swap(generation, place);
            expected.push(label);
            world.eventually_refused(generation, expected.len()).await;
            assert_eq!(world.refusals(), expected, "{generation}");
            assert_eq!(serial_of(&world.credentials.snapshot()), Some("0abc"));
        }
        let closed = |key: &Path| {
            fs::write(key, next.key_pem()).unwrap();
            fs::set_permissions(key, fs::Permissions::from_mode(0o000)).unwrap();
        };
        swap("..closed", &closed);
        // Root reads it all the same, and then it is good.
        if fs::File::open(identity.join("..closed/tls.key")).is_err() {
            expected.push("unreadable");
            world.eventually_refused("..closed", expected.len()).await;
            fs::set_permissions(identity.join("..closed/tls.key"), fs::Permissions::from_mode(0o600)).unwrap();
        }
        swap("..good", &|key| fs::write(key, next.key_pem()).unwrap());
        world.eventually_serial("02").await;
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_the_system_stops_half_way_does_no_harm() {
    let pki = prod();
    World::run_at(IMPATIENT, prepared(&pki, volume(&pki.leaf)), async |world| {
        let identity = world.path("identity");
        let next = numbered(&pki.intermediate, 2);
        write_leaf(&world.path("source"), &next);
        fs::create_dir(identity.join("..2")).unwrap();
        // No test may fill a disk. A bound on the size of files stops a write in the same place: some of it is there, and
        // the rest is refused.
        let script = "trap '' XFSZ; ulimit -f 1; cat \"$1\" >\"$2\"";
        let written = Command::new("bash")
            .args(["-c", script, "bash"])
            .args([world.path("source/tls.crt"), identity.join("..2/tls.crt")])
            .output()
            .unwrap();
        assert!(!written.status.success(), "{written:?}");
        let length = fs::metadata(identity.join("..2/tls.crt")).unwrap().len();
        assert_eq!(length, 1024, "{written:?}");

        // 1. A kubelet stops before the swap, so that nothing has happened.
        symlink("..2", identity.join("..data_tmp")).unwrap();
        // 2. Another writer does not look, and swaps.
        fs::write(identity.join("..2/tls.key"), next.key_pem()).unwrap();
        assert!(world.refusals().is_empty());
        fs::rename(identity.join("..data_tmp"), identity.join("..data")).unwrap();
        world.eventually_refused("half a file", 1).await;
        assert_eq!(world.refusals(), ["truncated_pem"]);
        assert_eq!(serial_of(&world.credentials.snapshot()), Some("0abc"));

        // 3. There is room again.
        publish(&identity, "..3", Links::After, &[("tls.crt", &next.chain_pem()), ("tls.key", &next.key_pem())]);
        world.eventually_serial("02").await;
        assert!(world.credentials.snapshot().problems.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_volume_that_swaps_a_link_of_another_name_is_followed() {
    let pki = prod();
    let chain = |leaf: &Leaf, directory: &Path| write_leaf(directory, leaf);
    let first = |identity: &Path| {
        chain(&pki.leaf, &identity.join("versions/1"));
        symlink("versions/1", identity.join("current")).unwrap();
        symlink("current/tls.crt", identity.join("tls.crt")).unwrap();
        symlink("current/tls.key", identity.join("tls.key")).unwrap();
    };
    World::run(prepared(&pki, first), async |world| {
        let identity = world.path("identity");
        for version in 2..=5_u64 {
            chain(&numbered(&pki.intermediate, version), &identity.join(format!("versions/{version}")));
            symlink(format!("versions/{version}"), identity.join("next")).unwrap();
            fs::rename(identity.join("next"), identity.join("current")).unwrap();
            world.eventually_serial(&format!("{version:02x}")).await;
        }
        assert!(world.refusals().is_empty(), "{:?}", world.refusals());
    })
    .await;
}

#[tokio::test]
async fn a_volume_that_is_a_link_itself_is_followed_when_that_is_swapped() {
    let pki = prod();
    let first = |identity: &Path| {
        volume(&pki.leaf)(&identity.with_file_name("mount-1"));
        symlink("mount-1", identity).unwrap();
    };
    World::run(prepared(&pki, first), async |world| {
        for mount in 2..=5_u64 {
            let leaf = numbered(&pki.intermediate, mount);
            volume(&leaf)(&world.path(&format!("mount-{mount}")));
            symlink(format!("mount-{mount}"), world.path("turn")).unwrap();
            fs::rename(world.path("turn"), world.path("identity")).unwrap();
            world.eventually_serial(&format!("{mount:02x}")).await;
            // What the link led to before is taken away, and what it leads to goes on being swapped.
            fs::remove_dir_all(world.path(&format!("mount-{}", mount - 1))).unwrap();
            let leaf = numbered(&pki.intermediate, mount + 100);
            let files = [("tls.crt", &leaf.chain_pem()[..]), ("tls.key", &leaf.key_pem()[..])];
            publish(&world.path("identity"), "..2", Links::Before, &files);
            world.eventually_serial(&format!("{:02x}", mount + 100)).await;
        }
        assert!(world.refusals().is_empty(), "{:?}", world.refusals());
    })
    .await;
}

#[tokio::test]
async fn plain_files_renamed_into_place_in_either_order_are_taken_once_both_are_there() {
    let pki = prod();
    let plain = |identity: &Path| write_leaf(identity, &pki.leaf);
    World::run(prepared(&pki, plain), async |world| {
        for (serial, order) in (2..).zip([["tls.key", "tls.crt"], ["tls.crt", "tls.key"]].repeat(3)) {
            let next = world.path(&format!("next-{serial}"));
            write_leaf(&next, &numbered(&pki.intermediate, serial));
            for file in order {
                fs::rename(next.join(file), world.path("identity").join(file)).unwrap();
            }
            world.eventually_serial(&format!("{serial:02x}")).await;
        }
        assert!(world.refusals().is_empty(), "{:?}", world.refusals());
    })
    .await;
}

#[tokio::test]
async fn two_generations_in_plain_files_are_not_published_for_as_long_as_they_lie_there() {
    let pki = prod();
    let plain = |identity: &Path| write_leaf(identity, &pki.leaf);
    World::run_at(IMPATIENT, prepared(&pki, plain), async |world| {
        let next = numbered(&pki.intermediate, 2);
        for (number, (file, text)) in [("tls.crt", next.chain_pem()), ("tls.key", next.key_pem())].iter().enumerate() {
            fs::write(world.path("identity").join(file), text).unwrap();
            world.eventually_refused(file, number + 1).await;
            assert_eq!(serial_of(&world.credentials.snapshot()), Some("0abc"));
            // Back to one generation, so that the next half is new again.
            write_leaf(&world.path("identity"), &pki.leaf);
            world.eventually("the first generation", |snapshot| snapshot.problems.is_empty()).await;
        }
        assert_eq!(world.refusals(), ["key_mismatch", "key_mismatch"]);
        write_leaf(&world.path("identity"), &next);
        world.eventually_serial("02").await;
    })
    .await;
}
