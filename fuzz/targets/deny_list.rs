//! The deny list: read, or refused with every mistake; one that denies nobody says so.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis::deny_file;

fuzz_target!(|text: &[u8]| match deny_file::read(Path::new("/etc/fuzz.yaml"), text) {
    Ok(list) => assert!(!list.is_empty() || text.contains(&b'{'), "an empty list says `{{}}`"),
    Err(mistakes) => assert!(mistakes.contains("error[D") && !mistakes.contains('\u{1b}')),
});
