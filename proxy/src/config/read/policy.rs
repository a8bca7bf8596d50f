//! `policy`: where the documents are, where a copy of them is kept, and how they are read.

use std::path::PathBuf;

use portcullis_policy::document::{Fields, Item};

use super::{CODES, TWICE, not_yet, path};
use crate::config::Policy;

pub(super) fn policy(item: Item<'_>) -> Option<Policy> {
    let fields = item.fields(&["directory", "directories", "state", "defaultAction"])?;
    if let Some(item) = fields.optional("defaultAction") {
        not_yet(item);
    }
    let directories = directories(item, &fields);
    let state = fields.optional("state").map(path);
    let (directories, state) = (directories?, state.map_or(Some(None), |state| state.map(Some))?);
    if let (Some(state), Some(at)) = (&state, fields.optional("state"))
        && let Some(directory) = directories.iter().find(|directory| state.starts_with(directory))
    {
        let message = format!("`state` is within the policy directory `{}`", directory.display());
        at.error(CODES.bad_value, message).help("name a directory that nothing but this sidecar writes");
        return None;
    }
    Some(Policy { directories, state })
}

fn directories(item: Item<'_>, fields: &Fields<'_>) -> Option<Vec<PathBuf>> {
    match (fields.optional("directory"), fields.optional("directories")) {
        (Some(one), None) => Some(vec![path(one)?]),
        (None, Some(several)) => several.each(path),
        (Some(_), Some(_)) => {
            let reported = item.error(TWICE, "`policy` has both `directory` and `directories`");
            reported.help("keep one of them");
            None
        }
        (None, None) => {
            item.error(CODES.missing_key, "`policy` lacks the key `directory`").help("add `directory: …`");
            None
        }
    }
}
