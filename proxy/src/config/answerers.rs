//! Who may answer at an outbound destination: identities that the configuration lists, or those of a Service.
//!
//! What a Service says is asked of the policy in force each time. Where there is none to ask, nobody may answer.

use std::sync::Arc;

use portcullis_policy::{Policy, ServiceName};
use spiffe::SpiffeId;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answerers {
    /// These identities; never empty.
    Listed(Arc<[SpiffeId]>),
    /// Those of this Service.
    Service(ServiceName),
}

/// Nobody may answer, because nobody says who.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchService {
    /// There is no policy.
    #[error("no policy is loaded that could say who may answer for the Service `{0}`")]
    NoPolicy(ServiceName),
    /// The policy in force does not know it.
    #[error(
        "the policy in force does not define the Service `{0}`: add it, or correct `service` of the outbound listener"
    )]
    Undefined(ServiceName),
}

impl NoSuchService {
    /// The fixed word for metrics, the access log and `x-portcullis-reason`.
    pub const LABEL: &'static str = "no_such_service";
}

/// The identities that may answer for a Service under `policy`.
///
/// # Errors
/// When `policy` does not define it, or there is no policy.
pub fn of_service(name: &ServiceName, policy: Option<&Policy>) -> Result<Arc<[SpiffeId]>, NoSuchService> {
    let policy = policy.ok_or_else(|| NoSuchService::NoPolicy(name.clone()))?;
    let service = policy.services().by_name(name).ok_or_else(|| NoSuchService::Undefined(name.clone()))?;
    Ok(Arc::clone(service.identities()))
}

impl Answerers {
    /// The identities that may answer under `policy`.
    ///
    /// # Errors
    /// When they are those of a Service that `policy` does not define, or there is no policy.
    pub fn under(&self, policy: Option<&Policy>) -> Result<Arc<[SpiffeId]>, NoSuchService> {
        match self {
            Self::Listed(identities) => Ok(Arc::clone(identities)),
            Self::Service(name) => of_service(name, policy),
        }
    }

    /// The Service, if it is one.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Listed(_) => None,
            Self::Service(name) => Some(name),
        }
    }
}
