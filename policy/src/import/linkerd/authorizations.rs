//! `AuthorizationPolicy` and `ServerAuthorization`: which clients are let in to what.

use std::collections::{BTreeMap, BTreeSet};

use super::clients::{self, Clients, Networks};
use super::{Key, Kind, Reference, RouteKey};
use crate::diagnostic::quoted;
use crate::document::Item;
use crate::import::objects::{Object, Selector};
use crate::import::{DANGLING, Mapping, NO_COUNTERPART};
use crate::native::name;

/// Who may call what.
#[derive(Debug)]
pub(super) struct Authorization<'a> {
    pub(super) name: &'a str,
    pub(super) target: Target<'a>,
    pub(super) clients: Clients,
}

/// What may be called.
#[derive(Debug)]
pub(super) enum Target<'a> {
    Servers(BTreeSet<Key<'a>>),
    Route(RouteKey<'a>),
}

/// What can be referred to. What is there and wrong is `None`: it has been reported.
pub(super) struct Known<'a> {
    pub(super) servers: BTreeMap<Key<'a>, &'a Object<'a, Kind>>,
    pub(super) routes: BTreeSet<RouteKey<'a>>,
    pub(super) mesh: BTreeMap<Key<'a>, Option<Vec<String>>>,
    pub(super) networks: BTreeMap<Key<'a>, Option<Vec<Networks>>>,
}

impl<'a> Known<'a> {
    /// A server that something refers to.
    pub(super) fn server(&self, key: Key<'a>, at: Item<'_>) -> Option<Key<'a>> {
        found(self.servers.contains_key(&key).then_some(key), "Server", key, at)
    }

    /// What an object lets in, if that is what it is for.
    pub(super) fn authorization(&self, object: &Object<'a, Kind>, mapping: &Mapping) -> Option<Authorization<'a>> {
        let (target, clients) = match object.kind {
            Kind::AuthorizationPolicy => self.policy(object, mapping)?,
            Kind::ServerAuthorization => self.server_authorization(object, mapping)?,
            Kind::Server | Kind::MeshTls | Kind::Network | Kind::Route(_) => return None,
        };
        Some(Authorization { name: object.name, target, clients })
    }

    fn policy(&self, object: &Object<'a, Kind>, mapping: &Mapping) -> Option<(Target<'a>, Clients)> {
        let fields = object.spec.fields(&["targetRef", "requiredAuthenticationRefs"])?;
        let target = fields.required("targetRef").and_then(|item| self.target(item, object.namespace));
        let required = fields.required("requiredAuthenticationRefs")?;
        let clients = self.required(required, object.namespace, mapping);
        Some((target?, clients?))
    }

    fn target(&self, item: Item<'a>, namespace: &'a str) -> Option<Target<'a>> {
        let reference = Reference::read(item, namespace)?;
        let key = reference.key();
        if reference.namespace != namespace {
            item.error(NO_COUNTERPART, "Linkerd takes no target of another namespace").help("leave `namespace` out");
            return None;
        }
        match (reference.group, reference.kind) {
            ("policy.linkerd.io", "Server") => Some(Target::Servers(BTreeSet::from([self.server(key, item)?]))),
            ("", "Namespace") if reference.name == namespace => {
                let servers = self.servers.keys().copied().filter(|Key(of, _)| *of == namespace);
                Some(Target::Servers(servers.collect()))
            }
            ("", "Namespace") => {
                item.error(NO_COUNTERPART, "Linkerd takes no namespace here but the policy's own");
                None
            }
            (group @ ("policy.linkerd.io" | "gateway.networking.k8s.io"), kind @ ("HTTPRoute" | "GRPCRoute")) => {
                let kind = if kind == "HTTPRoute" { "HTTPRoute" } else { "GRPCRoute" };
                let route = RouteKey { group, kind, key };
                found(self.routes.contains(&route).then_some(Target::Route(route)), kind, key, item)
            }
            (_, kind) => {
                item.error(NO_COUNTERPART, format!("{} is no target of a policy", quoted(kind)));
                None
            }
        }
    }

    /// All of the references must hold: one for the identity, and one for the address.
    fn required(&self, list: Item<'a>, namespace: &'a str, mapping: &Mapping) -> Option<Clients> {
        let (mut identities, mut networks): (Vec<Vec<String>>, Vec<Vec<Networks>>) = (Vec::new(), Vec::new());
        if list.is_empty_list() {
            clients::refuse_without_identity(list);
            return None;
        }
        let mut complete = true;
        for item in list.list()? {
            let Some(reference) = Reference::read(item, namespace) else {
                complete = false;
                continue;
            };
            let key = reference.key();
            let is_good = match (reference.group, reference.kind) {
                ("policy.linkerd.io", "MeshTLSAuthentication") => {
                    let of = found(self.mesh.get(&key), "MeshTLSAuthentication", key, item).cloned().flatten();
                    of.map(|of| identities.push(of))
                }
                ("policy.linkerd.io", "NetworkAuthentication") => {
                    let of = found(self.networks.get(&key), "NetworkAuthentication", key, item).cloned().flatten();
                    of.map(|of| networks.push(of))
                }
                ("", "ServiceAccount") => clients::account_id(item, reference.namespace, reference.name, mapping)
                    .map(|id| identities.push(vec![id])),
                (_, kind) => {
                    item.error(NO_COUNTERPART, format!("{} authenticates nobody", quoted(kind)));
                    None
                }
            };
            complete &= is_good.is_some();
        }
        if identities.len() > 1 || networks.len() > 1 {
            let message = "Linkerd takes one reference to identities and one to networks, not several";
            list.error(NO_COUNTERPART, message).help("put them into one object");
            return None;
        }
        if !complete {
            return None;
        }
        let Some(identities) = identities.pop() else {
            clients::refuse_without_identity(list);
            return None;
        };
        Some(Clients { identities, networks: networks.pop().unwrap_or_else(|| vec![Networks::default()]) })
    }

    fn server_authorization(&self, object: &Object<'a, Kind>, mapping: &Mapping) -> Option<(Target<'a>, Clients)> {
        let fields = object.spec.fields(&["server", "client"])?;
        let client = fields.required("client");
        let clients = client.and_then(|item| clients::of_server_authorization(item, object.namespace, mapping));
        let server = fields.required("server")?;
        let of = server.fields(&["name", "selector"])?;
        let servers = match (of.optional("name"), of.optional("selector")) {
            (Some(item), None) => BTreeSet::from([self.server(Key(object.namespace, name(item)?), item)?]),
            (None, Some(item)) => {
                let selector = Selector::read(item)?;
                let local = self.servers.values().filter(|server| server.namespace == object.namespace);
                let selected = local.filter(|server| selector.selects(|key| server.labels.get(key).copied()));
                selected.map(|server| server.key()).collect()
            }
            (Some(_), Some(_)) | (None, None) => {
                server.error(NO_COUNTERPART, "it has either a `name` or a `selector`");
                return None;
            }
        };
        Some((Target::Servers(servers), clients?))
    }
}

/// What is referred to, or the complaint that nobody defines it.
fn found<T>(known: Option<T>, kind: &str, Key(namespace, name): Key<'_>, at: Item<'_>) -> Option<T> {
    if known.is_none() {
        let message = format!("no document defines the {kind} {} of namespace {}", quoted(name), quoted(namespace));
        at.error(DANGLING, message).help("import all files that belong together at once");
    }
    known
}
