//! One certificate in DER: what is shown of it, and whether it is an SVID.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_certs_watcher::certificate::Certificate;
use portcullis_certs_watcher::{explain, svid};

fuzz_target!(|der: &[u8]| {
    let Ok(certificate) = Certificate::parse(der) else { return };
    let texts = [certificate.name().to_string(), certificate.issuer(), certificate.serial()];
    for text in &texts {
        assert!(!text.chars().any(char::is_control) && text.len() < 4096, "unfit for a log line: {text:?}");
    }
    let _ =
        (certificate.not_before(), certificate.not_after(), certificate.weak_rsa_bits(), certificate.issuer_fault());
    match svid::spiffe_id(&certificate) {
        Ok(id) => assert!(id.to_string().len() <= 2048 && !id.path().is_empty()),
        Err(error) => assert!(!explain(&error).chars().any(char::is_control), "unfit for a log line: {error}"),
    }
});
