//! What must hold of every policy and every request.

use proptest::prelude::*;

use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::{Admission, Connection, Decision, File, Options, Policy, Request, Verdict};
use spiffe::SpiffeId;

use crate::oracle::{Facts, Judged, Judgement, Model, Rule, facts, judged, judged_connection, judged_opaque, models};

pub fn compile<'a>(models: impl IntoIterator<Item = &'a Model>) -> Policy {
    compile_with(models, &Options::default())
}

pub fn compile_with<'a>(models: impl IntoIterator<Item = &'a Model>, options: &Options) -> Policy {
    // Named by their order, so that another order is also another file for each policy.
    let named = models.into_iter().enumerate().map(|(index, model)| (format!("{index}.yaml"), model.document()));
    let documents: Vec<(String, String)> = named.collect();
    let files: Vec<File<'_>> = documents.iter().map(|(name, text)| File { name, bytes: text.as_bytes() }).collect();
    Policy::compile_with(&files, options).unwrap_or_else(|found| panic!("{found}")).policy
}

pub fn ask<T>(facts: &Facts, ask: impl FnOnce(&Request<'_>, &[&str]) -> T) -> T {
    let (caller, workload) = (SpiffeId::new(facts.caller).unwrap(), SpiffeId::new(facts.workload).unwrap());
    let source = facts.source.parse().unwrap();
    let connection = Connection {
        caller: &caller,
        workload: &workload,
        port: facts.port,
        source,
        destination: source,
        server_name: None,
        now: facts.now,
    };
    let path = Path::normalise(facts.target.as_bytes(), EncodedSlash::Refuse).unwrap();
    let headers: Vec<(String, String)> =
        facts.headers.iter().map(|value| ("X-A".to_owned(), (*value).to_owned())).collect();
    let readings: Vec<&str> = path.readings().into_iter().flatten().collect();
    ask(&Request { connection, method: facts.method, host: facts.host, path: &path, headers: &headers }, &readings)
}

fn decide(policy: &Policy, facts: &Facts) -> Decision {
    ask(facts, |request, _| policy.decide(request))
}

/// What was decided by whom, by name: references of two policies cannot be compared.
fn judgement(policy: &Policy, verdict: Verdict) -> Judgement {
    let name = |rule| policy.rule(rule).map(|rule| format!("{}/{}", rule.policy, rule.name)).unwrap();
    match verdict {
        Verdict::Allow(rule) => Judgement::Allow(name(rule)),
        Verdict::Deny(_) => Judgement::Deny(verdict.rule().map(name)),
        Verdict::AllowByDefault => panic!("nothing is allowed by default here"),
    }
}

pub fn named(policy: &Policy, decision: Decision) -> Judged {
    (judgement(policy, decision.verdict), decision.audit.map(|audit| judgement(policy, audit)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5 * cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decisions_equal_the_oracle(models in models(), all in prop::collection::vec(facts(), 40)) {
        let policy = compile(&models);
        for facts in all {
            let (decision, opaque, admission, expected) = ask(&facts, |request, readings| {
                let opaque = policy.admit_opaque(&request.connection);
                let expected = judged(&models, &facts, readings);
                (policy.decide(request), opaque, policy.admit(&request.connection), expected)
            });
            // Without a reading the path is in doubt.
            let expected = expected.unwrap_or((Judgement::Deny(None), None));
            prop_assert_eq!(named(&policy, decision), expected, "{:?}", facts);
            prop_assert_eq!(named(&policy, opaque), judged_opaque(&models, &facts), "{:?}", facts);
            let admission = match admission {
                Admission::Allow(rule) => Some(judgement(&policy, Verdict::Allow(rule))),
                Admission::Deny(denial) => Some(judgement(&policy, Verdict::Deny(denial))),
                Admission::PerRequest => None,
            };
            prop_assert_eq!(admission, judged_connection(&models, &facts), "{:?}", facts);
            let explained = ask(&facts, |request, _| policy.explain(request));
            prop_assert_eq!(explained.decision, decision);
            if let Some(rule) = decision.verdict.rule() {
                let candidate = explained.candidates.iter().find(|candidate| candidate.rule == rule);
                prop_assert!(candidate.is_some_and(|candidate| candidate.misses.is_empty()), "{:?}", explained);
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_deny_more_never_allows_more(models in models(), more in models(), all in prop::collection::vec(facts(), 8)) {
        let denies = more.into_iter().map(|model| Model {
            name: format!("more-{}", model.name),
            rules: model.rules.into_iter().map(|rule| Rule { deny: true, ..rule }).collect(),
            ..model
        });
        let with: Vec<Model> = models.iter().cloned().chain(denies).collect();
        let (fewer, more) = (compile(&models), compile(&with));
        for facts in all {
            prop_assert!(decide(&fewer, &facts).verdict.is_allow() || !decide(&more, &facts).verdict.is_allow(), "{:?}", facts);
        }
    }

    #[test]
    fn an_allow_less_never_allows_more(models in models(), index in any::<prop::sample::Index>(), all in prop::collection::vec(facts(), 8)) {
        let allows = |models: &[Model]| models.iter().flat_map(|model| &model.rules).filter(|rule| !rule.deny).count();
        if allows(&models) == 0 {
            return Ok(());
        }
        let mut left = index.index(allows(&models));
        let mut without = models.clone();
        for model in &mut without {
            model.rules.retain(|rule| {
                let gone = !rule.deny && left == 0;
                left = if rule.deny { left } else { left.wrapping_sub(1) };
                !gone
            });
        }
        without.retain(|model| !model.rules.is_empty());
        prop_assert_eq!(allows(&without) + 1, allows(&models));
        let (with, without) = (compile(&models), compile(&without));
        for facts in all {
            prop_assert!(decide(&with, &facts).verdict.is_allow() || !decide(&without, &facts).verdict.is_allow(), "{:?}", facts);
        }
    }

    #[test]
    fn the_order_of_files_never_matters(models in models(), all in prop::collection::vec(facts(), 8)) {
        let (forward, backward) = (compile(&models), compile(models.iter().rev()));
        prop_assert_eq!(forward.revision(), backward.revision());
        for facts in all {
            let (a, b) = (decide(&forward, &facts), decide(&backward, &facts));
            prop_assert_eq!(named(&forward, a), named(&backward, b));
        }
    }
}

/// As many as the environment asks for. With 500, a hundred thousand decisions are compared with the oracle, on 2,500
/// policies, and each of the other properties sees 500 policies with eight requests each.
pub fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500)
}
