//! SARIF 2.1.0 logs, which code scanning of Git hosts and many editors show beside the files.

use serde_json::{Value, json};

/// What a code means.
pub(super) struct Rule {
    pub(super) code: &'static str,
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) remedy: &'static str,
}

/// One finding.
pub(super) struct Entry {
    pub(super) code: &'static str,
    /// `error`, `warning` or `note`.
    pub(super) level: &'static str,
    pub(super) message: String,
    /// The file or directory; empty when the finding is about no one file.
    pub(super) path: String,
    /// The line, from one, where it is known.
    pub(super) line: Option<usize>,
    /// The column in characters, from one, where it is known.
    pub(super) column: Option<usize>,
}

/// A log with one run. `rules` holds the rule of every entry.
pub(super) fn log(rules: &[Rule], entries: &[Entry]) -> Value {
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "portcullis",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": rules.iter().map(rule).collect::<Vec<_>>(),
                },
            },
            "columnKind": "unicodeCodePoints",
            "results": entries.iter().map(|entry| result(rules, entry)).collect::<Vec<_>>(),
        }],
    })
}

fn rule(rule: &Rule) -> Value {
    json!({
        "id": rule.code,
        "name": rule.name,
        "shortDescription": { "text": rule.title },
        "help": { "text": rule.remedy },
    })
}

fn result(rules: &[Rule], entry: &Entry) -> Value {
    let mut region = serde_json::Map::new();
    for (key, number) in [("startLine", entry.line), ("startColumn", entry.column)] {
        region.extend(number.map(|number| (key.to_owned(), json!(number))));
    }
    let mut location = json!({ "artifactLocation": { "uri": uri(&entry.path) } });
    if let (false, Some(location)) = (region.is_empty(), location.as_object_mut()) {
        location.insert("region".to_owned(), Value::Object(region));
    }
    let locations = if entry.path.is_empty() { json!([]) } else { json!([{ "physicalLocation": location }]) };
    json!({
        "ruleId": entry.code,
        "ruleIndex": rules.iter().position(|rule| rule.code == entry.code),
        "level": entry.level,
        "message": { "text": entry.message },
        "locations": locations,
    })
}

/// A path as a URI reference: a relative one stays relative, so that it is found in a checkout.
fn uri(path: &str) -> String {
    let mut uri = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uri_references() {
        for (path, expected) in [
            ("identity/tls.crt", "identity/tls.crt"),
            ("/etc/portcullis/tls.crt", "file:///etc/portcullis/tls.crt"),
            ("a b:c#d?é", "a%20b%3Ac%23d%3F%C3%A9"),
        ] {
            assert_eq!(uri(path), expected);
        }
    }
}
