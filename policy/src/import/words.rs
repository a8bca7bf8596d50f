//! What our language has words for: callers, hosts, methods and paths as Istio writes them.
//!
//! A list is carried over whole or refused. What leaves nothing out is told apart, since there is nothing to say then.

use std::collections::BTreeSet;

use super::UNKNOWN_TRUST_DOMAIN;
use super::istio::Writer;
use crate::diagnostic::quoted;
use crate::identity::IdentityPattern;
use crate::matchers::HostPattern;
use crate::path::PathPattern;
use crate::rules::{Identities, Rule};
use crate::text::TextPattern;

/// What a list of alternatives comes to.
pub(super) enum Alternatives {
    /// These.
    Some(Vec<String>),
    /// They leave nothing out, so that nothing need be said.
    Everything,
}

impl Writer<'_> {
    pub(super) fn callers(&mut self, callers: &Identities, rule: &Rule) -> Option<Alternatives> {
        let mut all: Vec<String> = callers.exact.iter().map(ToString::to_string).collect();
        for pattern in &callers.patterns {
            match self.caller(pattern, rule)? {
                Alternatives::Some(ids) => all.extend(ids),
                Alternatives::Everything => return Some(Alternatives::Everything),
            }
        }
        Some(Alternatives::Some(all))
    }

    fn caller(&mut self, pattern: &IdentityPattern, rule: &Rule) -> Option<Alternatives> {
        let one = |id: String| IdentityPattern::parse(&id).is_ok().then(|| Alternatives::Some(vec![id]));
        let understood = match pattern {
            IdentityPattern::Exact(_) | IdentityPattern::Segments { .. } => one(pattern.to_string()),
            IdentityPattern::ServiceAccount { namespace, account } => {
                return self.in_each_domain(rule, &format!("ns/{namespace}/sa/{account}"));
            }
            IdentityPattern::Namespace(glob) => match glob.literal() {
                Some(namespace) => return self.in_each_domain(rule, &format!("ns/{namespace}/**")),
                None => None,
            },
            IdentityPattern::TrustDomain(TextPattern::Exact(domain)) => one(format!("spiffe://{domain}/**")),
            IdentityPattern::Text(TextPattern::Exact(text)) if !text.contains('*') => one(format!("spiffe://{text}")),
            IdentityPattern::Text(TextPattern::Prefix(text)) if text.ends_with('/') && !text.contains('*') => {
                one(format!("spiffe://{text}**"))
            }
            // Every caller has an identity, and that has a trust domain.
            IdentityPattern::TrustDomain(TextPattern::Present) | IdentityPattern::Text(TextPattern::Present) => {
                Some(Alternatives::Everything)
            }
            IdentityPattern::TrustDomain(_) | IdentityPattern::Text(_) => None,
        };
        if understood.is_none() {
            let what =
                format!("callers such as {}, which are no whole segments of a SPIFFE ID", quoted(&pattern.to_string()));
            self.without_words(rule, &what, "name whole segments, or each identity");
        }
        understood
    }

    /// Istio's namespaces and service accounts are of any trust domain: of each that the mesh has.
    fn in_each_domain(&mut self, rule: &Rule, path: &str) -> Option<Alternatives> {
        let domains: BTreeSet<_> =
            self.mapping.trust_domain.iter().chain(self.mapping.trust_domains.values()).collect();
        if domains.is_empty() {
            let message =
                "namespaces and service accounts are of any trust domain, and it is not known which there are";
            self.refuse(
                &rule.origin,
                UNKNOWN_TRUST_DOMAIN,
                message,
                "say all of them with --trust-domain TRUST-DOMAIN, and the others as NAME=TRUST-DOMAIN",
            );
            return None;
        }
        let ids: Vec<String> = domains.into_iter().map(|domain| format!("spiffe://{domain}/{path}")).collect();
        if ids.iter().any(|id| IdentityPattern::parse(id).is_err()) {
            self.without_words(rule, &format!("callers such as {}", quoted(path)), "name each identity");
            return None;
        }
        Some(Alternatives::Some(ids))
    }

    /// A host by text is compared as it was sent, ours without its port. The two that Istio's handbook recommends to be
    /// written together, `host` and `host:*`, are one of ours.
    pub(super) fn hosts(&mut self, hosts: &[HostPattern], rule: &Rule) -> Option<Vec<String>> {
        let mut all = Vec::new();
        let has =
            |wanted: &TextPattern| hosts.iter().any(|one| matches!(one, HostPattern::Text(text) if text == wanted));
        for host in hosts {
            let whole = match host {
                HostPattern::Exact(_) | HostPattern::Below(_) => Some(host.to_string()),
                HostPattern::Text(TextPattern::Exact(name)) => {
                    has(&TextPattern::Prefix(format!("{name}:").into())).then(|| name.to_string())
                }
                HostPattern::Text(TextPattern::Prefix(text)) => {
                    text.strip_suffix(':').filter(|name| has(&TextPattern::Exact((*name).into()))).map(str::to_owned)
                }
                HostPattern::Text(TextPattern::Suffix(_) | TextPattern::Present) => None,
            };
            let Some(whole) = whole.filter(|name| HostPattern::parse(name).is_ok()) else {
                let what = format!("the host {} as it was sent, port included", quoted(&host.to_string()));
                self.without_words(rule, &what, "write both `host` and `host:*`, which match it with and without port");
                return None;
            };
            if !all.contains(&whole) {
                all.push(whole);
            }
        }
        Some(all)
    }

    pub(super) fn methods(&mut self, methods: &[TextPattern], rule: &Rule) -> Option<Alternatives> {
        let mut all = Vec::new();
        for method in methods {
            match method {
                TextPattern::Exact(method) if !method.contains('*') => all.push(method.to_string()),
                TextPattern::Present => return Some(Alternatives::Everything),
                TextPattern::Exact(_) | TextPattern::Prefix(_) | TextPattern::Suffix(_) => {
                    self.without_words(rule, "methods by a part of their name", "name each method");
                    return None;
                }
            }
        }
        Some(Alternatives::Some(all))
    }

    pub(super) fn paths(&mut self, patterns: &[PathPattern], rule: &Rule) -> Option<Alternatives> {
        let mut all = Vec::new();
        for pattern in patterns {
            match pattern.text() {
                None => all.push(pattern.to_string()),
                // Every path that is forwarded begins with a slash.
                Some(TextPattern::Present) => return Some(Alternatives::Everything),
                Some(text) => {
                    let what = format!("paths such as {}, which are no whole segments", quoted(&text.to_string()));
                    self.without_words(rule, &what, "end it with `/*`, or name each path");
                    return None;
                }
            }
        }
        Some(Alternatives::Some(all))
    }
}
