//! The SPIFFE bundle format: a JWK Set of the trust anchors of one trust domain.
//!
//! Follows the SPIFFE Trust Domain and Bundle standard: keys of another use or type are passed over, `x5c[0]` alone
//! counts, an empty set is meant and trusts nothing. A key that appears twice in an object is refused: two readers
//! could otherwise trust two different bundles.

use std::fmt;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use thiserror::Error;

/// What a SPIFFE bundle says about X.509.
#[derive(Debug)]
pub struct SpiffeBundle {
    /// The anchors, in the order of the document.
    pub anchors: Vec<CertificateDer<'static>>,
    /// `spiffe_sequence`, where given.
    pub sequence: Option<u64>,
    /// `spiffe_refresh_hint`, where given.
    pub refresh_hint: Option<Duration>,
}

impl SpiffeBundle {
    /// Parses the JSON document.
    ///
    /// # Errors
    /// If it is not JSON, repeats a key, or an X.509 key in it cannot be read.
    pub fn parse(text: &[u8]) -> Result<Self, SpiffeBundleError> {
        let Unambiguous(document) = serde_json::from_slice(text).map_err(SpiffeBundleError::NotJson)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(SpiffeBundleError::NoKeys)?;
        let mut anchors = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            if is_x509(key) {
                anchors.push(anchor(key).ok_or(SpiffeBundleError::BadKey { index })?);
            }
        }
        let number = |name: &'static str| match document.get(name) {
            None => Ok(None),
            Some(number) => number.as_u64().map(Some).ok_or(SpiffeBundleError::BadNumber { name }),
        };
        let sequence = number("spiffe_sequence")?;
        let refresh_hint = number("spiffe_refresh_hint")?.map(Duration::from_secs);
        Ok(Self { anchors, sequence, refresh_hint })
    }
}

/// A key of a type or use that is not known is passed over, as the standard asks, and so is one without a certificate
/// (X509-SVID 6.2).
fn is_x509(key: &Value) -> bool {
    let text = |name| key.get(name).and_then(Value::as_str);
    text("use") == Some("x509-svid")
        && matches!(text("kty"), Some("EC" | "RSA" | "OKP"))
        && key.get("x5c").is_some_and(|chain| !chain.is_null())
}

fn anchor(key: &Value) -> Option<CertificateDer<'static>> {
    let base64 = key.get("x5c")?.as_array()?.first()?.as_str()?;
    // The base64 of `x5c` is the body of a PEM section, and that is where our base64 decoder lives.
    let section = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    if base64.contains('-') {
        return None;
    }
    CertificateDer::from_pem_slice(section.as_bytes()).ok()
}

/// Why a JSON document is not a SPIFFE bundle.
#[derive(Debug, Error)]
pub enum SpiffeBundleError {
    /// Not JSON, or a key appears twice.
    #[error("the SPIFFE bundle is not valid JSON")]
    NotJson(#[source] serde_json::Error),
    /// The `keys` array is absent; an empty one is allowed and trusts nothing.
    #[error("the SPIFFE bundle has no `keys` array")]
    NoKeys,
    /// The `x5c` of an `x509-svid` key cannot be read.
    #[error("`keys[{index}].x5c[0]` of the SPIFFE bundle is no base64 certificate")]
    BadKey {
        /// The position of the key.
        index: usize,
    },
    /// `spiffe_sequence` or `spiffe_refresh_hint` is no unsigned 64-bit number.
    #[error("`{name}` of the SPIFFE bundle is not a number")]
    BadNumber {
        /// Which of them.
        name: &'static str,
    },
}

impl SpiffeBundleError {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::NoKeys => "no_keys",
            Self::BadKey { .. } => "bad_key",
            Self::BadNumber { .. } => "bad_number",
        }
    }
}

/// A JSON value in which no object repeats a key. `serde_json::Value` would quietly keep the last one.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnambiguousVisitor).map(Self)
    }
}

struct UnambiguousVisitor;

impl<'de> Visitor<'de> for UnambiguousVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unambiguous(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((key, Unambiguous(value))) = map.next_entry::<String, _>()? {
            if values.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key `{key}` appears twice")));
            }
            values.insert(key, value);
        }
        Ok(values.into())
    }
}

#[cfg(test)]
mod tests;
