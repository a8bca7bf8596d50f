//! Upgrades to WebSocket, in the form of HTTP/1.1 (RFC 9110 section 7.8, RFC 6455 section 4) and in that of HTTP/2,
//! extended CONNECT (RFC 8441): which are asked for, how they go on, and whether the upstream agreed.
//!
//! Both forms stand for the same GET, and are decided on as that. No other protocol is switched to: over HTTP/1.1 it is left
//! out, as RFC 9110 has a server decline it, over HTTP/2 it is refused. Neither is CONNECT to a host.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, request, response};
use hyper::body::{Body, Incoming};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::refusal::Refusal;
use super::target::NextHop;
use crate::base64;

/// An upgrade that was asked for, with its downstream half.
#[derive(Debug)]
pub struct Asked {
    /// Resolves when our 101, or 200 over HTTP/2, has been sent.
    pub downstream: OnUpgrade,
    /// How it goes on.
    pub handshake: Handshake,
}

/// How a WebSocket's opening handshake came, and so how it goes on and is answered.
#[derive(Clone, Debug)]
pub enum Handshake {
    /// Over HTTP/1.1, with the caller's `Sec-WebSocket-Key`; `None` if it has none, or more than one.
    Http1(Option<HeaderValue>),
    /// Over HTTP/2, which has no keys. This one is ours, for an upstream that speaks HTTP/1.1.
    Http2(HeaderValue),
}

/// The method that a request stands for: extended CONNECT for a WebSocket is the GET that it would be over HTTP/1.1, so that
/// policy decides on both alike (RFC 8441 section 5).
pub fn method_of<B>(request: &Request<B>) -> Method {
    if asks_for_stream(request) { Method::GET } else { request.method().clone() }
}

impl Asked {
    /// Takes the upgrade out of the request, if it asks for one that we carry. Sets `last` where what the caller sends behind
    /// the request may be meant for a tunnel, and must not be read as another request if there is none.
    ///
    /// # Errors
    /// 400 for an upgrade with a body: where that ends and the tunnel begins is a matter of opinion. 501 for extended CONNECT
    /// to another protocol (RFC 9220 section 3).
    pub fn take(request: &mut Request<Incoming>, last: &mut bool) -> Result<Option<Self>, Refusal> {
        if request.version() == Version::HTTP_2 {
            return Self::take_stream(request);
        }
        // That one is refused for its target.
        *last = request.method() == Method::CONNECT;
        if !request.headers().contains_key(UPGRADE) {
            return Ok(None);
        }
        // It belongs to `Upgrade: h2c`, whether `Connection` lists it or not (RFC 7540 section 3.2.1).
        request.headers_mut().remove(HTTP2_SETTINGS);
        let Some(wanted) = wanted(request.version(), request.headers()) else { return Ok(None) };
        if !request.body().is_end_stream() {
            *last = true;
            return Err(Refusal::bad_request("upgrade_with_body", "a request to switch protocols cannot have a body"));
        }
        if wanted == Wanted::Other || request.method() != Method::GET {
            return Ok(None);
        }
        *last = true;
        request.headers_mut().remove(CONTENT_LENGTH);
        let handshake = Handshake::Http1(only(request.headers(), &SEC_WEBSOCKET_KEY).cloned());
        Ok(Some(Self { downstream: hyper::upgrade::on(request), handshake }))
    }

    fn take_stream(request: &mut Request<Incoming>) -> Result<Option<Self>, Refusal> {
        if request.method() != Method::CONNECT || request.extensions().get::<Protocol>().is_none() {
            return Ok(None);
        }
        if !asks_for_stream(request) {
            let text = "extended CONNECT is carried for `websocket` only".to_owned();
            return Err(Refusal { status: StatusCode::NOT_IMPLEMENTED, reason: "connect_protocol", text });
        }
        *request.method_mut() = Method::GET;
        request.extensions_mut().remove::<Protocol>();
        for unused in [SEC_WEBSOCKET_KEY, CONTENT_LENGTH] {
            request.headers_mut().remove(unused);
        }
        let downstream = hyper::upgrade::on(request);
        Ok(Some(Self { downstream, handshake: Handshake::Http2(new_key()) }))
    }

    /// Whether the upstream agreed; `as_stream` when it was asked over HTTP/2.
    ///
    /// # Errors
    /// 502 for an answer that agrees to something else.
    pub fn agreed<B>(&self, response: &Response<B>, as_stream: bool) -> Result<bool, Refusal> {
        let status = response.status();
        if as_stream {
            return match status {
                StatusCode::OK => Ok(true),
                other if other.is_success() => {
                    Err(not_agreed("upgrade_not_agreed", "the upstream agreed to a WebSocket in no way that is known"))
                }
                _ => Ok(false),
            };
        }
        match &self.handshake {
            _ if status == StatusCode::SWITCHING_PROTOCOLS && !is_websocket(response.headers()) => {
                Err(not_agreed("unexpected_upgrade", "the upstream switched to a protocol that it was not asked for"))
            }
            // Over HTTP/1.1 the caller has the key, and compares by itself.
            Handshake::Http1(_) => Ok(status == StatusCode::SWITCHING_PROTOCOLS),
            Handshake::Http2(key) if status == StatusCode::SWITCHING_PROTOCOLS => {
                let accept = only(response.headers(), &SEC_WEBSOCKET_ACCEPT);
                if accept.is_some_and(|accept| *accept == accept_of(key)) {
                    return Ok(true);
                }
                Err(not_agreed(
                    "bad_websocket_accept",
                    "the upstream's Sec-WebSocket-Accept is not the one for the key that it got",
                ))
            }
            // To the caller, success would be a tunnel (RFC 9110 section 9.3.6).
            Handshake::Http2(_) if status.is_success() => Err(not_agreed(
                "upgrade_not_agreed",
                "the upstream answered a WebSocket's handshake and did not switch protocols",
            )),
            Handshake::Http2(_) => Ok(false),
        }
    }
}

impl Handshake {
    /// Whether it can go on over HTTP/2, where the upstream has no key to answer for: without one, an HTTP/1.1 caller cannot
    /// be answered.
    pub fn fits_stream(&self) -> bool {
        !matches!(self, Self::Http1(None))
    }

    /// Asks the next hop for the same, after hop-by-hop fields were stripped.
    pub fn put(&self, head: &mut request::Parts, next: NextHop) {
        if next != NextHop::Http1 {
            head.method = Method::CONNECT;
            head.extensions.insert(Protocol::from_static(WEBSOCKET));
            head.headers.remove(SEC_WEBSOCKET_KEY);
            return;
        }
        head.method = Method::GET;
        switching(&mut head.headers);
        if let Self::Http1(Some(key)) | Self::Http2(key) = self {
            head.headers.insert(SEC_WEBSOCKET_KEY, key.clone());
        }
    }

    /// Makes the caller's answer of the upstream's, which agreed; `as_stream` when it was asked over HTTP/2.
    pub fn answer(&self, head: &mut response::Parts, as_stream: bool) {
        // Neither a 101 nor the answer to CONNECT has a length (RFC 9110 section 8.6).
        head.headers.remove(CONTENT_LENGTH);
        match self {
            Self::Http1(key) => {
                head.status = StatusCode::SWITCHING_PROTOCOLS;
                switching(&mut head.headers);
                if let (Some(key), true) = (key, as_stream) {
                    head.headers.insert(SEC_WEBSOCKET_ACCEPT, accept_of(key));
                }
            }
            Self::Http2(_) => {
                head.status = StatusCode::OK;
                head.headers.remove(SEC_WEBSOCKET_ACCEPT);
            }
        }
    }
}

/// What `Upgrade` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// WebSocket and nothing else.
    WebSocket,
    /// Any other protocol, or several.
    Other,
}

/// What these fields ask to switch to, if they do: `Upgrade` alone does not, and over HTTP/1.0 it means nothing (RFC 9110
/// section 7.8).
pub fn wanted(version: Version, headers: &HeaderMap) -> Option<Wanted> {
    if version != Version::HTTP_11 || !headers.contains_key(UPGRADE) || !lists(headers, &CONNECTION, "upgrade") {
        return None;
    }
    Some(if is_websocket(headers) { Wanted::WebSocket } else { Wanted::Other })
}

/// The `Sec-WebSocket-Accept` for a key (RFC 6455 section 4.2.2).
pub fn accept_of(key: &HeaderValue) -> HeaderValue {
    let keyed = [key.as_bytes(), GUID].concat();
    let accept = base64::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &keyed).as_ref());
    HeaderValue::try_from(accept).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn new_key() -> HeaderValue {
    let key = base64::encode(&fastrand::u128(..).to_be_bytes());
    HeaderValue::try_from(key).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn asks_for_stream<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT
        && request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str() == WEBSOCKET)
}

fn not_agreed(reason: &'static str, text: &str) -> Refusal {
    Refusal { status: StatusCode::BAD_GATEWAY, reason, text: text.to_owned() }
}

fn switching(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

fn is_websocket(headers: &HeaderMap) -> bool {
    only(headers, &UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()))
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    first.filter(|_| values.next().is_none())
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let mut values = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    values.any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

const WEBSOCKET: &str = "websocket";
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_is_the_one_of_the_rfc() {
        // RFC 6455 section 1.3.
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept_of(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(new_key().len(), key.len());
        assert_ne!(new_key(), new_key());
    }

    #[test]
    fn an_upgrade_is_asked_for_by_both_fields_and_to_one_protocol() {
        let check = |version, connection: &[&'static str], upgrade: &[&'static str], expected| {
            let mut headers = HeaderMap::new();
            for (name, values) in [(CONNECTION, connection), (UPGRADE, upgrade)] {
                for value in values {
                    headers.append(&name, HeaderValue::from_static(value));
                }
            }
            assert_eq!(wanted(version, &headers), expected, "{headers:?}");
        };
        let (one, old) = (Version::HTTP_11, Version::HTTP_10);
        check(one, &["keep-alive, Upgrade"], &["WebSocket"], Some(Wanted::WebSocket));
        check(one, &["close", "upgrade"], &["websocket"], Some(Wanted::WebSocket));
        check(one, &["upgrade"], &["websocket, h2c"], Some(Wanted::Other));
        check(one, &["upgrade"], &["websocket", "h2c"], Some(Wanted::Other));
        check(one, &["upgrade"], &["websocket/13"], Some(Wanted::Other));
        check(one, &["upgrade"], &["h2c"], Some(Wanted::Other));
        check(one, &["upgrade"], &[], None);
        check(one, &["upgraded"], &["websocket"], None);
        check(one, &[], &["websocket"], None);
        check(old, &["upgrade"], &["websocket"], None);
    }
}
