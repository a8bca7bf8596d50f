//! `Service`: which hosts, addresses and ports a destination has, and who may answer for it.
//!
//! Whoever may answer can impersonate the destination, so identities are named one by one: a pattern would hand that to
//! every workload that comes to match it.

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;
use spiffe::SpiffeId;

use super::authorization::namespace;
use super::collector::{Findings, Place, Set};
use super::matching::{self, network};
use super::{
    BAD_HOST, CLAIMED_TWICE, CODES, Collector, DOCUMENT_KEYS, NOBODY_ANSWERS, NOT_OF_NAMESPACE, NOWHERE,
    PATTERN_ANSWERS, PORT_TWICE, name, report_identity,
};
use crate::diagnostic::quoted;
use crate::document::{Fields, Item};
use crate::identity::{IdentityPattern, in_namespace};
use crate::matchers::HostPattern;
use crate::rules::{Origin, SetRef};
use crate::service::{MAX_HOST_BYTES, Protocol, Service, ServiceHost, ServiceName, Services, as_address};
use crate::source::Position;

/// A Service as it is written, with the places that may turn out to be wrong once all files are read.
pub(super) struct Declared {
    name: ServiceName,
    origin: Origin,
    hosts: Vec<(ServiceHost, Place)>,
    addresses: Vec<(IpNet, Place)>,
    ports: BTreeMap<u16, Protocol>,
    exact: Vec<SpiffeId>,
    sets: Vec<(SetRef, Place)>,
}

/// Reads one document.
pub(super) fn read(item: Item<'_>, collector: &mut Collector) {
    let Some(fields) = item.fields(DOCUMENT_KEYS) else { return };
    let metadata = fields.required("metadata").and_then(|metadata| metadata.fields(&["name", "namespace"]));
    let named = metadata.and_then(|metadata| metadata.required("name"));
    let in_namespace = metadata.and_then(|metadata| metadata.optional("namespace")).and_then(namespace);
    let called = named.and_then(name);
    if let (Some(named), Some(called)) = (named, called) {
        collector.take_name("Service", in_namespace, called, named.position());
    }
    let Some(spec) = fields.required("spec").and_then(|spec| spec.fields(&SPEC_KEYS)) else { return };
    let (hosts, addresses) = (spec.optional("hosts"), spec.optional("addresses"));
    if hosts.is_none() && addresses.is_none() {
        let reported = spec.item().error(NOWHERE, "the Service has neither `hosts` nor `addresses`");
        reported.help("say where it is: `hosts` for HTTP, `addresses` for opaque TCP");
    }
    // Every part is read before any of them may end the reading, so that all mistakes are found.
    let hosts = hosts.map(|list| list.each(|item| Some((host(item)?, collector.place(item.position())))));
    let addresses = addresses.map(|list| list.each(|item| Some((network(item)?, collector.place(item.position())))));
    let ports = spec.required("ports").and_then(ports);
    let answering = answering(spec, in_namespace, collector);
    let origin = collector.origin(named.map_or(item.position(), |named| named.position()));
    let declared = || {
        let (exact, sets) = answering?;
        let name = ServiceName { namespace: in_namespace.map(Into::into), name: called?.into() };
        let (hosts, addresses) = (hosts.unwrap_or(Some(Vec::new()))?, addresses.unwrap_or(Some(Vec::new()))?);
        Some(Declared { name, origin, hosts, addresses, ports: ports?, exact, sets })
    };
    if let Some(declared) = declared() {
        collector.services.push(declared);
    }
}

fn host(item: Item<'_>) -> Option<ServiceHost> {
    let text = item.string()?;
    if let Some(address) = as_address(text) {
        let reported = item.error(BAD_HOST, format!("{} is an address, not a host", quoted(text)));
        reported.help(format!("write `{address}` under `addresses`: a request for it is looked up there"));
        return None;
    }
    if text.len() > MAX_HOST_BYTES {
        let message =
            format!("the host has {} characters, and no name in DNS has more than {MAX_HOST_BYTES}", text.len());
        item.error(BAD_HOST, message).help("shorten it");
        return None;
    }
    match matching::host(item)? {
        HostPattern::Exact(host) => Some(ServiceHost::Exact(host)),
        HostPattern::Below(suffix) => Some(ServiceHost::Below(suffix)),
        HostPattern::Text(text) => {
            item.error(BAD_HOST, format!("{} is not how a Service names a host", quoted(&text.to_string())));
            None
        }
    }
}

fn ports(item: Item<'_>) -> Option<BTreeMap<u16, Protocol>> {
    let all = item.each(|item| {
        let fields = item.fields(&["port", "protocol"])?;
        let protocol =
            fields.required("protocol").and_then(|item| item.choice(&Protocol::ALL.map(|one| (one.label(), one))));
        let port = fields.required("port").and_then(|item| {
            let port = u16::try_from(item.integer(1..=65535)?).ok()?;
            Some((port, item))
        });
        let (port, at) = port?;
        Some((port, at, protocol?))
    })?;
    if all.len() > MAX_PORTS {
        let message = format!("the Service has {} ports, more than the {MAX_PORTS} that one may have", all.len());
        item.error(CODES.bad_value, message).help("split it into several Services");
        return None;
    }
    let mut ports: BTreeMap<u16, (Protocol, Position)> = BTreeMap::new();
    for (port, at, protocol) in all {
        let (_, first) = *ports.entry(port).or_insert((protocol, at.position()));
        if first != at.position() {
            let reported = at.error(PORT_TWICE, format!("the Service has the port {port} already"));
            reported.help(format!("remove one of the two; the other is at line {}", first.line));
        }
    }
    Some(ports.into_iter().map(|(port, (protocol, _))| (port, protocol)).collect())
}

/// Those who may answer: identities, and the sets that hold more of them.
type Answering = (Vec<SpiffeId>, Vec<(SetRef, Place)>);

fn answering(spec: Fields<'_>, in_namespace: Option<&str>, collector: &mut Collector) -> Option<Answering> {
    let (listed, sets) = (spec.optional("identities"), spec.optional("identitySets"));
    if listed.is_none() && sets.is_none() {
        let reported = spec.item().error(NOBODY_ANSWERS, "the Service has neither `identities` nor `identitySets`");
        reported.help("name the identities that may answer for it: nothing is sent to any other");
        return None;
    }
    let listed = listed.map(|list| list.each(|item| identity(item, in_namespace)));
    let sets = sets.map(|list| {
        list.each(|item| {
            let name = name(item)?;
            Some((collector.refer_to_set(name, item.position()), collector.place(item.position())))
        })
    });
    Some((listed.unwrap_or(Some(Vec::new()))?, sets.unwrap_or(Some(Vec::new()))?))
}

fn identity(item: Item<'_>, namespace: Option<&str>) -> Option<SpiffeId> {
    let pattern = IdentityPattern::parse(item.string()?).map_err(|error| report_identity(item, &error)).ok()?;
    let IdentityPattern::Exact(id) = pattern else {
        let message = "a pattern cannot answer for a Service";
        item.error(PATTERN_ANSWERS, message).help(PATTERN_HELP);
        return None;
    };
    if let Some(namespace) = namespace.filter(|namespace| !in_namespace(&id, namespace)) {
        let message = format!("this identity is outside the Service's namespace {}", quoted(namespace));
        item.error(NOT_OF_NAMESPACE, message).help(namespace_help(namespace));
        return None;
    }
    Some(id)
}

/// Makes the Services of all files, with what only all of them together can get wrong.
pub(super) fn finish(declared: Vec<Declared>, sets: &[Set], found: &mut Findings<'_, '_>) -> Services {
    contested(&declared, found);
    let services = declared.into_iter().map(|one| {
        let mut identities = one.exact;
        for (set, place) in one.sets {
            // One that no document defines has been reported where it is mentioned.
            let Some(set) = sets.get(set.0) else { continue };
            judge_set(set, place, one.name.namespace.as_deref(), found);
            identities.extend(set.set.members.exact.iter().cloned());
        }
        identities.sort_unstable();
        identities.dedup();
        Service {
            name: one.name,
            origin: one.origin,
            hosts: one.hosts.into_iter().map(|(host, _)| host).collect(),
            addresses: one.addresses.into_iter().map(|(network, _)| network).collect(),
            ports: one.ports,
            identities: identities.into(),
        }
    });
    Services::new(services.collect())
}

fn judge_set(set: &Set, place: Place, namespace: Option<&str>, found: &mut Findings<'_, '_>) {
    let name = quoted(&set.set.name);
    if let Some(pattern) = set.set.members.patterns.first() {
        let message =
            format!("the identity set {name} holds the pattern `{pattern}`, which cannot answer for a Service");
        found.error(PATTERN_ANSWERS, place, message, PATTERN_HELP);
    }
    let Some(namespace) = namespace else { return };
    if let Some(id) = set.set.members.exact.iter().find(|id| !in_namespace(id, namespace)) {
        let message =
            format!("the identity set {name} holds `{id}`, outside the Service's namespace {}", quoted(namespace));
        found.error(NOT_OF_NAMESPACE, place, message, namespace_help(namespace));
    }
}

/// Reports hosts and address ranges that two Services claim on the same port.
fn contested(declared: &[Declared], found: &mut Findings<'_, '_>) {
    // A host is never an address, so that both can be told apart by how they are written.
    let mut claims: BTreeMap<String, Vec<(&Declared, Place)>> = BTreeMap::new();
    for one in declared {
        let hosts = one.hosts.iter().map(|(host, place)| (host.to_string(), *place));
        let addresses = one.addresses.iter().map(|(network, place)| (network.to_string(), *place));
        for (claimed, place) in hosts.chain(addresses) {
            claims.entry(claimed).or_default().push((one, place));
        }
    }
    let mut first_on: HashMap<u16, (&Declared, Place)> = HashMap::new();
    for (claimed, by) in claims.iter().filter(|(_, by)| by.len() > 1) {
        first_on.clear();
        for (one, place) in by {
            let others = one.ports.keys().map(|port| (port, *first_on.entry(*port).or_insert((one, *place))));
            // Of Services with one name, that is what has to change.
            let other = { others }.find(|(_, (other, _))| other.name != one.name);
            if let Some((port, (other, first))) = other {
                let message = format!("the Service `{}` has {} on port {port}, too", other.name, quoted(claimed));
                let at = found.at(first);
                let help = format!(
                    "a host or address and a port belong to one Service: remove one of the two; the other is at {at}"
                );
                found.error(CLAIMED_TWICE, *place, message, help);
            }
        }
    }
}

fn namespace_help(namespace: &str) -> String {
    format!("only identities with /ns/{namespace}/ answer for it; leave `namespace` out for others")
}

const SPEC_KEYS: [&str; 5] = ["hosts", "addresses", "ports", "identities", "identitySets"];
const PATTERN_HELP: &str = "name each identity: whoever matches a pattern could impersonate the Service";

/// More than any Kubernetes Service has; each is checked for each host.
const MAX_PORTS: usize = 32;
