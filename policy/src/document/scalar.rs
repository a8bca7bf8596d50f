//! What YAML takes a bare scalar for, in any of its versions.
//!
//! Kubernetes tools read YAML 1.1, others 1.2: `no` is a boolean to one and a word to the other, `010` is eight or ten.
//! Whoever expects a string must therefore not accept a bare scalar that some reader would take for something else.

/// What a bare scalar means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing was written, or a null.
    Null,
    /// `true` or `false`, the same to every reader.
    Boolean(bool),
    /// A boolean to some readers only, such as `yes` or `off`.
    OldBoolean,
    /// A decimal integer without leading zeros, the same to every reader.
    Integer,
    /// A number that readers disagree about or that is no integer: `010`, `1_000`, `0x1f`, `1.5`, `12:30`.
    Number,
    /// A string to every reader.
    Text,
}

/// Classifies a bare scalar.
pub(super) fn meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" => return Meaning::Boolean(true),
        "false" => return Meaning::Boolean(false),
        _ => {}
    }
    if OLD_BOOLEANS.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        return Meaning::OldBoolean;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = unsigned.bytes().all(|b| b.is_ascii_digit()) && !unsigned.is_empty();
    if digits && !text.starts_with('+') && (unsigned == "0" || !unsigned.starts_with('0')) {
        return Meaning::Integer;
    }
    if digits || is_other_number(unsigned) { Meaning::Number } else { Meaning::Text }
}

/// Whether a bare scalar is a string to every reader of YAML.
pub(crate) fn reads_as_text(text: &str) -> bool {
    meaning(text) == Meaning::Text
}

/// Whether some YAML reader takes it for a number: other bases, underscores, floats, and the base 60 of YAML 1.1.
fn is_other_number(unsigned: &str) -> bool {
    let lower = unsigned.to_ascii_lowercase();
    if matches!(lower.as_str(), ".inf" | ".nan") {
        return true;
    }
    let based = [("0x", 16), ("0o", 8), ("0b", 2)];
    for (prefix, base) in based {
        if let Some(rest) = lower.strip_prefix(prefix) {
            return !rest.is_empty() && rest.chars().all(|c| c == '_' || c.is_digit(base));
        }
    }
    if !lower.contains(|c: char| c.is_ascii_digit()) || !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    let plain: String = lower.chars().filter(|c| *c != '_').collect();
    if plain.contains(':') {
        let mut groups = plain.split([':', '.']);
        return plain.split('.').count() <= 2 && groups.all(|group| group.bytes().all(|b| b.is_ascii_digit()));
    }
    // Rust's own words for infinity start with a letter and are gone by here.
    plain.parse::<f64>().is_ok()
}

const OLD_BOOLEANS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_yaml_readers_disagree_about() {
        let rows: &[(&str, Meaning)] = &[
            ("", Meaning::Null),
            ("~", Meaning::Null),
            ("NULL", Meaning::Null),
            ("true", Meaning::Boolean(true)),
            ("False", Meaning::OldBoolean),
            ("yes", Meaning::OldBoolean),
            ("NO", Meaning::OldBoolean),
            ("n", Meaning::OldBoolean),
            ("0", Meaning::Integer),
            ("8080", Meaning::Integer),
            ("-5", Meaning::Integer),
            ("+5", Meaning::Number),
            ("010", Meaning::Number),
            ("1_000", Meaning::Number),
            ("0x1F", Meaning::Number),
            ("0b1", Meaning::Number),
            ("1.5", Meaning::Number),
            ("1e3", Meaning::Number),
            (".5", Meaning::Number),
            (".inf", Meaning::Number),
            ("12:30", Meaning::Number),
            ("12:30:45.5", Meaning::Number),
            ("10.0.0.1", Meaning::Text),
            ("1.2.3", Meaning::Text),
            ("2026-12-31T00:00:00Z", Meaning::Text),
            ("::1", Meaning::Text),
            ("fd00:1::/64", Meaning::Text),
            ("GET", Meaning::Text),
            ("nope", Meaning::Text),
            ("infinity", Meaning::Text),
            ("-", Meaning::Text),
            (".", Meaning::Text),
            ("10s", Meaning::Text),
            ("64KiB", Meaning::Text),
        ];
        for (text, expected) in rows {
            assert_eq!(meaning(text), *expected, "{text}");
        }
    }
}
