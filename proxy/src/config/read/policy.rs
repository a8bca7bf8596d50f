//! `policy`: where the documents are, where a copy of them is kept, and how they are read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use portcullis_policy::document::{Fields, Item};
use spiffe::TrustDomain;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{ALLOWS_BY_DEFAULT, CODES, TWICE, path};
use crate::config::{AllowByDefault, Policy, labels};

pub(super) fn policy(item: Item<'_>) -> Option<Policy> {
    let fields = item.fields(&KEYS)?;
    let directories = directories(item, &fields);
    let state = fields.optional("state").map_or(Some(None), |state| path(state).map(Some));
    let labels = fields.optional("labels").map_or(Some(BTreeMap::new()), labels_of);
    let labels_file = fields.optional("labelsFile").map_or(Some(None), |file| path(file).map(Some));
    if let (Some(_), Some(file)) = (fields.optional("labels"), fields.optional("labelsFile")) {
        file.error(TWICE, "`policy` has both `labels` and `labelsFile`").help("keep one of them");
    }
    let root_namespace = fields.optional("rootNamespace").map_or(Some(None), |item| namespace(item).map(Some));
    let cluster_local = fields.optional("clusterLocal").map_or(Some(None), |item| trust_domain(item).map(Some));
    let allow_by_default = default_action(&fields);
    let (directories, state) = (directories?, state?);
    if let (Some(state), Some(at)) = (&state, fields.optional("state"))
        && let Some(directory) = directories.iter().find(|directory| state.starts_with(directory))
    {
        let message = format!("`state` is within the policy directory `{}`", directory.display());
        at.error(CODES.bad_value, message).help("name a directory that nothing but this sidecar writes");
        return None;
    }
    Some(Policy {
        directories,
        state,
        labels: labels?,
        labels_file: labels_file?,
        root_namespace: root_namespace?,
        cluster_local: cluster_local?,
        allow_by_default: allow_by_default?,
    })
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

fn default_action(fields: &Fields<'_>) -> Option<Option<AllowByDefault>> {
    let action = fields.optional("defaultAction");
    let allows = action.map_or(Some(false), |item| item.choice(&[("deny", false), ("allow", true)]));
    let beside = ["defaultActionReason", "defaultActionUntil"].map(|key| fields.optional(key));
    let (allows, reason, until) = exception(allows, beside, ["`defaultAction: allow`", "the default action is deny"])?;
    if let Some(item) = action.filter(|_| allows) {
        let reported =
            item.warning(ALLOWS_BY_DEFAULT, "whatever no policy denies is allowed where none is there to allow");
        reported.help(match (&reason, until) {
            (Some(_), Some(_)) => "add a policy that allows, and take `defaultAction` out",
            _ => "say why and until when: `defaultActionReason` and `defaultActionUntil`",
        });
    }
    Some(allows.then_some(AllowByDefault { reason, until }))
}

/// What stands beside a key that may weaken a rule: the reason, and the end. Either is an error where the key weakens nothing;
/// `words` are the setting that does, and what holds instead.
pub(super) fn exception(
    weakens: Option<bool>,
    [reason, until]: [Option<Item<'_>>; 2],
    words: [&str; 2],
) -> Option<(bool, Option<String>, Option<i64>)> {
    let read_reason = reason.map_or(Some(None), |item| one_line(item).map(Some));
    let read_until = until.map_or(Some(None), |item| moment(item).map(Some));
    let weakens = weakens?;
    if let Some(item) = reason.or(until).filter(|_| !weakens) {
        let [setting, instead] = words;
        item.error(CODES.bad_value, format!("`{}` is for {setting}, and {instead}", item.name())).help("leave it out");
        return None;
    }
    Some((weakens, read_reason?, read_until?))
}

fn moment(item: Item<'_>) -> Option<i64> {
    let text = item.text()?;
    let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) else {
        let reported = item.error(CODES.bad_value, format!("`{text}` is not a time"));
        reported.help("write it as in RFC 3339, with a time zone: 2026-12-31T00:00:00Z");
        return None;
    };
    Some(time.unix_timestamp())
}

fn one_line(item: Item<'_>) -> Option<String> {
    let text = item.string()?;
    if text.chars().count() <= MOST_REASON && !text.chars().any(char::is_control) {
        return Some(text.to_owned());
    }
    let message = format!("`{}` is not one line of at most {MOST_REASON} characters", item.name());
    item.error(CODES.bad_value, message).help("it is shown in a log line; leave the long story to the ticket");
    None
}

fn labels_of(item: Item<'_>) -> Option<BTreeMap<String, String>> {
    let mut read = BTreeMap::new();
    let mut complete = true;
    for (at, value) in item.pairs()? {
        let name = value.name();
        if !labels::is_name(name) {
            let reported = value.error_at(at, CODES.bad_value, format!("`{name}` is no name of a label"));
            reported.help("write it as the pod has it, such as app or app.kubernetes.io/name");
            complete = false;
        }
        match value.string() {
            Some(text) if labels::is_value(text) => drop(read.insert(name.to_owned(), text.to_owned())),
            Some(text) => {
                let reported = value.error(CODES.bad_value, format!("`{text}` is no value of a label"));
                reported
                    .help("at most 63 letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit");
                complete = false;
            }
            None => complete = false,
        }
    }
    complete.then_some(read)
}

fn namespace(item: Item<'_>) -> Option<String> {
    let text = item.string()?;
    let is_one = labels::is_namespace(text);
    if !is_one {
        let reported = item.error(CODES.bad_value, format!("`{text}` is no namespace"));
        reported.help("at most 63 small letters, digits and `-`, such as istio-system");
    }
    is_one.then(|| text.to_owned())
}

fn trust_domain(item: Item<'_>) -> Option<TrustDomain> {
    item.parsed(CODES.bad_value, |text| {
        TrustDomain::new(text).map_err(|error| format!("`{text}` is no trust domain: {error}"))
    })
}

const KEYS: [&str; 10] = [
    "directory",
    "directories",
    "state",
    "labels",
    "labelsFile",
    "rootNamespace",
    "clusterLocal",
    "defaultAction",
    "defaultActionReason",
    "defaultActionUntil",
];
/// It stands in a log line.
const MOST_REASON: usize = 200;
