//! What both directions need to carry HTTP: targets, headers, bodies, replies, upgrades and the record of an exchange.
//!
//! Each rule about a message has one home here; the order in which they apply to a request stands in `inbound.rs` and
//! `outbound.rs`.

pub mod body;
pub mod exchange;
pub mod headers;
pub mod preface;
pub mod reply;
pub mod serve;
pub mod target;
pub mod upgrade;
