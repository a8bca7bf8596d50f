//! The copy of the last good policy in the state directory, for a start at which the documents on disk are broken.
//!
//! One file: a line with the format and a digest over all that follows, a header, the documents. It is replaced whole or
//! not at all. Whoever may write it can decide what such a start allows, so it is believed only if nobody but its owner,
//! who has to be this user or root, may write it or its directory; and the digest finds what broke by accident.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};
use portcullis_policy::source::MAX_FILE_BYTES;
use serde::{Deserialize, Serialize};

use super::directory::{Contents, Document, Layout, MOST_BYTES, MOST_FILES};

/// The place of the copy.
#[derive(Clone, Debug)]
pub struct State {
    directory: PathBuf,
    /// The policy directories: the copy of others is none of ours.
    of: Vec<PathBuf>,
}

/// What the copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The documents.
    pub contents: Arc<Contents>,
    /// When they were read from the policy directories.
    pub taken: SystemTime,
    /// The digest by which records knew them.
    pub revision: String,
}

/// Why there is no copy to go by, or none could be written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// None was ever written.
    #[error("`{}` does not exist", .0.display())]
    Missing(PathBuf),
    /// The system refused it.
    #[error("cannot {action} `{}`", path.display())]
    System {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It belongs to somebody who could have written anything.
    #[error("`{}` belongs to user {owner}, and only user {own} or root may have written it", path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Us.
        own: u32,
    },
    /// Others than its owner may write it.
    #[error("`{}` may be written by others than its owner (mode {mode:04o}); take that away: chmod go-w", path.display())]
    WritableByOthers {
        /// The file or directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Something else has its name.
    #[error("`{}` is no regular file", .0.display())]
    NotAFile(PathBuf),
    /// More than any policy has.
    #[error("`{}` is larger than any policy may be", .0.display())]
    TooLarge(PathBuf),
    /// Another version of Portcullis wrote it.
    #[error("`{}` is not of the format that this version reads", .0.display())]
    OtherFormat(PathBuf),
    /// It is not what was written.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
    },
    /// It is of other documents than those that the configuration names.
    #[error("`{}` was taken from other policy directories", .0.display())]
    Elsewhere(PathBuf),
}

impl StateError {
    /// The fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::System { .. } => "system",
            Self::Foreign { .. } => "foreign_owner",
            Self::WritableByOthers { .. } => "writable_by_others",
            Self::NotAFile(_) => "no_file",
            Self::TooLarge(_) => "too_large",
            Self::OtherFormat(_) => "other_format",
            Self::Damaged { .. } => "damaged",
            Self::Elsewhere(_) => "elsewhere",
        }
    }
}

/// What stands between the first line and the documents.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    taken: u64,
    revision: String,
    git_revision: Option<String>,
    directories: Vec<PathBuf>,
    files: Vec<Listed>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: String,
    bytes: usize,
}

impl State {
    /// The copy in `directory` of what is in the policy directories `of`.
    pub fn new(directory: PathBuf, of: Vec<PathBuf>) -> Self {
        Self { directory, of }
    }

    /// Where the copy is.
    pub fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// Replaces the copy; it is on disk when this returns. The directory is made if it is missing.
    ///
    /// # Errors
    /// When it cannot be written, or would not be believed.
    pub fn write(&self, copy: &Copy) -> Result<(), StateError> {
        let bytes = self.encode(copy)?;
        let directory = &self.directory;
        let made = DirBuilder::new().mode(0o700).recursive(true).create(directory);
        made.map_err(failed("make the directory", directory))?;
        believe(directory, &fs::metadata(directory).map_err(failed("look at", directory))?)?;
        // One name, so that writers who were killed leave one file behind and not one each.
        let (path, temporary) = (self.path(), directory.join(TEMPORARY));
        let write = || {
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("replace", &path))?;
        // The name has to outlive a crash of the machine as well.
        File::open(directory).and_then(|opened| opened.sync_all()).map_err(failed("sync", directory))
    }

    /// Reads the copy and checks it. Whether its documents are a policy for this sidecar is not judged here.
    ///
    /// # Errors
    /// When there is none, or none to believe.
    pub fn read(&self) -> Result<Copy, StateError> {
        let path = self.path();
        let absent = |action, of: &Path| {
            let (path, of) = (path.clone(), of.to_owned());
            move |source: io::Error| match source.kind() {
                io::ErrorKind::NotFound => StateError::Missing(path),
                _ => failed(action, &of)(source),
            }
        };
        // The directory first: in one that others may write, even opening a file may wait for ever.
        let directory = &self.directory;
        believe(directory, &fs::metadata(directory).map_err(absent("look at", directory))?)?;
        let metadata = fs::symlink_metadata(&path).map_err(absent("look at", &path))?;
        if !metadata.is_file() {
            return Err(StateError::NotAFile(path));
        }
        let file = File::open(&path).map_err(failed("open", &path))?;
        believe(&path, &metadata)?;
        if metadata.len() > MOST_STATE {
            return Err(StateError::TooLarge(path));
        }
        let mut bytes = Vec::new();
        file.take(MOST_STATE).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        self.decode(&bytes)
    }

    /// The bytes of a copy, whole.
    ///
    /// # Errors
    /// When there is more than any policy has, or a directory has a name that cannot be written down.
    pub fn encode(&self, copy: &Copy) -> Result<Vec<u8>, StateError> {
        let Copy { contents, taken, revision } = copy;
        let files = contents.files.iter().map(|file| Listed { name: file.name.clone(), bytes: file.bytes.len() });
        let header = Header {
            taken: taken.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
            revision: revision.clone(),
            git_revision: contents.git_revision.clone(),
            directories: self.of.clone(),
            files: files.collect(),
        };
        // A path that is no UTF-8 cannot be written down, and no copy could be told to be of it.
        let header = serde_json::to_vec(&header).map_err(|_| StateError::Elsewhere(self.path()))?;
        let mut context = Context::new(&SHA256);
        let documents = contents.files.iter().map(|file| file.bytes.as_slice());
        for part in [header.as_slice(), b"\n"].into_iter().chain(documents.clone()) {
            context.update(part);
        }
        let mut bytes = format!("{FORMAT}{}\n", hex(context.finish().as_ref())).into_bytes();
        bytes.extend_from_slice(&header);
        bytes.push(b'\n');
        documents.for_each(|document| bytes.extend_from_slice(document));
        if bytes.len() as u64 > MOST_STATE || contents.is_too_much() {
            return Err(StateError::TooLarge(self.path()));
        }
        Ok(bytes)
    }

    /// Reads back what [`Self::encode`] made. Who may have written it is not known here: [`Self::read`] asks.
    ///
    /// # Errors
    /// When the bytes are others, or of other policy directories.
    pub fn decode(&self, bytes: &[u8]) -> Result<Copy, StateError> {
        let damaged = |what| StateError::Damaged { path: self.path(), what };
        if bytes.is_empty() {
            return Err(damaged("it is empty"));
        }
        let (first, rest) = line(bytes).ok_or_else(|| damaged("its first line has no end"))?;
        let digest = first.strip_prefix(FORMAT.as_bytes()).ok_or_else(|| StateError::OtherFormat(self.path()))?;
        let mut context = Context::new(&SHA256);
        context.update(rest);
        if hex(context.finish().as_ref()).as_bytes() != digest {
            return Err(damaged("its digest is another"));
        }
        let (header, mut documents) = line(rest).ok_or_else(|| damaged("its header has no end"))?;
        let header: Header = serde_json::from_slice(header).map_err(|_| damaged("its header cannot be read"))?;
        if header.directories != self.of {
            return Err(StateError::Elsewhere(self.path()));
        }
        if header.files.len() > MOST_FILES {
            return Err(StateError::TooLarge(self.path()));
        }
        let mut contents =
            Contents { layout: Layout::Volume, git_revision: header.git_revision, ..Contents::default() };
        for Listed { name, bytes } in header.files {
            // One byte more is what a file has that is too large, which the reader of documents says.
            let one = (bytes <= MAX_FILE_BYTES + 1).then(|| documents.split_at_checked(bytes)).flatten();
            let (document, others) = one.ok_or_else(|| damaged("its documents are not all there"))?;
            contents.files.push(Document { name, bytes: document.to_vec() });
            documents = others;
        }
        if !documents.is_empty() {
            return Err(damaged("it goes on behind its documents"));
        }
        let taken = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(header.taken));
        let taken = taken.ok_or_else(|| damaged("it was taken at no time"))?;
        Ok(Copy { contents: Arc::new(contents), taken, revision: header.revision })
    }
}

/// Whether nobody but root and us can have written it, which is what `ssh` asks of its own files.
fn believe(path: &Path, metadata: &fs::Metadata) -> Result<(), StateError> {
    judge_owner(path, metadata.uid(), rustix::process::geteuid().as_raw())?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(StateError::WritableByOthers { path: path.to_owned(), mode });
    }
    Ok(())
}

fn judge_owner(path: &Path, owner: u32, own: u32) -> Result<(), StateError> {
    if owner == own || owner == 0 { Ok(()) } else { Err(StateError::Foreign { path: path.to_owned(), owner, own }) }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::System { action, path, source }
}

/// A line and what follows it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file. It has no ending of a document, should somebody configure one directory for both.
const NAME: &str = "last-good-policy";
const TEMPORARY: &str = ".last-good-policy.new";
/// The digest follows. Another number for another format: nothing is guessed.
const FORMAT: &str = "portcullis-last-good-policy 1 sha256:";
/// All documents, and as much again as ten thousand names need.
const MOST_STATE: u64 = MOST_BYTES as u64 + (16 << 20);

#[cfg(test)]
mod tests;
