//! One question to a policy, asked as the proxy asks it, and the answer in words with places.

use portcullis_policy::path::{EncodedSlash, Path, PathError};
use portcullis_policy::testing::Asked;
use portcullis_policy::{Connection, Explanation, Policy, Request, Rule};

/// What became of a question.
pub(super) enum Answer {
    /// The policy was asked.
    Explained(Explanation),
    /// The proxy answers 400 before any policy is asked.
    Refused(PathError),
}

/// What is asked for on a connection.
pub(super) fn ask(policy: &Policy, connection: Connection<'_>, asked: &Asked) -> Answer {
    match asked {
        Asked::Connection => Answer::Explained(policy.explain_opaque(&connection)),
        Asked::Request { method, host, target, headers } => {
            match Path::normalise(target.as_bytes(), EncodedSlash::Refuse) {
                Ok(path) => {
                    Answer::Explained(policy.explain(&Request { connection, method, host, path: &path, headers }))
                }
                Err(error) => Answer::Refused(error),
            }
        }
    }
}

impl Answer {
    pub(super) fn is_allow(&self) -> bool {
        matches!(self, Self::Explained(explanation) if explanation.decision.verdict.is_allow())
    }

    /// `allow` or `deny`.
    pub(super) fn word(&self) -> &'static str {
        if self.is_allow() { "allow" } else { "deny" }
    }

    /// The rule that decides; a default has none.
    pub(super) fn rule<'a>(&self, policy: &'a Policy) -> Option<&'a Rule> {
        match self {
            Self::Explained(explanation) => explanation.decision.verdict.rule().and_then(|rule| policy.rule(rule)),
            Self::Refused(_) => None,
        }
    }

    /// Why, in one line.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Explained(explanation) => explanation.reason.clone(),
            Self::Refused(error) => format!("the proxy answers 400 before any policy is asked: {error}"),
        }
    }

    /// For a default denial the enforced allow rule that failed on the fewest matchers, as the reason names it.
    pub(super) fn nearest_miss<'a>(&self, policy: &'a Policy) -> Option<&'a Rule> {
        let Self::Explained(explanation) = self else { return None };
        explanation.nearest.and_then(|rule| policy.rule(rule))
    }
}
