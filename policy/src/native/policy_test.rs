//! `PolicyTest`: cases that say what a policy must decide.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use spiffe::SpiffeId;

use super::authorization::instant;
use super::{BAD_CASE, BAD_IDENTITY, BAD_NETWORK, Collector, DOCUMENT_KEYS, name, report_identity};
use crate::case::{Asked, Case};
use crate::diagnostic::quoted;
use crate::document::{Fields, Item};
use crate::identity::IdentityPattern;
use crate::rules::Effect;

/// Reads one document.
pub(super) fn read(item: Item<'_>, collector: &mut Collector) {
    let Some(fields) = item.fields(DOCUMENT_KEYS) else { return };
    let metadata = fields.required("metadata").and_then(|metadata| metadata.fields(&["name"]));
    let test = metadata.and_then(|metadata| metadata.required("name")).and_then(name);
    let spec = fields.required("spec").and_then(|spec| spec.fields(&["cases"]));
    let cases = spec.and_then(|spec| spec.required("cases")).and_then(Item::list);
    for item in cases.into_iter().flatten() {
        if let Some(case) = read_case(item, test.unwrap_or_default(), collector) {
            collector.cases.push(case);
        }
    }
}

fn read_case(item: Item<'_>, test: &str, collector: &Collector) -> Option<Case> {
    let fields = item.fields(&CASE_KEYS)?;
    let name = fields.required("name").and_then(Item::string);
    let caller = fields.required("caller").and_then(identity);
    let workload = fields.required("workload").and_then(identity);
    let at = fields.optional("at").map(instant);
    let expect = fields.required("expect").and_then(|expect| expect.choice(&EXPECTATIONS));
    let rule = fields.optional("rule").map(Item::string);
    let asked = match (fields.optional("request"), fields.optional("connection")) {
        (Some(request), None) => read_request(request),
        (None, Some(connection)) => read_connection(connection),
        (None, None) | (Some(_), Some(_)) => {
            let reported = item.error(BAD_CASE, "a case has either a `request` or a `connection`");
            reported.help("write `request` for HTTP, `connection` for opaque TCP");
            None
        }
    };
    let labels = fields.optional("labels").map_or(Some(BTreeMap::new()), labels);
    let (Called { port, source, destination, server_name }, asked) = asked?;
    Some(Case {
        test: test.to_owned(),
        name: name?.to_owned(),
        origin: collector.origin(item.position()),
        caller: caller?,
        workload: workload?,
        port,
        source,
        destination,
        server_name,
        labels: labels?,
        at: at.map_or(Some(None), |at| at.map(Some))?,
        asked,
        expect: expect?,
        rule: rule.map_or(Some(None), |rule| rule.map(Some))?.map(str::to_owned),
    })
}

/// What a case says of the connection, be it for a request or opaque.
struct Called {
    port: u16,
    source: IpAddr,
    destination: IpAddr,
    server_name: Option<String>,
}

impl Called {
    fn read(fields: Fields<'_>) -> Option<Self> {
        let port = fields.required("port").and_then(port);
        let (source, destination) = (address(fields, "source"), address(fields, "destination"));
        let server_name = fields.optional("serverName").map(|name| name.string().map(str::to_owned));
        Some(Self {
            port: port?,
            source: source?,
            destination: destination?,
            server_name: server_name.map_or(Some(None), |name| name.map(Some))?,
        })
    }
}

fn read_request(item: Item<'_>) -> Option<(Called, Asked)> {
    let fields = item.fields(&REQUEST_KEYS)?;
    let called = Called::read(fields);
    let method = fields.required("method").and_then(Item::string);
    let path = fields.required("path").and_then(Item::string);
    let host = fields.optional("host").map(Item::string);
    let headers = fields.optional("headers").map(headers);
    let asked = Asked::Request {
        method: method?.to_owned(),
        host: host.unwrap_or(Some(""))?.to_owned(),
        target: path?.to_owned(),
        headers: headers.unwrap_or(Some(Vec::new()))?,
    };
    Some((called?, asked))
}

fn read_connection(item: Item<'_>) -> Option<(Called, Asked)> {
    let fields = item.fields(&CONNECTION_KEYS)?;
    Some((Called::read(fields)?, Asked::Connection))
}

/// The labels of a workload, as Kubernetes has them.
fn labels(item: Item<'_>) -> Option<BTreeMap<String, String>> {
    let pairs = item.pairs()?;
    pairs.map(|(_, value)| Some((value.name().to_owned(), value.string()?.to_owned()))).collect()
}

/// Header fields: a value, or a list of values for a repeated field.
fn headers(item: Item<'_>) -> Option<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (_, values) in item.pairs()? {
        match values.is_list() {
            false => all.push((values.name().to_owned(), values.string()?.to_owned())),
            true => {
                let repeated = values.each(Item::string)?;
                all.extend(repeated.into_iter().map(|value| (values.name().to_owned(), value.to_owned())));
            }
        }
    }
    Some(all)
}

fn identity(item: Item<'_>) -> Option<SpiffeId> {
    let text = item.string()?;
    let pattern = IdentityPattern::parse(text).map_err(|error| report_identity(item, &error)).ok()?;
    if let IdentityPattern::Exact(id) = pattern {
        return Some(id);
    }
    item.error(BAD_IDENTITY, "a case names one identity, not a pattern").help("write the whole SPIFFE ID");
    None
}

fn port(item: Item<'_>) -> Option<u16> {
    item.integer(1..=65535).and_then(|port| u16::try_from(port).ok())
}

/// An address; without one it is 0.0.0.0, which is in no range that a rule would name.
fn address(fields: Fields<'_>, key: &'static str) -> Option<IpAddr> {
    let Some(item) = fields.optional(key) else { return Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) };
    let text = item.string()?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        let reported = item.error(BAD_NETWORK, format!("{} is not an address", quoted(text)));
        reported.help("write one IPv4 or IPv6 address");
    }
    parsed
}

const CASE_KEYS: [&str; 9] = ["name", "caller", "workload", "labels", "at", "request", "connection", "expect", "rule"];
const REQUEST_KEYS: [&str; 8] = ["port", "source", "destination", "serverName", "method", "host", "path", "headers"];
const CONNECTION_KEYS: [&str; 4] = ["port", "source", "destination", "serverName"];

const EXPECTATIONS: [(&str, Effect); 2] = [("allow", Effect::Allow), ("deny", Effect::Deny)];
