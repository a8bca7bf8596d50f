//! The command line: one file a command.

pub mod ca;
pub mod certs;
pub mod demo;
pub mod run;
