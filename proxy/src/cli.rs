//! The command line: one file a command.

pub mod ca;
pub mod certs;
pub mod demo;
pub mod paint;
pub mod policy;
pub mod run;
mod sarif;
