//! The serial number of a certificate: 128 random bits, written as 32 hexadecimal digits.
//!
//! Random, not counted, so that two machines with a copy of the same intermediate never issue the same one.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};

use super::Error;

/// The serial number of a certificate. Positive; displayed as 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(u128);

impl Serial {
    /// Draws a new one.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).map_err(|_| Error::Random)?;
        // RFC 5280 section 4.1.2.2 wants it positive. Nobody will ever draw the zero.
        Ok(Self(u128::from_be_bytes(bytes).max(1)))
    }

    /// Reads it from the big-endian integer in a certificate; `None` when it is no serial number of ours.
    pub fn from_der_integer(bytes: &[u8]) -> Option<Self> {
        let start = bytes.iter().position(|byte| *byte != 0)?;
        let digits = bytes.get(start..)?;
        if digits.len() > 16 {
            return None;
        }
        Some(Self(digits.iter().fold(0, |value, byte| (value << 8) | u128::from(*byte))))
    }

    pub(super) fn to_rcgen(self) -> rcgen::SerialNumber {
        self.0.to_be_bytes().to_vec().into()
    }

    /// The first eight digits, enough to tell two issuers of one name apart.
    pub(super) fn short(self) -> String {
        format!("{:08x}", self.0 >> 96)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl FromStr for Serial {
    type Err = Error;

    /// Accepts what openssl and this program print: hexadecimal digits in either case, with or without colons.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Serial { text: text.to_owned() };
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        // `from_str_radix` would take a sign.
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        match u128::from_str_radix(&digits, 16) {
            Ok(0) | Err(_) => Err(wrong()),
            Ok(value) => Ok(Self(value)),
        }
    }
}

impl TryFrom<String> for Serial {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_paste() {
        for (text, expected) in [
            ("0a1b", Some("0000000000000000000000000000 0a1b")),
            ("0A:1B", Some("0000000000000000000000000000 0a1b")),
            ("ffffffffffffffffffffffffffffffff", Some("ffffffffffffffffffffffffffffffff")),
            ("1ffffffffffffffffffffffffffffffff", None),
            ("0", None),
            ("", None),
            ("+1", None),
            ("0x1", None),
            ("../1", None),
        ] {
            let read = text.parse::<Serial>().ok().map(|serial| serial.to_string());
            assert_eq!(read, expected.map(|digits| digits.replace(' ', "")), "{text}");
        }
    }

    #[test]
    fn survives_the_way_through_a_certificate() {
        let serial: Serial = "ff000000000000000000000000000001".parse().unwrap();
        let mut integer = vec![0];
        integer.extend(serial.to_rcgen().to_bytes());
        assert_eq!(Serial::from_der_integer(&integer), Some(serial));
        assert_eq!(Serial::from_der_integer(&[1; 17]), None);
        assert_eq!(Serial::from_der_integer(&[0]), None);
    }
}
