//! One generation of files from disk, never a mixture of two.
//!
//! The kubelet publishes a Secret or ConfigMap by renaming a symbolic link: `tls.crt -> ..data/tls.crt`, `..data ->
//! ..2026_11_22…`. Opening three files by their visible names can therefore give one of them from before and two from
//! after a swap. Here `..data` is resolved once and all files are opened below what it led to; if that directory goes
//! away meanwhile, the whole read starts again. A plain directory has no such mark: see `intake.rs` for how its files
//! are waited out. Every read is bounded, and what is in the files is of no concern here.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use thiserror::Error;

/// How the files came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Behind a `..data` link: all of a generation appears at once.
    Swapped,
    /// Ordinary files: they may be caught half-written.
    Plain,
}

/// SHA-256 over the names and contents of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest([u8; 32]);

/// The identity directory as it stood at one moment. No `Debug`: it holds the private key.
pub struct IdentityFiles {
    /// `tls.crt`.
    pub certificate: Vec<u8>,
    /// `tls.key`.
    pub key: Vec<u8>,
    /// How the files are laid out.
    pub layout: Layout,
    /// Tells this generation from any other.
    pub digest: Digest,
}

/// The files of one trust bundle as they stood at one moment.
#[derive(Debug)]
pub struct BundleFiles {
    /// Each file with the path that a reader would look for, in the order of their names.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// How the files are laid out.
    pub layout: Layout,
    /// Tells this generation from any other.
    pub digest: Digest,
}

/// Reads `tls.crt` and `tls.key` of one generation.
///
/// # Errors
/// If the directory or one of the files is missing, empty, too large or unreadable.
pub fn read_identity(directory: &Path) -> Result<IdentityFiles, VolumeError> {
    consistently(directory, |resolved, layout| {
        let certificate = read_file(&resolved.join(CERTIFICATE), &directory.join(CERTIFICATE))?;
        let key = read_file(&resolved.join(KEY), &directory.join(KEY))?;
        let digest = Digest::of([(Path::new(CERTIFICATE), &certificate), (Path::new(KEY), &key)]);
        Ok(IdentityFiles { certificate, key, layout, digest })
    })
}

/// Everything that an issuer writes into a Secret, as it stood at one moment. No `Debug`: it holds the private key.
pub struct SecretFiles {
    /// `tls.crt`.
    pub certificate: Vec<u8>,
    /// `tls.key`, or why it cannot be read: whoever looks at certificates may not be allowed to.
    pub key: Result<Vec<u8>, VolumeError>,
    /// `ca.crt`, which not every issuer writes.
    pub authority: Result<Vec<u8>, VolumeError>,
    /// How the files are laid out.
    pub layout: Layout,
}

/// Reads `tls.crt`, `tls.key` and `ca.crt` of one generation, to be looked at.
///
/// # Errors
/// If the directory or `tls.crt` is missing, empty, too large or unreadable.
pub fn read_secret(directory: &Path) -> Result<SecretFiles, VolumeError> {
    consistently(directory, |resolved, layout| {
        let file = |name| read_file(&resolved.join(name), &directory.join(name));
        Ok(SecretFiles { certificate: file(CERTIFICATE)?, key: file(KEY), authority: file(AUTHORITY), layout })
    })
}

/// Whether a directory is a Secret with an identity, rather than a bundle.
pub fn is_secret(directory: &Path) -> bool {
    [CERTIFICATE, KEY].iter().any(|name| directory.join(name).exists())
}

/// Reads a trust bundle: a file, or a directory of `.pem`, `.crt`, `.cer` and `.json` files. Either may lie in a
/// kubelet volume.
///
/// # Errors
/// If it is missing, empty, too large or unreadable.
pub fn read_bundle(path: &Path) -> Result<BundleFiles, VolumeError> {
    if path.is_dir() {
        return consistently(path, |resolved, layout| bundle(read_directory(resolved, path)?, layout));
    }
    let (Some(directory), Some(name)) = (directory_of(path), path.file_name()) else {
        return Err(VolumeError::Missing { path: path.to_owned() });
    };
    consistently(directory, |resolved, layout| {
        bundle(vec![(path.to_owned(), read_file(&resolved.join(name), path)?)], layout)
    })
}

/// The directory whose entries tell when `path` changes: `path` itself, or what it lies in.
pub fn directory_of(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn bundle(files: Vec<(PathBuf, Vec<u8>)>, layout: Layout) -> Result<BundleFiles, VolumeError> {
    let digest = Digest::of(files.iter().map(|(path, bytes)| (path.as_path(), bytes)));
    Ok(BundleFiles { files, layout, digest })
}

/// Runs `read` on the directory that `..data` leads to, again if the volume was swapped under it.
fn consistently<T>(directory: &Path, read: impl Fn(&Path, Layout) -> Result<T, VolumeError>) -> Result<T, VolumeError> {
    let link = directory.join(DATA_LINK);
    for _ in 0..MAX_ATTEMPTS {
        let Ok(target) = fs::read_link(&link) else {
            return read(directory, Layout::Plain);
        };
        let result = read(&directory.join(&target), Layout::Swapped);
        // The kubelet never uses a name twice, but tools that imitate it do: a read that saw a swap proves nothing,
        // whether it failed or not.
        if fs::read_link(&link).is_ok_and(|after| after == target) {
            return result;
        }
    }
    Err(VolumeError::Restless { path: directory.to_owned() })
}

fn read_directory(resolved: &Path, shown: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, VolumeError> {
    let unreadable = |source| VolumeError::from_io(shown, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(resolved).map_err(unreadable)? {
        let name = PathBuf::from(entry.map_err(unreadable)?.file_name());
        let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
        let wanted =
            name.extension().is_some_and(|extension| BUNDLE_EXTENSIONS.iter().any(|known| extension == *known));
        if hidden || !wanted || !resolved.join(&name).is_file() {
            continue;
        }
        if names.len() == MAX_BUNDLE_FILES {
            return Err(VolumeError::TooManyFiles { path: shown.to_owned() });
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(VolumeError::NoBundleFile { path: shown.to_owned() });
    }
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let visible = shown.join(&name);
            let bytes = read_file(&resolved.join(&name), &visible)?;
            Ok((visible, bytes))
        })
        .collect()
}

/// Reads a whole regular file; `shown` is the path that messages name.
fn read_file(path: &Path, shown: &Path) -> Result<Vec<u8>, VolumeError> {
    let unreadable = |source| VolumeError::from_io(shown, source);
    // Asked before opening: to open a FIFO would wait for a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(VolumeError::NotAFile { path: shown.to_owned() });
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(VolumeError::TooLarge { path: shown.to_owned() });
    }
    if bytes.is_empty() {
        return Err(VolumeError::Empty { path: shown.to_owned() });
    }
    Ok(bytes)
}

impl Digest {
    fn of<'a>(files: impl IntoIterator<Item = (&'a Path, &'a Vec<u8>)>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for (name, bytes) in files {
            for part in [name.as_os_str().as_encoded_bytes(), bytes] {
                // The length keeps ("ab", "c") apart from ("a", "bc").
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part);
            }
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }
}

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
    /// The directory has no file that could be a bundle.
    #[error("`{}` holds no .pem, .crt, .cer or .json file", path.display())]
    NoBundleFile {
        /// The directory.
        path: PathBuf,
    },
    /// A directory, FIFO, socket or device stands where a file should.
    #[error("`{}` is not a regular file", path.display())]
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// The file is larger than any Secret or ConfigMap can be.
    #[error("`{}` is larger than {MAX_FILE_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The directory holds more files than a bundle can have.
    #[error("`{}` holds more than {MAX_BUNDLE_FILES} bundle files", path.display())]
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
    fn from_io(path: &Path, source: io::Error) -> Self {
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

/// The names of a `kubernetes.io/tls` Secret.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";

/// The link that the kubelet renames into place.
const DATA_LINK: &str = "..data";

/// What a file of trust anchors is called.
const BUNDLE_EXTENSIONS: [&str; 4] = ["pem", "crt", "cer", "json"];

/// A Kubernetes object holds at most 1 MiB; the public web's roots take a quarter of that.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// One file for each root or team is plenty; the bound keeps a wrong path (`/usr/bin`) from being slurped.
const MAX_BUNDLE_FILES: usize = 64;

/// Two swaps within one read already need a kubelet in a tight loop.
const MAX_ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests;
