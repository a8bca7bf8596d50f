//! HTTP/1.1 upgrades (RFC 9110 section 7.8): which are asked for, and whether the upstream agreed. WebSocket only.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

/// The downstream half of an upgrade that was asked for.
#[derive(Debug)]
pub struct Asked {
    /// Resolves when our 101 has been sent.
    pub downstream: OnUpgrade,
}

impl Asked {
    /// Takes the upgrade out of the request, if it asks for one that we carry. Any other `Upgrade` is hop-by-hop and is
    /// stripped with the rest, which is how RFC 9110 lets a proxy decline it.
    pub fn take(request: &mut Request<Incoming>) -> Option<Self> {
        let wanted = request.version() == Version::HTTP_11
            && lists(request.headers(), &CONNECTION, "upgrade")
            && is_websocket(request.headers());
        wanted.then(|| Self { downstream: hyper::upgrade::on(request) })
    }

    /// Asks the upstream for the same, after hop-by-hop fields were stripped.
    pub fn ask(headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    }

    /// Whether the upstream agreed, to what it was asked for.
    pub fn agreed(response: &Response<Incoming>) -> bool {
        response.status() == StatusCode::SWITCHING_PROTOCOLS && is_websocket(response.headers())
    }
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(UPGRADE).iter();
    let only = values.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
    only && values.next().is_none()
}

fn lists(headers: &HeaderMap, name: &http::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

const WEBSOCKET: &str = "websocket";
