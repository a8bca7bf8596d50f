//! A message of the SPIFFE Workload API: what can be taken of it is within its limits and fit for a log line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_certs_watcher::explain;
use portcullis_certs_watcher::workload_api::Delivery;

fuzz_target!(|message: &[u8]| match Delivery::read(1, message) {
    Ok(delivery) => {
        let chains: usize =
            delivery.svids.iter().flat_map(|svid| &svid.chain).map(|certificate| certificate.len()).sum();
        let bundles: usize =
            delivery.bundles.values().flat_map(|bundle| bundle.iter()).map(|anchor| anchor.len()).sum();
        assert!(chains + bundles <= message.len(), "more certificates than were sent");
    }
    Err(error) => assert!(!explain(&error).chars().any(char::is_control), "unfit for a log line: {error}"),
});
