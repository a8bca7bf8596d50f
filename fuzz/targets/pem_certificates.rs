//! The text of `tls.crt` or of a bundle.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_certs_watcher::pem;

fuzz_target!(|text: &[u8]| {
    if let Ok(certificates) = pem::certificates(text) {
        let bytes: usize = certificates.iter().map(|certificate| certificate.len()).sum();
        assert!(!certificates.is_empty() && bytes <= text.len());
    }
});
