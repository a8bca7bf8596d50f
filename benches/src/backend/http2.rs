//! HTTP/2 with prior knowledge for the backend.

use std::cell::RefCell;
use std::io::Cursor;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use tokio::io::{AsyncReadExt, join};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Pages;
use crate::client::response::NUMBER;

/// Serves a connection of which these bytes were read already.
pub async fn serve(stream: TcpStream, read: Bytes) {
    let (reader, writer) = stream.into_split();
    let whole = join(Cursor::new(read).chain(reader), writer);
    let started = Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MOST_STREAMS)
        .handshake(whole)
        .await;
    let Ok(mut connection) = started else { return };
    let pages = Rc::new(RefCell::new(Pages::default()));
    let mut replies = JoinSet::new();
    loop {
        tokio::select! {
            // Neither loses anything when the other is quicker: both keep their state outside.
            next = connection.accept() => match next {
                Some(Ok((request, responder))) => { replies.spawn_local(reply(request, responder, Rc::clone(&pages))); }
                Some(Err(_)) | None => return,
            },
            Some(_) = replies.join_next() => {}
        }
    }
}

async fn reply(request: http::Request<h2::RecvStream>, mut responder: SendResponse<Bytes>, pages: Rc<RefCell<Pages>>) {
    let (head, mut body) = request.into_parts();
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece else { return };
        if body.flow_control().release_capacity(piece.len()).is_err() {
            return;
        }
    }
    let page = pages.borrow_mut().at(head.uri.path());
    let mut response = http::Response::new(());
    response.headers_mut().insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(page.len()));
    if let Some(number) = head.headers.get(NUMBER) {
        response.headers_mut().insert(NUMBER, number.clone());
    }
    // A caller that has gone away needs no answer.
    if let Ok(mut stream) = responder.send_response(response, page.is_empty()) {
        let _ = send(&mut stream, page).await;
    }
}

/// Sends a body as fast as the other side's window opens.
async fn send(stream: &mut h2::SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let Some(capacity) = std::future::poll_fn(|context| stream.poll_capacity(context)).await.transpose()? else {
            return Ok(());
        };
        let piece = body.split_to(capacity.min(body.len()));
        stream.send_data(piece, body.is_empty())?;
    }
    Ok(())
}

const WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
const MOST_STREAMS: u32 = 10_000;
