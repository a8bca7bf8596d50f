//! The client side of a benchmark: it connects, proves who answers, exchanges something and verifies it.
//!
//! Everything the target sends is hostile: bounded in size, and the caller bounds it in time.

pub mod connect;
pub mod credentials;
pub mod expected;
pub mod failure;
pub mod http1;
pub mod http2;
pub mod opaque;
pub mod response;
pub mod target;
pub mod verifier;
