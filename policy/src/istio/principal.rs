//! Callers as Istio names them: principals, namespaces, service accounts, trust domains.
//!
//! What can match no SPIFFE ID is a mistake, in Istio as much as here: in a DENY it would leave the door open.

use super::{CLUSTER_LOCAL, Context, NAMESPACE_SEGMENT, NO_CALLER};
use crate::diagnostic::quoted;
use crate::document::Item;
use crate::identity::IdentityPattern;
use crate::text::{Glob, TextPattern};

/// `<trust domain>/ns/<namespace>/sa/<account>`, or its beginning, its end, or any.
pub(super) fn principal(item: Item<'_>, context: &Context<'_>) -> Option<IdentityPattern> {
    let text = item.string()?;
    if text.starts_with(SCHEME) {
        let reported = item.error(NO_CALLER, format!("Istio puts `{SCHEME}` before a principal by itself"));
        reported.help(format!("write {}", quoted(text.trim_start_matches(SCHEME))));
        return None;
    }
    let text = local(item, text, context);
    let refuse = |why: &str| {
        let reported = item.error(NO_CALLER, format!("no caller has the principal {}: {why}", quoted(&text)));
        reported.help(
            "write `trust.domain/ns/namespace/sa/account`, with `*` at its beginning or at its end; a namespace of any \
             trust domain goes under `namespaces`",
        );
        None
    };
    let pattern = TextPattern::of_istio(&text);
    let (TextPattern::Exact(stem) | TextPattern::Prefix(stem) | TextPattern::Suffix(stem)) = &pattern else {
        return Some(IdentityPattern::Text(pattern));
    };
    if stem.contains('*') {
        return refuse("an asterisk in the middle is no wildcard");
    }
    let by_segment = match &pattern {
        TextPattern::Exact(exact) => Some(format!("{SCHEME}{exact}")),
        TextPattern::Prefix(prefix) if prefix.ends_with('/') => Some(format!("{SCHEME}{prefix}**")),
        TextPattern::Prefix(_) | TextPattern::Suffix(_) | TextPattern::Present => None,
    };
    if let Some(by_segment) = by_segment {
        return IdentityPattern::parse(&by_segment).map_or_else(|error| refuse(&error.to_string()), Some);
    }
    // The end of an ID may be in its trust domain or in its path, the beginning is in the trust domain first.
    let domain =
        if matches!(pattern, TextPattern::Prefix(_)) { stem.split('/').next().unwrap_or_default() } else { "" };
    if !stem.bytes().all(|b| is_path_byte(b) || b == b'/') || !domain.bytes().all(is_domain_byte) || stem.contains("//")
    {
        return refuse("it holds characters that no SPIFFE ID has there");
    }
    Some(IdentityPattern::Text(pattern))
}

/// A namespace, with `*` for any characters of it.
pub(super) fn namespace(item: Item<'_>, _: &Context<'_>) -> Option<IdentityPattern> {
    let text = item.string()?;
    if !text.bytes().all(|b| is_path_byte(b) || b == b'*') {
        let reported = item.error(NO_CALLER, format!("no caller is of the namespace {}", quoted(text)));
        reported.help("use letters, digits and `-`, and `*` for any of them");
        return None;
    }
    // In Istio the wildcard runs on into the account: `*a` is any namespace, because of `/sa/`.
    if text.split_once('*').is_some_and(|(_, after)| after.bytes().any(|b| b != b'*')) {
        let message =
            format!("{} is matched with the namespace alone, and Istio lets `*` run on behind it", quoted(text));
        item.warning(NAMESPACE_SEGMENT, message).help("write the namespaces one by one, or `*` at the end only");
    }
    Some(IdentityPattern::Namespace(Glob::new(text)))
}

/// `<namespace>/<account>`, or an account in the policy's own namespace.
pub(super) fn service_account(item: Item<'_>, context: &Context<'_>) -> Option<IdentityPattern> {
    let text = item.string()?;
    let (namespace, account) = text.split_once('/').unwrap_or((&context.namespace, text));
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_path_byte);
    if is_word(account) && is_word(namespace) && text.len() <= MAX_SERVICE_ACCOUNT_BYTES {
        return Some(IdentityPattern::ServiceAccount { namespace: namespace.into(), account: account.into() });
    }
    let reported = item.error(NO_CALLER, format!("no caller is of the service account {}", quoted(text)));
    reported.help(format!(
        "write `namespace/account`, or `account` for one of the policy's own namespace; without wildcards, at most \
         {MAX_SERVICE_ACCOUNT_BYTES} characters"
    ));
    None
}

/// A trust domain, its beginning, its end, or any.
pub(super) fn trust_domain(item: Item<'_>, _: &Context<'_>) -> Option<IdentityPattern> {
    let text = item.string()?;
    let pattern = TextPattern::of_istio(text);
    let is_domain = match &pattern {
        TextPattern::Exact(stem) | TextPattern::Prefix(stem) | TextPattern::Suffix(stem) => {
            stem.bytes().all(is_domain_byte)
        }
        TextPattern::Present => true,
    };
    if is_domain {
        return Some(IdentityPattern::TrustDomain(pattern));
    }
    let reported = item.error(NO_CALLER, format!("no caller is of the trust domain {}", quoted(text)));
    reported.help("write it in lower case, without slashes, with one `*` at its beginning or at its end at most");
    None
}

/// A principal with what `cluster.local` stands for. Istio takes it for the mesh's own trust domain only in a principal of
/// all five segments; everywhere else it is a trust domain like others.
fn local(item: Item<'_>, text: &str, context: &Context<'_>) -> String {
    let Some(rest) = text.strip_prefix(LOCAL).filter(|rest| rest.starts_with('/')) else { return text.to_owned() };
    let is_whole = text.split('/').count() == PRINCIPAL_SEGMENTS;
    let Some(own) = &context.options.cluster_local else {
        if context.first(CLUSTER_LOCAL) {
            let message = format!("`{LOCAL}` is taken as it stands, and not for the trust domain of the mesh");
            let reported = item.warning(CLUSTER_LOCAL, message);
            reported.help(format!(
                "write the trust domain, or say what `{LOCAL}` stands for: `policy: {{clusterLocal: …}}`"
            ));
        }
        return text.to_owned();
    };
    if is_whole {
        return format!("{own}{rest}");
    }
    if own.as_str() != LOCAL && context.first(CLUSTER_LOCAL) {
        let message = format!("`{LOCAL}` stands for `{own}` only in `{LOCAL}/ns/…/sa/…`, in Istio as here");
        item.warning(CLUSTER_LOCAL, message).help(format!("write {}", quoted(&format!("{own}{rest}"))));
    }
    text.to_owned()
}

/// What may stand in a segment of a SPIFFE ID's path.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

/// What may stand in a trust domain.
fn is_domain_byte(byte: u8) -> bool {
    is_path_byte(byte) && !byte.is_ascii_uppercase()
}

const SCHEME: &str = "spiffe://";
const LOCAL: &str = "cluster.local";
/// `trust.domain/ns/namespace/sa/account`
const PRINCIPAL_SEGMENTS: usize = 5;
/// The limit of Istio's own schema.
const MAX_SERVICE_ACCOUNT_BYTES: usize = 320;
