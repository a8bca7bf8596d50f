//! Two workloads of one trust domain, with the credentials that their sidecars would hold: three tiers of P-256.
//!
//! Everything is loaded and proven by the watcher itself, from files that are gone again before anything is measured.

use std::path::Path;
use std::sync::Arc;

use portcullis::ca::{Authority, Intermediate, IntermediateOptions, Layout, LeafOptions, RootOptions};
use portcullis_certs_watcher::{Credentials, Material, Pace, Sources, Trust, TrustSource, Watcher, system_clock};
use spiffe::{SpiffeId, TrustDomain};

use super::Failure;

/// See the module.
pub struct Mesh {
    /// Who is called.
    pub api: Workload,
    /// Who calls.
    pub caller: Workload,
}

/// One workload.
pub struct Workload {
    /// Who it is.
    pub id: SpiffeId,
    /// What its sidecar holds.
    pub credentials: Credentials,
}

impl Mesh {
    /// A mesh below a root of its own.
    pub fn new() -> Result<Self, Failure> {
        let domain = TrustDomain::new("prod.health.internal")?;
        let root = Authority::in_memory(&RootOptions::default())?;
        let intermediate = root.create_intermediate("prod", &domain, &IntermediateOptions::default())?;
        let files = tempfile::tempdir()?;
        let bundle = files.path().join("root.pem");
        std::fs::write(&bundle, root.certificate_pem())?;
        let trust = TrustSource::new(domain, bundle);
        let workload = |path: &str| Workload::load(path, &intermediate, files.path(), &trust);
        Ok(Self { api: workload("ns/eligibility/sa/api")?, caller: workload("ns/claims/sa/adjudicator")? })
    }
}

impl Workload {
    fn load(path: &str, issuer: &Intermediate, files: &Path, trust: &TrustSource) -> Result<Self, Failure> {
        let id = SpiffeId::new(format!("spiffe://{}/{path}", issuer.trust_domain()))?;
        let identity = files.join(path);
        issuer.issue(&id, &LeafOptions::default())?.write(&identity, Layout::Kubelet)?;
        let sources = Sources {
            identity: identity.into(),
            expected: Some(id.clone()),
            trust: vec![trust.clone()],
            deny_list: None,
        };
        // The first load is all that is wanted of it.
        let (_, credentials) = Watcher::new(sources, Pace::default(), system_clock(), Box::new(|_| {}));
        Ok(Self { id, credentials })
    }

    /// What it presents.
    pub fn material(&self) -> Result<Arc<Material>, Failure> {
        self.credentials.snapshot().material.clone().ok_or(Failure::Wrong("the watcher published no identity"))
    }

    /// Whom it believes.
    pub fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.credentials.snapshot().trust)
    }
}
