//! `portcullis-bench` as a program, against real sidecars and against targets that misbehave.

mod bench;
mod commands;
mod hostile;
mod open_loop;
mod resumption;
mod stage;
