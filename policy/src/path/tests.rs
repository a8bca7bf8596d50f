//! Tests of `path.rs`.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn normal(target: &str) -> Result<String, PathError> {
    Path::normalise(target.as_bytes(), EncodedSlash::Refuse).map(|path| path.as_str().to_owned())
}

/// All readings, sorted; `None` when the path is denied.
fn readings(target: &str, slash: EncodedSlash) -> Option<Vec<String>> {
    let path = Path::normalise(target.as_bytes(), slash).unwrap();
    let all: Option<BTreeSet<String>> = path.readings().map(|all| all.map(str::to_owned).collect());
    all.map(|all| all.into_iter().collect())
}

#[test]
fn one_normal_form() {
    let rows: &[(&str, &str)] = &[
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a?b=%zz&c=../d", "/a"),
        ("/a?", "/a"),
        ("/%61%2D%2e%5F%7e", "/a-._~"),
        ("/%c3%a4", "/%C3%A4"),
        ("/%e2%82%ac/%F0%9F%92%8a", "/%E2%82%AC/%F0%9F%92%8A"),
        ("/a%20b", "/a%20b"),
        ("/a%3ab", "/a%3Ab"),
        ("/a\"<>[]^`{|}", "/a%22%3C%3E%5B%5D%5E%60%7B%7C%7D"),
        ("/!$&'()*+,;=:@", "/!$&'()*+,;=:@"),
        ("/a/./b/../c", "/a/c"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/%2e", "/a/"),
        ("/../../etc", "/etc"),
        ("//a///b//", "/a/b/"),
        ("/a/b/..", "/a/"),
        ("/a//../b", "/a/b"),
    ];
    for (target, expected) in rows {
        assert_eq!(normal(target).as_deref(), Ok(*expected), "{target}");
    }
}

#[test]
fn refuses_whatever_the_policy_says() {
    let rows: &[(&[u8], PathError, &str)] = &[
        (b"", PathError::NotAbsolute, "not_absolute"),
        (b"*", PathError::NotAbsolute, "not_absolute"),
        (b"a/b", PathError::NotAbsolute, "not_absolute"),
        (b"?a", PathError::NotAbsolute, "not_absolute"),
        (b"/a%2fb", PathError::EncodedSlash, "encoded_slash"),
        (b"/a%2Fb", PathError::EncodedSlash, "encoded_slash"),
        (b"/a%5cb", PathError::Backslash, "backslash"),
        (b"/a\\b", PathError::Backslash, "backslash"),
        (b"/a%00", PathError::ControlCharacter, "control_character"),
        (b"/a\0", PathError::ControlCharacter, "control_character"),
        (b"/a%0d%0a", PathError::ControlCharacter, "control_character"),
        (b"/a%7f", PathError::ControlCharacter, "control_character"),
        (b"/a%c2%85", PathError::ControlCharacter, "control_character"),
        (b"/a\tb", PathError::ControlCharacter, "control_character"),
        (b"/a b", PathError::UnescapedCharacter, "unescaped_character"),
        (b"/a#b", PathError::UnescapedCharacter, "unescaped_character"),
        ("/ä".as_bytes(), PathError::UnescapedCharacter, "unescaped_character"),
        (b"/%", PathError::BadEscape, "bad_escape"),
        (b"/%4", PathError::BadEscape, "bad_escape"),
        (b"/%zz", PathError::BadEscape, "bad_escape"),
        (b"/%u002e", PathError::BadEscape, "bad_escape"),
        (b"/%+1", PathError::BadEscape, "bad_escape"),
        (b"/%ff", PathError::NotUtf8, "not_utf8"),
        (b"/%c0%af", PathError::NotUtf8, "not_utf8"),
        (b"/%c3", PathError::NotUtf8, "not_utf8"),
        (b"/%c3a", PathError::NotUtf8, "not_utf8"),
        (b"/%e0%80%af", PathError::NotUtf8, "not_utf8"),
        (b"/%ed%a0%80", PathError::NotUtf8, "not_utf8"),
        (b"/%f5%80%80%80", PathError::NotUtf8, "not_utf8"),
    ];
    for (target, expected, label) in rows {
        assert_eq!(Path::normalise(target, EncodedSlash::Refuse).as_ref(), Err(expected), "{}", target.escape_ascii());
        assert_eq!(expected.label(), *label);
    }
}

#[test]
fn every_reading_is_decided() {
    let rows: &[(&str, &[&str])] = &[
        ("/a/b", &["/a/b"]),
        ("/a%20b", &["/a%20b"]),
        ("/100%25", &["/100%25"]),
        ("/a;v=1/b", &["/a/b", "/a;v=1/b"]),
        ("/..;/admin", &["/..;/admin", "/admin"]),
        ("/a/..;x/b", &["/a/..;x/b", "/b"]),
        ("/a/%252e%252e/b", &["/a/%252e%252e/b", "/b"]),
        ("/a%252fb", &["/a%252fb", "/a%2Fb", "/a/b"]),
        ("/a%3Fb/c", &["/a", "/a%3Fb/c"]),
        ("/a%23b", &["/a", "/a%23b"]),
        ("/a%3bx/b", &["/a%3Bx/b", "/a/b", "/a;x/b"]),
        ("/v1/x%3Acancel", &["/v1/x%3Acancel", "/v1/x:cancel"]),
        ("/u/a%40b", &["/u/a%40b", "/u/a@b"]),
        ("/%25zz", &["/%25zz"]),
        ("/a/;x/../b", &["/a/b"]),
        ("/a/;x/%252e%252e/b", &["/a/%252e%252e/b", "/a/;x/%252e%252e/b", "/a/b", "/b"]),
        ("/a%2525", &["/a%25", "/a%2525"]),
    ];
    for (target, expected) in rows {
        let expected: Vec<String> = expected.iter().map(|path| (*path).to_owned()).collect();
        assert_eq!(readings(target, EncodedSlash::Refuse).as_deref(), Some(&*expected), "{target}");
    }
}

#[test]
fn escaped_slashes_are_decided_where_the_application_needs_them() {
    let rows: &[(&str, &[&str])] = &[
        ("/repo/a%2fb", &["/repo/a%2Fb", "/repo/a/b"]),
        ("/a/..%2fb", &["/a/..%2Fb", "/b"]),
        ("/a%2f..%2f..%2fb", &["/a%2F..%2F..%2Fb", "/b"]),
    ];
    for (target, expected) in rows {
        let expected: Vec<String> = expected.iter().map(|path| (*path).to_owned()).collect();
        assert_eq!(readings(target, EncodedSlash::Decide).as_deref(), Some(&*expected), "{target}");
    }
    assert_eq!(Path::normalise(b"/a%2fb?c", EncodedSlash::Decide).unwrap().target().as_ref(), b"/a%2Fb?c");
}

#[test]
fn a_forbidden_reading_denies() {
    let deep = format!("/{}2e", "%25".repeat(40));
    let nested = format!("/%{}2e", "25".repeat(40));
    let long = format!("/;{}", "a".repeat(4096));
    for target in ["/a%255cb", "/a%2500", "/a%25250a", "/a%25255c", &nested, &long] {
        assert_eq!(readings(target, EncodedSlash::Refuse), None, "{target}");
    }
    // Side by side is not nested: one decoding leaves nothing but the last escape.
    assert!(Path::normalise(deep.as_bytes(), EncodedSlash::Refuse).is_ok());
}

#[test]
fn a_normal_path_is_borrowed_and_the_query_is_untouched() {
    let target = b"/v1/members/42;x/%C3%A4%20b/?q=%zz/../#\\";
    let path = Path::normalise(target, EncodedSlash::Refuse).unwrap();
    assert!(matches!(path.forward, Cow::Borrowed(_)));
    assert!(matches!(path.target(), Cow::Borrowed(_)));
    assert_eq!(path.query(), Some(&b"q=%zz/../#\\"[..]));
    let path = Path::normalise(b"/a/./b?c?d", EncodedSlash::Refuse).unwrap();
    assert_eq!(path.target().as_ref(), b"/a/b?c?d");
    assert_eq!(Path::normalise(b"/a", EncodedSlash::Refuse).unwrap().query(), None);
    assert_eq!(Path::normalise(b"/a?", EncodedSlash::Refuse).unwrap().query(), Some(&b""[..]));
}

/// A server that decodes as often as it can, then drops query, fragment and parameters, then resolves dots.
fn naive(path: &str) -> Option<String> {
    let mut text = path.as_bytes().to_vec();
    loop {
        let mut decoded = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let hex = text.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
            let byte = hex.filter(|hex| !hex.starts_with('+')).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            match (text[at], byte) {
                (b'%', Some(byte)) => {
                    decoded.push(byte);
                    at += 3;
                }
                (byte, _) => {
                    decoded.push(byte);
                    at += 1;
                }
            }
        }
        if decoded == text {
            break;
        }
        text = decoded;
    }
    if text.iter().any(|b| *b == b'\\' || b.is_ascii_control()) {
        return None;
    }
    let end = text.iter().position(|b| *b == b'?' || *b == b'#').unwrap_or(text.len());
    let mut kept: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = text[1..end].split(|b| *b == b'/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let segment = segment.split(|b| *b == b';').next().unwrap();
        let last = index + 1 == segments.len();
        match segment {
            b"." | b"" if !last => {}
            b"." => kept.push(b""),
            b".." => {
                kept.pop();
                if last {
                    kept.push(b"");
                }
            }
            other => kept.push(other),
        }
    }
    let mut out = String::new();
    for segment in kept {
        out.push('/');
        for byte in segment {
            let raw = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(byte);
            if raw { out.push(char::from(*byte)) } else { out.push_str(&format!("%{byte:02X}")) }
        }
    }
    Some(if out.is_empty() { "/".to_owned() } else { out })
}

fn target() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", "a", "b", "admin", ".", "..", ";", ";x=1", "%2e", "%2F", "%252f", "%25", "%252e", "%3b", "%3F",
        "%23", "%253b", "%255c", "%2500", "%20", "%c3%a4", "%41", "%3a", "%40", ":", "@", "%2525", "2e", "5c", "%",
        "%7b", "{", "\"",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        for slash in [EncodedSlash::Refuse, EncodedSlash::Decide] {
            let _ = Path::normalise(&bytes, slash);
            let mut rooted = b"/".to_vec();
            rooted.extend(&bytes);
            if let Ok(path) = Path::normalise(&rooted, slash) {
                let _ = path.readings().map(Iterator::count);
            }
        }
    }

    #[test]
    fn what_is_forwarded_is_its_own_normal_form(target in target()) {
        if let Ok(path) = Path::normalise(target.as_bytes(), EncodedSlash::Decide) {
            let again = Path::normalise(path.as_str().as_bytes(), EncodedSlash::Decide).unwrap();
            prop_assert!(matches!(again.forward, Cow::Borrowed(_)));
            prop_assert_eq!(again.as_str(), path.as_str());
            prop_assert_eq!(again.readings, path.readings);
        }
    }

    #[test]
    fn every_reading_is_in_normal_form(target in target()) {
        let Ok(path) = Path::normalise(target.as_bytes(), EncodedSlash::Decide) else { return Ok(()) };
        for reading in path.readings().into_iter().flatten() {
            let segments: Vec<&str> = reading.split('/').collect();
            prop_assert_eq!(segments[0], "");
            for (index, segment) in segments.iter().enumerate().skip(1) {
                prop_assert!(*segment != "." && *segment != "..", "{}", reading);
                prop_assert!(!segment.is_empty() || index + 1 == segments.len(), "{}", reading);
            }
            for (at, _) in reading.match_indices('%') {
                let byte = escape::hex_pair(&reading.as_bytes()[at + 1..]).unwrap();
                prop_assert!(!escape::is_unreserved(byte), "{}", reading);
                prop_assert!(!reading[at..at + 3].bytes().any(|b| b.is_ascii_lowercase()) || byte == b'%', "{}", reading);
            }
        }
    }

    #[test]
    fn readings_cover_a_naive_server(target in target()) {
        for slash in [EncodedSlash::Refuse, EncodedSlash::Decide] {
            let Ok(path) = Path::normalise(target.as_bytes(), slash) else { continue };
            let Some(readings) = path.readings() else { continue };
            let readings: Vec<&str> = readings.collect();
            let naive = naive(path.as_str());
            prop_assert!(naive.as_deref().is_some_and(|naive| readings.contains(&naive)), "{:?} {:?}", naive, readings);
        }
    }
}
