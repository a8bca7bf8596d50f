//! `from`: who calls.

use super::principal::{namespace, principal, service_account, trust_domain};
use super::{Context, EXCLUSIVE, FORWARDED_ADDRESS, JWT, TOO_MANY};
use crate::document::{Fields, Item};
use crate::identity::IdentityPattern;
use crate::native::network;
use crate::rules::{Condition, ConnectionMatcher, Identities, Matchers, Sense};

/// Reads one `source`.
pub(super) fn read(item: Item<'_>, context: &Context<'_>) -> Option<Matchers> {
    let fields = item.fields(&KEYS)?;
    refuse(fields);
    let mut connection = Vec::new();
    let mut complete = true;
    for (sense, key, convert) in IDENTITIES {
        let Some(list) = fields.optional(key) else { continue };
        match callers(list, convert, context) {
            Some(matcher) => connection.push(Condition { sense, matcher }),
            None => complete = false,
        }
    }
    for (sense, key) in [(Sense::Is, "ipBlocks"), (Sense::IsNot, "notIpBlocks")] {
        let Some(list) = fields.optional(key) else { continue };
        match list.each(network) {
            Some(networks) => connection.push(Condition { sense, matcher: ConnectionMatcher::Source(networks) }),
            None => complete = false,
        }
    }
    complete.then_some(Matchers { connection, request: Vec::new() })
}

/// Reads one of Istio's names for callers.
pub(super) type Convert = fn(Item<'_>, &Context<'_>) -> Option<IdentityPattern>;

/// A list of callers; also of a `when` on the same attribute.
pub(super) fn callers(list: Item<'_>, convert: Convert, context: &Context<'_>) -> Option<ConnectionMatcher> {
    let all = list.each(|item| convert(item, context))?;
    Some(ConnectionMatcher::Caller(Identities::new(all, Vec::new())))
}

/// A list of service accounts; also of a `when` on the same attribute.
pub(super) fn service_accounts(list: Item<'_>) -> Option<()> {
    let length = list.list()?.count();
    if length <= MAX_SERVICE_ACCOUNTS {
        return Some(());
    }
    let reported = list.error(TOO_MANY, format!("`{}` has {length} service accounts", list.name()));
    reported.help(format!("Istio takes at most {MAX_SERVICE_ACCOUNTS}: write several sources"));
    None
}

/// Reports what a source must not have.
fn refuse(fields: Fields<'_>) {
    for key in ["requestPrincipals", "notRequestPrincipals"] {
        if let Some(field) = fields.optional(key) {
            let reported = field.error(JWT, format!("`{key}` is about a JWT, and Portcullis checks none"));
            reported.help("write `principals` for the workloads that may call; leave JWTs to the application");
        }
    }
    for key in ["remoteIpBlocks", "notRemoteIpBlocks"] {
        if let Some(field) = fields.optional(key) {
            let message = format!("`{key}` is about an address in `x-forwarded-for`, which the caller writes");
            let reported = field.error(FORWARDED_ADDRESS, message);
            reported.help("write `ipBlocks` for the address that the connection comes from");
        }
    }
    for key in ["serviceAccounts", "notServiceAccounts"] {
        let Some(field) = fields.optional(key) else { continue };
        let others = ["principals", "notPrincipals", "namespaces", "notNamespaces"];
        if let Some(other) = others.into_iter().find(|other| fields.optional(other).is_some()) {
            let reported = field.error(EXCLUSIVE, format!("`{key}` cannot stand beside `{other}` in one source"));
            reported.help("write the namespace with the account: `namespace/account`");
        }
        // Reports what is too much; the accounts themselves are read with the others.
        let _ = field.is_list().then(|| service_accounts(field));
    }
}

const IDENTITIES: [(Sense, &str, Convert); 8] = [
    (Sense::Is, "principals", principal),
    (Sense::IsNot, "notPrincipals", principal),
    (Sense::Is, "namespaces", namespace),
    (Sense::IsNot, "notNamespaces", namespace),
    (Sense::Is, "serviceAccounts", service_account),
    (Sense::IsNot, "notServiceAccounts", service_account),
    (Sense::Is, "trustDomains", trust_domain),
    (Sense::IsNot, "notTrustDomains", trust_domain),
];

const KEYS: [&str; 14] = [
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
    "trustDomains",
    "notTrustDomains",
];

/// The limit of Istio's own schema.
const MAX_SERVICE_ACCOUNTS: usize = 16;
