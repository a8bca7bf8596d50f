//! Timeouts and limits.

use std::num::NonZeroU32;
use std::time::Duration;

use portcullis_policy::document::Item;

use super::CODES;
use crate::config::values::{self, ValueError};
use crate::config::{Limits, Rate, Timeouts};

pub(super) fn timeouts(item: Item<'_>) -> Option<Timeouts> {
    let fields = item.fields(&TIMEOUTS)?;
    let default = Timeouts::default();
    let read = |key, default| fields.optional(key).map_or(Some(default), duration);
    // Without these a peer could hold what we gave it for ever.
    let always = |key, default| {
        let item = fields.optional(key);
        let read = item.map_or(Some(default), duration)?;
        if let (Duration::ZERO, Some(item)) = (read, item) {
            item.error(CODES.bad_value, format!("`{key}` cannot be off")).help("give it a duration, such as 10s");
        }
        Some(read)
    };
    let timeouts = (
        always("handshake", default.handshake),
        always("requestHead", default.request_head),
        read("responseHead", default.response_head),
        always("connect", default.connect),
        read("idle", default.idle),
        read("bodyStall", default.body_stall),
        read("tcpIdle", default.tcp_idle),
        read("maxAge", default.max_age),
        read("lameDuck", default.lame_duck),
        read("drain", default.drain),
        read("recheckGrace", default.recheck_grace),
    );
    Some(Timeouts {
        handshake: timeouts.0?,
        request_head: timeouts.1?,
        response_head: timeouts.2?,
        connect: timeouts.3?,
        idle: timeouts.4?,
        body_stall: timeouts.5?,
        tcp_idle: timeouts.6?,
        max_age: timeouts.7?,
        lame_duck: timeouts.8?,
        drain: timeouts.9?,
        recheck_grace: timeouts.10?,
    })
}

pub(super) fn limits(item: Item<'_>) -> Option<Limits> {
    let fields = item.fields(&LIMITS)?;
    let default = Limits::default();
    let count = |key, default: usize, least: u64| {
        let bounds = least..=10_000_000;
        let read = |item: Item<'_>| item.integer(bounds).and_then(|count| usize::try_from(count).ok());
        fields.optional(key).map_or(Some(default), read)
    };
    let bytes = |key, default: usize, least: usize| {
        let read = |item: Item<'_>| {
            let size =
                item.text().map(values::size)?.map_err(|error| drop(item.error(CODES.bad_value, error.to_string())));
            let size = size.ok()?;
            if (least..=MOST_BYTES).contains(&size) {
                return Some(size);
            }
            let message = format!("`{key}` is not within {least} to {MOST_BYTES} bytes");
            drop(item.error(CODES.bad_value, message));
            None
        };
        fields.optional(key).map_or(Some(default), read)
    };
    let counts = (
        count("connections", default.connections, 0),
        count("connectionsPerIdentity", default.connections_per_identity, 0),
        count("handshakes", default.handshakes, 1),
        bytes("headBytes", default.head_bytes, LEAST_HEAD),
        count("headFields", default.head_fields, 1),
        bytes("uriBytes", default.uri_bytes, 1),
        count("streamsPerConnection", 100, 1),
        fields.optional("ratePerIdentity").map_or(Some(None), rate),
        count("inFlightPerDestination", default.in_flight_per_destination, 0),
    );
    Some(Limits {
        connections: counts.0?,
        connections_per_identity: counts.1?,
        handshakes: counts.2?,
        head_bytes: counts.3?,
        head_fields: counts.4?,
        uri_bytes: counts.5?,
        streams_per_connection: u32::try_from(counts.6?).ok()?,
        rate_per_identity: counts.7?,
        in_flight_per_destination: counts.8?,
    })
}

/// A number, which is the burst as well, or `{perSecond: N, burst: N}`.
fn rate(item: Item<'_>) -> Option<Option<Rate>> {
    let number = |item: Item<'_>| NonZeroU32::new(u32::try_from(item.integer(1..=MOST_RATE)?).ok()?);
    if !item.is_mapping() {
        if item.text()?.starts_with(|first: char| first.is_alphabetic()) {
            let reported = item.error(CODES.wrong_kind, "`ratePerIdentity` is neither a number nor a mapping");
            reported.help("write requests a second, `100`, or `{perSecond: 100, burst: 200}`; `0` switches it off");
            return None;
        }
        let per_second = NonZeroU32::new(u32::try_from(item.integer(0..=MOST_RATE)?).ok()?);
        return Some(per_second.map(|per_second| Rate { per_second, burst: per_second }));
    }
    let fields = item.fields(&["perSecond", "burst"])?;
    let per_second = fields.required("perSecond").and_then(number);
    let burst = fields.optional("burst").map_or(per_second, number);
    Some(Some(Rate { per_second: per_second?, burst: burst? }))
}

fn duration(item: Item<'_>) -> Option<Duration> {
    let read: Result<Duration, ValueError> = values::duration(item.text()?);
    read.map_err(|error| drop(item.error(CODES.bad_value, error.to_string()))).ok()
}

const TIMEOUTS: [&str; 11] = [
    "handshake",
    "requestHead",
    "responseHead",
    "connect",
    "idle",
    "bodyStall",
    "tcpIdle",
    "maxAge",
    "recheckGrace",
    "lameDuck",
    "drain",
];
const LIMITS: [&str; 9] = [
    "connections",
    "connectionsPerIdentity",
    "handshakes",
    "headBytes",
    "headFields",
    "uriBytes",
    "streamsPerConnection",
    "ratePerIdentity",
    "inFlightPerDestination",
];
/// The HTTP library's smallest buffer for a head.
const LEAST_HEAD: usize = 8 << 10;
/// A microsecond for each request: more than one sidecar can carry.
const MOST_RATE: u64 = 1_000_000;
/// Heads are held in memory once for each request.
const MOST_BYTES: usize = 1 << 20;
