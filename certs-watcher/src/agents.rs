//! The Workload APIs that are asked, as the passes see them: what each has told, and since when one of them fails.
//!
//! Their clients run beside the passes (`watch.rs`) and never in them. A pass takes the newest report of each once, so
//! that all it reads is of one message.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use spiffe::TrustDomain;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

use crate::feed::Look;
use crate::sources::Sources;
use crate::workload_api::{Delivery, Endpoint, Problem, Report, WorkloadApi};

/// The Workload APIs that are asked.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    agents: Vec<Agent>,
}

/// One of them.
#[derive(Debug)]
struct Agent {
    endpoint: Endpoint,
    reports: watch::Receiver<Report>,
    report: Report,
    failing_since: Option<Instant>,
    /// The last message that was refused and told about.
    told: u64,
    /// The trust domains of bundles that nobody has configured; each is named once.
    passed_over: BTreeSet<TrustDomain>,
}

impl Agents {
    /// A client for each endpoint, to be run, and what they will tell.
    pub(crate) fn new(sources: &Sources) -> (Self, Vec<WorkloadApi>) {
        let mut agents = Vec::new();
        let mut clients = Vec::new();
        for endpoint in sources.endpoints() {
            let (client, reports) = WorkloadApi::new(endpoint.clone());
            agents.push((endpoint.clone(), reports));
            clients.push(client);
        }
        (Self::telling(agents), clients)
    }

    /// The same for reports of any origin.
    pub(crate) fn telling(agents: impl IntoIterator<Item = (Endpoint, watch::Receiver<Report>)>) -> Self {
        let agent = |(endpoint, reports)| Agent {
            endpoint,
            reports,
            report: Report::default(),
            failing_since: None,
            told: 0,
            passed_over: BTreeSet::new(),
        };
        Self { agents: agents.into_iter().map(agent).collect() }
    }

    /// Takes the newest report of each. Bundles of trust domains that nobody has configured are left alone.
    pub(crate) fn look(&mut self, at: Instant, sources: &Sources) {
        for agent in &mut self.agents {
            agent.report = agent.reports.borrow_and_update().clone();
            agent.failing_since = agent.report.problem.as_ref().map(|_| agent.failing_since.unwrap_or(at));
            let Some(delivery) = &agent.report.last else { continue };
            let wanted = |name: &TrustDomain| sources.trust.iter().any(|source| source.trust_domain == *name);
            for name in delivery.bundles.keys().filter(|name| !wanted(name)) {
                if agent.passed_over.len() < MAX_PASSED_OVER && agent.passed_over.insert(name.clone()) {
                    info!(
                        endpoint = %agent.endpoint,
                        trust_domain = %name,
                        "the workload API delivers a bundle for a trust domain that is not configured: it is not used"
                    );
                }
            }
        }
    }

    /// What the API at this endpoint has told by the last look.
    pub(crate) fn report(&self, endpoint: &Endpoint) -> Option<&Report> {
        self.agents.iter().find(|agent| agent.endpoint == *endpoint).map(|agent| &agent.report)
    }

    /// The last good message of the API at this endpoint.
    pub(crate) fn delivery(&self, endpoint: &Endpoint) -> Option<&Arc<Delivery>> {
        self.report(endpoint)?.last.as_ref()
    }

    /// What is wrong with the API at this endpoint, once that is worth a word: a stream that ends is opened again in no
    /// time, and an agent that restarts is back in some seconds.
    pub(crate) fn lasting_problem(&self, endpoint: &Endpoint, look: Look<'_>) -> Option<&Problem> {
        let agent = self.agents.iter().find(|agent| agent.endpoint == *endpoint)?;
        let problem = agent.report.problem.as_deref()?;
        let since = agent.failing_since?;
        let at_once = match problem {
            Problem::Message { .. } => true,
            Problem::Call(_) => problem.is_standing(),
        };
        (at_once || look.at >= since + look.pace.poll).then_some(problem)
    }

    /// The label of a message that was refused and has not been told about yet.
    pub(crate) fn refused_message(&mut self, endpoint: &Endpoint) -> Option<&'static str> {
        let agent = self.agents.iter_mut().find(|agent| agent.endpoint == *endpoint)?;
        let Some(Problem::Message { number, source }) = agent.report.problem.as_deref() else { return None };
        if *number <= agent.told {
            return None;
        }
        agent.told = *number;
        Some(source.label())
    }

    /// Waits until one of them has something new to tell.
    pub(crate) async fn changed(&mut self) {
        let wait = |agent| Box::pin(one_changed(agent));
        first(self.agents.iter_mut().map(wait).collect()).await;
    }
}

/// Runs the clients for as long as this is polled.
pub(crate) async fn run(clients: Vec<WorkloadApi>) -> Infallible {
    let runs = clients.into_iter().map(|client| Box::pin(client.run(pending())));
    first(runs.collect()).await;
    // Only where there is none: a client never ends by itself.
    pending().await
}

async fn one_changed(agent: &mut Agent) {
    if agent.reports.changed().await.is_err() {
        // Whoever told has gone, and nothing more will come.
        pending::<()>().await;
    }
}

/// Waits for the first of several that completes, and drops the others. Without any it waits for ever.
async fn first<F: Future<Output = ()>>(mut futures: Vec<Pin<Box<F>>>) {
    poll_fn(|context| {
        let done = futures.iter_mut().any(|future| future.as_mut().poll(context).is_ready());
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// A message names 256 federated bundles at most; what matters is to learn of the first.
const MAX_PASSED_OVER: usize = 256;
