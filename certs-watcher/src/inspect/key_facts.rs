//! What may be told of a private key: how it is wrapped, and whether it is the key of the leaf. Never a byte of it.

use std::path::Path;

use serde::Serialize;
use thiserror::Error;

use super::sections::Sections;
use super::{FileFacts, as_explanation, shown};
use crate::certificate::{Certificate, one_line};
use crate::explain::explain;
use crate::material::{self, MaterialError};
use crate::pem;
use crate::volume::VolumeError;

/// A private key, as far as it may be spoken of.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyFacts {
    /// The file that holds it.
    pub path: String,
    /// How it is wrapped, where that was found out.
    pub encoding: Option<&'static str>,
    /// Whether it is the key of the leaf.
    pub fits: Fit,
    /// Why it is not, in words.
    #[serde(serialize_with = "as_explanation")]
    pub fault: Option<KeyFault>,
}

/// Whether a key is the one of the leaf beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fit {
    /// It is.
    Fits,
    /// It is not, or cannot be used.
    Refused,
    /// There is no leaf to compare it with.
    NoLeaf,
}

impl KeyFacts {
    pub(super) fn of(path: &Path, text: Result<&[u8], &VolumeError>, chain: &FileFacts) -> Self {
        let facts = |encoding, fits, fault| Self { path: shown(path), encoding, fits, fault };
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                let reason = one_line(&explain(error));
                return facts(None, Fit::Refused, Some(KeyFault::Unread { reason }));
            }
        };
        let encoding = Sections::of(text).ok().and_then(|sections| sections.key);
        let ordered: Vec<_> = chain.ordered().map(|certificate| certificate.der.clone()).collect();
        let Some(Ok(leaf)) = ordered.first().map(|der| Certificate::parse(der)) else {
            let fault = pem::private_key(text).err();
            let fault = fault.map(|source| KeyFault::Refused(MaterialError::Key(source)));
            let fits = if fault.is_some() { Fit::Refused } else { Fit::NoLeaf };
            return facts(encoding, fits, fault);
        };
        match material::check_key(text, &ordered, &leaf) {
            Ok(()) => facts(encoding, Fit::Fits, None),
            // That is the certificate's fault, and told there.
            Err(MaterialError::WeakKey { .. }) => facts(encoding, Fit::NoLeaf, None),
            Err(error) => facts(encoding, Fit::Refused, Some(KeyFault::Refused(error))),
        }
    }
}

/// Why a key cannot be presented with the leaf.
#[derive(Debug, Error)]
pub enum KeyFault {
    /// The file could not be read.
    #[error("{reason}")]
    Unread {
        /// Why not.
        reason: String,
    },
    /// The sidecar would refuse it.
    #[error(transparent)]
    Refused(MaterialError),
}

impl KeyFault {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unread { .. } => "unreadable",
            Self::Refused(source) => source.label(),
        }
    }
}
