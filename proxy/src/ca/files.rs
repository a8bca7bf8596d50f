//! Files of the authority: private from the first byte, made new or replaced whole, on disk before the call returns.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Error, Serial};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The owner only: mode 0600.
    Private,
    /// Everybody: mode 0644, less what the umask takes.
    Public,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }
}

/// Makes a directory that only its owner enters. One that exists is an error.
pub(super) fn create_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).create(path).map_err(|source| failed("create", path, source))
}

/// Makes a directory and those above it that are missing. One that exists is left as it is.
pub(super) fn ensure_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(|source| failed("create", path, source))
}

/// Writes a file that must not exist.
pub(super) fn write_new(path: &Path, contents: &[u8], access: Access) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(access.mode()).open(path)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    write().map_err(|source| failed("write", path, source))
}

/// Writes a file in one step: a reader sees the old contents or the new, never a part.
pub(super) fn replace(path: &Path, contents: &[u8], access: Access) -> Result<(), Error> {
    let temporary = beside(path)?;
    let replaced = write_new(&temporary, contents, access)
        .and_then(|()| fs::rename(&temporary, path).map_err(|source| failed("replace", path, source)));
    if replaced.is_err() {
        // The first failure is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    replaced.and_then(|()| path.parent().map_or(Ok(()), sync_dir))
}

/// Reads a text file.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| failed("read", path, source))
}

/// Whether something has this name, were it a dangling symlink.
pub(super) fn exists(path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(failed("look at", path, source)),
    }
}

/// Makes the names in a directory outlive a crash of the machine.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    // The parent of a bare file name is the empty path.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| failed("sync", dir, source))
}

pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}

/// A name that is free, in the same directory, because a rename is atomic within one file system only.
fn beside(path: &Path) -> Result<PathBuf, Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(path.with_file_name(format!(".{name}.{}", Serial::random()?)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn private_files_are_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, b"one", Access::Private).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(write_new(&path, b"two", Access::Private).is_err());
        assert_eq!(read(&path).unwrap(), "one");
    }

    #[test]
    fn replacing_narrows_the_mode_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "old").unwrap();
        replace(&path, b"new", Access::Private).unwrap();
        assert_eq!(read(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_replacement_that_fails_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"new", Access::Public).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
