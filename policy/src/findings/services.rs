//! Services: what is taken out of another's hosts or addresses, what nothing can find, and what a sidecar lacks.

use super::{NOT_DEFINED, Notes, Sidecar, TAKEN_OUT, UNFINDABLE};
use crate::diagnostic::{Diagnostic, Severity, nearest, quoted};
use crate::service::{Protocol, Service, Services};

pub(super) fn judge(notes: &mut Notes<'_>, services: &Services) {
    for service in services.iter() {
        let opaque = service.ports().find(|(_, protocol)| *protocol == Protocol::Tcp);
        if let (Some((port, _)), true) = (opaque, service.addresses.is_empty()) {
            let message = format!("Service `{}` has opaque TCP on port {port} and no addresses", service.name());
            notes.add(Severity::Note, UNFINDABLE, service.origin(), message);
        }
        for (claimed, port, around) in taken_out(service, services) {
            let message = format!(
                "Service `{}` takes {} on port {port} out of Service `{}` ({})",
                service.name(),
                quoted(&claimed),
                around.name(),
                around.origin()
            );
            notes.add(Severity::Note, TAKEN_OUT, service.origin(), message);
        }
    }
}

/// Services that a sidecar's configuration names and no document defines.
pub(super) fn judge_sidecar(notes: &mut Notes<'_>, services: &Services, sidecar: &Sidecar) {
    let known: Vec<String> = services.iter().map(|service| service.name().to_string()).collect();
    for missing in sidecar.services.iter().filter(|name| services.by_name(name).is_none()) {
        let message = format!("no document defines the Service `{missing}`, which the sidecar's configuration names");
        let found = Diagnostic::of_all_files(Severity::Warning, NOT_DEFINED, message);
        notes.found.push(match nearest(&missing.to_string(), known.iter().map(String::as_str)) {
            Some(name) => found.help(format!("did you mean {}?", quoted(name))),
            None => found.help("define it with `kind: Service`, or correct the configuration"),
        });
    }
}

/// Each host and address range of `service` that lies within one of another Service, with the first port for which that
/// matters.
fn taken_out<'a>(service: &'a Service, services: &'a Services) -> impl Iterator<Item = (String, u16, &'a Service)> {
    let first = |claimed: String, around: &dyn Fn(u16) -> Option<&'a Service>| {
        let mut around = service.ports().filter_map(|(port, _)| Some((port, around(port)?)));
        let (port, around) = around.find(|(_, around)| around.name() != service.name())?;
        Some((claimed, port, around))
    };
    let hosts = service.hosts.iter();
    let hosts = hosts.filter_map(move |host| first(host.to_string(), &|port| services.around_host(host, port)));
    let networks = service.addresses.iter();
    let networks =
        networks.filter_map(move |network| first(network.to_string(), &|port| services.around_network(network, port)));
    hosts.chain(networks)
}
