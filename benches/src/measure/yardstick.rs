//! How fast the machine is right now: the time of one P-256 verification, the costliest part of a handshake.
//!
//! Shared machines swing by more than half between two runs. A result without this figure cannot be compared.

use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use thiserror::Error;

/// The cryptographic library refused to make a key or a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the P-256 yardstick cannot be taken: the cryptographic library refused to sign")]
pub struct YardstickError;

/// Verifies one signature over and over for about 50 ms and returns the median time in microseconds.
///
/// The median, because a shared core is taken away now and then for longer than a verification takes.
///
/// # Errors
/// When no key can be made.
pub fn p256_verify_us() -> Result<f64, YardstickError> {
    let random = SystemRandom::new();
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(|_| YardstickError)?;
    let key =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).map_err(|_| YardstickError)?;
    let signature = key.sign(&random, MESSAGE).map_err(|_| YardstickError)?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
    let mut times = Vec::with_capacity(1024);
    let begun = Instant::now();
    while begun.elapsed() < LENGTH || times.len() < 3 {
        let started = Instant::now();
        public.verify(MESSAGE, signature.as_ref()).map_err(|_| YardstickError)?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(median.as_secs_f64() * 1e6)
}

const LENGTH: Duration = Duration::from_millis(50);
const MESSAGE: &[u8] = b"the yardstick";

#[cfg(test)]
mod tests {
    #[test]
    fn a_verification_takes_some_microseconds() {
        let micros = super::p256_verify_us().unwrap();
        assert!((5.0..100_000.0).contains(&micros), "{micros}");
    }
}
