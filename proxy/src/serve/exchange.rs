//! The record of one request: opened when its head arrives, written when its response has ended or was given up.
//!
//! Whatever way a request ends, its exchange is dropped, and dropping it counts it, logs it and ends its span: nothing
//! that was asked can go unrecorded.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Body;
use hyper::body::Incoming;

use super::connection::Activity;
use super::reader::RESPONSE_STALLED;
use super::standing::{NO_LONGER_ALLOWED, Standing, Watch};
use crate::connections::{Place, Registered, Room};
use crate::http::headers;
use crate::http::refusal::Refusal;
use crate::http::upgrade::{self, Asked};
use crate::http::upload::Upload;
use crate::limits::in_flight::{Destination, InFlight, TOO_MANY_IN_FLIGHT, TooMany};
use crate::limits::memory::{Memory, OUT_OF_MEMORY};
use crate::limits::rate::{Allowance, RATE_LIMITED};
use crate::policy_store::{Gone, Opening, Verdict};
use crate::tcp::Carried;
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::Line;
use crate::telemetry::metrics::Direction;
use crate::telemetry::spans::{OpenSpan, Outcome};
use crate::telemetry::trace_context::TraceContext;
use crate::tls::handshake::Negotiated;
use crate::upstream;

/// What is the same for every request of a connection.
#[derive(Debug)]
pub struct Parties {
    /// Which way requests go.
    pub direction: Direction,
    /// What the caller speaks.
    pub protocol: Negotiated,
    /// The caller's SPIFFE ID.
    pub caller: Option<Arc<str>>,
    /// The called workload's SPIFFE ID, where it is known before the request is sent.
    pub workload: Option<Arc<str>>,
    /// The application's port inbound, the destination's outbound.
    pub port: u16,
    /// Requests of the connection.
    pub activity: Activity,
    /// What its requests are decided by again; `None` outbound.
    pub standing: Option<Standing>,
    /// Where it is all recorded.
    pub telemetry: Arc<Telemetry>,
}

/// See the module.
pub struct Exchange {
    parties: Arc<Parties>,
    time: SystemTime,
    started: Instant,
    method: Method,
    upload: Arc<Upload>,
    sent: u64,
    /// Whether the caller speaks gRPC. Never with CONNECT: its refusals are a 200, which would be a tunnel there.
    pub grpc: bool,
    /// Whether the connection ends with its answer, over HTTP/1.1, unless that opens a tunnel.
    pub is_last: bool,
    /// The host that was asked for.
    pub host: Option<Box<str>>,
    /// The target that is forwarded; only its path is recorded.
    pub target: Option<PathAndQuery>,
    /// The target as it came, where another is forwarded.
    pub asked_for: Option<PathAndQuery>,
    /// The header fields, where the decision looked at them.
    pub decided_on: Option<Box<HeaderMap>>,
    /// Whether the request may go on.
    watch: Watch,
    /// Counts at its destination for as long as the exchange lasts.
    in_flight: InFlight,
    /// Room in the registry for the tunnel that it asks for.
    pub room: Option<Room>,
    /// When its caller may come again, in seconds, where it came too often.
    pub retry_after: Option<u64>,
    /// The status that the caller gets.
    pub status: Option<u16>,
    /// What the policy said.
    pub verdict: Option<Verdict>,
    /// The request itself, where it asks for an upgrade: it is decided again for as long as the tunnel lasts.
    pub opening: Option<Box<Opening>>,
    /// Why the sidecar answered itself, or why the exchange broke off.
    pub reason: Option<&'static str>,
    /// The address that was connected to.
    pub upstream: Option<Arc<str>>,
    /// The verified identity at that address.
    pub answered_by: Option<Arc<str>>,
    /// The request's `x-request-id`.
    pub request_id: HeaderValue,
    /// The trace it belongs to.
    pub trace: TraceContext,
    /// The span, if it is sampled.
    span: Option<OpenSpan>,
}

impl Exchange {
    /// Opens the record of a request that has just arrived. Its `x-request-id` is carried on or made; its trace context is
    /// carried on, replaced by that of our own span if the request is sampled, or made.
    pub fn open(parties: Arc<Parties>, request: &mut Request<Incoming>) -> Box<Self> {
        let upload =
            Arc::new(Upload::leaving(parties.activity.begin(parties.protocol, !request.body().is_end_stream())));
        let carried = headers::trace_context(request.headers());
        let span = parties.telemetry.spans.begin(parties.direction, request.method().as_str(), carried);
        let trace = span.as_ref().map(|span| span.context).or(carried);
        Box::new(Self {
            time: SystemTime::now(),
            started: Instant::now(),
            method: upgrade::method_of(request),
            upload,
            sent: 0,
            grpc: request.method() != Method::CONNECT && headers::is_grpc(request.headers()),
            is_last: false,
            host: None,
            target: None,
            asked_for: None,
            decided_on: None,
            watch: Watch::begin(parties.standing.as_ref()),
            in_flight: InFlight::default(),
            room: None,
            retry_after: None,
            status: None,
            verdict: None,
            opening: None,
            reason: None,
            upstream: None,
            answered_by: None,
            request_id: headers::request_id(request.headers_mut()),
            trace: trace.unwrap_or_else(TraceContext::generate),
            span,
            parties,
        })
    }

    /// What is the same for the whole connection.
    pub fn parties(&self) -> &Arc<Parties> {
        &self.parties
    }

    /// Takes the request from what its caller may ask for, before anything else is done about it; `None` is no limit.
    ///
    /// # Errors
    /// 429 when the caller has asked for more, 503 when memory is nearly used up.
    pub fn take_up(&mut self, memory: &Memory, allowance: Option<&Allowance>) -> Result<(), Refusal> {
        if memory.refuses() {
            let text =
                "the sidecar's memory is nearly used up; its cgroup allows too little for what it has to do".to_owned();
            return Err(Refusal { status: StatusCode::SERVICE_UNAVAILABLE, reason: OUT_OF_MEMORY, text });
        }
        let Some(allowance) = allowance else { return Ok(()) };
        allowance.spend(self.started, &self.parties.telemetry.episodes).map_err(|over| {
            self.retry_after = Some(over.retry_after);
            let text = "the caller is over `limits.ratePerIdentity`".to_owned();
            Refusal { status: StatusCode::TOO_MANY_REQUESTS, reason: RATE_LIMITED, text }
        })
    }

    /// Counts the request at where it goes, until its exchange has ended.
    ///
    /// # Errors
    /// 503 when too many are under way there.
    pub fn enter(&mut self, destination: &Arc<Destination>) -> Result<(), Refusal> {
        self.in_flight = destination.enter(&self.parties.telemetry.episodes).map_err(|TooMany| {
            let text = "as many requests as `limits.inFlightPerDestination` are under way".to_owned();
            Refusal { status: StatusCode::SERVICE_UNAVAILABLE, reason: TOO_MANY_IN_FLIGHT, text }
        })?;
        Ok(())
    }

    /// Keeps room for the tunnel that the request asks for, if it does, before the upstream hears of it: what was agreed to
    /// must be carried.
    ///
    /// # Errors
    /// 503 when a limit on connections is reached.
    pub fn keep_room(&mut self, asked: Option<&Asked>, connection: &Registered) -> Result<(), Refusal> {
        if asked.is_none() {
            return Ok(());
        }
        let place = match self.parties.protocol {
            Negotiated::Http1 => Place::Instead,
            Negotiated::Http2 => Place::Beside,
        };
        let room = connection.room_for_tunnel(place).map_err(|full| {
            let (status, text) = (StatusCode::SERVICE_UNAVAILABLE, full.to_string());
            Refusal { status, reason: full.label(), text }
        })?;
        self.room = Some(room);
        Ok(())
    }

    /// How the request's body is doing.
    pub fn upload(&self) -> &Arc<Upload> {
        &self.upload
    }

    /// Resolves when the request is not allowed any more and has had its grace.
    pub async fn revoked(&mut self) {
        match self.standing() {
            Some((standing, request, watch)) => watch.over(standing, &request).await,
            None => std::future::pending().await,
        }
    }

    /// The same for a response on its way: `Ready` when it must end.
    pub fn poll_revoked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.standing() {
            Some((standing, request, watch)) => watch.poll(standing, &request, cx),
            None => Poll::Pending,
        }
    }

    /// Whether it has to be asked now if the request may go on.
    pub fn is_in_doubt(&self) -> bool {
        self.parties.standing.as_ref().is_some_and(|standing| self.watch.is_shaken(standing))
    }

    fn standing(&mut self) -> Option<(&Standing, Gone<'_>, &mut Watch)> {
        let standing = self.parties.standing.as_ref()?;
        let target = self.asked_for.as_ref().or(self.target.as_ref())?;
        let (host, headers) = (self.host.as_deref().unwrap_or_default(), self.decided_on.as_deref());
        let allowed = self.verdict.as_ref();
        Some((standing, Gone { method: &self.method, host, target, headers, allowed }, &mut self.watch))
    }

    /// Counts bytes of the response's body.
    pub fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// Counts the bytes of a tunnel.
    pub fn carried(&mut self, carried: Carried) {
        self.upload.count(carried.up);
        self.sent = carried.down;
    }

    /// The request had to end because what allowed it no longer holds.
    pub fn no_longer_allowed(&mut self) {
        self.ended_by_us(NO_LONGER_ALLOWED);
    }

    /// The response had to end because its caller did not read it.
    pub fn is_not_read(&mut self) {
        self.ended_by_us(RESPONSE_STALLED);
    }

    /// The response had to end for its trailers.
    pub fn had_too_many_trailers(&mut self) {
        self.ended_by_us("too_many_trailers");
    }

    fn ended_by_us(&mut self, reason: &'static str) {
        self.reason.get_or_insert(reason);
        let parties = &self.parties;
        parties.telemetry.metrics.request_refused(parties.direction, reason);
    }

    /// The upstream broke off in the middle of its response; `condemned` says why, where it was we who cut its connection.
    pub fn broke_off(&mut self, condemned: Option<&'static str>) {
        self.reason.get_or_insert(condemned.map_or("upstream_broke_off", upstream::of_condemned));
    }

    fn write_line(&self, took_us: u64) {
        let parties = &*self.parties;
        let decided = self.verdict.as_ref().map(Verdict::record).unwrap_or_default();
        let trace_id = format!("{:032x}", self.trace.trace_id);
        parties.telemetry.access_log.write(&Line {
            time: self.time,
            direction: parties.direction.label(),
            protocol: if self.grpc { "grpc" } else { parties.protocol.label() },
            caller: parties.caller.as_deref(),
            workload: self.workload(),
            port: parties.port,
            method: Some(self.method.as_str()),
            host: self.host.as_deref(),
            path: self.path(),
            status: self.status,
            decision: decided.decision,
            policy: decided.policy,
            rule: decided.rule,
            reason: self.reason,
            duration_us: took_us,
            bytes_in: self.upload.bytes(),
            bytes_out: self.sent,
            upstream: self.upstream.as_deref(),
            trace_id: Some(&trace_id),
            request_id: self.request_id.to_str().ok(),
            policy_revision: decided.policy_revision,
            policy_git_revision: decided.policy_git_revision,
            audit_decision: decided.audit_decision,
            audit_policy: decided.audit_policy,
            audit_rule: decided.audit_rule,
            marked_policy: decided.marked_policy,
            marked_rule: decided.marked_rule,
        });
    }

    fn path(&self) -> Option<&str> {
        self.target.as_ref().map(PathAndQuery::path)
    }

    fn workload(&self) -> Option<&str> {
        self.answered_by.as_deref().or(self.parties.workload.as_deref())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        if self.status.is_none() {
            self.reason.get_or_insert("caller_went_away");
        }
        let telemetry = &self.parties.telemetry;
        let counted = telemetry.metrics.of(self.parties.direction);
        counted.request(&telemetry.metrics, self.status.unwrap_or(CALLER_WENT_AWAY), took);
        if telemetry.access_log.is_on() {
            self.write_line(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
        if let Some(span) = self.span.take() {
            span.end(Outcome {
                status: self.status.unwrap_or(CALLER_WENT_AWAY),
                caller: self.parties.caller.as_deref(),
                workload: self.workload(),
                path: self.path().unwrap_or_default(),
                reason: self.reason,
            });
        }
        self.parties.activity.end();
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("method", &self.method).field("status", &self.status).finish_non_exhaustive()
    }
}

/// nginx's number for a request whose caller left before the answer: no response carries it, metrics and spans do.
const CALLER_WENT_AWAY: u16 = 499;
