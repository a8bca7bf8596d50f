//! Whether the sidecar can serve, and if not, why: for `/readyz`, the ready metric and the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;
use rustls_pki_types::UnixTime;

use crate::config::of_service;
use crate::drain::Phase;
use crate::sideband::{Document, Pages};
use crate::sidecar::Sidecar;

/// Whether a policy is needed before the sidecar is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyNeed {
    /// There is an inbound listener, or an outbound one for a Service.
    Needed,
    /// There is nothing that a policy says.
    NotNeeded,
}

/// Everything that keeps the sidecar from being ready; nothing when it is.
pub fn obstacles(sidecar: &Sidecar, policy: PolicyNeed, now: UnixTime) -> Vec<String> {
    let mut obstacles = Vec::new();
    if sidecar.tasks.phase() > Phase::Serving {
        obstacles.push("shutting down".to_owned());
    }
    if let Err(not_ready) = sidecar.tls.credentials().snapshot().ready(now) {
        obstacles.push(not_ready.to_string());
    }
    match sidecar.policy.current() {
        // A name that was never right keeps a new pod from being rolled out. A Service that is taken away later fails its
        // own requests only: documents are shared by a fleet, and one deleted by mistake must not take out all of it.
        Some(_) if !sidecar.services_were_defined.load(Ordering::Relaxed) => {
            let undefined = undefined_services(sidecar);
            sidecar.services_were_defined.store(undefined.is_empty(), Ordering::Relaxed);
            obstacles.extend(undefined);
        }
        Some(_) => {}
        None if policy == PolicyNeed::Needed => {
            let problem = sidecar.policy.problem();
            let problem = problem.as_ref().map_or("it has not been loaded yet", |problem| problem.as_str());
            obstacles.push(format!("policy: {problem}"));
        }
        None => {}
    }
    obstacles
}

/// The Services that outbound listeners name and the policy in force does not define.
pub fn undefined_services(sidecar: &Sidecar) -> Vec<String> {
    let Some(loaded) = sidecar.policy.current() else { return Vec::new() };
    let undefined = sidecar.services.iter().filter_map(|service| of_service(service, Some(&loaded.policy)).err());
    undefined.map(|undefined| format!("service: {undefined}")).collect()
}

/// The pages of the health listener.
pub fn pages(sidecar: Arc<Sidecar>, policy: PolicyNeed) -> Pages {
    Arc::new(move |path| match path {
        // The process answers, so it lives. A restart would not bring certificates or policy.
        "/livez" => Document::text(StatusCode::OK, "ok\n"),
        "/readyz" => match obstacles(&sidecar, policy, UnixTime::now()).as_slice() {
            [] => Document::text(StatusCode::OK, "ok\n"),
            obstacles => {
                Document::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", obstacles.join("\n")))
            }
        },
        _ => Document::not_found(),
    })
}
