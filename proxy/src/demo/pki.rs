//! The three tiers of certificates: a root, an intermediate for each environment, and leaves.

use std::fs;
use std::path::{Path, PathBuf};

use spiffe::{SpiffeId, TrustDomain};

use super::error::DemoError;
use super::place::failed;
use super::sidecar::Sidecar;
use crate::ca::{Authority, Intermediate, IntermediateOptions, Layout, Leaf, LeafOptions, RootOptions};

pub(super) const PROD: &str = "prod.health.internal";
pub(super) const DEV: &str = "dev.health.internal";

/// See the module.
pub(super) struct Pki {
    pub prod: Intermediate,
    pub dev: Intermediate,
    /// The service.
    pub eligibility: SpiffeId,
    /// Its caller.
    pub adjudicator: SpiffeId,
    /// The same workload in another environment.
    pub foreign: SpiffeId,
    /// The bundle of `prod`: its intermediate, so that no other intermediate below the root can speak for it.
    pub trust_prod: PathBuf,
    /// The bundle of `dev`.
    pub trust_dev: PathBuf,
    /// A bundle that takes either intermediate: what a forger gives its own sidecar.
    pub trust_either: PathBuf,
}

impl Pki {
    pub(super) fn make(dir: &Path) -> Result<Self, DemoError> {
        let root = Authority::init(&dir.join("pki"), &RootOptions::default())?;
        let make = |name, domain| -> Result<Intermediate, DemoError> {
            Ok(root.create_intermediate(name, &TrustDomain::new(domain)?, &IntermediateOptions::default())?)
        };
        let (prod, dev) = (make("prod", PROD)?, make("dev", DEV)?);
        let trust = dir.join("trust");
        fs::create_dir(&trust).map_err(|source| failed("create", &trust, source))?;
        let write = |name: &str, text: String| {
            let path = trust.join(name);
            fs::write(&path, text).map_err(|source| failed("write", &path, source))?;
            Ok::<_, DemoError>(path)
        };
        Ok(Self {
            trust_prod: write("prod.crt", prod.certificate_pem())?,
            trust_dev: write("dev.crt", dev.certificate_pem())?,
            trust_either: write("forger.crt", prod.certificate_pem() + &dev.certificate_pem())?,
            prod,
            dev,
            eligibility: SpiffeId::new(format!("spiffe://{PROD}/ns/eligibility/sa/api"))?,
            adjudicator: SpiffeId::new(format!("spiffe://{PROD}/ns/claims/sa/adjudicator"))?,
            foreign: SpiffeId::new(format!("spiffe://{DEV}/ns/claims/sa/adjudicator"))?,
        })
    }

    /// A new leaf in the identity volume of a sidecar, exchanged whole, as the kubelet does it.
    pub(super) fn issue(&self, id: &SpiffeId, dir: &Path, name: &str) -> Result<Leaf, DemoError> {
        let issuer = if id.trust_domain() == self.dev.trust_domain() { &self.dev } else { &self.prod };
        place(issuer.issue(id, &LeafOptions::default())?, dir, name)
    }

    /// A leaf that says to be of `prod` and is signed by `dev`, which an honest authority refuses to do.
    pub(super) fn forge(&self, id: &SpiffeId, dir: &Path, name: &str) -> Result<Leaf, DemoError> {
        place(self.dev.issue_unchecked(&[&id.to_string()], &LeafOptions::default())?, dir, name)
    }
}

fn place(leaf: Leaf, dir: &Path, name: &str) -> Result<Leaf, DemoError> {
    leaf.write(&Sidecar::identity_dir(dir, name), Layout::Kubelet)?;
    Ok(leaf)
}
