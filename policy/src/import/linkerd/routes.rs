//! `HTTPRoute` and `GRPCRoute` as Linkerd reads them on the side that is called: which requests there are, and which of
//! them a policy is about.
//!
//! A request takes one route, the most specific one, and a policy of another route does not count for it. Our rules add
//! up instead. So two routes that one request could take must let the same clients in.

use super::{Key, Reference};
use crate::document::Item;
use crate::import::{FOREIGN_HEADER, FOREIGN_PATH, NO_COUNTERPART};
use crate::matchers::HostPattern;
use crate::native::matching::{self, is_service, is_token_byte, is_word};
use crate::write::GrpcBody;

/// A route that servers are parents of.
#[derive(Debug)]
pub(super) struct Route<'a> {
    pub(super) protocol: Protocol,
    /// Servers of the route's namespace, and where they are named.
    pub(super) parents: Vec<(Key<'a>, Item<'a>)>,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) matches: Vec<Match>,
}

/// What a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    /// The kind of its routes.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
        }
    }
}

/// One kind of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) path: Option<PathMatch>,
    pub(super) method: Option<String>,
    pub(super) grpc: Option<GrpcBody>,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
}

/// A path, or all below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathMatch {
    Exact(String),
    /// Without a slash at its end; empty for every path.
    Prefix(String),
}

impl PathMatch {
    /// The patterns of ours that stand for it; none for every path.
    pub(super) fn patterns(&self) -> Vec<String> {
        match self {
            Self::Exact(path) => vec![path.clone()],
            Self::Prefix(prefix) if prefix.is_empty() => Vec::new(),
            Self::Prefix(prefix) => vec![prefix.clone(), format!("{prefix}/**")],
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let below = |path: &str, prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(path), Self::Prefix(prefix)) | (Self::Prefix(prefix), Self::Exact(path)) => {
                below(path, prefix)
            }
            (Self::Prefix(a), Self::Prefix(b)) => below(a, b) || below(b, a),
        }
    }
}

impl Match {
    /// Whether some request could match both.
    fn overlaps(&self, other: &Self) -> bool {
        let methods = self.method.as_ref().zip(other.method.as_ref()).is_none_or(|(a, b)| a == b);
        let paths = self.path.as_ref().zip(other.path.as_ref()).is_none_or(|(a, b)| a.overlaps(b));
        let names = |a: &[String], b: &[String]| a.is_empty() || b.is_empty() || a == b;
        let calls = self.grpc.as_ref().zip(other.grpc.as_ref());
        let calls = calls.is_none_or(|(a, b)| names(&a.services, &b.services) && names(&a.methods, &b.methods));
        methods && paths && calls
    }
}

impl Route<'_> {
    /// Whether some request could take either.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let below = |host: &HostPattern, wide: &HostPattern| match (host, wide) {
            (HostPattern::Exact(host), _) => wide.matches(host, crate::matchers::Doubt::Matches),
            (HostPattern::Below(suffix), HostPattern::Below(wide)) => suffix.ends_with(&**wide),
            (HostPattern::Below(_), HostPattern::Exact(_)) => false,
            (HostPattern::Text(_), _) | (HostPattern::Below(_), HostPattern::Text(_)) => true,
        };
        let one = |a: &HostPattern| other.hosts.iter().any(|b| below(a, b) || below(b, a));
        let hosts = self.hosts.is_empty() || other.hosts.is_empty() || self.hosts.iter().any(one);
        hosts && self.matches.iter().any(|a| other.matches.iter().any(|b| a.overlaps(b)))
    }
}

/// Reads `spec` of a route.
pub(super) fn read<'a>(spec: Item<'a>, namespace: &'a str, protocol: Protocol) -> Option<Route<'a>> {
    let fields = spec.fields(&["parentRefs", "hostnames", "rules"])?;
    let parents = fields.required("parentRefs").and_then(|list| list.each(|item| parent(item, namespace)));
    let hosts = fields.optional("hostnames").map_or(Some(Vec::new()), |list| list.each(matching::host));
    let rules = fields.optional("rules").map(|list| list.each(|item| rule(item, protocol)));
    let every = || vec![vec![everything(protocol)]];
    let matches = rules.unwrap_or_else(|| Some(every()))?.into_iter().flatten().collect();
    Some(Route { protocol, parents: parents?, hosts: hosts?, matches })
}

/// Every request that the protocol has.
fn everything(protocol: Protocol) -> Match {
    match protocol {
        Protocol::Http => Match { path: Some(PathMatch::Prefix(String::new())), ..Match::default() },
        Protocol::Grpc => Match { grpc: Some(GrpcBody::default()), ..Match::default() },
    }
}

fn parent<'a>(item: Item<'a>, namespace: &'a str) -> Option<(Key<'a>, Item<'a>)> {
    let reference = Reference::read(item, namespace)?;
    if (reference.group, reference.kind) != ("policy.linkerd.io", "Server") {
        let reported =
            item.error(NO_COUNTERPART, "a policy is about those who call a `Server`, and this is another parent");
        reported.help("leave routes of Services and Gateways out of the files that are imported");
        return None;
    }
    if reference.namespace != namespace {
        item.error(NO_COUNTERPART, "Linkerd takes no parent of another namespace").help("leave `namespace` out");
        return None;
    }
    Some((reference.key(), item))
}

fn rule(item: Item<'_>, protocol: Protocol) -> Option<Vec<Match>> {
    let fields =
        item.fields(&["name", "matches", "filters", "timeouts", "backendRefs", "retry", "sessionPersistence"])?;
    for key in ["filters", "timeouts", "backendRefs", "retry", "sessionPersistence"] {
        if let Some(item) = fields.optional(key) {
            let reported =
                item.error(NO_COUNTERPART, format!("`{key}` changes requests or where they go, which no policy does"));
            reported.help("leave it out");
        }
    }
    match fields.optional("matches") {
        None => Some(vec![everything(protocol)]),
        Some(matches) => matches.each(|item| match protocol {
            Protocol::Http => http(item),
            Protocol::Grpc => grpc(item),
        }),
    }
}

fn http(item: Item<'_>) -> Option<Match> {
    let fields = item.fields(&["path", "method", "headers", "queryParams"])?;
    if let Some(item) = fields.optional("queryParams") {
        item.error(NO_COUNTERPART, "the query is never matched").help("leave it out, or match the path");
    }
    let path = fields.optional("path").map_or(Some(PathMatch::Prefix(String::new())), path);
    let method = fields.optional("method").map(|method| matching::method(method).and(method.string()));
    let headers = fields.optional("headers").map_or(Some(Vec::new()), headers);
    let method = method.map_or(Some(None), |method| method.map(Some))?.map(str::to_owned);
    Some(Match { path: Some(path?), method, grpc: None, headers: headers? })
}

fn path(item: Item<'_>) -> Option<PathMatch> {
    let fields = item.fields(&["type", "value"])?;
    let form = fields.optional("type").map_or(Some("PathPrefix"), Item::string);
    let Some(value_item) = fields.optional("value") else { return form.map(|_| PathMatch::Prefix(String::new())) };
    let form = form?;
    if !matches!(form, "Exact" | "PathPrefix") {
        let reported = item.error(FOREIGN_PATH, "regular expressions match paths in ways that no pattern does");
        reported.help("write it as `Exact` or `PathPrefix`");
        return None;
    }
    let value = value_item.string()?;
    if value.contains(['*', '{', '}']) {
        let reported =
            value_item.error(FOREIGN_PATH, "Linkerd takes these characters for themselves, a pattern for wildcards");
        reported.help("match a prefix without them");
        return None;
    }
    if form == "Exact" {
        matching::path(value_item)?;
        return Some(PathMatch::Exact(value.to_owned()));
    }
    let prefix = value.trim_end_matches('/');
    if prefix.is_empty() && value.starts_with('/') {
        return Some(PathMatch::Prefix(String::new()));
    }
    if value.len() - prefix.len() > 1 {
        value_item.error(FOREIGN_PATH, "it ends with several slashes").help(format!("write `{prefix}`"));
        return None;
    }
    matching::path(value_item)?;
    Some(PathMatch::Prefix(prefix.to_owned()))
}

fn grpc(item: Item<'_>) -> Option<Match> {
    let fields = item.fields(&["method", "headers"])?;
    let call = fields.optional("method").map_or(Some(GrpcBody::default()), |method| {
        let fields = method.fields(&["type", "service", "method"])?;
        if fields.optional("type").map_or(Some("Exact"), Item::string)? != "Exact" {
            method.error(NO_COUNTERPART, "regular expressions match calls in ways that no rule does");
            return None;
        }
        let names = |key, form: fn(&str) -> bool| match fields.optional(key) {
            None => Some(Vec::new()),
            Some(item) => {
                let text = item.string()?;
                if !form(text) {
                    item.error(NO_COUNTERPART, "this is not a name in gRPC");
                    return None;
                }
                Some(vec![text.to_owned()])
            }
        };
        let (services, methods) = (names("service", is_service), names("method", is_word));
        Some(GrpcBody { services: services?, methods: methods? })
    });
    let headers = fields.optional("headers").map_or(Some(Vec::new()), headers);
    Some(Match { path: None, method: None, grpc: Some(call?), headers: headers? })
}

/// Header fields that must all be there with these values.
fn headers(item: Item<'_>) -> Option<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = item.each(|item| {
        let fields = item.fields(&["type", "name", "value"])?;
        if fields.optional("type").map_or(Some("Exact"), Item::string)? != "Exact" {
            item.error(FOREIGN_HEADER, "regular expressions match values in ways that no rule does");
            return None;
        }
        let (name_item, value_item) = (fields.required("name")?, fields.required("value")?);
        let (name, value) = (name_item.string()?.to_ascii_lowercase(), value_item.string()?);
        if !name.bytes().all(is_token_byte) || OURS.contains(&name.as_str()) {
            let reported = name_item.error(FOREIGN_HEADER, "this header is not matched by a policy");
            reported.help("match the verified identity of the caller, and the host under `hostnames`");
            return None;
        }
        if value.contains('*') || value.trim() != value || value.chars().any(char::is_control) {
            let message = "Linkerd takes a `*` for itself, a rule for a wildcard, and no value has blanks at its ends";
            value_item.error(FOREIGN_HEADER, message);
            return None;
        }
        Some((name, value.to_owned()))
    })?;
    all.sort();
    let twice = all.iter().zip(all.iter().skip(1)).find(|(a, b)| a.0 == b.0);
    if let Some(((name, _), _)) = twice {
        item.error(FOREIGN_HEADER, format!("the header `{name}` is matched twice")).help("leave one of the two");
        return None;
    }
    Some(all)
}

/// Headers that say who calls, or where to: never taken from the caller, or matched under keys of their own.
const OURS: [&str; 4] = ["host", "x-forwarded-client-cert", "l5d-client-id", ":authority"];
