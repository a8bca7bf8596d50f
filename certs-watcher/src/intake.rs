//! When to take files, and when to complain about them.
//!
//! A swapped volume is whole the moment it is seen. Ordinary files may be caught half-written, so new content is taken
//! only once it has stood still for a moment, and a failure is reported only once it has lasted, provided that there is
//! something good to go on with. No files and no clock here: it is told what was seen and when.

use std::time::Duration;

use tokio::time::Instant;

use crate::volume::{Digest, Layout};

/// How patient the watcher is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How often everything is looked at even if nothing was announced. Default 10 s: certificates live for hours, and
    /// file systems without inotify are rare.
    pub poll: Duration,
    /// How long the content of ordinary files has to stand still. Default 100 ms: longer than a tool takes from one
    /// write to the next.
    pub settle: Duration,
    /// How long ordinary files may be broken before that is reported, while the last good ones serve. Default 2 s: a
    /// script that writes certificate and key one after the other is done by then.
    pub patience: Duration,
    /// How soon what failed is tried again. Default 1 s.
    pub retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(10),
            settle: Duration::from_millis(100),
            patience: Duration::from_secs(2),
            retry: Duration::from_secs(1),
        }
    }
}

/// What is known about the files of one subject.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    accepted: Option<Digest>,
    moving: Option<(Digest, Instant)>,
    failure: Option<Failure>,
}

/// Why the files of one subject were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) label: &'static str,
    pub(crate) message: String,
    /// The generation that failed; none if nothing could be read.
    pub(crate) digest: Option<Digest>,
    /// Whether the files may have been caught half-written.
    pub(crate) layout: Layout,
    /// What becomes of what is in use.
    pub(crate) standing: Standing,
}

/// What a fault says about what is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is as good as before.
    Stays,
    /// Its source has taken it back.
    Withdrawn,
}

#[derive(Debug)]
struct Failure {
    fault: Fault,
    /// When the last good state ended; patience counts from here, however the fault changes.
    began: Instant,
    reported: bool,
    repeats: u64,
}

/// What to do with files that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// They are the ones in use.
    Keep,
    /// They may still be moving: look again.
    Wait,
    /// Prove them.
    Prove,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// It may pass by itself.
    Withhold,
    /// It is new, and real.
    Report,
    /// It was reported, and has now been met this many times more.
    Repeat(u64),
}

impl Intake {
    /// Says what to do with files of this digest.
    pub(crate) fn consider(&mut self, digest: Digest, layout: Layout, at: Instant, pace: &Pace) -> Step {
        if self.accepted == Some(digest) {
            self.moving = None;
            return Step::Keep;
        }
        if layout == Layout::Swapped || self.accepted.is_none() {
            return Step::Prove;
        }
        match self.moving {
            Some((seen, since)) if seen == digest && at >= since + pace.settle => Step::Prove,
            Some((seen, _)) if seen == digest => Step::Wait,
            _ => {
                self.moving = Some((digest, at));
                Step::Wait
            }
        }
    }

    /// Notes that files were published, or that the ones in use are back in place.
    pub(crate) fn accept(&mut self, digest: Digest) {
        *self = Self { accepted: Some(digest), moving: None, failure: None };
    }

    /// Notes that files could not be read or proven.
    pub(crate) fn fail(&mut self, fault: Fault, at: Instant, pace: &Pace) -> Complaint {
        let failure = match &mut self.failure {
            Some(failure) => failure,
            none => none.insert(Failure { fault: fault.clone(), began: at, reported: false, repeats: 0 }),
        };
        if !failure.fault.is_same(&fault) {
            *failure = Failure { fault, began: failure.began, reported: false, repeats: 0 };
        }
        if failure.reported {
            failure.repeats += 1;
            return Complaint::Repeat(failure.repeats);
        }
        let may_pass = failure.fault.layout == Layout::Plain && self.accepted.is_some();
        if may_pass && at < failure.began + pace.patience {
            return Complaint::Withhold;
        }
        failure.reported = true;
        Complaint::Report
    }

    /// The fault that was found in this generation when it was last looked at.
    pub(crate) fn fault_of(&self, digest: Digest) -> Option<&Fault> {
        self.failure.as_ref().map(|failure| &failure.fault).filter(|fault| fault.digest == Some(digest))
    }

    /// The fault that lasts, if one was reported.
    pub(crate) fn lasting_fault(&self) -> Option<&Fault> {
        self.failure.as_ref().filter(|failure| failure.reported).map(|failure| &failure.fault)
    }

    /// How long to wait before the files are looked at again without being told.
    pub(crate) fn next_look(&self, at: Instant, pace: &Pace) -> Duration {
        let settled = self.moving.map(|(_, since)| (since + pace.settle).saturating_duration_since(at));
        let retry = self.failure.as_ref().map(|_| pace.retry);
        // Files that stood still and were then refused are due for a retry, not for a look in no time.
        let settled = settled.filter(|wait| !wait.is_zero());
        [settled, retry].into_iter().flatten().min().unwrap_or(pace.poll).min(pace.poll)
    }
}

impl Fault {
    /// The message of a fault may tell the time of day, so it counts only where there is no generation to compare.
    fn is_same(&self, other: &Self) -> bool {
        self.label == other.label
            && self.digest == other.digest
            && (self.digest.is_some() || self.message == other.message)
    }
}

#[cfg(test)]
mod tests;
