//! One generation of files from disk, never a mixture of two.
//!
//! The kubelet publishes a Secret or ConfigMap by renaming a symbolic link: `tls.crt -> ..data/tls.crt`, `..data ->
//! ..2026_11_22…`. Opening three files by their visible names can therefore give one of them from before and two from
//! after a swap. Here `..data` is resolved once and all files are opened below what it led to; if that directory goes
//! away meanwhile, the whole read starts again. A plain directory has no such mark: see `intake.rs` for how its files
//! are waited out. Every read is bounded, and what is in the files is of no concern here.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest;

pub use crate::volume_error::VolumeError;
use crate::volume_error::{MAX_ATTEMPTS, MAX_FILES};

/// How the files came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Behind a `..data` link, or in one message: all of a generation appears at once.
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
#[derive(Clone, Debug)]
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
        let file = |name| read_file(&resolved.join(name), &directory.join(name), OBJECT_BYTES);
        let certificate = file(CERTIFICATE)?;
        let key = file(KEY)?;
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
        let file = |name| read_file(&resolved.join(name), &directory.join(name), OBJECT_BYTES);
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
    read_files(path, &ANCHORS)
}

/// Reads revocation lists: a file, or a directory of `.crl`, `.pem` and `.der` files. Either may lie in a kubelet volume.
///
/// # Errors
/// If it is missing, empty, too large or unreadable.
pub fn read_lists(path: &Path) -> Result<BundleFiles, VolumeError> {
    read_files(path, &LISTS)
}

/// Reads whatever may hold certificates or revocation lists, to be looked at: a file, or the files of a directory. Either
/// may lie in a kubelet volume.
///
/// # Errors
/// If it is missing, empty, too large or unreadable.
pub fn read_any(path: &Path) -> Result<BundleFiles, VolumeError> {
    read_files(path, &ANY)
}

/// Reads one file of at most 1 MiB, which may lie in a kubelet volume.
///
/// # Errors
/// If it is missing, empty, too large or unreadable, or a directory.
pub fn read_single(path: &Path) -> Result<BundleFiles, VolumeError> {
    read_one(path, OBJECT_BYTES)
}

/// Where the files at `path` are just now, links followed. Two reads between which this did not change are of one
/// generation.
pub(crate) fn generation_of(path: &Path) -> PathBuf {
    let directory = if path.is_dir() { Some(path) } else { directory_of(path) };
    directory.map_or_else(PathBuf::new, |directory| resolve(directory).0)
}

fn read_files(path: &Path, bounds: &Bounds) -> Result<BundleFiles, VolumeError> {
    if path.is_dir() {
        return consistently(path, |resolved, layout| Ok(bundle(read_directory(resolved, path, bounds)?, layout)));
    }
    read_one(path, bounds.file_bytes)
}

fn read_one(path: &Path, limit: u64) -> Result<BundleFiles, VolumeError> {
    let (Some(directory), Some(name)) = (directory_of(path), path.file_name()) else {
        return Err(VolumeError::Missing { path: path.to_owned() });
    };
    consistently(directory, |resolved, layout| {
        Ok(bundle(vec![(path.to_owned(), read_file(&resolved.join(name), path, limit)?)], layout))
    })
}

/// The directory whose entries tell when `path` changes: `path` itself, or what it lies in.
pub fn directory_of(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn bundle(files: Vec<(PathBuf, Vec<u8>)>, layout: Layout) -> BundleFiles {
    let digest = Digest::of(files.iter().map(|(path, bytes)| (path.as_path(), bytes)));
    BundleFiles { files, layout, digest }
}

/// Runs `read` on the directory that holds the files of one generation, again if the volume was swapped under it.
fn consistently<T>(directory: &Path, read: impl Fn(&Path, Layout) -> Result<T, VolumeError>) -> Result<T, VolumeError> {
    for _ in 0..MAX_ATTEMPTS {
        let (resolved, layout) = resolve(directory);
        let result = read(&resolved, layout);
        // The kubelet never uses a name twice, but tools that imitate it do: a read that saw a swap proves nothing,
        // whether it failed or not.
        if resolve(directory) == (resolved, layout) {
            return result;
        }
    }
    Err(VolumeError::Restless { path: directory.to_owned() })
}

/// The directory, reached through no link, that holds the files of `directory`. `..data` lies in it, or on the way to it:
/// of a projected volume with paths such as `identity/tls.crt`, the kubelet shows `identity -> ..data/identity`.
fn resolve(directory: &Path) -> (PathBuf, Layout) {
    // That fails only without a working directory, and then a relative path leads nowhere either.
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let data = directory.join(DATA_LINK);
    let (links, end) = follow(if data.is_symlink() { &data } else { &directory });
    let is_swapped = links.iter().any(|link| link.file_name().is_some_and(|name| name == DATA_LINK));
    (end, if is_swapped { Layout::Swapped } else { Layout::Plain })
}

/// The links on the way to `path`, outermost first, and where they lead in the end. Neither is reached through a link
/// itself. What does not exist is taken for what it could become.
pub(crate) fn follow(path: &Path) -> (Vec<PathBuf>, PathBuf) {
    let mut links = Vec::new();
    let mut walked = PathBuf::new();
    let mut rest = path.to_owned();
    'link: loop {
        let mut components = rest.components();
        while let Some(component) = components.next() {
            match component {
                // No link is behind, so this is the directory above.
                Component::ParentDir => _ = walked.pop(),
                Component::CurDir => {}
                Component::Prefix(_) | Component::RootDir | Component::Normal(_) => walked.push(component),
            }
            let Ok(target) = fs::read_link(&walked) else { continue };
            if links.len() == MAX_LINKS {
                return (links, walked);
            }
            links.push(walked.clone());
            walked.pop();
            // An absolute target takes the place of all that was walked.
            rest = target.join(components.as_path());
            continue 'link;
        }
        return (links, walked);
    }
}

fn read_directory(resolved: &Path, shown: &Path, bounds: &Bounds) -> Result<Vec<(PathBuf, Vec<u8>)>, VolumeError> {
    let unreadable = |source| VolumeError::from_io(shown, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(resolved).map_err(unreadable)? {
        let name = PathBuf::from(entry.map_err(unreadable)?.file_name());
        let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
        let wanted =
            name.extension().is_some_and(|extension| bounds.extensions.iter().any(|known| extension == *known));
        if hidden || !wanted || !resolved.join(&name).is_file() {
            continue;
        }
        if names.len() == MAX_FILES {
            return Err(VolumeError::TooManyFiles { path: shown.to_owned() });
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(VolumeError::NoBundleFile { path: shown.to_owned(), wanted: bounds.extensions.join(" or .") });
    }
    names.sort();
    let mut files = Vec::with_capacity(names.len());
    let mut left = bounds.directory_bytes;
    for name in names {
        let visible = shown.join(&name);
        let bytes = read_file(&resolved.join(&name), &visible, bounds.file_bytes)?;
        left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| VolumeError::TooLarge { path: shown.to_owned(), limit: bounds.directory_bytes })?;
        files.push((visible, bytes));
    }
    Ok(files)
}

/// Reads a whole regular file; `shown` is the path that messages name.
fn read_file(path: &Path, shown: &Path, limit: u64) -> Result<Vec<u8>, VolumeError> {
    let unreadable = |source| VolumeError::from_io(shown, source);
    // Asked before opening: to open a FIFO would wait for a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(VolumeError::NotAFile { path: shown.to_owned() });
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(VolumeError::TooLarge { path: shown.to_owned(), limit });
    }
    if bytes.is_empty() {
        return Err(VolumeError::Empty { path: shown.to_owned() });
    }
    Ok(bytes)
}

impl Digest {
    /// The 32 bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn of<'a>(files: impl IntoIterator<Item = (&'a Path, &'a Vec<u8>)>) -> Self {
        Self::of_parts(files.into_iter().flat_map(|(name, bytes)| [name.as_os_str().as_encoded_bytes(), bytes]))
    }

    /// The digest of content that comes in several parts.
    pub(crate) fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            // The length keeps ("ab", "c") apart from ("a", "bc").
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }
}

/// The names of a `kubernetes.io/tls` Secret.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";

/// The link that the kubelet renames into place.
pub(crate) const DATA_LINK: &str = "..data";

/// How many links are followed: as many as the kernel does.
const MAX_LINKS: usize = 40;

/// Which files of a directory are read, and how much of them.
struct Bounds {
    extensions: &'static [&'static str],
    file_bytes: u64,
    directory_bytes: u64,
}

/// Trust anchors. The public web's roots take a quarter of a MiB.
const ANCHORS: Bounds =
    Bounds { extensions: &["pem", "crt", "cer", "json"], file_bytes: OBJECT_BYTES, directory_bytes: 16 * MIB };

/// Revocation lists. On a machine without Kubernetes one may be larger than a ConfigMap: 8 MiB is some 200,000 entries.
const LISTS: Bounds = Bounds { extensions: &["crl", "pem", "der"], file_bytes: 8 * MIB, directory_bytes: 32 * MIB };

/// All of them.
const ANY: Bounds = Bounds { extensions: &["pem", "crt", "cer", "json", "crl", "der"], ..LISTS };

const MIB: u64 = 1024 * 1024;

/// A Kubernetes object holds at most 1 MiB.
const OBJECT_BYTES: u64 = MIB;

#[cfg(test)]
mod tests;
