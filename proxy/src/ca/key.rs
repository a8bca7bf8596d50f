//! Private keys: made as ECDSA P-256, written as SEC1 or PKCS#8, read in every encoding that OpenSSL writes.
//!
//! A key is never printed: nothing here has `Debug`.

use std::path::Path;

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rcgen::KeyPair;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

use super::{Error, files, pem};

/// How a private key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyEncoding {
    /// `EC PRIVATE KEY`, what cert-manager writes for ECDSA unless told otherwise.
    #[default]
    Sec1,
    /// `PRIVATE KEY`, what cert-manager writes with `encoding: PKCS8`.
    Pkcs8,
}

/// Makes a key.
pub(super) fn generate() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|source| Error::Crypto { action: "make a private key", source })
}

/// Reads a key in PKCS#8, SEC1 or PKCS#1.
pub(super) fn read(path: &Path) -> Result<KeyPair, Error> {
    let wrong = |problem| Error::KeyFile { path: path.to_owned(), problem };
    let text = files::read(path)?;
    if text.contains("ENCRYPTED") {
        return Err(wrong("is encrypted, which is not supported"));
    }
    let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| wrong("is not a private key in PEM"))?;
    KeyPair::try_from(&der).map_err(|_| wrong("is of no supported kind"))
}

/// Encodes a key that [`generate`] made.
pub(super) fn encode(key: &KeyPair, encoding: KeyEncoding) -> Result<PrivateKeyDer<'static>, Error> {
    let pkcs8 = key.serialize_der();
    match encoding {
        KeyEncoding::Pkcs8 => Ok(PrivatePkcs8KeyDer::from(pkcs8).into()),
        KeyEncoding::Sec1 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8);
            let pair = pair.map_err(|_| Error::KeyEncoding)?;
            let sec1: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().map_err(|_| Error::KeyEncoding)?;
            Ok(PrivateSec1KeyDer::from(sec1.as_ref().to_vec()).into())
        }
    }
}

/// Encodes a key that [`generate`] made, in PEM.
pub(super) fn encode_pem(key: &KeyPair, encoding: KeyEncoding) -> Result<String, Error> {
    let label = match encoding {
        KeyEncoding::Sec1 => "EC PRIVATE KEY",
        KeyEncoding::Pkcs8 => "PRIVATE KEY",
    };
    Ok(pem::encode(label, encode(key, encoding)?.secret_der()))
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData;

    use super::*;

    #[test]
    fn both_encodings_are_read_back_as_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let key = generate().unwrap();
        for (encoding, label) in [(KeyEncoding::Sec1, "EC PRIVATE KEY"), (KeyEncoding::Pkcs8, "PRIVATE KEY")] {
            let path = dir.path().join(label);
            let text = encode_pem(&key, encoding).unwrap();
            assert!(text.starts_with(&format!("-----BEGIN {label}-----\n")));
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap().der_bytes(), key.der_bytes());
        }
    }

    #[test]
    fn sec1_names_its_curve() {
        // Without the parameters only a reader that guesses the curve can use the key.
        let sec1 = encode(&generate().unwrap(), KeyEncoding::Sec1).unwrap();
        let prime256v1 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        assert!(sec1.secret_der().windows(prime256v1.len()).any(|bytes| bytes == prime256v1));
    }

    #[test]
    fn says_that_a_key_is_encrypted_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for (text, word) in [
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "encrypted"),
            ("", "not a private key"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no supported kind"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
