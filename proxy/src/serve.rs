//! Serving whoever is downstream: the connection, the record of what was asked, and the answer to it.

pub mod arrival;
pub mod connection;
pub mod crumbs;
pub mod exchange;
pub mod opaque;
mod pace;
pub mod reader;
pub mod reply;
pub mod response;
pub mod standing;
pub mod tunnel;
