//! What an issuer remembers: which certificates it issued, which it revoked, the number of its last revocation list.
//!
//! On disk: `issued/<serial>.pem`, one file a certificate, and `revocations.json`, changed under a lock and by rename.
//! A certificate is on record before it is handed out.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rcgen::RevocationReason;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::files::{self, Access, failed};
use super::{Error, Serial, pem};

/// Where an issuer keeps its records.
pub(super) enum Ledger {
    /// For as long as the issuer lives.
    Memory(Mutex<Remembered>),
    /// In the issuer's directory.
    Directory(PathBuf),
}

impl Ledger {
    pub(super) fn in_memory() -> Self {
        Self::Memory(Mutex::default())
    }

    /// Makes the files of a new ledger.
    pub(super) fn create(dir: &Path) -> Result<Self, Error> {
        files::create_dir(&dir.join(ISSUED))?;
        let ledger = Self::Directory(dir.to_owned());
        let path = dir.join(REVOCATIONS);
        files::write_new(&path, &to_json(&path, &Revocations::default())?, Access::Private)?;
        Ok(ledger)
    }

    /// Puts a certificate on record.
    pub(super) fn record(&self, serial: Serial, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        match self {
            Self::Memory(memory) => {
                memory.lock().unwrap_or_else(PoisonError::into_inner).issued.insert(serial);
                Ok(())
            }
            Self::Directory(dir) => {
                let text = pem::encode("CERTIFICATE", certificate);
                files::write_new(&issued(dir, serial), text.as_bytes(), Access::Public)
            }
        }
    }

    /// Whether the certificate is on record.
    pub(super) fn knows(&self, serial: Serial) -> Result<bool, Error> {
        match self {
            Self::Memory(memory) => Ok(memory.lock().unwrap_or_else(PoisonError::into_inner).issued.contains(&serial)),
            Self::Directory(dir) => files::exists(&issued(dir, serial)),
        }
    }

    /// Records a revocation. One that is on record already stays as it is, and is returned.
    pub(super) fn revoke(&self, revocation: Revocation) -> Result<Revocation, Error> {
        self.change(|revocations| {
            let known = revocations.revoked.iter().find(|known| known.serial == revocation.serial);
            known.copied().unwrap_or_else(|| {
                revocations.revoked.push(revocation);
                revocation
            })
        })
    }

    /// Takes the next number for a revocation list, and what belongs into it.
    pub(super) fn next_list(&self) -> Result<Revocations, Error> {
        self.change(|revocations| {
            revocations.list_number += 1;
            revocations.clone()
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Revocations) -> T) -> Result<T, Error> {
        let dir = match self {
            Self::Memory(memory) => {
                return Ok(change(&mut memory.lock().unwrap_or_else(PoisonError::into_inner).revocations));
            }
            Self::Directory(dir) => dir,
        };
        // Two commands at once must not lose a revocation or use a number twice. Closing the file releases the lock.
        let path = dir.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(|source| failed("open", &path, source))?;
        lock.lock().map_err(|source| failed("lock", &path, source))?;

        let path = dir.join(REVOCATIONS);
        let text = files::read(&path)?;
        let mut revocations =
            serde_json::from_str(&text).map_err(|source| Error::Records { path: path.clone(), source })?;
        let result = change(&mut revocations);
        files::replace(&path, &to_json(&path, &revocations)?, Access::Private)?;
        Ok(result)
    }
}

#[derive(Default)]
pub(super) struct Remembered {
    issued: BTreeSet<Serial>,
    revocations: Revocations,
}

/// The revocations of an issuer. None is ever taken away: whoever holds an expired certificate has no use of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Revocations {
    /// The number of the last revocation list; the first has 1.
    pub(super) list_number: u64,
    pub(super) revoked: Vec<Revocation>,
}

/// One certificate's revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Which certificate.
    pub serial: Serial,
    /// When it was revoked, to the second.
    #[serde(with = "rfc3339")]
    pub at: OffsetDateTime,
    /// Why.
    pub reason: Reason,
}

/// Why a certificate was revoked (RFC 5280 section 5.3.1), without those that a final revocation cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No reason is given.
    #[default]
    Unspecified,
    /// The private key is in other hands.
    KeyCompromise,
    /// The private key of a certificate authority is in other hands.
    CaCompromise,
    /// The subject's name or other facts changed.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// The workload is gone.
    CessationOfOperation,
    /// The workload lost its rights.
    PrivilegeWithdrawn,
}

impl Reason {
    pub(super) fn to_rcgen(self) -> RevocationReason {
        match self {
            Self::Unspecified => RevocationReason::Unspecified,
            Self::KeyCompromise => RevocationReason::KeyCompromise,
            Self::CaCompromise => RevocationReason::CaCompromise,
            Self::AffiliationChanged => RevocationReason::AffiliationChanged,
            Self::Superseded => RevocationReason::Superseded,
            Self::CessationOfOperation => RevocationReason::CessationOfOperation,
            Self::PrivilegeWithdrawn => RevocationReason::PrivilegeWithdrawn,
        }
    }
}

mod rfc3339 {
    //! The `time` crate's own serde support would be one more feature for one field.
    use serde::{Deserialize, Deserializer, Serializer, de, ser};
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    pub(super) fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.format(&Rfc3339).map_err(ser::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        OffsetDateTime::parse(&text, &Rfc3339).map_err(de::Error::custom)
    }
}

fn issued(dir: &Path, serial: Serial) -> PathBuf {
    dir.join(ISSUED).join(format!("{serial}.pem"))
}

fn to_json(path: &Path, revocations: &Revocations) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_vec_pretty(revocations);
    let mut json = json.map_err(|source| Error::Records { path: path.to_owned(), source })?;
    json.push(b'\n');
    Ok(json)
}

const ISSUED: &str = "issued";
const REVOCATIONS: &str = "revocations.json";
const LOCK: &str = ".lock";
