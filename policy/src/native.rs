//! Our own policy language, `policy.portcullis.dev/v1`, lowered to [`crate::rules`].
//!
//! Every document of every file is read, whatever is wrong with the others, so that all mistakes come at once. What
//! this version does not know is an error, never skipped: a policy that is not understood must not be half in force.

mod authorization;
mod collector;
pub(crate) mod matching;
mod policy_test;
mod service;

use std::error::Error;

use crate::case::Case;
use crate::diagnostic::{Codes, Diagnostics, nearest, quoted};
use crate::document::{Item, Reader, parse};
use crate::identity::{IdentityPattern, IdentityPatternError};
use crate::istio;
use crate::policy::Options;
use crate::rules::{IdentitySet, PolicyRules};
use crate::service::Services;
use crate::source::{File, Source};

pub(crate) use authorization::namespace;
pub(crate) use collector::Collector;
pub(crate) use matching::network;

/// The codes for mistakes of form in policy documents.
pub static CODES: Codes = Codes {
    encoding: "P001",
    too_large: "P002",
    hidden: "P003",
    syntax: "P004",
    too_deep: "P005",
    refused_feature: "P006",
    duplicate_key: "P007",
    bad_key: "P008",
    unknown_key: "P009",
    missing_key: "P010",
    wrong_kind: "P011",
    empty: "P012",
    ambiguous: "P013",
    bad_value: "P014",
};

/// An `apiVersion` or `kind` that nobody knows.
pub(crate) const UNKNOWN_KIND: &str = "P020";
/// A name that cannot be one.
pub(crate) const BAD_NAME: &str = "P022";
/// A name given twice.
const DUPLICATE_NAME: &str = "P023";
/// A SPIFFE ID or pattern that is none.
const BAD_IDENTITY: &str = "P024";
/// An address range that is none.
const BAD_NETWORK: &str = "P025";
/// A host that is none.
pub(crate) const BAD_HOST: &str = "P026";
/// A method that is none.
pub(crate) const BAD_METHOD: &str = "P027";
/// A path pattern that is none, or that no request could match.
pub(crate) const BAD_PATH: &str = "P028";
/// A gRPC name that is none.
const BAD_GRPC_NAME: &str = "P029";
/// A header name that is none, or that must not be matched.
pub(crate) const BAD_HEADER: &str = "P030";
/// A header value that no request can have.
pub(crate) const BAD_HEADER_VALUE: &str = "P031";
/// An identity set that no document defines.
const UNKNOWN_SET: &str = "P032";
/// A time that is none.
const BAD_TIME: &str = "P033";
/// A policy without rules.
const NO_RULES: &str = "P034";
/// A target outside the policy's own namespace.
const OUT_OF_NAMESPACE: &str = "P035";
/// A ticket that cannot be one.
const BAD_TICKET: &str = "P036";
/// A test case that says too much or too little, or whose values are none.
const BAD_CASE: &str = "P037";
/// A host or address and a port that two Services have.
const CLAIMED_TWICE: &str = "P040";
/// A Service with neither hosts nor addresses.
const NOWHERE: &str = "P041";
/// A port given twice.
const PORT_TWICE: &str = "P042";
/// A Service for which nobody may answer.
const NOBODY_ANSWERS: &str = "P043";
/// A pattern among those who may answer for a Service.
const PATTERN_ANSWERS: &str = "P044";
/// An identity that may answer for a Service of another namespace.
const NOT_OF_NAMESPACE: &str = "P045";
/// There is no policy at all (a warning).
pub(crate) const NO_POLICY: &str = "P050";
/// An identity set that nothing names (a warning).
const UNUSED_SET: &str = "P051";

/// What all files together say.
pub(crate) struct Collected {
    pub(crate) policies: Vec<PolicyRules>,
    pub(crate) sets: Vec<IdentitySet>,
    pub(crate) cases: Vec<Case>,
    pub(crate) services: Services,
    pub(crate) found: Diagnostics,
}

/// Reads all documents of all files.
pub(crate) fn collect(files: &[File<'_>], options: &Options) -> Collected {
    let mut found = Diagnostics::default();
    let mut sources = Vec::new();
    let mut complete = true;
    for file in files {
        match Source::read(*file, &CODES) {
            Ok(source) => sources.push(source),
            Err(error) => {
                found.push(*error);
                complete = false;
            }
        }
    }
    // Sorted, so that which of two equal names is "the second" does not depend on the order given.
    sources.sort_by_key(|source| (source.name(), source.text()));
    let mut collector = Collector::default();
    for source in &sources {
        collector.enter(source);
        let reader = Reader::new(source, &CODES);
        let nodes = parse(&reader);
        complete &= !reader.has_errors();
        for node in &nodes {
            document(reader.item(node, "document"), &mut collector, options);
        }
        found.append(reader.into_diagnostics());
    }
    // What a file that could not be read defines is unknown; complaining that it is missing would mislead.
    collector.finish(&sources, complete, found)
}

/// Reads one document of any kind.
fn document(item: Item<'_>, collector: &mut Collector, options: &Options) {
    let version = item.peek("apiVersion").and_then(Item::string);
    let kind = item.peek("kind").and_then(Item::string);
    let (Some(version), Some(kind)) = (version, kind) else {
        // Says which of the two is missing, or that this is no mapping.
        if let Some(fields) = item.fields(&["apiVersion", "kind", "metadata", "spec"]) {
            let _ = (fields.required("apiVersion"), fields.required("kind"));
        }
        return;
    };
    if (version, kind) == LIST {
        // What `kubectl get -o yaml` writes of several objects.
        let fields = item.fields(&["apiVersion", "kind", "metadata", "items"]);
        let items = fields.and_then(|fields| fields.required("items")).and_then(Item::list);
        for one in items.into_iter().flatten() {
            document(one, collector, options);
        }
        return;
    }
    if istio::is_version(version) {
        istio::read(item, version, kind, collector, options);
        return;
    }
    if version != API_VERSION {
        let at = item.peek("apiVersion").unwrap_or(item);
        let reported = at.error(UNKNOWN_KIND, format!("the API version {} is not known", quoted(version)));
        reported.help(format!("write `{API_VERSION}`"));
        return;
    }
    match kind {
        "AuthorizationPolicy" => authorization::read(item, collector),
        "IdentitySet" => identity_set(item, collector),
        "PolicyTest" => policy_test::read(item, collector),
        "Service" => service::read(item, collector),
        other => {
            let at = item.peek("kind").unwrap_or(item);
            let reported = at.error(UNKNOWN_KIND, format!("the kind {} is not known", quoted(other)));
            match nearest(other, KINDS) {
                Some(kind) => reported.help(format!("did you mean `{kind}`?")),
                None => reported.help(format!("the kinds are {}", KINDS.join(", "))),
            }
        }
    }
}

/// Reads an `IdentitySet`: a name for a list of identities and patterns.
fn identity_set(item: Item<'_>, collector: &mut Collector) {
    let Some(fields) = item.fields(DOCUMENT_KEYS) else { return };
    let metadata = fields.required("metadata").and_then(|metadata| metadata.fields(&["name"]));
    let named = metadata.and_then(|metadata| metadata.required("name"));
    let spec = fields.required("spec").and_then(|spec| spec.fields(&["identities"]));
    let members = spec.and_then(|spec| spec.required("identities")).and_then(identities);
    if let Some((item, name)) = named.and_then(|item| Some((item, name(item)?))) {
        // Defined even if its members are wrong: those who name it are right to.
        collector.define_set(name, members.unwrap_or_default(), item.position());
    }
}

/// A list of SPIFFE IDs and patterns.
fn identities(item: Item<'_>) -> Option<Vec<IdentityPattern>> {
    item.each(|item| {
        let text = item.string()?;
        IdentityPattern::parse(text).map_err(|error| report_identity(item, &error)).ok()
    })
}

/// Reports what is wrong with a SPIFFE ID, with the rule of the standard that it breaks.
fn report_identity(item: Item<'_>, error: &IdentityPatternError) {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    item.error(BAD_IDENTITY, format!("{error}{cause}")).help(error.help());
}

/// A name that can be a metrics label and an argument on a command line.
pub(crate) fn name<'a>(item: Item<'a>) -> Option<&'a str> {
    let text = item.string()?;
    let ends_well = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if inner && text.len() <= MAX_NAME_BYTES && ends_well(text.chars().next()) && ends_well(text.chars().next_back()) {
        return Some(text);
    }
    let reported = item.error(BAD_NAME, format!("{} cannot be a name", quoted(text)));
    reported.help(format!(
        "use at most {MAX_NAME_BYTES} letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit"
    ));
    None
}

const LIST: (&str, &str) = ("v1", "List");
const API_VERSION: &str = "policy.portcullis.dev/v1";
const KINDS: [&str; 4] = ["AuthorizationPolicy", "IdentitySet", "PolicyTest", "Service"];
const DOCUMENT_KEYS: &[&str] = &["apiVersion", "kind", "metadata", "spec"];

/// What Kubernetes allows a label to have.
const MAX_NAME_BYTES: usize = 63;

#[cfg(test)]
mod tests;
