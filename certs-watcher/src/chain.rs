//! Puts the certificates of our own file into the order that TLS asks for: the leaf, then each issuer after what it
//! issued.
//!
//! Peers differ in how much disorder they forgive, so it is put right here, and said. Links are judged by name alone;
//! that the signatures hold is proven afterwards, on the ordered chain (see `material.rs`).

use rustls_pki_types::CertificateDer;

use crate::certificate::{Certificate, MalformedCertificate};

/// A chain in order.
#[derive(Debug)]
pub struct Ordered {
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// What had to be done to the file's order, in words, if anything.
    pub repair: Option<String>,
}

/// Orders the certificates of a file. What belongs to no issuer of the leaf, and repetitions, are left out.
///
/// # Errors
/// If a certificate cannot be parsed; the number is its place in the file, from 1.
pub fn order(file: &[CertificateDer<'static>]) -> Result<Ordered, (usize, MalformedCertificate)> {
    let mut rest = Vec::with_capacity(file.len());
    for (index, der) in file.iter().enumerate() {
        rest.push((der, Certificate::parse(der).map_err(|source| (index + 1, source))?));
    }

    // The leaf is the certificate that is no CA; if all are, the first stays first and is refused for that later.
    let is_leaf = |(_, certificate): &(_, Certificate<'_>)| certificate.issuer_fault().is_some();
    let leaf = rest.iter().position(is_leaf).unwrap_or(0);
    if rest.is_empty() {
        return Ok(Ordered { chain: Vec::new(), repair: None });
    }
    let mut links = vec![rest.remove(leaf)];

    // Breadth first, so that an issuer that is there twice (cross-signed, or beside its renewal) is kept twice.
    let mut next = 0;
    while let Some((_, current)) = links.get(next) {
        let issuer = current.x509().issuer().as_raw().to_vec();
        let (issuers, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|(_, candidate)| candidate.x509().subject().as_raw() == issuer);
        for found in issuers {
            if !links.iter().any(|(der, _)| *der == found.0) {
                links.push(found);
            }
        }
        rest = others;
        next += 1;
    }

    let chain: Vec<_> = links.into_iter().map(|(der, _)| der.clone()).collect();
    let repair = repair(file, &chain);
    Ok(Ordered { chain, repair })
}

fn repair(file: &[CertificateDer<'static>], chain: &[CertificateDer<'static>]) -> Option<String> {
    if file == chain {
        return None;
    }
    let dropped = file.len() - chain.len();
    let kept_order = file.iter().filter(|der| chain.contains(der)).eq(chain);
    Some(match (dropped, kept_order) {
        (0, _) => "its certificates are not in order (the leaf, then each issuer)".to_owned(),
        (dropped, true) => format!("{dropped} of its certificates repeat another or belong to no issuer of the leaf"),
        (dropped, false) => format!(
            "its certificates are not in order (the leaf, then each issuer), and {dropped} repeat another or belong to no issuer of the leaf"
        ),
    })
}

#[cfg(test)]
mod tests;
