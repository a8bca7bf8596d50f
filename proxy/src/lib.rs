//! Portcullis: a strict-mTLS sidecar proxy.
//!
//! Modules import downwards only, in this order; `app` puts them together and `cli` starts it.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn their own clients and servers"))]

pub mod drain;
pub mod telemetry;

pub mod config;
pub mod deny_file;

pub mod limits;
pub mod policy_store;

pub mod connections;
pub mod keepalive;
pub mod linger;
pub mod metered;
pub mod tcp;
pub mod tls;

mod base64;
pub mod http;
pub mod upstream;

pub mod serve;
pub mod sidecar;

pub mod inbound;
pub mod outbound;

pub mod listen;
pub mod workers;

pub mod sideband;

pub mod readiness;

pub mod admin;

pub mod app;

pub mod ca;

pub mod demo;

pub mod cli;

/// An error and its causes in one line, each after a colon.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Some libraries repeat their cause in their own message.
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
