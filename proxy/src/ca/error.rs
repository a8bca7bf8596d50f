//! What can go wrong in the certificate authority: what happened, to which file or certificate, and what to do.
//!
//! One level only: the cause is the `source`, printed by whoever prints the chain. No variant carries key material.

use std::io;
use std::path::PathBuf;

use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};

use super::Serial;

/// A failure of the certificate authority.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("could not {action} `{}`", .path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// The directory holds a certificate authority, whole or half made.
    #[error("a certificate authority is in `{}` already and is never overwritten: choose another directory", .dir.display())]
    AuthorityExists {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory holds other files.
    #[error("`{}` is not empty: choose a directory that is empty or does not exist", .dir.display())]
    DirectoryNotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory holds no certificate authority.
    #[error("there is no certificate authority in `{}` (no root.crt): make one with `portcullis ca init`", .dir.display())]
    AuthorityAbsent {
        /// The directory.
        dir: PathBuf,
    },
    /// The root key is offline, and what was asked for needs it.
    #[error("the root key `{}` is not here: bring the offline directory `root` back for this command", .path.display())]
    RootKeyAbsent {
        /// Where the key would be.
        path: PathBuf,
    },
    /// An environment's name would not do as a directory name.
    #[error("`{name}` is not an environment name: use 1 to 31 of a-z, 0-9 and `-`, with a letter or digit first")]
    EnvironmentName {
        /// What was given.
        name: String,
    },
    /// A root's name is empty or too long for a certificate.
    #[error("`{name}` cannot be the name of a root: it needs 1 to 55 characters")]
    RootName {
        /// What was given.
        name: String,
    },
    /// The environment has an intermediate, whole or half made.
    #[error("the environment `{environment}` exists in `{}` already and is never overwritten: choose another name", .dir.display())]
    EnvironmentExists {
        /// Its name.
        environment: String,
        /// The environment's directory.
        dir: PathBuf,
    },
    /// No intermediate has this environment's name.
    #[error("there is no environment `{environment}` in this certificate authority: it has {known}")]
    EnvironmentUnknown {
        /// What was asked for.
        environment: String,
        /// The environments that there are, for a person to read.
        known: String,
    },
    /// No intermediate signs for the trust domain.
    #[error("no environment signs for the trust domain `{trust_domain}`: there is {known}")]
    TrustDomainUnknown {
        /// What was asked for.
        trust_domain: TrustDomain,
        /// The environments that there are, for a person to read.
        known: String,
    },
    /// Several intermediates sign for the trust domain.
    #[error("several environments sign for the trust domain `{trust_domain}` ({environments}): name one of them")]
    TrustDomainAmbiguous {
        /// What was asked for.
        trust_domain: TrustDomain,
        /// Their names, for a person to read.
        environments: String,
    },
    /// A certificate file of the authority cannot be used.
    #[error("the certificate in `{}` {problem}: restore the file from a backup", .path.display())]
    CertificateFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A key file of the authority cannot be used.
    #[error("the private key in `{}` {problem}: restore the file from a backup", .path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file of records cannot be read.
    #[error("the records in `{}` are broken: restore the file from a backup, revocations depend on it", .path.display())]
    Records {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A text is not a SPIFFE ID.
    #[error("`{text}` is not a spiffe id")]
    Identity {
        /// What was given.
        text: String,
        /// The clause it breaks.
        source: SpiffeIdError,
    },
    /// A leaf's SPIFFE ID must have a path and at most 2048 bytes.
    #[error("`{identity}` cannot be the identity of a workload: it needs a path and at most 2048 bytes")]
    IdentityUnfit {
        /// What was asked for.
        identity: SpiffeId,
    },
    /// The identity belongs to another trust domain than the intermediate.
    #[error("`{identity}` is foreign to the environment `{environment}`, which signs for `{trust_domain}` only")]
    IdentityForeign {
        /// What was asked for.
        identity: SpiffeId,
        /// The intermediate's environment.
        environment: String,
        /// The intermediate's trust domain.
        trust_domain: TrustDomain,
    },
    /// A name cannot stand in a certificate.
    #[error("`{name}` is not a name that a certificate can carry: give a dns name, with `*.` at most in front")]
    Name {
        /// What was given.
        name: String,
    },
    /// A pattern of allowed identities is malformed.
    #[error("`{pattern}` is not an identity pattern: {problem}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A text is not a length of time.
    #[error("`{text}` is not a length of time: write a whole number and a unit, as in 45s, 30m, 24h or 90d")]
    Lifetime {
        /// What was given.
        text: String,
    },
    /// A time lies beyond what a certificate can say.
    #[error("the end of validity lies beyond the year 9999: ask for a shorter lifetime")]
    TimeOverflow,
    /// The end of validity is not after its begin.
    #[error("the validity would end ({not_after}) before it begins ({not_before}): ask for another time")]
    ValidityEmpty {
        /// Its begin.
        not_before: String,
        /// Its end.
        not_after: String,
    },
    /// A leaf of more than 72 hours was asked for.
    #[error("a leaf lives 72h at most, {hours}h were asked for: ask for less, or insist with --force-long")]
    LifetimeTooLong {
        /// What was asked for, rounded up.
        hours: i64,
    },
    /// The issuer has expired.
    #[error("the certificate of the {issuer} expired at {not_after} and signs no more: make a new one")]
    IssuerExpired {
        /// Which one.
        issuer: String,
        /// When.
        not_after: String,
    },
    /// A certificate request cannot be read.
    #[error("the certificate request {problem}: give one PKCS#10 request in PEM")]
    RequestUnreadable {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The request's signature does not fit its key.
    #[error("the certificate request is not signed by the key it carries: it was altered, make a new one")]
    RequestSignature,
    /// The request's key is too weak or of an unknown kind.
    #[error(
        "the key of the certificate request is not accepted: use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more"
    )]
    RequestKey,
    /// The request names no or several URIs.
    #[error("the certificate request has {count} uri names: it must have exactly one, the spiffe id")]
    RequestUris {
        /// How many.
        count: usize,
    },
    /// The request asks for an identity that the command does not allow.
    #[error(
        "the certificate request asks for `{identity}`, which is not allowed: allow it with --allow if it is meant"
    )]
    RequestRefused {
        /// What was asked for.
        identity: SpiffeId,
    },
    /// A text is not a serial number.
    #[error("`{text}` is not a serial number: give 1 to 32 hexadecimal digits, colons may be between them")]
    Serial {
        /// What was given.
        text: String,
    },
    /// The issuer has no record of the serial number.
    #[error("the {issuer} never issued the serial number {serial}: check it, and which issuer the certificate names")]
    SerialUnknown {
        /// What was given.
        serial: Serial,
        /// Who was asked.
        issuer: String,
    },
    /// The destination of a signed request is a volume, whose key must change in the same step.
    #[error("`{}` has the kubelet layout, in which certificate and key change together: write to a plain directory", .dir.display())]
    VolumeWithoutKey {
        /// The directory.
        dir: PathBuf,
    },
    /// A file name cannot stand in a volume.
    #[error(
        "`{name}` cannot be the name of a file in a volume: it must be one path segment that does not begin with `..`"
    )]
    VolumeName {
        /// What was given.
        name: String,
    },
    /// The cryptographic library refused.
    #[error("could not {action}")]
    Crypto {
        /// What was tried, as a verb.
        action: &'static str,
        /// The refusal.
        source: rcgen::Error,
    },
    /// The operating system gave no random bytes.
    #[error("the system gave no random bytes: try again")]
    Random,
    /// The private key cannot be written in the encoding asked for.
    #[error("the private key cannot be written as SEC1: ask for PKCS#8")]
    KeyEncoding,
}
