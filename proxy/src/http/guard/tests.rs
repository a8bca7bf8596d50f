//! What ends a connection, what does not, and that bytes pass as they are.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::frames::flag::{ACK, END_HEADERS, END_STREAM};
use super::frames::kind::{
    CONTINUATION, DATA, GOAWAY, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use super::*;

const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const STREAMS: u32 = 100;
const LIMIT: Duration = Duration::from_secs(10);

fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
    let length = u32::try_from(payload).unwrap().to_be_bytes();
    let mut bytes = [&length[1..], &[kind, flags, 0, 0, 0, 1]].concat();
    bytes.resize(9 + payload, 0xa5);
    bytes
}

fn serving() -> Watch {
    let mut watch = Watch::serving(STREAMS);
    watch.received(OPENING).unwrap();
    watch
}

/// How many of these frames pass, at the same instant and without any work beside them.
#[track_caller]
fn check(one: &[u8], expected: Violation, most: usize) {
    let mut watch = serving();
    let mut passed = 0;
    let violation = loop {
        match watch.received(one) {
            Ok(()) => passed += 1,
            Err(violation) => break violation,
        }
        assert!(passed < 1_000_000, "{expected:?} does not end");
    };
    assert_eq!((violation, passed), (expected, most));
}

#[tokio::test(start_paused = true)]
async fn every_flood_ends_after_its_burst() {
    check(&frame(PRIORITY, 0, 5), Violation::Priority, 100);
    check(&frame(0x10, 0, 9), Violation::Unknown, 100);
    check(&frame(0xff, 0xff, 0), Violation::Unknown, 100);
    check(&frame(RST_STREAM, 0, 4), Violation::Resets, 1_000);
    check(&frame(PING, 0, 8), Violation::Ping, 1_000);
    check(&frame(PING, ACK, 8), Violation::Ping, 1_000);
    // The first one was spent on the opening.
    check(&frame(SETTINGS, 0, 0), Violation::Settings, 99);
    check(&frame(SETTINGS, ACK, 0), Violation::Settings, 99);
    check(&frame(SETTINGS, 0, 33 * 6), Violation::SettingsEntries, 0);
    check(&frame(GOAWAY, 0, 8), Violation::GoAway, 16);
    check(&frame(WINDOW_UPDATE, 0, 4), Violation::WindowUpdate, 1_000);
    check(&frame(DATA, 0, 0), Violation::EmptyData, 100);
    check(&frame(HEADERS, END_HEADERS, 10), Violation::Headers, 400);
    check(&[frame(HEADERS, END_HEADERS, 10), frame(RST_STREAM, 0, 4)].concat(), Violation::Resets, 1_000);
}

#[tokio::test(start_paused = true)]
async fn data_with_a_payload_is_left_to_flow_control() {
    let mut watch = serving();
    for _ in 0..100_000 {
        watch.received(&frame(DATA, 0, 1)).unwrap();
        watch.received(&frame(DATA, END_STREAM, 0)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn resets_that_the_peer_causes_are_bounded() {
    let mut watch = serving();
    let answered = [frame(HEADERS, END_HEADERS, 10), frame(RST_STREAM, 0, 4)].concat();
    for _ in 0..10_000 {
        watch.sent(&answered).unwrap();
    }
    let mut watch = serving();
    let sent = (0..10_000).take_while(|_| watch.sent(&frame(RST_STREAM, 0, 4)).is_ok()).count();
    assert_eq!(sent, 1_000);
}

#[tokio::test(start_paused = true)]
async fn the_first_frame_is_settings() {
    let preface = &OPENING[..24];
    for (first, expected) in [
        (frame(SETTINGS, 0, 30), Ok(())),
        (frame(SETTINGS, ACK, 0), Err(Violation::FirstFrame)),
        (frame(HEADERS, END_HEADERS, 10), Err(Violation::FirstFrame)),
        (frame(PING, 0, 8), Err(Violation::FirstFrame)),
        (frame(0xfe, 0, 0), Err(Violation::FirstFrame)),
    ] {
        assert_eq!(Watch::serving(STREAMS).received(&[preface, &first].concat()), expected, "{first:?}");
        assert_eq!(Watch::calling().received(&first), expected, "{first:?}");
    }
}

/// What goes on beside each frame of ours in what legitimate peers do, many times over at one instant.
#[tokio::test(start_paused = true)]
async fn what_legitimate_peers_do_is_never_too_much() {
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 60);
    let answer = [frame(HEADERS, END_HEADERS, 20), frame(DATA, END_STREAM, 100)].concat();
    let [data, update, ping] = [frame(DATA, 0, 30), frame(WINDOW_UPDATE, 0, 4), frame(PING, 0, 8)];
    let unary = [request.clone(), frame(WINDOW_UPDATE, 0, 4), frame(PRIORITY, 0, 5)].concat();
    let measuring = [&data[..], &update, &update, &ping].concat();
    let cancelled = [request.clone(), frame(RST_STREAM, 0, 4)].concat();
    let head_only = frame(HEADERS, END_HEADERS, 20);
    for (received, sent) in [(&unary, &answer), (&measuring, &data), (&cancelled, &head_only)] {
        let mut watch = serving();
        watch.received(&unary).unwrap();
        for _ in 0..100_000 {
            watch.sent(sent).unwrap();
            watch.received(received).unwrap();
        }
    }
    // As the caller: a response of an early hint, its head and its trailers to each request.
    let mut watch = Watch::calling();
    watch.received(&frame(SETTINGS, 0, 6)).unwrap();
    watch.sent(OPENING).unwrap();
    let response = [&head_only[..], &head_only, &data, &head_only].concat();
    for _ in 0..100_000 {
        watch.sent(&request).unwrap();
        watch.received(&response).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn pings_and_resets_are_allowed_by_the_second() {
    for (kind, between) in [(PING, Duration::from_millis(10)), (RST_STREAM, Duration::from_millis(5))] {
        let mut watch = serving();
        for _ in 0..20_000 {
            tokio::time::advance(between).await;
            watch.received(&frame(kind, 0, 8)).unwrap();
        }
    }
}

/// A guard that serves, with what the peer writes and reads.
fn guarded() -> (Guard<DuplexStream>, DuplexStream, Finding) {
    let (peer, inner) = duplex(1 << 16);
    let finding = Finding::default();
    (Guard::serving(inner, STREAMS, LIMIT, finding.clone()), peer, finding)
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_as_they_are_until_the_frame_that_is_too_much() {
    let (mut guard, mut peer, finding) = guarded();
    let good = [OPENING, &frame(HEADERS, END_HEADERS, 40), &frame(DATA, END_STREAM, 200)].concat();
    peer.write_all(&good).await.unwrap();
    let mut read = vec![0; good.len()];
    guard.read_exact(&mut read).await.unwrap();
    assert_eq!(read, good);
    guard.write_all(&frame(HEADERS, END_HEADERS, 10)).await.unwrap();
    assert_eq!(finding.get(), None);

    peer.write_all(&frame(SETTINGS, 0, 1_000)).await.unwrap();
    let error = guard.read(&mut read).await.unwrap_err();
    assert_eq!(error.to_string(), Violation::SettingsEntries.to_string());
    assert_eq!(finding.get(), Some(Violation::SettingsEntries));
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard[19..], goaway(0xb));
}

#[tokio::test(start_paused = true)]
async fn no_goaway_is_written_into_the_middle_of_a_frame() {
    let (mut guard, mut peer, _) = guarded();
    let begun = &frame(DATA, 0, 100)[..50];
    guard.write_all(begun).await.unwrap();
    peer.write_all(&OPENING[..24]).await.unwrap();
    peer.write_all(&frame(PING, 0, 8)).await.unwrap();
    guard.read_to_end(&mut Vec::new()).await.unwrap_err();
    drop(guard);
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, begun);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_given_up() {
    let head = frame(HEADERS, 0, 10);
    let rest = frame(CONTINUATION, END_HEADERS, 10);
    for begun in [
        OPENING[..3].to_vec(),
        OPENING[..24].to_vec(),
        OPENING[..30].to_vec(),
        [OPENING, &head].concat(),
        [OPENING, &head, &rest[..9]].concat(),
        [OPENING, &frame(HEADERS, END_HEADERS | END_STREAM, 100)[..20]].concat(),
        [OPENING, &frame(PUSH_PROMISE, 0, 100)].concat(),
    ] {
        let (mut guard, mut peer, finding) = guarded();
        peer.write_all(&begun).await.unwrap();
        let start = Instant::now();
        let error = guard.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.to_string(), Violation::HeadTimeout.to_string(), "{begun:?}");
        assert_eq!(finding.get(), Some(Violation::HeadTimeout));
        assert!((LIMIT..LIMIT * 2).contains(&start.elapsed()), "{begun:?}: {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn more_of_the_same_head_does_not_move_its_deadline() {
    let (mut guard, mut peer, finding) = guarded();
    let writing = async {
        peer.write_all(&[OPENING, &frame(HEADERS, 0, 10)].concat()).await.unwrap();
        for _ in 0..20 {
            tokio::time::sleep(LIMIT / 8).await;
            peer.write_all(&frame(CONTINUATION, 0, 1)).await.unwrap();
        }
    };
    let start = Instant::now();
    let reading = async {
        guard.read_to_end(&mut Vec::new()).await.unwrap_err();
        start.elapsed()
    };
    let took = tokio::select! { () = writing => panic!("it went on"), took = reading => took };
    assert!((LIMIT..LIMIT * 2).contains(&took), "{took:?}");
    assert_eq!(finding.get(), Some(Violation::HeadTimeout));
}

#[tokio::test(start_paused = true)]
async fn silence_anywhere_else_is_not_the_guards_affair() {
    for said in [
        Vec::new(),
        OPENING.to_vec(),
        [OPENING, &frame(HEADERS, END_HEADERS, 10)].concat(),
        [OPENING, &frame(HEADERS, 0, 10), &frame(CONTINUATION, END_HEADERS, 0)].concat(),
        [OPENING, &frame(DATA, 0, 100)[..50]].concat(),
        [OPENING, &frame(PING, 0, 8)[..5]].concat(),
    ] {
        let (mut guard, mut peer, finding) = guarded();
        peer.write_all(&said).await.unwrap();
        let mut read = Vec::new();
        let reading = guard.read_to_end(&mut read);
        tokio::time::timeout(LIMIT * 100, reading).await.unwrap_err();
        assert_eq!((finding.get(), &read), (None, &said));
    }
}

#[tokio::test(start_paused = true)]
async fn each_head_has_a_deadline_of_its_own() {
    let (mut guard, mut peer, finding) = guarded();
    let writing = async {
        peer.write_all(OPENING).await.unwrap();
        for _ in 0..5 {
            // The end of one head and the beginning of the next come together: the guard sees no time between them.
            peer.write_all(&frame(HEADERS, 0, 10)).await.unwrap();
            tokio::time::sleep(LIMIT * 2 / 3).await;
            peer.write_all(&frame(CONTINUATION, END_HEADERS, 10)).await.unwrap();
        }
        drop(peer);
    };
    let ((), read) = tokio::join!(writing, async { guard.read_to_end(&mut Vec::new()).await });
    read.unwrap();
    assert_eq!(finding.get(), None);
}
