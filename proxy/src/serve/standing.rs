//! Whether a request in flight may go on: decided again when policy changes or a rule ends.
//!
//! Nothing is copied for it that its record does not have anyway, but for the header fields of a request whose decision looked
//! at them. A request that is over before it has to wait does not even ask.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::StatusCode;
use spiffe::SpiffeId;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Sleep;

use crate::connections::{self, Entry, OWN_EXPIRED};
use crate::http::refusal::Refusal;
use crate::policy_store::{Gone, PolicyStore, Refused, Verdict};
use crate::telemetry::Telemetry;
use crate::telemetry::repeated::Say;

/// What the requests of one connection from the mesh are decided by again.
#[derive(Debug)]
pub struct Standing {
    /// The connection, whose signal says when.
    pub entry: Arc<Entry>,
    /// The policy in force.
    pub policy: Arc<PolicyStore>,
    /// Who is called.
    pub own: SpiffeId,
    /// `timeouts.recheckGrace`.
    pub grace: Duration,
    /// Where it is told what must end.
    pub telemetry: Arc<Telemetry>,
}

/// How one request stands.
#[derive(Default)]
pub struct Watch {
    /// The doubts that were raised before it was decided on last.
    seen: u64,
    doubted: Option<Pin<Box<OwnedNotified>>>,
    /// What is left to a request that is not allowed any more.
    ending: Option<Pin<Box<Sleep>>>,
}

/// Refuses a request that begins on a connection which is there only to finish what was in flight when it was condemned: a
/// caller that takes no notice of GOAWAY (RFC 9113 section 6.8) must not be served for the length of the grace.
///
/// # Errors
/// When what allowed the connection no longer holds.
pub fn may_begin(entry: &Entry) -> Result<(), Refusal> {
    match entry.signal.condemned() {
        None => Ok(()),
        // Nothing is wrong with the caller: on another connection it gets the certificate that we have by then.
        Some(OWN_EXPIRED) => {
            let text = "our own certificate on this connection has ended".to_owned();
            Err(Refusal { status: StatusCode::SERVICE_UNAVAILABLE, reason: OWN_EXPIRED, text })
        }
        Some(cause) => {
            let text = format!("the connection must end: {cause}");
            Err(Refusal { status: StatusCode::FORBIDDEN, reason: NO_LONGER_ALLOWED, text })
        }
    }
}

/// The reason of a request that was allowed and had to end, or that came on a connection which had to.
pub const NO_LONGER_ALLOWED: &str = "no_longer_allowed";

impl Standing {
    fn refusal(&self, request: &Gone<'_>) -> Option<Refused> {
        let policy = self.policy.current();
        match policy.as_deref().zip(connections::connection_of(&self.own, &self.entry)) {
            Some((policy, connection)) => request.refusal(policy, connection),
            None => Some(Refused { why: "no policy is loaded", rule: None }),
        }
    }

    /// Says which request must end and why; once a minute for each address, because one change may end thousands.
    fn tell_of(&self, request: &Gone<'_>, refused: &Refused) {
        let opened = &self.entry.opened;
        let from = opened.address;
        let peer = opened.peer.as_ref().map(|peer| peer.id.to_string());
        let allowed = request.allowed.map(Verdict::record).unwrap_or_default();
        let rule = refused.rule.as_ref();
        let (policy, rule) = (rule.map(|(policy, _)| &**policy), rule.map(|(_, rule)| &**rule));
        let (was_policy, was_rule) = (allowed.policy, allowed.rule);
        let (port, why) = (opened.port, refused.why);
        match self.telemetry.repeated.note(NO_LONGER_ALLOWED, from.ip(), Instant::now()) {
            Say::Aloud { left_out } => tracing::warn!(
                peer, %from, port, why, policy, rule, was_policy, was_rule, left_out,
                "a request must end: what allowed it no longer holds"
            ),
            Say::Quietly => tracing::debug!(
                peer, %from, port, why, policy, rule, was_policy, was_rule,
                "a request must end: what allowed it no longer holds"
            ),
        }
    }
}

impl Watch {
    /// For a request that has not been decided on yet: a doubt from here on is about it as well.
    pub fn begin(standing: Option<&Standing>) -> Self {
        Self { seen: standing.map_or(0, |standing| standing.entry.signal.doubts()), ..Self::default() }
    }

    /// Whether there is anything to ask about; costs one look at an atomic.
    pub fn is_shaken(&self, standing: &Standing) -> bool {
        self.ending.is_some() || self.seen != standing.entry.signal.doubts()
    }

    /// Ready when a request that is not allowed any more has had its grace.
    pub fn poll(&mut self, standing: &Standing, request: &Gone<'_>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(ending) = &mut self.ending {
                return ending.as_mut().poll(cx);
            }
            // Made before the doubts are counted, so that one in between is not missed.
            let doubted = self.doubted.get_or_insert_with(|| Box::pin(standing.entry.signal.doubted()));
            if standing.entry.signal.doubts() == self.seen {
                ready!(doubted.as_mut().poll(cx));
            }
            self.doubted = None;
            self.decide(standing, request);
        }
    }

    /// The same as a future that allocates nothing while nothing is in doubt: most requests wait for their response, once.
    pub async fn over(&mut self, standing: &Standing, request: &Gone<'_>) {
        loop {
            if let Some(ending) = &mut self.ending {
                return ending.as_mut().await;
            }
            let doubted = standing.entry.signal.doubt_raised();
            if standing.entry.signal.doubts() == self.seen {
                doubted.await;
            }
            self.decide(standing, request);
        }
    }

    fn decide(&mut self, standing: &Standing, request: &Gone<'_>) {
        let doubts = standing.entry.signal.doubts();
        if doubts == self.seen {
            return;
        }
        self.seen = doubts;
        let Some(refused) = standing.refusal(request) else { return };
        standing.tell_of(request, &refused);
        self.ending = Some(Box::pin(tokio::time::sleep(standing.grace)));
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("seen", &self.seen)
            .field("ending", &self.ending.is_some())
            .finish_non_exhaustive()
    }
}
