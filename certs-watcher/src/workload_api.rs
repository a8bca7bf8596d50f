//! The SPIFFE Workload API as a source of identity and trust: one call of `FetchX509SVID` that is kept open for ever.
//!
//! [`WorkloadApi::run`] publishes a [`Report`] on a channel: the last message that could be taken, whole, and what is
//! wrong, side by side. While the agent is away, or sends what cannot be taken, the last good stays. What a message does
//! not hold is revoked, and so is every identity when the agent answers PermissionDenied. Nothing is proven here.
//!
//! The client is our own, over the h2 crate. That of the `spiffe` crate drops the CRLs, refuses a whole message for one
//! SVID whose certificate it would not use itself, keeps its generated types private, and brings tonic, tower and hyper.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use self::backoff::Backoff;
pub use self::call::CallError;
pub use self::delivery::{Choice, Delivery, MessageError, Place, Svid, SvidKey};
pub use self::endpoint::{Endpoint, EndpointError};
pub use self::frames::FrameError;
pub use self::status::{Code, Status};
pub use self::wire::WireError;
use crate::certificate::printable;
use crate::explain::explain;

mod backoff;
mod call;
mod delivery;
mod endpoint;
mod frames;
mod meter;
mod status;
mod wire;

/// What the Workload API has told us, and what is wrong with it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The last message that could be taken. `None` until the first.
    pub last: Option<Arc<Delivery>>,
    /// Why there is nothing newer, if something is wrong. It goes with the next message that can be taken.
    pub problem: Option<Arc<Problem>>,
}

impl Report {
    /// The SVID that is ours, by the last word of the Workload API.
    ///
    /// # Errors
    /// If it has not spoken yet, or has withdrawn it; see [`NoSvid`].
    pub fn svid(&self, choice: &Choice) -> Result<&Svid, NoSvid> {
        let delivery = self.last.as_ref().ok_or(NoSvid::NothingYet)?;
        if delivery.svids.is_empty() {
            return Err(NoSvid::Withdrawn);
        }
        delivery.choose(choice).ok_or_else(|| NoSvid::NotAmong {
            wanted: choice.clone(),
            // Enough to recognise which they are.
            offered: delivery.svids.iter().take(5).map(describe).collect::<Vec<_>>().join(", "),
        })
    }
}

/// Keeps the call open and publishes what comes of it. The one writer; receivers of the channel are the readers.
pub struct WorkloadApi {
    endpoint: Endpoint,
    desk: Desk,
}

impl WorkloadApi {
    /// A source that has not called yet, and the channel on which it will report.
    pub fn new(endpoint: Endpoint) -> (Self, watch::Receiver<Report>) {
        let (sender, receiver) = watch::channel(Report::default());
        (Self { endpoint, desk: Desk { sender, messages: 0, taken: 0, repeated: 0 } }, receiver)
    }

    /// Calls, and calls again, until `stop` completes. No answer and no failure ends it.
    ///
    /// A call that had delivered is repeated at once; one that had not, after 100 ms at first and 10 s at most, half of it
    /// by chance. A message is parsed on the calling task, which takes milliseconds: run it where that delays nobody.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut calls = pin!(self.call_for_ever());
        tokio::select! {
            biased;
            // Dropped half-way, a call is closed by the end of its socket, which is how an agent expects it.
            () = &mut stop => debug!("workload API closed"),
            never = &mut calls => match never {},
        }
    }

    async fn call_for_ever(self) -> Infallible {
        let Self { endpoint, mut desk } = self;
        if endpoint.leaves_machine() {
            warn!(%endpoint, "the workload API is on another machine: private keys cross the network in plaintext");
        }
        let mut backoff = Backoff::default();
        loop {
            let (begun, before) = (Instant::now(), desk.taken);
            let error = call::call(&endpoint, |message| desk.take(message)).await;
            let wait = if desk.taken > before && !error.withdraws_identity() {
                backoff.after_delivery(begun.elapsed())
            } else if error.is_standing() {
                backoff.after_standing_error()
            } else {
                backoff.after_failure()
            };
            desk.tell(Problem::Call(error));
            sleep(wait).await;
        }
    }
}

/// Where messages and failures become reports and log lines.
struct Desk {
    sender: watch::Sender<Report>,
    /// How many messages came.
    messages: u64,
    /// How many of them were taken.
    taken: u64,
    /// How often the problem at hand was met again.
    repeated: u64,
}

impl Desk {
    fn take(&mut self, message: &[u8]) {
        self.messages += 1;
        match Delivery::read(self.messages, message) {
            Ok(delivery) => {
                self.taken += 1;
                self.repeated = 0;
                info!(
                    message = delivery.number,
                    svids = delivery.svids.len(),
                    bundles = delivery.bundles.len(),
                    crls = delivery.crls.len(),
                    "workload API delivered"
                );
                self.sender.send_replace(Report { last: Some(Arc::new(delivery)), problem: None });
            }
            Err(source) => self.tell(Problem::Message { number: self.messages, source }),
        }
    }

    /// Puts the problem beside the last good. The first of its kind is logged, and repetitions are counted.
    fn tell(&mut self, problem: Problem) {
        let label = problem.label();
        let known = self.sender.borrow().problem.as_ref().is_some_and(|known| known.label() == label);
        self.repeated = if known { self.repeated + 1 } else { 0 };
        let reason = explain(&problem);
        if known {
            debug!(label, reason, repeated = self.repeated, "workload API still fails");
        } else if problem.is_standing() {
            error!(label, reason, "workload API refuses, and asking again will not help");
        } else if problem.withdraws_identity() {
            warn!(label, reason, "workload API gives this workload no identity");
        } else {
            warn!(label, reason, "workload API fails; what it gave before stays");
        }
        self.sender.send_modify(|report| {
            if problem.withdraws_identity() {
                report.last = report.last.take().map(|last| Arc::new(last.without_svids()));
            }
            report.problem = Some(Arc::new(problem));
        });
    }
}

fn describe(svid: &Svid) -> String {
    match &svid.hint {
        Some(hint) => format!("`{}` with the hint `{}`", svid.id, printable(hint)),
        None => format!("`{}`", svid.id),
    }
}

/// What is wrong with the source.
#[derive(Debug, Error)]
pub enum Problem {
    /// The call failed or ended, and will be repeated.
    #[error("the workload API cannot be read")]
    Call(#[source] CallError),
    /// A message was refused whole. The stream goes on.
    #[error("message {number} of the workload API was refused whole")]
    Message {
        /// Its place among all that came since the start, from 1.
        number: u64,
        /// What is wrong with it.
        #[source]
        source: MessageError,
    },
}

impl Problem {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Call(source) => source.label(),
            Self::Message { source, .. } => source.label(),
        }
    }

    /// Whether asking again cannot help until somebody changes something.
    pub fn is_standing(&self) -> bool {
        match self {
            Self::Call(source) => source.is_standing(),
            Self::Message { .. } => false,
        }
    }

    /// Whether the agent said that we are entitled to no identity.
    fn withdraws_identity(&self) -> bool {
        match self {
            Self::Call(source) => source.withdraws_identity(),
            Self::Message { .. } => false,
        }
    }
}

/// Why there is no SVID for us.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoSvid {
    /// Nothing was delivered yet. It says nothing about what we are entitled to.
    #[error("the workload API has delivered nothing yet")]
    NothingYet,
    /// The agent answered PermissionDenied: the identity that we had is revoked.
    #[error(
        "the workload API withdrew every identity of this workload (PermissionDenied); is its registration entry still there?"
    )]
    Withdrawn,
    /// The last message holds others, but not this one: if we had it, it is revoked.
    #[error("the workload API delivers no longer, or never did, {wanted}; it delivers {offered}")]
    NotAmong {
        /// Which one is ours.
        wanted: Choice,
        /// What there is, the first few.
        offered: String,
    },
}

impl NoSvid {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NothingYet => "nothing_delivered",
            Self::Withdrawn => "identity_withdrawn",
            Self::NotAmong { .. } => "identity_not_delivered",
        }
    }

    /// Whether an identity that we hold from this source must not be used any longer.
    pub fn revokes(&self) -> bool {
        match self {
            Self::NothingYet => false,
            Self::Withdrawn | Self::NotAmong { .. } => true,
        }
    }
}
