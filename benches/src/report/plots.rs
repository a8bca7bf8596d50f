//! Plots as SVG: one function for each kind, from values to a document.
//!
//! Each result is a file that stands alone, on a background of its own, and may also be put into a page as it is.
//! Labels are anybody's text; values may be anything, and what is no number is left out.

mod axis;
mod bars;
mod canvas;
mod costs;
mod distribution;
mod over_time;
mod palette;
mod points;
#[cfg(test)]
mod tests;

pub use bars::{Bar, Better, bars};
pub use costs::costs;
pub use distribution::distribution;
pub use over_time::over_time;
pub use palette::dark_style;
