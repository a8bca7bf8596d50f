//! Two sets of policies, a line `===` between them: each change has a witness that both answer as is said, the same set
//! has none, and few steps are soon used up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_policy::diff::{self, Answer, Change};
use portcullis_policy::path::{EncodedSlash, Path};
use portcullis_policy::testing::Asked;
use portcullis_policy::{File, Mode, Policy, Request};

/// Far below what it costs to compile the documents, with counters.
const STEPS: usize = 100_000;
const SEPARATOR: &[u8] = b"\n===\n";
/// Two policies with some rules each.
const MOST_BYTES: usize = 4096;

fn compile(text: &[u8]) -> Option<Policy> {
    Policy::compile(&[File { name: "fuzz.yaml", bytes: text }]).ok().map(|compiled| compiled.policy)
}

fn answer(policy: &Policy, change: &Change) -> Answer {
    let connection = change.witness.connection();
    let decision = match &change.witness.asked {
        Asked::Connection => {
            assert!(change.covers_opaque(&connection), "{change:?}");
            policy.admit_opaque(&connection)
        }
        Asked::Request { method, host, target, headers } => {
            let path = Path::normalise(target.as_bytes(), EncodedSlash::Refuse).expect("a good path");
            let request = Request { connection, method, host, path: &path, headers };
            assert!(change.covers(&request), "{change:?}");
            policy.decide(&request)
        }
    };
    match (change.mode, decision.audit) {
        (Mode::Audit, None) => Answer::Nothing,
        (Mode::Audit, Some(verdict)) if verdict.is_allow() => Answer::Allow,
        (Mode::Enforce, _) if decision.verdict.is_allow() => Answer::Allow,
        (Mode::Audit | Mode::Enforce, _) => Answer::Deny,
        (Mode::Mark, _) => unreachable!("marks are not compared"),
    }
}

fuzz_target!(|text: &[u8]| {
    if text.len() > MOST_BYTES {
        return;
    }
    let at = text.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
    let (base, head) = at.map_or((text, &b""[..]), |at| (&text[..at], &text[at + SEPARATOR.len()..]));
    let (Some(base), Some(head)) = (compile(base), compile(head)) else { return };
    let diff = diff::compare_within(STEPS, &base, &head, 1_800_000_000);
    for change in &diff.changes {
        let said = (change.said.base.answer, change.said.head.answer);
        assert_ne!(said.0, said.1, "{change:?}");
        assert_eq!((answer(&base, change), answer(&head, change)), said, "{change:?}");
    }
    assert!(diff::compare_within(STEPS, &base, &base, 1_800_000_000).changes.is_empty());
});
