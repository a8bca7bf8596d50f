//! Where a Workload API is: an address as the SPIFFE Workload Endpoint standard writes it, and nothing else.
//!
//! `unix:///run/spire/agent.sock` or `tcp://127.0.0.1:8081`. Host names are not resolved, since the standard has none:
//! an agent is on this machine. Nothing is opened here.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// The address of a Workload API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
    /// An IP address and port.
    Tcp(SocketAddr),
}

impl Endpoint {
    /// Whether private keys would leave this machine in plaintext: the protocol has no TLS.
    pub fn leaves_machine(&self) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Tcp(address) => !address.ip().to_canonical().is_loopback(),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Parses the address.
    ///
    /// # Errors
    /// If it is not exactly one of the two forms; see [`EndpointError`].
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        if text.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
            return Err(EndpointError::Blank);
        }
        if let Some(rest) = text.strip_prefix("unix:") {
            return unix(rest);
        }
        if let Some(rest) = text.strip_prefix("tcp:") {
            return tcp(rest);
        }
        Err(EndpointError::Scheme)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

fn unix(rest: &str) -> Result<Endpoint, EndpointError> {
    refuse_extras(rest)?;
    let Some(path) = rest.strip_prefix("//") else {
        return Err(if rest.starts_with('/') { EndpointError::UnixSlashes } else { EndpointError::UnixRelative });
    };
    if path.is_empty() || path.bytes().all(|byte| byte == b'/') {
        return Err(EndpointError::UnixNoPath);
    }
    if !path.starts_with('/') {
        return Err(EndpointError::UnixHost);
    }
    if path.ends_with('/') {
        return Err(EndpointError::UnixDirectory);
    }
    if path.contains('%') {
        return Err(EndpointError::UnixEscape);
    }
    if path.len() > MAX_SOCKET_PATH {
        return Err(EndpointError::UnixTooLong { length: path.len() });
    }
    Ok(Endpoint::Unix(Path::new(path).to_owned()))
}

fn tcp(rest: &str) -> Result<Endpoint, EndpointError> {
    refuse_extras(rest)?;
    let authority = rest.strip_prefix("//").ok_or(EndpointError::TcpSlashes)?;
    if authority.contains('/') {
        return Err(EndpointError::TcpPath);
    }
    if authority.contains('@') {
        return Err(EndpointError::TcpUser);
    }
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(EndpointError::TcpPort) } else { Ok(Endpoint::Tcp(address)) };
    }
    // What is wrong, the port or the host? An IPv6 address without brackets has no port that could be told apart.
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        Some((host, _)) if is_address(host) => return Err(EndpointError::TcpPort),
        _ if is_address(authority) => return Err(EndpointError::TcpPort),
        _ => authority,
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(EndpointError::TcpBrackets);
    }
    Err(EndpointError::TcpHost)
}

/// Whether this is an address that only lacks its port.
fn is_address(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok() || format!("{host}:1").parse::<SocketAddr>().is_ok()
}

fn refuse_extras(rest: &str) -> Result<(), EndpointError> {
    if rest.contains('?') {
        return Err(EndpointError::Query);
    }
    if rest.contains('#') {
        return Err(EndpointError::Fragment);
    }
    Ok(())
}

/// `sun_path` has 108 bytes on Linux, and the last one is NUL.
const MAX_SOCKET_PATH: usize = 107;

/// Why a text is no address of a Workload API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Nothing is written.
    #[error("the address is empty; write `unix:///path/to/the.sock` or `tcp://127.0.0.1:8081`")]
    Empty,
    /// White space or a control character, most often a stray line break.
    #[error("the address has white space or a control character in it")]
    Blank,
    /// Neither of the two schemes.
    #[error("the address begins with neither `unix://` nor `tcp://`; write `unix:///path/to/the.sock`")]
    Scheme,
    /// A `?`.
    #[error("the address has a query (`?`), which the SPIFFE Workload Endpoint standard forbids")]
    Query,
    /// A `#`.
    #[error("the address has a fragment (`#`), which the SPIFFE Workload Endpoint standard forbids")]
    Fragment,
    /// `unix:/path`.
    #[error("`unix:` is followed by one slash; write three, as in `unix:///path/to/the.sock`")]
    UnixSlashes,
    /// `unix:path`.
    #[error("the path of the socket is not absolute; write `unix:///path/to/the.sock`")]
    UnixRelative,
    /// `unix:///`.
    #[error("the address names no socket; write `unix:///path/to/the.sock`")]
    UnixNoPath,
    /// `unix://path`, where the first part would be a host.
    #[error("`unix://` is followed by a host; a third slash is missing, as in `unix:///path/to/the.sock`")]
    UnixHost,
    /// A path that ends in a slash.
    #[error("the path ends in a slash, so it names a directory; name the socket in it")]
    UnixDirectory,
    /// A `%`.
    #[error("the path has a `%`; escapes are not decoded, so use a path without")]
    UnixEscape,
    /// A path that no socket can have.
    #[error("the path has {length} bytes, and the path of a Unix socket has {MAX_SOCKET_PATH} at most")]
    UnixTooLong {
        /// Its length.
        length: usize,
    },
    /// `tcp:` without two slashes.
    #[error("`tcp:` is not followed by two slashes; write `tcp://127.0.0.1:8081`")]
    TcpSlashes,
    /// Something after the port.
    #[error("the address has a path after the port, which the SPIFFE Workload Endpoint standard forbids")]
    TcpPath,
    /// A user name.
    #[error("the address has a user name (`@`); the Workload API has no such thing")]
    TcpUser,
    /// No port, or none that can be connected to.
    #[error("the address has no port between 1 and 65535; write `tcp://127.0.0.1:8081`")]
    TcpPort,
    /// An IPv6 address without brackets.
    #[error("an IPv6 address stands in brackets, as in `tcp://[::1]:8081`")]
    TcpBrackets,
    /// A host name.
    #[error("the host is no IP address, and names are not resolved; write `tcp://127.0.0.1:8081`")]
    TcpHost,
}

impl EndpointError {
    /// A fixed word for metrics.
    pub fn label(self) -> &'static str {
        "bad_endpoint"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_forms_are_read_and_written() {
        let check = |text: &str, endpoint: Endpoint, leaves| {
            assert_eq!(text.parse::<Endpoint>().as_ref(), Ok(&endpoint));
            assert_eq!((endpoint.to_string().as_str(), endpoint.leaves_machine()), (text, leaves));
        };
        check("unix:///run/spire/agent.sock", Endpoint::Unix("/run/spire/agent.sock".into()), false);
        check("unix:///a@b:c.sock", Endpoint::Unix("/a@b:c.sock".into()), false);
        check("tcp://127.0.0.1:8081", Endpoint::Tcp("127.0.0.1:8081".parse().unwrap()), false);
        check("tcp://[::1]:8081", Endpoint::Tcp("[::1]:8081".parse().unwrap()), false);
        check("tcp://[::ffff:127.0.0.1]:1", Endpoint::Tcp("[::ffff:127.0.0.1]:1".parse().unwrap()), false);
        check("tcp://10.0.0.1:8081", Endpoint::Tcp("10.0.0.1:8081".parse().unwrap()), true);
    }

    #[test]
    fn each_mistake_has_its_own_message() {
        let check = |text: &str, error: EndpointError| assert_eq!(text.parse::<Endpoint>(), Err(error), "{text}");
        check("", EndpointError::Empty);
        check("unix:///a.sock\n", EndpointError::Blank);
        check("unix:///a\0.sock", EndpointError::Blank);
        check("/run/agent.sock", EndpointError::Scheme);
        check("UNIX:///run/agent.sock", EndpointError::Scheme);
        check("http://127.0.0.1:8081", EndpointError::Scheme);
        check("unix:///a.sock?x", EndpointError::Query);
        check("tcp://127.0.0.1:8081#x", EndpointError::Fragment);
        check("unix:/a.sock", EndpointError::UnixSlashes);
        check("unix:a.sock", EndpointError::UnixRelative);
        check("unix:", EndpointError::UnixRelative);
        check("unix://", EndpointError::UnixNoPath);
        check("unix:///", EndpointError::UnixNoPath);
        check("unix://host/a.sock", EndpointError::UnixHost);
        check("unix://a.sock", EndpointError::UnixHost);
        check("unix:///run/", EndpointError::UnixDirectory);
        check("unix:///a%20b.sock", EndpointError::UnixEscape);
        check(&format!("unix:///{}", "a".repeat(107)), EndpointError::UnixTooLong { length: 108 });
        check("tcp:127.0.0.1:8081", EndpointError::TcpSlashes);
        check("tcp://127.0.0.1:8081/", EndpointError::TcpPath);
        check("tcp://me@127.0.0.1:8081", EndpointError::TcpUser);
        check("tcp://127.0.0.1", EndpointError::TcpPort);
        check("tcp://127.0.0.1:", EndpointError::TcpPort);
        check("tcp://127.0.0.1:0", EndpointError::TcpPort);
        check("tcp://127.0.0.1:65536", EndpointError::TcpPort);
        check("tcp://[::1]", EndpointError::TcpPort);
        check("tcp://::1:8081", EndpointError::TcpBrackets);
        check("tcp://localhost:8081", EndpointError::TcpHost);
        check("tcp://", EndpointError::TcpHost);
        check("tcp://:8081", EndpointError::TcpHost);
    }
}
