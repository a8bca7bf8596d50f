//! The rules of the X509-SVID standard for a leaf, each with an error of its own.
//!
//! Nothing about issuers, signatures or time: `peer.rs` has those. A leaf that passes carries exactly one SPIFFE ID,
//! read as whole bytes, and may be used on both sides of a connection. What a certificate does not show is not
//! demanded: issuers write leaves without basic constraints (step-ca, Vault) and some without extended key usage.

use spiffe::{SpiffeId, SpiffeIdError};
use thiserror::Error;
use x509_parser::extensions::GeneralName;

use crate::certificate::{Certificate, printable};

/// The SPIFFE ID of a leaf that keeps every rule.
///
/// # Errors
/// If a rule is broken; the error names it and, where an issuer makes this mistake by default, the remedy.
pub fn spiffe_id(leaf: &Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let id = identity(leaf)?;
    check_not_a_ca(leaf)?;
    check_key_usage(leaf)?;
    check_extended_key_usage(leaf)?;
    Ok(id)
}

/// X509-SVID 2 and SPIFFE-ID 2: exactly one URI SAN, and it is a SPIFFE ID with a path.
fn identity(leaf: &Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let names = leaf.x509().subject_alternative_name().map_err(|_| SvidError::MalformedNames)?;
    let Some(names) = names else { return Err(SvidError::NoSpiffeId) };
    if names.value.general_names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        // A name that cannot be read may be a second URI.
        return Err(SvidError::MalformedNames);
    }
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next().ok_or(SvidError::NoSpiffeId)?;
    let others = uris.count();
    if others > 0 {
        return Err(SvidError::SeveralUris { count: others + 1 });
    }
    let id = parse_id(uri)?;
    // RFC 5280 4.2.1.6. Go's x509, and with it every issuer built on it, does so by itself.
    if leaf.x509().subject().iter().next().is_none() && !names.critical {
        return Err(SvidError::NamesNotCritical);
    }
    Ok(id)
}

fn parse_id(uri: &str) -> Result<SpiffeId, SvidError> {
    if uri.len() > MAX_ID_BYTES {
        return Err(SvidError::IdTooLong { length: uri.len() });
    }
    let id = SpiffeId::new(uri).map_err(|source| match source {
        SpiffeIdError::WrongScheme | SpiffeIdError::Empty => SvidError::NotSpiffe { uri: printable(uri) },
        source => SvidError::InvalidId { uri: printable(uri), source },
    })?;
    if id.path().is_empty() {
        return Err(SvidError::NoPath { uri: printable(uri) });
    }
    Ok(id)
}

/// X509-SVID 4.1: a leaf must not be a CA.
fn check_not_a_ca(leaf: &Certificate<'_>) -> Result<(), SvidError> {
    let constraints = leaf.x509().basic_constraints().map_err(|_| SvidError::MalformedExtension)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(SvidError::IsCa);
    }
    Ok(())
}

/// X509-SVID 4.3.
fn check_key_usage(leaf: &Certificate<'_>) -> Result<(), SvidError> {
    let usage = leaf.x509().key_usage().map_err(|_| SvidError::MalformedExtension)?;
    let usage = usage.ok_or(SvidError::NoKeyUsage)?;
    if usage.value.key_cert_sign() {
        return Err(SvidError::MaySignCertificates);
    }
    if usage.value.crl_sign() {
        return Err(SvidError::MaySignCrls);
    }
    if !usage.value.digital_signature() {
        return Err(SvidError::NoDigitalSignature);
    }
    // Refusing here costs nobody: SPIRE, cert-manager, step-ca and Vault all mark it critical.
    if !usage.critical {
        return Err(SvidError::KeyUsageNotCritical);
    }
    Ok(())
}

/// X509-SVID 4.4: absent is allowed; present means both, since an SVID serves on either side of a connection.
fn check_extended_key_usage(leaf: &Certificate<'_>) -> Result<(), SvidError> {
    let usage = leaf.x509().extended_key_usage().map_err(|_| SvidError::MalformedExtension)?;
    let Some(usage) = usage else { return Ok(()) };
    match (usage.value.client_auth, usage.value.server_auth) {
        (true, true) => Ok(()),
        (false, true) => Err(SvidError::NoClientAuth),
        (true, false) => Err(SvidError::NoServerAuth),
        (false, false) => Err(SvidError::NoAuth),
    }
}

/// Which rule of the X509-SVID standard a leaf breaks.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SvidError {
    /// There is no URI among the subject alternative names, or no such names.
    #[error(
        "it has no SPIFFE ID: the subject alternative names hold no URI (in a cert-manager Certificate, add `uris: [spiffe://…]`)"
    )]
    NoSpiffeId,
    /// More than one URI: which one is meant cannot be known.
    #[error("it has {count} URI names, an X509-SVID has exactly one")]
    SeveralUris {
        /// How many there are.
        count: usize,
    },
    /// The subject alternative names are repeated or cannot be read.
    #[error("its subject alternative names cannot be read")]
    MalformedNames,
    /// The subject is empty, so the names must be critical, and are not.
    #[error("its subject is empty and its subject alternative names are not marked critical")]
    NamesNotCritical,
    /// The URI has another scheme.
    #[error("its URI `{uri}` is no SPIFFE ID")]
    NotSpiffe {
        /// The URI as presented.
        uri: String,
    },
    /// The URI begins like a SPIFFE ID and is not one.
    #[error("its SPIFFE ID `{uri}` is invalid")]
    InvalidId {
        /// The URI as presented.
        uri: String,
        /// What is wrong with it.
        #[source]
        source: SpiffeIdError,
    },
    /// Longer than the standard lets an ID be.
    #[error("its SPIFFE ID has {length} bytes, more than {MAX_ID_BYTES}")]
    IdTooLong {
        /// How long it is.
        length: usize,
    },
    /// The ID names a trust domain, not a workload.
    #[error("its SPIFFE ID `{uri}` has no path: that is the name of a trust domain, not of a workload")]
    NoPath {
        /// The URI as presented.
        uri: String,
    },
    /// It may issue certificates and must not be used to authenticate.
    #[error("it is a CA certificate (basic constraints cA is true), which must not be used to authenticate")]
    IsCa,
    /// Basic constraints, key usage or extended key usage are repeated or cannot be read.
    #[error("its basic constraints, key usage or extended key usage cannot be read")]
    MalformedExtension,
    /// Key usage must be present.
    #[error("it has no key usage extension; `digital signature` is required")]
    NoKeyUsage,
    /// Key usage must be critical.
    #[error("its key usage extension is not marked critical")]
    KeyUsageNotCritical,
    /// Key usage must include digitalSignature.
    #[error("its key usage lacks `digital signature`")]
    NoDigitalSignature,
    /// Key usage must not include keyCertSign.
    #[error("its key usage includes keyCertSign, which is for CAs")]
    MaySignCertificates,
    /// Key usage must not include cRLSign.
    #[error("its key usage includes cRLSign, which is for CAs")]
    MaySignCrls,
    /// Extended key usage without clientAuth.
    #[error(
        "its extended key usage lacks `client auth`, so it cannot be used for calls to others; cert-manager leaves it out by default: {USAGES_REMEDY}"
    )]
    NoClientAuth,
    /// Extended key usage without serverAuth.
    #[error("its extended key usage lacks `server auth`, so it cannot be used to take calls: {USAGES_REMEDY}")]
    NoServerAuth,
    /// Extended key usage with neither.
    #[error("its extended key usage lacks both `server auth` and `client auth`: {USAGES_REMEDY}")]
    NoAuth,
}

impl SvidError {
    /// A fixed word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoSpiffeId => "no_spiffe_id",
            Self::SeveralUris { .. } => "several_uris",
            Self::MalformedNames => "malformed_names",
            Self::NamesNotCritical => "names_not_critical",
            Self::NotSpiffe { .. } => "not_spiffe",
            Self::InvalidId { .. } => "invalid_spiffe_id",
            Self::IdTooLong { .. } => "spiffe_id_too_long",
            Self::NoPath { .. } => "spiffe_id_without_path",
            Self::IsCa => "leaf_is_ca",
            Self::MalformedExtension => "malformed_extension",
            Self::NoKeyUsage => "no_key_usage",
            Self::KeyUsageNotCritical => "key_usage_not_critical",
            Self::NoDigitalSignature => "no_digital_signature",
            Self::MaySignCertificates => "leaf_signs_certificates",
            Self::MaySignCrls => "leaf_signs_crls",
            Self::NoClientAuth => "missing_client_auth",
            Self::NoServerAuth => "missing_server_auth",
            Self::NoAuth => "missing_client_and_server_auth",
        }
    }
}

/// SPIFFE-ID 2.3.
const MAX_ID_BYTES: usize = 2048;

/// What to write in a cert-manager Certificate.
const USAGES_REMEDY: &str = "add `usages: [digital signature, server auth, client auth]` to the Certificate";

#[cfg(test)]
mod tests;
