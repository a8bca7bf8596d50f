//! Notices that something changed in the directories of some sources: our own here, the policy in the proxy.
//!
//! Directories are watched, never files: in a kubelet volume a file's inode dies with every swap. A directory that does
//! not exist is awaited in the nearest one above it that does, and each symbolic link on the way is watched where it lies,
//! since it may be turned. What changed is of no interest, since a pass looks at everything and compares content; a notice
//! that is lost is made up for by the poll.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, fs};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::volume::{DATA_LINK, follow};

/// Watches the directories of the sources.
pub struct Notice {
    /// None if the system has no watch to give; then the poll is all there is.
    watcher: Option<RecommendedWatcher>,
    armed: Watched,
    sources: Vec<PathBuf>,
    shared: Arc<Shared>,
    warned: bool,
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notice").field("armed", &self.armed).finish_non_exhaustive()
    }
}

/// What the thread of the watcher and the loop share.
#[derive(Default)]
struct Shared {
    wake: Notify,
    /// A watched directory went away or was moved: its watch may be dead even if a new one has its name.
    lost: AtomicBool,
    watched: Mutex<Watched>,
}

/// What is watched. All paths are without links, so that one directory never has two names: announcements use one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Watched {
    directories: BTreeMap<PathBuf, FileId>,
    /// What in them matters: the sources, and the links on the way to them.
    concerns: BTreeSet<PathBuf>,
}

/// Device and inode: a directory that was recreated under its old name is another one.
type FileId = (u64, u64);

impl Notice {
    /// Watches for changes at or below these paths, files or directories, from the first [`Notice::arm`] on.
    pub fn new<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        // Absolute, since the paths of announcements are compared with them. That fails only without a working
        // directory, and then a relative path leads nowhere either.
        let sources =
            paths.into_iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect();
        let shared = Arc::<Shared>::default();
        let seen = shared.clone();
        let watcher = notify::recommended_watcher(move |event| seen.notice(event));
        let watcher = watcher
            .inspect_err(|error| warn!(%error, "no file notifications: changes are found by polling alone"))
            .ok();
        Self { watcher, armed: Watched::default(), sources, shared, warned: false }
    }

    /// Whether changes are announced at all.
    pub fn is_blind(&self) -> bool {
        self.watcher.is_none() || self.warned
    }

    /// Watches what is there to be watched just now. True if a watch was added: then something may have changed before
    /// it, and everything has to be looked at once more.
    pub fn arm(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let lost = self.shared.lost.swap(false, Ordering::AcqRel);
        let mut wanted = Watched::default();
        for source in &self.sources {
            wanted.add(source);
        }
        if wanted == self.armed && !lost {
            return false;
        }

        for (path, id) in &self.armed.directories {
            if lost || wanted.directories.get(path) != Some(id) {
                // It fails if the directory is gone, and the watch with it: just what is wanted.
                let _ = watcher.unwatch(path);
            }
        }
        // Before watching: from the first event on, the thread has to know what is ours.
        *self.shared.watched() = wanted.clone();
        let mut added = false;
        let mut failed = Vec::new();
        for (path, id) in &wanted.directories {
            if !lost && self.armed.directories.get(path) == Some(id) {
                continue;
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => added = true,
                Err(error) => failed.push((path.clone(), error)),
            }
        }
        let refused = failed.iter().any(|(path, _)| path.exists());
        for (path, error) in failed {
            wanted.directories.remove(&path);
            // A directory that went away between being seen and being watched is no news.
            if refused && !self.warned {
                warn!(path = %path.display(), %error, "directory cannot be watched: its changes are found by polling alone");
            } else {
                debug!(path = %path.display(), %error, "directory cannot be watched");
            }
        }
        self.warned = refused;
        self.armed = wanted;
        added
    }

    /// Waits for the next change. One that came before this was called counts.
    pub async fn changed(&self) {
        self.shared.wake.notified().await;
    }
}

impl Shared {
    /// Runs on the thread of the watcher.
    fn notice(&self, event: notify::Result<Event>) {
        let Ok(event) = event else { return self.wake.notify_one() };
        if is_reading(event.kind) {
            return;
        }
        let watched = self.watched();
        if !event.paths.is_empty() && !event.paths.iter().any(|path| concerns_any(&watched.concerns, path)) {
            return;
        }
        if is_going_away(event.kind) && event.paths.first().is_some_and(|path| watched.directories.contains_key(path)) {
            self.lost.store(true, Ordering::Release);
        }
        self.wake.notify_one();
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Adds what shows a change of `source`.
    fn add(&mut self, source: &Path) {
        let (links, end) = follow(source);
        // What is behind `..data` never changes, and makes way for another directory with every swap.
        let is_volume = links.iter().any(|link| link.file_name().is_some_and(|name| name == DATA_LINK));
        for link in links {
            if let Some(directory) = link.parent() {
                self.add_directory(directory);
            }
            self.concerns.insert(link);
        }
        if !is_volume {
            let nearest = end.ancestors().find(|directory| directory.is_dir());
            if let Some(directory) = nearest {
                self.add_directory(directory);
            }
            self.concerns.insert(end);
        }
    }

    fn add_directory(&mut self, directory: &Path) {
        if let Ok(metadata) = fs::metadata(directory) {
            self.directories.insert(directory.to_owned(), (metadata.dev(), metadata.ino()));
        }
    }
}

/// Whether a change of `changed` can change what is read from one of the sources. A source may lie in a directory
/// where others are busy, such as `/tmp`; waking for each of them would keep a core busy too.
fn concerns_any(sources: &BTreeSet<PathBuf>, changed: &Path) -> bool {
    let name = changed.file_name().unwrap_or_default();
    // The kubelet's own names; the swap of the one link is what counts.
    if name.as_encoded_bytes().starts_with(b"..") {
        let volume = changed.parent();
        return name == DATA_LINK && sources.iter().any(|source| volume == Some(source) || volume == source.parent());
    }
    sources.iter().any(|source| source.starts_with(changed) || changed.starts_with(source))
}

/// Our own reading is announced too; waking for it would never end.
fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => false,
    }
}

fn is_going_away(kind: EventKind) -> bool {
    matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_concerns_a_source_wakes() {
        let sources = BTreeSet::from([PathBuf::from("/run/identity"), PathBuf::from("/tmp/trust/prod.pem")]);
        let check =
            |changed: &str, expected| assert_eq!(concerns_any(&sources, Path::new(changed)), expected, "{changed}");
        for changed in [
            "/run/identity/tls.crt",
            "/run/identity/..data",
            "/run/identity",
            "/run",
            "/tmp/trust",
            "/tmp/trust/prod.pem",
            "/tmp/trust/..data",
            "/",
        ] {
            check(changed, true);
        }
        for changed in [
            "/run/other",
            "/run/..data_tmp",
            "/run/identity/..data_tmp",
            "/run/identity/..2026_11_22_10_00_00.123456789",
            "/tmp/trust/dev.pem",
            "/tmp/prod.pem",
            "/tmp/..data",
        ] {
            check(changed, false);
        }
    }

    #[test]
    fn every_link_on_the_way_is_watched_where_it_lies_and_nothing_has_two_names() {
        let at = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(at.path()).unwrap();
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        fs::create_dir_all(root.join("releases/2/identity")).unwrap();
        link("releases/2", "current");
        link("../current/../../current/identity", "releases/mine");
        link("loop", "loop");
        let check = |source: &str, directories: &[&str], concerns: &[&str]| {
            let mut watched = Watched::default();
            watched.add(&root.join(source));
            let names = |names: &[&str]| names.iter().map(|name| root.join(name)).collect::<BTreeSet<_>>();
            let found: BTreeSet<_> = watched.directories.keys().cloned().collect();
            assert_eq!((found, watched.concerns), (names(directories), names(concerns)), "{source}");
        };
        check("releases/2/identity", &["releases/2/identity"], &["releases/2/identity"]);
        check("current/identity", &["", "releases/2/identity"], &["current", "releases/2/identity"]);
        check(
            "releases/mine",
            &["", "releases", "releases/2/identity"],
            &["releases/mine", "current", "releases/2/identity"],
        );
        // What is not there yet is awaited where it will be.
        check("current/trust/prod.pem", &["", "releases/2"], &["current", "releases/2/trust/prod.pem"]);
        check("loop", &[""], &["loop"]);

        // What `..data` leads to comes and goes, and is of no interest.
        fs::create_dir_all(root.join("volume/..1")).unwrap();
        fs::write(root.join("volume/..1/prod.pem"), "").unwrap();
        link("..1", "volume/..data");
        link("..data/prod.pem", "volume/prod.pem");
        check("volume/prod.pem", &["volume"], &["volume/prod.pem", "volume/..data"]);
    }
}
