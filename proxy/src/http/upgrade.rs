//! HTTP/1.1 upgrades (RFC 9110 section 7.8): WebSocket only, and a tunnel only after the upstream's 101.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::ResponseBody;
use super::exchange::Exchange;
use super::headers;
use super::reply::Refusal;
use super::serve::Answer;
use crate::connections::{Connections, Opened};
use crate::drain::Tasks;
use crate::tcp;
use crate::upstream::send::Sent;

/// The downstream half of an upgrade that was asked for.
#[derive(Debug)]
pub struct Asked {
    downstream: OnUpgrade,
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

    fn agreed(response: &Response<Incoming>) -> bool {
        response.status() == StatusCode::SWITCHING_PROTOCOLS && is_websocket(response.headers())
    }
}

/// What a request came to, once the head of its response is there.
#[derive(Debug)]
pub enum Forwarded {
    /// An ordinary response.
    Response(Sent),
    /// The upstream switches protocols, as it was asked to.
    Upgrade(Asked, Sent),
}

/// Tells an ordinary response from an agreed upgrade.
///
/// # Errors
/// 502 for a 101 that nobody asked for: both sides would speak different protocols from there on (RFC 9110 section 15.2.2).
pub fn sort(asked: Option<Asked>, sent: Sent) -> Result<Forwarded, Refusal> {
    match asked {
        Some(asked) if Asked::agreed(&sent.response) => Ok(Forwarded::Upgrade(asked, sent)),
        _ if sent.response.status() == StatusCode::SWITCHING_PROTOCOLS => Err(Refusal {
            status: StatusCode::BAD_GATEWAY,
            reason: "unexpected_upgrade",
            text: "the upstream switched protocols without being asked".to_owned(),
        }),
        _ => Ok(Forwarded::Response(sent)),
    }
}

/// A tunnel about to open: both sides have agreed.
#[derive(Debug)]
pub struct Tunnel {
    /// The downstream half.
    pub asked: Asked,
    /// How it is entered in the registry.
    pub opened: Opened,
    /// `timeouts.tcpIdle`.
    pub idle: Duration,
    /// The record of the request that opened it, written when it ends.
    pub exchange: Box<Exchange>,
}

impl Tunnel {
    /// Makes the 101 for downstream, and carries bytes both ways in a task of its own once it has been sent.
    pub fn open(mut self, mut sent: Sent, connections: &Arc<Connections>, tasks: &Tasks) -> Answer {
        let upstream = hyper::upgrade::on(&mut sent.response);
        let (mut head, _) = sent.response.into_parts();
        headers::strip_hop_by_hop(&mut head.headers);
        Asked::ask(&mut head.headers);
        self.exchange.status = Some(head.status.as_u16());
        let connections = Arc::clone(connections);
        tasks.spawn(async move { self.carry(upstream, &connections).await });
        Response::from_parts(head, ResponseBody::none())
    }

    async fn carry(self, upstream: OnUpgrade, connections: &Arc<Connections>) {
        let Self { asked, opened, idle, mut exchange } = self;
        let Ok(registered) = connections.enter(opened) else {
            exchange.reason = Some("too_many_connections");
            return;
        };
        let (downstream, upstream) = match futures_util::future::try_join(asked.downstream, upstream).await {
            Ok(halves) => halves,
            Err(error) => {
                tracing::debug!(error = crate::error_chain(&error), "an upgrade came to nothing");
                exchange.reason = Some("upgrade_failed");
                return;
            }
        };
        let signal = &registered.entry().signal;
        let (carried, ended) = tcp::carry(TokioIo::new(downstream), TokioIo::new(upstream), idle, signal).await;
        exchange.carried(carried);
        match ended {
            tcp::Ended::Closed => {}
            tcp::Ended::Idle => exchange.reason = Some("idle_timeout"),
            tcp::Ended::Cut => exchange.reason = signal.cause(),
            tcp::Ended::Broken(_) => exchange.broke_off(),
        }
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
