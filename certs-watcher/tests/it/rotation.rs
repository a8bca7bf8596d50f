//! Every way in which files are replaced in the field, each noticed without polling.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use portcullis_certs_watcher::{Outcome, Pace};

use crate::pki::{API, Authority, Leaf, Prod, prod};
use crate::world::{ANNOUNCED_ONLY, Links, World, publish, serial_of, write_leaf};

fn numbered(authority: &Authority, serial: u64) -> Leaf {
    authority.leaf_with(API, |params| params.serial_number = Some(serial.into()))
}

fn publish_leaf(volume: &Path, name: &str, links: Links, leaf: &Leaf) {
    publish(volume, name, links, &[("tls.crt", &leaf.chain_pem()), ("tls.key", &leaf.key_pem())]);
}

/// Trust in a kubelet volume, which the identity is beside.
fn trusted(directory: &Path, pki: &Prod) {
    publish(&directory.join("trust"), "..1", Links::After, &[("prod.pem", &pki.root.pem())]);
}

#[tokio::test]
async fn a_directory_that_does_not_exist_yet_is_awaited() {
    let pki = prod();
    World::run(
        |_| {},
        async |world| {
            assert!(world.credentials.snapshot().material.is_none());
            trusted(world.directory.path(), &pki);
            world.eventually("trust", |snapshot| snapshot.trust_generation == 1).await;
            // Made under another name and moved into place, so that its files are there the moment it is.
            write_leaf(&world.path("elsewhere"), &pki.leaf);
            fs::rename(world.path("elsewhere"), world.path("identity")).unwrap();
            world.eventually_serial("0abc").await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_directory_that_is_removed_and_made_again_is_followed() {
    let pki = prod();
    let prepare = |directory: &Path| {
        trusted(directory, &pki);
        publish_leaf(&directory.join("identity"), "..1", Links::After, &pki.leaf);
    };
    World::run(prepare, async |world| {
        let identity = world.path("identity");
        for serial in 1..=5 {
            fs::remove_dir_all(&identity).unwrap();
            publish_leaf(&identity, "..1", Links::After, &numbered(&pki.intermediate, serial));
            world.eventually_serial(&format!("{serial:02x}")).await;
        }
        // Moved away as a whole, and another put in its place.
        fs::rename(&identity, world.path("retired")).unwrap();
        publish_leaf(&world.path("next"), "..1", Links::Before, &numbered(&pki.intermediate, 6));
        fs::rename(world.path("next"), &identity).unwrap();
        world.eventually_serial("06").await;
        publish_leaf(&identity, "..2", Links::Before, &numbered(&pki.intermediate, 7));
        world.eventually_serial("07").await;
    })
    .await;
}

#[tokio::test]
async fn a_directory_behind_a_link_is_followed_when_the_link_is_turned() {
    let pki = prod();
    let prepare = |directory: &Path| {
        trusted(directory, &pki);
        write_leaf(&directory.join("a"), &pki.leaf);
        symlink("a", directory.join("identity")).unwrap();
    };
    World::run(prepare, async |world| {
        write_leaf(&world.path("b"), &numbered(&pki.intermediate, 2));
        symlink("b", world.path("turn")).unwrap();
        fs::rename(world.path("turn"), world.path("identity")).unwrap();
        world.eventually_serial("02").await;
        write_leaf(&world.path("b"), &numbered(&pki.intermediate, 3));
        world.eventually_serial("03").await;
    })
    .await;
}

#[tokio::test]
async fn plain_files_are_taken_when_written_in_place_or_renamed_into_place() {
    let pki = prod();
    let prepare = |directory: &Path| {
        trusted(directory, &pki);
        write_leaf(&directory.join("identity"), &pki.leaf);
    };
    World::run(prepare, async |world| {
        write_leaf(&world.path("identity"), &numbered(&pki.intermediate, 2));
        world.eventually_serial("02").await;
        write_leaf(&world.path("new"), &numbered(&pki.intermediate, 3));
        for file in ["tls.key", "tls.crt"] {
            fs::rename(world.path("new").join(file), world.path("identity").join(file)).unwrap();
        }
        world.eventually_serial("03").await;
        assert!(world.events.lock().unwrap().iter().all(|event| matches!(event.outcome, Outcome::Published { .. })));
    })
    .await;
}

#[tokio::test]
async fn a_bundle_inside_a_volume_is_swapped_with_it() {
    let pki = prod();
    let next = Authority::root("next");
    let prepare = |directory: &Path| {
        trusted(directory, &pki);
        write_leaf(&directory.join("identity"), &pki.leaf);
    };
    World::run(prepare, async |world| {
        let both = format!("{}{}", pki.root.pem(), next.pem());
        publish(&world.path("trust"), "..2", Links::After, &[("prod.pem", &both)]);
        world.eventually("overlap", |snapshot| snapshot.trust_generation == 2).await;
        assert!(world.credentials.snapshot().problems.is_empty());
        publish(&world.path("trust"), "..3", Links::After, &[("prod.pem", &next.pem())]);
        world.eventually("removal", |snapshot| snapshot.trust_generation == 3).await;
        assert_eq!(world.credentials.snapshot().problems[0].label, "not_trusted_by_own_bundle");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_swap_is_mixed_and_the_last_is_never_missed() {
    const SWAPS: u64 = 2000;
    let pki = prod();
    let leaves: Vec<_> = (1..=16).map(|serial| numbered(&pki.intermediate, serial)).collect();
    let prepare = |directory: &Path| {
        trusted(directory, &pki);
        publish_leaf(&directory.join("identity"), "..0", Links::After, &pki.leaf);
    };
    World::run(prepare, async |world| {
        let volume = world.path("identity");
        let done = Arc::new(AtomicBool::new(false));
        let reader = {
            let (credentials, done) = (world.credentials.clone(), done.clone());
            thread::spawn(move || {
                let (mut seen, mut generation) = (0_u64, 0);
                while !done.load(Ordering::Acquire) {
                    let snapshot = credentials.snapshot();
                    let material = snapshot.material.as_ref().unwrap();
                    material.certified_key().keys_match().unwrap();
                    assert!(snapshot.identity_generation >= generation);
                    seen += u64::from(snapshot.identity_generation > generation);
                    generation = snapshot.identity_generation;
                    thread::yield_now();
                }
                seen
            })
        };
        let writer = thread::spawn(move || {
            for swap in 1..=SWAPS {
                let links = if swap % 2 == 0 { Links::Before } else { Links::After };
                if swap % 3 == 0 {
                    // A kubelet that restarts makes the visible links anew.
                    fs::remove_file(volume.join("tls.key")).unwrap();
                }
                let leaf = &leaves[usize::try_from(swap).unwrap() % leaves.len()];
                publish_leaf(&volume, &format!("..{swap}"), links, leaf);
            }
        });
        world.eventually("some swap", |snapshot| snapshot.identity_generation > 1).await;
        while !writer.is_finished() {
            tokio::task::yield_now().await;
        }
        writer.join().unwrap();
        // 2000 % 16 is 0, so the last is the first of the leaves.
        world.eventually_serial("01").await;
        done.store(true, Ordering::Release);
        let seen = reader.join().unwrap();
        assert!(seen > 1, "the reader saw {seen} generations");
        let events = world.events.lock().unwrap();
        assert!(events.iter().all(|event| matches!(event.outcome, Outcome::Published { .. })), "{events:?}");
        println!("{} generations published for {SWAPS} swaps, {seen} seen by the reader", events.len());
    })
    .await;
}

#[tokio::test]
async fn a_swap_is_published_at_once() {
    let pki = prod();
    let prepare = |directory: &Path| {
        trusted(directory, &pki);
        publish_leaf(&directory.join("identity"), "..0", Links::After, &pki.leaf);
    };
    // Whatever is not taken at once would be taken in an hour.
    let pace = Pace { settle: Duration::from_secs(3600), ..ANNOUNCED_ONLY };
    World::run_at(pace, prepare, async |world| {
        for serial in 1..=50_u64 {
            let leaf = numbered(&pki.intermediate, serial);
            publish_leaf(&world.path("identity"), &format!("..{serial}"), Links::After, &leaf);
            world.eventually("swap", |snapshot| serial_of(snapshot) == Some(&format!("{serial:02x}"))).await;
        }
    })
    .await;
}
