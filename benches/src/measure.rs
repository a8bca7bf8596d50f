//! Measuring: times, what processes use, how fast the machine is. Nothing here makes load.

pub mod family;
pub mod latency;
pub mod processes;
pub mod saturation;
pub mod yardstick;
