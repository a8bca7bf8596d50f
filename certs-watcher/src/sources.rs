//! Where identity and trust come from, as the configuration names it.

use std::path::PathBuf;

use spiffe::{SpiffeId, TrustDomain};

/// Where identity and trust come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The directory with `tls.crt` and `tls.key`.
    pub identity: PathBuf,
    /// Who we are, if that is known beforehand. Otherwise the first identity that is proven decides it.
    pub expected: Option<SpiffeId>,
    /// The bundles, one for each trust domain.
    pub trust: Vec<TrustSource>,
}

/// Where the bundle of one trust domain comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustSource {
    /// For whose members it speaks.
    pub trust_domain: TrustDomain,
    /// A PEM file, a SPIFFE bundle in JSON, or a directory of such files.
    pub bundle: PathBuf,
}

impl Sources {
    /// Every path that is read.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.trust.iter().map(|source| &source.bundle).chain([&self.identity])
    }
}
