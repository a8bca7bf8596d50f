//! Tests of `path.rs`.
