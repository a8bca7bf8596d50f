//! Making load: when an operation starts, who carries it out, what came of it.

pub mod alarm;
pub mod crew;
pub mod progress;
pub mod tally;
pub mod tickets;
