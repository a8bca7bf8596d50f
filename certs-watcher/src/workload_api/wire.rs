//! The one protobuf message that is read here, `X509SVIDResponse`, as borrowed fields.
//!
//! A generated decoder builds a struct for each entry before anybody can count them: 4 MiB of empty entries would become
//! some 250 MiB. Here every list is cut off at its limit while it is read, a key that comes twice in the map is seen, and
//! nothing is copied. Fields that are not known are passed over, as protobuf demands; what they mean is of no concern.

use thiserror::Error;

/// `X509SVIDResponse` as it came.
#[derive(Debug, Default)]
pub(super) struct Response<'a> {
    pub(super) svids: Vec<SvidEntry<'a>>,
    pub(super) crls: Vec<&'a [u8]>,
    /// The name of the trust domain, and its certificates. A name may come twice.
    pub(super) federated: Vec<(&'a str, &'a [u8])>,
}

/// `X509SVID` as it came. A field that was not sent is empty, as protobuf has it. No `Debug`: it holds the key.
#[derive(Default)]
pub(super) struct SvidEntry<'a> {
    pub(super) id: &'a str,
    pub(super) chain: &'a [u8],
    pub(super) key: &'a [u8],
    pub(super) bundle: &'a [u8],
    pub(super) hint: &'a str,
}

impl std::fmt::Debug for SvidEntry<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SvidEntry").field("id", &self.id).field("hint", &self.hint).finish_non_exhaustive()
    }
}

impl<'a> Response<'a> {
    /// Reads the message.
    ///
    /// # Errors
    /// If it is no protobuf message with these fields, or holds more entries than a limit allows.
    pub(super) fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut response = Self::default();
        let mut fields = Fields(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(entry)) => push(&mut response.svids, svid(entry)?, MAX_SVIDS, "SVIDs")?,
                (2, Value::Bytes(crl)) => push(&mut response.crls, crl, MAX_CRLS, "CRLs")?,
                (3, Value::Bytes(entry)) => {
                    push(&mut response.federated, map_entry(entry)?, MAX_FEDERATED, "federated bundles")?;
                }
                (1..=3, Value::Number) => return Err(WireError::WrongType),
                _ => {}
            }
        }
        Ok(response)
    }
}

fn svid(entry: &[u8]) -> Result<SvidEntry<'_>, WireError> {
    let mut svid = SvidEntry::default();
    let mut fields = Fields(entry);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => svid.id = text(bytes)?,
            (2, Value::Bytes(bytes)) => svid.chain = bytes,
            (3, Value::Bytes(bytes)) => svid.key = bytes,
            (4, Value::Bytes(bytes)) => svid.bundle = bytes,
            (5, Value::Bytes(bytes)) => svid.hint = text(bytes)?,
            (1..=5, Value::Number) => return Err(WireError::WrongType),
            _ => {}
        }
    }
    Ok(svid)
}

fn map_entry(entry: &[u8]) -> Result<(&str, &[u8]), WireError> {
    let (mut key, mut value): (&str, &[u8]) = ("", &[]);
    let mut fields = Fields(entry);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => key = text(bytes)?,
            (2, Value::Bytes(bytes)) => value = bytes,
            (1..=2, Value::Number) => return Err(WireError::WrongType),
            _ => {}
        }
    }
    Ok((key, value))
}

fn push<T>(list: &mut Vec<T>, entry: T, limit: usize, what: &'static str) -> Result<(), WireError> {
    if list.len() == limit {
        return Err(WireError::TooMany { what, limit });
    }
    list.push(entry);
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::NotText)
}

/// The fields of a message that are still to be read.
struct Fields<'a>(&'a [u8]);

/// The value of a field. No field that is known here is a number, so its value is of no interest.
enum Value<'a> {
    Bytes(&'a [u8]),
    Number,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = key >> 3;
        // Field numbers are 1 to 2^29 - 1.
        if number == 0 || number >> 29 != 0 {
            return Err(WireError::Malformed);
        }
        let value = match key & 7 {
            0 => self.varint().map(|_| Value::Number)?,
            1 => self.take(8).map(|_| Value::Number)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Number)?,
            // Groups are not in proto3, and 6 and 7 mean nothing.
            _ => return Err(WireError::Malformed),
        };
        Ok(Some((number, value)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(WireError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(WireError::Malformed)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            // Of the tenth byte only the lowest bit has a place.
            if shift == 63 && bits > 1 {
                return Err(WireError::Malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Malformed)
    }
}

/// An agent that gives one workload more identities than this serves the wrong workload.
const MAX_SVIDS: usize = 64;
/// A mesh that federates with more trust domains than this is past what a sidecar should hold.
const MAX_FEDERATED: usize = 256;
/// One for each issuer of each trust domain, generously.
const MAX_CRLS: usize = 256;

/// Why bytes are no `X509SVIDResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// Not the encoding of a protobuf message, or cut off.
    #[error("it is no protobuf message, or is cut off")]
    Malformed,
    /// A number where bytes belong.
    #[error("a field of it has another type than in an X509SVIDResponse")]
    WrongType,
    /// A text that is not UTF-8.
    #[error("a text in it is not UTF-8")]
    NotText,
    /// A list is too long.
    #[error("it holds more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
}

impl WireError {
    /// A fixed word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed | Self::WrongType | Self::NotText => "malformed_message",
            Self::TooMany { .. } => "too_many_entries",
        }
    }
}

#[cfg(test)]
mod tests;
