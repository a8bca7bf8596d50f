//! Names of key types and signature algorithms, as people write them. What is not known is shown by its number.

use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::Oid;
use x509_parser::x509::AlgorithmIdentifier;

use crate::certificate::Certificate;

/// The type and size of a certificate's key: `ECDSA P-256`, `RSA 2048`.
pub(super) fn key(certificate: &Certificate<'_>) -> String {
    if let Some(bits) = certificate.rsa_bits() {
        return format!("RSA {bits}");
    }
    let algorithm = &certificate.x509().public_key().algorithm;
    let number = algorithm.algorithm.to_id_string();
    match number.as_str() {
        "1.2.840.10045.2.1" => format!("ECDSA {}", curve(algorithm)),
        "1.3.101.112" => "Ed25519".to_owned(),
        "1.3.101.113" => "Ed448".to_owned(),
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44".to_owned(),
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65".to_owned(),
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87".to_owned(),
        "1.2.840.10040.4.1" => "DSA".to_owned(),
        _ => format!("unknown ({number})"),
    }
}

fn curve(algorithm: &AlgorithmIdentifier<'_>) -> String {
    let number = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match number.as_ref().map(Oid::to_id_string).as_deref() {
        Some("1.2.840.10045.3.1.7") => "P-256".to_owned(),
        Some("1.3.132.0.34") => "P-384".to_owned(),
        Some("1.3.132.0.35") => "P-521".to_owned(),
        Some("1.3.132.0.10") => "secp256k1".to_owned(),
        Some(number) => format!("on an unknown curve ({number})"),
        None => "with explicit curve parameters".to_owned(),
    }
}

/// What a certificate was signed with.
pub(super) fn signature(algorithm: &AlgorithmIdentifier<'_>) -> String {
    let number = algorithm.algorithm.to_id_string();
    let name = match number.as_str() {
        "1.2.840.10045.4.1" => "ECDSA with SHA-1",
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384",
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512",
        "1.2.840.113549.1.1.4" => "RSA with MD5",
        SHA1_WITH_RSA => "RSA with SHA-1",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.113549.1.1.11" => "RSA with SHA-256",
        "1.2.840.113549.1.1.12" => "RSA with SHA-384",
        "1.2.840.113549.1.1.13" => "RSA with SHA-512",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44",
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65",
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87",
        _ => return format!("unknown ({number})"),
    };
    name.to_owned()
}

/// Whether the signature rests on a hash for which collisions are made: SHA-1 or older.
pub(super) fn has_broken_hash(certificate: &X509Certificate<'_>) -> bool {
    let number = certificate.signature_algorithm.algorithm.to_id_string();
    matches!(
        number.as_str(),
        "1.2.840.10045.4.1" | "1.2.840.113549.1.1.2" | "1.2.840.113549.1.1.4" | SHA1_WITH_RSA | "1.2.840.10040.4.3"
    )
}

const SHA1_WITH_RSA: &str = "1.2.840.113549.1.1.5";
