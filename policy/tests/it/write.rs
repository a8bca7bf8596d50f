//! What is written says what it should: the same policies, written by hand and by the writer, decide alike.

use std::collections::BTreeMap;

use proptest::prelude::*;

use portcullis_policy::import::{Mapping, istio};
use portcullis_policy::write::{Body, Document, GrpcBody, Matched, PolicyBody, RuleBody, write};
use portcullis_policy::{File, Mode, Options, Policy};

use crate::oracle::{Matcher, Model, facts, models};
use crate::properties::{ask, cases, compile, named};

fn documents(model: &Model) -> Vec<Document> {
    let mut sets = Vec::new();
    let mut body = PolicyBody {
        name: model.name.clone(),
        namespace: model.namespace.map(str::to_owned),
        mode: if model.audit { Mode::Audit } else { Mode::Enforce },
        target: strings(model.target.as_deref().unwrap_or_default()),
        allow: Vec::new(),
        deny: Vec::new(),
    };
    for (index, rule) in model.rules.iter().enumerate() {
        let mut written = RuleBody { name: format!("r{index}"), expires: rule.expires, ..RuleBody::default() };
        written.comment = vec!["a rule: {of} many #".to_owned()];
        for matcher in &rule.matchers {
            let side = if matcher.not { &mut written.is_not } else { &mut written.is };
            put(matcher, &format!("{}-{index}-{}", model.name, matcher.not), side, &mut sets);
        }
        if rule.deny { body.deny.push(written) } else { body.allow.push(written) }
    }
    sets.push(Body::Policy(body));
    sets.into_iter().map(|body| Document { comment: vec!["a document".to_owned()], body }).collect()
}

fn put(matcher: &Matcher, set: &str, side: &mut Matched, sets: &mut Vec<Body>) {
    let values = strings(&matcher.values);
    match matcher.kind {
        "identities" => side.identities = values,
        "identitySets" => {
            side.identity_sets = vec![set.to_owned()];
            sets.push(Body::Set(set.to_owned(), values));
        }
        "sources" => side.sources = values,
        "ports" => side.ports = values.iter().map(|port| port.parse().unwrap()).collect(),
        "hosts" => side.hosts = values,
        "methods" => side.methods = values,
        "paths" => side.paths = values,
        "grpc" => {
            let names = |text: &str| if text.is_empty() { Vec::new() } else { vec![text.to_owned()] };
            let (service, method) = values[0].split_once('/').unwrap();
            side.grpc = Some(GrpcBody { services: names(service), methods: names(method) });
        }
        "headers" => side.headers = BTreeMap::from([("x-a".to_owned(), values)]),
        other => panic!("{other}"),
    }
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_decides_as_what_was_meant(models in models(), all in prop::collection::vec(facts(), 20)) {
        let mut models = models;
        models.iter_mut().for_each(|model| model.rules.sort_by_key(|rule| rule.deny));
        let by_hand = compile(&models);
        let text = write(&models.iter().flat_map(documents).collect::<Vec<_>>()).unwrap();
        let written = Policy::compile(&[File { name: "a.yaml", bytes: text.as_bytes() }]).unwrap().policy;
        for facts in all {
            let (meant, said) = ask(&facts, |request, _| (by_hand.decide(request), written.decide(request)));
            prop_assert_eq!(named(&by_hand, meant), named(&written, said), "{:?}\n{}", facts, text);
            let (meant, said) = ask(&facts, |request, _| {
                (by_hand.admit_opaque(&request.connection), written.admit_opaque(&request.connection))
            });
            prop_assert_eq!(named(&by_hand, meant), named(&written, said), "{:?}\n{}", facts, text);
        }
    }

    /// Both languages are lowered to one form, and it is that form that is written.
    #[test]
    fn what_was_lowered_is_written_or_refused(models in models(), all in prop::collection::vec(facts(), 20)) {
        let mut models = models;
        models.iter_mut().for_each(|model| model.rules.sort_by_key(|rule| rule.deny));
        let by_hand = compile(&models);
        let text: String = models.iter().map(|model| format!("---\n{}", model.document())).collect();
        let imported = istio(&[File { name: "a.yaml", bytes: text.as_bytes() }], &Mapping::default(), &Options::default());
        let documents = match imported {
            Ok(documents) => documents,
            Err(found) => {
                prop_assert!(found.iter().all(|one| one.code == "P222"), "{}", found);
                return Ok(());
            }
        };
        let text = write(&documents).unwrap();
        let written = Policy::compile(&[File { name: "a.yaml", bytes: text.as_bytes() }]).unwrap().policy;
        for facts in all {
            let (meant, said) = ask(&facts, |request, _| (by_hand.decide(request), written.decide(request)));
            prop_assert_eq!(named(&by_hand, meant), named(&written, said), "{:?}\n{}", facts, text);
        }
    }
}
