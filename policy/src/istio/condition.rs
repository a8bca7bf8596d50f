//! `when`: further conditions, each on one attribute.
//!
//! `values` and `notValues` of one entry are two conditions, and both must hold.

use super::principal::{namespace, principal, service_account, trust_domain};
use super::source::{callers, service_accounts};
use super::{Context, FORWARDED_ADDRESS, INNER_ASTERISK, JWT, NOT_OURS, REPEATED_HEADER, UNKNOWN_ATTRIBUTE, operation};
use crate::diagnostic::{nearest, quoted};
use crate::document::Item;
use crate::matchers::HeaderMatcher;
use crate::native::{BAD_HEADER, BAD_HEADER_VALUE, CODES, network};
use crate::rules::{Condition, ConnectionMatcher, Matchers, RequestMatcher, Sense};
use crate::text::TextPattern;

/// What a condition is on.
#[derive(Clone, Copy)]
enum Attribute<'a> {
    SourceAddress,
    Namespace,
    ServiceAccount,
    TrustDomain,
    Principal,
    DestinationAddress,
    Port,
    ServerName,
    Header(&'a str),
}

/// Reads one entry of `when`.
pub(super) fn read(item: Item<'_>, context: &Context<'_>) -> Option<Matchers> {
    let fields = item.fields(&["key", "values", "notValues"])?;
    let attribute = fields.required("key").and_then(attribute);
    let lists = [("values", Sense::Is), ("notValues", Sense::IsNot)];
    let lists = lists.map(|(key, sense)| fields.optional(key).map(|list| (list, sense)));
    if lists.iter().all(Option::is_none) {
        let reported = item.error(CODES.missing_key, "the condition has neither `values` nor `notValues`");
        reported.help("add what the attribute must be, or must not be");
    }
    let attribute = attribute?;
    let mut matchers = Matchers::default();
    for (list, sense) in lists.into_iter().flatten() {
        let matcher = match attribute {
            Attribute::Header(name) => {
                let values = list.each(|item| header_value(item, context))?;
                let header = HeaderMatcher { name: name.to_ascii_lowercase().into(), values };
                matchers.request.push(Condition { sense, matcher: RequestMatcher::Header(header) });
                continue;
            }
            Attribute::SourceAddress => ConnectionMatcher::Source(list.each(network)?),
            Attribute::DestinationAddress => ConnectionMatcher::Destination(list.each(network)?),
            Attribute::Port => ConnectionMatcher::Port(list.each(operation::port)?),
            Attribute::ServerName => ConnectionMatcher::ServerName(list.each(server_name)?),
            Attribute::Namespace => callers(list, namespace, context)?,
            Attribute::ServiceAccount => {
                service_accounts(list)?;
                callers(list, service_account, context)?
            }
            Attribute::TrustDomain => callers(list, trust_domain, context)?,
            Attribute::Principal => callers(list, principal, context)?,
        };
        matchers.connection.push(Condition { sense, matcher });
    }
    Some(matchers)
}

fn attribute<'a>(item: Item<'a>) -> Option<Attribute<'a>> {
    let key = item.string()?;
    let simple = match key {
        "source.ip" => Some(Attribute::SourceAddress),
        "source.namespace" => Some(Attribute::Namespace),
        "source.serviceAccount" => Some(Attribute::ServiceAccount),
        "source.trustDomain" => Some(Attribute::TrustDomain),
        "source.principal" => Some(Attribute::Principal),
        "destination.ip" => Some(Attribute::DestinationAddress),
        "destination.port" => Some(Attribute::Port),
        "connection.sni" => Some(Attribute::ServerName),
        _ => None,
    };
    if simple.is_some() {
        return simple;
    }
    if let Some(bracketed) = key.strip_prefix("request.headers") {
        return header_name(item, bracketed).map(Attribute::Header);
    }
    let shown = quoted(key);
    let is_jwt = key.starts_with("request.auth.");
    let (code, message, help) = match key {
        _ if is_jwt => (JWT, "is about a JWT, and Portcullis checks none", "leave JWTs to the application"),
        "remote.ip" => (
            FORWARDED_ADDRESS,
            "is an address in `x-forwarded-for`, which the caller writes",
            "write `source.ip` for the address that the connection comes from",
        ),
        _ if key.starts_with("experimental.envoy.filters.") => {
            (NOT_OURS, "is known to filters of Envoy alone", "write what the filter decides as a condition of its own")
        }
        "destination.namespace" => {
            (UNKNOWN_ATTRIBUTE, "is no attribute any more", "the namespace of the policy takes its place")
        }
        "destination.name" | "destination.user" => {
            (UNKNOWN_ATTRIBUTE, "is no attribute any more", "select the workload by its labels under `selector`")
        }
        _ if key.starts_with("destination.labels") => {
            (UNKNOWN_ATTRIBUTE, "is no attribute any more", "select the workload by its labels under `selector`")
        }
        _ => {
            let reported = item.error(UNKNOWN_ATTRIBUTE, format!("{shown} is not an attribute"));
            match nearest(key, ATTRIBUTES) {
                Some(known) => reported.help(format!("did you mean `{known}`?")),
                None => reported.help(format!("the attributes are {}", ATTRIBUTES.join(", "))),
            }
            return None;
        }
    };
    item.error(code, format!("{shown} {message}")).help(help);
    None
}

/// The name in `[…]`.
fn header_name<'a>(item: Item<'a>, bracketed: &'a str) -> Option<&'a str> {
    let refuse = |message: String, help: &str| {
        item.error(BAD_HEADER, message).help(help);
        None
    };
    let Some(name) = bracketed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        return refuse(
            format!("{} does not name a header", quoted(item.string().unwrap_or_default())),
            "write it as request.headers[x-tenant]",
        );
    };
    let lower = name.to_ascii_lowercase();
    let instead = match lower.as_str() {
        ":path" => "write it under `to`, as `paths`",
        ":method" => "write it under `to`, as `methods`",
        ":authority" | "host" => "write it under `to`, as `hosts`",
        _ if name.starts_with(':') => "remove it; ports, hosts, methods and paths go under `to`",
        "x-forwarded-client-cert" => "match the verified caller, as `principals` under `from`",
        _ if name.is_empty() || !name.bytes().all(is_token_byte) => {
            return refuse(
                format!("{} is not a header name", quoted(name)),
                "use the characters that RFC 9110 allows in a name",
            );
        }
        _ => return Some(name),
    };
    refuse(format!("{} is not matched as a header", quoted(name)), instead)
}

fn header_value(item: Item<'_>, context: &Context<'_>) -> Option<TextPattern> {
    let text = item.string()?;
    let pattern = TextPattern::of_istio(text);
    let stem = match &pattern {
        TextPattern::Exact(stem) | TextPattern::Prefix(stem) | TextPattern::Suffix(stem) => &**stem,
        TextPattern::Present => return Some(pattern),
    };
    if text.trim_matches([' ', '\t']) != text || text.chars().any(char::is_control) {
        item.error(BAD_HEADER_VALUE, "no header value has control characters or spaces at its ends")
            .help("remove them");
        return None;
    }
    if stem.contains('*') {
        let message = format!("only a first or a last `*` is a wildcard, and {} has another", quoted(text));
        item.warning(INNER_ASTERISK, message).help("if that is meant, keep it; if not, list the values one by one");
    }
    if context.first(REPEATED_HEADER) {
        let message = "a header that comes more than once is matched in every reading, in Istio joined by commas only";
        let reported = item.warning(REPEATED_HEADER, message);
        reported.help(
            "where callers send it once there is nothing to do; a deny takes any of its values, an allow needs all",
        );
    }
    Some(pattern)
}

fn server_name(item: Item<'_>) -> Option<TextPattern> {
    item.string().map(TextPattern::of_istio)
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

const ATTRIBUTES: [&str; 9] = [
    "source.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.trustDomain",
    "source.principal",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "request.headers[…]",
];
