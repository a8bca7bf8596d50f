//! `portcullis certs` as a program: how it ends, and that no byte of a key is printed.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::pki::{API, Pki, write_leaf};

fn certs(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("certs").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn all(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn it_ends_with_0_1_or_64() {
    let (pki, folder) = (Pki::new(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).display().to_string();
    write_leaf(&folder.path().join("identity"), &pki.leaf(API));
    std::fs::write(at("roots.pem"), pki.bundle()).unwrap();
    std::fs::write(at("junk"), vec![0x41; 1024 * 1024]).unwrap();
    let (identity, junk) = (at("identity"), at("junk"));
    let (trust, foreign) = (format!("prod.test={}", at("roots.pem")), format!("dev.test={}", at("roots.pem")));
    for (arguments, code, word) in [
        (&["inspect", &identity, &trust][..], 0, "fits the leaf"),
        (&["inspect", &identity, "--at", "2099-01-01T00:00:00Z"], 1, "error[K006]"),
        (&["inspect", &identity, "--format", "sarif"], 0, "\"version\": \"2.1.0\""),
        (&["inspect", &junk], 1, "error[K001]"),
        (&["inspect", "/nowhere"], 1, "does not exist"),
        (&["inspect"], 64, "PATH"),
        (&["inspect", &identity, "--at", "noon"], 64, "RFC 3339"),
        (&["verify", "--peer", &identity, "--trust", &trust], 0, "verdict: accepted"),
        (&["verify", "--peer", &identity, "--trust", &trust, "--expect", API], 0, "verdict: accepted"),
        (&["verify", "--peer", &identity, "--trust", &foreign], 1, "foreign_trust_domain"),
        (&["verify", "--peer", &junk, "--trust", &trust], 1, "cannot be used"),
        (&["verify", "--peer", &identity], 64, "--trust"),
        (&["verify", "--peer", &identity, "--trust", &trust, "--trust", &trust], 64, "given twice"),
    ] {
        let begun = Instant::now();
        let output = certs(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", all(&output));
        assert!(all(&output).contains(word), "{arguments:?}: {word} is missing from\n{}", all(&output));
        assert!(begun.elapsed() < Duration::from_secs(20), "{arguments:?} took {:?}", begun.elapsed());
    }
}

#[test]
fn no_byte_of_a_key_is_printed() {
    let (pki, folder) = (Pki::new(), tempfile::tempdir().unwrap());
    let leaf = pki.leaf(API);
    write_leaf(&folder.path().join("identity"), &leaf);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let key = std::fs::read_to_string(at("identity/tls.key")).unwrap();
    let chain = std::fs::read_to_string(at("identity/tls.crt")).unwrap();
    std::fs::write(at("combined.pem"), format!("{key}{chain}")).unwrap();
    // Line breaks lost, cut off, and in the wrong place: messages must not quote it either.
    std::fs::write(at("flat.pem"), key.replace('\n', " ")).unwrap();
    std::fs::write(at("cut.pem"), &key[..key.len() / 2]).unwrap();
    let paths = ["identity", "identity/tls.key", "combined.pem", "flat.pem", "cut.pem"].map(at);
    let body: String = key.lines().filter(|line| !line.starts_with("-----")).collect();
    for path in &paths {
        for format in ["text", "json", "sarif"] {
            let printed = all(&certs(&["inspect", path, "--format", format]));
            for part in body.as_bytes().chunks(16).filter(|part| part.len() == 16) {
                assert!(!printed.contains(std::str::from_utf8(part).unwrap()), "{path} as {format} shows the key");
            }
        }
        let trust = format!("prod.test={path}");
        let printed = all(&certs(&["verify", "--peer", path, "--trust", &trust, "--crl", &trust]));
        assert!(!printed.contains(&body[16..48]), "{path} shows the key");
    }
}
