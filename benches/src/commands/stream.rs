//! `stream`: as many bytes as go through, up, down or both ways, every one of them verified.

use std::sync::Arc;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::task::LocalSet;

use super::conclusion::Beginning;
use super::error::CommandError;
use super::exchange::{Question, first_contact};
use super::options::{LoadArgs, OutputArgs, TargetArgs, WatchArgs, parse_bytes};
use super::setup::{SharedRoute, runtime};
use crate::client::connect::Stream;
use crate::client::credentials::Sessions;
use crate::client::failure::{Failure, shown};
use crate::client::opaque::{Direction, Place};
use crate::load::crew::{self, User};
use crate::load::tally::Done;
use crate::outcome::Outcome;

/// Bulk bytes through tls:// and tcp:// targets that end at `portcullis-bench backend --stream`.
#[derive(Debug, Args)]
pub struct StreamArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Which way the bytes go.
    #[arg(long, value_enum, default_value_t = Direction::Up)]
    direction: Direction,
    /// Bytes that are sent and verified in one go on each connection, as in 16MiB.
    #[arg(long, default_value = "16MiB", value_parser = parse_bytes)]
    piece: u64,
    #[command(flatten)]
    watched: WatchArgs,
    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs the command.
///
/// # Errors
/// When the run could not come about.
pub fn run(args: &StreamArgs) -> Result<Outcome, CommandError> {
    if args.target.target.scheme.is_http() {
        return Err(CommandError::Scheme {
            command: "stream",
            needs: "a tls:// or tcp:// target",
            target: args.target.target.to_string(),
        });
    }
    let plan = args.load.plan(("stream", "GB"), &args.watched, &args.output)?;
    let route = Arc::new(args.target.route(Sessions::Forget)?);
    let mut beginning = Beginning::new("stream", &args.target)?;
    let contact = LocalSet::new().block_on(&runtime()?, first_contact(&route, &Question::Opaque, plan.timeout))?;
    beginning.agreed(&contact);
    beginning.planned(&plan);
    beginning.set("direction", args.direction.word());
    beginning.set("piece", format!("{} bytes", args.piece));
    let measured = crew::run(&plan, |_| {
        vec![Transfer { route: Arc::clone(&route), direction: args.direction, piece: args.piece, stream: None }]
    })?;
    beginning.conclude(&plan, measured, Some(GIGABYTE))
}

/// Somebody who moves one piece after the other over a connection that stays.
struct Transfer {
    route: SharedRoute,
    direction: Direction,
    piece: u64,
    stream: Option<Stream>,
}

impl User for Transfer {
    async fn prepare(&mut self) -> Result<(), Failure> {
        self.stream = Some(self.route.connect().await?.stream);
        Ok(())
    }

    async fn act(&mut self, _: u64) -> Result<Done, Failure> {
        // Out of its place: a transfer that is given up takes its connection with it.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.route.connect().await?.stream,
        };
        let line = self.direction.line(self.piece);
        stream.write_all(line.as_bytes()).await.map_err(|error| sending(&error))?;
        let bytes = match self.direction {
            Direction::Up => {
                send(&mut stream, self.piece).await?;
                acknowledged(&mut stream, self.piece).await?;
                self.piece
            }
            Direction::Down => {
                stream.flush().await.map_err(|error| sending(&error))?;
                receive(&mut stream, self.piece).await?;
                self.piece
            }
            Direction::Echo => {
                let (mut read, mut write) = split(&mut stream);
                tokio::try_join!(send(&mut write, self.piece), receive(&mut read, self.piece))?;
                // Each byte went through twice.
                2 * self.piece
            }
        };
        self.stream = Some(stream);
        Ok(Done { bytes, ..Done::default() })
    }
}

async fn send(stream: &mut (impl AsyncWriteExt + Unpin), mut left: u64) -> Result<(), Failure> {
    let mut place = Place::default();
    while left > 0 {
        let sent = stream.write(place.peek(left.min(CHUNK))).await.map_err(|error| sending(&error))?;
        if sent == 0 {
            return Err(Failure::closed("in the middle of a transfer"));
        }
        place.advance(sent);
        left -= sent as u64;
    }
    stream.flush().await.map_err(|error| sending(&error))
}

async fn receive(stream: &mut (impl AsyncReadExt + Unpin), mut left: u64) -> Result<(), Failure> {
    let mut buffer = vec![0; usize::try_from(CHUNK).unwrap_or_default()];
    let mut place = Place::default();
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let free = buffer.get_mut(..most).unwrap_or_default();
        let read = stream.read(free).await.map_err(|error| Failure::io(&error, "receiving"))?;
        if read == 0 {
            return Err(Failure::closed("in the middle of a transfer"));
        }
        if !place.matches(buffer.get(..read).unwrap_or_default()) {
            return Err(Failure::differs("other bytes arrived than were sent"));
        }
        left -= read as u64;
    }
    Ok(())
}

async fn acknowledged(stream: &mut (impl AsyncReadExt + Unpin), bytes: u64) -> Result<(), Failure> {
    let expected = format!("ok {bytes}\n");
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).await.map_err(|error| Failure::io(&error, "waiting for the receipt"))?;
    if answer != expected.as_bytes() {
        return Err(Failure::differs(format!("other bytes arrived than were sent: {}", shown(&answer))));
    }
    Ok(())
}

fn sending(error: &std::io::Error) -> Failure {
    Failure::io(error, "sending")
}

const GIGABYTE: f64 = 1e9;
/// Four TLS records for each call.
const CHUNK: u64 = 64 << 10;
