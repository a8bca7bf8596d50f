//! What the fields of a request may be before anything is decided on them: not too many, and each value the same for
//! whoever reads it in another version of HTTP.

use http::{HeaderMap, StatusCode, Version};

use super::refusal::Refusal;

/// Checks the fields of a request.
///
/// # Errors
/// 431 when there are more than `limit`, 400 for a value with space around it over HTTP/2.
pub fn checked(headers: &HeaderMap, version: Version, limit: usize) -> Result<(), Refusal> {
    bounded(headers, limit)?;
    unpadded(headers, version)
}

/// Whether there are no more header fields than `limit`: HTTP/2 bounds their bytes only.
fn bounded(headers: &HeaderMap, limit: usize) -> Result<(), Refusal> {
    if headers.len() <= limit {
        return Ok(());
    }
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    Err(Refusal { status, reason: "too_many_fields", text: "more header fields than `limits.headFields`".to_owned() })
}

/// HTTP/1.1 is read without the space around a value, HTTP/2 must not have any (RFC 9113 section 8.2.1), and the library
/// lets it pass: policy would decide on ` admin` where an HTTP/1.1 application reads `admin`.
fn unpadded(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    const SPACE: [Option<&u8>; 2] = [Some(&b' '), Some(&b'\t')];
    let is_padded = |value: &[u8]| SPACE.contains(&value.first()) || SPACE.contains(&value.last());
    if version == Version::HTTP_2 && headers.values().any(|value| is_padded(value.as_bytes())) {
        return Err(Refusal::bad_request("padded_field", "a field's value begins or ends with space"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn values_have_no_space_around_them_over_http_2() {
        for (value, is_good) in
            [(&b""[..], true), (b"a", true), (b"a b\tc", true), (b" a", false), (b"a\t", false), (b" ", false)]
        {
            let value = HeaderValue::from_bytes(value).unwrap();
            let headers = HeaderMap::from_iter([("x-a".parse().unwrap(), value.clone())]);
            assert_eq!(unpadded(&headers, Version::HTTP_2).is_ok(), is_good, "{value:?}");
            assert!(unpadded(&headers, Version::HTTP_11).is_ok(), "{value:?}");
        }
    }

    #[test]
    fn each_value_of_a_repeated_name_counts() {
        let pairs = (0..5).map(|_| ("x-a".parse().unwrap(), HeaderValue::from_static("1")));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let _: bool = headers.append::<http::HeaderName>(name, value);
        }
        assert!(checked(&headers, Version::HTTP_2, 5).is_ok());
        assert_eq!(checked(&headers, Version::HTTP_2, 4).unwrap_err().reason, "too_many_fields");
    }
}
