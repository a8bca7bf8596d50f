//! The schema against the reader of documents, which is the truth: at every level both know the same keys, and both ask for
//! the same ones.
//!
//! The reader is asked by its answers: a key that nobody knows makes it list those that it knows, and an absence makes it
//! say what it lacks. So a kind or key that is added to one of the two and not to the other fails here.

use std::collections::BTreeSet;

use portcullis_policy::diagnostic::Diagnostics;
use portcullis_policy::{File, Policy};
use serde_json::{Value, json};

use super::schema;

const UNKNOWN: &str = "qqqqqqqqqqqqqqqq";
const API_VERSION: &str = "policy.portcullis.dev/v1";

/// A mapping with fixed keys somewhere in a document: how to get there, and what the schema says of it.
struct Place<'a> {
    kind: &'a str,
    path: Vec<&'a str>,
    schema: &'a Value,
}

/// What stands in a path for an item of a list.
const ITEM: &str = "[]";

#[test]
fn both_know_the_same_keys_at_every_level() {
    let schema = schema();
    let mut places = Vec::new();
    for document in schema["oneOf"].as_array().unwrap() {
        let kind = document["properties"]["kind"]["const"].as_str().unwrap();
        walk(&schema, document, &Place { kind, path: Vec::new(), schema: document }, &mut places);
    }
    let mut wrong = Vec::new();
    for place in &places {
        let found = read(&place.document());
        let (known, wanted) = (known_to_reader(&found), wanted_by_reader(&found, place.name()));
        let in_schema: BTreeSet<String> = place.schema["properties"].as_object().unwrap().keys().cloned().collect();
        if known.as_ref() != Some(&in_schema) {
            wrong.push(format!("{place}: the schema knows {in_schema:?}, and the reader {known:?}\n{found}"));
        }
        let required = place.required();
        if wanted != required {
            wrong.push(format!("{place}: the schema asks for {required:?}, and the reader for {wanted:?}"));
        }
    }
    assert!(places.len() > 15, "only {} places were found", places.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn both_know_the_same_kinds() {
    let found = read(&json!({ "apiVersion": API_VERSION, "kind": UNKNOWN }));
    let listed = found.iter().find_map(|one| one.help.as_ref()?.strip_prefix("the kinds are ")).unwrap();
    let kinds: BTreeSet<&str> = listed.split(", ").collect();
    let schema = schema();
    let alternatives = schema["oneOf"].as_array().unwrap().iter().map(|one| &one["properties"]["kind"]["const"]);
    let in_schema: BTreeSet<&str> = alternatives.map(|kind| kind.as_str().unwrap()).collect();
    let in_list = schema["properties"]["kind"]["enum"].as_array().unwrap().iter().map(|kind| kind.as_str().unwrap());
    assert_eq!(in_schema, kinds);
    assert_eq!(in_list.collect::<BTreeSet<_>>(), kinds);
}

/// Collects every mapping with fixed keys below `node`.
fn walk<'a>(root: &'a Value, node: &'a Value, at: &Place<'a>, places: &mut Vec<Place<'a>>) {
    let node = match node["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => node,
    };
    let below = |step: &'a str| Place { path: at.path.iter().copied().chain([step]).collect(), ..*at };
    if let Some(items) = node.get("items") {
        walk(root, items, &below(ITEM), places);
    }
    let Some(properties) = node["properties"].as_object() else { return };
    assert_eq!(node["additionalProperties"], false, "{at}");
    places.push(Place { schema: node, path: at.path.clone(), ..*at });
    for (key, property) in properties {
        walk(root, property, &below(key), places);
    }
}

impl Place<'_> {
    /// A document with nothing in it but the way to this place, and there a key that nobody knows.
    fn document(&self) -> Value {
        let wrap = |inner: Value, step: &&str| if *step == ITEM { json!([inner]) } else { json!({ *step: inner }) };
        let mut document = self.path.iter().rev().fold(json!({ UNKNOWN: 1 }), wrap);
        document["apiVersion"] = json!(API_VERSION);
        document["kind"] = json!(self.kind);
        document
    }

    /// What the reader calls this place.
    fn name(&self) -> &str {
        self.path.iter().rev().find(|step| **step != ITEM).unwrap_or(&"document")
    }

    /// What the schema asks for and [`Self::document`] does not have.
    fn required(&self) -> BTreeSet<String> {
        let required = self.schema["required"].as_array().into_iter().flatten();
        let there: &[&str] = if self.path.is_empty() { &["apiVersion", "kind"] } else { &[] };
        required.map(|key| key.as_str().unwrap().to_owned()).filter(|key| !there.contains(&key.as_str())).collect()
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.path.join("/"))
    }
}

fn read(document: &Value) -> Diagnostics {
    // JSON is YAML.
    let text = document.to_string();
    Policy::compile(&[File { name: "a.yaml", bytes: text.as_bytes() }]).unwrap_err()
}

fn known_to_reader(found: &Diagnostics) -> Option<BTreeSet<String>> {
    let unknown = found.iter().find(|one| one.code == "P009" && one.message.contains(UNKNOWN))?;
    let keys = unknown.help.as_ref()?.strip_prefix("the keys are ")?;
    Some(keys.split(", ").map(str::to_owned).collect())
}

fn wanted_by_reader(found: &Diagnostics, name: &str) -> BTreeSet<String> {
    let lacks = format!("`{name}` lacks the key `");
    let keys = found.iter().filter_map(|one| one.message.strip_prefix(&lacks)?.strip_suffix('`'));
    keys.map(str::to_owned).collect()
}
