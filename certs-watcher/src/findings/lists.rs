//! Findings about revocation lists: overdue, or soon to be.

use super::{At, Found, rules};
use crate::clock::Timestamp;
use crate::inspect::{FileFacts, ListFacts};

pub(super) fn judge(found: &mut Found, file: &FileFacts) {
    for list in &file.revocation_lists {
        judge_one(found, file, list);
    }
}

fn judge_one(found: &mut Found, file: &FileFacts, list: &ListFacts) {
    let at = At::line(&file.path, list.line);
    let (next, now) = (list.next_update, found.now);
    if list.is_stale(now) {
        let message =
            format!("the CRL of `{}` was due for renewal at {next}, and it is {}", list.issuer, Timestamp(now));
        return found.warning(&rules::CRL_STALE, at, message);
    }
    let (begin, end) = (list.this_update.0.as_secs(), next.0.as_secs());
    let late_from = end.saturating_sub(end.saturating_sub(begin) / 4);
    if now.as_secs() >= late_from {
        let message =
            format!("the CRL of `{}` is due for renewal at {next}, and its successor is not there", list.issuer);
        found.warning(&rules::CRL_NEAR_UPDATE, at, message);
    }
}
