//! What `portcullis-bench` can do, one file for each command.

pub mod backend;
pub mod conclusion;
pub mod connections;
pub mod cycle;
pub mod error;
pub mod exchange;
pub mod handshakes;
pub mod http;
pub mod idle;
pub mod options;
pub mod policy;
pub mod report;
pub mod rotate;
pub mod setup;
pub mod stream;
pub mod yardstick;
