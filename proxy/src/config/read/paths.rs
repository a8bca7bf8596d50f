//! `paths` of an inbound listener: what it takes beyond what is safe for every application.

use portcullis_policy::document::Item;

use super::policy::exception;
use super::{CODES, DECIDES_SLASHES};
use crate::config::EncodedSlashes;

/// `{encodedSlash: decide, reason: …, until: …}`; `{encodedSlash: refuse}` says what holds without it.
pub(super) fn paths(item: Item<'_>) -> Option<Option<EncodedSlashes>> {
    let fields = item.fields(&["encodedSlash", "reason", "until"])?;
    let slash = fields.required("encodedSlash");
    let decides = slash.and_then(|slash| slash.choice(&[("refuse", false), ("decide", true)]));
    let beside = ["reason", "until"].map(|key| fields.optional(key));
    let (decides, reason, until) =
        exception(decides, beside, ["`encodedSlash: decide`", "encoded slashes are refused"])?;
    if !decides {
        return Some(None);
    }
    let Some(reason) = reason.filter(|reason| !reason.trim().is_empty()) else {
        let reported = item.error(CODES.missing_key, "`encodedSlash: decide` is without a reason");
        reported.help("add `reason: …`: which application needs `%2F` in its paths, and why");
        return None;
    };
    if let Some(slash) = slash {
        let reported = slash.warning(DECIDES_SLASHES, "paths with `%2F` are forwarded, which servers read in two ways");
        reported.help(match until {
            Some(_) => "see to it that the application works without by then",
            None => "say until when: `until: 2027-01-31T00:00:00Z`",
        });
    }
    Some(Some(EncodedSlashes { reason, until }))
}
