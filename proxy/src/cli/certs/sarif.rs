//! Findings as a SARIF 2.1.0 log, which code scanning of Git hosts and many editors show beside the files.

use portcullis_certs_watcher::findings::{Finding, Rule};
use serde_json::{Value, json};

/// A log with one run.
pub(super) fn log(findings: &[Finding]) -> Value {
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "portcullis",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": Rule::ALL.map(rule),
                },
            },
            "columnKind": "utf16CodeUnits",
            "results": findings.iter().map(result).collect::<Vec<_>>(),
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

fn result(finding: &Finding) -> Value {
    let mut location = json!({ "artifactLocation": { "uri": uri(&finding.path) } });
    if let (Some(line), Some(location)) = (finding.line, location.as_object_mut()) {
        location.insert("region".to_owned(), json!({ "startLine": line }));
    }
    json!({
        "ruleId": finding.rule.code,
        "ruleIndex": Rule::ALL.iter().position(|rule| *rule == finding.rule),
        "level": finding.severity.word(),
        "message": { "text": format!("{}; {}", finding.message, finding.remedy) },
        "locations": [{ "physicalLocation": location }],
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
