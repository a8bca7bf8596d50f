//! Policy documents as they are in a Git revision, without touching the work tree.
//!
//! `git` is asked for objects only: no checkout, no hook, no network. What it may answer is bounded in time, number and
//! size, and a revision never becomes an option of it.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use portcullis_policy::source::MAX_FILE_BYTES;

use crate::cli::policy::format::clean;
use crate::policy_store::directory::{Contents, Document, Layout, MOST_BYTES, MOST_FILES, is_document};

/// Why a revision could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// It would be an option of git.
    #[error("`{}` is neither a directory nor a revision: a revision does not begin with `-`", clean(.0))]
    Option(String),
    /// It is not said where its documents are.
    #[error("which directory of revision `{}`? Write REV:DIR, or give --directory", clean(.0))]
    NoDirectory(String),
    /// Git is not there.
    #[error("git could not be run; it is needed to read a revision")]
    NoGit(#[source] io::Error),
    /// Git took too long, or could not be talked to.
    #[error("git did not answer within {} seconds, or broke off", PATIENCE.as_secs())]
    Broken(#[source] io::Error),
    /// The directory is in no repository.
    #[error("`{}` is in no Git repository: {reason}", path.display())]
    NoRepository {
        /// Where it was looked for.
        path: PathBuf,
        /// What git said.
        reason: String,
    },
    /// There is no such revision here.
    #[error("there is no revision `{}` here, and no directory of that name; a shallow clone may lack it", clean(.0))]
    NoRevision(String),
    /// The revision has no such directory.
    #[error("revision `{}` has no directory `{}`", clean(revision), clean(directory))]
    NoTree {
        /// The revision.
        revision: String,
        /// From the top of the repository.
        directory: String,
    },
    /// A document is no ordinary file.
    #[error("`{}` is a symbolic link or a submodule, which is not followed in a revision", clean(.0))]
    NoFile(String),
    /// More than a set of policies has.
    #[error("`{}` holds more than {MOST_FILES} policy files, more than {} MiB, or a file over 1 MiB", clean(.0), MOST_BYTES >> 20)]
    TooLarge(String),
}

/// Reads every `.yaml` and `.yml` file of some directories of a revision, which are given from the top of the repository
/// that `repository` is in.
pub(super) fn read(repository: &Path, revision: &str, directories: &[String]) -> Result<Contents, RevisionError> {
    if revision.starts_with('-') {
        return Err(RevisionError::Option(revision.to_owned()));
    }
    let commit = ask(
        repository,
        [OsStr::new("rev-parse"), "--verify".as_ref(), "--quiet".as_ref(), format!("{revision}^{{commit}}").as_ref()],
    )?;
    let commit = commit.ok_or_else(|| RevisionError::NoRevision(revision.to_owned()))?;
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let mut contents = Contents { layout: Layout::Plain, ..Contents::default() };
    for directory in directories {
        let no_tree = || RevisionError::NoTree { revision: revision.to_owned(), directory: directory.clone() };
        let listed = ask(
            repository,
            [
                OsStr::new("ls-tree"),
                "-z".as_ref(),
                "-l".as_ref(),
                "--full-tree".as_ref(),
                format!("{commit}:{directory}").as_ref(),
            ],
        )?;
        let entries = entries(&listed.ok_or_else(no_tree)?, directory)?;
        read_blobs(repository, revision, directory, entries, &mut contents)?;
    }
    Ok(contents)
}

/// Where a directory is from the top of its repository, and a place in that repository. The directory itself need not be
/// there any more.
pub(super) fn from_top(directory: &Path) -> Result<(PathBuf, String), RevisionError> {
    let (mut at, mut rest) = (directory.to_owned(), Vec::new());
    while !at.is_dir() {
        let Some(name) = at.file_name().map(OsStr::to_owned) else { break };
        rest.push(name);
        at.pop();
    }
    if at.as_os_str().is_empty() {
        at.push(".");
    }
    let prefix = ask(&at, ["rev-parse", "--show-prefix"].map(OsStr::new))?;
    let prefix = prefix
        .ok_or_else(|| RevisionError::NoTree { revision: String::new(), directory: directory.display().to_string() })?;
    let mut path = PathBuf::from(String::from_utf8_lossy(&prefix).trim_end_matches('\n'));
    path.extend(rest.iter().rev());
    Ok((at, plain(&path)))
}

/// A path as git names it in a tree: no `.`, no slash at the end.
pub(super) fn plain(path: &Path) -> String {
    let normal = path.components().filter(|part| !matches!(part, Component::CurDir | Component::RootDir));
    normal.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// The documents that a listing names: their objects and names.
fn entries(listed: &[u8], directory: &str) -> Result<Vec<(String, String)>, RevisionError> {
    let mut entries = Vec::new();
    let mut total = 0;
    for line in listed.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        let line = String::from_utf8_lossy(line);
        let Some((facts, name)) = line.split_once('\t') else { continue };
        let facts: Vec<&str> = facts.split_whitespace().collect();
        let ([mode, kind, object, size], true) = (facts.as_slice(), is_document(Path::new(name))) else { continue };
        if *kind == "tree" {
            continue;
        }
        if *kind != "blob" || *mode == "120000" {
            return Err(RevisionError::NoFile(format!("{directory}/{name}")));
        }
        let size: usize = size.parse().unwrap_or(usize::MAX);
        total += size.min(MOST_BYTES);
        if size > MAX_FILE_BYTES || total > MOST_BYTES || entries.len() >= MOST_FILES {
            return Err(RevisionError::TooLarge(directory.to_owned()));
        }
        entries.push(((*object).to_owned(), name.to_owned()));
    }
    entries.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(entries)
}

fn read_blobs(
    repository: &Path,
    revision: &str,
    directory: &str,
    entries: Vec<(String, String)>,
    contents: &mut Contents,
) -> Result<(), RevisionError> {
    let mut child = git(repository, ["cat-file", "--batch"].map(OsStr::new)).map_err(RevisionError::NoGit)?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { return Ok(()) };
    let mut output = BufReader::new(output);
    let slash = if directory.is_empty() { "" } else { "/" };
    within_patience(&mut child, move || {
        for (object, name) in entries {
            // One at a time, so that neither side waits for the other with a full pipe.
            writeln!(input, "{object}")?;
            input.flush()?;
            let mut header = String::new();
            (&mut output).take(MOST_HEADER).read_line(&mut header)?;
            let size = header.trim_end().rsplit(' ').next().and_then(|size| size.parse::<usize>().ok());
            let size = size.filter(|size| *size <= MAX_FILE_BYTES).ok_or(io::ErrorKind::InvalidData)?;
            let mut bytes = vec![0; size];
            output.read_exact(&mut bytes)?;
            output.read_exact(&mut [0])?;
            contents.files.push(Document { name: format!("{revision}:{directory}{slash}{name}"), bytes });
        }
        Ok(())
    })?;
    child.wait().map(drop).map_err(RevisionError::Broken)
}

/// What git prints; `None` when it says no.
fn ask<const N: usize>(repository: &Path, arguments: [&OsStr; N]) -> Result<Option<Vec<u8>>, RevisionError> {
    let mut child = git(repository, arguments).map_err(RevisionError::NoGit)?;
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else { return Ok(None) };
    let (bytes, reason) = within_patience(&mut child, move || {
        let (mut bytes, mut reason) = (Vec::new(), Vec::new());
        output.take(MOST_LISTING).read_to_end(&mut bytes)?;
        errors.take(MOST_HEADER).read_to_end(&mut reason)?;
        Ok((bytes, reason))
    })?;
    let status = child.wait().map_err(RevisionError::Broken)?;
    let reason = String::from_utf8_lossy(&reason);
    if !status.success() && (reason.contains("not a git repository") || reason.contains("dubious ownership")) {
        let reason = clean(reason.lines().next().unwrap_or_default());
        return Err(RevisionError::NoRepository { path: repository.to_owned(), reason });
    }
    Ok(status.success().then_some(bytes))
}

fn git<const N: usize>(repository: &Path, arguments: [&OsStr; N]) -> io::Result<Child> {
    let mut command = Command::new("git");
    command.arg("-C").arg(repository).args(["--no-pager", "--no-replace-objects", "--literal-pathspecs"]);
    command.args(arguments);
    // Messages that are looked at in one language; nothing asked of a person, written or fetched.
    command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
    command.env("GIT_NO_LAZY_FETCH", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// Talks to a process, which is ended when that takes too long.
fn within_patience<T>(child: &mut Child, talk: impl FnOnce() -> io::Result<T>) -> Result<T, RevisionError> {
    let (done, waiting) = mpsc::channel::<()>();
    let outcome = thread::scope(|scope| {
        let watch = scope.spawn(move || match waiting.recv_timeout(PATIENCE) {
            Err(mpsc::RecvTimeoutError::Timeout) => child.kill(),
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => Ok(()),
        });
        let outcome = talk();
        drop(done);
        // Whether it could be ended no longer matters: what it said is here.
        drop(watch.join());
        outcome
    });
    outcome.map_err(RevisionError::Broken)
}

/// A repository on a slow disk answers in a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// A line of git about one object.
const MOST_HEADER: u64 = 4096;
/// 10,000 names of documents, and as many again of other files.
const MOST_LISTING: u64 = 8 << 20;
