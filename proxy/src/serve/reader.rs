//! Readers that do not read: a response whose caller does not take what is there ends within `timeouts.bodyStall`.
//!
//! The HTTP library does not ask a body for more while the caller's window or socket is full, so a body cannot time its own
//! reader. While it is not asked, the record of its exchange lies in the `Seat` of whoever drives it: the task of a stream over
//! HTTP/2, that of the connection over HTTP/1.1. An occupied seat is a response that waits for its reader; one that waits for the
//! upstream has taken its record back. Ending it is dropping it: HTTP/2 resets the one stream, HTTP/1.1 closes the connection,
//! and the upstream's side ends with it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep};

use super::exchange::Exchange;
use super::standing::NO_LONGER_ALLOWED;
use crate::drain::Tasks;

tokio::task_local! {
    /// The seat of whoever is driving on this thread. Set around each poll, because bodies are made inside of it.
    static SEAT: RefCell<Seat>;
}

/// Where the record of an exchange lies while its response waits for its reader.
#[derive(Debug, Default)]
struct Seat {
    exchange: Option<Box<Exchange>>,
    /// When the reader was first seen to be waited for, since a body handed something out last.
    since: Option<Instant>,
}

/// Leaves the record in the seat: what was handed out has to be read before there is more to ask for. Where nobody drives, as
/// in a body that is read by a test, it stays.
pub fn leave(exchange: &mut Option<Box<Exchange>>) {
    if exchange.is_some() {
        let _ = SEAT.try_with(|seat| {
            *seat.borrow_mut() = Seat { exchange: exchange.take(), since: None };
        });
    }
}

/// Takes the record back: the reader has read on, or the response is over.
pub fn take_back(exchange: &mut Option<Box<Exchange>>) {
    if exchange.is_none() {
        *exchange = SEAT.try_with(|seat| seat.borrow_mut().exchange.take()).unwrap_or_default();
    }
}

/// Drives what answers, and watches over whether its answers are read. Its timer is made for the first response that waits for
/// its reader, and moved only when it has run out.
#[derive(Debug)]
pub struct Reading {
    limit: Duration,
    seat: Seat,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Reading {
    /// `limit` is `timeouts.bodyStall`; zero is none.
    pub fn new(limit: Duration) -> Self {
        Self { limit, seat: Seat::default(), timer: None }
    }

    /// Polls `driven`. Ready with a reason when it is to be dropped, because of what has been recorded with the exchange.
    pub fn poll<F: Future>(
        &mut self,
        driven: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, &'static str>> {
        let seat = RefCell::new(std::mem::take(&mut self.seat));
        let (polled, seat) = SEAT.sync_scope(seat, || {
            let polled = driven.poll(cx);
            (polled, SEAT.with(RefCell::take))
        });
        self.seat = seat;
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.watch(cx).map(Err),
        }
    }

    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        let Some(exchange) = &mut self.seat.exchange else { return Poll::Pending };
        // The body asks this itself, when it is asked: here it is not.
        if exchange.poll_revoked(cx).is_ready() {
            exchange.no_longer_allowed();
            return Poll::Ready(NO_LONGER_ALLOWED);
        }
        if self.limit.is_zero() {
            return Poll::Pending;
        }
        let due = *self.seat.since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        while timer.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                exchange.is_not_read();
                return Poll::Ready(RESPONSE_STALLED);
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// Spawns the streams of an HTTP/2 connection, each watched over by itself.
#[derive(Clone, Debug)]
pub struct Readers {
    tasks: Tasks,
    limit: Duration,
}

impl Readers {
    /// `limit` is `timeouts.bodyStall`.
    pub fn new(tasks: Tasks, limit: Duration) -> Self {
        Self { tasks, limit }
    }
}

impl<F> Executor<F> for Readers
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let mut reading = Reading::new(self.limit);
        self.tasks.spawn(async move {
            let mut stream = std::pin::pin!(stream);
            // Why it was given up is on its record.
            let _ = std::future::poll_fn(|cx| reading.poll(stream.as_mut(), cx)).await;
        });
    }
}

/// The reason of a response that its caller did not read.
pub const RESPONSE_STALLED: &str = "response_stalled";
