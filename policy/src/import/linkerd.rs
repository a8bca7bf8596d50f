//! Linkerd's policy objects, put together: for each server which clients are let in to which routes.
//!
//! A policy for a server or a namespace holds for all of its requests, one for a route for those of the route. Where a
//! server has routes, what takes none is refused, and so it is here.

mod authorizations;
mod clients;
mod routes;
mod rules;

use spiffe::SpiffeId;

use super::objects::{self, Object, Selector};
use super::{Mapping, NO_COUNTERPART, NOT_WRITTEN, OPEN_ACCESS, TWICE, UNKNOWN_PORT, UNKNOWN_WORKLOAD};
use crate::diagnostic::{Diagnostic, Diagnostics, Severity, quoted};
use crate::document::{Item, Reader, parse};
use crate::identity::in_namespace;
use crate::native::{CODES, name};
use crate::source::{File, Source};
use crate::write::{self, Document};

use authorizations::{Authorization, Known};
use routes::{Protocol, Route};

/// Namespace and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key<'a>(pub(super) &'a str, pub(super) &'a str);

/// A reference to another object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reference<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl<'a> Reference<'a> {
    /// Without a namespace it is the one that the reference stands in.
    pub(super) fn read(item: Item<'a>, namespace: &'a str) -> Option<Self> {
        let fields = item.fields(&["group", "kind", "namespace", "name", "port", "sectionName"])?;
        for key in ["port", "sectionName"] {
            if let Some(item) = fields.optional(key) {
                item.error(NO_COUNTERPART, format!("Linkerd takes no `{key}` here")).help("leave it out");
            }
        }
        // An empty group is the core of Kubernetes, and the only empty string here that means something.
        let group = fields.optional("group").filter(|group| !group.is_empty_text());
        let group = group.map_or(Some(""), Item::string);
        let kind = fields.required("kind").and_then(Item::string);
        let namespace = fields.optional("namespace").map_or(Some(namespace), name);
        let named = fields.required("name").and_then(name);
        let (group, kind) = (group?, kind?);
        let group = if group == "core" { "" } else { group };
        Some(Self { group, kind, namespace: namespace?, name: named? })
    }

    pub(super) fn key(self) -> Key<'a> {
        Key(self.namespace, self.name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Server,
    AuthorizationPolicy,
    ServerAuthorization,
    MeshTls,
    Network,
    Route(Protocol),
}

impl Kind {
    fn of(group: &str, version: &str, kind: &str) -> Option<Self> {
        Some(match (group, version, kind) {
            ("policy.linkerd.io", "v1beta1" | "v1beta2" | "v1beta3", "Server") => Self::Server,
            ("policy.linkerd.io", "v1alpha1", "AuthorizationPolicy") => Self::AuthorizationPolicy,
            ("policy.linkerd.io", "v1beta1", "ServerAuthorization") => Self::ServerAuthorization,
            ("policy.linkerd.io", "v1alpha1", "MeshTLSAuthentication") => Self::MeshTls,
            ("policy.linkerd.io", "v1alpha1", "NetworkAuthentication") => Self::Network,
            ("policy.linkerd.io", "v1beta1" | "v1beta2" | "v1beta3", "HTTPRoute")
            | ("gateway.networking.k8s.io", "v1beta1" | "v1", "HTTPRoute") => Self::Route(Protocol::Http),
            ("gateway.networking.k8s.io", "v1", "GRPCRoute") => Self::Route(Protocol::Grpc),
            _ => return None,
        })
    }
}

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Unknown,
    Http,
    Grpc,
    Opaque,
}

/// A port of some workloads.
#[derive(Debug)]
struct Server<'a> {
    key: Key<'a>,
    at: Item<'a>,
    /// `None`: every workload of the namespace.
    workloads: Option<Vec<SpiffeId>>,
    port: u16,
    speaks: Speaks,
}

/// Everything by kind.
struct Set<'a> {
    servers: Vec<Server<'a>>,
    authorizations: Vec<Authorization<'a>>,
    routes: Vec<(RouteKey<'a>, Route<'a>)>,
}

/// Routes of two groups may have the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RouteKey<'a> {
    group: &'a str,
    kind: &'static str,
    key: Key<'a>,
}

pub(super) fn import(files: &[File<'_>], mapping: &Mapping) -> Result<Vec<Document>, Diagnostics> {
    let mut found = Diagnostics::default();
    let mut sources = Vec::new();
    for file in files {
        match Source::read(*file, &CODES) {
            Ok(source) => sources.push(source),
            Err(error) => found.push(*error),
        }
    }
    let readers: Vec<Reader<'_>> = sources.iter().map(|source| Reader::new(source, &CODES)).collect();
    let nodes: Vec<_> = readers.iter().map(parse).collect();
    let items =
        readers.iter().zip(&nodes).flat_map(|(reader, nodes)| nodes.iter().map(|node| reader.item(node, "document")));
    let objects: Vec<Object<'_, Kind>> = items.filter_map(|item| objects::read(item, Kind::of)).collect();
    let documents = Set::of(&objects, mapping).documents();
    for reader in &readers {
        found.append(reader.diagnostics());
    }
    // The last word: what does not compile is not handed out.
    if !found.has_errors()
        && let Err(error) = write::write(&documents)
    {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        found.push(Diagnostic::of_all_files(Severity::Error, NOT_WRITTEN, format!("{error}{cause}")));
    }
    found.sort();
    if found.has_errors() { Err(found) } else { Ok(documents) }
}

impl<'a> Set<'a> {
    fn of(objects: &'a [Object<'a, Kind>], mapping: &Mapping) -> Self {
        refuse_twins(objects);
        let of = |kind: Kind| objects.iter().filter(move |object| object.kind == kind);
        // Wrong ones stay known by name, so that those who refer to them are not blamed.
        let known = Known {
            servers: of(Kind::Server).map(|one| (one.key(), one)).collect(),
            routes: objects.iter().filter_map(RouteKey::of).collect(),
            mesh: of(Kind::MeshTls)
                .map(|one| (one.key(), clients::mesh_tls(one.spec, one.namespace, mapping)))
                .collect(),
            networks: of(Kind::Network).map(|one| (one.key(), clients::networks(one.spec))).collect(),
        };
        let routes: Vec<_> = objects
            .iter()
            .filter_map(|object| {
                let Kind::Route(protocol) = object.kind else { return None };
                Some((RouteKey::of(object)?, routes::read(object.spec, object.namespace, protocol)?))
            })
            .collect();
        for (parent, at) in routes.iter().flat_map(|(_, route)| &route.parents) {
            known.server(*parent, *at);
        }
        let mut authorizations: Vec<_> =
            objects.iter().filter_map(|object| known.authorization(object, mapping)).collect();
        authorizations.sort_by_key(|one| one.name);
        let mut servers: Vec<_> = of(Kind::Server).filter_map(|object| server(object, mapping)).collect();
        servers.sort_by_key(|server| server.key);
        Self { servers, authorizations, routes }
    }
}

impl<'a, K> Object<'a, K> {
    fn key(&self) -> Key<'a> {
        Key(self.namespace, self.name)
    }
}

impl<'a> RouteKey<'a> {
    fn of(object: &Object<'a, Kind>) -> Option<Self> {
        let Kind::Route(protocol) = object.kind else { return None };
        Some(Self { group: object.group, kind: protocol.kind(), key: object.key() })
    }
}

fn refuse_twins(objects: &[Object<'_, Kind>]) {
    let mut seen = Vec::new();
    for object in objects {
        let this = (object.kind, object.group, object.key());
        if seen.contains(&this) {
            let message = format!("there is another object of this kind named {}", quoted(object.name));
            object.at.error(TWICE, message).help("import one version of each object");
        }
        seen.push(this);
    }
}

fn server<'a>(object: &Object<'a, Kind>, mapping: &Mapping) -> Option<Server<'a>> {
    let keys = &["podSelector", "externalWorkloadSelector", "port", "proxyProtocol", "accessPolicy"];
    let fields = object.spec.fields(keys)?;
    if let Some(item) = fields.optional("externalWorkloadSelector") {
        item.error(NO_COUNTERPART, "external workloads are selected by their identity here").help("use `podSelector`");
    }
    if let Some(item) = fields.optional("accessPolicy")
        && item.string()? != "deny"
    {
        let reported = item.error(OPEN_ACCESS, "it lets callers in whom no policy names");
        reported.help("name them in a policy, and write `deny`, which is the default");
    }
    let speaks = fields.optional("proxyProtocol").map_or(Some(Speaks::Unknown), |item| item.choice(&PROTOCOLS));
    let port = fields.required("port").and_then(|item| port(item, mapping));
    let workloads = fields.required("podSelector").and_then(|item| workloads(item, object.namespace, mapping));
    Some(Server { key: object.key(), at: object.at, workloads: workloads?, port: port?, speaks: speaks? })
}

/// A number, or a name that the mapping knows.
fn port(item: Item<'_>, mapping: &Mapping) -> Option<u16> {
    if item.is_number() {
        return item.integer(1..=65535).and_then(|port| u16::try_from(port).ok());
    }
    let text = item.string()?;
    let known = mapping.ports.get(text).copied();
    if known.is_none() {
        let reported = item.error(UNKNOWN_PORT, format!("it is not known which port {} is", quoted(text)));
        reported.help("say it with --port NAME=8080");
    }
    known
}

/// The identities of the pods that are selected; `None` within for all of the namespace.
#[expect(clippy::option_option, reason = "wrong and everything must not be taken for each other")]
fn workloads(item: Item<'_>, namespace: &str, mapping: &Mapping) -> Option<Option<Vec<SpiffeId>>> {
    let selector = Selector::read(item)?;
    if selector.is_everything() {
        return Some(None);
    }
    if selector.excludes() {
        let message = "which pods do not have a label, no list of workloads can say";
        item.error(UNKNOWN_WORKLOAD, message).help("select pods by labels that they have");
        return None;
    }
    let selected = mapping.workloads.iter().filter(|workload| {
        in_namespace(&workload.identity, namespace)
            && selector.selects(|key| workload.labels.get(key).map(String::as_str))
    });
    let mut ids: Vec<SpiffeId> = selected.map(|workload| workload.identity.clone()).collect();
    if ids.is_empty() {
        let reported = item.error(UNKNOWN_WORKLOAD, "it is not known which identity the selected pods have");
        reported.help(format!("say it with --workload 'label=value=spiffe://trust.domain/ns/{namespace}/sa/account'"));
        return None;
    }
    ids.sort_unstable();
    ids.dedup();
    Some(Some(ids))
}

const PROTOCOLS: [(&str, Speaks); 6] = [
    ("unknown", Speaks::Unknown),
    ("HTTP/1", Speaks::Http),
    ("HTTP/2", Speaks::Http),
    ("gRPC", Speaks::Grpc),
    ("opaque", Speaks::Opaque),
    ("TLS", Speaks::Opaque),
];
