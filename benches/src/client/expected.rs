//! Who must answer: a SPIFFE ID, a DNS name or an address.

use std::net::IpAddr;
use std::str::FromStr;

use rustls_pki_types::{CertificateDer, DnsName, ServerName};
use spiffe::SpiffeId;
use thiserror::Error;
use webpki::EndEntityCert;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The name that the target's certificate has to carry.
#[derive(Debug, Clone)]
pub enum Expected {
    /// Its one URI name.
    Spiffe(SpiffeId),
    /// One of its DNS names or addresses, by the rules of RFC 6125 and RFC 9525.
    Server(ServerName<'static>),
}

/// Not a name that anybody can carry.
#[derive(Debug, Error)]
#[error("`{0}` is no name that a certificate can carry: give a SPIFFE ID, a DNS name or an IP address")]
pub struct ExpectedError(String);

impl Expected {
    /// Whether the certificate carries the name; a sentence about what it carries instead when it does not.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, leaf: &CertificateDer<'_>) -> Result<(), String> {
        match self {
            Self::Spiffe(wanted) => {
                let found = uris(leaf)?;
                if matches!(found.as_slice(), [only] if *only == wanted.to_string()) {
                    return Ok(());
                }
                Err(format!("it has the URI names {found:?}, not just `{wanted}`"))
            }
            Self::Server(wanted) => {
                let certificate = EndEntityCert::try_from(leaf).map_err(|error| error.to_string())?;
                certificate.verify_is_valid_for_subject_name(wanted).map_err(|error| {
                    format!("it is not for `{}`: {error}; --expect names who should answer", wanted.to_str())
                })
            }
        }
    }
}

impl FromStr for Expected {
    type Err = ExpectedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ExpectedError(text.to_owned());
        if text.contains("://") {
            return SpiffeId::new(text).map(Self::Spiffe).map_err(|_| wrong());
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Server(ServerName::IpAddress(address.into())));
        }
        let name = DnsName::try_from(text.to_owned()).map_err(|_| wrong())?;
        Ok(Self::Server(ServerName::DnsName(name)))
    }
}

/// The URI names of a certificate.
fn uris(leaf: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| "it cannot be read".to_owned())?;
    let names = certificate.subject_alternative_name().map_err(|_| "its names cannot be read".to_owned())?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    Ok(uris.collect())
}
