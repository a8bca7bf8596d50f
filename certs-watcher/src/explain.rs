//! An error in one line, causes included.

use std::error::Error;
use std::fmt::Write as _;

/// Writes an error and what caused it, outermost first: `tls.key holds no usable private key: the file is empty`.
pub fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
