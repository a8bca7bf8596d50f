//! The intermediate of one environment: it signs leaves for one trust domain, without the root key at hand.

use std::path::{Path, PathBuf};

use rcgen::{CustomExtension, KeyPair, PublicKeyData, SanType};
use rustls_pki_types::CertificateDer;
use spiffe::{SpiffeId, TrustDomain};
use time::OffsetDateTime;

use super::issuer::{self, Issuer, RevocationList};
use super::leaf::{Chain, Leaf, LeafOptions, LifetimeLimit};
use super::ledger::{Ledger, Reason, Revocation};
use super::request::{IdentityPattern, Request};
use super::validity::Window;
use super::{Error, Serial, Validity, files, key, pem};

/// What may be chosen about an intermediate.
#[derive(Debug, Clone)]
pub struct IntermediateOptions {
    /// From when to when; cut at the root's end. Default: 365 days.
    pub validity: Validity,
    /// Whether it is held to its trust domain by a name constraint. Default: no.
    pub uri_constraint: UriConstraint,
}

impl Default for IntermediateOptions {
    fn default() -> Self {
        Self { validity: Validity::days(365), uri_constraint: UriConstraint::Absent }
    }
}

/// Whether an intermediate carries a name constraint on URIs (RFC 5280 section 4.2.1.10).
///
/// It holds a stolen intermediate to its trust domain, and Portcullis enforces it. But stock webpki, the verifier of rustls,
/// refuses every certificate with a URI name below such an intermediate, and with it every SVID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriConstraint {
    /// No constraint.
    Absent,
    /// URIs of the trust domain only.
    TrustDomain,
}

/// The certificate authority of an environment.
pub struct Intermediate {
    environment: String,
    trust_domain: TrustDomain,
    root: CertificateDer<'static>,
    issuer: Issuer,
}

impl Intermediate {
    pub(super) fn in_memory(plan: &Plan<'_>, root: &Issuer) -> Result<Self, Error> {
        let (certificate, key) = plan.sign(root)?;
        let issuer = Issuer::new(issuer_name(plan.environment), certificate, key, Ledger::in_memory())?;
        Ok(plan.done(root, issuer))
    }

    /// Makes the intermediate's directory, which must not exist.
    pub(super) fn create(dir: &Path, plan: &Plan<'_>, root: &Issuer) -> Result<Self, Error> {
        if files::exists(dir)? {
            return Err(Error::EnvironmentExists { environment: plan.environment.to_owned(), dir: dir.to_owned() });
        }
        let (certificate, key) = plan.sign(root)?;
        let key_pem = key::encode_pem(&key, key::KeyEncoding::Pkcs8)?;
        if let Some(parent) = dir.parent() {
            files::ensure_dir(parent)?;
        }
        files::create_dir(dir)?;
        files::write_new(&dir.join(KEY), key_pem.as_bytes(), files::Access::Private)?;
        let ledger = Ledger::create(dir)?;
        // Last, because an environment counts as made when it has its certificate.
        let text = pem::encode("CERTIFICATE", &certificate);
        files::write_new(&certificate_path(dir), text.as_bytes(), files::Access::Public)?;
        files::sync_dir(dir)?;
        Ok(plan.done(root, Issuer::new(issuer_name(plan.environment), certificate, key, ledger)?))
    }

    /// Reads the intermediate of a directory.
    pub(super) fn open(dir: &Path, environment: &str, root: &CertificateDer<'static>) -> Result<Self, Error> {
        let path = certificate_path(dir);
        let wrong = |problem| Error::CertificateFile { path: path.clone(), problem };
        let ledger = Ledger::Directory(dir.to_owned());
        let issuer = Issuer::load(issuer_name(environment), &path, &dir.join(KEY), ledger)?;
        if !issuer::is_signed_by(&issuer.certificate, root) {
            return Err(wrong("is not signed by the root of this certificate authority"));
        }
        let uris = issuer::uris(&issuer.certificate);
        let [uri] = uris.as_slice() else { return Err(wrong("does not name one trust domain")) };
        let trust_domain = TrustDomain::new(uri).map_err(|_| wrong("does not name a trust domain"))?;
        Ok(Self { environment: environment.to_owned(), trust_domain, root: root.clone(), issuer })
    }

    /// The environment's name.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// The trust domain that it signs for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.issuer.certificate
    }

    /// Its certificate in PEM: the bundle of a trust domain that is anchored at its own intermediate.
    pub fn certificate_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.issuer.certificate)
    }

    /// Until when it holds.
    pub fn not_after(&self) -> OffsetDateTime {
        self.issuer.not_after
    }

    /// Its serial number, by which the root revokes it.
    pub fn serial(&self) -> Option<Serial> {
        issuer::serial(&self.issuer.certificate)
    }

    /// Makes a key and a certificate for a workload.
    ///
    /// # Errors
    /// When the identity belongs to another trust domain or has no path, when the lifetime is over the limit, when
    /// the intermediate has expired, or when the records cannot be written.
    pub fn issue(&self, identity: &SpiffeId, options: &LeafOptions) -> Result<Leaf, Error> {
        self.check(identity)?;
        self.make(&[&identity.to_string()], self.window(options)?, options)
    }

    /// Makes a leaf that breaks the rules, for tests and drills: any URIs, none among it, and any validity.
    ///
    /// # Errors
    /// When the names cannot be written down, or the records cannot be written.
    pub fn issue_unchecked(&self, uris: &[&str], options: &LeafOptions) -> Result<Leaf, Error> {
        self.make(uris, options.validity.window(OffsetDateTime::now_utc())?, options)
    }

    /// Signs a request that was carried here, if one of the patterns allows its identity.
    ///
    /// Of the request only the key and the SPIFFE ID are used; every other name and extension is the options'.
    ///
    /// # Errors
    /// As [`issue`](Self::issue), and when no pattern allows the identity.
    pub fn sign(&self, request: &Request, allowed: &[IdentityPattern], options: &LeafOptions) -> Result<Chain, Error> {
        let identity = request.identity();
        self.check(identity)?;
        if !allowed.iter().any(|pattern| pattern.matches(identity)) {
            return Err(Error::RequestRefused { identity: identity.clone() });
        }
        self.certify(&[&identity.to_string()], self.window(options)?, options, request.public_key())
    }

    /// Records that a leaf is revoked, and returns what is on record. The first revocation of a leaf counts.
    ///
    /// # Errors
    /// When this intermediate never issued the serial number, or the records cannot be written.
    pub fn revoke(&self, serial: Serial, reason: Reason) -> Result<Revocation, Error> {
        self.issuer.revoke(serial, reason)
    }

    /// Signs the list of revoked leaves. Each one has a higher number than the one before.
    ///
    /// # Errors
    /// When the records cannot be written.
    pub fn revocation_list(&self, validity: Validity) -> Result<RevocationList, Error> {
        self.issuer.revocation_list(validity)
    }

    fn check(&self, identity: &SpiffeId) -> Result<(), Error> {
        if !identity.is_member_of(&self.trust_domain) {
            return Err(Error::IdentityForeign {
                identity: identity.clone(),
                environment: self.environment.clone(),
                trust_domain: self.trust_domain.clone(),
            });
        }
        if identity.path().is_empty() || identity.to_string().len() > MAX_IDENTITY_BYTES {
            return Err(Error::IdentityUnfit { identity: identity.clone() });
        }
        Ok(())
    }

    fn window(&self, options: &LeafOptions) -> Result<Window, Error> {
        let now = OffsetDateTime::now_utc();
        let window = options.validity.window(now)?;
        let lifetime = window.lifetime();
        if options.lifetime_limit == LifetimeLimit::Hours72 && lifetime > MAX_LEAF_LIFETIME {
            let hours = (lifetime + time::Duration::HOUR - time::Duration::SECOND).whole_hours();
            return Err(Error::LifetimeTooLong { hours });
        }
        self.issuer.clamp(window, now)
    }

    fn make(&self, uris: &[&str], window: Window, options: &LeafOptions) -> Result<Leaf, Error> {
        let key = key::generate()?;
        let chain = self.certify(uris, window, options, &key)?;
        let encoding = options.key_encoding;
        Ok(Leaf::new(chain, key::encode(&key, encoding)?, key::encode_pem(&key, encoding)?))
    }

    fn certify(
        &self,
        uris: &[&str],
        window: Window,
        options: &LeafOptions,
        public_key: &impl PublicKeyData,
    ) -> Result<Chain, Error> {
        let (serial, leaf) = self.issuer.sign(options.params(uris, window)?, public_key)?;
        Ok(Chain {
            serial,
            not_before: window.not_before,
            not_after: window.not_after,
            leaf,
            intermediate: self.issuer.certificate.clone(),
            root: self.root.clone(),
        })
    }
}

/// An intermediate that is to be made.
pub(super) struct Plan<'a> {
    pub(super) environment: &'a str,
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) options: &'a IntermediateOptions,
}

impl Plan<'_> {
    fn sign(&self, root: &Issuer) -> Result<(CertificateDer<'static>, KeyPair), Error> {
        let now = OffsetDateTime::now_utc();
        let window = root.clamp(self.options.validity.window(now)?, now)?;
        // No authority below it: it signs leaves only.
        let mut params = issuer::params(&format!("Portcullis {} intermediate", self.environment), 0, window)?;
        let id = self.trust_domain.id_string();
        params.subject_alt_names =
            vec![SanType::URI(id.as_str().try_into().map_err(|_| Error::Name { name: id.clone() })?)];
        match self.options.uri_constraint {
            UriConstraint::Absent => {}
            UriConstraint::TrustDomain => params.custom_extensions.push(uri_constraint(self.trust_domain)),
        }
        let key = key::generate()?;
        let (_, certificate) = root.sign(params, &key)?;
        Ok((certificate, key))
    }

    fn done(&self, root: &Issuer, issuer: Issuer) -> Intermediate {
        Intermediate {
            environment: self.environment.to_owned(),
            trust_domain: self.trust_domain.clone(),
            root: root.certificate.clone(),
            issuer,
        }
    }
}

/// Where the certificate of an environment's directory is.
pub(super) fn certificate_path(dir: &Path) -> PathBuf {
    dir.join("intermediate.crt")
}

fn issuer_name(environment: &str) -> String {
    format!("intermediate of `{environment}`")
}

/// Written by hand, because rcgen knows no URI subtrees:
/// `NameConstraints { permittedSubtrees [0] { GeneralSubtree { base [6] "prod.health.internal" } } }`.
fn uri_constraint(trust_domain: &TrustDomain) -> CustomExtension {
    let base = der(0x86, trust_domain.as_str().as_bytes());
    let permitted = der(0xa0, &der(0x30, &base));
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], der(0x30, &permitted));
    extension.set_criticality(true);
    extension
}

/// One DER value. A trust domain has 255 bytes at most, so two bytes of length always do.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(contents.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut value = vec![tag];
    match (high, low) {
        (0, 0..0x80) => value.push(low),
        (0, _) => value.extend([0x81, low]),
        _ => value.extend([0x82, high, low]),
    }
    value.extend(contents);
    value
}

/// Leaves of 24 to 72 hours, so that one in wrong hands is soon worth nothing.
const MAX_LEAF_LIFETIME: time::Duration = time::Duration::hours(72);

/// SPIFFE-ID section 2.3: longer ones need not be supported by anybody.
const MAX_IDENTITY_BYTES: usize = 2048;

const KEY: &str = "intermediate.key";
