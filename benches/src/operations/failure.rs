//! Why an operation cannot be measured.

use std::io;

use portcullis::ca;
use portcullis::tls::Unable;
use portcullis_certs_watcher::PeerError;
use portcullis_certs_watcher::certificate::MalformedCertificate;
use portcullis_certs_watcher::svid::SvidError;
use portcullis_policy::diagnostic::Diagnostics;
use portcullis_policy::path::PathError;

/// See the module. None of these is expected: the operation or the product is broken.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No certificates could be made.
    #[error("the throw-away certificates could not be made")]
    Authority(#[from] ca::Error),
    /// They made no bundle.
    #[error("the throw-away certificates made no bundle")]
    Bundle(#[from] portcullis_certs_watcher::TrustError),
    /// An identity is none.
    #[error("an identity of the operation is malformed")]
    Identity(#[from] spiffe::SpiffeIdError),
    /// A file or an in-memory stream failed.
    #[error("reading or writing failed")]
    Io(#[from] io::Error),
    /// The sidecar's TLS has no credentials.
    #[error("the sidecar's credentials could not be used")]
    Unable(#[from] Unable),
    /// rustls refused.
    #[error("TLS failed")]
    Tls(#[from] rustls::Error),
    /// A certificate is malformed.
    #[error("a throw-away certificate cannot be parsed")]
    Malformed(#[from] MalformedCertificate),
    /// A leaf is no SVID.
    #[error("a throw-away certificate is no SVID")]
    Svid(#[from] SvidError),
    /// A peer was refused.
    #[error("a peer was refused")]
    Peer(#[from] PeerError),
    /// The documents hold mistakes.
    #[error("the operation's policy has mistakes: {0}")]
    Policy(Diagnostics),
    /// A path was refused.
    #[error("a path was refused")]
    Path(#[from] PathError),
    /// It ran, and gave something else than it should.
    #[error("the operation gave something else than it should: {0}")]
    Wrong(&'static str),
}
