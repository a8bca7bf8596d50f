//! The directory of the demo: a temporary one that goes with it, or one that is kept.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::DemoError;

/// See the module.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    kept: bool,
}

impl Place {
    /// A new directory among the temporary files, removed when this is dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn temporary() -> Result<Self, DemoError> {
        let dir = std::env::temp_dir().join(format!("portcullis-demo-{:016x}", fastrand::u64(..)));
        // Not recursive: a directory that somebody else has made under this name is an error.
        DirBuilder::new().mode(MODE).create(&dir).map_err(|source| failed("create", &dir, source))?;
        Self { dir, kept: false }.textual()
    }

    /// A directory that stays. It must be missing or empty.
    ///
    /// # Errors
    /// When something is in it, or it cannot be made.
    pub fn kept(dir: &Path) -> Result<Self, DemoError> {
        DirBuilder::new().mode(MODE).recursive(true).create(dir).map_err(|source| failed("create", dir, source))?;
        // The configuration files name absolute paths, so that they work from anywhere.
        let dir = fs::canonicalize(dir).map_err(|source| failed("find", dir, source))?;
        let mut entries = fs::read_dir(&dir).map_err(|source| failed("list", &dir, source))?;
        match entries.next() {
            None => Self { dir, kept: true }.textual(),
            Some(_) => Err(DemoError::Occupied(dir)),
        }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it stays.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// Removes a temporary directory; a kept one is left alone.
    pub fn remove(&self) {
        if self.kept {
            return;
        }
        // Sidecars that still run, because a signal ends the demo, may write a file in between.
        for _ in 0..TRIES {
            match fs::remove_dir_all(&self.dir) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                // Nobody is left to be told that it stays.
                Ok(()) | Err(_) => return,
            }
        }
    }

    fn textual(self) -> Result<Self, DemoError> {
        if self.dir.to_str().is_none() {
            return Err(DemoError::PathNotText(self.dir.clone()));
        }
        Ok(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.remove();
    }
}

pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> DemoError {
    DemoError::File { action, path: path.to_owned(), source }
}

/// Private keys are below it.
const MODE: u32 = 0o700;
const TRIES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_directory_goes_with_its_place() {
        let place = Place::temporary().unwrap();
        let dir = place.dir().to_owned();
        fs::write(dir.join("file"), "text").unwrap();
        drop(place);
        assert!(!dir.exists());
    }

    #[test]
    fn a_directory_with_something_in_it_is_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "text").unwrap();
        assert!(matches!(Place::kept(dir.path()), Err(DemoError::Occupied(_))));
        assert!(file.exists());
    }

    #[test]
    fn a_kept_directory_is_made_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("new/one");
        drop(Place::kept(&kept).unwrap());
        assert!(kept.is_dir());
    }
}
