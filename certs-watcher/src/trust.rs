//! Whom we believe, and what takes that away again: the bundles of all trust domains, revocation lists, the deny list.
//!
//! It never changes once it is made: a swap makes another one. What was proven under it is remembered with what it rests on,
//! its basis, so that a swap that leaves that alone takes no proof away.

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
use crate::signatures::Signatures;

/// The bundles of every trust domain that is known, and what takes trust away again. Without bundles it trusts nobody.
///
/// It never changes.
pub struct Trust {
    bundles: BTreeMap<TrustDomain, Arc<Bundle>>,
    revocations: BTreeMap<TrustDomain, Arc<Revocation>>,
    deny_list: Arc<DenyList>,
    algorithms: WebPkiSupportedAlgorithms,
    /// For each trust domain with a bundle.
    bases: BTreeMap<TrustDomain, Basis>,
    /// Shared with the trusts before and after.
    cache: Arc<Cache>,
    /// Shared as well.
    signatures: Arc<Signatures>,
}

/// The one bundle, and the revocation lists beside it, that a chain of their trust domain is judged by. Another bundle or
/// another list is another basis, and no two are ever equal: each is the address of an allocation that it keeps alive.
#[derive(Clone, Debug)]
pub(crate) struct Basis(Arc<()>);

impl Basis {
    fn new() -> Self {
        Self(Arc::new(()))
    }
}

impl PartialEq for Basis {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Basis {}

impl Trust {
    /// Trust in these bundles; of two for one trust domain the last counts.
    pub fn new(bundles: impl IntoIterator<Item = Arc<Bundle>>) -> Self {
        let bundles: BTreeMap<_, _> =
            bundles.into_iter().map(|bundle| (bundle.trust_domain().clone(), bundle)).collect();
        Self {
            bases: new_bases(&bundles),
            bundles,
            revocations: BTreeMap::new(),
            deny_list: Arc::default(),
            algorithms: algorithms(),
            cache: Arc::default(),
            signatures: Arc::default(),
        }
    }

    /// The same, with revocation lists for the chains of these trust domains.
    #[must_use]
    pub fn with_revocations(self, revocations: impl IntoIterator<Item = (TrustDomain, Arc<Revocation>)>) -> Self {
        Self { revocations: revocations.into_iter().collect(), bases: new_bases(&self.bundles), ..self }
    }

    /// The same, with this deny list.
    #[must_use]
    pub fn with_deny_list(self, deny_list: Arc<DenyList>) -> Self {
        Self { deny_list, ..self }
    }

    /// The same, which takes the place of `before`: what was proven there for a trust domain whose bundle and revocation lists
    /// are still the same ones is proven here too.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        let stays = |trust_domain: &TrustDomain| {
            let bundle = self.bundle(trust_domain).zip(before.bundle(trust_domain));
            let lists = match (self.revocation(trust_domain), before.revocation(trust_domain)) {
                (None, None) => true,
                (Some(lists), Some(before)) => Arc::ptr_eq(lists, before),
                (None, Some(_)) | (Some(_), None) => false,
            };
            lists && bundle.is_some_and(|(bundle, before)| Arc::ptr_eq(bundle, before))
        };
        let basis = |trust_domain: &TrustDomain| before.basis(trust_domain).filter(|_| stays(trust_domain)).cloned();
        let bases = self
            .bases
            .iter()
            .map(|(trust_domain, own)| (trust_domain.clone(), basis(trust_domain).unwrap_or_else(|| own.clone())));
        let (cache, signatures) = (Arc::clone(&before.cache), Arc::clone(&before.signatures));
        Self { bases: bases.collect(), cache, signatures, ..self }
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
            bases: self.bases.clone(),
            cache: Arc::default(),
            signatures: Arc::default(),
        }
    }

    /// What was proven under this trust and others before it; see [`Cache::find`].
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// What a proof for this trust domain rests on; none without a bundle.
    pub(crate) fn basis(&self, trust_domain: &TrustDomain) -> Option<&Basis> {
        self.bases.get(trust_domain)
    }

    /// Signatures that were found good under this trust and others before it.
    pub(crate) fn signatures(&self) -> &Signatures {
        &self.signatures
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

fn new_bases(bundles: &BTreeMap<TrustDomain, Arc<Bundle>>) -> BTreeMap<TrustDomain, Basis> {
    bundles.keys().map(|trust_domain| (trust_domain.clone(), Basis::new())).collect()
}

/// The signature algorithms of our TLS library's default, for certificates, handshakes and revocation lists.
pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}
