//! `paths: {encodedSlash: decide}`: an application that needs `%2F` in its paths.
//!
//! It weakens the rule that a path has one meaning, so it carries a reason, may end, and is told of at start.

use portcullis_policy::path::EncodedSlash;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::policy_store::unix_seconds;

/// Paths with `%2F` are forwarded as they stand and decided on in every reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedSlashes {
    /// Why; one line.
    pub reason: String,
    /// From this moment (seconds since 1970) on they are refused as elsewhere.
    pub until: Option<i64>,
}

impl EncodedSlashes {
    /// What to do with them now. Where they are refused always, no clock is read.
    pub fn now(slashes: &Option<Self>) -> EncodedSlash {
        match slashes {
            Some(slashes) if slashes.until.is_none_or(|until| unix_seconds() < until) => EncodedSlash::Decide,
            _ => EncodedSlash::Refuse,
        }
    }

    /// When it ends, as the configuration has it.
    pub fn until_written(&self) -> Option<String> {
        OffsetDateTime::from_unix_timestamp(self.until?).ok()?.format(&Rfc3339).ok()
    }
}
