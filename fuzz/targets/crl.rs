//! Revocation lists as a file holds them. A list that the issuer did not sign revokes nobody.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use portcullis_certs_watcher::{Crl, Revocation, RevocationPolicy, Role, explain, verify_peer};
use portcullis_fuzz::{GOOD_CHAIN, NOW, TRUST_DOMAIN, at, chain, issued_list, trust};
use rustls_pki_types::CertificateDer;
use spiffe::TrustDomain;

static CHAIN: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| chain(GOOD_CHAIN).1);
static DOMAIN: LazyLock<TrustDomain> = LazyLock::new(|| TrustDomain::new(TRUST_DOMAIN).expect("a trust domain"));

fuzz_target!(|bytes: &[u8]| match Crl::read(bytes) {
    Ok(lists) => {
        assert!(!lists.is_empty());
        let issued = lists.iter().any(|list| list.der() == issued_list());
        for list in &lists {
            assert!(!list.to_string().chars().any(char::is_control), "unfit for a log line: {list}");
            let _ = (list.this_update(), list.next_update(), list.revoked());
        }
        let revocation = Arc::new(Revocation::new(lists, RevocationPolicy::default()));
        let trust = trust().with_revocations([(DOMAIN.clone(), revocation)]);
        let verdict = verify_peer(&trust, Role::Client, &CHAIN, at(NOW));
        assert_eq!(verdict.is_err(), issued, "{verdict:?}");
    }
    Err(error) => assert!(!explain(&error).is_empty()),
});
