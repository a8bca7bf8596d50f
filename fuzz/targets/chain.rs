//! A chain as a peer sends it, judged as in a handshake. Nothing but the leaf of the seeds may ever be believed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis_certs_watcher::{Fingerprint, Role, Trust, explain, verify_peer};
use portcullis_fuzz::{NOW, at, chain, issued_leaf, trust};

static WORLD: LazyLock<(Trust, Fingerprint)> = LazyLock::new(|| (trust(), issued_leaf()));

fuzz_target!(|bytes: &[u8]| {
    let (trust, issued) = &*WORLD;
    let (choices, chain) = chain(bytes);
    let role = if choices & 1 == 0 { Role::Client } else { Role::Server };
    let now = at([NOW, 0, NOW + 200 * 365 * 86_400, u64::MAX][usize::from(choices >> 1 & 3)]);
    match verify_peer(trust, role, &chain, now) {
        Ok(peer) => {
            assert_eq!(peer.fingerprint, *issued, "believed what was never issued");
            assert!(peer.not_before <= now && now <= peer.not_after);
        }
        Err(error) => {
            let text = explain(&error);
            assert!(!text.chars().any(char::is_control) && text.len() < 16_384, "unfit for a log line: {text:?}");
            assert!(!error.label().is_empty());
            let _ = error.certificate_error();
        }
    }
});
