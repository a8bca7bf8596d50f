//! What a request comes to: an ordinary response, or a tunnel that opens only after the upstream agreed to it.

use std::time::Duration;

use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::connection::Answer;
use super::exchange::Exchange;
use super::response::ResponseBody;
use crate::connections::{Opened, Registered};
use crate::http::headers;
use crate::http::refusal::Refusal;
use crate::http::upgrade::Asked;
use crate::sidecar::Sidecar;
use crate::tcp;
use crate::upstream::send::Sent;

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
    if let Some(asked) = asked
        && asked.agreed(&sent.response, sent.lease.is_stream())?
    {
        return Ok(Forwarded::Upgrade(asked, sent));
    }
    if sent.response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let text = "the upstream switched protocols without being asked".to_owned();
        return Err(Refusal { status: StatusCode::BAD_GATEWAY, reason: "unexpected_upgrade", text });
    }
    Ok(Forwarded::Response(sent))
}

/// A tunnel about to open: both sides have agreed.
#[derive(Debug)]
pub struct Tunnel {
    asked: Asked,
    registered: Registered,
    /// `timeouts.tcpIdle`.
    idle: Duration,
    /// The record of the request that opened it, written when it ends.
    exchange: Box<Exchange>,
}

impl Tunnel {
    /// Enters it into the registry, where drain and re-check reach it before it opens. It is judged again at once: the upstream
    /// may have taken its time with the answer, and its connection may be older than the trust of now.
    pub fn enter(sidecar: &Sidecar, opened: Opened, asked: Asked, mut exchange: Box<Exchange>) -> Self {
        let room = exchange.room.take();
        let room = room.unwrap_or_else(|| sidecar.connections.replace(opened.direction, opened.peer.as_ref()));
        let registered = room.enter(opened);
        // In the registry first: between the decision and that nobody could have taken it back.
        sidecar.judge_entered(registered.entry());
        Self { asked, registered, idle: sidecar.timeouts.tcp_idle, exchange }
    }

    /// Makes the answer for downstream, and carries bytes both ways in a task of its own once it has been sent. Over HTTP/2 a
    /// tunnel is one stream of a connection, and counts on it for as long as it lasts.
    pub fn open(mut self, mut sent: Sent, sidecar: &Sidecar) -> Answer {
        let upstream = hyper::upgrade::on(&mut sent.response);
        let Sent { response, lease, .. } = sent;
        let (mut head, _) = response.into_parts();
        headers::strip_response(&mut head.headers);
        self.asked.handshake.answer(&mut head, lease.is_stream());
        self.exchange.status = Some(head.status.as_u16());
        self.exchange.parties().activity.leftover.hand_over();
        sidecar.tasks.spawn(async move {
            self.carry(upstream).await;
            drop(lease);
        });
        Response::from_parts(head, ResponseBody::none())
    }

    async fn carry(self, upstream: OnUpgrade) {
        let Self { asked, registered, idle, mut exchange } = self;
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
            // Its HTTP/2 connection may have been cut a moment before the tunnel itself.
            tcp::Ended::Broken(_) => exchange.broke_off(signal.condemned()),
        }
    }
}
