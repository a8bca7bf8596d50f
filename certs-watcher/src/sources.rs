//! Where identity and trust come from, as the configuration names it: files, or a SPIFFE Workload API.

use std::fmt;
use std::path::{Path, PathBuf};

use spiffe::{SpiffeId, TrustDomain};

use crate::deny_list::DenyList;
use crate::revocation::RevocationPolicy;
use crate::workload_api::{Choice, Endpoint};

/// Where identity and trust come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Our own certificate and key.
    pub identity: IdentitySource,
    /// Who we are, if that is known beforehand. Otherwise the first identity that is proven decides it.
    pub expected: Option<SpiffeId>,
    /// The bundles, one for each trust domain.
    pub trust: Vec<TrustSource>,
    /// The deny list, where there is one.
    pub deny_list: Option<DenyListSource>,
}

/// Where our own certificate and key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// A directory with `tls.crt` and `tls.key`.
    Directory(PathBuf),
    /// A SPIFFE Workload API.
    WorkloadApi {
        /// Where it is.
        endpoint: Endpoint,
        /// Which of its SVIDs is ours.
        choice: Choice,
    },
}

/// Where the anchors of one trust domain come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleSource {
    /// A PEM file, a SPIFFE bundle in JSON, or a directory of such files.
    Path(PathBuf),
    /// A SPIFFE Workload API: our own bundle, or one that it federates with. Its revocation lists count, too.
    WorkloadApi(Endpoint),
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
    /// Its anchors.
    pub bundle: BundleSource,
    /// Revocation lists for the chains of its members, PEM or DER: a file or a directory.
    pub crl: Option<PathBuf>,
    /// What to do where these lists say nothing certain.
    pub revocation: RevocationPolicy,
}

impl TrustSource {
    /// A bundle without revocation lists.
    pub fn new(trust_domain: TrustDomain, bundle: impl Into<BundleSource>) -> Self {
        Self { trust_domain, bundle: bundle.into(), crl: None, revocation: RevocationPolicy::default() }
    }
}

impl Sources {
    /// Every path that is read.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let bundles = self.trust.iter().filter_map(|source| source.bundle.path());
        let lists = self.trust.iter().filter_map(|source| source.crl.as_ref());
        let deny_list = self.deny_list.iter().map(|source| &source.path);
        bundles.chain(lists).chain(deny_list).chain(self.identity.directory())
    }

    /// Every Workload API that is asked, once.
    pub(crate) fn endpoints(&self) -> Vec<&Endpoint> {
        let mut endpoints: Vec<&Endpoint> = Vec::new();
        let of_bundles = self.trust.iter().filter_map(|source| source.bundle.endpoint());
        for endpoint in self.identity.endpoint().into_iter().chain(of_bundles) {
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        endpoints
    }
}

impl IdentitySource {
    /// The directory, if it is one.
    pub fn directory(&self) -> Option<&PathBuf> {
        match self {
            Self::Directory(path) => Some(path),
            Self::WorkloadApi { .. } => None,
        }
    }

    /// The Workload API, if it is one.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Directory(_) => None,
            Self::WorkloadApi { endpoint, .. } => Some(endpoint),
        }
    }
}

impl BundleSource {
    /// The file or directory, if it is one.
    pub fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::Path(path) => Some(path),
            Self::WorkloadApi(_) => None,
        }
    }

    /// The Workload API, if it is one.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Path(_) => None,
            Self::WorkloadApi(endpoint) => Some(endpoint),
        }
    }
}

impl From<PathBuf> for IdentitySource {
    fn from(directory: PathBuf) -> Self {
        Self::Directory(directory)
    }
}

impl From<PathBuf> for BundleSource {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

/// What is read and where, for messages and the log.
impl fmt::Display for IdentitySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "`{}`", path.display()),
            Self::WorkloadApi { endpoint, .. } => write!(f, "the workload API at `{endpoint}`"),
        }
    }
}
