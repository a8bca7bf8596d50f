//! Writes PEM (RFC 7468). Reading is left to `rustls-pki-types`.

/// Writes one block: base64 in lines of 64 characters between the label's two markers.
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    // 48 bytes make the 64 characters of a line.
    for line in der.chunks(48) {
        line.chunks(3).for_each(|group| push_base64(&mut text, group));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn push_base64(text: &mut String, group: &[u8]) {
    let bits = (0..3).fold(0_u32, |bits, at| (bits << 8) | u32::from(group.get(at).copied().unwrap_or(0)));
    for position in 0..4 {
        if position > group.len() {
            text.push('=');
            continue;
        }
        let digit = (bits >> (18 - 6 * position)) & 0x3f;
        text.push(base64_digit(digit as u8));
    }
}

fn base64_digit(digit: u8) -> char {
    char::from(match digit {
        0..26 => b'A' + digit,
        26..52 => b'a' + (digit - 26),
        52..62 => b'0' + (digit - 52),
        62 => b'+',
        _ => b'/',
    })
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn writes_the_known_vectors() {
        // RFC 4648 section 10.
        for (bytes, expected) in [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            let expected = format!("-----BEGIN X-----\n{expected}\n-----END X-----\n");
            assert_eq!(encode("X", bytes.as_bytes()), expected);
        }
    }

    #[test]
    fn is_read_back_whatever_the_length() {
        for length in 0..200_u8 {
            let der: Vec<u8> = (0..length).map(|at| at.wrapping_mul(157)).collect();
            let text = encode("CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= 64), "{text}");
            assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).unwrap().as_ref(), der);
        }
    }
}
