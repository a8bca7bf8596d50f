//! Where a message of HTTP/1.1 ends, as far as the HTTP library leaves it open (RFC 9112 section 6).
//!
//! The library refuses lengths that are bad or differ, codings that do not end in `chunked`, codings in HTTP/1.0, and
//! chunks and lines that are none; of a request with both it drops the length and closes the connection. What it lets
//! through and two readers could take for two messages ends here.

use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::{Response, StatusCode, Version};

use super::refusal::Refusal;

/// What becomes of the connection that a response came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It may carry another request.
    Keep,
    /// Its end of this response is in doubt, and so is the beginning of the next.
    Close,
}

/// Checks a request: one coding, `chunked`, or none. A list such as `gzip, chunked` would have the application undo codings
/// that we do not know, or see other ends than we do (RFC 9112 section 6.1).
///
/// # Errors
/// 400 for any other, for lengths that repeat, and for one that a signed integer of 64 bits does not hold: an application that counts in one
/// would see another end.
pub fn request(headers: &HeaderMap) -> Result<(), Refusal> {
    if !has_one_length(headers) {
        return Err(Refusal::bad_request(
            "bad_framing",
            "the request has two Content-Lengths, or one that nobody can send",
        ));
    }
    match coding(headers) {
        Coding::None | Coding::Chunked => Ok(()),
        Coding::Other => {
            Err(Refusal::bad_request("bad_framing", "the request has a Transfer-Encoding other than `chunked`"))
        }
    }
}

/// Checks a response, as strictly as a request, and takes a length that stands beside a coding away (RFC 9112 section 6.3,
/// item 3): the library frames by the coding and would pass the length on.
///
/// # Errors
/// 502 for a coding other than `chunked`, for lengths that repeat or are none, for a status that HTTP does not have, and for
/// more fields than `most`.
pub fn response<B>(response: &mut Response<B>, most: usize) -> Result<Connection, Refusal> {
    if !(100..=599).contains(&response.status().as_u16()) {
        return Err(bad("bad_status", "the upstream answered with a status that is none"));
    }
    if response.headers().len() > most {
        return Err(bad("too_many_fields", "the upstream answered with more header fields than `limits.headFields`"));
    }
    if !has_one_length(response.headers()) {
        return Err(bad("bad_framing", "the upstream answered with two Content-Lengths, or with one that is none"));
    }
    if response.version() == Version::HTTP_2 {
        return Ok(Connection::Keep);
    }
    match coding(response.headers()) {
        Coding::None => Ok(Connection::Keep),
        Coding::Chunked if response.headers_mut().remove(CONTENT_LENGTH).is_some() => Ok(Connection::Close),
        Coding::Chunked => Ok(Connection::Keep),
        Coding::Other => Err(bad("bad_framing", "the upstream answered with a Transfer-Encoding other than `chunked`")),
    }
}

/// Whether there is no length, or one that is a number and no list. Over HTTP/2 the library lets the same one pass twice, and
/// an HTTP/1.1 application would get two lines (RFC 9110 section 8.6).
fn has_one_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return true };
    let is_number = length.len() <= LONGEST_LENGTH && length.as_bytes().iter().all(u8::is_ascii_digit);
    is_number && !length.is_empty() && lengths.next().is_none()
}

/// Digits of 10^18 less one, an exabyte, which is the last power of ten below 2^63.
const LONGEST_LENGTH: usize = 18;

enum Coding {
    None,
    Chunked,
    Other,
}

fn coding(headers: &HeaderMap) -> Coding {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Coding::None,
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
        (Some(_), _) => Coding::Other,
    }
}

fn bad(reason: &'static str, text: &str) -> Refusal {
    Refusal { status: StatusCode::BAD_GATEWAY, reason, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in rows {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn requests_have_one_coding_or_a_length_that_can_be() {
        let te = "transfer-encoding";
        for (rows, is_good) in [
            (&[][..], true),
            (&[(te, "chunked")], true),
            (&[(te, "Chunked")], true),
            (&[(te, "gzip, chunked")], false),
            (&[(te, "chunked"), (te, "chunked")], false),
            (&[(te, "identity"), (te, "chunked")], false),
            (&[(te, "chunked;a=b")], false),
            (&[(te, "")], false),
            (&[("content-length", "999999999999999999")], true),
            (&[("content-length", "18446744073709551613")], false),
            (&[("content-length", "2"), ("content-length", "2")], false),
            (&[("content-length", "2, 2")], false),
        ] {
            assert_eq!(request(&headers(rows)).is_ok(), is_good, "{rows:?}");
        }
    }

    #[test]
    fn a_length_beside_a_coding_goes_and_with_it_the_connection() {
        let mut answer = Response::new(());
        *answer.headers_mut() = headers(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
        assert_eq!(response(&mut answer, 100).unwrap(), Connection::Close);
        assert!(!answer.headers().contains_key(CONTENT_LENGTH));
        *answer.headers_mut() = headers(&[("content-length", "5")]);
        assert_eq!(response(&mut answer, 100).unwrap(), Connection::Keep);
        assert!(answer.headers().contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn responses_that_are_none_are_refused() {
        for (status, rows, reason) in [
            (600, &[][..], "bad_status"),
            (999, &[], "bad_status"),
            (200, &[("transfer-encoding", "identity")], "bad_framing"),
            (200, &[("x-a", "1"), ("x-a", "2"), ("x-b", "3")], "too_many_fields"),
        ] {
            let mut answer = Response::new(());
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            *answer.headers_mut() = headers(rows);
            assert_eq!(response(&mut answer, 2).unwrap_err().reason, reason);
        }
    }
}
