//! `paths` of an inbound listener: what it takes beyond what is safe for every application.

use portcullis_policy::document::Item;

use super::policy::{moment, one_line};
use super::{CODES, DECIDES_SLASHES};
use crate::config::EncodedSlashes;

/// `{encodedSlash: decide, reason: …, until: …}`; `{encodedSlash: refuse}` says what holds without it.
pub(super) fn paths(item: Item<'_>) -> Option<Option<EncodedSlashes>> {
    let fields = item.fields(&["encodedSlash", "reason", "until"])?;
    let slash = fields.required("encodedSlash");
    let decides = slash.and_then(|slash| slash.choice(&[("refuse", false), ("decide", true)]));
    let (reason, until) = (fields.optional("reason"), fields.optional("until"));
    let read_reason = reason.map_or(Some(None), |reason| one_line(reason).map(Some));
    let read_until = until.map_or(Some(None), |until| moment(until).map(Some));
    let decides = decides?;
    if let Some(item) = reason.or(until).filter(|_| !decides) {
        let message = format!("`{}` is for `encodedSlash: decide`, and encoded slashes are refused", item.name());
        item.error(CODES.bad_value, message).help("leave it out");
        return None;
    }
    let (reason, until) = (read_reason?, read_until?);
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
