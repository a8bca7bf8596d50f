//! The policy crate through its public boundary: a corpus of documents that test themselves, decisions against an
//! oracle written independently, and properties that no policy may break.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the allowance for tests in clippy.toml does not reach the helpers of an integration test"
)]

mod corpus;
mod decisions;
mod diagnostics;
mod diff;
mod findings;
mod import;
mod index;
mod istio;
mod istio_oracle;
mod oracle;
mod properties;
mod services;
mod suggest;
mod write;
