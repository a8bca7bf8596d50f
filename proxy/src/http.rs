//! What HTTP messages may hold on their way through: targets, headers, bodies, upgrades.
//!
//! Each rule about a message has one home here; the order in which they apply to a request stands in `inbound.rs` and
//! `outbound.rs`.

pub mod fault;
pub mod fields;
pub mod flow;
pub mod framing;
pub mod guard;
pub mod headers;
pub mod preface;
pub mod refusal;
pub mod target;
pub mod trailers;
pub mod upgrade;
pub mod upload;
