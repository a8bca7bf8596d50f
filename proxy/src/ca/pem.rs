//! Writes PEM (RFC 7468). Reading is left to `rustls-pki-types`.

use crate::base64;

/// Writes one block: base64 in lines of 64 characters between the label's two markers.
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    // 48 bytes make the 64 characters of a line.
    for line in der.chunks(48) {
        text.push_str(&base64::encode(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
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
