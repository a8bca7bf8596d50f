//! Which headers pass: hop-by-hop fields and identity headers go, ours are set from what was verified.

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, Entry, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use spiffe::SpiffeId;

use crate::telemetry::trace_context::{TRACEPARENT, TraceContext};

/// The verified identity of the caller, for the application.
pub const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// Names a request across hops.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Says to our own application why the sidecar answered in the upstream's place.
pub const REASON: HeaderName = HeaderName::from_static("x-portcullis-reason");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes from a request what belongs to one connection (RFC 9110 section 7.6.1), and every header by which a peer could
/// pretend to an identity, in any spelling that a CGI-style application would read as the same name (`_` for `-`).
pub fn strip_request(headers: &mut HeaderMap) {
    strip(headers, is_identity);
}

/// Removes from a response what belongs to one connection, and the reason that is ours alone to give: nobody at the other
/// end tells our application why we refused.
pub fn strip_response(headers: &mut HeaderMap) {
    strip(headers, |name| *name == REASON);
}

/// One pass over the names: a message with nothing of this pays for no more, and allocates nothing. `Connection` cannot list
/// away what the next hop relies on.
fn strip(headers: &mut HeaderMap, is_pretended: impl Fn(&HeaderName) -> bool) {
    let mut gone = Vec::new();
    let (mut lists, mut has_te) = (false, false);
    for name in headers.keys() {
        if is_of_connection(name) {
            lists |= *name == CONNECTION;
            gone.push(name.clone());
        } else if *name == TE {
            has_te = true;
        } else if is_pretended(name) {
            gone.push(name.clone());
        }
    }
    if lists {
        gone.extend(connection_listed(headers));
    }
    for name in gone {
        headers.remove(name);
    }
    if has_te {
        keep_trailers_alone(headers);
    }
}

fn is_of_connection(name: &HeaderName) -> bool {
    // Every one of them starts with one of these letters.
    name.as_str().starts_with(['c', 'k', 'p', 't', 'u']) && OF_CONNECTION.contains(name)
}

/// `TE: trailers` is for the next hop as well, because gRPC needs it; what else it says is not.
fn keep_trailers_alone(headers: &mut HeaderMap) {
    let Entry::Occupied(te) = headers.entry(TE) else { return };
    if te.get() == TRAILERS && te.iter().count() == 1 {
        return;
    }
    let wants_trailers = te.iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case(TRAILERS)))
    });
    te.remove_entry_mult();
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static(TRAILERS));
    }
}

/// The value of `x-forwarded-client-cert` for one verified peer: one element in Envoy's format, with `By` our own ID,
/// `Hash` the SHA-256 of the peer's certificate and `URI` its SPIFFE ID. A SPIFFE ID holds no character that needs quotes.
pub fn forwarded_client_cert(own: &SpiffeId, peer: &SpiffeId, fingerprint: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("By={own};Hash={fingerprint};URI={peer}")).ok()
}

/// The caller's `x-request-id` if it is one, and fit to be logged and carried on, else a new one.
pub fn request_id(headers: &mut HeaderMap) -> HeaderValue {
    let mut values = headers.get_all(REQUEST_ID).iter();
    let only = values.next().filter(|_| values.next().is_none());
    let carried = only.filter(|value| {
        (1..=REQUEST_ID_LIMIT).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    if let Some(carried) = carried {
        return carried.clone();
    }
    let made = format!("{:032x}", fastrand::u128(..));
    let made = HeaderValue::try_from(made).unwrap_or_else(|_| HeaderValue::from_static("-"));
    headers.insert(REQUEST_ID, made.clone());
    made
}

/// Reads `traceparent`; more than one is none (Trace Context section 3.2.1: it must not be repeated).
pub fn trace_context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { TraceContext::parse(first.as_bytes()) }
}

/// Whether the request is a gRPC call: by content type, as the gRPC specification has it.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.starts_with(b"application/grpc") && matches!(value.get(16), None | Some(b'+' | b';' | b' '))
    })
}

/// HTTP/2 may split `Cookie` into crumbs; an HTTP/1.1 application expects one field (RFC 9113 section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let rest = crumbs.map(HeaderValue::as_bytes);
    let all: Vec<&[u8]> = [first.as_bytes(), second.as_bytes()].into_iter().chain(rest).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

fn connection_listed(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let listed = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    listed.filter(|name| !KEPT.contains(name)).collect()
}

/// Whether a field tells who called, whoever's convention it is.
pub(super) fn is_identity(name: &HeaderName) -> bool {
    let name = name.as_str();
    // Every name of ours and of others that carries an identity starts with one of these letters.
    if !name.starts_with(['x', 'c', 'l', 's']) {
        return false;
    }
    let begins = |known: &str| {
        let same = known.bytes().zip(name.bytes()).all(|(k, n)| k == n || (k == b'-' && n == b'_'));
        same && name.len() >= known.len() && matches!(name.as_bytes().get(known.len()), None | Some(b'-' | b'_'))
    };
    IDENTITY.iter().any(|known| begins(known))
}

/// Headers in which proxies tell applications whose certificate they verified, each with what follows it behind a dash
/// (`-chain`, `-info`, `-subject-dn`, `-verify`): Envoy, Traefik, RFC 9440, Linkerd, nginx and HAProxy as commonly configured,
/// and ours. Names of end users (`x-remote-user`, `x-auth-request-user`) pass: a gateway within the mesh sets those, and policy
/// says who may call in its place.
const IDENTITY: [&str; 10] = [
    "x-forwarded-client-cert",
    "x-forwarded-tls-client-cert",
    "x-client-cert",
    "x-ssl-client",
    "x-spiffe-id",
    "client-cert",
    "l5d-client-id",
    "ssl-client",
    "x-portcullis-reason",
    "x-portcullis-caller",
];
const OF_CONNECTION: [HeaderName; 5] = [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION];
/// What `Connection` cannot list away: the next hop frames and routes by it, it is set by us, or, as `TE`, which HTTP/1.1
/// clients have to list, it is judged by itself.
const KEPT: [HeaderName; 7] =
    [TE, HOST, CONTENT_LENGTH, CONTENT_TYPE, REQUEST_ID, FORWARDED_CLIENT_CERT, HeaderName::from_static(TRACEPARENT)];
const TRAILERS: &str = "trailers";
/// Four times a UUID: enough for every scheme in use, little enough to log.
const REQUEST_ID_LIMIT: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(&str, &str)]) -> HeaderMap {
        rows.iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn names(map: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn hop_by_hop_fields_and_those_that_connection_lists_go() {
        let mut map = headers(&[
            ("connection", "keep-alive, X-Hop"),
            ("connection", "x-other"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("accept", "*/*"),
        ]);
        strip_request(&mut map);
        assert_eq!(names(&map), ["accept"]);
    }

    #[test]
    fn connection_cannot_list_away_host_length_or_ours() {
        let listed = "host, content-length, x-request-id, traceparent, x-forwarded-client-cert";
        let mut map = headers(&[("connection", listed), ("host", "a"), ("content-length", "3"), ("x-request-id", "r")]);
        strip_request(&mut map);
        assert_eq!(names(&map), ["content-length", "host", "x-request-id"]);
    }

    #[test]
    fn te_keeps_trailers_and_nothing_else() {
        for (sent, kept) in
            [("trailers", Some("trailers")), ("gzip", None), ("gzip, Trailers", Some("trailers")), ("", None)]
        {
            let mut map = headers(&[("te", sent)]);
            strip_request(&mut map);
            assert_eq!(map.get(TE).map(|value| value.to_str().unwrap()), kept, "{sent}");
        }
    }

    #[test]
    fn te_is_judged_by_itself_where_connection_lists_it() {
        let mut map = headers(&[("connection", "TE"), ("te", "trailers")]);
        strip_request(&mut map);
        assert_eq!(map.get(TE).unwrap(), "trailers");
    }

    #[test]
    fn identity_headers_go_in_every_spelling() {
        let mut map = headers(&[
            ("X-Forwarded-Client-Cert", "URI=spiffe://prod/ns/a/sa/b"),
            ("x_forwarded_client_cert", "1"),
            ("x-forwarded_client-cert", "1"),
            ("client-cert", "1"),
            ("client-cert-chain", "1"),
            ("l5d-client-id", "1"),
            ("ssl-client-verify", "SUCCESS"),
            ("ssl_client_subject_dn", "CN=root"),
            ("x-ssl-client-dn", "CN=root"),
            ("x-forwarded-tls-client-cert-info", "1"),
            ("client-certainty", "1"),
            ("ssl-clients", "1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-remote-user", "eve"),
            ("cookie", "a=b"),
        ]);
        strip_request(&mut map);
        assert_eq!(names(&map), ["client-certainty", "cookie", "ssl-clients", "x-forwarded-for", "x-remote-user"]);
    }

    #[test]
    fn a_request_id_is_carried_when_it_is_fit_and_replaced_when_not() {
        let mut map = headers(&[("x-request-id", "abc-1")]);
        assert_eq!(request_id(&mut map), "abc-1");
        for unfit in ["", "has space", &"x".repeat(129)] {
            let mut map = headers(&[("x-request-id", unfit)]);
            let made = request_id(&mut map);
            assert_eq!(made.len(), 32, "{unfit}");
            assert_eq!(map.get(REQUEST_ID), Some(&made));
        }
        let mut two = headers(&[("x-request-id", "abc-1"), ("x-request-id", "a b")]);
        let made = request_id(&mut two);
        assert_eq!(two.get_all(REQUEST_ID).iter().collect::<Vec<_>>(), [&made]);
        assert_ne!(made, "abc-1");
    }

    #[test]
    fn cookie_crumbs_become_one_field_in_their_order() {
        let mut map = headers(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        join_cookies(&mut map);
        assert_eq!(map.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=1", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&headers(&[("content-type", value)])), expected, "{value}");
        }
    }

    #[test]
    fn repeated_traceparent_is_none() {
        let value = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(trace_context(&headers(&[("traceparent", value)])).is_some());
        assert!(trace_context(&headers(&[("traceparent", value), ("traceparent", value)])).is_none());
    }

    #[test]
    fn the_forwarded_identity_has_envoys_format() {
        let own = SpiffeId::new("spiffe://prod/ns/eligibility/sa/api").unwrap();
        let peer = SpiffeId::new("spiffe://prod/ns/claims/sa/adjudicator").unwrap();
        assert_eq!(
            forwarded_client_cert(&own, &peer, "ab12").unwrap(),
            "By=spiffe://prod/ns/eligibility/sa/api;Hash=ab12;URI=spiffe://prod/ns/claims/sa/adjudicator"
        );
    }
}
