//! A workload's directories with a running watcher over them.

use std::fs;
use std::future::Future;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_certs_watcher::{Credentials, Event, Pace, Snapshot, Sources, TrustSource, Watcher};
use spiffe::TrustDomain;
use tempfile::TempDir;

use crate::pki::{Leaf, now};

pub struct World {
    pub directory: TempDir,
    pub credentials: Credentials,
    pub events: Arc<Mutex<Vec<Event>>>,
}

/// Nothing is found by looking again: what these tests see was announced.
pub const ANNOUNCED_ONLY: Pace = Pace {
    poll: Duration::from_secs(3600),
    settle: Duration::from_millis(100),
    patience: Duration::from_secs(3600),
    retry: Duration::from_secs(3600),
};

/// Long enough for a loaded machine; no test that passes ever waits for it.
const DEADLINE: Duration = Duration::from_secs(30);

impl World {
    /// Fills the directory, starts the watcher over `identity` and `trust/prod.pem` in it, and runs the test beside it.
    pub async fn run<F: Future<Output = ()>>(prepare: impl FnOnce(&Path), test: impl FnOnce(Self) -> F) {
        Self::run_at(ANNOUNCED_ONLY, prepare, test).await;
    }

    /// The same at another pace.
    pub async fn run_at<F: Future<Output = ()>>(pace: Pace, prepare: impl FnOnce(&Path), test: impl FnOnce(Self) -> F) {
        Self::run_over(|_| {}, pace, prepare, test).await;
    }

    /// The same over more sources.
    pub async fn run_over<F: Future<Output = ()>>(
        edit: impl FnOnce(&mut Sources),
        pace: Pace,
        prepare: impl FnOnce(&Path),
        test: impl FnOnce(Self) -> F,
    ) {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let mut sources = Sources {
            identity: directory.path().join("identity").into(),
            expected: None,
            trust: vec![TrustSource::new(
                TrustDomain::new("prod.test").unwrap(),
                directory.path().join("trust/prod.pem"),
            )],
            deny_list: None,
        };
        edit(&mut sources);
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let told = events.clone();
        let observer = Box::new(move |event: &Event| told.lock().unwrap().push(event.clone()));
        let (watcher, credentials) = Watcher::new(sources, pace, Arc::new(now), observer);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let test = async {
            test(Self { directory, credentials, events }).await;
            stop.send(()).unwrap();
        };
        let run = watcher.run(async move { drop(stopped.await) });
        tokio::join!(run, test);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until a snapshot is as wanted.
    pub async fn eventually(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) {
        let mut changed = self.credentials.changed();
        let wait = async {
            while !wanted(&self.credentials.snapshot()) {
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(DEADLINE, wait).await.is_err() {
            panic!("{what}: last seen {:?}, told {:?}", self.credentials.snapshot(), self.events.lock().unwrap());
        }
    }

    pub async fn eventually_serial(&self, serial: &str) {
        self.eventually(serial, |snapshot| serial_of(snapshot) == Some(serial)).await;
    }
}

pub fn serial_of(snapshot: &Snapshot) -> Option<&str> {
    snapshot.material.as_ref().map(|material| material.serial())
}

pub fn write_leaf(directory: &Path, leaf: &Leaf) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("tls.crt"), leaf.chain_pem()).unwrap();
    fs::write(directory.join("tls.key"), leaf.key_pem()).unwrap();
}

/// Which kubelet: the user-visible links used to be made before the swap, newer ones make them after it.
#[derive(Clone, Copy)]
pub enum Links {
    Before,
    After,
}

/// Publishes files into a volume as the kubelet does: a new directory, a swap, the old directory removed.
pub fn publish(volume: &Path, name: &str, links: Links, files: &[(&str, &str)]) {
    let data = volume.join("..data");
    let old = fs::read_link(&data).ok();
    fs::create_dir_all(volume.join(name)).unwrap();
    for (file, text) in files {
        fs::write(volume.join(name).join(file), text).unwrap();
    }
    let link = || {
        for (file, _) in files {
            let visible = volume.join(file);
            if !visible.is_symlink() {
                symlink(Path::new("..data").join(file), visible).unwrap();
            }
        }
    };
    if matches!(links, Links::Before) {
        link();
    }
    symlink(name, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), &data).unwrap();
    if matches!(links, Links::After) {
        link();
    }
    if let Some(old) = old {
        fs::remove_dir_all(volume.join(old)).unwrap();
    }
}
