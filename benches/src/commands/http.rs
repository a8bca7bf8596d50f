//! `http`: requests over connections that stay, HTTP/1.1 or HTTP/2.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use tokio::task::LocalSet;

use super::conclusion::Beginning;
use super::error::CommandError;
use super::exchange::{Contact, Conversation, Question, first_contact};
use super::options::{LoadArgs, OutputArgs, Protocol, TargetArgs, WatchArgs, parse_bytes};
use super::setup::{SharedRoute, runtime};
use crate::client::connect::Route;
use crate::client::credentials::Sessions;
use crate::client::failure::Failure;
use crate::client::http2::Http2;
use crate::client::opaque::Place;
use crate::client::response::{Model, Sink};
use crate::load::crew::{self, Plan, User};
use crate::load::tally::Done;
use crate::outcome::Outcome;

/// Requests over connections that stay; closed loop, or with --rate an open one.
///
/// Every answer must have status 200 and equal the first one, and carry the number of its request if that did.
#[derive(Debug, Args)]
pub struct HttpArgs {
    #[command(flatten)]
    pub(super) request: RequestArgs,
    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What is asked, of whom, how often.
#[derive(Debug, Clone, Args)]
pub struct RequestArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    /// Requests at once on each HTTP/2 connection.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) streams: u32,
    /// Method of the requests.
    #[arg(long, default_value = "GET")]
    pub(super) method: http::Method,
    /// Size of each request's body, as in 1000 or 64KiB.
    #[arg(long, default_value = "0", value_parser = parse_bytes)]
    pub(super) body_size: u64,
    #[command(flatten)]
    pub(super) watched: WatchArgs,
}

/// Everything that requests need, made from the options.
pub(super) struct Requests {
    pub(super) plan: Plan,
    pub(super) route: SharedRoute,
    pub(super) question: Question,
    pub(super) contact: Contact,
    streams: u32,
}

/// Somebody who asks over a connection that stays.
pub struct Asking {
    lane: Rc<Lane>,
    /// Set while an operation is under way: one that was given up leaves it behind.
    unfinished: bool,
}

/// One connection, that of one user of HTTP/1.1 or of several of HTTP/2.
struct Lane {
    route: Arc<Route>,
    question: Question,
    model: Arc<Model>,
    current: RefCell<Option<Conversation>>,
    opening: tokio::sync::Mutex<()>,
}

/// Runs the command.
///
/// # Errors
/// When the run could not come about.
pub fn run(args: &HttpArgs) -> Result<Outcome, CommandError> {
    let mut beginning = Beginning::new("http", &args.request.target)?;
    let requests = Requests::prepare(&args.request, "http", &args.output)?;
    requests.describe(&mut beginning, &args.request);
    let measured = crew::run(&requests.plan, |_| requests.users())?;
    beginning.conclude(&requests.plan, measured, None)
}

impl Requests {
    /// Makes the plan and meets the target for the first time.
    pub(super) fn prepare(args: &RequestArgs, name: &'static str, output: &OutputArgs) -> Result<Self, CommandError> {
        if !args.target.target.scheme.is_http() {
            return Err(CommandError::Scheme {
                command: name,
                needs: "an https:// or http:// target",
                target: args.target.target.to_string(),
            });
        }
        let plan = args.load.plan((name, "request"), &args.watched, output)?;
        let route = Arc::new(args.target.route(Sessions::Forget)?);
        let question = Question::new(&args.target, args.method.clone(), body(args.body_size))?;
        let contact = LocalSet::new().block_on(&runtime()?, first_contact(&route, &question, plan.timeout))?;
        let streams = match args.target.protocol {
            Protocol::Http1 => 1,
            Protocol::Http2 => args.streams,
        };
        Ok(Self { plan, route, question, contact, streams })
    }

    /// Notes what is asked.
    pub(super) fn describe(&self, beginning: &mut Beginning, args: &RequestArgs) {
        beginning.agreed(&self.contact);
        beginning.planned(&self.plan);
        beginning.set(
            "protocol",
            match args.target.protocol {
                Protocol::Http1 => "HTTP/1.1",
                Protocol::Http2 => "HTTP/2",
            },
        );
        if self.streams > 1 {
            beginning.set("streams per connection", self.streams.to_string());
        }
        beginning.set("answer", format!("{} bytes", self.contact.model.body.len()));
        beginning.set("answers matched by number", if self.contact.model.is_numbered { "yes" } else { "no" });
    }

    /// The users of one connection.
    pub(super) fn users(&self) -> Vec<Asking> {
        let lane = Rc::new(Lane {
            route: Arc::clone(&self.route),
            question: self.question.clone(),
            model: Arc::clone(&self.contact.model),
            current: RefCell::new(None),
            opening: tokio::sync::Mutex::new(()),
        });
        (0..self.streams).map(|_| Asking { lane: Rc::clone(&lane), unfinished: false }).collect()
    }
}

impl User for Asking {
    async fn prepare(&mut self) -> Result<(), Failure> {
        self.lane.ensure_open().await
    }

    async fn act(&mut self, number: u64) -> Result<Done, Failure> {
        if std::mem::replace(&mut self.unfinished, true) {
            self.lane.abandon();
        }
        let mut sink = Sink::of(Some(&self.lane.model));
        let outcome = self.lane.ask(number, &mut sink).await;
        self.unfinished = false;
        outcome
    }
}

impl Lane {
    async fn ask(&self, number: u64, sink: &mut Sink<'_>) -> Result<Done, Failure> {
        self.ensure_open().await?;
        if let Some(mut client) = self.shared() {
            let answered = client.exchange(number, sink).await;
            if answered.as_ref().is_err_and(|failure| !is_of_one_stream(failure)) {
                self.abandon();
            }
            return answered.map(|answer| Done { bytes: answer.bytes, ..Done::default() });
        }
        // Out of its place: an operation that is given up takes its connection with it.
        let taken = self.current.borrow_mut().take();
        let Some(mut conversation) = taken else { return Err(Failure::closed("before the request")) };
        let answer = conversation.exchange(number, sink).await?;
        if conversation.is_open() {
            *self.current.borrow_mut() = Some(conversation);
        }
        Ok(Done { bytes: answer.bytes, ..Done::default() })
    }

    async fn ensure_open(&self) -> Result<(), Failure> {
        if self.is_open() {
            return Ok(());
        }
        let _opening = self.opening.lock().await;
        // Somebody else of this connection may have been quicker.
        if self.is_open() {
            return Ok(());
        }
        let connected = self.route.connect().await?;
        let conversation = self.question.begin(connected.stream).await?;
        *self.current.borrow_mut() = Some(conversation);
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.current.borrow().as_ref().is_some_and(Conversation::is_open)
    }

    /// The client of a connection that several ask over.
    fn shared(&self) -> Option<Http2> {
        match self.current.borrow().as_ref() {
            Some(Conversation::Http2(client, _)) => Some(client.as_ref().clone()),
            Some(Conversation::Http1(_) | Conversation::Opaque(..)) | None => None,
        }
    }

    /// The next request takes a new connection.
    fn abandon(&self) {
        self.current.borrow_mut().take();
    }
}

/// Whether a failure leaves the other requests of an HTTP/2 connection alone.
fn is_of_one_stream(failure: &Failure) -> bool {
    failure.kind.starts_with("status_") || matches!(failure.kind.as_ref(), "body_differs" | "http2_reset")
}

/// A body of this size, whatever it says.
fn body(size: u64) -> Bytes {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    let mut place = Place::default();
    while (bytes.len() as u64) < size {
        let piece = place.peek(size - bytes.len() as u64);
        bytes.extend_from_slice(piece);
        place.advance(piece.len());
    }
    Bytes::from(bytes)
}
