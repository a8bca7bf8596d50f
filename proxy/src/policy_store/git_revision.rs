//! The Git revision that a policy directory carries in the file `git-revision`, for the records.
//!
//! It decides nothing, so whatever is wrong with it is told and never keeps a policy from being in force.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The name of the file, which is also a possible key of a `ConfigMap`.
pub const FILE: &str = "git-revision";

/// Why the file names no revision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitRevisionError {
    /// It says something else.
    #[error("`{}` is left out of the records: it is not one line of {SHORTEST} to {LONGEST} hexadecimal digits", .0.display())]
    Malformed(PathBuf),
    /// It cannot be read.
    #[error("`{}` is left out of the records: it cannot be read: {reason}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said; a text, so that two readings can be compared.
        reason: String,
    },
}

/// Reads the file of `generation`, which is called `directory` in messages; `None` when there is none.
///
/// # Errors
/// When it is there and names no revision.
pub(super) fn read(generation: &Path, directory: &Path) -> Result<Option<String>, GitRevisionError> {
    let shown = directory.join(FILE);
    let mut bytes = Vec::new();
    match fs::File::open(generation.join(FILE)).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes)) {
        // However it goes on.
        Ok(read) if read as u64 == MOST_BYTES => Err(GitRevisionError::Malformed(shown)),
        Ok(_) => parse(&bytes).map(Some).ok_or(GitRevisionError::Malformed(shown)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(GitRevisionError::Unreadable { path: shown, reason: error.to_string() }),
    }
}

/// A revision in small letters. It goes to logs and pages, so nothing but hexadecimal digits passes.
fn parse(bytes: &[u8]) -> Option<String> {
    let text = bytes.trim_ascii();
    let is_one = (SHORTEST..=LONGEST).contains(&text.len()) && text.iter().all(u8::is_ascii_hexdigit);
    if !is_one {
        return None;
    }
    std::str::from_utf8(text).ok().map(str::to_ascii_lowercase)
}

/// What Git abbreviates to.
const SHORTEST: usize = 7;
/// SHA-256, for repositories that use it.
const LONGEST: usize = 64;
/// With room for blanks around it.
const MOST_BYTES: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hexadecimal_digits_are_a_revision() {
        let sha1 = "0123456789abcdef0123456789abcdef01234567";
        for (text, expected) in [
            (sha1.to_owned(), Some(sha1)),
            (format!("{}\n", sha1.to_uppercase()), Some(sha1)),
            (" 1a2b3c4 \r\n".to_owned(), Some("1a2b3c4")),
            ("1a2b3c".to_owned(), None),
            ("f".repeat(65), None),
            (format!("1a2b3c4{}5", " ".repeat(200)), None),
            (String::new(), None),
            ("main".to_owned(), None),
            ("1a2b3c4\n5d6e7f8".to_owned(), None),
            ("1a2b3c4\u{1b}[2J".to_owned(), None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FILE), &text).unwrap();
            let read = read(folder.path(), Path::new("/policy"));
            let malformed = GitRevisionError::Malformed("/policy/git-revision".into());
            assert_eq!(read, expected.map(|text| Some(text.to_owned())).ok_or(malformed), "{text:?}");
        }
    }

    #[test]
    fn a_directory_without_the_file_carries_none_and_one_that_cannot_be_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), folder.path()), Ok(None));
        fs::create_dir(folder.path().join(FILE)).unwrap();
        let told = read(folder.path(), folder.path()).unwrap_err().to_string();
        assert!(told.contains("git-revision") && told.contains("cannot be read"), "{told}");
    }
}
