//! Frame headers of HTTP/2: the same frames are found however the stream is cut, and its judge takes any of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::http::guard::frames::{Frame, Frames};
use portcullis::http::guard::watch::{Violation, Watch};

/// Finds the frames of a stream that is there as a whole.
fn expected(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [high, middle, low, kind, flags, _, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *high, *middle, *low]);
        frames.push(Frame { length, kind: *kind, flags: *flags });
        bytes = rest.get(length as usize..).unwrap_or_default();
    }
    frames
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let (serving, piece) = (first & 1 == 0, usize::from(first >> 1).max(1));
    let mut frames = if serving { Frames::of_client() } else { Frames::of_server() };
    let mut found = Vec::new();
    for piece in bytes.chunks(piece) {
        let taken: Result<(), ()> = frames.take(piece, |frame| {
            found.push(frame);
            Ok(())
        });
        assert_eq!(taken, Ok(()));
    }
    assert_eq!(found, expected(bytes.get(if serving { 24 } else { 0 }..).unwrap_or_default()));

    let mut watch = if serving { Watch::serving(100) } else { Watch::calling() };
    let judged = bytes.chunks(piece).try_for_each(|piece| {
        watch.sent(piece)?;
        watch.received(piece)
    });
    match judged {
        Err(Violation::FirstFrame) => {
            assert!(found.first().is_some_and(|frame| frame.kind != 4 || frame.flags & 1 == 1))
        }
        Err(violation) => assert!(!violation.label().is_empty()),
        Ok(()) if bytes.is_empty() => assert_eq!(watch.head_under_way(), None),
        Ok(()) if found.is_empty() => assert_eq!(watch.head_under_way(), Some(0)),
        Ok(()) => {}
    }
});
