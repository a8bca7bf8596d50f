//! Files that are reached through links, each way noticed as it changes, without polling and without settling.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_certs_watcher::{Pace, Sources};

use crate::pki::{API, Authority, Leaf, prod};
use crate::world::{ANNOUNCED_ONLY, World, serial_of, write_leaf};

/// Whatever is not taken at once would be taken in an hour.
const AT_ONCE: Pace = Pace { settle: Duration::from_secs(3600), ..ANNOUNCED_ONLY };

fn numbered(authority: &Authority, serial: u64) -> Leaf {
    authority.leaf_with(API, |params| params.serial_number = Some(serial.into()))
}

/// Swaps a projected volume with directories in it, as the kubelet does: `identity -> ..data/identity`.
fn publish(volume: &Path, name: &str, leaf: &Leaf, anchors: &str) {
    write_leaf(&volume.join(name).join("identity"), leaf);
    fs::create_dir_all(volume.join(name).join("trust")).unwrap();
    fs::write(volume.join(name).join("trust/prod.pem"), anchors).unwrap();
    let data = volume.join("..data");
    let old = fs::read_link(&data).ok();
    symlink(name, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), data).unwrap();
    for directory in ["identity", "trust"] {
        if !volume.join(directory).is_symlink() {
            symlink(Path::new("..data").join(directory), volume.join(directory)).unwrap();
        }
    }
    if let Some(old) = old {
        fs::remove_dir_all(volume.join(old)).unwrap();
    }
}

#[tokio::test]
async fn directories_of_a_projected_volume_are_swapped_together() {
    let pki = prod();
    World::run_over(
        |_| {},
        AT_ONCE,
        |directory| publish(directory, "..0", &pki.leaf, &pki.root.pem()),
        async |world| {
            for serial in 1..=20 {
                // A new root and a leaf below it, in one swap: neither is good without the other.
                let root = Authority::root("another");
                let leaf = numbered(&root.intermediate("prod"), serial);
                publish(world.directory.path(), &format!("..{serial}"), &leaf, &root.pem());
                world.eventually_serial(&format!("{serial:02x}")).await;
                let snapshot = world.credentials.snapshot();
                assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_link_in_the_middle_of_the_path_may_be_turned() {
    let pki = prod();
    let below_current = |sources: &mut Sources| {
        let beside = |name: &str| -> PathBuf { sources.identity.directory().unwrap().with_file_name(name) };
        sources.trust[0].bundle = beside("current/prod.pem").into();
        sources.identity = beside("current/identity").into();
    };
    let release = |directory: &Path, leaf: &Leaf, name: &str| {
        write_leaf(&directory.join(name).join("identity"), leaf);
        fs::write(directory.join(name).join("prod.pem"), pki.root.pem()).unwrap();
        symlink(name, directory.join("turn")).unwrap();
        fs::rename(directory.join("turn"), directory.join("current")).unwrap();
    };
    World::run_over(
        below_current,
        ANNOUNCED_ONLY,
        |directory| release(directory, &pki.leaf, "1"),
        async |world| {
            for serial in 2..=5 {
                release(world.directory.path(), &numbered(&pki.intermediate, serial), &serial.to_string());
                world.eventually("turn", |snapshot| serial_of(snapshot) == Some(&format!("{serial:02x}"))).await;
            }
            // In place, below the link.
            write_leaf(&world.path("5/identity"), &numbered(&pki.intermediate, 6));
            world.eventually_serial("06").await;
        },
    )
    .await;
}
