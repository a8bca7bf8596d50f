//! Whether the sidecar can serve, and if not, why: for `/readyz`, the ready metric and the log.

use std::sync::Arc;

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
        Some(loaded) => {
            let undefined =
                sidecar.services.iter().filter_map(|service| of_service(service, Some(&loaded.policy)).err());
            obstacles.extend(undefined.map(|undefined| format!("service: {undefined}")));
        }
        None if policy == PolicyNeed::Needed => {
            let problem = sidecar.policy.problem();
            let problem = problem.as_ref().map_or("it has not been loaded yet", |problem| problem.as_str());
            obstacles.push(format!("policy: {problem}"));
        }
        None => {}
    }
    obstacles
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
