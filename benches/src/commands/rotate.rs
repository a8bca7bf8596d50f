//! `rotate`: the target's certificate is exchanged under load, again and again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use portcullis::ca::{Access, Authority, Intermediate, Leaf, LeafOptions, VolumeFile, write_generation};
use spiffe::SpiffeId;

use super::conclusion::Beginning;
use super::error::CommandError;
use super::exchange::Question;
use super::http::{Asking, RequestArgs, Requests};
use super::options::{OutputArgs, parse_duration};
use crate::client::connect::{Route, leaf_of};
use crate::client::failure::Failure;
use crate::client::response::{Model, Sink};
use crate::load::crew::{self, User};
use crate::load::tally::Done;
use crate::measure::latency::Times;
use crate::outcome::Outcome;

/// Exchange the target's certificate under load: what fails, and how soon a new connection sees the new certificate.
///
/// One more client connects all the time and looks at the certificate. Leaves come from a CA of `portcullis ca init`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// Directory of the certificate authority, made by `portcullis ca init`.
    #[arg(long, value_name = "DIR", help_heading = "Rotation")]
    ca_dir: PathBuf,
    /// Its environment.
    #[arg(long, value_name = "NAME", help_heading = "Rotation")]
    environment: String,
    /// SPIFFE ID of the target.
    #[arg(long, value_name = "SPIFFE_ID", help_heading = "Rotation")]
    id: SpiffeId,
    /// DNS name to put beside it, for targets that need one; may be repeated.
    #[arg(long, value_name = "NAME", help_heading = "Rotation")]
    dns: Vec<String>,
    /// Directory of the target's identity, in which the files are exchanged as the kubelet does it.
    #[arg(long, value_name = "DIR", help_heading = "Rotation")]
    directory: PathBuf,
    /// How often.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Rotation")]
    swaps: u32,
    /// Time from one exchange to the next; --duration follows from it.
    #[arg(long, default_value = "2s", value_parser = parse_duration, help_heading = "Rotation")]
    interval: Duration,
    /// Command that makes the target read its files, for targets that do not watch them; run by `sh -c`.
    #[arg(long, value_name = "COMMAND", help_heading = "Rotation")]
    reload: Option<String>,
    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs the command.
///
/// # Errors
/// When the run could not come about, or a certificate could not be exchanged.
pub fn run(args: &RotateArgs) -> Result<Outcome, CommandError> {
    if !args.request.target.target.scheme.is_secure() {
        return Err(CommandError::Scheme {
            command: "rotate",
            needs: "an https:// target",
            target: args.request.target.target.to_string(),
        });
    }
    let mut beginning = Beginning::new("rotate", &args.request.target)?;
    let issuer = Authority::open(&args.ca_dir)?.intermediate(&args.environment)?;
    let mut requests = Requests::prepare(&args.request, "rotate", &args.output)?;
    // Before the first exchange and after the last one there is time for the load to settle and to notice.
    requests.plan.duration = args.interval * (args.swaps + 1);
    requests.plan.connections += 1;
    let looker = requests.plan.connections - 1;
    requests.describe(&mut beginning, &args.request);
    beginning.set("swaps", args.swaps.to_string());
    beginning.set("interval", format!("{:?}", args.interval));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (over, stop) = mpsc::channel();
    let (swaps, measured) = std::thread::scope(|scope| {
        let first = requests.plan.warm_up + args.interval;
        let swapper = scope.spawn(move || swap(args, &issuer, first, &stop));
        let measured = crew::run(&requests.plan, |number| {
            if number == looker {
                return vec![Caller::Looks(Looking {
                    route: Arc::clone(&requests.route),
                    question: requests.question.clone(),
                    model: Arc::clone(&requests.contact.model),
                    seen: Arc::clone(&seen),
                })];
            }
            requests.users().into_iter().map(Caller::Asks).collect()
        });
        drop(over);
        // A panic of the other thread has said so on standard error.
        let swaps = swapper.join().unwrap_or_else(|_| Ok(Vec::new()));
        (swaps, measured)
    });
    let (swaps, measured) = (swaps?, measured?);
    let mut outcome = beginning.conclude(&requests.plan, measured, None)?;
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    judge(&swaps, &seen, &mut outcome);
    Ok(outcome)
}

/// One exchange of the certificate.
struct Swap {
    leaf: Vec<u8>,
    at: Instant,
}

/// When each certificate was shown for the first and the last time, to connections that began then.
type Seen = BTreeMap<Vec<u8>, (Instant, Instant)>;

/// Exchanges certificates at fixed moments until it is done or told to stop.
fn swap(
    args: &RotateArgs,
    issuer: &Intermediate,
    first: Duration,
    stop: &mpsc::Receiver<()>,
) -> Result<Vec<Swap>, CommandError> {
    let began = Instant::now();
    let options = LeafOptions { dns_names: args.dns.clone(), ..LeafOptions::default() };
    let mut swaps = Vec::new();
    for turn in 0..args.swaps {
        let leaf = issuer.issue(&args.id, &options)?;
        let due = began + first + args.interval * turn;
        match stop.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(swaps),
        }
        let at = put_in_place(&leaf, &args.directory)?;
        if let Some(command) = &args.reload {
            reload(command)?;
        }
        swaps.push(Swap { leaf: leaf.chain.leaf.to_vec(), at });
    }
    Ok(swaps)
}

/// Exchanges the files of the identity and returns the moment of the rename.
fn put_in_place(leaf: &Leaf, directory: &Path) -> Result<Instant, CommandError> {
    let (chain, root) = (leaf.chain.pem(), leaf.chain.root_pem());
    let files = [
        VolumeFile { name: "ca.crt", contents: root.as_bytes(), access: Access::Public },
        VolumeFile { name: "tls.key", contents: leaf.key_pem().as_bytes(), access: Access::Private },
        VolumeFile { name: "tls.crt", contents: chain.as_bytes(), access: Access::Public },
    ];
    Ok(write_generation(directory, &files)?)
}

fn reload(command: &str) -> Result<(), CommandError> {
    let failed = |why: String| CommandError::Reload { command: command.to_owned(), why };
    let status = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
}

/// What became of each exchange.
fn judge(swaps: &[Swap], seen: &Seen, outcome: &mut Outcome) {
    let (mut to_first_new, mut to_last_old) = (Times::precise(), Times::precise());
    let mut missed = 0_u32;
    for (turn, swap) in swaps.iter().enumerate() {
        match seen.get(&swap.leaf) {
            Some((first, _)) => to_first_new.record(first.saturating_duration_since(swap.at)),
            None => missed += 1,
        }
        let before = turn.checked_sub(1).and_then(|previous| swaps.get(previous));
        if let Some((_, last)) = before.and_then(|previous| seen.get(&previous.leaf)) {
            to_last_old.record(last.saturating_duration_since(swap.at));
        }
    }
    for (name, times) in [("rename_to_first_new", to_first_new), ("rename_to_last_old", to_last_old)] {
        if let Some(latency) = times.latency() {
            outcome.spans.insert(name.to_owned(), latency);
        }
    }
    let number = u32::try_from(swaps.len()).unwrap_or(u32::MAX);
    outcome.counts.insert("swaps".to_owned(), f64::from(number));
    outcome.counts.insert("swaps_seen".to_owned(), f64::from(number - missed.min(number)));
    if missed > 0 {
        outcome.failures.insert("swap_not_seen".to_owned(), u64::from(missed));
        outcome.examples.push("a certificate that was put in place was never shown to a new connection".to_owned());
    }
}

/// Who makes the load.
enum Caller {
    Asks(Asking),
    Looks(Looking),
}

/// Connects all the time and looks at the certificate.
struct Looking {
    route: Arc<Route>,
    question: Question,
    model: Arc<Model>,
    seen: Arc<Mutex<Seen>>,
}

impl User for Caller {
    async fn prepare(&mut self) -> Result<(), Failure> {
        match self {
            Self::Asks(asking) => asking.prepare().await,
            Self::Looks(_) => Ok(()),
        }
    }

    async fn act(&mut self, number: u64) -> Result<Done, Failure> {
        match self {
            Self::Asks(asking) => asking.act(number).await,
            Self::Looks(looking) => looking.act(number).await,
        }
    }
}

impl Looking {
    async fn act(&self, number: u64) -> Result<Done, Failure> {
        let connected = self.route.connect().await?;
        // The target chose its certificate at some moment of the handshake: by now at the latest.
        let now = Instant::now();
        if let Some(leaf) = leaf_of(&connected.stream) {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bound = seen.get(leaf).copied().unwrap_or((now, now));
            bound.1 = now;
            if seen.len() < MOST_CERTIFICATES || seen.contains_key(leaf) {
                seen.insert(leaf.to_vec(), bound);
            }
        }
        let mut conversation = self.question.begin(connected.stream).await?;
        let mut sink = Sink::of(Some(&self.model));
        let answer = conversation.exchange(number, &mut sink).await?;
        conversation.close().await;
        Ok(Done { bytes: answer.bytes, ..Done::default() })
    }
}

/// Twice as many as there can be swaps; a target that shows a new one to everybody is not kept in memory.
const MOST_CERTIFICATES: usize = 20_000;
