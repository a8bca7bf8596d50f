//! A certificate request (PKCS#10) as `ca sign` takes it: as text, or as the DER inside it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::ca::Request;
use portcullis_fuzz::pem;

fuzz_target!(|bytes: &[u8]| {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if text.contains("-----BEGIN") => text.to_owned(),
        _ => pem("CERTIFICATE REQUEST", bytes),
    };
    match Request::from_pem(&text) {
        Ok(request) => assert!(!request.identity().to_string().is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
