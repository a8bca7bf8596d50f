//! Policies of other meshes, in the words of our language.
//!
//! Only what means the same is carried over. All that does not is refused at its place, and then there is no result at
//! all: half a policy is another policy. What the documents leave to the cluster (which identity the pods with a label
//! have, which number a port's name stands for) is said by whoever imports.

mod istio;
mod linkerd;
mod objects;
mod words;

use std::collections::BTreeMap;

use ipnet::IpNet;
use spiffe::{SpiffeId, TrustDomain};

use crate::diagnostic::Diagnostics;
use crate::identity::{IdentityPattern, IdentityPatternError};
use crate::policy::Options;
use crate::source::File;
use crate::write::Document;

/// What the documents of another mesh do not say.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    /// Which identities workloads have.
    pub workloads: Vec<Workload>,
    /// What names of ports stand for.
    pub ports: BTreeMap<String, u16>,
    /// The trust domain of this cluster's workloads.
    pub trust_domain: Option<TrustDomain>,
    /// The trust domains of other clusters, by their identity domain.
    pub trust_domains: BTreeMap<String, TrustDomain>,
    /// The addresses of the cluster's pods.
    pub cluster_networks: Vec<IpNet>,
}

/// An identity, and the labels of the pods that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The labels, as many as selectors ask for.
    pub labels: BTreeMap<String, String>,
    /// The identity.
    pub identity: SpiffeId,
}

/// Why a workload cannot be understood.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WorkloadError {
    /// It is not `label=value,…=spiffe://…`.
    #[error(
        "write it as label=value=spiffe://trust.domain/ns/namespace/sa/account, with commas between several labels"
    )]
    Form,
    /// The identity is a pattern.
    #[error("a workload has one identity, not a pattern of them")]
    Pattern,
    /// The identity is none.
    #[error(transparent)]
    Identity(#[from] IdentityPatternError),
}

impl Workload {
    /// Parses `label=value=spiffe://…`, with commas between several labels.
    ///
    /// # Errors
    /// When it has another form, or the identity is none.
    pub fn parse(text: &str) -> Result<Self, WorkloadError> {
        let at = text.find("=spiffe://").ok_or(WorkloadError::Form)?;
        let (labels, identity) = (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default());
        let pair = |label: &str| {
            let (key, value) = label.split_once('=').filter(|(key, _)| !key.is_empty())?;
            Some((key.to_owned(), value.to_owned()))
        };
        let labels = labels.split(',').map(pair).collect::<Option<_>>().ok_or(WorkloadError::Form)?;
        match IdentityPattern::parse(identity)? {
            IdentityPattern::Exact(identity) => Ok(Self { labels, identity }),
            IdentityPattern::Segments { .. }
            | IdentityPattern::Namespace(_)
            | IdentityPattern::ServiceAccount { .. }
            | IdentityPattern::TrustDomain(_)
            | IdentityPattern::Text(_) => Err(WorkloadError::Pattern),
        }
    }
}

/// Linkerd's policies: `Server`, `AuthorizationPolicy`, `ServerAuthorization`, `MeshTLSAuthentication`,
/// `NetworkAuthentication`, `HTTPRoute` and `GRPCRoute`. One policy of ours for each server that somebody may call.
///
/// # Errors
/// Every mistake and everything that cannot be carried over, ordered by place.
pub fn linkerd(files: &[File<'_>], mapping: &Mapping) -> Result<Vec<Document>, Diagnostics> {
    linkerd::import(files, mapping)
}

/// Istio's policies, read as this crate reads them. One policy of ours for each that has rules.
///
/// # Errors
/// Every mistake, or else everything that our language has no words for, ordered by place.
pub fn istio(files: &[File<'_>], mapping: &Mapping, options: &Options) -> Result<Vec<Document>, Diagnostics> {
    istio::import(files, mapping, options)
}

/// A document that is no policy of this mesh.
const FOREIGN: &str = "P200";
/// A feature without counterpart.
const NO_COUNTERPART: &str = "P201";
/// Callers without identity.
const NO_IDENTITY: &str = "P202";
/// Access without a policy.
const OPEN_ACCESS: &str = "P203";
/// A reference to what no document defines.
const DANGLING: &str = "P204";
/// It is not known which identities the selected workloads have.
const UNKNOWN_WORKLOAD: &str = "P205";
/// It is not known which port is meant.
const UNKNOWN_PORT: &str = "P206";
/// It is not known which trust domain is meant.
const UNKNOWN_TRUST_DOMAIN: &str = "P207";
/// An identity that no SPIFFE ID or pattern stands for.
const FOREIGN_IDENTITY: &str = "P208";
/// A path that no pattern of ours stands for.
const FOREIGN_PATH: &str = "P209";
/// Two routes for one request, with different clients.
const OVERLAP: &str = "P210";
/// A resource that is there twice.
const TWICE: &str = "P211";
/// A header that no policy of ours matches in the same way.
const FOREIGN_HEADER: &str = "P212";
/// It is not known which addresses the cluster has.
const UNKNOWN_NETWORK: &str = "P213";
/// What was carried over does not compile.
const NOT_WRITTEN: &str = "P219";
/// A matcher that our language has no words for.
const WITHOUT_WORDS: &str = "P220";
/// Two conditions of one kind that must both hold.
const TWO_CONDITIONS: &str = "P221";
/// Policies that deny, and none that allows.
const WITHOUT_ALLOW: &str = "P222";

#[cfg(test)]
mod tests;
