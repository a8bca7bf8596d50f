//! One thing that is fed from outside: what of it is in use, and what came of the last look at its source.
//!
//! The same for our identity, each bundle, each set of revocation lists and the deny list: new content is waited out
//! where it may be half-written, proven, and only then put in use; what fails leaves the last good one in its place.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use crate::explain::explain;
use crate::intake::{Complaint, Fault, Intake, Pace, Standing, Step};
use crate::snapshot::{Event, Outcome, Subject};
use crate::volume::{Digest, Layout};

/// One thing that is fed.
#[derive(Debug)]
pub(crate) struct Feed<T> {
    subject: Subject,
    proof: Proof,
    intake: Intake,
    good: Option<Arc<T>>,
}

/// What the outcome of a proof depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The content alone. What has failed is not proven again: to parse a large list every second would keep a core busy.
    OfContent,
    /// Time and trust as well, so what has failed may be good later.
    OfContentAndWorld,
}

/// When somebody looks, and how patient they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) at: Instant,
    pub(crate) pace: &'a Pace,
}

/// What came of reading a source; none if it has not spoken yet, which is no fault of anybody.
pub(crate) type Read<C> = Option<Result<Found<C>, Refusal>>;

/// What a source held.
pub(crate) struct Found<C> {
    pub(crate) content: C,
    /// Tells it from any other content of the same source.
    pub(crate) digest: Digest,
    pub(crate) layout: Layout,
}

/// Why a source gave nothing, or nothing that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) label: &'static str,
    pub(crate) message: String,
    pub(crate) standing: Standing,
}

/// What came of a look.
pub(crate) enum Taken<T> {
    /// All is as it was.
    Nothing,
    /// Something else is in use from here on.
    Replaced { before: Option<Arc<T>>, now: Arc<T> },
    /// A failure that is told for the first time.
    Refused(Event),
}

impl<T> Feed<T> {
    pub(crate) fn new(subject: Subject, proof: Proof) -> Self {
        Self { subject, proof, intake: Intake::default(), good: None }
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What is in use.
    pub(crate) fn good(&self) -> Option<&Arc<T>> {
        self.good.as_ref()
    }

    /// The failure that lasts, if there is one.
    pub(crate) fn lasting_fault(&self) -> Option<&Fault> {
        self.intake.lasting_fault()
    }

    /// Takes what was read, if it is new and stands still and `prove` agrees.
    pub(crate) fn take<C>(
        &mut self,
        read: Read<C>,
        look: Look<'_>,
        prove: impl FnOnce(C) -> Result<T, Refusal>,
    ) -> Taken<T> {
        let Some(found) = read else { return Taken::Nothing };
        let found = match found {
            Ok(found) => found,
            // What is taken back is so at once. What cannot be read may just be about to be replaced.
            Err(refusal) => {
                let layout = match refusal.standing {
                    Standing::Stays => Layout::Plain,
                    Standing::Withdrawn => Layout::Swapped,
                };
                return self.refuse(refusal, None, layout, look);
            }
        };
        let (digest, layout) = (found.digest, found.layout);
        match self.intake.consider(digest, layout, look.at, look.pace) {
            Step::Keep => {
                self.intake.accept(digest);
                Taken::Nothing
            }
            Step::Wait => Taken::Nothing,
            Step::Prove => match self.known_fault(digest).map_or_else(|| prove(found.content), Err) {
                Ok(proven) => {
                    self.intake.accept(digest);
                    let now = Arc::new(proven);
                    Taken::Replaced { before: self.good.replace(now.clone()), now }
                }
                Err(refusal) => self.refuse(refusal, Some(digest), layout, look),
            },
        }
    }

    /// How long to wait before the source is looked at again without being told.
    pub(crate) fn next_look(&self, look: Look<'_>) -> Duration {
        self.intake.next_look(look.at, look.pace)
    }

    fn known_fault(&self, digest: Digest) -> Option<Refusal> {
        match self.proof {
            Proof::OfContentAndWorld => None,
            Proof::OfContent => self.intake.fault_of(digest).map(|fault| Refusal {
                label: fault.label,
                message: fault.message.clone(),
                standing: fault.standing,
            }),
        }
    }

    /// Notes a failure. It becomes an event the first time that it is certain; repetitions are only counted.
    fn refuse(&mut self, refusal: Refusal, digest: Option<Digest>, layout: Layout, look: Look<'_>) -> Taken<T> {
        let Refusal { label, message, standing } = refusal;
        let fault = Fault { label, message: message.clone(), digest, layout, standing };
        match self.intake.fail(fault, look.at, look.pace) {
            Complaint::Withhold => Taken::Nothing,
            Complaint::Report => {
                Taken::Refused(Event { subject: self.subject.clone(), outcome: Outcome::Refused { label } })
            }
            Complaint::Repeat(count) => {
                debug!(subject = %self.subject, label, count, reason = message, "still refused");
                Taken::Nothing
            }
        }
    }
}

impl Refusal {
    pub(crate) fn new(label: &'static str, error: &dyn Error) -> Self {
        Self { label, message: explain(error), standing: Standing::Stays }
    }

    /// Puts where it happened before the words.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often broken content is proven in five looks.
    fn proofs(proof: Proof, contents: [&str; 5]) -> u32 {
        let mut feed = Feed::<()>::new(Subject::DenyList, proof);
        let (start, pace, mut count) = (Instant::now(), Pace::default(), 0);
        for (seconds, content) in (0..).zip(contents) {
            let look = Look { at: start + Duration::from_secs(seconds), pace: &pace };
            let digest = Digest::of_parts([content.as_bytes()]);
            let taken = feed.take(Some(Ok(Found { content, digest, layout: Layout::Swapped })), look, |content| {
                count += 1;
                Err(Refusal { label: "broken", message: content.to_owned(), standing: Standing::Stays })
            });
            let is_new =
                seconds == 0 || contents.windows(2).nth(seconds as usize - 1).is_some_and(|two| two[0] != two[1]);
            assert_eq!(matches!(taken, Taken::Refused(_)), is_new, "look {seconds}");
            assert_eq!(feed.lasting_fault().unwrap().message, content);
        }
        count
    }

    #[test]
    fn what_can_only_fail_again_is_not_proven_again() {
        assert_eq!(proofs(Proof::OfContent, ["a"; 5]), 1);
        assert_eq!(proofs(Proof::OfContent, ["a", "a", "b", "b", "a"]), 3);
        assert_eq!(proofs(Proof::OfContentAndWorld, ["a"; 5]), 5);
    }
}
