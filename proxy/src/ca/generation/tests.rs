//! The layout, and that no reader ever sees half of it.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn write(dir: &Path, files: &[(&str, &str)]) -> Result<(), Error> {
    let files: Vec<_> = files
        .iter()
        .map(|(name, contents)| VolumeFile { name, contents: contents.as_bytes(), access: Access::Private })
        .collect();
    write_generation(dir, &files).map(|_| ())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn has_the_layout_of_the_kubelet() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("volume");
    write(&volume, &[("tls.crt", "one"), ("tls.key", "two")]).unwrap();
    assert_eq!(fs::read_link(volume.join("tls.crt")).unwrap(), Path::new("..data/tls.crt"));
    let generation = fs::read_link(volume.join("..data")).unwrap().into_os_string().into_string().unwrap();
    // ..2026_11_22_10_00_00.123456789
    assert_eq!(generation.len(), 31, "{generation}");
    // Digits sort before letters.
    assert_eq!(names(&volume), [generation.as_str(), "..data", "tls.crt", "tls.key"]);
    assert_eq!(fs::metadata(volume.join("tls.key")).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(is_volume(&volume).unwrap());
    assert!(!is_volume(dir.path()).unwrap());
}

#[test]
fn a_new_generation_leaves_nothing_of_the_old() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mine"), "stays").unwrap();
    fs::write(dir.path().join("tls.crt"), "was plain").unwrap();
    write(dir.path(), &[("tls.crt", "one"), ("gone", "one")]).unwrap();
    let old = fs::read_link(dir.path().join("..data")).unwrap();
    write(dir.path(), &[("tls.crt", "two"), ("new", "two")]).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("tls.crt")).unwrap(), "two");
    assert_eq!(fs::read_to_string(dir.path().join("mine")).unwrap(), "stays");
    assert!(!dir.path().join(old).exists());
    assert_eq!(names(dir.path()).len(), 5, "{:?}", names(dir.path()));
}

#[test]
fn a_failure_keeps_the_old_generation() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("tls.crt", "one")]).unwrap();
    let before = names(dir.path());
    // The second file of one name cannot be made.
    assert!(write(dir.path(), &[("tls.crt", "two"), ("tls.crt", "three")]).is_err());
    assert_eq!(names(dir.path()), before);
    assert_eq!(fs::read_to_string(dir.path().join("tls.crt")).unwrap(), "one");
}

#[test]
fn refuses_names_that_leave_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["", ".", "..", "..data", "a/b", "/etc/passwd", "../x"] {
        assert!(matches!(write(dir.path(), &[(name, "")]), Err(Error::VolumeName { .. })), "{name}");
    }
    assert!(names(dir.path()).is_empty());
}

#[test]
fn never_removes_what_a_foreign_link_points_at() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    let volume = dir.path().join("volume");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&volume).unwrap();
    symlink("../outside", volume.join("..data")).unwrap();
    write(&volume, &[("tls.crt", "one")]).unwrap();
    assert!(outside.exists());
}

#[test]
fn a_reader_never_sees_two_generations() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a", "0"), ("b", "0")]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut whole = 0;
            loop {
                // Asked first, so that the last round finds the directory at rest.
                let last = done.load(Ordering::Acquire);
                // `..data` itself is never missing, not even during the swap.
                let generation = dir.path().join(fs::read_link(dir.path().join("..data")).unwrap());
                let read = |name| fs::read_to_string(generation.join(name));
                // The directory may be removed under the reader, which then starts again.
                if let (Ok(a), Ok(b)) = (read("a"), read("b")) {
                    assert_eq!(a, b);
                    whole += 1;
                }
                if last {
                    break;
                }
            }
            whole
        });
        for _ in 0..50 {
            write(dir.path(), &[("a", "1"), ("b", "1")]).unwrap();
            write(dir.path(), &[("a", "2"), ("b", "2")]).unwrap();
        }
        done.store(true, Ordering::Release);
        assert!(reader.join().unwrap() > 0);
    });
}
