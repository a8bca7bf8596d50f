//! A SPIFFE bundle in JSON, and each certificate in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_certs_watcher::certificate::Certificate;
use portcullis_certs_watcher::explain;
use portcullis_certs_watcher::spiffe_bundle::SpiffeBundle;

fuzz_target!(|text: &[u8]| match SpiffeBundle::parse(text) {
    Ok(bundle) => {
        for anchor in &bundle.anchors {
            if let Ok(certificate) = Certificate::parse(anchor) {
                let _ = (certificate.issuer_fault(), certificate.not_after(), certificate.name());
            }
        }
    }
    Err(error) => assert!(!explain(&error).is_empty()),
});
