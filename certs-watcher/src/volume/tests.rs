//! Tests of `volume.rs`.

use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::{TempDir, tempdir};

use super::*;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A kubelet volume whose data directory is `name`.
fn kubelet(volume: &Path, name: &str, files: &[(&str, &str)]) {
    for (file, text) in files {
        write(&volume.join(name).join(file), text);
        let visible = volume.join(file);
        if !visible.is_symlink() {
            symlink(Path::new("..data").join(file), visible).unwrap();
        }
    }
    symlink(name, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

fn identity_label(directory: &Path) -> &'static str {
    match read_identity(directory) {
        Ok(_) => "loaded",
        Err(error) => error.label(),
    }
}

#[test]
fn a_kubelet_volume_is_read_below_its_data_link() {
    let volume = tempdir().unwrap();
    kubelet(volume.path(), "..1", &[("tls.crt", "c1"), ("tls.key", "k1")]);
    let first = read_identity(volume.path()).unwrap();
    assert_eq!((first.certificate.as_slice(), first.key.as_slice()), (&b"c1"[..], &b"k1"[..]));
    assert_eq!(first.layout, Layout::Swapped);

    // Newer kubelets make the visible link of a new key after the swap: it must not matter.
    fs::remove_file(volume.path().join("tls.key")).unwrap();
    fs::create_dir(volume.path().join("..2")).unwrap();
    fs::write(volume.path().join("..2/tls.crt"), "c2").unwrap();
    fs::write(volume.path().join("..2/tls.key"), "k2").unwrap();
    kubelet(volume.path(), "..2", &[]);
    let second = read_identity(volume.path()).unwrap();
    assert_eq!((second.certificate.as_slice(), second.key.as_slice()), (&b"c2"[..], &b"k2"[..]));
    assert_ne!(first.digest, second.digest);
}

#[test]
fn what_is_wrong_with_a_directory_is_told_apart() {
    let at = tempdir().unwrap();
    let directory = at.path().join("identity");
    assert_eq!(identity_label(&directory), "missing");
    write(&directory.join("tls.crt"), "c");
    assert_eq!(identity_label(&directory), "missing");
    write(&directory.join("tls.key"), "");
    assert_eq!(identity_label(&directory), "empty");
    write(&directory.join("tls.key"), "k");
    assert_eq!(identity_label(&directory), "loaded");
    assert_eq!(read_identity(&directory).unwrap().layout, Layout::Plain);
    write(&directory.join("tls.crt"), &"x".repeat(1024 * 1024 + 1));
    assert_eq!(identity_label(&directory), "too_large");
    fs::remove_file(directory.join("tls.crt")).unwrap();
    fs::create_dir(directory.join("tls.crt")).unwrap();
    assert_eq!(identity_label(&directory), "not_a_file");
    fs::remove_dir(directory.join("tls.crt")).unwrap();
    symlink("tls.crt", directory.join("tls.crt")).unwrap();
    assert_eq!(identity_label(&directory), "unreadable", "a link to itself");
    assert_eq!(identity_label(&directory.join("tls.key")), "missing", "a file in the place of the directory");
}

#[test]
fn a_file_without_permission_is_unreadable() {
    let at = tempdir().unwrap();
    write(&at.path().join("tls.crt"), "c");
    write(&at.path().join("tls.key"), "k");
    fs::set_permissions(at.path().join("tls.key"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads it all the same; then there is nothing to see.
    let expected = if File::open(at.path().join("tls.key")).is_ok() { "loaded" } else { "unreadable" };
    assert_eq!(identity_label(at.path()), expected);
}

#[test]
fn a_volume_whose_data_directory_is_gone_is_missing() {
    let volume = tempdir().unwrap();
    symlink("..gone", volume.path().join("..data")).unwrap();
    assert_eq!(identity_label(volume.path()), "missing");
}

fn bundle_files(path: &Path) -> Vec<(String, String)> {
    let files = read_bundle(path).unwrap().files;
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    files.into_iter().map(|(path, bytes)| (name(&path), String::from_utf8(bytes).unwrap())).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn a_bundle_is_a_file_or_a_directory_in_either_layout() {
    let at: TempDir = tempdir().unwrap();
    let plain = at.path().join("plain");
    write(&plain.join("b.pem"), "b");
    write(&plain.join("a.crt"), "a");
    write(&plain.join("README"), "not a bundle");
    write(&plain.join(".hidden.pem"), "not a bundle");
    assert_eq!(bundle_files(&plain), pairs(&[("a.crt", "a"), ("b.pem", "b")]));
    assert_eq!(bundle_files(&plain.join("b.pem")), pairs(&[("b.pem", "b")]));

    let volume = at.path().join("volume");
    fs::create_dir(&volume).unwrap();
    kubelet(&volume, "..1", &[("prod.pem", "p1"), ("dev.pem", "d1")]);
    assert_eq!(bundle_files(&volume), pairs(&[("dev.pem", "d1"), ("prod.pem", "p1")]));
    assert_eq!(bundle_files(&volume.join("prod.pem")), pairs(&[("prod.pem", "p1")]));
    assert_eq!(read_bundle(&volume.join("prod.pem")).unwrap().layout, Layout::Swapped);
    kubelet(&volume, "..2", &[("prod.pem", "p2")]);
    assert_eq!(bundle_files(&volume.join("prod.pem")), pairs(&[("prod.pem", "p2")]));

    let label = |path: &Path| read_bundle(path).unwrap_err().label();
    assert_eq!(label(&volume.join("dev.pem")), "missing", "its link is left, its file is of another generation");
    assert_eq!(label(&at.path().join("nowhere/prod.pem")), "missing");
    fs::create_dir(at.path().join("empty")).unwrap();
    assert_eq!(label(&at.path().join("empty")), "empty");
    for number in 0..65 {
        write(&at.path().join(format!("many/{number}.pem")), "x");
    }
    assert_eq!(label(&at.path().join("many")), "too_large");
}

#[test]
fn revocation_lists_may_be_larger_than_an_object_and_are_bounded_in_all() {
    const MIB: usize = 1024 * 1024;
    let at = tempdir().unwrap();
    let lists = at.path().join("lists");
    for name in ["b.der", "a.crl", "c.pem", "tls.crt", "README", ".d.crl"] {
        write(&lists.join(name), name);
    }
    let names = |path: &Path| -> Vec<_> {
        let files = read_lists(path).unwrap().files;
        files.into_iter().map(|(path, _)| path.file_name().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&lists), ["a.crl", "b.der", "c.pem"]);
    assert_eq!(names(&lists.join("README")), ["README"], "a file counts whatever it is called");

    let label = |path: &Path| read_lists(path).map_or_else(|error| error.label(), |_| "loaded");
    let large = "x".repeat(8 * MIB);
    write(&lists.join("a.crl"), &large);
    assert_eq!(label(&lists), "loaded");
    write(&lists.join("a.crl"), &format!("{large}x"));
    assert_eq!(label(&lists), "too_large");
    for number in 0..5 {
        write(&at.path().join(format!("many/{number}.crl")), &large[..if number < 4 { 8 * MIB } else { 1 }]);
    }
    assert_eq!(label(&at.path().join("many")), "too_large");
    fs::remove_file(at.path().join("many/4.crl")).unwrap();
    assert_eq!(label(&at.path().join("many")), "loaded");
}

#[test]
fn a_single_file_is_no_directory() {
    let at = tempdir().unwrap();
    kubelet(at.path(), "..1", &[("deny.yaml", "d1")]);
    let path = at.path().join("deny.yaml");
    assert_eq!(read_single(&path).unwrap().files, [(path, b"d1".to_vec())]);
    assert_eq!(read_single(at.path()).unwrap_err().label(), "not_a_file");
}

#[test]
fn the_generation_of_a_volume_is_seen_from_itself_and_from_its_files() {
    let at = tempdir().unwrap();
    let root = fs::canonicalize(at.path()).unwrap();
    let volume = root.join("volume");
    fs::create_dir(&volume).unwrap();
    assert_eq!(generation_of(&volume), volume);
    kubelet(&volume, "..1", &[("ca.crt", "c1")]);
    assert_eq!(
        (generation_of(&volume), generation_of(&volume.join("ca.crt"))),
        (volume.join("..1"), volume.join("..1"))
    );
    kubelet(&volume, "..2", &[("ca.crt", "c2")]);
    assert_eq!(generation_of(&volume.join("ca.crt")), volume.join("..2"));
}

#[test]
fn a_directory_of_a_projected_volume_is_of_one_generation() {
    let at = tempdir().unwrap();
    let root = fs::canonicalize(at.path()).unwrap();
    let projected = |name: &str, text: &str| {
        for file in ["identity/tls.crt", "identity/tls.key", "trust/prod.pem"] {
            write(&root.join(name).join(file), text);
        }
        kubelet(&root, name, &[]);
    };
    for directory in ["identity", "trust"] {
        symlink(Path::new("..data").join(directory), root.join(directory)).unwrap();
    }
    projected("..1", "1");
    assert_eq!(read_identity(&root.join("identity")).unwrap().layout, Layout::Swapped);
    assert_eq!(read_bundle(&root.join("trust/prod.pem")).unwrap().layout, Layout::Swapped);
    assert_eq!(bundle_files(&root.join("trust")), pairs(&[("prod.pem", "1")]));
    projected("..2", "2");
    assert_eq!(read_identity(&root.join("identity")).unwrap().key, b"2");
    assert_eq!(generation_of(&root.join("trust/prod.pem")), root.join("..2/trust"));
}

#[test]
fn links_are_followed_as_the_kernel_does() {
    let at = tempdir().unwrap();
    let root = fs::canonicalize(at.path()).unwrap();
    fs::create_dir_all(root.join("releases/2/identity")).unwrap();
    symlink("releases/2", root.join("current")).unwrap();
    symlink("../current/./../../current/identity", root.join("releases/mine")).unwrap();
    symlink(root.join("current"), root.join("absolute")).unwrap();
    for path in
        ["releases/2/identity", "current/identity", "releases/mine", "absolute/identity", "current/../2/identity"]
    {
        let path = root.join(path);
        assert_eq!(follow(&path).1, fs::canonicalize(&path).unwrap(), "{}", path.display());
    }
    symlink("loop", root.join("loop")).unwrap();
    assert_eq!(follow(&root.join("loop/identity")).0.len(), 40, "it ends");
    assert_eq!(follow(&root.join("current/none/x")).1, root.join("releases/2/none/x"));
}
