//! Destinations of outbound traffic: the hosts, addresses and ports of a Service, and who may answer for it.
//!
//! A host or address range and a port belong to one Service at most, or the documents do not load. Where one claim lies
//! within another the narrower one counts, so that no answer depends on an order.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use spiffe::SpiffeId;

use crate::request::bare_host;
use crate::rules::Origin;

/// What an application speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC, that is HTTP/2 with prior knowledge.
    Grpc,
    /// gRPC goes on as HTTP/2, the rest as HTTP/1.1.
    Auto,
    /// Opaque bytes.
    Tcp,
}

impl Protocol {
    /// Every one of them.
    pub const ALL: [Self; 5] = [Self::Http, Self::Http2, Self::Grpc, Self::Auto, Self::Tcp];

    /// The word in configuration and documents.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Auto => "auto",
            Self::Tcp => "tcp",
        }
    }
}

/// What a Service is called: once in its namespace, or once among those without.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// The namespace; without one it is for all.
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceName {
    /// `namespace/name`, or the name alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// A host as a Service has it, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServiceHost {
    Exact(Box<str>),
    /// `*.example.com`: one label or more before the suffix, which is kept with its leading dot.
    Below(Box<str>),
}

impl fmt::Display for ServiceHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub(crate) name: ServiceName,
    pub(crate) origin: Origin,
    pub(crate) hosts: Vec<ServiceHost>,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) ports: BTreeMap<u16, Protocol>,
    pub(crate) identities: Arc<[SpiffeId]>,
}

impl Service {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// Where it is written.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its ports with what is spoken on each, in their order.
    pub fn ports(&self) -> impl Iterator<Item = (u16, Protocol)> {
        self.ports.iter().map(|(port, protocol)| (*port, *protocol))
    }

    /// What is spoken on one of its ports; `None` for a port that it does not have.
    #[must_use]
    pub fn protocol(&self, port: u16) -> Option<Protocol> {
        self.ports.get(&port).copied()
    }

    /// Who may answer for it: sorted, each once, never empty.
    #[must_use]
    pub fn identities(&self) -> &Arc<[SpiffeId]> {
        &self.identities
    }
}

/// All Services of a set of documents.
#[derive(Debug, Default)]
pub struct Services {
    /// Sorted by name.
    all: Vec<Service>,
    /// By exact host in lower case.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By suffix in lower case, with its leading dot.
    below: HashMap<Box<str>, Vec<usize>>,
    /// By address range, the longest prefixes first.
    networks: BTreeMap<Reverse<u8>, HashMap<IpNet, Vec<usize>>>,
}

impl Services {
    pub(crate) fn new(mut all: Vec<Service>) -> Self {
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let mut services = Self::default();
        for (number, service) in all.iter().enumerate() {
            for host in &service.hosts {
                let claimed = match host {
                    ServiceHost::Exact(host) => services.exact.entry(host.clone()),
                    ServiceHost::Below(suffix) => services.below.entry(suffix.clone()),
                };
                claimed.or_default().push(number);
            }
            for network in &service.addresses {
                let of_length = services.networks.entry(Reverse(network.prefix_len())).or_default();
                of_length.entry(*network).or_default().push(number);
            }
        }
        services.all = all;
        services
    }

    /// All of them, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.all.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The Service of this name.
    #[must_use]
    pub fn by_name(&self, name: &ServiceName) -> Option<&Service> {
        let at = self.all.binary_search_by(|service| service.name.cmp(name)).ok()?;
        self.all.get(at)
    }

    /// The Service that has `host` on `port`, for HTTP: case, a port in `host` and a trailing dot do not count. An exact
    /// host counts before a wildcard, and a longer wildcard before a shorter one. A host that is an address is looked up as
    /// one.
    #[must_use]
    pub fn by_host(&self, host: &str, port: u16) -> Option<&Service> {
        let host = bare_host(host);
        // No longer one can be claimed, and each of its dots costs a look.
        if host.len() > MAX_HOST_BYTES {
            return None;
        }
        if let Some(address) = as_address(host) {
            return self.by_address(address, port);
        }
        let host = match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(host.to_ascii_lowercase()),
            false => Cow::Borrowed(host),
        };
        self.with_port(self.exact.get(&*host), port).or_else(|| self.by_suffix(&host, port))
    }

    /// The Service that has `address` on `port`, for opaque TCP: of several address ranges the longest prefix counts. An IPv4
    /// address in IPv6 form counts as IPv4.
    #[must_use]
    pub fn by_address(&self, address: IpAddr, port: u16) -> Option<&Service> {
        self.within(address.to_canonical(), u8::MAX, port)
    }

    /// The Service out of whose wildcard `host` is taken on `port`.
    pub(crate) fn around_host(&self, host: &ServiceHost, port: u16) -> Option<&Service> {
        match host {
            ServiceHost::Exact(name) | ServiceHost::Below(name) => self.by_suffix(name, port),
        }
    }

    /// The Service out of whose address range `network` is taken on `port`.
    pub(crate) fn around_network(&self, network: &IpNet, port: u16) -> Option<&Service> {
        let longest = network.prefix_len().checked_sub(1)?;
        self.within(network.addr(), longest, port)
    }

    /// By the longest suffix that begins with a dot and is not all of `host`.
    fn by_suffix(&self, host: &str, port: u16) -> Option<&Service> {
        let suffixes = host.match_indices('.').filter(|(at, _)| *at > 0).filter_map(|(at, _)| host.get(at..));
        suffixes.filter_map(|suffix| self.with_port(self.below.get(suffix), port)).next()
    }

    fn within(&self, address: IpAddr, longest: u8, port: u16) -> Option<&Service> {
        let shorter = self.networks.range(Reverse(longest)..);
        let ranges = shorter.filter_map(|(Reverse(length), networks)| {
            // An IPv4 address has no range of an IPv6 length.
            let network = IpNet::new(address, *length).ok()?.trunc();
            self.with_port(networks.get(&network), port)
        });
        { ranges }.next()
    }

    fn with_port(&self, claimed: Option<&Vec<usize>>, port: u16) -> Option<&Service> {
        let services = claimed?.iter().filter_map(|number| self.all.get(*number));
        { services }.find(|service| service.ports.contains_key(&port))
    }
}

/// The address that a host is, in URI syntax: IPv6 in brackets.
pub(crate) fn as_address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

/// What a name in DNS may have (RFC 1035 section 2.3.4).
pub(crate) const MAX_HOST_BYTES: usize = 253;
