//! All that is fed, and the one place where trust is put together from it.
//!
//! A bundle, its revocation lists and the deny list change each on their own, and each change makes another [`Trust`]: it
//! is composed here and nowhere else, so none of the three can be forgotten. What has not changed is handed over as the same
//! allocation, by which [`Trust::after`] knows it.

use std::time::Duration;

use rustls_pki_types::UnixTime;
use spiffe::TrustDomain;

use crate::bundle::Bundle;
use crate::deny_list::DenyList;
use crate::feed::{Feed, Look, Proof};
use crate::intake::Pace;
use crate::material::Material;
use crate::revocation::Revocation;
use crate::snapshot::Subject;
use crate::sources::{Sources, TrustSource};
use crate::trust::Trust;

/// What is in use from every source.
pub(crate) struct Feeds {
    pub(crate) identity: Feed<Material>,
    /// In the order of [`Sources::trust`].
    pub(crate) domains: Vec<Domain>,
    pub(crate) deny_list: Option<Feed<DenyList>>,
}

/// What is in use for one trust domain.
pub(crate) struct Domain {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) bundle: Feed<Bundle>,
    /// None if there is no source that could hold revocation lists.
    pub(crate) revocation: Option<Feed<Revocation>>,
    /// The highest `spiffe_sequence` that was ever in use.
    pub(crate) highest_sequence: Option<u64>,
}

impl Feeds {
    /// Nothing from any of them yet.
    pub(crate) fn new(sources: &Sources) -> Self {
        Self {
            identity: Feed::new(Subject::Identity, Proof::OfContentAndWorld),
            domains: sources.trust.iter().map(Domain::new).collect(),
            deny_list: sources.deny_list.as_ref().map(|_| Feed::new(Subject::DenyList, Proof::OfContent)),
        }
    }

    /// Whom we believe, from all that is in use.
    pub(crate) fn compose(&self) -> Trust {
        let bundles = self.domains.iter().filter_map(|domain| domain.bundle.good().cloned());
        let revocations = self.domains.iter().filter_map(|domain| {
            let revocation = domain.revocation.as_ref()?.good()?;
            Some((domain.trust_domain.clone(), revocation.clone()))
        });
        let deny_list = self.deny_list.as_ref().and_then(|feed| feed.good().cloned()).unwrap_or_default();
        Trust::new(bundles).with_revocations(revocations).with_deny_list(deny_list)
    }

    /// What is configured and has never been loaded, our identity aside.
    pub(crate) fn awaited(&self) -> Vec<Subject> {
        fn missing<T>(feed: &Feed<T>) -> Option<Subject> {
            feed.good().is_none().then(|| feed.subject().clone())
        }
        let of_domain = |domain: &Domain| [missing(&domain.bundle), domain.revocation.as_ref().and_then(missing)];
        let deny_list = self.deny_list.as_ref().and_then(missing);
        self.domains.iter().flat_map(of_domain).flatten().chain(deny_list).collect()
    }

    /// How long the next look at any of them may wait if nothing is announced before.
    pub(crate) fn next_look(&self, look: Look<'_>, now: UnixTime) -> Duration {
        let identity = self.identity.next_look(look);
        // A renewal that is late is taken the second that it comes, announced or not.
        let overdue = self.identity.good().is_some_and(|material| now >= material.overdue_from());
        let identity = if overdue { identity.min(look.pace.retry) } else { identity };
        let domains = self.domains.iter().map(|domain| domain.next_look(look));
        let deny_list = self.deny_list.iter().map(|feed| feed.next_look(look));
        domains.chain(deny_list).fold(identity, Duration::min)
    }
}

impl Domain {
    fn new(source: &TrustSource) -> Self {
        Self {
            trust_domain: source.trust_domain.clone(),
            bundle: Feed::new(Subject::Trust(source.trust_domain.clone()), Proof::OfContent),
            revocation: (source.crl.is_some() || source.bundle.endpoint().is_some())
                .then(|| Feed::new(Subject::Revocation(source.trust_domain.clone()), Proof::OfContent)),
            highest_sequence: None,
        }
    }

    fn next_look(&self, look: Look<'_>) -> Duration {
        // `spiffe_refresh_hint` says how often to look; one of zero must not keep a core busy.
        let hint = self.bundle.good().and_then(|bundle| bundle.refresh_hint());
        let poll = hint.map_or(look.pace.poll, |hint| hint.max(look.pace.retry).min(look.pace.poll));
        let bundle = self.bundle.next_look(Look { pace: &Pace { poll, ..*look.pace }, ..look });
        self.revocation.iter().map(|feed| feed.next_look(look)).fold(bundle, Duration::min)
    }
}
