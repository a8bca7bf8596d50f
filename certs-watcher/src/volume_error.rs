//! Why the files of a source could not be read, and the bounds that some of these reasons name.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a generation could not be read.
#[derive(Debug, Error)]
pub enum VolumeError {
    /// Nothing is there.
    #[error("`{}` does not exist: is the Secret, ConfigMap or directory mounted there, and does it have that file?", path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
    },
    /// The file has no content.
    #[error("`{}` is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The directory has no file of the kind that is looked for.
    #[error("`{}` holds no file that ends in .{wanted}", path.display())]
    NoBundleFile {
        /// The directory.
        path: PathBuf,
        /// The endings that count.
        wanted: String,
    },
    /// A directory, FIFO, socket or device stands where a file should.
    #[error("`{}` is not a regular file", path.display())]
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// The file, or all files of the directory together, are larger than anything of their kind.
    #[error("`{}` is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file or directory.
        path: PathBuf,
        /// How much is read at most.
        limit: u64,
    },
    /// The directory holds more files than anybody keeps there.
    #[error("`{}` holds more than {MAX_FILES} such files", path.display())]
    TooManyFiles {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused to read it.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Every attempt to read the volume met a swap.
    #[error("`{}` was swapped during each of {MAX_ATTEMPTS} attempts to read it", path.display())]
    Restless {
        /// The directory.
        path: PathBuf,
    },
}

impl VolumeError {
    pub(crate) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            // ENOTDIR: a component of the path is a file, so what was asked for is not there either.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing { path },
            _ => Self::Unreadable { path, source },
        }
    }

    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Empty { .. } | Self::NoBundleFile { .. } => "empty",
            Self::NotAFile { .. } => "not_a_file",
            Self::TooLarge { .. } | Self::TooManyFiles { .. } => "too_large",
            Self::Unreadable { .. } => "unreadable",
            Self::Restless { .. } => "restless",
        }
    }
}

/// One file for each root, issuer or team is plenty; the bound keeps a wrong path (`/usr/bin`) from being slurped.
pub(crate) const MAX_FILES: usize = 64;

/// Two swaps within one read already need a kubelet in a tight loop.
pub(crate) const MAX_ATTEMPTS: usize = 16;
