//! Kubernetes objects: kind, namespace, name, labels, and the rest as it stands.

use std::collections::BTreeMap;

use super::{FOREIGN, NO_COUNTERPART};
use crate::diagnostic::quoted;
use crate::document::Item;
use crate::native::name;

/// An object of a kind that is read.
#[derive(Debug, Clone)]
pub(super) struct Object<'a, K> {
    pub(super) kind: K,
    pub(super) group: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) labels: BTreeMap<&'a str, &'a str>,
    /// Where its name stands.
    pub(super) at: Item<'a>,
    pub(super) spec: Item<'a>,
}

/// Reads an object. `kind_of` knows kinds by group, version and name.
pub(super) fn read<'a, K>(item: Item<'a>, kind_of: impl Fn(&str, &str, &str) -> Option<K>) -> Option<Object<'a, K>> {
    let (version_item, kind_item) = (item.peek("apiVersion"), item.peek("kind"));
    let (Some(api_version), Some(kind)) = (version_item.and_then(Item::string), kind_item.and_then(Item::string))
    else {
        let reported = item.error(FOREIGN, "this is no Kubernetes object");
        reported.help("write one object in each document, with `apiVersion` and `kind`");
        return None;
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let Some(known) = kind_of(group, version, kind) else {
        let at = kind_item.unwrap_or(item);
        let reported = at.error(FOREIGN, format!("{} of {} is not carried over", quoted(kind), quoted(api_version)));
        reported.help("leave it out of the files that are imported");
        return None;
    };
    let fields = item.fields(&["apiVersion", "kind", "metadata", "spec", "status"])?;
    let metadata = fields.required("metadata")?;
    let named = metadata.peek("name");
    if named.is_none() {
        metadata.error(NO_COUNTERPART, "the object has no name").help("add `metadata: {name: …}`");
    }
    let namespace = metadata.peek("namespace");
    if namespace.is_none() {
        let reported = metadata.error(NO_COUNTERPART, "the object does not say in which namespace it is");
        reported.help("add `metadata: {namespace: …}`");
    }
    let labels = metadata.peek("labels").map_or(Some(BTreeMap::new()), labels);
    let spec = fields.required("spec");
    let at = named?;
    Some(Object { kind: known, group, namespace: name(namespace?)?, name: name(at)?, labels: labels?, at, spec: spec? })
}

/// Labels, which may be none.
fn labels<'a>(item: Item<'a>) -> Option<BTreeMap<&'a str, &'a str>> {
    if item.is_empty_mapping() {
        return Some(BTreeMap::new());
    }
    item.pairs()?.map(|(_, value)| Some((value.name(), value.string()?))).collect()
}

/// What a label selector asks for.
#[derive(Debug, Default)]
pub(super) struct Selector<'a> {
    /// Each label must have one of these values; without values it must be there.
    required: Vec<(&'a str, Vec<&'a str>)>,
    /// Each label must have none of these values; without values it must not be there.
    excluded: Vec<(&'a str, Vec<&'a str>)>,
}

impl<'a> Selector<'a> {
    pub(super) fn read(item: Item<'a>) -> Option<Self> {
        let mut selector = Self::default();
        if item.is_empty_mapping() {
            return Some(selector);
        }
        let fields = item.fields(&["matchLabels", "matchExpressions"])?;
        if let Some(labels) = fields.optional("matchLabels") {
            for (key, value) in self::labels(labels)? {
                selector.required.push((key, vec![value]));
            }
        }
        for expression in fields.optional("matchExpressions").and_then(Item::list).into_iter().flatten() {
            let fields = expression.fields(&["key", "operator", "values"])?;
            let key = fields.required("key")?.string()?;
            let values = fields.optional("values").map_or(Some(Vec::new()), |values| values.each(Item::string));
            let (list, needs_values) = fields.required("operator")?.choice(&OPERATORS)?;
            let values = values?;
            if values.is_empty() == needs_values {
                expression.error(NO_COUNTERPART, "`In` and `NotIn` have values, and the others have none");
                return None;
            }
            match list {
                Sense::Required => selector.required.push((key, values)),
                Sense::Excluded => selector.excluded.push((key, values)),
            }
        }
        Some(selector)
    }

    /// Whether it selects everything.
    pub(super) fn is_everything(&self) -> bool {
        self.required.is_empty() && self.excluded.is_empty()
    }

    /// Whether it asks for a label not to be there, or not to be so: what somebody says of labels never tells that.
    pub(super) fn excludes(&self) -> bool {
        !self.excluded.is_empty()
    }

    /// Whether what has these labels, and no others, is selected.
    pub(super) fn selects(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let one_of = |values: &[&str], value: &str| values.is_empty() || values.contains(&value);
        let required = |(key, values): &(&str, Vec<&str>)| label(key).is_some_and(|value| one_of(values, value));
        let excluded = |(key, values): &(&str, Vec<&str>)| label(key).is_none_or(|value| !one_of(values, value));
        self.required.iter().all(required) && self.excluded.iter().all(excluded)
    }
}

#[derive(Debug, Clone, Copy)]
enum Sense {
    Required,
    Excluded,
}

const OPERATORS: [(&str, (Sense, bool)); 4] = [
    ("In", (Sense::Required, true)),
    ("Exists", (Sense::Required, false)),
    ("NotIn", (Sense::Excluded, true)),
    ("DoesNotExist", (Sense::Excluded, false)),
];
