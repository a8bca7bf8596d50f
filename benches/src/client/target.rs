//! What is to be loaded: scheme, address and path of a target.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use thiserror::Error;

/// A target as it is given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// How to speak to it.
    pub scheme: Scheme,
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query; `/` for schemes that have none.
    pub path: String,
}

/// What is spoken, and whether inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP inside TLS.
    Https,
    /// Plain HTTP.
    Http,
    /// Any bytes inside TLS.
    Tls,
    /// Any bytes.
    Tcp,
}

impl Scheme {
    /// Whether the connection is TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Whether HTTP is spoken.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Https | Self::Http)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
        }
    }
}

/// A target that cannot be used.
#[derive(Debug, Error)]
pub enum TargetError {
    /// Not one of the four.
    #[error(
        "`{0}` is no target: write https://HOST:PORT/PATH, http://HOST:PORT/PATH, tls://HOST:PORT or tcp://HOST:PORT"
    )]
    Scheme(String),
    /// No port, or none from 1 to 65535, where it has no default.
    #[error("`{0}` has no port: write one after the host, as in tls://127.0.0.1:8443")]
    Port(String),
    /// Something after the port of an opaque target, or characters that no request line may hold.
    #[error("`{0}` has a path that cannot be sent: opaque targets have none, others only printable ASCII")]
    Path(String),
    /// The name has no address.
    #[error("`{host}` has no address")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: std::io::Error,
    },
    /// The resolver found nothing.
    #[error("`{0}` has no address")]
    NoAddress(String),
}

impl Target {
    /// The first address of the host.
    ///
    /// # Errors
    /// When it has none.
    pub fn resolve(&self) -> Result<SocketAddr, TargetError> {
        let mut addresses = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|source| TargetError::Resolve { host: self.host.clone(), source })?;
        addresses.next().ok_or_else(|| TargetError::NoAddress(self.host.clone()))
    }

    /// Host and port as in a `Host` header.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (word, rest) = text.split_once("://").ok_or_else(|| TargetError::Scheme(text.to_owned()))?;
        let scheme = [Scheme::Https, Scheme::Http, Scheme::Tls, Scheme::Tcp].into_iter().find(|s| s.word() == word);
        let scheme = scheme.ok_or_else(|| TargetError::Scheme(text.to_owned()))?;
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') || (!scheme.is_http() && path != "/") {
            return Err(TargetError::Path(text.to_owned()));
        }
        let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
        let (host, port) = split_authority(authority).ok_or_else(|| TargetError::Scheme(text.to_owned()))?;
        let default = match scheme {
            Scheme::Https => Some(443),
            Scheme::Http => Some(80),
            Scheme::Tls | Scheme::Tcp => None,
        };
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0),
            None => default,
        };
        let port = port.ok_or_else(|| TargetError::Port(text.to_owned()))?;
        Ok(Self { scheme, host: host.to_owned(), port, path })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.scheme.is_http() { self.path.as_str() } else { "" };
        write!(formatter, "{}://{}{path}", self.scheme.word(), self.authority())
    }
}

/// Host and port text; `None` when there is no host.
fn split_authority(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        let is_host = host.parse::<Ipv6Addr>().is_ok() && (after.is_empty() || after.starts_with(':'));
        return is_host.then(|| (host, after.strip_prefix(':')));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let is_host = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    is_host.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written() {
        for (text, host, port, path) in [
            ("https://127.0.0.1:8443", "127.0.0.1", 8443, "/"),
            ("https://api.test/v1/members?x=1", "api.test", 443, "/v1/members?x=1"),
            ("http://[::1]:80/", "::1", 80, "/"),
            ("http://host?x", "host", 80, "/?x"),
            ("tls://127.0.0.1:1", "127.0.0.1", 1, "/"),
            ("tcp://localhost:65535", "localhost", 65535, "/"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.host.as_str(), target.port, target.path.as_str()), (host, port, path), "{text}");
            assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_read_is_written_so_that_it_reads_the_same(text in "(https?|tls|tcp)://[a-z\\[\\]:.0-9-]{0,12}(:[0-9]{1,6})?[ -~]{0,8}") {
            if let Ok(target) = text.parse::<Target>() {
                proptest::prop_assert_eq!(target.to_string().parse::<Target>().ok(), Some(target));
            }
        }
    }

    #[test]
    fn what_is_no_target_says_what_to_write() {
        for text in [
            "",
            "127.0.0.1:8443",
            "ftp://a:1",
            "tls://a",
            "tcp://a:0",
            "https://a:70000",
            "https://:1",
            "https://[::1:1",
            "tls://a:1/path",
            "https://a:1/a b",
            "https://a:1/\u{e9}",
            "https://a:1/#f",
            "https://user@a:1/",
            "https://[]:1",
            "https://[::1]x:1",
            "http://[[]",
            "https://[127.0.0.1]:1",
            "https://[name]:1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
