//! A small certificate authority for development, drills, tests and virtual machines. Not for production.
//!
//! Three tiers: a root whose key may be taken offline, an intermediate per environment and trust domain, short leaves
//! with a SPIFFE ID. In a directory or in memory. On disk:
//! `root.crt`, `root/` (key and records of the root), `environments/<name>/` (certificate, key, records).
//! Invariant: what exists is never overwritten, and every private key has mode 0600 from its first byte.

mod error;
mod files;
mod generation;
mod intermediate;
mod issuer;
mod key;
mod leaf;
mod ledger;
mod pem;
mod request;
mod serial;
#[cfg(test)]
mod tests;
mod validity;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use spiffe::TrustDomain;
use time::OffsetDateTime;

pub use error::Error;
pub use files::Access;
pub use generation::{VolumeFile, is_volume, write_generation};
pub use intermediate::{Intermediate, IntermediateOptions, UriConstraint};
pub use issuer::RevocationList;
pub use key::KeyEncoding;
pub use leaf::{Chain, Layout, Leaf, LeafOptions, LifetimeLimit, Usage};
pub use ledger::{Reason, Revocation};
pub use request::{IdentityPattern, Request};
pub use serial::Serial;
pub use validity::{Validity, parse_lifetime, timestamp};

use intermediate::Plan;
use issuer::Issuer;
use ledger::Ledger;

/// A certificate authority: the root, and the way to its intermediates.
pub struct Authority {
    certificate: CertificateDer<'static>,
    home: Home,
}

enum Home {
    Memory(Box<Issuer>),
    /// The root key stays on disk until it is needed, since it is meant to be away.
    Directory(PathBuf),
}

/// What may be chosen about a root.
#[derive(Debug, Clone)]
pub struct RootOptions {
    /// Its name, to which random digits are added. Default: `Portcullis root`.
    pub name: String,
    /// From when to when. Default: 3650 days.
    pub validity: Validity,
}

impl Default for RootOptions {
    fn default() -> Self {
        Self { name: "Portcullis root".to_owned(), validity: Validity::days(3650) }
    }
}

impl Authority {
    /// Makes a root in a directory, which must be empty or missing.
    ///
    /// # Errors
    /// When the directory holds an authority or other files, or cannot be written.
    pub fn init(dir: &Path, options: &RootOptions) -> Result<Self, Error> {
        let (certificate, key) = make_root(options)?;
        let key_pem = key::encode_pem(&key, KeyEncoding::Pkcs8)?;
        files::ensure_dir(dir)?;
        refuse_occupied(dir)?;
        // Of two at once only one makes this directory.
        let root = dir.join(ROOT_DIR);
        files::create_dir(&root)?;
        files::write_new(&root.join(ROOT_KEY), key_pem.as_bytes(), Access::Private)?;
        Ledger::create(&root)?;
        files::sync_dir(&root)?;
        // Last, because an authority counts as made when it has its certificate.
        let text = pem::encode("CERTIFICATE", &certificate);
        files::write_new(&dir.join(ROOT_CERTIFICATE), text.as_bytes(), Access::Public)?;
        files::sync_dir(dir)?;
        Ok(Self { certificate, home: Home::Directory(dir.to_owned()) })
    }

    /// Opens the authority of a directory. The root key need not be there.
    ///
    /// # Errors
    /// When there is none, or its root certificate cannot be read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(ROOT_CERTIFICATE);
        if !files::exists(&path)? {
            return Err(Error::AuthorityAbsent { dir: dir.to_owned() });
        }
        Ok(Self { certificate: issuer::read_certificate(&path)?, home: Home::Directory(dir.to_owned()) })
    }

    /// Makes a root that leaves nothing on disk, and whose intermediates do not either.
    ///
    /// # Errors
    /// When the validity makes no sense.
    pub fn in_memory(options: &RootOptions) -> Result<Self, Error> {
        let (certificate, key) = make_root(options)?;
        let issuer = Issuer::new(ROOT_NAME.to_owned(), certificate.clone(), key, Ledger::in_memory())?;
        Ok(Self { certificate, home: Home::Memory(Box::new(issuer)) })
    }

    /// The root certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The root certificate in PEM: the trust bundle.
    pub fn certificate_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.certificate)
    }

    /// Makes an intermediate for an environment. Needs the root key.
    ///
    /// # Errors
    /// When the name will not do or is taken, when the root key is away, or when files cannot be written.
    pub fn create_intermediate(
        &self,
        environment: &str,
        trust_domain: &TrustDomain,
        options: &IntermediateOptions,
    ) -> Result<Intermediate, Error> {
        if !is_environment_name(environment) {
            return Err(Error::EnvironmentName { name: environment.to_owned() });
        }
        let plan = Plan { environment, trust_domain, options };
        self.with_root(|root| match &self.home {
            Home::Memory(_) => Intermediate::in_memory(&plan, root),
            Home::Directory(dir) => Intermediate::create(&environment_dir(dir, environment), &plan, root),
        })
    }

    /// Opens the intermediate of an environment. An authority in memory keeps none: whoever made it has it.
    ///
    /// # Errors
    /// When there is none of that name, or its files cannot be used.
    pub fn intermediate(&self, environment: &str) -> Result<Intermediate, Error> {
        let environments = self.environments()?;
        match &self.home {
            Home::Directory(dir) if environments.iter().any(|known| known == environment) => {
                Intermediate::open(&environment_dir(dir, environment), environment, &self.certificate)
            }
            Home::Directory(_) | Home::Memory(_) => {
                Err(Error::EnvironmentUnknown { environment: environment.to_owned(), known: readable(&environments) })
            }
        }
    }

    /// Opens the one intermediate that signs for a trust domain.
    ///
    /// # Errors
    /// When there is none or more than one, or its files cannot be used.
    pub fn intermediate_for(&self, trust_domain: &TrustDomain) -> Result<Intermediate, Error> {
        let environments = self.environments()?;
        let mut found = Vec::new();
        for environment in &environments {
            let intermediate = self.intermediate(environment)?;
            if intermediate.trust_domain() == trust_domain {
                found.push(intermediate);
            }
        }
        if found.len() > 1 {
            let environments: Vec<_> = found.iter().map(|found| found.environment().to_owned()).collect();
            let trust_domain = trust_domain.clone();
            return Err(Error::TrustDomainAmbiguous { trust_domain, environments: readable(&environments) });
        }
        let known = || readable(&environments);
        found.pop().ok_or_else(|| Error::TrustDomainUnknown { trust_domain: trust_domain.clone(), known: known() })
    }

    /// The names of the environments on disk, sorted.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn environments(&self) -> Result<Vec<String>, Error> {
        let Home::Directory(dir) = &self.home else { return Ok(Vec::new()) };
        let environments = dir.join(ENVIRONMENTS);
        let entries = match fs::read_dir(&environments) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(files::failed("list", &environments, source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| files::failed("list", &environments, source))?;
            if let Ok(name) = entry.file_name().into_string()
                && files::exists(&intermediate::certificate_path(&entry.path()))?
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Records that an intermediate is revoked, and returns what is on record. Needs the root's directory.
    ///
    /// # Errors
    /// When the root never issued the serial number, when its key is away, or when the records cannot be written.
    pub fn revoke(&self, serial: Serial, reason: Reason) -> Result<Revocation, Error> {
        self.with_root(|root| root.revoke(serial, reason))
    }

    /// Signs the list of revoked intermediates. Needs the root key.
    ///
    /// # Errors
    /// When the root key is away, or the records cannot be written.
    pub fn revocation_list(&self, validity: Validity) -> Result<RevocationList, Error> {
        self.with_root(|root| root.revocation_list(validity))
    }

    fn with_root<T>(&self, work: impl FnOnce(&Issuer) -> Result<T, Error>) -> Result<T, Error> {
        let dir = match &self.home {
            Home::Memory(root) => return work(root),
            Home::Directory(dir) => dir,
        };
        let root = dir.join(ROOT_DIR);
        let key = root.join(ROOT_KEY);
        if !files::exists(&key)? {
            return Err(Error::RootKeyAbsent { path: key });
        }
        let certificate = dir.join(ROOT_CERTIFICATE);
        work(&Issuer::load(ROOT_NAME.to_owned(), &certificate, &key, Ledger::Directory(root))?)
    }
}

/// Whether a name will do for an environment: 1 to 31 of a-z, 0-9 and `-`. It becomes the name of a directory.
pub fn is_environment_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_ENVIRONMENT_BYTES).contains(&name.len()) && name.bytes().all(known) && !name.starts_with('-')
}

fn make_root(options: &RootOptions) -> Result<(CertificateDer<'static>, rcgen::KeyPair), Error> {
    let window = options.validity.window(OffsetDateTime::now_utc())?;
    // One tier of authorities below it.
    let mut params = issuer::params(&options.name, 1, window)?;
    params.serial_number = Some(Serial::random()?.to_rcgen());
    let key = key::generate()?;
    let certificate =
        params.self_signed(&key).map_err(|source| Error::Crypto { action: "sign the root certificate", source })?;
    Ok((certificate.into(), key))
}

fn refuse_occupied(dir: &Path) -> Result<(), Error> {
    for name in [ROOT_CERTIFICATE, ROOT_DIR, ENVIRONMENTS] {
        if files::exists(&dir.join(name))? {
            return Err(Error::AuthorityExists { dir: dir.to_owned() });
        }
    }
    let mut entries = fs::read_dir(dir).map_err(|source| files::failed("list", dir, source))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Error::DirectoryNotEmpty { dir: dir.to_owned() }),
    }
}

fn environment_dir(dir: &Path, environment: &str) -> PathBuf {
    dir.join(ENVIRONMENTS).join(environment)
}

fn readable(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// With what is put around it, it makes the 64 characters of a common name.
const MAX_ENVIRONMENT_BYTES: usize = 31;

const ROOT_NAME: &str = "root";
const ROOT_CERTIFICATE: &str = "root.crt";
const ROOT_DIR: &str = "root";
const ROOT_KEY: &str = "root.key";
const ENVIRONMENTS: &str = "environments";
