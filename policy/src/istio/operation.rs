//! `to`: what is asked for.

use super::{BAD_PORT, Context, HOST_ANY_PORT, HOST_AS_SENT, path};
use crate::diagnostic::quoted;
use crate::document::Item;
use crate::matchers::{Doubt, HostPattern};
use crate::native::{BAD_HOST, BAD_METHOD};
use crate::request::bare_host;
use crate::rules::{Condition, ConnectionMatcher, Matchers, RequestMatcher, Sense};
use crate::text::TextPattern;

/// Reads one `operation`.
pub(super) fn read(item: Item<'_>, context: &Context<'_>) -> Option<Matchers> {
    let fields = item.fields(&KEYS)?;
    let mut matchers = Matchers::default();
    let mut complete = true;
    for (sense, [ports, hosts, methods, paths]) in TWINS {
        if let Some(list) = fields.optional(ports) {
            match list.each(port) {
                Some(ports) => {
                    matchers.connection.push(Condition { sense, matcher: ConnectionMatcher::Port(ports) });
                }
                None => complete = false,
            }
        }
        let doubt = context.doubt(sense);
        let on_request = [
            fields.optional(methods).map(|list| list.each(method).map(RequestMatcher::Method)),
            fields.optional(hosts).map(|list| read_hosts(list, doubt).map(RequestMatcher::Host)),
            fields.optional(paths).map(|list| list.each(|item| path::read(item, doubt)).map(RequestMatcher::Path)),
        ];
        for matcher in on_request.into_iter().flatten() {
            match matcher {
                Some(matcher) => matchers.request.push(Condition { sense, matcher }),
                None => complete = false,
            }
        }
    }
    complete.then_some(matchers)
}

/// A port as Istio writes it, in quotes; also that of a `when`.
pub(super) fn port(item: Item<'_>) -> Option<u16> {
    let text = item.string()?;
    let port = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    if port.is_none() {
        let reported = item.error(BAD_PORT, format!("{} is not a port", quoted(text)));
        reported.help("write a number from 0 to 65535, in quotes: \"8080\"");
    }
    port
}

fn method(item: Item<'_>) -> Option<TextPattern> {
    let text = item.string()?;
    let pattern = TextPattern::of_istio(text);
    let stem = match &pattern {
        TextPattern::Exact(stem) | TextPattern::Prefix(stem) | TextPattern::Suffix(stem) => &**stem,
        TextPattern::Present => return Some(pattern),
    };
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&b);
    if !stem.bytes().all(is_token) {
        let reported = item.error(BAD_METHOD, format!("no request has the method {}", quoted(text)));
        reported.help("write methods such as GET, with one `*` at the beginning or at the end at most");
        return None;
    }
    let upper = text.to_ascii_uppercase();
    if upper != text {
        let reported = item.error(BAD_METHOD, "a method is written in upper case: in Istio, too, this matches nothing");
        reported.help(format!("write `{upper}`"));
        return None;
    }
    Some(pattern)
}

fn read_hosts(list: Item<'_>, doubt: Doubt) -> Option<Vec<HostPattern>> {
    let values = list.each(|item| host(item).map(|text| (item, text)))?;
    let texts: Vec<&str> = values.iter().map(|(_, text)| *text).collect();
    if let Some((item, text)) = values.iter().find(|(_, text)| misses_ports(text, &texts)) {
        let (host, text) = (text.trim_start_matches('*'), quoted(text));
        match doubt {
            Doubt::Matches => {
                let message = format!("{text} is matched with and without a port, in Istio without one only");
                item.warning(HOST_ANY_PORT, message)
                    .help(format!("write `\"{host}:*\"` beside it, so that Istio agrees"));
            }
            Doubt::Misses => {
                let message = format!("{text} misses requests that name the port, such as `{host}:8080`");
                let reported = item.warning(HOST_AS_SENT, message);
                reported.help("add the host with its port, or with `:*`; better, match ports and paths");
            }
        }
    }
    Some(texts.into_iter().map(|text| HostPattern::Text(TextPattern::of_istio(text))).collect())
}

/// Whether the value leaves out requests for the same host with a port, and no other value of the list takes them.
fn misses_ports(text: &str, all: &[&str]) -> bool {
    let with_port = format!("{}:", text.to_ascii_lowercase());
    let takes_ports = |other: &&str| {
        let other = other.to_ascii_lowercase();
        let prefix = other.strip_suffix('*').is_some_and(|prefix| with_port.starts_with(prefix));
        prefix || other.starts_with(&with_port)
    };
    !text.ends_with('*') && bare_host(text) == text && !all.iter().any(takes_ports)
}

fn host<'a>(item: Item<'a>) -> Option<&'a str> {
    let text = item.string()?;
    let stem = match TextPattern::of_istio(text) {
        TextPattern::Exact(stem) | TextPattern::Prefix(stem) | TextPattern::Suffix(stem) => stem,
        TextPattern::Present => return Some(text),
    };
    if stem.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b)) {
        return Some(text);
    }
    let reported = item.error(BAD_HOST, format!("no request has the host {}", quoted(text)));
    reported.help("write a DNS name or an address, with one `*` at its beginning or at its end at most");
    None
}

const TWINS: [(Sense, [&str; 4]); 2] = [
    (Sense::Is, ["ports", "hosts", "methods", "paths"]),
    (Sense::IsNot, ["notPorts", "notHosts", "notMethods", "notPaths"]),
];

const KEYS: [&str; 8] = ["ports", "notPorts", "hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"];
