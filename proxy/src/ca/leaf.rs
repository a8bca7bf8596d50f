//! A workload's certificate: what may be chosen about it, what was issued, and the files that cert-manager writes.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, DnsName, PrivateKeyDer};
use time::OffsetDateTime;

use super::files::{self, Access};
use super::validity::Window;
use super::{Error, KeyEncoding, Serial, Validity, VolumeFile, is_volume, pem, write_generation};

/// What may be chosen about a leaf. The default is what a workload of the mesh needs.
#[derive(Debug, Clone)]
pub struct LeafOptions {
    /// From when to when; cut at the issuer's end. Default: 24 hours.
    pub validity: Validity,
    /// Whether more than 72 hours are meant. Default: no.
    pub lifetime_limit: LifetimeLimit,
    /// DNS names beside the SPIFFE ID, for peers that know none. Default: none.
    pub dns_names: Vec<String>,
    /// Addresses beside the SPIFFE ID. Default: none.
    pub ip_addresses: Vec<IpAddr>,
    /// Extended key usages; the extension is left out when there are none. Default: server and client.
    pub usages: Vec<Usage>,
    /// The subject's common name. Default: an empty subject, which makes the names critical, as the standard asks.
    pub common_name: Option<String>,
    /// How the private key is written. Default: SEC1, as cert-manager does. Signing a request ignores it.
    pub key_encoding: KeyEncoding,
}

impl Default for LeafOptions {
    fn default() -> Self {
        Self {
            validity: Validity::hours(24),
            lifetime_limit: LifetimeLimit::Hours72,
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            usages: vec![Usage::Server, Usage::Client],
            common_name: None,
            key_encoding: KeyEncoding::default(),
        }
    }
}

impl LeafOptions {
    pub(super) fn params(&self, uris: &[&str], window: Window) -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::default();
        params.not_before = window.not_before;
        params.not_after = window.not_after;
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = &self.common_name {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        for uri in uris {
            params.subject_alt_names.push(SanType::URI(ia5(uri)?));
        }
        for name in &self.dns_names {
            DnsName::try_from(name.strip_prefix("*.").unwrap_or(name))
                .map_err(|_| Error::Name { name: name.clone() })?;
            params.subject_alt_names.push(SanType::DnsName(ia5(name)?));
        }
        params.subject_alt_names.extend(self.ip_addresses.iter().copied().map(SanType::IpAddress));
        // Says `cA` false in so many words, and adds the subject key identifier.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = self.usages.iter().map(|usage| usage.to_rcgen()).collect();
        Ok(params)
    }
}

/// How long a leaf may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifetimeLimit {
    /// At most 72 hours: leaves are not revoked in practice, they run out.
    Hours72,
    /// Until the issuer's end.
    Issuer,
}

/// An extended key usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// `serverAuth`.
    Server,
    /// `clientAuth`, which cert-manager leaves out by default and mutual TLS needs.
    Client,
}

impl Usage {
    fn to_rcgen(self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Self::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }
    }
}

/// A leaf's certificate with those above it.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The leaf's serial number.
    pub serial: Serial,
    /// From when the leaf holds.
    pub not_before: OffsetDateTime,
    /// Until when the leaf holds.
    pub not_after: OffsetDateTime,
    /// The leaf.
    pub leaf: CertificateDer<'static>,
    /// The intermediate that signed it.
    pub intermediate: CertificateDer<'static>,
    /// The root that signed the intermediate. Peers have it in their trust bundle; it is never sent.
    pub root: CertificateDer<'static>,
}

impl Chain {
    /// What goes over the wire: leaf, then intermediate.
    pub fn der(&self) -> Vec<CertificateDer<'static>> {
        vec![self.leaf.clone(), self.intermediate.clone()]
    }

    /// The contents of `tls.crt`: leaf, then intermediate.
    pub fn pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.leaf) + &pem::encode("CERTIFICATE", &self.intermediate)
    }

    /// The contents of `ca.crt`: the root.
    pub fn root_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.root)
    }

    /// Writes `tls.crt` and `ca.crt` beside the key that the owner of the request has. Makes the directory if needed.
    ///
    /// # Errors
    /// When the directory has the kubelet layout, or a file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        if is_volume(dir)? {
            return Err(Error::VolumeWithoutKey { dir: dir.to_owned() });
        }
        files::ensure_dir(dir)?;
        files::replace(&dir.join(ROOT_FILE), self.root_pem().as_bytes(), Access::Public)?;
        files::replace(&dir.join(CHAIN_FILE), self.pem().as_bytes(), Access::Public)
    }
}

/// A leaf with its private key.
pub struct Leaf {
    /// The certificates.
    pub chain: Chain,
    key: PrivateKeyDer<'static>,
    key_pem: String,
}

impl Leaf {
    pub(super) fn new(chain: Chain, key: PrivateKeyDer<'static>, key_pem: String) -> Self {
        Self { chain, key, key_pem }
    }

    /// The private key, for a TLS library.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// The contents of `tls.key`.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Writes `tls.crt`, `tls.key` and `ca.crt` into a directory, which is made if needed.
    ///
    /// Each file changes in one step; all three do in the kubelet layout only. In a plain directory `tls.crt` comes
    /// last, and a reader in between finds a key that does not fit.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, dir: &Path, layout: Layout) -> Result<(), Error> {
        let (chain, root) = (self.chain.pem(), self.chain.root_pem());
        let files = [
            VolumeFile { name: ROOT_FILE, contents: root.as_bytes(), access: Access::Public },
            VolumeFile { name: KEY_FILE, contents: self.key_pem.as_bytes(), access: Access::Private },
            VolumeFile { name: CHAIN_FILE, contents: chain.as_bytes(), access: Access::Public },
        ];
        if layout == Layout::Kubelet || is_volume(dir)? {
            return write_generation(dir, &files).map(|_| ());
        }
        files::ensure_dir(dir)?;
        files.iter().try_for_each(|file| files::replace(&dir.join(file.name), file.contents, file.access))
    }
}

/// Shows the certificates only.
impl fmt::Debug for Leaf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Leaf").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// How a leaf's files lie in their directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// As the directory has it: plain files, unless it is a kubelet volume already.
    #[default]
    AsFound,
    /// Symlinks into a directory that is exchanged whole, as the kubelet does for a Secret volume.
    Kubelet,
}

fn ia5(name: &str) -> Result<Ia5String, Error> {
    Ia5String::try_from(name).map_err(|_| Error::Name { name: name.to_owned() })
}

// The names that cert-manager uses.
const CHAIN_FILE: &str = "tls.crt";
const KEY_FILE: &str = "tls.key";
const ROOT_FILE: &str = "ca.crt";
