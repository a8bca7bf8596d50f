//! Header fields, one a line, as those of a request, of a response and behind a body: what is let through has one end for
//! every reader, and trailers that are clean stay as they are.
#![no_main]

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body::Frame;
use libfuzzer_sys::fuzz_target;
use portcullis::http::framing::{self, Connection};
use portcullis::http::trailers;

fn has_one_length(headers: &HeaderMap) -> bool {
    let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes).collect();
    let is_number = |text: &[u8]| std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok_and(|n| n >= 0));
    lengths.is_empty() || matches!(lengths[..], [only] if is_number(only) && only[0] != b'+')
}

fn has_one_coding(headers: &HeaderMap) -> bool {
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes).collect();
    codings.is_empty() || matches!(codings[..], [only] if only.eq_ignore_ascii_case(b"chunked"))
}

fuzz_target!(|bytes: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..at]), HeaderValue::from_bytes(&line[at + 1..])) {
            headers.append(name, value);
        }
    }
    assert!(framing::request(&headers).is_err() || (has_one_length(&headers) && has_one_coding(&headers)));

    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::OK;
        *response.version_mut() = version;
        *response.headers_mut() = headers.clone();
        if framing::response(&mut response, 32).is_ok() {
            let left = response.headers();
            assert!(left.len() <= 32);
            assert!(has_one_length(left));
            if version == Version::HTTP_11 {
                assert!(
                    has_one_coding(left)
                        && !(left.contains_key(CONTENT_LENGTH) && left.contains_key(TRANSFER_ENCODING))
                );
            }
            assert!(framing::response(&mut response, 32).is_ok_and(|connection| connection == Connection::Keep));
        }
    }

    let mut frame = Frame::<&[u8]>::trailers(headers);
    if trailers::clean(&mut frame, 32) {
        let clean = frame.trailers_ref().cloned().unwrap_or_default();
        assert!(trailers::clean(&mut frame, 32));
        assert_eq!(frame.trailers_ref(), Some(&clean));
        for gone in ["content-length", "content_length", "host", "set_cookie", "transfer-encoding", "x-request-id"] {
            assert!(!clean.contains_key(gone), "{gone}");
        }
    }
});
