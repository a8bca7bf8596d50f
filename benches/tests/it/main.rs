//! `portcullis-bench` as a program, against real sidecars and against targets that misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::float_cmp,
    missing_docs,
    reason = "test code: a failed expectation is the result"
)]

mod bench;
mod commands;
mod hostile;
mod open_loop;
mod resumption;
mod stage;
