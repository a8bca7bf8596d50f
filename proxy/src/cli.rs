//! The command line: one file a command.

pub mod ca;
pub mod demo;
pub mod run;
