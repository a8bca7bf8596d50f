//! What one caller, one destination or the whole process may cost: each limit in a file of its own.
//!
//! `docs/limits.md` lists all limits with what a caller sees, and the memory that they come to. Those on connections are in
//! `connections.rs`, those on HTTP/2 frames in `http/guard.rs`.

pub mod handshakes;
pub mod in_flight;
pub mod memory;
pub mod rate;
