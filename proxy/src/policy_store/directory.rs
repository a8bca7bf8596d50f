//! Reads policy documents from disk: one generation of each directory, bounded in number and size.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use portcullis_policy::source::MAX_FILE_BYTES;

use super::git_revision::{self, GitRevisionError};

/// Whether the files of a directory change all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Layout {
    /// A kubelet volume: `..data` points at a generation and is swapped in one step.
    Volume,
    /// Ordinary files.
    #[default]
    Plain,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The documents, ordered by directory and name.
    pub files: Vec<Document>,
    /// Plain if one of the directories is.
    pub layout: Layout,
    /// The Git revision that the directories carry; several, with commas between them, while they do not agree.
    pub git_revision: Option<String>,
    /// What is wrong with Git revisions that were left out.
    pub without_revision: Vec<GitRevisionError>,
}

impl Contents {
    /// The bytes of all documents.
    pub fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.bytes.len()).sum()
    }

    /// Whether one sidecar should hold no more.
    pub(super) fn is_too_much(&self) -> bool {
        self.files.len() > MOST_FILES || self.bytes() > MOST_BYTES
    }
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its path, as diagnostics name it.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Why documents could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A directory is not there.
    #[error("the policy directory `{}` does not exist; create it, or mount the policy ConfigMap there", .0.display())]
    Missing(PathBuf),
    /// A directory or file cannot be read.
    #[error("`{}` cannot be read; check its permissions", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// More than one sidecar should hold in memory.
    #[error("`{}` holds more than {MOST_FILES} policy files, or more than {} MiB", .0.display(), MOST_BYTES >> 20)]
    TooLarge(PathBuf),
}

impl DirectoryError {
    /// The fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Unreadable { .. } => "unreadable",
            Self::TooLarge(_) => "too_large",
        }
    }
}

/// Reads every `.yaml` and `.yml` file of every directory, and the Git revision where there is one.
///
/// # Errors
/// When a directory is missing or unreadable, or holds too much.
pub fn read(directories: &[PathBuf]) -> Result<Contents, DirectoryError> {
    let mut contents = Contents { layout: Layout::Volume, ..Contents::default() };
    let mut revisions: Vec<String> = Vec::new();
    for directory in directories {
        // The generation may be deleted under us by the next swap: then its successor is there.
        let mut result = read_one(directory, contents.bytes());
        for _ in 1..TRIES {
            match &result {
                Err(DirectoryError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    result = read_one(directory, contents.bytes());
                }
                _ => break,
            }
        }
        let one = result?;
        contents.files.extend(one.files);
        if one.layout == Layout::Plain {
            contents.layout = Layout::Plain;
        }
        contents.without_revision.extend(one.without_revision);
        revisions.extend(one.git_revision.filter(|revision| !revisions.contains(revision)));
        if contents.is_too_much() {
            return Err(DirectoryError::TooLarge(directory.clone()));
        }
    }
    contents.git_revision = (!revisions.is_empty()).then(|| revisions.join(","));
    Ok(contents)
}

/// Reads one directory; `held` bytes have been read of others.
fn read_one(directory: &Path, held: usize) -> Result<Contents, DirectoryError> {
    let mut contents = Contents { layout: Layout::Volume, ..Contents::default() };
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |source| DirectoryError::Unreadable { path, source }
    };
    let data = directory.join("..data");
    // Resolved once, so that all files are of one generation.
    let generation = match fs::canonicalize(&data) {
        Ok(generation) => generation,
        Err(_) => {
            contents.layout = Layout::Plain;
            directory.to_owned()
        }
    };
    let listed = fs::read_dir(&generation).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound if generation == directory => DirectoryError::Missing(directory.to_owned()),
        _ => DirectoryError::Unreadable { path: directory.to_owned(), source },
    })?;
    let mut names = Vec::new();
    for entry in listed {
        let name = entry.map_err(unreadable(directory))?.file_name();
        if is_document(Path::new(&name)) {
            names.push(name);
        }
    }
    names.sort();
    let mut total = held;
    for name in names {
        let bytes = read_bounded(&generation.join(&name)).map_err(unreadable(&directory.join(&name)))?;
        total += bytes.len();
        contents.files.push(Document { name: directory.join(&name).display().to_string(), bytes });
        if contents.files.len() > MOST_FILES || total > MOST_BYTES {
            return Err(DirectoryError::TooLarge(directory.to_owned()));
        }
    }
    match git_revision::read(&generation, directory) {
        Ok(revision) => contents.git_revision = revision,
        Err(error) => contents.without_revision.push(error),
    }
    Ok(contents)
}

/// One byte more than a document may have, so that the reader of documents can say that it is too large.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a file of this name is a policy document.
pub(crate) fn is_document(name: &Path) -> bool {
    let hidden = name.to_string_lossy().starts_with('.');
    !hidden && name.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

const TRIES: usize = 5;
/// Far more than a team keeps, far less than a mistaken mount of a whole disk.
pub(crate) const MOST_FILES: usize = 10_000;
/// 100,000 rules take a tenth of it.
pub(crate) const MOST_BYTES: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_volume_is_read_through_its_data_link_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("..1")).unwrap();
        fs::write(root.join("..1/b.yaml"), "b").unwrap();
        fs::write(root.join("..1/a.yml"), "a").unwrap();
        fs::write(root.join("..1/README.md"), "no").unwrap();
        fs::write(root.join("..1/.hidden.yaml"), "no").unwrap();
        symlink("..1", root.join("..data")).unwrap();
        let contents = read(&[root.to_owned()]).unwrap();
        let names: Vec<_> = contents.files.iter().map(|file| file.name.clone()).collect();
        assert_eq!(names, [root.join("a.yml").display().to_string(), root.join("b.yaml").display().to_string()]);
        assert_eq!(contents.layout, Layout::Volume);
    }

    #[test]
    fn directories_at_one_revision_name_it_once_and_others_name_all() {
        let folder = tempfile::tempdir().unwrap();
        let directory = |name: &str, revision: Option<&str>| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            if let Some(revision) = revision {
                fs::write(path.join("git-revision"), revision).unwrap();
            }
            path
        };
        let (a, same, none) =
            (directory("a", Some("1a2b3c4\n")), directory("b", Some("1A2B3C4")), directory("c", None));
        let (other, wrong) = (directory("d", Some("5d6e7f8")), directory("e", Some("main")));
        let told = read(&[a.clone(), same, none]).unwrap();
        assert_eq!((told.git_revision.as_deref(), told.without_revision.len()), (Some("1a2b3c4"), 0));
        let told = read(&[a, other, wrong.clone()]).unwrap();
        assert_eq!(told.git_revision.as_deref(), Some("1a2b3c4,5d6e7f8"));
        assert_eq!(told.without_revision, [GitRevisionError::Malformed(wrong.join("git-revision"))]);
    }

    #[test]
    fn an_empty_directory_is_valid_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&[folder.path().to_owned()]).unwrap().files.is_empty());
        let missing = folder.path().join("nowhere");
        assert_eq!(read(&[missing]).unwrap_err().label(), "missing");
    }
}
