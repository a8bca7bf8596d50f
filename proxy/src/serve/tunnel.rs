//! What a request comes to: an ordinary response, or a tunnel that opens only after the upstream's 101.

use std::time::Duration;

use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::connection::Answer;
use super::exchange::Exchange;
use super::response::ResponseBody;
use crate::connections::Registered;
use crate::drain::Tasks;
use crate::http::headers;
use crate::http::refusal::Refusal;
use crate::http::upgrade::Asked;
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
    /// Its place in the registry, where drain and re-check reach it before it opens; `None` when there is no room.
    pub registered: Option<Registered>,
    /// `timeouts.tcpIdle`.
    pub idle: Duration,
    /// The record of the request that opened it, written when it ends.
    pub exchange: Box<Exchange>,
}

impl Tunnel {
    /// Makes the 101 for downstream, and carries bytes both ways in a task of its own once it has been sent.
    pub fn open(mut self, mut sent: Sent, tasks: &Tasks) -> Answer {
        let upstream = hyper::upgrade::on(&mut sent.response);
        let (mut head, _) = sent.response.into_parts();
        headers::strip_hop_by_hop(&mut head.headers);
        Asked::ask(&mut head.headers);
        self.exchange.status = Some(head.status.as_u16());
        self.exchange.parties().activity.leftover.hand_over();
        tasks.spawn(async move { self.carry(upstream).await });
        Response::from_parts(head, ResponseBody::none())
    }

    async fn carry(self, upstream: OnUpgrade) {
        let Self { asked, registered, idle, mut exchange } = self;
        let Some(registered) = registered else {
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
