//! Who may call, in Linkerd's words: names of identities such as `web.shop.serviceaccount.identity.linkerd.cluster.local`,
//! service accounts, namespaces, and address ranges.

use std::collections::BTreeSet;

use spiffe::TrustDomain;

use super::Reference;
use crate::diagnostic::quoted;
use crate::document::Item;
use crate::identity::IdentityPattern;
use crate::import::{FOREIGN_IDENTITY, Mapping, NO_COUNTERPART, NO_IDENTITY, UNKNOWN_NETWORK, UNKNOWN_TRUST_DOMAIN};
use crate::native::matching::network;
use crate::native::name;

/// Who may call: one of these identities, from one of these networks.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    pub(super) identities: Vec<String>,
    pub(super) networks: Vec<Networks>,
}

/// Address ranges without others; without ranges every address.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Networks {
    pub(super) within: Vec<String>,
    pub(super) except: Vec<String>,
}

/// `spec` of a `MeshTLSAuthentication`.
pub(super) fn mesh_tls(spec: Item<'_>, namespace: &str, mapping: &Mapping) -> Option<Vec<String>> {
    let fields = spec.fields(&["identities", "identityRefs"])?;
    let listed = fields.optional("identities").map(|list| list.each(|item| identity(item, mapping)));
    let by_reference = fields.optional("identityRefs").map(|list| list.each(|item| referred(item, namespace, mapping)));
    if listed.is_none() && by_reference.is_none() {
        spec.error(NO_IDENTITY, "it names no identity").help("add `identities` or `identityRefs`");
        return None;
    }
    let (listed, by_reference) = (listed.unwrap_or(Some(Vec::new())), by_reference.unwrap_or(Some(Vec::new())));
    Some(sorted(listed?.into_iter().chain(by_reference?)))
}

/// `spec` of a `NetworkAuthentication`.
pub(super) fn networks(spec: Item<'_>) -> Option<Vec<Networks>> {
    spec.fields(&["networks"])?.required("networks").and_then(read_networks)
}

/// `client` of a `ServerAuthorization`.
pub(super) fn of_server_authorization(item: Item<'_>, namespace: &str, mapping: &Mapping) -> Option<Clients> {
    let fields = item.fields(&["networks", "unauthenticated", "meshTLS"])?;
    if fields.optional("unauthenticated").map_or(Some(false), Item::boolean)? {
        refuse_without_identity(item);
        return None;
    }
    let networks = match fields.optional("networks") {
        Some(networks) => read_networks(networks),
        None => cluster(item, mapping),
    };
    let Some(mesh) = fields.optional("meshTLS") else {
        refuse_without_identity(item);
        return None;
    };
    let mesh_fields = mesh.fields(&["unauthenticatedTLS", "identities", "serviceAccounts"])?;
    if mesh_fields.optional("unauthenticatedTLS").map_or(Some(false), Item::boolean)? {
        refuse_without_identity(mesh);
        return None;
    }
    let listed = mesh_fields.optional("identities").map(|list| list.each(|item| identity(item, mapping)));
    let accounts = mesh_fields.optional("serviceAccounts").map(|list| {
        list.each(|item| {
            let fields = item.fields(&["name", "namespace"])?;
            let account = fields.required("name").and_then(name);
            let of = fields.optional("namespace").map_or(Some(namespace), name);
            account_id(item, of?, account?, mapping)
        })
    });
    if listed.is_none() && accounts.is_none() {
        refuse_without_identity(mesh);
        return None;
    }
    let (listed, accounts) = (listed.unwrap_or(Some(Vec::new())), accounts.unwrap_or(Some(Vec::new())));
    Some(Clients { identities: sorted(listed?.into_iter().chain(accounts?)), networks: networks? })
}

/// Whoever has no identity calls in plaintext, or with TLS without certificate: here both end before any policy.
pub(super) fn refuse_without_identity(item: Item<'_>) {
    let reported = item.error(NO_IDENTITY, "it lets callers in that have no identity, and here every caller has one");
    reported.help("name the identities that may call");
}

/// The identity of a service account.
pub(super) fn account_id(item: Item<'_>, namespace: &str, account: &str, mapping: &Mapping) -> Option<String> {
    let domain = local(item, mapping)?;
    checked(item, format!("spiffe://{domain}/ns/{namespace}/sa/{account}"))
}

/// What an entry of `identityRefs` refers to.
fn referred(item: Item<'_>, namespace: &str, mapping: &Mapping) -> Option<String> {
    let reference = Reference::read(item, namespace)?;
    match (reference.group, reference.kind) {
        ("", "ServiceAccount") => account_id(item, reference.namespace, reference.name, mapping),
        ("", "Namespace") => {
            let domain = local(item, mapping)?;
            checked(item, format!("spiffe://{domain}/ns/{}/sa/*", reference.name))
        }
        (_, kind) => {
            item.error(NO_COUNTERPART, format!("{} has no identity", quoted(kind)));
            None
        }
    }
}

/// An entry of `identities`: `*`, a SPIFFE ID, or `account.namespace.serviceaccount.identity.linkerd.cluster.local`, of
/// which `*.` may stand for the account, or for both.
fn identity(item: Item<'_>, mapping: &Mapping) -> Option<String> {
    let text = item.string()?;
    if text.starts_with("spiffe://") {
        if text.contains('*') {
            item.error(FOREIGN_IDENTITY, "Linkerd takes a `*` in a SPIFFE ID for itself");
            return None;
        }
        return checked(item, text.to_owned());
    }
    if text == "*" {
        let domain = local(item, mapping)?;
        if !mapping.trust_domains.is_empty() {
            let reported =
                item.error(FOREIGN_IDENTITY, "it stands for every identity of every cluster, of any trust domain");
            reported.help("name the identities that may call");
            return None;
        }
        return checked(item, format!("spiffe://{domain}/**"));
    }
    let refuse = || {
        let message = format!("{} is not the name of a service account in Linkerd", quoted(text));
        let reported = item.error(FOREIGN_IDENTITY, message);
        reported.help("names have the form account.namespace.serviceaccount.identity.linkerd.cluster.local");
    };
    let Some((who, rest)) = text.split_once(MARK) else {
        refuse();
        return None;
    };
    // The control plane's namespace, and then the domain of the cluster's identities.
    let Some((_, domain)) = rest.split_once('.') else {
        refuse();
        return None;
    };
    let domain = if domain == DEFAULT_DOMAIN && !mapping.trust_domains.contains_key(domain) {
        local(item, mapping)?.clone()
    } else if let Some(domain) = mapping.trust_domains.get(domain) {
        domain.clone()
    } else {
        let message = format!("it is not known which trust domain {} is", quoted(domain));
        item.error(UNKNOWN_TRUST_DOMAIN, message).help(format!("say it with --trust-domain {domain}=TRUST-DOMAIN"));
        return None;
    };
    match who.rsplit_once('.') {
        None if who == "*" => checked(item, format!("spiffe://{domain}/ns/*/sa/*")),
        Some((account, namespace)) if !namespace.contains('*') && (account == "*" || !account.contains('*')) => {
            checked(item, format!("spiffe://{domain}/ns/{namespace}/sa/{account}"))
        }
        None | Some(_) => {
            refuse();
            None
        }
    }
}

fn local<'m>(item: Item<'_>, mapping: &'m Mapping) -> Option<&'m TrustDomain> {
    if mapping.trust_domain.is_none() {
        let reported =
            item.error(UNKNOWN_TRUST_DOMAIN, "it is not known which trust domain this cluster's workloads are of");
        reported.help("say it with --trust-domain TRUST-DOMAIN");
    }
    mapping.trust_domain.as_ref()
}

fn checked(item: Item<'_>, id: String) -> Option<String> {
    match IdentityPattern::parse(&id) {
        Ok(_) => Some(id),
        Err(error) => {
            item.error(FOREIGN_IDENTITY, error.to_string()).help(error.help());
            None
        }
    }
}

/// Ranges without exceptions are one entry; each with exceptions is one of its own, so that none takes from another.
fn read_networks(item: Item<'_>) -> Option<Vec<Networks>> {
    let read = item.each(|item| {
        let fields = item.fields(&["cidr", "except"])?;
        let cidr = fields.required("cidr").and_then(network);
        let except = fields.optional("except").map_or(Some(Vec::new()), |list| list.each(network));
        Some((cidr?.to_string(), except?.iter().map(ToString::to_string).collect::<Vec<_>>()))
    })?;
    let (plain, with_exceptions): (Vec<_>, Vec<_>) = read.into_iter().partition(|(_, except)| except.is_empty());
    let plain: Vec<String> = plain.into_iter().map(|(cidr, _)| cidr).collect();
    let plain = (!plain.is_empty()).then(|| Networks { within: plain, except: Vec::new() });
    let others = with_exceptions.into_iter().map(|(cidr, except)| Networks { within: vec![cidr], except });
    Some(plain.into_iter().chain(others).collect())
}

/// Without networks a `ServerAuthorization` is for those of the cluster.
fn cluster(item: Item<'_>, mapping: &Mapping) -> Option<Vec<Networks>> {
    if mapping.cluster_networks.is_empty() {
        let message = "without `networks` it is for the addresses of the cluster, and it is not known which these are";
        item.error(UNKNOWN_NETWORK, message).help("say it with --cluster-network 10.0.0.0/8, once for each range");
        return None;
    }
    let within = mapping.cluster_networks.iter().map(ToString::to_string).collect();
    Some(vec![Networks { within, except: Vec::new() }])
}

fn sorted(all: impl Iterator<Item = String>) -> Vec<String> {
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What Linkerd's names of service accounts have in the middle.
const MARK: &str = ".serviceaccount.identity.";
/// The domain of identities where nobody chose another.
const DEFAULT_DOMAIN: &str = "cluster.local";
