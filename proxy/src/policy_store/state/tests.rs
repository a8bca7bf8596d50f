//! What of a copy comes back, and which copies are not believed.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn copy() -> Copy {
    let document = |name: &str, text: &str| Document { name: name.to_owned(), bytes: text.as_bytes().to_vec() };
    let contents = Contents {
        files: vec![
            document("/policy/a.yaml", "a: 1\n"),
            document("/policy/b.yaml", ""),
            document("/policy/c.yaml", "c"),
        ],
        layout: Layout::Volume,
        git_revision: Some("1a2b3c4".to_owned()),
        ..Contents::default()
    };
    let taken = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    Copy { contents: Arc::new(contents), taken, revision: "0".repeat(32) }
}

/// A state directory with a copy in it.
fn kept() -> (tempfile::TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let state = State::new(folder.path().join("var/policy"), vec!["/policy".into()]);
    state.write(&copy()).unwrap();
    (folder, state)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_written_is_read_and_is_nobody_elses() {
    let (_folder, state) = kept();
    assert_eq!(state.read().unwrap(), copy());
    assert_eq!((mode(&state.directory), mode(&state.path())), (0o700, 0o600));
    let newer = Copy { revision: "1".repeat(32), ..copy() };
    fs::write(state.directory.join(TEMPORARY), "of a writer that was killed").unwrap();
    state.write(&newer).unwrap();
    assert_eq!(state.read().unwrap(), newer);
    assert_eq!(fs::read_dir(&state.directory).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn no_byte_of_it_can_be_lost_or_changed() {
    let (_folder, state) = kept();
    let whole = fs::read(state.path()).unwrap();
    for end in 0..whole.len() {
        assert_eq!(state.decode(&whole[..end]).unwrap_err().label(), "damaged", "cut off after {end} bytes");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        let label = state.decode(&changed).unwrap_err().label();
        assert!(["damaged", "other_format"].contains(&label), "changed at {at}: {label}");
    }
    let more = [whole.as_slice(), b"x"].concat();
    assert_eq!(state.decode(&more).unwrap_err().label(), "damaged");
    assert_eq!(state.decode(&whole).unwrap(), copy(), "and as it was it is believed");
}

#[test]
fn another_format_is_not_guessed_at() {
    let (_folder, state) = kept();
    let whole = String::from_utf8(fs::read(state.path()).unwrap()).unwrap();
    for first in ["portcullis-last-good-policy 2 sha256:", "portcullis-last-good-policy 1 sha512:", "something else:"] {
        let error = state.decode(whole.replace(FORMAT, first).as_bytes()).unwrap_err();
        assert_eq!(error.label(), "other_format", "{error}");
    }
}

#[test]
fn headers_that_lie_are_found_out_whatever_their_digest() {
    let (_folder, state) = kept();
    let files = |list: &str| {
        format!(
            "{{\"taken\":1,\"revision\":\"r\",\"gitRevision\":null,\"directories\":[\"/policy\"],\"files\":[{list}]}}"
        )
    };
    let of = |rest: &str| {
        let mut context = Context::new(&SHA256);
        context.update(rest.as_bytes());
        state.decode(format!("{FORMAT}{}\n{rest}", hex(context.finish().as_ref())).as_bytes())
    };
    assert_eq!(of(&format!("{}\nab", files("{\"name\":\"x\",\"bytes\":2}"))).unwrap().contents.files[0].bytes, b"ab");
    let huge = "{\"name\":\"x\",\"bytes\":18446744073709551615}";
    let many = vec!["{\"name\":\"x\",\"bytes\":0}"; MOST_FILES + 1].join(",");
    for (rest, label) in [
        (format!("{}\na", files("{\"name\":\"x\",\"bytes\":2}")), "damaged"),
        (format!("{}\nabc", files("{\"name\":\"x\",\"bytes\":2}")), "damaged"),
        (format!("{}\n", files(huge)), "damaged"),
        (format!("{}\n", files(&many)), "too_large"),
        (format!("{}\n", files("").replace("\"taken\":1", "\"taken\":18446744073709551615")), "damaged"),
        (format!("{}\n", files("").replace("{\"taken", "{\"more\":1,\"taken")), "damaged"),
        (format!("{}\n", files("").replace("/policy", "/other")), "elsewhere"),
        (files(""), "damaged"),
        ("[]\n".to_owned(), "damaged"),
    ] {
        assert_eq!(of(&rest).unwrap_err().label(), label, "{}", rest.get(..200).unwrap_or(&rest));
    }
}

#[test]
fn a_copy_of_other_directories_is_none_of_ours() {
    let (_folder, state) = kept();
    let other = State::new(state.directory, vec!["/policy".into(), "/more".into()]);
    assert_eq!(other.read().unwrap_err().label(), "elsewhere");
}

#[test]
fn what_others_may_write_is_not_believed() {
    let (_folder, state) = kept();
    for (path, bad) in [(state.path(), 0o620), (state.path(), 0o602), (state.directory.clone(), 0o777)] {
        let good = mode(&path);
        set_mode(&path, bad);
        let error = state.read().unwrap_err();
        assert_eq!(error.label(), "writable_by_others", "{error}");
        assert!(error.to_string().contains(&format!("{bad:04o}")), "{error}");
        set_mode(&path, good);
        state.read().unwrap();
    }
    // Where it would not be believed it is not written either, so that it is told before it is needed.
    set_mode(&state.directory, 0o770);
    assert_eq!(state.write(&copy()).unwrap_err().label(), "writable_by_others");
}

#[test]
fn what_belongs_to_somebody_else_is_not_believed() {
    let (_folder, state) = kept();
    let own = rustix::process::geteuid().as_raw();
    if own == 0 {
        // Only root can give files away, and then root is us.
        std::os::unix::fs::chown(state.path(), Some(65_534), None).unwrap();
        let error = state.read().unwrap_err();
        assert_eq!(error.label(), "foreign_owner", "{error}");
    }
    let judged = |owner| judge_owner(Path::new("/copy"), owner, 1337).map_err(|error| error.label());
    assert_eq!((judged(1337), judged(0), judged(1000)), (Ok(()), Ok(()), Err("foreign_owner")));
}

#[test]
fn only_a_regular_file_is_opened() {
    let (folder, state) = kept();
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(state.path(), &elsewhere).unwrap();
    assert_eq!(state.read().unwrap_err().label(), "missing");
    symlink(&elsewhere, state.path()).unwrap();
    assert_eq!(state.read().unwrap_err().label(), "no_file");
    let nowhere = State::new(folder.path().join("nowhere"), vec!["/policy".into()]);
    assert_eq!(nowhere.read().unwrap_err().label(), "missing");
}

#[test]
fn more_than_any_policy_has_is_not_read() {
    let (_folder, state) = kept();
    // A file with a hole, which takes no room on the disk.
    OpenOptions::new().write(true).open(state.path()).unwrap().set_len(MOST_STATE + 1).unwrap();
    assert_eq!(state.read().unwrap_err().label(), "too_large");
}

#[test]
fn a_directory_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = State::new(file.join("policy"), vec!["/policy".into()]).write(&copy()).unwrap_err();
    assert_eq!(error.label(), "system");
    assert!(error.to_string().contains("cannot make the directory"), "{error}");
}
