//! Whom we believe, and what takes that away again: the bundles of all trust domains, revocation lists, the deny list.
//!
//! It never changes once it is made: a swap makes another one. So whatever was proven under it can be remembered with it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs;
use spiffe::TrustDomain;

use crate::bundle::Bundle;
use crate::cache::Cache;
use crate::deny_list::DenyList;
use crate::revocation::Revocation;

/// The bundles of every trust domain that is known, and what takes trust away again. Without bundles it trusts nobody.
///
/// It never changes: what was proven under it is remembered with it, and forgotten with it.
pub struct Trust {
    bundles: BTreeMap<TrustDomain, Arc<Bundle>>,
    revocations: BTreeMap<TrustDomain, Arc<Revocation>>,
    deny_list: Arc<DenyList>,
    algorithms: WebPkiSupportedAlgorithms,
    cache: Cache,
}

impl Trust {
    /// Trust in these bundles; of two for one trust domain the last counts.
    pub fn new(bundles: impl IntoIterator<Item = Arc<Bundle>>) -> Self {
        Self {
            bundles: bundles.into_iter().map(|bundle| (bundle.trust_domain().clone(), bundle)).collect(),
            revocations: BTreeMap::new(),
            deny_list: Arc::default(),
            algorithms: algorithms(),
            cache: Cache::default(),
        }
    }

    /// The same, with revocation lists for the chains of these trust domains.
    #[must_use]
    pub fn with_revocations(self, revocations: impl IntoIterator<Item = (TrustDomain, Arc<Revocation>)>) -> Self {
        Self { revocations: revocations.into_iter().collect(), cache: Cache::default(), ..self }
    }

    /// The same, with this deny list.
    #[must_use]
    pub fn with_deny_list(self, deny_list: Arc<DenyList>) -> Self {
        Self { deny_list, cache: Cache::default(), ..self }
    }

    /// The revocation lists for the chains of one trust domain.
    pub fn revocation(&self, trust_domain: &TrustDomain) -> Option<&Arc<Revocation>> {
        self.revocations.get(trust_domain)
    }

    /// The deny list.
    pub fn deny_list(&self) -> &Arc<DenyList> {
        &self.deny_list
    }

    /// The same, with nothing proven yet.
    #[cfg(test)]
    pub(crate) fn without_memory(&self) -> Self {
        Self {
            bundles: self.bundles.clone(),
            revocations: self.revocations.clone(),
            deny_list: Arc::clone(&self.deny_list),
            algorithms: self.algorithms,
            cache: Cache::default(),
        }
    }

    /// What was proven under this trust.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The bundle of one trust domain.
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        self.bundles.get(trust_domain)
    }

    /// Every bundle, by the name of its trust domain.
    pub fn bundles(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.bundles.values()
    }

    /// The signature algorithms that are accepted in certificates and handshakes.
    pub(crate) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("bundles", &self.bundles).finish_non_exhaustive()
    }
}

/// The signature algorithms of our TLS library's default, for certificates, handshakes and revocation lists.
pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}
