//! Benchmarks of Portcullis: `portcullis-bench`, which loads any mutual-TLS target; the comparison with other proxies;
//! and the operations whose single costs are followed from change to change.
//!
//! Modules import downwards only, in this order.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn their own clients and servers"))]

pub mod outcome;

pub mod measure;

pub mod client;
pub mod load;

pub mod report;

pub mod backend;
pub mod policy_set;

pub mod commands;

pub mod cli;

pub mod compare;

pub mod operations;
