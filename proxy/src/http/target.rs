//! What a request asks for: its host and its path, agreed upon by every place that names them.

use std::net::Ipv6Addr;

use http::header::HOST;
use http::request::Parts;
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

use super::refusal::Refusal;

/// The host of a request; empty for HTTP/1.0 without one.
///
/// # Errors
/// 400 when there is none, when there are two `Host` fields, when they disagree with the target (RFC 9112 section 3.2,
/// RFC 9113 section 8.3.1), or when it holds userinfo or a bad port.
pub fn host(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Box<str>, Refusal> {
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Refusal::bad_request("two_hosts", "the request has two Host fields"));
    }
    let field = field.map(|value| value.to_str().map_err(|_| bad_host())).transpose()?;
    let authority = uri.authority().map(Authority::as_str);
    match (authority, field) {
        (Some(authority), None | Some("")) if version == Version::HTTP_2 || field.is_none() => checked(authority),
        (Some(authority), Some(field)) if same_host(authority, field) => checked(authority),
        (Some(_), _) => Err(Refusal::bad_request(
            "host_mismatch",
            "the Host field differs from the authority of the request's target",
        )),
        (None, Some(field)) if !field.is_empty() => checked(field),
        // An empty Host field is what a client sends that has no authority to name; HTTP/1.0 may leave it out.
        (None, Some(_)) => Ok(Box::default()),
        (None, None) if version < Version::HTTP_11 => Ok(Box::default()),
        (None, None) => Err(Refusal::bad_request("no_host", "the request names no host")),
    }
}

/// The path and query of a request, as they came.
///
/// # Errors
/// 400 for a form of target that the method does not have, 414 for one of more than `limit` bytes; `CONNECT` is not
/// carried.
pub fn path_and_query(method: &Method, uri: &Uri, limit: usize) -> Result<PathAndQuery, Refusal> {
    if method == Method::CONNECT {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Refusal { status, reason: "connect", text: "CONNECT is not carried".to_owned() });
    }
    // Authority-form is for CONNECT alone (RFC 9112 section 3.2.3), and no other scheme is ours to answer for.
    if uri.authority().is_some() && !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(Refusal::bad_request("bad_target", "the request's target is neither a path nor a URI of HTTP"));
    }
    match uri.path_and_query() {
        Some(target) if target.as_str().len() > limit => {
            let text = "the target is longer than `limits.uriBytes`".to_owned();
            Err(Refusal { status: StatusCode::URI_TOO_LONG, reason: "uri_too_long", text })
        }
        Some(target) if target.as_str() == "*" && method == Method::OPTIONS => Ok(target.clone()),
        Some(target) if target.as_str().starts_with('/') => Ok(target.clone()),
        _ => Err(Refusal::bad_request("bad_target", "the request's target is no path")),
    }
}

/// How the next hop is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// HTTP/1.1: the host stands in its own field.
    Http1,
    /// HTTP/2 in plaintext: `:scheme` is `http`.
    Http2,
    /// HTTP/2 over TLS: `:scheme` is `https`.
    Http2Tls,
}

/// Puts host and path where the next hop's protocol has them.
///
/// # Errors
/// 400 when they cannot stand there.
pub fn put(head: &mut Parts, host: &str, path_and_query: PathAndQuery, next: NextHop) -> Result<(), Refusal> {
    let mut parts = uri::Parts::default();
    parts.path_and_query = Some(path_and_query);
    if next == NextHop::Http1 {
        head.version = Version::HTTP_11;
        head.headers.insert(HOST, HeaderValue::try_from(host).map_err(|_| bad_host())?);
    } else {
        head.version = Version::HTTP_2;
        head.headers.remove(HOST);
        parts.scheme = Some(if next == NextHop::Http2 { Scheme::HTTP } else { Scheme::HTTPS });
        parts.authority = Some(host.parse().map_err(|_| bad_host())?);
    }
    head.uri = Uri::from_parts(parts).map_err(|_| malformed())?;
    Ok(())
}

/// 400 for a target that cannot be sent on.
pub fn malformed() -> Refusal {
    Refusal::bad_request("bad_target", "the target is malformed")
}

/// The host as it stands, if it is one that a rule can name: a name of DNS or an address, with or without a port. Escapes,
/// userinfo, lists and what else RFC 3986 section 3.2 lets stand in an authority are read in more than one way.
fn checked(host: &str) -> Result<Box<str>, Refusal> {
    let (is_good, after) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, after)) => (address.parse::<Ipv6Addr>().is_ok(), after),
        None => {
            let (name, after) = host.split_at(host.find(':').unwrap_or(host.len()));
            (is_name(name), after)
        }
    };
    if is_good && is_port(after) { Ok(host.into()) } else { Err(bad_host()) }
}

/// Labels with dots between them, and perhaps one behind the last.
fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let labels = name.strip_suffix('.').unwrap_or(name);
    labels.split('.').all(|label| !label.is_empty() && label.bytes().all(is_part))
}

/// Nothing, or a colon and a port. An empty one is allowed by RFC 3986 section 3.2.3 and means none.
fn is_port(after: &str) -> bool {
    let Some(port) = after.strip_prefix(':') else { return after.is_empty() };
    port.is_empty() || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

fn same_host(authority: &str, field: &str) -> bool {
    // The port counts here: `a:80` and `a:443` are different origins.
    authority.eq_ignore_ascii_case(field)
}

fn bad_host() -> Refusal {
    Refusal::bad_request("bad_host", "the request's host is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, hosts: &[&str], version: Version, expected: Result<&str, &str>) {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        let found = host(&uri.parse().unwrap(), &headers, version);
        let found = found.as_deref().map_err(|refusal| refusal.reason);
        assert_eq!(found, expected, "{uri} {hosts:?}");
    }

    #[test]
    fn hosts_agree_or_the_request_is_refused() {
        use Version as V;
        check("/", &["a.example"], V::HTTP_11, Ok("a.example"));
        check("/", &["a.example:8080"], V::HTTP_11, Ok("a.example:8080"));
        check("/", &["[::1]:80"], V::HTTP_11, Ok("[::1]:80"));
        check("/", &["[::1]"], V::HTTP_11, Ok("[::1]"));
        check("/", &[""], V::HTTP_11, Ok(""));
        check("/", &[], V::HTTP_10, Ok(""));
        check("/", &[], V::HTTP_11, Err("no_host"));
        check("/", &["a", "a"], V::HTTP_11, Err("two_hosts"));
        check("http://a/", &["A"], V::HTTP_11, Ok("a"));
        check("http://a/", &[], V::HTTP_2, Ok("a"));
        check("http://a/", &["a"], V::HTTP_2, Ok("a"));
        check("http://a/", &["b"], V::HTTP_2, Err("host_mismatch"));
        check("http://a/", &["b"], V::HTTP_11, Err("host_mismatch"));
        check("http://a:80/", &["a:81"], V::HTTP_11, Err("host_mismatch"));
        check("http://a/", &[""], V::HTTP_11, Err("host_mismatch"));
        check("/", &["user@a"], V::HTTP_11, Err("bad_host"));
        check("/", &["a:99999"], V::HTTP_11, Err("bad_host"));
        check("/", &["a:x"], V::HTTP_11, Err("bad_host"));
        check("/", &["a b"], V::HTTP_11, Err("bad_host"));
        check("/", &["a/b"], V::HTTP_11, Err("bad_host"));
        for bad in ["a,b", "a;b", "a..b", ".", "[]", "[a]", "[::1]x", "[::1%25lo]", "[v1.a]", ":80", "a:+80", "a:1:2"] {
            check("/", &[bad], V::HTTP_11, Err("bad_host"));
        }
        for good in ["a.", "a_b", "a:", "a.:1", "[::1]:", "a:00080", "10.0.0.1:65535"] {
            check("/", &[good], V::HTTP_11, Ok(good));
        }
    }

    #[test]
    fn two_slashes_at_the_front_are_a_path_and_no_authority() {
        let uri: Uri = "//admin".parse().unwrap();
        assert_eq!(uri.authority(), None);
        assert_eq!(path_and_query(&Method::GET, &uri, 100).unwrap(), "//admin");
    }

    #[test]
    fn asterisk_is_for_options_and_connect_is_not_carried() {
        assert_eq!(path_and_query(&Method::OPTIONS, &"*".parse().unwrap(), 100).unwrap(), "*");
        assert_eq!(path_and_query(&Method::GET, &"*".parse().unwrap(), 100).unwrap_err().reason, "bad_target");
        assert_eq!(path_and_query(&Method::CONNECT, &"a:443".parse().unwrap(), 100).unwrap_err().reason, "connect");
        assert_eq!(path_and_query(&Method::GET, &"http://a".parse().unwrap(), 100).unwrap(), "/");
        for other in ["a", "a:80", "ftp://a/", "://a/", "http://a?b"] {
            let refused = path_and_query(&Method::GET, &other.parse().unwrap(), 100).unwrap_err();
            assert_eq!(refused.reason, "bad_target", "{other}");
        }
        assert_eq!(path_and_query(&Method::GET, &"/long".parse().unwrap(), 4).unwrap_err().reason, "uri_too_long");
    }
}
