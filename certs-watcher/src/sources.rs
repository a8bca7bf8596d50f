//! Where identity and trust come from, as the configuration names it.

use std::path::{Path, PathBuf};

use spiffe::{SpiffeId, TrustDomain};

use crate::deny_list::DenyList;
use crate::revocation::RevocationPolicy;

/// Where identity and trust come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The directory with `tls.crt` and `tls.key`.
    pub identity: PathBuf,
    /// Who we are, if that is known beforehand. Otherwise the first identity that is proven decides it.
    pub expected: Option<SpiffeId>,
    /// The bundles, one for each trust domain.
    pub trust: Vec<TrustSource>,
    /// The deny list, where there is one.
    pub deny_list: Option<DenyListSource>,
}

/// Where the deny list comes from.
#[derive(Clone, Debug)]
pub struct DenyListSource {
    /// The file.
    pub path: PathBuf,
    /// Reads its content: the language of the file is the business of whoever configures it. The path is for messages.
    /// A mistake is told in words that name place and remedy.
    pub read: fn(&Path, &[u8]) -> Result<DenyList, String>,
}

/// Where the bundle of one trust domain comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustSource {
    /// For whose members it speaks.
    pub trust_domain: TrustDomain,
    /// A PEM file, a SPIFFE bundle in JSON, or a directory of such files.
    pub bundle: PathBuf,
    /// Revocation lists for the chains of its members, PEM or DER: a file or a directory.
    pub crl: Option<PathBuf>,
    /// What to do where these lists say nothing certain.
    pub revocation: RevocationPolicy,
}

impl TrustSource {
    /// A bundle without revocation lists.
    pub fn new(trust_domain: TrustDomain, bundle: PathBuf) -> Self {
        Self { trust_domain, bundle, crl: None, revocation: RevocationPolicy::default() }
    }
}

impl Sources {
    /// Every path that is read.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let bundles = self.trust.iter().map(|source| &source.bundle);
        let lists = self.trust.iter().filter_map(|source| source.crl.as_ref());
        let deny_list = self.deny_list.iter().map(|source| &source.path);
        bundles.chain(lists).chain(deny_list).chain([&self.identity])
    }
}
