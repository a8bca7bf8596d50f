//! Tests of `intake.rs`.

use super::*;
use crate::volume::read_bundle;

fn digest(text: &str) -> Digest {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.pem"), text).unwrap();
    let files = read_bundle(directory.path()).unwrap();
    files.digest
}

fn fault(label: &'static str, digest: Option<Digest>, layout: Layout) -> Fault {
    Fault { label, message: "words".to_owned(), digest, layout, standing: Standing::Stays }
}

const PACE: Pace = Pace {
    poll: Duration::from_secs(10),
    settle: Duration::from_millis(100),
    patience: Duration::from_secs(2),
    retry: Duration::from_secs(1),
};

fn ms(start: Instant, milliseconds: u64) -> Instant {
    start + Duration::from_millis(milliseconds)
}

#[test]
fn swapped_files_and_first_files_are_taken_at_once() {
    let (a, b, t) = (digest("a"), digest("b"), Instant::now());
    let mut intake = Intake::default();
    assert_eq!(intake.consider(a, Layout::Plain, t, &PACE), Step::Prove);
    intake.accept(a);
    assert_eq!(intake.consider(a, Layout::Plain, t, &PACE), Step::Keep);
    assert_eq!(intake.consider(b, Layout::Swapped, t, &PACE), Step::Prove);
}

#[test]
fn ordinary_files_have_to_stand_still() {
    let (a, b, c, t) = (digest("a"), digest("b"), digest("c"), Instant::now());
    let mut intake = Intake::default();
    intake.accept(a);
    assert_eq!(intake.consider(b, Layout::Plain, t, &PACE), Step::Wait);
    assert_eq!(intake.next_look(t, &PACE), PACE.settle);
    assert_eq!(intake.consider(b, Layout::Plain, ms(t, 60), &PACE), Step::Wait);
    assert_eq!(intake.next_look(ms(t, 60), &PACE), Duration::from_millis(40));
    assert_eq!(intake.consider(c, Layout::Plain, ms(t, 90), &PACE), Step::Wait, "it moved again");
    assert_eq!(intake.consider(c, Layout::Plain, ms(t, 189), &PACE), Step::Wait);
    assert_eq!(intake.consider(c, Layout::Plain, ms(t, 190), &PACE), Step::Prove);
    intake.accept(c);
    assert_eq!(intake.next_look(ms(t, 190), &PACE), PACE.poll);
    assert_eq!(intake.consider(b, Layout::Plain, ms(t, 200), &PACE), Step::Wait);
    assert_eq!(intake.consider(c, Layout::Plain, ms(t, 210), &PACE), Step::Keep, "back where it was");
    assert_eq!(intake.next_look(ms(t, 210), &PACE), PACE.poll);
}

#[test]
fn a_failure_that_may_pass_is_reported_only_if_it_lasts() {
    let (a, b, t) = (digest("a"), digest("b"), Instant::now());
    let mut intake = Intake::default();
    intake.accept(a);
    let half = |intake: &mut Intake, label, at| intake.fail(fault(label, Some(b), Layout::Plain), at, &PACE);
    assert_eq!(half(&mut intake, "empty", t), Complaint::Withhold);
    assert_eq!(half(&mut intake, "key_mismatch", ms(t, 1999)), Complaint::Withhold, "another fault, the same wait");
    assert!(intake.lasting_fault().is_none());
    assert_eq!(half(&mut intake, "key_mismatch", ms(t, 2000)), Complaint::Report);
    assert_eq!(half(&mut intake, "key_mismatch", ms(t, 3000)), Complaint::Repeat(1));
    assert_eq!(half(&mut intake, "key_mismatch", ms(t, 4000)), Complaint::Repeat(2));
    assert_eq!(half(&mut intake, "expired", ms(t, 5000)), Complaint::Report, "it has lasted long enough");
    assert_eq!(intake.lasting_fault().unwrap().label, "expired");
    assert_eq!(intake.next_look(ms(t, 5000), &PACE), PACE.retry);
    intake.accept(a);
    assert!(intake.lasting_fault().is_none());
}

#[test]
fn a_failure_is_reported_at_once_where_nothing_will_come_or_nothing_serves() {
    let (a, b, t) = (digest("a"), digest("b"), Instant::now());
    let mut nothing_serves = Intake::default();
    assert_eq!(nothing_serves.fail(fault("missing", None, Layout::Plain), t, &PACE), Complaint::Report);
    assert_eq!(nothing_serves.fail(fault("missing", None, Layout::Plain), t, &PACE), Complaint::Repeat(1));
    let mut whole = Intake::default();
    whole.accept(a);
    assert_eq!(whole.fail(fault("key_mismatch", Some(b), Layout::Swapped), t, &PACE), Complaint::Report);
}
