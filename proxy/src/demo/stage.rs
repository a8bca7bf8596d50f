//! The set-up: certificates, the service, and a sidecar for it and for its caller.

use std::fs;
use std::path::{Path, PathBuf};

use super::adjudicator::Adjudicator;
use super::client::Caller;
use super::error::DemoError;
use super::narrator::{Narrator, Seen};
use super::pki::{PROD, Pki};
use super::place::{Place, failed};
use super::service::Service;
use super::sidecar::{Plan, Side, Sidecar};
use crate::drain::Tasks;

/// See the module.
pub(super) struct Stage {
    pub dir: PathBuf,
    pub tasks: Tasks,
    pub pki: Pki,
    /// The sidecar of the service.
    pub callee: Sidecar,
    /// The sidecar of the claims adjudicator.
    pub caller: Sidecar,
    /// The service that calls.
    pub adjudicator: Adjudicator,
    /// Last, so that the sidecars are stopped before what they protect.
    pub service: Service,
}

impl Stage {
    pub(super) async fn build(place: &Place, tasks: Tasks, narrator: &mut Narrator<'_>) -> Result<Self, DemoError> {
        narrator.step(
            "The stage",
            "A root, an intermediate for each of two environments, a leaf for each workload; the services\n\
             \"claims adjudicator\" and \"eligibility\", and a sidecar for each, started from its file.",
        );
        let dir = place.dir().to_owned();
        let pki = Pki::make(&dir)?;
        pki.issue(&pki.eligibility, &dir, CALLEE)?;
        pki.issue(&pki.adjudicator, &dir, CALLER)?;
        let service = Service::start()?;
        write_policy(&dir, service.address.port(), COVERAGE)?;
        let trust = [(PROD, pki.trust_prod.as_path())];
        let policy = policy_dir(&dir);
        let side = Side::Inbound { forward: service.address, policy: &policy };
        let callee = Sidecar::start(&Plan { name: CALLEE, dir: &dir, trust: &trust, side }).await?;
        let side = Side::Outbound { connect: callee.inbound()?, identity: &pki.eligibility };
        let caller = Sidecar::start(&Plan { name: CALLER, dir: &dir, trust: &trust, side }).await?;
        let text = format!(
            "{} for {} on {}; {} for {} on {}",
            callee.name,
            pki.eligibility,
            callee.inbound()?,
            caller.name,
            pki.adjudicator,
            caller.outbound()?
        );
        narrator.promise("both sidecars are ready", Seen { as_promised: true, text });
        let adjudicator = Adjudicator::start(caller.outbound()?)?;
        Ok(Self { dir, tasks, pki, callee, caller, adjudicator, service })
    }

    /// A connection of the claims adjudicator to its own sidecar.
    pub(super) async fn own_connection(&self) -> Result<Caller, DemoError> {
        Caller::connect(self.caller.outbound()?, &self.tasks).await
    }

    /// Puts a policy in force that lets the claims adjudicator read these paths.
    pub(super) fn allow_paths(&self, paths: &str) -> Result<(), DemoError> {
        write_policy(&self.dir, self.service.address.port(), paths)
    }

    /// What can be done with the directory afterwards.
    pub(super) fn by_hand(&self, program: &str) -> String {
        let (callee, caller) = (self.callee.config.display(), self.caller.config.display());
        let (service, dir) = (self.service.address.port(), self.dir.display());
        let outbound = self.caller.outbound().map(|address| address.to_string()).unwrap_or_default();
        format!(
            "To go on by hand, with any HTTP server on 127.0.0.1:{service} as the service:\n  \
             {program} run --config {callee}\n  \
             {program} run --config {caller}\n  \
             curl -i http://{outbound}/v1/members/42/coverage\n\
             Edit {dir}/policy/eligibility.yaml, and renew a certificate, which holds for 24 hours, with:\n  \
             {program} ca issue --dir {dir}/pki --id {id} --out {dir}/{CALLER}/identity --kubelet\n",
            id = self.pki.adjudicator,
        )
    }

    /// Stops everything.
    pub(super) fn end(self) {
        drop(self);
    }
}

fn policy_dir(dir: &Path) -> PathBuf {
    dir.join("policy")
}

fn write_policy(dir: &Path, port: u16, paths: &str) -> Result<(), DemoError> {
    let text = format!(
        "apiVersion: policy.portcullis.dev/v1\n\
         kind: AuthorizationPolicy\n\
         metadata: {{name: eligibility-api, namespace: eligibility}}\n\
         spec:\n  \
           target: {{identities: [spiffe://{PROD}/ns/eligibility/sa/api]}}\n  \
           allow:\n    \
             - name: {ALLOW_RULE}\n      \
               from: {{identities: [spiffe://{PROD}/ns/claims/sa/adjudicator]}}\n      \
               to: {{ports: [{port}], methods: [GET, HEAD], paths: [\"{paths}\"]}}\n    \
             - name: adjudicator-asks-for-checks\n      \
               from: {{identities: [spiffe://{PROD}/ns/claims/sa/adjudicator]}}\n      \
               to: {{ports: [{port}], methods: [POST], paths: [\"{CHECKS}\"]}}\n  \
           deny:\n    \
             - name: {DENY_RULE}\n      \
               from: {{notIdentitySets: [operators]}}\n      \
               to: {{paths: [\"/admin/**\"]}}\n\
         ---\n\
         apiVersion: policy.portcullis.dev/v1\n\
         kind: IdentitySet\n\
         metadata: {{name: operators}}\n\
         spec: {{identities: [\"spiffe://{PROD}/ns/ops/sa/*\"]}}\n"
    );
    // A plain file: in a kubelet volume an editor that replaces it would leave a file behind that nobody reads.
    let policy = policy_dir(dir);
    let file = policy.join("eligibility.yaml");
    let written = fs::create_dir_all(&policy).and_then(|()| fs::write(&file, text));
    written.map_err(|source| failed("write", &file, source))
}

pub(super) const CALLEE: &str = "eligibility";
pub(super) const CALLER: &str = "claims";
/// The rule that allows.
pub(super) const ALLOW_RULE: &str = "adjudicator-reads";
/// The rule that denies.
pub(super) const DENY_RULE: &str = "only-operators-administer";
/// What the claims adjudicator may read at first.
pub(super) const COVERAGE: &str = "/v1/members/{id}/coverage";
/// What it may read after the edit.
pub(super) const PLANS: &str = "/v1/plans/**";
/// What it may post to.
pub(super) const CHECKS: &str = "/v1/checks";
/// What it reads.
pub(super) const PATH: &str = "/v1/members/42/coverage";
