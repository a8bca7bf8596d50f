//! From the file to the checked configuration, collecting every mistake.

mod bounds;
mod credentials;
mod paths;
mod policy;
mod telemetry;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use portcullis_policy::ServiceName;
use portcullis_policy::diagnostic::{Codes, Diagnostics, quoted};
use portcullis_policy::document::{Fields, Item, Reader, parse};
use portcullis_policy::source::{File, Position, Source};
use spiffe::SpiffeId;

use super::values;
use super::{Answerers, Checked, Config, Inbound, Limits, Logs, Outbound, Policy, Protocol, SystemFiles, Timeouts};

pub(super) fn config(name: &str, bytes: &[u8], otlp_endpoint: Option<&str>) -> Result<Checked, Diagnostics> {
    let source = match Source::read(File { name, bytes }, &CODES) {
        Ok(source) => source,
        Err(found) => {
            let mut all = Diagnostics::default();
            all.push(*found);
            return Err(all);
        }
    };
    let reader = Reader::new(&source, &CODES);
    let documents = parse(&reader);
    let config = match documents.as_slice() {
        [one] => root(reader.item(one, "the configuration"), otlp_endpoint),
        [] => {
            let start = Position { line: 1, column: 1 };
            reader.error(CODES.empty, start, "the file holds no configuration").help("see docs/configuration.md");
            None
        }
        [_, second, ..] => {
            reader.error(TOO_MANY, second.position, "the file holds more than one document").help("keep the first one");
            None
        }
    };
    let mut found = reader.into_diagnostics();
    found.sort();
    match config {
        Some(config) if !found.has_errors() => Ok(Checked { config, warnings: found }),
        _ => Err(found),
    }
}

fn root(item: Item<'_>, otlp_endpoint: Option<&str>) -> Option<Config> {
    let fields = item.fields(&ROOT)?;
    for key in NOT_YET {
        if let Some(item) = fields.optional(key) {
            not_yet(item);
        }
    }
    // Every part is read before any of them may end the reading, so that all mistakes are found.
    let identity = fields.required("identity").and_then(credentials::identity);
    let trust = fields.required("trust").and_then(|item| credentials::trust(item, identity.as_ref()));
    let deny_list = fields.optional("denyList").map(path);
    let inbound = optional_list(&fields, "inbound", inbound);
    let outbound = optional_list(&fields, "outbound", outbound);
    let policy = fields.optional("policy").map(policy::policy);
    let workers = workers(fields.optional("workers"));
    let timeouts = fields.optional("timeouts").map_or(Some(Timeouts::default()), bounds::timeouts);
    let limits = fields.optional("limits").map_or(Some(Limits::default()), bounds::limits);
    let admin = listener(&fields, "admin", ADMIN);
    let metrics = listener(&fields, "metrics", METRICS);
    let health = listener(&fields, "health", HEALTH);
    let logs = fields.optional("logs").map_or(Some(Logs::default()), telemetry::logs);
    let tracing = telemetry::tracing(fields.optional("tracing"), otlp_endpoint, item);
    if let (Some(admin), Some(at)) = (admin, fields.optional("admin"))
        && !admin.ip().is_loopback()
    {
        let reported = at.error(ADMIN_ELSEWHERE, "`admin` listens beyond loopback");
        reported.help("it shows identities and connections, and anybody who can connect may read it: use 127.0.0.1");
    }
    if policy.is_none()
        && let Some(service) = outbound.iter().flatten().find_map(|outbound| outbound.answerers.service())
    {
        let reported = item
            .error(CODES.missing_key, format!("`outbound` names the Service `{service}`, and there is no `policy`"));
        reported.help("add `policy: {directory: …}`: its documents say who may answer for a Service");
    }
    if policy.is_none() && fields.optional("inbound").is_some() {
        let reported = item.error(CODES.missing_key, "the configuration has `inbound` but no `policy`");
        reported.help("add `policy: {directory: …}`; without a policy nothing may call the workload");
    }
    let sidebands = [("admin", admin), ("metrics", metrics), ("health", health)];
    let sidebands = sidebands.into_iter().filter_map(|(name, address)| Some((name, address?)));
    let inbound_listeners = inbound.iter().flatten().map(|inbound| ("inbound", inbound.listen));
    let outbound_listeners = outbound.iter().flatten().map(|outbound| ("outbound", outbound.listen));
    let listening = inbound_listeners.chain(outbound_listeners).chain(sidebands).collect();
    check_addresses(&listening, inbound.as_deref().unwrap_or_default(), item);
    let (inbound, outbound) = (inbound?, outbound?);
    if inbound.is_empty() && outbound.is_empty() {
        item.error(NOTHING_TO_DO, "there is neither `inbound` nor `outbound`").help("add at least one listener");
    }
    Some(Config {
        identity: identity?,
        trust: trust?,
        deny_list: deny_list.map_or(Some(None), |path| path.map(Some))?,
        policy: policy.unwrap_or_else(|| Some(Policy::default()))?,
        inbound,
        outbound,
        workers: workers?,
        timeouts: timeouts?,
        limits: limits?,
        admin: admin?,
        metrics: metrics?,
        health: health?,
        logs: logs?,
        tracing: tracing?,
        system: SystemFiles::default(),
    })
}

fn inbound(item: Item<'_>) -> Option<Inbound> {
    let fields = item.fields(&["listen", "forward", "protocol", "paths"])?;
    let listen = fields.required("listen").and_then(address);
    let forward = fields.required("forward").and_then(|item| {
        let forward = address(item)?;
        if forward.port() == 0 {
            item.error(CODES.bad_value, "`forward` has the port 0").help("name the port of the application");
        }
        Some(forward)
    });
    let protocol = fields.required("protocol").and_then(protocol);
    let paths = fields.optional("paths");
    let encoded_slash = paths.map_or(Some(None), paths::paths);
    if let Some(paths) = paths.filter(|_| protocol == Some(Protocol::Tcp)) {
        paths.error(CODES.bad_value, "`paths` is for HTTP, and the protocol is `tcp`").help("leave it out");
    }
    Some(Inbound { listen: listen?, forward: forward?, protocol: protocol?, encoded_slash: encoded_slash? })
}

fn outbound(item: Item<'_>) -> Option<Outbound> {
    let fields = item.fields(&["listen", "connect", "protocol", "identities", "service"])?;
    let listen = fields.required("listen").and_then(|item| {
        let listen = address(item)?;
        if !listen.ip().is_loopback() {
            let reported = item.error(OUTBOUND_ELSEWHERE, "an outbound listener takes plaintext beyond loopback");
            reported.help("whoever can connect to it calls with this workload's identity: use 127.0.0.1");
        }
        Some(listen)
    });
    let connect = fields.required("connect").and_then(|item| {
        let port = item.parsed(CODES.bad_value, values::destination)?;
        Some((Arc::from(item.string()?), port))
    });
    let protocol = fields.required("protocol").and_then(protocol);
    let answerers = answerers(&fields);
    let (connect, port) = connect?;
    Some(Outbound { listen: listen?, connect, port, protocol: protocol?, answerers: answerers? })
}

fn answerers(fields: &Fields<'_>) -> Option<Answerers> {
    match (fields.optional("identities"), fields.optional("service")) {
        (Some(identities), None) => Some(Answerers::Listed(identities.each(spiffe_id)?.into())),
        (None, Some(service)) => service_name(service).map(Answerers::Service),
        (Some(_), Some(service)) => {
            let reported = service.error(TWICE, "`outbound` has both `identities` and `service`");
            reported.help("keep one of them: the identities of a Service stand in the policy");
            None
        }
        (None, None) => {
            let reported = fields.item().error(CODES.missing_key, "`outbound` has neither `identities` nor `service`");
            reported.help("add `identities: […]` with who may answer, or `service: NAME` to have the policy say it");
            None
        }
    }
}

/// `NAME`, or `{name: NAME, namespace: NAMESPACE}`.
fn service_name(item: Item<'_>) -> Option<ServiceName> {
    if !item.is_mapping() {
        return Some(ServiceName { namespace: None, name: word(item)? });
    }
    let fields = item.fields(&["name", "namespace"])?;
    let name = fields.required("name").and_then(word);
    let namespace = fields.optional("namespace").map_or(Some(None), |item| word(item).map(Some));
    Some(ServiceName { namespace: namespace?, name: name? })
}

/// A part of a Service's name. What else a name must be is said where the Service is defined.
fn word(item: Item<'_>) -> Option<Arc<str>> {
    let text = item.string()?;
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Some(text.into());
    }
    let reported = item.error(CODES.bad_value, format!("{} cannot be the name of a Service", quoted(text)));
    reported.help("write `service: NAME`, or `service: {name: NAME, namespace: NAMESPACE}`");
    None
}

fn listener(fields: &Fields<'_>, key: &'static str, default: SocketAddr) -> Option<SocketAddr> {
    let Some(item) = fields.optional(key) else { return Some(default) };
    item.fields(&["listen"])?.required("listen").and_then(address)
}

fn workers(item: Option<Item<'_>>) -> Option<NonZeroUsize> {
    let auto = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let Some(item) = item else { return Some(auto()) };
    if item.text()? == "auto" {
        return Some(auto());
    }
    let count = item.integer(1..=256)?;
    usize::try_from(count).ok().and_then(NonZeroUsize::new)
}

/// Every listener that could be read, with its name.
type Listening = Vec<(&'static str, SocketAddr)>;

/// Listeners that would take each other's connections, and forwards into ourselves.
fn check_addresses(listening: &Listening, inbound: &[Inbound], root: Item<'_>) {
    for (index, (name, address)) in listening.iter().enumerate() {
        let earlier = listening.iter().take(index).find(|(_, other)| values::overlap(*address, *other));
        if let Some((other, _)) = earlier {
            let message = format!("`{name}` and `{other}` both listen on {address}");
            root.error(TWICE, message).help("give each listener an address of its own");
        }
    }
    for inbound in inbound {
        if let Some((name, _)) = listening.iter().find(|(_, own)| values::overlap(inbound.forward, *own)) {
            let message = format!("`forward: {}` leads back to our own `{name}` listener", inbound.forward);
            root.error(LOOP, message).help("name the address of the application");
        }
    }
}

fn protocol(item: Item<'_>) -> Option<Protocol> {
    item.choice(&Protocol::ALL.map(|protocol| (protocol.label(), protocol)))
}

fn optional_list<T>(
    fields: &Fields<'_>,
    key: &'static str,
    convert: impl FnMut(Item<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    fields.optional(key).map_or(Some(Vec::new()), |item| item.each(convert))
}

fn path(item: Item<'_>) -> Option<PathBuf> {
    item.string().map(PathBuf::from)
}

fn address(item: Item<'_>) -> Option<SocketAddr> {
    item.parsed(CODES.bad_value, values::address)
}

fn spiffe_id(item: Item<'_>) -> Option<SpiffeId> {
    let id = item.parsed(CODES.bad_value, |text| {
        SpiffeId::new(text).map_err(|error| format!("`{text}` is no SPIFFE ID: {error}"))
    })?;
    if id.path().is_empty() {
        let reported = item.error(CODES.bad_value, format!("`{id}` names a trust domain, not a workload"));
        reported.help("add the path, such as /ns/NAMESPACE/sa/SERVICEACCOUNT");
        return None;
    }
    Some(id)
}

fn not_yet(item: Item<'_>) {
    let message = format!("`{}` is not supported by this version", item.name());
    item.error(UNSUPPORTED, message).help("leave the key out: ignoring it in silence could weaken what you rely on");
}

const ROOT: [&str; 15] = [
    "identity", "trust", "denyList", "policy", "inbound", "outbound", "capture", "workers", "timeouts", "limits",
    "admin", "metrics", "health", "logs", "tracing",
];
const NOT_YET: [&str; 1] = ["capture"];

const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 15000);
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 15020);
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 15021);

const TOO_MANY: &str = "C015";
const TWICE: &str = "C016";
const LOOP: &str = "C017";
const ADMIN_ELSEWHERE: &str = "C018";
const OUTBOUND_ELSEWHERE: &str = "C019";
const NOTHING_TO_DO: &str = "C020";
const UNSUPPORTED: &str = "C021";
// C022 is a rule of the policy that cannot mean what it says.
const KEYS_ELSEWHERE: &str = "C023";
const ALLOWS_BY_DEFAULT: &str = "C024";
const DECIDES_SLASHES: &str = "C025";
static CODES: Codes = Codes {
    encoding: "C001",
    too_large: "C002",
    hidden: "C003",
    syntax: "C004",
    too_deep: "C005",
    refused_feature: "C006",
    duplicate_key: "C007",
    bad_key: "C008",
    unknown_key: "C009",
    missing_key: "C010",
    wrong_kind: "C011",
    empty: "C012",
    ambiguous: "C013",
    bad_value: "C014",
};
