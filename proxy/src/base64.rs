//! Base64 with padding (RFC 4648 section 4). Writing only: nothing that comes from outside is read in it here.

/// The text for these bytes.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    bytes.chunks(3).for_each(|group| push(&mut text, group));
    text
}

fn push(text: &mut String, group: &[u8]) {
    let bits = (0..3).fold(0_u32, |bits, at| (bits << 8) | u32::from(group.get(at).copied().unwrap_or(0)));
    for position in 0..4 {
        if position > group.len() {
            text.push('=');
            continue;
        }
        let digit = (bits >> (18 - 6 * position)) & 0x3f;
        text.push(self::digit(digit as u8));
    }
}

fn digit(digit: u8) -> char {
    char::from(match digit {
        0..26 => b'A' + digit,
        26..52 => b'a' + (digit - 26),
        52..62 => b'0' + (digit - 52),
        62 => b'+',
        _ => b'/',
    })
}
