//! Rules that are said to change nothing can all be removed, and no decision changes: not even the naive one.

use std::collections::HashSet;

use proptest::prelude::*;

use portcullis_policy::findings::{Question, examine};
use portcullis_policy::{File, Options};

use crate::oracle::{Facts, Matcher, Model, Rule, allowed, allowed_opaque, facts, models};
use crate::properties::{ask, cases};

/// Which rules of which model are reported, by name.
fn reported(models: &[Model]) -> HashSet<(usize, usize)> {
    let documents: Vec<(String, String)> =
        models.iter().enumerate().map(|(index, model)| (format!("{index}.yaml"), model.document())).collect();
    let files: Vec<File<'_>> = documents.iter().map(|(name, text)| File { name, bytes: text.as_bytes() }).collect();
    let question = Question { now: 0, options: &Options::default(), inventory: None, sidecar: None };
    let found = examine(&files, &question).unwrap_or_else(|found| panic!("{found}"));
    let changes_nothing = found.iter().filter(|one| ["P101", "P102", "P103", "P104"].contains(&one.code));
    let names = changes_nothing.map(|one| {
        let (rule, policy) = one.message.strip_prefix("rule `r").and_then(|rest| rest.split_once("` of `p")).unwrap();
        (policy.split('`').next().unwrap().parse().unwrap(), rule.parse().unwrap())
    });
    names.collect()
}

fn without(models: &[Model], gone: &HashSet<(usize, usize)>) -> Vec<Model> {
    let keep = |(policy, model): (usize, &Model)| {
        let rules = model.rules.iter().enumerate().filter(|(rule, _)| !gone.contains(&(policy, *rule)));
        Model { rules: rules.map(|(_, rule)| rule.clone()).collect(), ..model.clone() }
    };
    models.iter().enumerate().map(keep).collect()
}

/// Adds to each rule of a set a narrower one, so that there is something to find.
fn with_narrower(models: Vec<Model>, also: &[Matcher]) -> Vec<Model> {
    let grown = models.into_iter().zip(also.iter().cycle()).map(|(model, more)| {
        let narrower = model.rules.iter().filter(|rule| rule.matchers.iter().all(|one| one.kind != more.kind));
        let narrower = narrower.map(|rule| Rule {
            deny: rule.deny && !more.not,
            matchers: rule.matchers.iter().chain([more]).cloned().collect(),
            ..rule.clone()
        });
        let rules: Vec<Rule> = narrower.collect();
        Model { rules: model.rules.iter().cloned().chain(rules).collect(), ..model }
    });
    grown.collect()
}

fn judge(models: &[Model], gone: &HashSet<(usize, usize)>, all: &[Facts]) -> Result<(), TestCaseError> {
    let fewer = without(models, gone);
    for facts in all {
        ask(facts, |_, readings| {
            prop_assert_eq!(
                allowed(models, facts, readings),
                allowed(&fewer, facts, readings),
                "{:?} {:?}",
                gone,
                facts
            );
            prop_assert_eq!(allowed_opaque(models, facts), allowed_opaque(&fewer, facts), "{:?} {:?}", gone, facts);
            Ok(())
        })?;
    }
    Ok(())
}

fn narrowing() -> impl Strategy<Value = Vec<Matcher>> {
    let one = |kind, not, values: &[&'static str]| Matcher { kind, not, values: values.to_vec() };
    let all = vec![
        one("methods", false, &["GET"]),
        one("methods", true, &["POST"]),
        one("ports", false, &["80"]),
        one("paths", false, &["/a/b"]),
        one("paths", true, &["/a/**"]),
        one("headers", false, &["a*"]),
        one("headers", true, &["a", "b"]),
        one("hosts", false, &["a.example"]),
        one("sources", false, &["10.0.0.0/8"]),
    ];
    prop::collection::vec(prop::sample::select(all), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases().min(MOST_CASES), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_reported_can_be_removed(
        models in models(),
        narrowing in narrowing(),
        all in prop::collection::vec(facts(), 12),
    ) {
        let models = with_narrower(models, &narrowing);
        let gone = reported(&models);
        judge(&models, &gone, &all)?;
        for one in &gone {
            judge(&models, &HashSet::from([*one]), &all)?;
        }
    }
}

/// The property above would hold of a check that finds nothing.
#[test]
fn much_is_reported_of_generated_sets() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut found = 0;
    for _ in 0..100 {
        let models = (models(), narrowing()).prop_map(|(models, also)| with_narrower(models, &also));
        let models = models.new_tree(&mut runner).unwrap();
        found += reported(&proptest::strategy::ValueTree::current(&models)).len();
    }
    assert!(found > 100, "{found}");
}

/// Each compares two sets once for every rule that is reported: these take a quarter of a minute.
const MOST_CASES: u32 = 2000;
