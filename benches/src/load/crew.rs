//! The threads that carry out the operations, and what is measured around them.
//!
//! Each thread has a runtime of its own and some of the users. First all users get ready, then the load begins for all
//! at once. Invariant: [`run`] returns; a user that does not come back within its time limit is a failure.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use super::alarm::Alarm;
use super::progress::{Counters, Progress, Show};
use super::tally::{Done, Tally};
use super::tickets::{Moments, Pace, Tickets};
use crate::client::failure::Failure;
use crate::measure::processes::{Usages, Watch, WatchError};

/// How much load, for how long, and who is watched.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the run, for the bar.
    pub name: &'static str,
    /// One operation, in the singular.
    pub unit: &'static str,
    /// How fast operations start.
    pub pace: Pace,
    /// Length of what is measured.
    pub duration: Duration,
    /// Length of what comes before it.
    pub warm_up: Duration,
    /// The longest that an operation may take.
    pub timeout: Duration,
    /// Threads that make load.
    pub threads: usize,
    /// Connections, spread over the threads.
    pub connections: usize,
    /// Processes of the target.
    pub target: Vec<i32>,
    /// Processes of the application behind it.
    pub backend: Vec<i32>,
    /// Whether a bar is shown.
    pub show: Show,
}

/// Somebody who carries out operations, one at a time.
pub trait User {
    /// Gets ready before the load begins: connects, for instance.
    fn prepare(&mut self) -> impl Future<Output = Result<(), Failure>>;

    /// Carries out one operation. After a failure the next one starts afresh.
    fn act(&mut self, number: u64) -> impl Future<Output = Result<Done, Failure>>;
}

/// What was seen of a run.
#[derive(Debug)]
pub struct Measured {
    /// What came of the operations.
    pub tally: Tally,
    /// Length of the measured window.
    pub window: Duration,
    /// When it began, since 1970.
    pub began: time::OffsetDateTime,
    /// What this program used.
    pub generator: Usages,
    /// What the target used, if its processes were named.
    pub target: Option<Usages>,
    /// What the application used, if its processes were named.
    pub backend: Option<Usages>,
}

/// A run that did not come about.
#[derive(Debug, Error)]
pub enum RunError {
    /// A process that was named is not there.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// No runtime or timer could be made.
    #[error("no thread for the load could be set up")]
    Thread(#[source] std::io::Error),
    /// The target does not answer as it should before there is any load.
    #[error("the target does not answer as it should: {}", .0.text)]
    NotReady(Failure),
    /// A thread ended by a panic, which is a defect of this program.
    #[error("a thread of the load ended unexpectedly: please report this")]
    Lost,
}

/// The parts of a run that all threads share.
struct Shared<'a> {
    plan: &'a Plan,
    start: watch::Receiver<Option<Moments>>,
    counters: Arc<Counters>,
}

/// Carries out a plan. `users` makes those of the connection with the given number, in the thread that they will be in.
///
/// # Errors
/// When the users cannot get ready; what fails later is part of what was measured.
pub fn run<U, F>(plan: &Plan, users: F) -> Result<Measured, RunError>
where
    U: User + 'static,
    F: Fn(usize) -> Vec<U> + Sync,
{
    let counters = Arc::new(Counters::default());
    let (go, start) = watch::channel(None);
    let (report, reports) = mpsc::channel();
    let merged = Mutex::new(None::<Tally>);
    std::thread::scope(|scope| {
        for thread in 0..plan.threads {
            let shared = Shared { plan, start: start.clone(), counters: Arc::clone(&counters) };
            let (report, users, merged) = (Report(report.clone()), &users, &merged);
            scope.spawn(move || match one_thread(thread, &shared, users, &report) {
                Ok(Some(tally)) => {
                    let mut merged = merged.lock().unwrap_or_else(PoisonError::into_inner);
                    match merged.as_mut() {
                        Some(all) => all.merge(tally),
                        None => *merged = Some(tally),
                    }
                }
                Ok(None) => {}
                Err(error) => report.tell(Err(error)),
            });
        }
        let watched = observe(plan, &go, &reports, &counters);
        // Threads that wait for the start end when nobody can give it any more.
        drop(go);
        watched
    })
    .and_then(|watched| {
        let tally = merged.into_inner().unwrap_or_else(PoisonError::into_inner).ok_or(RunError::Lost)?;
        Ok(watched.with(tally))
    })
}

/// How a thread tells that it is ready, or that it has failed, even by a panic.
struct Report(mpsc::Sender<Result<(), RunError>>);

impl Report {
    fn tell(&self, what: Result<(), RunError>) {
        // Nobody listens any more when another thread has failed already.
        let _ = self.0.send(what);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell(Err(RunError::Lost));
        }
    }
}

/// What the main thread saw.
struct Watched {
    window: Duration,
    began: time::OffsetDateTime,
    generator: Usages,
    target: Option<Usages>,
    backend: Option<Usages>,
}

impl Watched {
    fn with(self, tally: Tally) -> Measured {
        let Self { window, began, generator, target, backend } = self;
        Measured { tally, window, began, generator, target, backend }
    }
}

/// Gives the start once all threads are ready, and watches the processes while the load goes on.
fn observe(
    plan: &Plan,
    go: &watch::Sender<Option<Moments>>,
    reports: &mpsc::Receiver<Result<(), RunError>>,
    counters: &Counters,
) -> Result<Watched, RunError> {
    for _ in 0..plan.threads {
        reports.recv().map_err(|_| RunError::Lost)??;
    }
    let origin = Instant::now();
    let moments = Moments::new(origin, plan.warm_up, plan.duration);
    go.send_replace(Some(moments));
    let mut progress = Progress::start(plan.show, plan.name, moments.until - origin, plan.unit);
    let mut wait_until = |moment: Instant, on_step: &mut dyn FnMut()| {
        while let Some(left) = moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let step = left.min(STEP);
            // Threads are silent while they work, unless one fails.
            match reports.recv_timeout(step) {
                Ok(Err(error)) => return Err(error),
                Ok(Ok(())) | Err(RecvTimeoutError::Timeout) => {}
                // `run` itself holds a sender.
                Err(RecvTimeoutError::Disconnected) => return Err(RunError::Lost),
            }
            progress.tell(origin.elapsed(), step, counters);
            on_step();
        }
        Ok(())
    };
    wait_until(moments.from, &mut || {})?;
    let began = time::OffsetDateTime::now_utc();
    let started = Instant::now();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mut generator = Watch::start(&[own])?;
    let mut target = some(&plan.target)?;
    let mut backend = some(&plan.backend)?;
    wait_until(moments.until, &mut || {
        generator.sample();
        target.iter_mut().chain(&mut backend).for_each(|watch| {
            watch.sample();
        });
    })?;
    let target = target.map(Watch::finish);
    let backend = backend.map(Watch::finish);
    let generator = generator.finish();
    let window = started.elapsed().min(plan.duration);
    progress.end();
    Ok(Watched { window, began, generator, target, backend })
}

fn some(pids: &[i32]) -> Result<Option<Watch>, WatchError> {
    if pids.is_empty() { Ok(None) } else { Watch::start(pids).map(Some) }
}

/// The life of one thread. `None` when the load never began.
fn one_thread<U: User + 'static>(
    thread: usize,
    shared: &Shared<'_>,
    users: &impl Fn(usize) -> Vec<U>,
    report: &Report,
) -> Result<Option<Tally>, RunError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(RunError::Thread)?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        // 1. Get ready, some at a time: a target that meets all at once may drop connections.
        let mine = (thread..shared.plan.connections).step_by(shared.plan.threads).flat_map(users);
        let ready = prepare(mine.collect(), shared.plan.timeout).await?;
        report.tell(Ok(()));

        // 2. Wait for the start.
        let mut start = shared.start.clone();
        let Ok(moments) = start.wait_for(Option::is_some).await.map(|moments| *moments) else { return Ok(None) };
        let Some(moments) = moments else { return Ok(None) };

        // 3. Work until the end, and let what is under way come back.
        let alarm = Alarm::new().map_err(RunError::Thread)?;
        let turns = (thread as u64, shared.plan.threads as u64);
        let tickets = Rc::new(Tickets::new(moments, shared.plan.pace, turns, alarm));
        let tally = Rc::new(RefCell::new(Tally::new(moments, shared.plan.pace)));
        let mut working = JoinSet::new();
        for (number, user) in ready.into_iter().enumerate() {
            let desk = Desk {
                tickets: Rc::clone(&tickets),
                tally: Rc::clone(&tally),
                counters: Arc::clone(&shared.counters),
                limit: shared.plan.timeout,
                // Numbers of different users never meet.
                first: ((thread as u64) << 56) | ((number as u64) << 36),
            };
            working.spawn_local(desk.work(user));
        }
        let ringing = Rc::clone(&tickets);
        let bell = tokio::task::spawn_local(async move { ringing.ring().await });
        // In an open loop that fell behind, tickets are still being worked off; not for ever.
        let deadline = tokio::time::Instant::from_std(moments.until) + shared.plan.timeout + GRACE;
        let all_back = async { while working.join_next().await.is_some() {} };
        let _ = tokio::time::timeout_at(deadline, all_back).await;
        working.shutdown().await;
        bell.abort();
        let left = tickets.left_over();
        let mut tally = tally.replace(Tally::new(moments, shared.plan.pace));
        tally.all_failed("not_started", left, "operations were due and nobody was free to start them".to_owned());
        Ok(Some(tally))
    })
}

/// Lets all users get ready.
async fn prepare<U: User + 'static>(users: Vec<U>, limit: Duration) -> Result<Vec<U>, RunError> {
    let mut waiting = users.into_iter();
    let mut under_way = JoinSet::new();
    let mut ready = Vec::new();
    loop {
        while under_way.len() < AT_ONCE {
            let Some(mut user) = waiting.next() else { break };
            under_way.spawn_local(async move {
                let prepared = timeout(limit, user.prepare()).await;
                prepared.unwrap_or_else(|_| Err(Failure::timeout("no connection within the time limit"))).map(|()| user)
            });
        }
        match under_way.join_next().await {
            Some(Ok(Ok(user))) => ready.push(user),
            Some(Ok(Err(failure))) => return Err(RunError::NotReady(failure)),
            Some(Err(_)) => return Err(RunError::Lost),
            None => return Ok(ready),
        }
    }
}

/// Where one user works.
struct Desk {
    tickets: Rc<Tickets>,
    tally: Rc<RefCell<Tally>>,
    counters: Arc<Counters>,
    limit: Duration,
    first: u64,
}

impl Desk {
    async fn work<U: User>(self, mut user: U) {
        let mut number = self.first;
        while let Some(due) = self.tickets.next().await {
            number += 1;
            let acted = timeout(self.limit, user.act(number)).await;
            let ended = Instant::now();
            let outcome = acted.unwrap_or_else(|_| Err(Failure::timeout("no answer within the time limit")));
            match outcome {
                Ok(done) => {
                    self.counters.done.fetch_add(1, Ordering::Relaxed);
                    self.tally.borrow_mut().succeeded(due, ended, &done);
                }
                Err(failure) => {
                    self.counters.failed.fetch_add(1, Ordering::Relaxed);
                    self.tally.borrow_mut().failed(ended, failure);
                    // A target that refuses at once must not be hammered.
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }
}

const STEP: Duration = Duration::from_millis(200);
const AT_ONCE: usize = 64;
const AFTER_FAILURE: Duration = Duration::from_millis(10);
const GRACE: Duration = Duration::from_secs(1);
