//! Writes a set of files into a directory in one step, in the layout of a kubelet volume.
//!
//! `name -> ..data/name` and `..data -> ..<timestamp>/`: one rename moves `..data` from the old files to the new, so a
//! reader that resolves `..data` once sees one generation. One writer at a time per directory, as with the kubelet.

#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use time::OffsetDateTime;

use super::files::{self, Access, failed};
use super::{Error, Serial};

/// One file of a volume.
#[derive(Clone, Copy)]
pub struct VolumeFile<'a> {
    /// Its name: one path segment that does not begin with `..`.
    pub name: &'a str,
    /// What it holds.
    pub contents: &'a [u8],
    /// Who may read it.
    pub access: Access,
}

/// Whether a directory has the layout of a kubelet volume.
///
/// # Errors
/// When the directory cannot be searched.
pub fn is_volume(dir: &Path) -> Result<bool, Error> {
    files::exists(&dir.join(DATA))
}

/// Makes these files the contents of the volume, and removes those that were there before.
///
/// The directory is made if it is missing. Plain files of the same names are replaced by symlinks; others stay.
/// Up to the rename a failure leaves the old generation in place, and afterwards the new one is complete. A writer that
/// is killed may leave a directory behind that no symlink names. Returns the moment right before the rename.
///
/// # Errors
/// When a name will not do or a file operation fails.
pub fn write_generation(dir: &Path, files: &[VolumeFile<'_>]) -> Result<Instant, Error> {
    if let Some(file) = files.iter().find(|file| !is_volume_name(file.name)) {
        return Err(Error::VolumeName { name: file.name.to_owned() });
    }
    files::ensure_dir(dir)?;
    let data = dir.join(DATA);
    let previous = target(&data)?;

    // 1. The new files, where nobody looks yet.
    let generation = create_generation_dir(dir)?;
    let swapped = fill(dir, &generation, files).and_then(|()| swap(dir, &generation));
    if swapped.is_err() {
        // They may hold a key; the first failure is the one to report.
        let _ = fs::remove_dir_all(dir.join(&generation));
    }
    let moment = swapped?;
    // Not a part of the swap: from the rename on the new files are in use and must stay.
    files::sync_dir(dir)?;

    // 2. The names that users open: after the swap, as in the newer kubelets.
    for file in files {
        link(dir, Path::new(DATA).join(file.name), file.name)?;
    }
    remove_stale_links(dir, files)?;

    // 3. The old files.
    match previous {
        Some(previous) if is_generation_name(&previous) => remove_generation(&dir.join(previous))?,
        Some(_) | None => {}
    }
    Ok(moment)
}

fn is_volume_name(name: &str) -> bool {
    !matches!(name, "" | ".") && !name.starts_with("..") && !name.contains(['/', '\0'])
}

/// Guards the removal: a `..data` that somebody else made may point anywhere.
fn is_generation_name(target: &Path) -> bool {
    let mut components = target.components();
    let first = components.next().map(|first| first.as_os_str().to_string_lossy());
    components.next().is_none() && first.is_some_and(|name| name.len() > 2 && name.starts_with("..") && name != DATA)
}

fn target(link: &Path) -> Result<Option<PathBuf>, Error> {
    match fs::read_link(link) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("read the symlink", link, source)),
    }
}

fn create_generation_dir(dir: &Path) -> Result<String, Error> {
    let now = OffsetDateTime::now_utc();
    let (hour, minute, second, nanosecond) = now.to_hms_nano();
    let (year, month, day) = now.to_calendar_date();
    let month = u8::from(month);
    let name = format!("..{year}_{month:02}_{day:02}_{hour:02}_{minute:02}_{second:02}.{nanosecond:09}");
    let path = dir.join(&name);
    // 0755 is the kubelet's mode; each file has its own.
    DirBuilder::new().mode(0o755).create(&path).map_err(|source| failed("create", &path, source))?;
    Ok(name)
}

fn fill(dir: &Path, generation: &str, volume: &[VolumeFile<'_>]) -> Result<(), Error> {
    let generation = dir.join(generation);
    for file in volume {
        files::write_new(&generation.join(file.name), file.contents, file.access)?;
    }
    files::sync_dir(&generation)
}

fn swap(dir: &Path, generation: &str) -> Result<Instant, Error> {
    let temporary = dir.join(DATA_TEMPORARY);
    match fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed("remove", &temporary, source)),
    }
    symlink(generation, &temporary).map_err(|source| failed("create the symlink", &temporary, source))?;
    let data = dir.join(DATA);
    let moment = Instant::now();
    fs::rename(&temporary, &data).map_err(|source| failed("replace", &data, source))?;
    Ok(moment)
}

/// Points `name` at `to`, over whatever file had the name, without a moment in which it is missing.
fn link(dir: &Path, to: PathBuf, name: &str) -> Result<(), Error> {
    let path = dir.join(name);
    if fs::read_link(&path).is_ok_and(|present| present == to) {
        return Ok(());
    }
    let temporary = dir.join(format!(".{name}.{}", Serial::random()?));
    symlink(to, &temporary).map_err(|source| failed("create the symlink", &temporary, source))?;
    fs::rename(&temporary, &path).map_err(|source| {
        let _ = fs::remove_file(&temporary);
        failed("replace", &path, source)
    })
}

fn remove_stale_links(dir: &Path, files: &[VolumeFile<'_>]) -> Result<(), Error> {
    let listing = |source| failed("list", dir, source);
    for entry in fs::read_dir(dir).map_err(listing)? {
        let path = entry.map_err(listing)?.path();
        let ours = fs::read_link(&path).is_ok_and(|target| target.starts_with(DATA));
        let wanted = files.iter().any(|file| path.file_name().is_some_and(|name| name == file.name));
        if ours && !wanted {
            fs::remove_file(&path).map_err(|source| failed("remove", &path, source))?;
        }
    }
    Ok(())
}

fn remove_generation(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed("remove", path, source)),
    }
}

const DATA: &str = "..data";
const DATA_TEMPORARY: &str = "..data_tmp";
