//! HTTP/1.1 framing: where a request ends is where the application sees it end (RFC 9112 sections 6 and 7).

use crate::frames::{END_HEADERS, END_STREAM, HEADERS, frame};
use crate::rows::{BOTH, End, Stage, request_block};

#[tokio::test]
async fn both_lengths_leave_one_and_the_connection_closes() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let row = "POST /a HTTP/1.1\r\nhost: eligibility.test\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        let outcome = stage.http1(row).await;
        assert_eq!(outcome.end, End::Answered(200), "{way:?}");
        assert_eq!(outcome.heard.len(), 1, "{way:?}");
        assert!(outcome.heard[0].ends_with("\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), "{:?}", outcome.heard);
        assert!(!outcome.is_open, "{way:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_request_without_anything_unusual_passes_whatever_it_speaks() {
    for way in BOTH {
        let stage = Stage::new(way).await;
        let one = stage.http1("GET /a?b HTTP/1.1\r\nhost: eligibility.test\r\n\r\n").await;
        let two = stage.http2(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &request_block("GET", "/a?b", &[]))]).await;
        for outcome in [one, two] {
            assert_eq!((outcome.end, outcome.is_open), (End::Answered(200), true), "{way:?}");
            assert!(outcome.heard[0].starts_with("GET /a?b HTTP/1.1\r\n"), "{:?}", outcome.heard);
            assert_eq!(outcome.heard.len(), 1);
        }
    }
}
