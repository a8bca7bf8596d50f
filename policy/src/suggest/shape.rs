//! Which segments of a path look like the name of one thing among many, rather than like a word of the interface.
//!
//! What is taken for a word by mistake costs a longer list; what is taken for a value by mistake opens a door. So words
//! with digits, and short or pronounceable tokens, are words.

/// Whether a segment is a number, a UUID, hexadecimal, or a long token.
pub(super) fn is_value(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    if bytes.is_empty() || digits == 0 {
        return false;
    }
    let is_number = digits == bytes.len();
    let is_hex = bytes.len() >= SHORTEST_HEX && bytes.iter().all(u8::is_ascii_hexdigit);
    is_number || is_hex || is_uuid(bytes) || is_token(bytes)
}

/// Hexadecimal in groups of 8, 4, 4, 4 and 12 (RFC 9562 section 4).
fn is_uuid(bytes: &[u8]) -> bool {
    let mut groups = bytes.split(|b| *b == b'-');
    let fit = [8, 4, 4, 4, 12].into_iter().all(|length| {
        groups.next().is_some_and(|group| group.len() == length && group.iter().all(u8::is_ascii_hexdigit))
    });
    fit && groups.next().is_none()
}

/// Letters and digits in turns, as in a ULID or base64: a slug such as `benefits-of-plan-2024` has a digit beside a
/// letter once or never.
fn is_token(bytes: &[u8]) -> bool {
    if bytes.len() < SHORTEST_TOKEN || !bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)) {
        return false;
    }
    let turns = bytes.windows(2).filter(|pair| match pair {
        [a, b] => (a.is_ascii_digit() && b.is_ascii_alphabetic()) || (a.is_ascii_alphabetic() && b.is_ascii_digit()),
        _ => false,
    });
    turns.count() >= FEWEST_TURNS
}

/// Shorter ones with a digit in them are abbreviations as often as not.
const SHORTEST_HEX: usize = 8;
/// Sixteen bytes of randomness are 22 characters of base64; a ULID has 26.
const SHORTEST_TOKEN: usize = 20;
/// Twenty random letters and digits have five on average; a sentence with a year has one.
const FEWEST_TURNS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_values_from_words() {
        for value in [
            "0",
            "42",
            "20260101",
            "550e8400-e29b-41d4-a716-446655440000",
            "550E8400-E29B-41D4-A716-446655440000",
            "deadbeef01",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6",
        ] {
            assert!(is_value(value), "{value}");
        }
        for word in [
            "",
            "v1",
            "members",
            "deadbeef",
            "abc123",
            "42a",
            "2024-01",
            "-1",
            "1.5",
            "deadbeef-0000-not-a-uuid",
            "explanation-of-benefits-2024",
            "explanation-of-benefits-of-2024-and-2025",
            "internationalization-of-plans",
            "100%25",
            "*",
            "**",
        ] {
            assert!(!is_value(word), "{word}");
        }
    }
}
