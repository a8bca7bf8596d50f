//! Whole sidecars in this process, through real sockets and real TLS, with a throw-away PKI.
//!
//! Every test starts what it needs on port 0 and shares nothing with another one. What has to come is awaited with
//! [`eventually`], which says what it saw last when it does not come.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test fails by panicking, and runs clients and servers of its own"
)]

// The stage.
#[path = "../../../certs-watcher/tests/it/agent.rs"]
#[allow(dead_code, reason = "made for the tests of the client, which have it do more")]
mod agent;
mod backend;
mod client;
mod eventually;
mod forge;
mod frames;
mod peer;
mod pki;
mod rows;
mod sidecar;
mod tireless;
mod wire;

// What is shown on it.
mod answers_framing;
mod bounds;
mod certs;
mod chains;
mod decision_records;
mod drain;
mod early_answers;
mod expiry;
mod footprint;
mod framing;
mod grpc;
mod h2_floods;
mod handshakes;
mod headers;
mod http2_answers;
mod http2_rows;
mod in_flight;
mod inbound_http;
mod memory;
mod outbound;
mod policies;
mod policies_cli;
mod policy_copy;
mod pools;
mod process;
mod rates;
mod recheck;
mod refusals;
mod renewal;
mod retries;
mod revocation;
mod rotation;
mod semantics;
mod services;
mod slow_readers;
mod spans;
mod start;
mod storms;
mod straddling;
mod suggest;
mod takeover;
mod targets;
mod tcp;
mod tonic;
mod trailers;
mod unread;
mod upgrades;
mod views;
mod websocket;
mod websocket_http2;
mod workload_api;
