//! From servers, routes and clients to policies: a rule for each authorization of each route.

use std::collections::{BTreeMap, BTreeSet};

use super::authorizations::{Authorization, Target};
use super::clients::Networks;
use super::routes::{Match, Protocol, Route};
use super::{Key, RouteKey, Server, Set, Speaks};
use crate::import::{NO_COUNTERPART, OVERLAP};
use crate::rules::Mode;
use crate::write::{Body, Document, GrpcBody, Matched, Names, PolicyBody, RuleBody};

impl Set<'_> {
    /// A policy for each server that somebody may call. What nobody may call needs none.
    pub(super) fn documents(&self) -> Vec<Document> {
        self.servers.iter().filter_map(|server| self.document(server)).collect()
    }

    fn document(&self, server: &Server<'_>) -> Option<Document> {
        let attached: Vec<&(RouteKey<'_>, Route<'_>)> =
            self.routes.iter().filter(|(_, route)| route.parents.iter().any(|(key, _)| *key == server.key)).collect();
        for (_, route) in &attached {
            refuse_misfit(server, route);
        }
        self.refuse_overlaps(server, &attached);
        let mut names = Names::default();
        let mut rules = Vec::new();
        if attached.is_empty() {
            for authorization in self.of_server(server.key) {
                rules.extend(rules_of(authorization, server, None, &mut names));
            }
        }
        for (key, route) in &attached {
            for authorization in self.of_server(server.key).chain(self.of_route(key)) {
                rules.extend(rules_of(authorization, server, Some((key, route)), &mut names));
            }
        }
        let Key(namespace, name) = server.key;
        let body = PolicyBody {
            name: name.to_owned(),
            namespace: Some(namespace.to_owned()),
            mode: Mode::Enforce,
            target: server.workloads.iter().flatten().map(ToString::to_string).collect(),
            allow: rules,
            deny: Vec::new(),
        };
        let comment = vec![format!("Imported from Linkerd: Server {namespace}/{name}.")];
        (!body.allow.is_empty()).then_some(Document { comment, body: Body::Policy(body) })
    }

    fn of_server(&self, server: Key<'_>) -> impl Iterator<Item = &Authorization<'_>> {
        let is_for = move |one: &&Authorization<'_>| match &one.target {
            Target::Servers(servers) => servers.contains(&server),
            Target::Route(_) => false,
        };
        self.authorizations.iter().filter(is_for)
    }

    fn of_route(&self, route: &RouteKey<'_>) -> impl Iterator<Item = &Authorization<'_>> {
        let is_for = move |one: &&Authorization<'_>| match &one.target {
            Target::Servers(_) => false,
            Target::Route(target) => target == route,
        };
        self.authorizations.iter().filter(is_for)
    }

    /// Of two routes Linkerd asks the more specific one alone; rules of ours add up.
    fn refuse_overlaps(&self, server: &Server<'_>, attached: &[&(RouteKey<'_>, Route<'_>)]) {
        let clients = |key: &RouteKey<'_>| {
            let all = self.of_route(key).map(|one| (&one.clients.identities, &one.clients.networks));
            all.collect::<BTreeSet<_>>()
        };
        for (index, (key, route)) in attached.iter().enumerate() {
            for (other_key, other) in attached.iter().skip(index + 1) {
                if route.overlaps(other) && clients(key) != clients(other_key) {
                    let message = format!(
                        "a request can match this route and `{}`, which lets others in, and Linkerd asks one of them only",
                        other_key.key.1
                    );
                    let own = route.parents.iter().find(|(parent, _)| *parent == server.key);
                    let at = own.map_or(server.at, |(_, at)| *at);
                    at.error(OVERLAP, message).help("let them match different paths, methods or hosts");
                }
            }
        }
    }
}

/// Routes count only where the server speaks their protocol.
fn refuse_misfit(server: &Server<'_>, route: &Route<'_>) {
    let fits = match server.speaks {
        Speaks::Http => route.protocol == Protocol::Http,
        Speaks::Grpc => route.protocol == Protocol::Grpc,
        Speaks::Unknown | Speaks::Opaque => false,
    };
    let parent = route.parents.iter().find(|(parent, _)| *parent == server.key);
    if let (false, Some((_, at))) = (fits, parent) {
        let reported = at.error(NO_COUNTERPART, "the server's `proxyProtocol` is not that of the route");
        reported.help("write HTTP/1 or HTTP/2 for an HTTPRoute, and gRPC for a GRPCRoute");
    }
}

/// The rules for one authorization, at a route or for all requests.
fn rules_of(
    authorization: &Authorization<'_>,
    server: &Server<'_>,
    route: Option<(&RouteKey<'_>, &Route<'_>)>,
    names: &mut Names,
) -> Vec<RuleBody> {
    let asked = route.map_or_else(|| vec![Matched::default()], |(_, route)| requests(route));
    let mut rules = Vec::new();
    for Networks { within, except } in &authorization.clients.networks {
        for to in &asked {
            let mut is = to.clone();
            is.identities = authorization.clients.identities.clone();
            is.sources = within.clone();
            is.ports = vec![server.port];
            let is_not = Matched { sources: except.clone(), ..Matched::default() };
            let (name, what) = match route {
                None => (authorization.name.to_owned(), String::new()),
                Some((key, _)) => {
                    (format!("{}-{}", authorization.name, key.key.1), format!(", {} {}", key.kind, key.key.1))
                }
            };
            let short: String = name.chars().take(LONGEST_NAME).collect();
            let name = names.take(short.trim_end_matches(['-', '_', '.']));
            let comment = vec![format!("{}{what}.", authorization.name)];
            rules.push(RuleBody { comment, name, is, is_not, expires: None, ticket: None });
        }
    }
    rules
}

/// What a route matches. Paths that differ in nothing else share a rule.
fn requests(route: &Route<'_>) -> Vec<Matched> {
    type Rest<'a> = (&'a Option<String>, Option<(&'a [String], &'a [String])>, &'a [(String, String)]);
    let mut grouped: BTreeMap<Rest<'_>, Option<BTreeSet<String>>> = BTreeMap::new();
    for Match { path, method, grpc, headers } in &route.matches {
        let grpc = grpc.as_ref().map(|GrpcBody { services, methods }| (services.as_slice(), methods.as_slice()));
        let paths = path.as_ref().map(super::routes::PathMatch::patterns).filter(|patterns| !patterns.is_empty());
        let known = grouped.entry((method, grpc, headers)).or_insert_with(|| Some(BTreeSet::new()));
        // Without a path it is every path, whatever others there are.
        match (known.as_mut(), paths) {
            (Some(known), Some(paths)) => known.extend(paths),
            (_, None) => *known = None,
            (None, Some(_)) => {}
        }
    }
    let hosts: Vec<String> = route.hosts.iter().map(ToString::to_string).collect();
    let matched = grouped.into_iter().map(|((method, grpc, headers), paths)| {
        let mut to = Matched {
            hosts: hosts.clone(),
            methods: method.iter().cloned().collect(),
            paths: paths.into_iter().flatten().collect(),
            headers: headers.iter().map(|(name, value)| (name.clone(), vec![value.clone()])).collect(),
            ..Matched::default()
        };
        match grpc {
            None => {}
            // Every call: a POST to two segments.
            Some(([], [])) => {
                to.methods = vec!["POST".to_owned()];
                to.paths = vec!["/*/*".to_owned()];
            }
            Some((services, methods)) => {
                to.grpc = Some(GrpcBody { services: services.to_vec(), methods: methods.to_vec() });
            }
        }
        to
    });
    matched.collect()
}

/// Leaves room for a number behind it: a name has at most 63 characters.
const LONGEST_NAME: usize = 55;
