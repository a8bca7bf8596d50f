//! What a path holds, described for people: a Secret directory, PEM, DER, a revocation list, a SPIFFE bundle, a key.
//!
//! Bytes and a moment go in, words and numbers come out: reading is the business of `volume.rs`, and what is wrong with it
//! is told by [`findings`](crate::findings). A private key is proven to fit and is never kept.

use std::path::{Path, PathBuf};

use rustls_pki_types::UnixTime;
use serde::{Serialize, Serializer};
use spiffe::TrustDomain;

mod algorithms;
mod certificate_facts;
mod file_facts;
mod key_facts;
mod list_facts;
mod names;
mod sections;

pub use certificate_facts::{BasicConstraints, CertificateFacts, Kind, Life, MAX_NAMES, NameConstraints, Usage};
pub use file_facts::{FileFacts, FileFault};
pub use key_facts::{Fit, KeyFacts, KeyFault};
pub use list_facts::{Entry, ListFacts, MAX_ENTRIES};
pub use names::Name;
pub use sections::Encoding;

use crate::certificate::one_line;
use crate::explain::explain;
use crate::volume::{self, BundleFiles, Layout, SecretFiles, VolumeError};

/// A path to look at, and, if it is a trust bundle, for whom it speaks.
#[derive(Clone, Debug)]
pub struct Target {
    /// A file or a directory.
    pub path: PathBuf,
    /// The trust domain, where the path is meant as its bundle.
    pub trust_domain: Option<TrustDomain>,
}

/// The content of a path. No `Debug`: a Secret holds the private key.
pub enum Content {
    /// `tls.crt`, `tls.key` and `ca.crt` of one generation.
    Secret(SecretFiles),
    /// A file, or the files of a directory without `tls.crt`.
    Files(BundleFiles),
}

/// Reads a path within the bounds of `volume.rs`: everything in it is of one generation.
///
/// # Errors
/// If it is missing, empty, too large or unreadable.
pub fn read(target: &Target) -> Result<Content, VolumeError> {
    let path = &target.path;
    if target.trust_domain.is_none() && path.is_dir() && volume::is_secret(path) {
        return volume::read_secret(path).map(Content::Secret);
    }
    match target.trust_domain {
        Some(_) => volume::read_bundle(path).map(Content::Files),
        None => volume::read_any(path).map(Content::Files),
    }
}

/// A path, described.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The path as it was given, fit for a terminal.
    pub path: String,
    /// What it was taken for.
    pub purpose: Purpose,
    /// Of which trust domain it is the bundle, where that was said.
    #[serde(serialize_with = "as_text")]
    pub trust_domain: Option<TrustDomain>,
    /// Whether it is a volume that is swapped as a whole, as the kubelet does it.
    pub swapped_whole: bool,
    /// Its files.
    pub files: Vec<FileFacts>,
    /// Why it could not be read, if so.
    pub unread: Option<String>,
    #[serde(skip)]
    pub(crate) bundle: Option<BundleFiles>,
    /// Whether it is the `ca.crt` of a Secret that holds an identity.
    #[serde(skip)]
    pub(crate) beside_identity: bool,
}

/// What a path was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    /// A directory with `tls.crt` and `tls.key`.
    Secret,
    /// A leaf and its issuers.
    Chain,
    /// Trust anchors.
    Bundle,
    /// Certificate revocation lists.
    RevocationLists,
    /// A private key by itself.
    Key,
    /// Nothing that is known.
    Unknown,
}

impl Inspection {
    /// Describes what was read.
    pub fn of(target: &Target, read: Result<Content, VolumeError>, now: UnixTime) -> Self {
        let mut inspection = Self {
            path: shown(&target.path),
            purpose: Purpose::Unknown,
            trust_domain: target.trust_domain.clone(),
            swapped_whole: false,
            files: Vec::new(),
            unread: None,
            bundle: None,
            beside_identity: is_beside_identity(&target.path),
        };
        match read {
            Ok(Content::Secret(secret)) => inspection.take_secret(&target.path, &secret, now),
            Ok(Content::Files(files)) => inspection.take_files(files, now),
            Err(error) => inspection.unread = Some(one_line(&explain(&error))),
        }
        inspection
    }

    fn take_secret(&mut self, path: &Path, secret: &SecretFiles, now: UnixTime) {
        self.purpose = Purpose::Secret;
        self.swapped_whole = secret.layout == Layout::Swapped;
        let mut chain = FileFacts::of(&path.join("tls.crt"), &secret.certificate, now);
        chain.key = Some(KeyFacts::of(&path.join("tls.key"), secret.key.as_deref(), &chain));
        self.files.push(chain);
        match &secret.authority {
            Ok(authority) => self.files.push(FileFacts::of(&path.join("ca.crt"), authority, now)),
            Err(VolumeError::Missing { .. }) => {}
            Err(error) => self.files.push(FileFacts::unread(&path.join("ca.crt"), error)),
        }
    }

    fn take_files(&mut self, files: BundleFiles, now: UnixTime) {
        self.swapped_whole = files.layout == Layout::Swapped;
        for (path, bytes) in &files.files {
            let mut file = FileFacts::of(path, bytes, now);
            if file.key.is_some() && file.encoding == Some(Encoding::Pem) {
                file.key = Some(KeyFacts::of(path, Ok(bytes.as_slice()), &file));
            }
            self.files.push(file);
        }
        self.purpose = self.guess();
        if self.purpose == Purpose::Bundle {
            self.bundle = Some(files);
        }
    }

    fn guess(&self) -> Purpose {
        let any = |holds: &dyn Fn(&FileFacts) -> bool| self.files.iter().any(holds);
        if self.trust_domain.is_some() || any(&|file| file.encoding == Some(Encoding::Json)) {
            return Purpose::Bundle;
        }
        if any(&|file| !file.chain.is_empty()) {
            return Purpose::Chain;
        }
        if any(&|file| !file.certificates.is_empty()) {
            return Purpose::Bundle;
        }
        if any(&|file| !file.revocation_lists.is_empty()) {
            return Purpose::RevocationLists;
        }
        if any(&|file| file.key.is_some()) { Purpose::Key } else { Purpose::Unknown }
    }
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

fn is_beside_identity(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "ca.crt") && volume::directory_of(path).is_some_and(volume::is_secret)
}

fn as_text<S: Serializer>(value: &Option<TrustDomain>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(serializer)
}

fn as_explanation<E: std::error::Error, S: Serializer>(value: &Option<E>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(|error| one_line(&explain(error))).serialize(serializer)
}

#[cfg(test)]
mod tests;
