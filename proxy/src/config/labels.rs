//! What Kubernetes lets labels be named and be: a selector could match no others.

/// Whether a label can have this name: `app`, or `app.kubernetes.io/name`.
pub fn is_name(text: &str) -> bool {
    match text.rsplit_once('/') {
        Some((prefix, name)) => prefix.len() <= 253 && is_dns_name(prefix) && is_part(name),
        None => is_part(text),
    }
}

/// Whether a label can have this value; it may be empty.
pub fn is_value(text: &str) -> bool {
    text.is_empty() || is_part(text)
}

/// Whether a namespace can have this name.
pub fn is_namespace(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_dns_name(text)
}

fn is_part(text: &str) -> bool {
    let ends_well = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    inner && text.len() <= 63 && ends_well(text.bytes().next()) && ends_well(text.bytes().next_back())
}

/// In small letters.
fn is_dns_name(text: &str) -> bool {
    let is_part = |part: &str| {
        let inner = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    text.split('.').all(is_part)
}
