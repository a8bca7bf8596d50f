//! The text of `tls.key`, as far as to a key that could sign.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_certs_watcher::pem;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;

fuzz_target!(|text: &[u8]| {
    if let Ok(key) = pem::private_key(text) {
        assert!(key.secret_der().len() <= text.len());
        let _ = any_supported_type(&key);
    }
});
