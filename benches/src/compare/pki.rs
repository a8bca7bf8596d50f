//! The certificates of a comparison: root, intermediate, leaf, all P-256, made with Portcullis' own authority.
//!
//! All proxies get the same: a leaf with a SPIFFE ID, and beside it a DNS name and an address for those that know no
//! SPIFFE ID. Every proxy has a directory of its own, laid out as the kubelet does, so that it can be swapped.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use portcullis::ca::{self, Authority, Intermediate, IntermediateOptions, Layout, LeafOptions, RootOptions};
use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};

/// The authority and the names.
pub struct Pki {
    issuer: Intermediate,
    directory: PathBuf,
    /// Directory with `tls.crt` and `tls.key` of the caller: the generator, and sidecars beside it.
    pub caller: PathBuf,
}

/// Who a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// The called service.
    Server,
    /// Who calls it.
    Caller,
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A name will not do.
    #[error("a name of the comparison's workloads is not a SPIFFE ID")]
    Name(#[from] SpiffeIdError),
    /// The authority failed.
    #[error("the comparison's certificates cannot be made")]
    Authority(#[from] ca::Error),
}

impl Pki {
    /// Makes root and intermediate in this directory, which must not exist, and the caller's leaf.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn make(directory: &Path) -> Result<Self, PkiError> {
        let root = Authority::init(directory, &RootOptions::default())?;
        let domain = TrustDomain::new(TRUST_DOMAIN)?;
        let issuer = root.create_intermediate(ENVIRONMENT, &domain, &IntermediateOptions::default())?;
        let made = Self { issuer, directory: directory.to_owned(), caller: directory.join("caller") };
        made.issue(Workload::Caller, &made.caller)?;
        Ok(made)
    }

    /// Writes a new leaf and its key to a directory.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn issue(&self, workload: Workload, directory: &Path) -> Result<(), PkiError> {
        let options = LeafOptions {
            dns_names: vec![workload.dns_name().to_owned()],
            ip_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            ..LeafOptions::default()
        };
        let leaf = self.issuer.issue(&SpiffeId::new(workload.id())?, &options)?;
        Ok(leaf.write(directory, Layout::Kubelet)?)
    }

    /// The root's certificate: the one trust anchor.
    pub fn trust(&self) -> PathBuf {
        self.directory.join("root.crt")
    }

    /// The directory of the authority, for whoever issues more leaves.
    pub fn authority(&self) -> &Path {
        &self.directory
    }
}

impl Workload {
    /// Its SPIFFE ID.
    pub fn id(self) -> &'static str {
        match self {
            Self::Server => "spiffe://bench.internal/ns/bench/sa/server",
            Self::Caller => "spiffe://bench.internal/ns/bench/sa/caller",
        }
    }

    /// Its DNS name.
    pub fn dns_name(self) -> &'static str {
        match self {
            Self::Server => "server.bench.internal",
            Self::Caller => "caller.bench.internal",
        }
    }
}

/// The environment that the authority signs for.
pub const ENVIRONMENT: &str = "bench";

const TRUST_DOMAIN: &str = "bench.internal";
