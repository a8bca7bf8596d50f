//! The configuration file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::config::Config;

fuzz_target!(|text: &[u8]| match Config::read("fuzz.yaml", text, None) {
    Ok(checked) => {
        let _ = checked.warnings.to_string();
    }
    Err(found) => assert!(!found.to_string().is_empty()),
});
