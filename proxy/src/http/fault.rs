//! Whether a connection broke because its peer does not keep to its protocol, for the record: such a peer is counted and
//! told of, one that merely went away is not.

use std::error::Error;

/// A fixed word for metrics and logs, where the peer is at fault: `malformed_request` or `malformed_response` for a message of
/// HTTP/1.1 that the library could not read, `http2_protocol_error` where the library ended a connection of HTTP/2.
pub fn of(error: &hyper::Error, message: Message) -> Option<&'static str> {
    if error.is_parse() {
        return Some(match message {
            Message::Request => "malformed_request",
            Message::Response => "malformed_response",
        });
    }
    let cause = error.source().and_then(<dyn Error>::downcast_ref::<h2::Error>)?;
    // What the peer or we ended by GOAWAY for a reason of theirs is not found by the library.
    let is_found = cause.is_library() && !cause.is_io() && cause.reason() != Some(h2::Reason::NO_ERROR);
    is_found.then_some("http2_protocol_error")
}

/// What the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// It calls us.
    Request,
    /// We call it.
    Response,
}
