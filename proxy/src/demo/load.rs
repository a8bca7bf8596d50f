//! Callers that call as fast as they can, and count what fails.
//!
//! Every second request is a POST with a body, which no proxy may send twice: a failure cannot be hidden by trying again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;

use super::client::{Ask, Caller};
use super::error::DemoError;
use super::room::Room;
use super::stage::{CHECKS, PATH};
use crate::drain::Tasks;

/// See the module.
pub(super) struct Load {
    tally: Arc<Tally>,
    room: Room,
}

#[derive(Default)]
struct Tally {
    requests: AtomicU64,
    failed: AtomicU64,
    slowest_micros: AtomicU64,
    first_failure: Mutex<Option<String>>,
    over: AtomicBool,
}

/// What came of it.
pub(super) struct Outcome {
    pub requests: u64,
    pub failed: u64,
    pub slowest: Duration,
    pub first_failure: Option<String>,
    /// Whether every caller got the answer that it waited for.
    pub finished: bool,
}

impl Load {
    /// Starts this many callers, each with a connection of its own.
    pub(super) fn start(callers: usize, to: SocketAddr) -> Result<Self, DemoError> {
        let room = Room::open("callers")?;
        let tally = Arc::new(Tally::default());
        for number in 0..callers {
            room.spawn(call(number, to, Arc::clone(&tally), room.tasks()));
        }
        Ok(Self { tally, room })
    }

    pub(super) fn requests(&self) -> u64 {
        self.tally.requests.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> u64 {
        self.tally.failed.load(Ordering::Relaxed)
    }

    /// Lets every caller finish its request.
    pub(super) async fn stop(self) -> Outcome {
        self.tally.over.store(true, Ordering::Relaxed);
        let finished = self.room.finish(LIMIT).await;
        let first_failure = self.tally.first_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        Outcome {
            requests: self.requests(),
            failed: self.failed(),
            slowest: Duration::from_micros(self.tally.slowest_micros.load(Ordering::Relaxed)),
            first_failure,
            finished,
        }
    }
}

impl Tally {
    fn fail(&self, why: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

async fn call(number: usize, to: SocketAddr, tally: Arc<Tally>, tasks: Tasks) {
    let id = format!("demo-load-{number}");
    let mut turn = 0_u64;
    while !tally.is_over() {
        let mut caller = match Caller::connect(to, &tasks).await {
            Ok(caller) => caller,
            Err(error) => {
                tally.fail(crate::error_chain(&error));
                // A refused connection must not spin.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        while !tally.is_over() {
            let started = Instant::now();
            turn += 1;
            let body = Bytes::from(format!("{number} {turn} ").repeat(BODY));
            let reads = turn.is_multiple_of(2);
            let asked = if reads {
                Ask::get(PATH, &id)
            } else {
                Ask { method: Method::POST, path: CHECKS, request_id: &id, body: body.clone() }
            };
            let answered = caller.call(asked).await;
            let took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            tally.requests.fetch_add(1, Ordering::Relaxed);
            tally.slowest_micros.fetch_max(took, Ordering::Relaxed);
            match answered {
                Ok(reply) if reply.status == 200 && (reads || reply.body == body) => {}
                Ok(reply) if reply.status == 200 => tally.fail("the answer is that to another question".to_owned()),
                Ok(reply) => tally.fail(format!("{} {}", reply.status, reply.reason.unwrap_or_default())),
                Err(error) => {
                    tally.fail(crate::error_chain(&error));
                    break;
                }
            }
        }
    }
}

/// Makes some two KiB: more than a head, less than a socket's buffer.
const BODY: usize = 256;
/// As long as a call may take, and a little more.
const LIMIT: Duration = Duration::from_secs(11);
