//! Ten thousand swaps of a volume: no generation is mixed, none goes backwards, and none that stands is missed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use portcullis_certs_watcher::Outcome;
use portcullis_certs_watcher::volume::{Layout, VolumeError, read_identity};
use rcgen::KeyPair;
use tempfile::TempDir;

use crate::pki::{API, Authority, Prod, leaf_params, pem, prod};
use crate::world::{Links, World, publish, serial_of};

const SWAPS: u64 = 10_000;

/// For one swap to be seen; no test that passes ever waits for it.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where the kubelet has its Secrets too: a disk would take most of the time of these tests.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn links_of(swap: u64) -> Links {
    if swap.is_multiple_of(2) { Links::Before } else { Links::After }
}

#[test]
fn a_reader_beside_ten_thousand_swaps_reads_whole_generations_that_only_advance() {
    let directory = in_memory();
    let volume = directory.path();
    let put = |swap: u64| {
        let (certificate, key) = (format!("certificate {swap}"), format!("key {swap}"));
        publish(volume, &format!("..{swap}"), links_of(swap), &[("tls.crt", &certificate), ("tls.key", &key)]);
    };
    put(0);
    let done = AtomicBool::new(false);
    let (reads, generations) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, mut generations, mut last) = (0_u64, 0_u64, None);
            loop {
                let was_done = done.load(Ordering::Acquire);
                let files = match read_identity(volume) {
                    Ok(files) => files,
                    // Overtaken in every attempt: no read, and said so.
                    Err(VolumeError::Restless { .. }) => continue,
                    Err(error) => panic!("{error}"),
                };
                assert_eq!(files.layout, Layout::Swapped);
                let certificate = number(&files.certificate, "certificate ");
                assert_eq!(certificate, number(&files.key, "key "), "two generations in one");
                assert!(last.is_none_or(|last| last <= certificate), "{certificate} after {last:?}");
                generations += u64::from(last != Some(certificate));
                (last, reads) = (Some(certificate), reads + 1);
                if was_done {
                    assert_eq!(certificate, SWAPS, "the last is read");
                    return (reads, generations);
                }
            }
        });
        (1..=SWAPS).for_each(put);
        done.store(true, Ordering::Release);
        reader.join().unwrap()
    });
    println!("{reads} reads during {SWAPS} swaps saw {generations} generations");
    assert!(generations > 100, "{generations} generations: the two did not run beside each other");
}

fn number(text: &[u8], before: &str) -> u64 {
    std::str::from_utf8(text).unwrap().strip_prefix(before).unwrap().parse().unwrap()
}

/// The leaves of the swaps: each with a serial number of its own, and with another key than the one before.
struct Leaves {
    issuer: Authority,
    keys: Vec<(KeyPair, String)>,
}

impl Leaves {
    fn new(pki: Prod) -> Self {
        let key = || KeyPair::generate().unwrap();
        let keys = (0..7).map(|_| key()).map(|key| (key.serialize_pem(), key)).map(|(pem, key)| (key, pem)).collect();
        Self { issuer: pki.intermediate, keys }
    }

    fn publish(&self, volume: &Path, swap: u64) {
        let (key, key_pem) = &self.keys[usize::try_from(swap).unwrap() % self.keys.len()];
        let mut params = leaf_params(API);
        params.serial_number = Some((FIRST + swap).into());
        let leaf = params.signed_by(key, &self.issuer.issuer).unwrap().der().clone();
        let chain = pem(&[leaf, self.issuer.der.clone()]);
        publish(volume, &format!("..{swap}"), links_of(swap), &[("tls.crt", &chain), ("tls.key", key_pem)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_swaps_are_published_whole_and_in_order_and_what_stands_is_never_missed() {
    let pki = prod();
    let anchor = pki.root.pem();
    let leaves = Arc::new(Leaves::new(pki));
    let written = leaves.clone();
    let memory = in_memory();
    let prepare = |directory: &Path| {
        publish(&directory.join("trust"), "..1", Links::After, &[("prod.pem", &anchor)]);
        leaves.publish(memory.path(), 0);
        symlink(memory.path(), directory.join("identity")).unwrap();
    };
    World::run(prepare, async |world| {
        let (seen, sees) = mpsc::channel();
        let volume = world.path("identity");
        let writer = thread::spawn(move || {
            for swap in 1..=SWAPS {
                if swap.is_multiple_of(3) {
                    // A kubelet that restarts makes the visible links anew.
                    fs::remove_file(volume.join("tls.key")).unwrap();
                }
                written.publish(&volume, swap);
                // Nothing polls: one that stands and was not announced would stand unseen for ever.
                while swap.is_multiple_of(STANDS) && sees.recv_timeout(DEADLINE).expect("a swap was missed") < swap {}
            }
        });
        let mut changed = world.credentials.changed();
        let mut last = 0;
        while last < SWAPS {
            let waited = tokio::time::timeout(DEADLINE, changed.changed()).await;
            waited.unwrap_or_else(|_| panic!("nothing came after {last}")).unwrap();
            let snapshot = world.credentials.snapshot();
            let now = u64::from_str_radix(serial_of(&snapshot).unwrap(), 16).unwrap() - FIRST;
            snapshot.material.as_ref().unwrap().certified_key().keys_match().unwrap();
            assert!(now >= last, "{now} after {last}");
            last = now;
            // Whoever does not wait any more has seen the last.
            let _ = seen.send(now);
        }
        writer.join().unwrap();
        let events = world.events.lock().unwrap();
        assert!(events.iter().all(|event| matches!(event.outcome, Outcome::Published { .. })), "{events:?}");
        println!("{SWAPS} swaps, {} generations published", events.len());
        assert!(events.len() as u64 > SWAPS / STANDS, "{} events", events.len());
    })
    .await;
}

/// The serial number of the first leaf: with eight bytes from the start, numbers have one length.
const FIRST: u64 = 1 << 56;

/// Every so many swaps, the writer waits until what it wrote is published; in between it is faster than anybody reads.
const STANDS: u64 = 10;
