//! `idle`: what a connection costs that does nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use super::conclusion::Beginning;
use super::error::CommandError;
use super::exchange::{Contact, Conversation, Question, first_contact};
use super::options::{OutputArgs, TargetArgs, parse_duration};
use super::setup::{allow_files, runtime};
use crate::client::connect::Route;
use crate::client::credentials::Sessions;
use crate::client::failure::Failure;
use crate::client::response::{Model, Sink};
use crate::measure::processes::{Watch, proportional_kib, resident_memory_kib};
use crate::outcome::Outcome;

/// Memory of idle connections: open many, exchange something on each, hold them, see that all still answer.
#[derive(Debug, Args)]
pub struct IdleArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Connections to hold.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// How long they are held.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    hold: Duration,
    /// The longest that connecting or an exchange may take.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
    /// Process of the target, on this machine; its children are counted with it. May be repeated.
    #[arg(long, value_name = "PID")]
    pid: Vec<i32>,
    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs the command.
///
/// # Errors
/// When the run could not come about.
pub fn run(args: &IdleArgs) -> Result<Outcome, CommandError> {
    if args.pid.is_empty() {
        return Err(CommandError::NoPid);
    }
    allow_files(u64::from(args.connections))?;
    let route = Arc::new(args.target.route(Sessions::Forget)?);
    let question = Question::new(&args.target, http::Method::GET, Bytes::new())?;
    let mut beginning = Beginning::new("idle", &args.target)?;
    LocalSet::new().block_on(&runtime()?, async {
        let contact = first_contact(&route, &question, args.timeout).await?;
        beginning.agreed(&contact);
        beginning.set("connections", args.connections.to_string());
        beginning.set("hold", format!("{:?}", args.hold));
        let began = time::OffsetDateTime::now_utc();
        let before = memory(&args.pid);
        let mut holding = Holding { route, question, contact, limit: args.timeout, failures: Vec::new() };
        let open = holding.open(args.connections).await;
        let held = open.len();
        let watch = Watch::start(&args.pid)?;
        let since = Instant::now();
        tokio::time::sleep(args.hold).await;
        let after = memory(&args.pid);
        let usages = watch.finish();
        let seconds = since.elapsed().as_secs_f64();
        let answered = holding.ask_again(open).await;
        let mut outcome = beginning.bare(began, "connection")?;
        outcome.seconds = seconds;
        outcome.operations = count(answered);
        let mut cost = usages.cost(0.0, None);
        cost.memory_start_kib = before.kib;
        outcome.costs.insert("target".to_owned(), cost);
        outcome.counts = BTreeMap::from([
            ("connections_held".to_owned(), count(held)),
            ("still_answered".to_owned(), count(answered)),
            ("memory_before_kib".to_owned(), float(before.kib)),
            ("memory_after_kib".to_owned(), float(after.kib)),
        ]);
        if held > 0 {
            let each = (float(after.kib) - float(before.kib)) / count(held);
            outcome.counts.insert("memory_per_connection_kib".to_owned(), each);
        }
        outcome.remarks.push(before.kind.sentence().to_owned());
        for failure in holding.failures {
            *outcome.failures.entry(failure.kind.to_string()).or_default() += 1;
            if outcome.examples.len() < 5 && !outcome.examples.contains(&failure.text) {
                outcome.examples.push(failure.text);
            }
        }
        Ok(outcome)
    })
}

/// The connections that are held.
struct Holding {
    route: Arc<Route>,
    question: Question,
    contact: Contact,
    limit: Duration,
    failures: Vec<Failure>,
}

impl Holding {
    /// Opens so many, some at a time.
    async fn open(&mut self, wanted: u32) -> Vec<Conversation> {
        let mut open = Vec::new();
        let mut under_way = JoinSet::new();
        for _ in 0..wanted {
            if under_way.len() >= AT_ONCE {
                self.collect(under_way.join_next().await, &mut open);
            }
            let (route, question) = (Arc::clone(&self.route), self.question.clone());
            let (model, limit) = (Arc::clone(&self.contact.model), self.limit);
            under_way.spawn_local(async move {
                let opened = timeout(limit, async {
                    let mut conversation = question.begin(route.connect().await?.stream).await?;
                    ask(&mut conversation, &model).await?;
                    Ok(conversation)
                });
                opened.await.unwrap_or_else(|_| Err(Failure::timeout("no connection within the time limit")))
            });
        }
        while let Some(next) = under_way.join_next().await {
            self.collect(Some(next), &mut open);
        }
        open
    }

    /// Asks on all of them again and closes them. Returns how many answered.
    async fn ask_again(&mut self, open: Vec<Conversation>) -> usize {
        let mut alive = 0;
        for mut conversation in open {
            let asked = timeout(self.limit, ask(&mut conversation, &self.contact.model)).await;
            match asked.unwrap_or_else(|_| Err(Failure::timeout("an idle connection did not answer any more"))) {
                Ok(()) => alive += 1,
                Err(failure) => self.failures.push(failure),
            }
            let _ = timeout(self.limit, conversation.close()).await;
        }
        alive
    }

    fn collect(
        &mut self,
        ended: Option<Result<Result<Conversation, Failure>, tokio::task::JoinError>>,
        open: &mut Vec<Conversation>,
    ) {
        match ended {
            Some(Ok(Ok(conversation))) => open.push(conversation),
            Some(Ok(Err(failure))) => self.failures.push(failure),
            // A task that panicked or was ended counts as a connection that was lost.
            Some(Err(error)) => self.failures.push(Failure::new("lost", error.to_string())),
            None => {}
        }
    }
}

async fn ask(conversation: &mut Conversation, model: &Model) -> Result<(), Failure> {
    conversation.exchange(1, &mut Sink::of(Some(model))).await.map(|_| ())
}

/// How memory was counted.
#[derive(Debug, Clone, Copy)]
enum MemoryKind {
    Proportional,
    Resident,
}

#[derive(Debug, Clone, Copy)]
struct Memory {
    kib: u64,
    kind: MemoryKind,
}

impl MemoryKind {
    fn sentence(self) -> &'static str {
        match self {
            Self::Proportional => "Memory is the proportional set size: pages that processes share count once in all.",
            Self::Resident => "Memory is the resident set size: pages that processes share count once for each.",
        }
    }
}

fn memory(pids: &[i32]) -> Memory {
    match proportional_kib(pids) {
        Ok(kib) => Memory { kib, kind: MemoryKind::Proportional },
        Err(_) => Memory { kib: resident_memory_kib(pids), kind: MemoryKind::Resident },
    }
}

#[expect(clippy::cast_precision_loss, reason = "connections are far fewer than 2^53")]
fn count(number: usize) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "memory in KiB is far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

const AT_ONCE: usize = 32;
