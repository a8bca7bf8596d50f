//! The facts a decision is made from: who calls whom, and what is asked for.
//!
//! All of it is borrowed, so that asking costs nothing. Time is a value like the others: nothing here reads a clock.

use std::net::IpAddr;

use spiffe::SpiffeId;

use crate::path::Path;

/// What is known once a connection has been authenticated.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    /// The verified identity of the caller.
    pub caller: &'a SpiffeId,
    /// The identity of the workload that is called.
    pub workload: &'a SpiffeId,
    /// The application's port, never that of a listener of ours.
    pub port: u16,
    /// The caller's address; an IPv4 address in IPv6 form counts as IPv4.
    pub source: IpAddr,
    /// The address that the caller wants to reach: that of the application, or what the kernel says it was before
    /// capture.
    pub destination: IpAddr,
    /// The server name of the TLS handshake (RFC 6066 section 3), if the caller sent one.
    pub server_name: Option<&'a str>,
    /// Seconds since 1970, for rules that expire.
    pub now: i64,
}

/// One HTTP request on a connection.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The connection it came on.
    pub connection: Connection<'a>,
    /// The method, as sent.
    pub method: &'a str,
    /// `:authority` or `Host` as sent; empty when there was none. The port and a trailing dot do not count.
    pub host: &'a str,
    /// The path that will be forwarded.
    pub path: &'a Path<'a>,
    /// The header fields.
    pub headers: &'a dyn HeaderValues,
}

/// Access to header fields without copying them. Two implementations: the proxy's header map, and lists of pairs here.
pub trait HeaderValues {
    /// Shows `visit` every value of the field `name`, which is in lower case, in the order received.
    fn visit(&self, name: &str, visit: &mut dyn FnMut(&[u8]));
}

impl HeaderValues for [(String, String)] {
    fn visit(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for (_, value) in self.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)) {
            visit(value.as_bytes());
        }
    }
}

impl HeaderValues for Vec<(String, String)> {
    fn visit(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.as_slice().visit(name, visit);
    }
}

/// `host` without its port and trailing dot: `Example.com.:8443` is `Example.com`, `[::1]:80` is `[::1]`.
pub(crate) fn bare_host(host: &str) -> &str {
    let end_of_address = host.rfind(']').map_or(0, |at| at + 1);
    let name = match host.get(end_of_address..).and_then(|rest| rest.rfind(':')) {
        Some(at) => host.get(..end_of_address + at).unwrap_or(host),
        None => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_port_and_trailing_dot() {
        let rows = [
            ("", ""),
            ("a.example", "a.example"),
            ("a.example:8443", "a.example"),
            ("a.example.", "a.example"),
            ("a.example.:1", "a.example"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("10.0.0.1:80", "10.0.0.1"),
        ];
        for (host, expected) in rows {
            assert_eq!(bare_host(host), expected, "{host}");
        }
    }
}
