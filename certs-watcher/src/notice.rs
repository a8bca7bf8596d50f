//! Notices that something changed in the directories of some sources: our own here, the policy in the proxy.
//!
//! Directories are watched, never files: in a kubelet volume a file's inode dies with every swap. A directory that does
//! not exist is awaited in the nearest one above it that does. What changed is of no interest, since a pass looks at
//! everything and compares content; a notice that is lost is made up for by the poll.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, fs};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::volume::directory_of;

/// Watches the directories of the sources.
pub struct Notice {
    /// None if the system has no watch to give; then the poll is all there is.
    watcher: Option<RecommendedWatcher>,
    armed: BTreeMap<PathBuf, FileId>,
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
    directories: Mutex<Vec<PathBuf>>,
    /// The paths of the sources.
    paths: Vec<PathBuf>,
}

/// Device and inode: a directory that was recreated under its old name is another one.
type FileId = (u64, u64);

impl Notice {
    /// Watches for changes at or below these paths, files or directories, from the first [`Notice::arm`] on.
    pub fn new<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        // Absolute, since the paths of announcements are compared with them. That fails only without a working
        // directory, and then a relative path leads nowhere either.
        let paths = paths.into_iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect();
        let shared = Arc::new(Shared { paths, ..Shared::default() });
        let seen = shared.clone();
        let watcher = notify::recommended_watcher(move |event| seen.notice(event));
        let watcher = watcher
            .inspect_err(|error| warn!(%error, "no file notifications: changes are found by polling alone"))
            .ok();
        Self { watcher, armed: BTreeMap::new(), shared, warned: false }
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
        let mut wanted = BTreeMap::new();
        for path in &self.shared.paths {
            add_directories(path, &mut wanted);
        }
        if wanted == self.armed && !lost {
            return false;
        }

        for (path, id) in &self.armed {
            if lost || wanted.get(path) != Some(id) {
                // It fails if the directory is gone, and the watch with it: just what is wanted.
                let _ = watcher.unwatch(path);
            }
        }
        // Before watching: from the first event on, the thread has to know which directories are ours.
        *self.shared.directories.lock().unwrap_or_else(PoisonError::into_inner) = wanted.keys().cloned().collect();
        let mut added = false;
        let mut failed = Vec::new();
        for (path, id) in &wanted {
            if !lost && self.armed.get(path) == Some(id) {
                continue;
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => added = true,
                Err(error) => failed.push((path.clone(), error)),
            }
        }
        let refused = failed.iter().any(|(path, _)| path.exists());
        for (path, error) in failed {
            wanted.remove(&path);
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
        let concerns_us = event.paths.is_empty() || event.paths.iter().any(|path| concerns_any(&self.paths, path));
        if is_reading(event.kind) || !concerns_us {
            return;
        }
        if is_going_away(event.kind) {
            let directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
            if event.paths.first().is_some_and(|path| directories.contains(path)) {
                self.lost.store(true, Ordering::Release);
            }
        }
        self.wake.notify_one();
    }
}

/// Whether a change of `changed` can change what is read from one of the sources. A source may lie in a directory
/// where others are busy, such as `/tmp`; waking for each of them would keep a core busy too.
fn concerns_any(sources: &[PathBuf], changed: &Path) -> bool {
    let name = changed.file_name().unwrap_or_default();
    // The kubelet's own names; the swap of the one link is what counts.
    if name.as_encoded_bytes().starts_with(b"..") {
        let volume = changed.parent();
        return name == "..data" && sources.iter().any(|source| volume == Some(source) || volume == source.parent());
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

/// The directories in which a change of `path` shows: itself or the nearest one above it that exists, and what holds
/// the link if that is a symbolic link.
fn add_directories(path: &Path, directories: &mut BTreeMap<PathBuf, FileId>) {
    let mut candidate = Some(path);
    while let Some(directory) = candidate {
        candidate = directory_of(directory).filter(|parent| *parent != directory);
        let Ok(metadata) = fs::metadata(directory) else { continue };
        if !metadata.is_dir() {
            continue;
        }
        directories.insert(directory.to_owned(), (metadata.dev(), metadata.ino()));
        if let Some(parent) = candidate.filter(|_| directory.is_symlink())
            && let Ok(metadata) = fs::metadata(parent)
        {
            directories.insert(parent.to_owned(), (metadata.dev(), metadata.ino()));
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_concerns_a_source_wakes() {
        let sources = [PathBuf::from("/run/identity"), PathBuf::from("/tmp/trust/prod.pem")];
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
}
