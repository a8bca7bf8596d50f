//! A throw-away PKI of three tiers, and its files in the layout of the kubelet.

use std::path::Path;

use portcullis::ca::{
    Access, Authority, Intermediate, IntermediateOptions, Layout, Leaf, LeafOptions, RootOptions, Validity, VolumeFile,
    write_generation,
};
use spiffe::{SpiffeId, TrustDomain};
use time::OffsetDateTime;

/// The trust domain of most tests.
pub const DOMAIN: &str = "prod.test";
/// The workload that is called.
pub const API: &str = "spiffe://prod.test/ns/eligibility/sa/api";
/// The workload that calls.
pub const CALLER: &str = "spiffe://prod.test/ns/claims/sa/adjudicator";
/// Another workload of the same trust domain.
pub const OTHER: &str = "spiffe://prod.test/ns/reports/sa/batch";

/// A root and its one intermediate.
pub struct Pki {
    pub domain: String,
    authority: Authority,
    root_pem: String,
    pub intermediate: Intermediate,
}

impl Pki {
    pub fn new() -> Self {
        Self::of(DOMAIN)
    }

    pub fn of(domain: &str) -> Self {
        let authority = Authority::in_memory(&RootOptions::default()).unwrap();
        let trust_domain = TrustDomain::new(domain).unwrap();
        let intermediate =
            authority.create_intermediate("test", &trust_domain, &IntermediateOptions::default()).unwrap();
        Self { domain: domain.to_owned(), root_pem: authority.certificate_pem(), authority, intermediate }
    }

    /// What peers believe.
    pub fn bundle(&self) -> &str {
        &self.root_pem
    }

    /// The root's list, on which nobody is.
    pub fn root_list(&self) -> String {
        self.authority.revocation_list(Validity::hours(24)).unwrap().pem()
    }

    pub fn leaf(&self, id: &str) -> Leaf {
        self.intermediate.issue(&SpiffeId::new(id).unwrap(), &LeafOptions::default()).unwrap()
    }

    /// A leaf that ends within seconds, and when.
    pub fn short_leaf(&self, id: &str, seconds: i64) -> (Leaf, OffsetDateTime) {
        // Certificates count whole seconds.
        let end = (OffsetDateTime::now_utc() + time::Duration::seconds(seconds)).replace_nanosecond(0).unwrap();
        let validity = Validity::Between(end - time::Duration::hours(1), end);
        (self.odd_leaf(&[id], &LeafOptions { validity, ..LeafOptions::default() }), end)
    }

    /// A leaf that may break any rule.
    pub fn odd_leaf(&self, uris: &[&str], options: &LeafOptions) -> Leaf {
        self.intermediate.issue_unchecked(uris, options).unwrap()
    }
}

/// Swaps the identity of a sidecar.
pub fn write_leaf(directory: &Path, leaf: &Leaf) {
    leaf.write(directory, Layout::Kubelet).unwrap();
}

/// Swaps the files of a volume for these.
pub fn write_volume(directory: &Path, files: &[(&str, &str)]) {
    let files: Vec<_> = files
        .iter()
        .map(|(name, contents)| VolumeFile { name, contents: contents.as_bytes(), access: Access::Public })
        .collect();
    write_generation(directory, &files).unwrap();
}
