//! What a request asks for: its host and its path, agreed upon by every place that names them.

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
    match uri.path_and_query() {
        Some(target) if target.as_str().len() > limit => {
            let text = "the target is longer than `limits.uriBytes`".to_owned();
            Err(Refusal { status: StatusCode::URI_TOO_LONG, reason: "uri_too_long", text })
        }
        Some(target) if target.as_str() == "*" && method == Method::OPTIONS => Ok(target.clone()),
        Some(target) if target.as_str().starts_with('/') => Ok(target.clone()),
        // Absolute-form without a path is the root (RFC 9112 section 3.2.2).
        None if uri.authority().is_some() => Ok(PathAndQuery::from_static("/")),
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
    head.uri = Uri::from_parts(parts).map_err(|_| Refusal::bad_request("bad_target", "the target is malformed"))?;
    Ok(())
}

fn checked(host: &str) -> Result<Box<str>, Refusal> {
    let authority: Authority = host.parse().map_err(|_| bad_host())?;
    let has_userinfo = authority.as_str().contains('@');
    // An empty port is allowed by RFC 3986 and means none; anything else behind the colon must be a port.
    let port_is_bad = match host.rfind([':', ']']) {
        Some(at) if host.as_bytes().get(at) == Some(&b':') => {
            let port = host.get(at + 1..).unwrap_or_default();
            !port.is_empty() && authority.port_u16().is_none()
        }
        _ => false,
    };
    if has_userinfo || port_is_bad || authority.host().is_empty() { Err(bad_host()) } else { Ok(host.into()) }
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
        assert_eq!(path_and_query(&Method::GET, &"/long".parse().unwrap(), 4).unwrap_err().reason, "uri_too_long");
    }
}
