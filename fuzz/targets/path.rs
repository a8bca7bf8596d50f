//! Request paths brought to their normal form, and patterns over them. The normal form has to be one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_policy::path::{EncodedSlash, Path, PathPattern};

fn check(target: &[u8], slash: EncodedSlash) {
    let Ok(path) = Path::normalise(target, slash) else { return };
    let forward = path.as_str();
    assert!(forward.starts_with('/') && !forward.contains("//"), "{forward}");
    assert!(!forward.split('/').any(|segment| segment == "." || segment == ".."), "{forward}");
    assert!(forward.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#'), "{forward}");
    let again = Path::normalise(forward.as_bytes(), slash).expect("the normal form is acceptable");
    assert_eq!(again.as_str(), forward, "the normal form has a normal form of its own");
    let readings = |path: &Path<'_>| path.readings().map(|all| all.map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(readings(&path), readings(&again));
    let whole = path.target().into_owned();
    assert_eq!(Path::normalise(&whole, slash).expect("what is forwarded is acceptable").query(), path.query());
}

fuzz_target!(|bytes: &[u8]| {
    // Up to a line feed, which is in no path, a target; behind it, a pattern.
    let (target, pattern) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &b"/v1/{id}/**"[..]),
    };
    check(target, EncodedSlash::Refuse);
    check(target, EncodedSlash::Decide);
    if let Ok(pattern) = std::str::from_utf8(pattern)
        && let Ok(pattern) = PathPattern::parse(pattern)
        && let Ok(path) = Path::normalise(target, EncodedSlash::Decide)
    {
        for reading in path.readings().into_iter().flatten() {
            let _ = pattern.matches(reading);
        }
    }
});
