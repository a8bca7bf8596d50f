//! The connections we open: to our application (plaintext, on this host) and to mesh peers (mTLS).
//!
//! [`pool::Pool`] keeps the HTTP connections of one destination for one worker; `dial` makes single ones, for opaque TCP.

pub mod budget;
pub mod dial;
pub mod lease;
pub mod open;
pub mod overheard;
pub mod pool;
pub mod repeat;
pub mod send;
pub mod severed;
mod stock;

use std::io;
use std::sync::Arc;

use portcullis_policy::ServiceName;

use crate::config::NoSuchService;
use crate::connections::Full;
use crate::tls::handshake::HandshakeError;

/// Why a request or connection did not get through to its upstream.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The name of the destination has no address.
    #[error("`{target}` could not be resolved")]
    Resolve {
        /// The configured destination.
        target: Arc<str>,
        /// What the resolver said.
        #[source]
        source: Arc<io::Error>,
    },
    /// No TCP connection.
    #[error("`{target}` could not be connected to")]
    Connect {
        /// The configured destination.
        target: Arc<str>,
        /// What the kernel said.
        #[source]
        source: Arc<io::Error>,
    },
    /// No TCP connection within the time allowed.
    #[error("`{target}` did not accept a connection in time")]
    ConnectTimeout {
        /// The configured destination.
        target: Arc<str>,
    },
    /// The TCP connection stands, the handshake with the peer failed.
    #[error("the TLS handshake with `{target}` failed")]
    Handshake {
        /// The configured destination.
        target: Arc<str>,
        /// Why.
        #[source]
        source: Arc<HandshakeError>,
    },
    /// The peer is proven, and is not one that may answer for the Service.
    #[error("`{target}` may not answer for the Service `{service}`")]
    NotOfService {
        /// The configured destination.
        target: Arc<str>,
        /// The Service.
        service: ServiceName,
        /// Who came, and who was expected.
        #[source]
        source: Arc<HandshakeError>,
    },
    /// Nobody may answer for the Service.
    #[error(transparent)]
    NoSuchService(#[from] NoSuchService),
    /// The sidecar has as many connections as it may.
    #[error("no connection to `{target}` may be opened")]
    Full {
        /// The configured destination.
        target: Arc<str>,
        /// Which limit.
        #[source]
        source: Full,
    },
    /// The HTTP exchange broke before the response's head was there.
    #[error("`{target}` broke off the exchange")]
    Exchange {
        /// The configured destination.
        target: Arc<str>,
        /// What the HTTP library said.
        #[source]
        source: Arc<hyper::Error>,
    },
    /// What allowed the connection to the peer ceased to hold while the exchange was in flight on it, and its grace is over.
    #[error("the call to `{target}` had to end: {cause}")]
    Condemned {
        /// The configured destination.
        target: Arc<str>,
        /// Why, as the re-check says it.
        cause: &'static str,
    },
    /// Every connection that was opened closed again at once.
    #[error("`{target}` closes every connection at once")]
    Closed {
        /// The configured destination.
        target: Arc<str>,
    },
    /// No response head within the time allowed.
    #[error("`{target}` sent no response in time")]
    ResponseTimeout {
        /// The configured destination.
        target: Arc<str>,
    },
    /// The peer agreed on a protocol that cannot carry this request.
    #[error("`{target}` does not speak the protocol that this request needs")]
    Protocol {
        /// The configured destination.
        target: Arc<str>,
    },
    /// It speaks HTTP/2 without extended CONNECT (RFC 8441).
    #[error("`{target}` speaks HTTP/2 and takes no WebSocket over it (RFC 8441)")]
    NoTunnels {
        /// The configured destination.
        target: Arc<str>,
    },
}

impl UpstreamError {
    /// The fixed word for metrics, the access log and `x-portcullis-reason`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "upstream_unresolved",
            Self::Connect { .. } => "upstream_unreachable",
            Self::ConnectTimeout { .. } => "upstream_connect_timeout",
            Self::Handshake { source, .. } | Self::NotOfService { source, .. } => source.upstream_label(),
            Self::NoSuchService(_) => NoSuchService::LABEL,
            Self::Full { source, .. } => source.label(),
            Self::Exchange { .. } => "upstream_broke_off",
            Self::Condemned { cause, .. } => of_condemned(cause),
            Self::Closed { .. } => "upstream_closed",
            Self::ResponseTimeout { .. } => "upstream_response_timeout",
            Self::Protocol { .. } => "upstream_protocol",
            Self::NoTunnels { .. } => "upstream_no_websocket",
        }
    }

    /// The status that the caller gets: 504 when time ran out on the response, 502 for an exchange that broke, 501 for a
    /// WebSocket that the upstream has no way to take, else 503.
    pub fn status(&self) -> http::StatusCode {
        match self {
            Self::ResponseTimeout { .. } => http::StatusCode::GATEWAY_TIMEOUT,
            Self::Exchange { .. } => http::StatusCode::BAD_GATEWAY,
            Self::NoTunnels { .. } => http::StatusCode::NOT_IMPLEMENTED,
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::Handshake { .. }
            | Self::NotOfService { .. }
            | Self::NoSuchService(_)
            | Self::Full { .. }
            | Self::Condemned { .. }
            | Self::Closed { .. }
            | Self::Protocol { .. } => http::StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// This error and its causes in one line, for logs and for the plain answer to our own application.
    pub fn chain(&self) -> String {
        crate::error_chain(self)
    }
}

/// The word for a call that was cut because its peer may not be called any more: that with which the next call will be refused.
pub fn of_condemned(cause: &'static str) -> &'static str {
    match cause {
        "denied" => "upstream_denied",
        "wrong_identity" => "upstream_wrong_identity",
        NoSuchService::LABEL => NoSuchService::LABEL,
        _ => "upstream_untrusted",
    }
}
