//! Name constraints of issuers (RFC 5280 4.2.1.10): those on URIs are judged here, all others stay with webpki.
//!
//! webpki refuses every name of a form that it does not implement, so an SVID below an issuer with URI constraints
//! never passes it. [`NameConstraints::parse`] therefore splits an extension in two: what webpki is given, and the URI
//! subtrees. A subtree that cannot be read as a host or a domain makes the whole extension unusable: a constraint that
//! nobody can judge permits nothing.

use std::fmt;
use std::net::Ipv4Addr;

use thiserror::Error;
use x509_parser::oid_registry::OID_X509_EXT_NAME_CONSTRAINTS;

use crate::certificate::{Certificate, printable};
use crate::der::{self, SEQUENCE};

/// The name constraints of one issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameConstraints {
    uris: UriConstraints,
    /// The content of the SEQUENCE without its URI subtrees; none if nothing is left.
    others: Option<Vec<u8>>,
}

/// The subtrees of the URI form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UriConstraints {
    permitted: Option<Vec<Host>>,
    excluded: Vec<Host>,
}

/// `host.example` is that host alone; `.example` is every host below that domain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host(String);

impl NameConstraints {
    /// The name constraints of an issuer, where it has some.
    ///
    /// # Errors
    /// If they are repeated, malformed, or have a URI subtree that is neither a host nor a domain.
    pub fn of(issuer: &Certificate<'_>) -> Result<Option<Self>, UnreadableConstraints> {
        let extension = issuer
            .x509()
            .get_extension_unique(&OID_X509_EXT_NAME_CONSTRAINTS)
            .map_err(|_| UnreadableConstraints::Malformed)?;
        let Some(extension) = extension else { return Ok(None) };
        let sequence = der::only(extension.value, SEQUENCE).ok_or(UnreadableConstraints::Malformed)?;
        Self::parse(sequence.content).map(Some)
    }

    /// Splits the content of a NameConstraints SEQUENCE.
    ///
    /// # Errors
    /// If it is malformed, or has a URI subtree that is neither a host nor a domain.
    pub fn parse(content: &[u8]) -> Result<Self, UnreadableConstraints> {
        let mut constraints = Self::default();
        let mut others = Vec::new();
        for list in der::elements(content).ok_or(UnreadableConstraints::Malformed)? {
            let mut left = Vec::new();
            let mut hosts = Vec::new();
            for subtree in der::elements(list.content).ok_or(UnreadableConstraints::Malformed)? {
                match uri_base(subtree)? {
                    Some(host) => hosts.push(host),
                    None => left.extend_from_slice(subtree.whole),
                }
            }
            match list.tag {
                PERMITTED if constraints.uris.permitted.is_none() => {
                    constraints.uris.permitted = (!hosts.is_empty()).then_some(hosts);
                }
                EXCLUDED if constraints.uris.excluded.is_empty() => constraints.uris.excluded = hosts,
                _ => return Err(UnreadableConstraints::Malformed),
            }
            if !left.is_empty() {
                others.extend(der::wrap(list.tag, &left));
            }
        }
        constraints.others = (!others.is_empty()).then_some(others);
        Ok(constraints)
    }

    /// The part on URIs, if there is one.
    pub fn uris(&self) -> Option<&UriConstraints> {
        (self.uris != UriConstraints::default()).then_some(&self.uris)
    }

    /// The part that webpki is given: the content of the SEQUENCE without URI subtrees.
    pub(crate) fn others(&self) -> Option<&[u8]> {
        self.others.as_deref()
    }
}

impl UriConstraints {
    /// Judges one URI of a certificate below the issuer.
    ///
    /// # Errors
    /// If its host is not permitted or is excluded, or if it has none, as the RFC demands.
    pub fn judge(&self, uri: &str) -> Result<(), Violation> {
        let uri_shown = || printable(uri);
        let host = host_of(uri).ok_or_else(|| Violation::NoHost { uri: uri_shown() })?;
        if let Some(excluded) = self.excluded.iter().find(|excluded| excluded.covers(&host)) {
            return Err(Violation::Excluded { uri: uri_shown(), by: excluded.0.clone() });
        }
        match &self.permitted {
            Some(permitted) if !permitted.iter().any(|permitted| permitted.covers(&host)) => {
                Err(Violation::NotPermitted { uri: uri_shown(), permitted: list(permitted) })
            }
            _ => Ok(()),
        }
    }

    /// The permitted hosts and domains; none if all are.
    pub fn permitted(&self) -> Option<impl Iterator<Item = &str>> {
        self.permitted.as_ref().map(|hosts| hosts.iter().map(|host| host.0.as_str()))
    }

    /// The excluded hosts and domains.
    pub fn excluded(&self) -> impl Iterator<Item = &str> {
        self.excluded.iter().map(|host| host.0.as_str())
    }
}

impl fmt::Display for UriConstraints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(permitted) = &self.permitted {
            write!(f, "only {}", list(permitted))?;
        }
        if !self.excluded.is_empty() {
            let comma = if self.permitted.is_some() { ", " } else { "" };
            write!(f, "{comma}not {}", list(&self.excluded))?;
        }
        Ok(())
    }
}

impl Host {
    /// A host or, with a leading dot, a domain; in lower case.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
        let name = text.strip_prefix('.').unwrap_or(&text);
        let is_name = name.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        });
        is_name.then_some(Self(text))
    }

    /// A leading dot stands for one label or more: `.example` is not met by `example`.
    fn covers(&self, host: &str) -> bool {
        if self.0.starts_with('.') {
            return host.len() > self.0.len() && host.ends_with(&self.0);
        }
        host == self.0
    }
}

/// The host of a GeneralSubtree of the URI form; `None` if it is of another form.
fn uri_base(subtree: der::Element<'_>) -> Result<Option<Host>, UnreadableConstraints> {
    let parts = der::elements(subtree.content).ok_or(UnreadableConstraints::Malformed)?;
    let Some((base, bounds)) = parts.split_first() else { return Err(UnreadableConstraints::Malformed) };
    if subtree.tag != SEQUENCE {
        return Err(UnreadableConstraints::Malformed);
    }
    if base.tag != URI {
        return Ok(None);
    }
    // RFC 5280: the minimum must be zero, which DER does not write, and the maximum must be absent.
    if !bounds.is_empty() {
        return Err(UnreadableConstraints::Malformed);
    }
    let unreadable = || UnreadableConstraints::Host { text: printable(&String::from_utf8_lossy(base.content)) };
    Host::parse(base.content).ok_or_else(unreadable).map(Some)
}

/// The host of a URI in lower case; none for a URI without one and for an IP address, which no constraint can cover.
fn host_of(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = host.split_once(':').map_or(host, |(host, _)| host).to_ascii_lowercase();
    let is_name = !host.is_empty() && !host.starts_with('[') && host.parse::<Ipv4Addr>().is_err();
    is_name.then_some(host)
}

fn list(hosts: &[Host]) -> String {
    let mut text: Vec<_> = hosts.iter().take(MAX_LISTED).map(|host| format!("`{}`", printable(&host.0))).collect();
    if hosts.len() > MAX_LISTED {
        text.push(format!("{} more", hosts.len() - MAX_LISTED));
    }
    text.join(", ")
}

/// Why a name is not one that the issuer may certify.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// No permitted subtree covers it.
    #[error("they permit only {permitted}, which `{uri}` is not")]
    NotPermitted {
        /// The name.
        uri: String,
        /// What is permitted.
        permitted: String,
    },
    /// An excluded subtree covers it.
    #[error("they exclude `{by}`, which `{uri}` is of")]
    Excluded {
        /// The name.
        uri: String,
        /// What is excluded.
        by: String,
    },
    /// There is no host name that a constraint could be applied to.
    #[error("they apply to host names, and `{uri}` has none")]
    NoHost {
        /// The name.
        uri: String,
    },
}

/// Why name constraints cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnreadableConstraints {
    /// The extension is not what RFC 5280 describes.
    #[error("its name constraints are malformed")]
    Malformed,
    /// A URI subtree is not a host or domain name.
    #[error(
        "its name constraints have the URI `{text}`, which is neither a host (`prod.example`) nor a domain (`.example`)"
    )]
    Host {
        /// What stands there.
        text: String,
    },
}

/// `permittedSubtrees [0]` and `excludedSubtrees [1]`, constructed.
const PERMITTED: u8 = 0xa0;
const EXCLUDED: u8 = 0xa1;

/// `uniformResourceIdentifier [6]`, primitive.
const URI: u8 = 0x86;

/// Enough to see what is meant, short enough for a log line.
const MAX_LISTED: usize = 5;

#[cfg(test)]
mod tests;
