//! `from`, `to` and `when`: the matchers of a rule.
//!
//! Each key has a `not…` twin with the same values. Keys of one rule must all hold, values of one key are
//! alternatives.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    BAD_GRPC_NAME, BAD_HEADER, BAD_HEADER_VALUE, BAD_HOST, BAD_METHOD, BAD_NETWORK, BAD_PATH, Collector, identities,
    name,
};
use crate::diagnostic::quoted;
use crate::document::{Fields, Item};
use crate::matchers::{GrpcMatcher, HeaderMatcher, HostPattern};
use crate::path::PathPattern;
use crate::rules::{Condition, ConnectionMatcher, Identities, Matchers, RequestMatcher, Sense};
use crate::text::TextPattern;

/// Reads all matchers of a rule; those that are wrong are reported and left out of the answer.
pub(super) fn read(rule: Fields<'_>, collector: &mut Collector) -> Matchers {
    let mut matchers = Matchers::default();
    if let Some(from) = rule.optional("from").and_then(|from| from.fields(&FROM_KEYS)) {
        read_from(from, &mut matchers, collector);
    }
    if let Some(to) = rule.optional("to").and_then(|to| to.fields(&TO_KEYS)) {
        read_to(to, &mut matchers);
    }
    if let Some(when) = rule.optional("when").and_then(|when| when.fields(&["headers", "notHeaders"])) {
        for (key, sense) in [("headers", Sense::Is), ("notHeaders", Sense::IsNot)] {
            let headers = when.optional(key).and_then(headers).unwrap_or_default();
            matchers
                .request
                .extend(headers.into_iter().map(|header| Condition { sense, matcher: RequestMatcher::Header(header) }));
        }
    }
    matchers
}

/// Identities listed under the first key and through the sets listed under the second. `None` when a list is wrong,
/// `Some(None)` when neither key is there.
#[expect(clippy::option_option, reason = "wrong and absent must not be taken for each other")]
pub(super) fn callers(
    fields: Fields<'_>,
    [listed, by_set]: [&'static str; 2],
    collector: &mut Collector,
) -> Option<Option<Identities>> {
    let listed = fields.optional(listed).map(identities);
    let sets = fields.optional(by_set).map(|sets| {
        sets.each(|item| {
            let name = name(item)?;
            Some(collector.refer_to_set(name, item.position()))
        })
    });
    match (listed, sets) {
        (None, None) => Some(None),
        (listed, sets) => {
            let listed = listed.unwrap_or(Some(Vec::new()))?;
            Some(Some(Identities::new(listed, sets.unwrap_or(Some(Vec::new()))?)))
        }
    }
}

fn read_from(from: Fields<'_>, matchers: &mut Matchers, collector: &mut Collector) {
    let twins = [
        (Sense::Is, ["identities", "identitySets"], "sources"),
        (Sense::IsNot, ["notIdentities", "notIdentitySets"], "notSources"),
    ];
    for (sense, keys, sources) in twins {
        if let Some(Some(callers)) = callers(from, keys, collector) {
            matchers.connection.push(Condition { sense, matcher: ConnectionMatcher::Caller(callers) });
        }
        if let Some(networks) = from.optional(sources).and_then(|sources| sources.each(network)) {
            matchers.connection.push(Condition { sense, matcher: ConnectionMatcher::Source(networks) });
        }
    }
}

fn read_to(to: Fields<'_>, matchers: &mut Matchers) {
    let twins = [
        (Sense::Is, ["ports", "hosts", "methods", "paths", "grpc"]),
        (Sense::IsNot, ["notPorts", "notHosts", "notMethods", "notPaths", "notGrpc"]),
    ];
    for (sense, [ports, hosts, methods, paths, grpc]) in twins {
        if let Some(ports) = to.optional(ports).and_then(|ports| ports.each(port)) {
            matchers.connection.push(Condition { sense, matcher: ConnectionMatcher::Port(ports) });
        }
        let on_request = [
            to.optional(methods).and_then(|list| list.each(method)).map(RequestMatcher::Method),
            to.optional(hosts).and_then(|list| list.each(host)).map(RequestMatcher::Host),
            to.optional(paths).and_then(|list| list.each(path)).map(RequestMatcher::Path),
            to.optional(grpc).and_then(read_grpc).map(RequestMatcher::Grpc),
        ];
        matchers.request.extend(on_request.into_iter().flatten().map(|matcher| Condition { sense, matcher }));
    }
}

fn read_grpc(item: Item<'_>) -> Option<GrpcMatcher> {
    let fields = item.fields(&["services", "methods"])?;
    let names = |key, form: fn(&str) -> bool| match fields.optional(key) {
        None => Some(Vec::new()),
        Some(list) => list.each(|item| {
            let text = item.string()?;
            if form(text) {
                return Some(text.into());
            }
            let message = format!("{} cannot be a name in gRPC", quoted(text));
            let reported = item.error(BAD_GRPC_NAME, message);
            reported.help("write a service as package.Service and a method as Method, without slashes and wildcards");
            None
        }),
    };
    let (services, methods) = (names("services", is_service), names("methods", is_word));
    Some(GrpcMatcher { services: services?, methods: methods? })
}

/// Whether it can be the name of a gRPC service.
pub(crate) fn is_service(text: &str) -> bool {
    text.split('.').all(is_word)
}

/// Whether it can be the name of a gRPC method.
pub(crate) fn is_word(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn headers(item: Item<'_>) -> Option<Vec<HeaderMatcher>> {
    let mut all = Vec::new();
    for (position, values) in item.pairs()? {
        let name = values.name();
        let refusal = if !name.bytes().all(is_token_byte) {
            Some(("is not a header name", "use the characters that RFC 9110 allows in a name"))
        } else if name.eq_ignore_ascii_case("host") {
            Some(("is not matched as a header", "write it under `to`, as `hosts`"))
        } else if name.eq_ignore_ascii_case("x-forwarded-client-cert") {
            Some(("is never taken from the caller", "match the verified identity, under `from`"))
        } else {
            None
        };
        if let Some((message, help)) = refusal {
            item.error_at(position, BAD_HEADER, format!("{} {message}", quoted(name))).help(help);
        }
        let values = values.each(|item| item.parsed(BAD_HEADER_VALUE, TextPattern::parse));
        if let (None, Some(values)) = (refusal, values) {
            all.push(HeaderMatcher { name: name.to_ascii_lowercase().into(), values });
        }
    }
    Some(all)
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn port(item: Item<'_>) -> Option<u16> {
    item.integer(1..=65535).and_then(|port| u16::try_from(port).ok())
}

pub(crate) fn method(item: Item<'_>) -> Option<TextPattern> {
    let text = item.string()?;
    let upper = text.to_ascii_uppercase();
    if !text.bytes().all(is_token_byte) || text.contains('*') {
        let reported = item.error(BAD_METHOD, format!("{} is not a method", quoted(text)));
        reported.help("write methods such as GET; leave `methods` out for all of them");
        return None;
    }
    if upper != text {
        item.error(BAD_METHOD, "a method is written in upper case").help(format!("write `{upper}`"));
        return None;
    }
    Some(TextPattern::Exact(text.into()))
}

pub(crate) fn host(item: Item<'_>) -> Option<HostPattern> {
    let text = item.string()?;
    HostPattern::parse(text).map_err(|error| item.error(BAD_HOST, error.to_string()).help(error.help())).ok()
}

pub(crate) fn path(item: Item<'_>) -> Option<PathPattern> {
    let text = item.string()?;
    PathPattern::parse(text).map_err(|error| item.error(BAD_PATH, error.to_string()).help(error.help())).ok()
}

/// An address range, or one address.
pub(crate) fn network(item: Item<'_>) -> Option<IpNet> {
    let text = item.string()?;
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(network) = parsed else {
        let reported = item.error(BAD_NETWORK, format!("{} is not an address range", quoted(text)));
        reported.help("write it as 10.0.0.0/8 or fd00::/8");
        return None;
    };
    if network.trunc() != network {
        let reported = item.error(BAD_NETWORK, "the address has bits beyond the prefix length");
        reported.help(format!("write `{}`, or `{}` for this address alone", network.trunc(), network.addr()));
        return None;
    }
    let mapped = match network {
        IpNet::V4(_) => None,
        IpNet::V6(network) => network.addr().to_ipv4_mapped().filter(|_| network.prefix_len() >= 96),
    };
    if let Some(address) = mapped {
        let reported = item.error(BAD_NETWORK, "an IPv4 address in IPv6 form matches nothing");
        reported.help(format!("write `{address}/{}`", network.prefix_len().saturating_sub(96)));
        return None;
    }
    Some(network)
}

const FROM_KEYS: [&str; 6] =
    ["identities", "notIdentities", "identitySets", "notIdentitySets", "sources", "notSources"];

const TO_KEYS: [&str; 10] =
    ["ports", "notPorts", "hosts", "notHosts", "methods", "notMethods", "paths", "notPaths", "grpc", "notGrpc"];
