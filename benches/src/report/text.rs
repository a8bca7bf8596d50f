//! Makes text that others wrote harmless: names of targets, settings, failures in words.
//!
//! All of it is taken as hostile. Invariant: what leaves here has no control character, nothing that reorders or hides
//! text, and, once escaped, no character that means something to HTML or XML.

/// The text on one line, without what a terminal would obey and without what an eye would not see.
pub fn harmless(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// The same, ready for HTML and XML, in elements and in attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars().map(visible) {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// At most that many characters; what was cut off becomes `…`.
pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// How wide a line of that font size will be at most, in pixels. An estimate: the reader's font is not known.
pub fn width(text: &str, size: f64) -> f64 {
    text.chars().map(|c| size * breadth(c)).sum()
}

/// As much of the text as fits into so many pixels.
pub fn fit(text: &str, size: f64, pixels: f64) -> String {
    let mut left = pixels;
    for (fitting, c) in text.chars().enumerate() {
        left -= size * breadth(c);
        if left < 0.0 {
            return shorten(text, fitting);
        }
    }
    text.to_owned()
}

/// The plural of a unit: `requests`, but `GB`.
pub fn plural(unit: &str) -> String {
    if unit.chars().last().is_none_or(char::is_uppercase) {
        return unit.to_owned();
    }
    format!("{unit}s")
}

/// A share of the font size. The usual sans-serif fonts stay below these.
fn breadth(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '|' | '\'' | '!' | ' ' => 0.34,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.95,
        'A'..='Z' => 0.72,
        c if c.is_ascii() => 0.6,
        // Anything up to a full square, as in Chinese.
        _ => 1.0,
    }
}

fn visible(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' | '\u{2028}' | '\u{2029}' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        // Zero width, direction marks and overrides, and the two that XML has no place for.
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => {
            char::REPLACEMENT_CHARACTER
        }
        '\u{feff}' | '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_or_a_browser_obeys_does_not_get_through() {
        for (hostile, escaped) in [
            ("plain ünïcode", "plain ünïcode"),
            ("<script>alert('1')</script>", "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"),
            ("a\" onload=\"b & c", "a&quot; onload=&quot;b &amp; c"),
            ("\x1b[31mred\x07\u{9b}2J", "\u{fffd}[31mred\u{fffd}\u{fffd}2J"),
            ("two\r\nlines\u{2028}three", "two  lines three"),
            ("\u{202e}txt.exe\u{2066}\u{feff}\0\u{ffff}", "\u{fffd}txt.exe\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(escape(hostile), escaped);
        }
        assert_eq!(harmless("a<b\n\x1b"), "a<b \u{fffd}");
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        for (text, most, short) in
            [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("äöüß", 3, "äö…"), ("", 0, ""), ("ab", 0, "…")]
        {
            assert_eq!(shorten(text, most), short);
        }
        let fitting = fit(&"W".repeat(1000), 10.0, 100.0);
        assert!(fitting.ends_with('…') && width(&fitting, 10.0) <= 101.0, "{fitting}");
        assert_eq!(fit("short", 10.0, 100.0), "short");
    }

    #[test]
    fn units_in_capitals_have_no_plural() {
        for (unit, several) in [("request", "requests"), ("handshake", "handshakes"), ("GB", "GB"), ("", "")] {
            assert_eq!(plural(unit), several);
        }
    }
}
