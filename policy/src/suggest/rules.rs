//! From what was grouped to documents: a policy for each workload, and a test that shows each of its rules at work.

use std::collections::BTreeSet;
use std::net::IpAddr;

use spiffe::SpiffeId;

use super::group::{Example, Group, Grouped, To};
use super::wording::{self, counted};
use super::{Seen, Workload};
use crate::path::{EncodedSlash, Path};
use crate::policy::Policy;
use crate::request::{Connection, Request};
use crate::rules::{Effect, Mode};
use crate::source::File;
use crate::write::{self, Body, CaseBody, Document, GrpcBody, Matched, Names, PolicyBody, RuleBody, instant};

/// The policy of a workload, and its test if it would pass.
pub(super) fn documents(
    workload: &SpiffeId,
    callers: &Workload,
    grouped: &Grouped,
    mode: Mode,
    names: &mut Names,
) -> (Document, Option<Document>) {
    let mut groups: Vec<&Group> = grouped.rules.iter().collect();
    groups.sort_by_key(|group| &group.callers);
    let mut rule_names = Names::default();
    let rules: Vec<RuleBody> = groups.iter().map(|group| rule(group, &mut rule_names)).collect();
    let name = names.take(&wording::name(workload));
    let body = PolicyBody {
        name: name.clone(),
        namespace: wording::namespace(workload).map(str::to_owned),
        mode,
        target: vec![workload.to_string()],
        allow: rules.clone(),
        deny: Vec::new(),
    };
    let policy = Document { comment: comment(workload, callers, &groups), body: Body::Policy(body) };
    let test = match mode {
        Mode::Audit | Mode::Mark => None,
        Mode::Enforce => {
            let cases = cases(workload, &groups, &rules, &policy);
            Some(Document { comment: Vec::new(), body: Body::Test(name, cases) })
        }
    };
    (policy, test)
}

fn rule(group: &Group, names: &mut Names) -> RuleBody {
    let mut is = Matched {
        identities: group.callers.iter().map(ToString::to_string).collect(),
        ports: group.ports.iter().copied().collect(),
        ..Matched::default()
    };
    let mut is_not = Matched::default();
    let owned = |all: &BTreeSet<Box<str>>| all.iter().map(|one| one.to_string()).collect();
    match &group.to {
        To::Http { methods, paths, except } => {
            is.methods = owned(methods);
            is.paths = paths.iter().map(wording::text).collect();
            is_not.paths = except.iter().map(wording::text).collect();
        }
        To::Grpc { services, methods } => {
            is.grpc = Some(GrpcBody { services: owned(services), methods: owned(methods) });
        }
        To::Tcp => {}
    }
    let name = names.take(&wording::rule_name(group));
    RuleBody { comment: wording::comment(group), name, is, is_not, expires: None, ticket: None }
}

fn comment(workload: &SpiffeId, callers: &Workload, groups: &[&Group]) -> Vec<String> {
    let mut all: Option<Seen> = None;
    for group in groups {
        match &mut all {
            Some(all) => all.add(group.evidence.seen),
            None => all = Some(group.evidence.seen),
        }
    }
    let Some(Seen { count, first, last }) = all else { return Vec::new() };
    let mut lines = vec![format!(
        "Suggested for {workload} from {} of {}, seen from {} to {}.",
        counted(count, "call"),
        counted(callers.len() as u64, "caller"),
        instant(first),
        instant(last)
    )];
    for (caller, calls) in callers.iter().filter(|(_, calls)| calls.flooded > 0) {
        lines.push(format!(
            "{caller} asked for more different paths than anybody would review: {} are not covered.",
            counted(calls.flooded, "call")
        ));
    }
    lines
}

/// A case for each rule.
fn cases(workload: &SpiffeId, groups: &[&Group], rules: &[RuleBody], document: &Document) -> Vec<CaseBody> {
    // Where the document is too large to be written, whoever writes it says so.
    let text = write::write(std::slice::from_ref(document)).unwrap_or_default();
    let policy = Policy::compile(&[File { name: "suggested", bytes: text.as_bytes() }]).ok();
    let case = |(group, rule): (&&Group, &RuleBody)| {
        let decides = |example: &&Example| {
            policy.as_ref().and_then(|compiled| decided_by(&compiled.policy, workload, example)).as_deref()
                == Some(rule.name.as_str())
        };
        let examples = &group.evidence.examples;
        let decided = examples.iter().find(decides);
        let example = decided.or_else(|| examples.first())?;
        Some(CaseBody {
            name: rule.name.clone(),
            caller: example.caller.to_string(),
            workload: workload.to_string(),
            port: example.port,
            request: example.request.as_ref().map(|(method, path)| (method.to_string(), path.to_string())),
            expect: Effect::Allow,
            rule: decided.map(|_| rule.name.clone()),
        })
    };
    groups.iter().zip(rules).filter_map(case).collect()
}

/// The rule that allows an example. Another than the one that it is an example of may come first.
fn decided_by(policy: &Policy, workload: &SpiffeId, example: &Example) -> Option<String> {
    let nowhere = IpAddr::from([0, 0, 0, 0]);
    let connection = Connection {
        caller: &example.caller,
        workload,
        port: example.port,
        source: nowhere,
        destination: nowhere,
        server_name: None,
        now: 0,
    };
    let decision = match &example.request {
        None => policy.admit_opaque(&connection),
        Some((method, path)) => {
            let path = Path::normalise(path.as_bytes(), EncodedSlash::Refuse).ok()?;
            let headers: &[(String, String)] = &[];
            policy.decide(&Request { connection, method, host: "", path: &path, headers: &headers.to_vec() })
        }
    };
    let rule = decision.verdict.rule().and_then(|rule| policy.rule(rule))?;
    Some(rule.name.to_string())
}
