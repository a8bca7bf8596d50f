//! The watcher over real directories, through its public interface.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod agent;
mod hostile;
mod layouts;
mod limbo;
mod links;
mod messages;
mod pki;
mod revocation;
mod rotation;
mod svid_table;
mod swaps;
mod workload_api;
mod workload_source;
mod world;
