//! Linkerd's policies: carried over into documents that compile, or refused with their mistakes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::mapping;
use portcullis_policy::import::{self, Mapping};
use portcullis_policy::{File, write};

static MAPPING: LazyLock<Mapping> = LazyLock::new(mapping);

fuzz_target!(|text: &[u8]| {
    match import::linkerd(&[File { name: "fuzz.yaml", bytes: text }], &MAPPING) {
        Ok(documents) => assert!(!write::write(&documents).expect("what is carried over compiles").is_empty()),
        Err(found) => assert!(found.has_errors() && !found.to_string().is_empty()),
    }
});
