//! `portcullis policy schema`: the JSON Schema of the documents, made here and nowhere else.
//!
//! It is for editors: completion, documentation, early mistakes. What a schema cannot say (paths in normal form, names
//! defined elsewhere, namespaces of targets) `policy check` says. It accepts whatever the reader of documents accepts.

use std::io::Write;

use portcullis_policy::Protocol;
use serde_json::{Map, Value, json};

use super::Error;
use super::format::print_json;

pub(super) fn run(out: &mut dyn Write) -> Result<(), Error> {
    print_json(&schema(), out)
}

/// The schema of one document.
pub(super) fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Portcullis policy documents",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": { "const": "policy.portcullis.dev/v1" },
            "kind": { "enum": ["AuthorizationPolicy", "IdentitySet", "PolicyTest", "Service"] },
        },
        "oneOf": [
            document("AuthorizationPolicy", "Who may call some workloads, and who may not. Deny beats allow; what nothing allows is denied.", &["namespace"], authorization_policy()),
            document("IdentitySet", "A name for a list of identities.", &[], object("The members.", &["identities"], &[("identities", identities("SPIFFE IDs and patterns of them."))])),
            document("PolicyTest", "What the policies must decide.", &[], object("The cases.", &["cases"], &[("cases", list("Each is asked as the sidecar asks it.", &reference("case")))])),
            document("Service", "Where a destination is, and who may answer for it.", &["namespace"], service()),
        ],
        "$defs": {
            "name": { "type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$" },
            "identity": { "type": "string", "pattern": "^spiffe://[a-z0-9._-]+/[^*?#\\s]+$", "maxLength": 2048, "examples": ["spiffe://prod.health.internal/ns/claims/sa/adjudicator"] },
            "identityPattern": { "type": "string", "pattern": "^spiffe://[a-z0-9._-]+/[^?#\\s]+$", "maxLength": 2048, "description": "A SPIFFE ID. `*` stands for one segment, a last `**` for the rest." },
            "port": { "type": "integer", "minimum": 1, "maximum": 65535 },
            "time": { "type": "string", "description": "RFC 3339, as in 2026-12-31T00:00:00Z." },
            "headers": { "type": "object", "minProperties": 1, "additionalProperties": list("Values; `*` stands for any characters at one of the ends.", &text("A value.")) },
            "grpc": object("gRPC calls.", &[], &[("services", list("Services, as package.Service.", &text("A service."))), ("methods", list("Methods.", &text("A method.")))]),
            "rule": rule(),
            "case": case(),
        },
    })
}

fn document(kind: &str, description: &str, metadata: &[&str], spec: Value) -> Value {
    let mut names = vec![("name", reference("name"))];
    names.extend(
        metadata
            .iter()
            .map(|key| (*key, json!({ "type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" }))),
    );
    let metadata = object("What it is called.", &["name"], &names);
    let api_version = json!({ "const": "policy.portcullis.dev/v1" });
    let kind = json!({ "const": kind });
    let keys = [("apiVersion", api_version), ("kind", kind), ("metadata", metadata), ("spec", spec)];
    object(description, &["apiVersion", "kind", "metadata", "spec"], &keys)
}

fn authorization_policy() -> Value {
    let target = object(
        "The workloads that it protects; without it all of the namespace, or all.",
        &[],
        &[
            ("identities", identities("SPIFFE IDs of workloads, and patterns.")),
            ("identitySets", names("Names of IdentitySets.")),
        ],
    );
    let mut spec = object(
        "",
        &[],
        &[
            (
                "mode",
                json!({ "enum": ["enforce", "audit"], "default": "enforce", "description": "`audit` decides nothing; what it would have decided is counted and logged." }),
            ),
            ("target", target),
            ("allow", list("Rules of which one must match.", &reference("rule"))),
            ("deny", list("Rules of which none may match.", &reference("rule"))),
        ],
    );
    extend(&mut spec, "anyOf", json!([{ "required": ["allow"] }, { "required": ["deny"] }]));
    spec
}

fn service() -> Value {
    let protocols: Vec<&str> = Protocol::ALL.iter().map(|protocol| protocol.label()).collect();
    let port = object(
        "",
        &["port", "protocol"],
        &[
            ("port", described(reference("port"), "The port that the application asks for.")),
            ("protocol", json!({ "enum": protocols, "description": "What the application speaks on it." })),
        ],
    );
    let mut ports = list("Its ports.", &port);
    extend(&mut ports, "maxItems", json!(32));
    let host = json!({ "type": "string", "minLength": 1, "maxLength": 253 });
    let mut spec = object(
        "",
        &["ports"],
        &[
            ("hosts", list("Its hosts, without port; `*.` at the front stands for one label or more.", &host)),
            (
                "addresses",
                list(
                    "Its addresses, as in 10.0.8.20 or 10.1.0.0/16; opaque TCP shows nothing else.",
                    &text("An address or range."),
                ),
            ),
            ("ports", ports),
            ("identities", list("SPIFFE IDs that may answer for it; no patterns.", &reference("identity"))),
            ("identitySets", names("Names of IdentitySets whose members may answer for it; without patterns, too.")),
        ],
    );
    let any_of = |one: &str, other: &str| json!({ "anyOf": [{ "required": [one] }, { "required": [other] }] });
    extend(&mut spec, "allOf", json!([any_of("hosts", "addresses"), any_of("identities", "identitySets")]));
    spec
}

fn rule() -> Value {
    let from = twins(&[
        ("identities", identities("SPIFFE IDs of callers, and patterns.")),
        ("identitySets", names("Names of IdentitySets.")),
        ("sources", list("Address ranges of callers.", &text("As in 10.0.0.0/8."))),
    ]);
    let to = twins(&[
        ("ports", list("The application's ports.", &reference("port"))),
        ("hosts", list("Hosts, without port; `*.` at the front stands for one label or more.", &text("A host."))),
        (
            "methods",
            list("Methods in upper case.", &json!({ "type": "string", "pattern": "^[!#$%&'+.^_`|~0-9A-Z-]+$" })),
        ),
        (
            "paths",
            list(
                "Path patterns: `*` or `{name}` is one segment, a last `**` the rest.",
                &json!({ "type": "string", "pattern": "^/[^?]*$" }),
            ),
        ),
        ("grpc", reference("grpc")),
    ]);
    let when = twins(&[("headers", reference("headers"))]);
    object(
        "All that is given must match; of a list one value.",
        &["name"],
        &[
            ("name", reference("name")),
            ("from", described(object("", &[], &from), "Who calls.")),
            ("to", described(object("", &[], &to), "What is called.")),
            ("when", described(object("", &[], &when), "Further conditions.")),
            ("expires", described(reference("time"), "From this moment on the rule is not in force.")),
            (
                "ticket",
                json!({ "type": "string", "minLength": 1, "maxLength": 128, "description": "The change that it came with; in every audit record." }),
            ),
        ],
    )
}

fn case() -> Value {
    let on_wire = [
        ("port", reference("port")),
        ("source", text("The caller's address.")),
        ("destination", text("The address that the caller wants to reach.")),
        ("serverName", text("What the caller's handshake asks for.")),
    ];
    let value = text("A value.");
    let field = json!({ "oneOf": [value, list("Values of a repeated field.", &value)] });
    let mut of_request = on_wire.to_vec();
    of_request.extend([
        ("method", text("The method.")),
        ("host", text("The host.")),
        ("path", text("The path as a caller sends it; a query is ignored.")),
        ("headers", json!({ "type": "object", "minProperties": 1, "additionalProperties": field })),
    ]);
    let mut case = object(
        "One question, and the answer that it must have.",
        &["name", "caller", "workload", "expect"],
        &[
            ("name", text("What it shows.")),
            ("caller", reference("identity")),
            ("workload", reference("identity")),
            (
                "labels",
                json!({ "type": "object", "minProperties": 1, "additionalProperties": text("A value."), "description": "The labels of the workload, for policies that select by them." }),
            ),
            ("at", described(reference("time"), "When it is asked; without it when the test runs.")),
            ("request", object("An HTTP request.", &["port", "method", "path"], &of_request)),
            ("connection", object("An opaque TCP connection.", &["port"], &on_wire)),
            ("expect", json!({ "enum": ["allow", "deny"] })),
            ("rule", text("The rule that must decide.")),
        ],
    );
    extend(&mut case, "oneOf", json!([{ "required": ["request"] }, { "required": ["connection"] }]));
    case
}

/// A mapping with these keys and no others.
fn object(description: &str, required: &[&str], properties: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        properties.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let mut object =
        json!({ "type": "object", "additionalProperties": false, "minProperties": 1, "properties": properties });
    if !required.is_empty() {
        extend(&mut object, "required", json!(required));
    }
    described(object, description)
}

/// Each key, and its `not…` twin.
fn twins(keys: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let twin = |key: &str| match key {
        "identities" => "notIdentities",
        "identitySets" => "notIdentitySets",
        "sources" => "notSources",
        "ports" => "notPorts",
        "hosts" => "notHosts",
        "methods" => "notMethods",
        "paths" => "notPaths",
        "grpc" => "notGrpc",
        _ => "notHeaders",
    };
    keys.iter().flat_map(|(key, value)| [(*key, value.clone()), (twin(key), value.clone())]).collect()
}

fn list(description: &str, items: &Value) -> Value {
    json!({ "type": "array", "minItems": 1, "items": items, "description": description })
}

fn identities(description: &str) -> Value {
    list(description, &reference("identityPattern"))
}

fn names(description: &str) -> Value {
    list(description, &reference("name"))
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "description": description })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn described(mut schema: Value, description: &str) -> Value {
    if !description.is_empty() {
        extend(&mut schema, "description", json!(description));
    }
    schema
}

fn extend(schema: &mut Value, key: &str, value: Value) {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests;
