//! Answers that cost more to keep than they have bytes, and nobody reads them.

use tokio::io::AsyncWriteExt;

use crate::client::Hello;
use crate::frames::*;
use crate::pki::{API, CALLER, Pki};
use crate::sidecar::Plan;
use crate::tireless::{Application, HEAD, narrow, settled};
use crate::views::{lines, logging};

#[tokio::test]
async fn heads_that_nobody_reads_hold_up_the_requests_behind_them() {
    // More than the kernel keeps.
    const MANY: usize = (32 << 20) / HEAD;
    let pki = Pki::new();
    let application = Application::start("http");
    let sidecar = Plan::new(&pki, API).inbound("http", application.address).ready().await;
    let stream = narrow(sidecar.inbound()).await;
    let mut caller = Hello::new(&pki.leaf(CALLER), &["http/1.1"]).shake_on(stream).await.unwrap();
    let asking = tokio::spawn(async move {
        for _ in 0..MANY {
            caller.write_all(b"HEAD /head HTTP/1.1\r\nhost: eligibility.test\r\n\r\n").await.unwrap();
        }
        caller.flush().await.unwrap();
        std::future::pending::<()>().await;
    });
    let answered = settled("the caller is held up", || application.answered()).await;
    assert!(answered < MANY, "none of them waited");
    asking.abort();
}

#[tokio::test]
async fn responses_in_pieces_of_one_byte_are_bounded_by_their_number() {
    const STREAMS: u32 = 10;
    // Small frames of an application that speaks HTTP/2 are bounded by the library as well, at the cost of its connection.
    let ends: [(_, &[&str]); 2] =
        [("http", &["response_stalled"]), ("http2", &["response_stalled", "upstream_broke_off"])];
    for (protocol, ends) in ends {
        let pki = Pki::new();
        let application = Application::start(protocol);
        let plan = Plan::new(&pki, API).inbound(protocol, application.address).timeouts("bodyStall: 1s");
        let sidecar = logging(plan).ready().await;
        let stream = narrow(sidecar.inbound()).await;
        let stream = Hello::new(&pki.leaf(CALLER), &["h2"]).shake_on(stream).await.unwrap();
        let mut caller = Frames::over(stream);
        // Windows that are never closed: 256 MiB for each stream, and nearly 2 GiB for all.
        let settings = frame(SETTINGS, 0, 0, &[0, 4, 0x10, 0, 0, 0]);
        let window = frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]);
        let first = [PREFACE, &settings, &window, &asking(1, "/endless")].concat();
        caller.write.write_all(&first).await.unwrap();
        settled("what the kernel keeps is full", || application.sent()).await;
        for number in 1..=STREAMS {
            caller.write.write_all(&asking(2 * number + 1, "/crumbs")).await.unwrap();
        }
        for line in lines(&sidecar, STREAMS as usize + 1).await {
            assert!(ends.iter().any(|end| line["reason"] == *end), "{protocol}: {line}");
            let sent = line["bytes_out"].as_u64().unwrap();
            // A few have been sent before nothing more could be.
            assert!(line["path"] != "/crumbs" || sent < 4_096, "{protocol}: {line}");
        }
    }
}

fn asking(stream: u32, path: &str) -> Vec<u8> {
    let path = [&[4, u8::try_from(path.len()).unwrap()], path.as_bytes()].concat();
    // `:method: GET` and `:scheme: https` by the static table.
    let head = [b"\x82\x87\x01\x10eligibility.test", path.as_slice()].concat();
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)
}
