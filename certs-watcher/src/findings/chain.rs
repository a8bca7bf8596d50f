//! Findings about a leaf and its issuers: first what a sidecar with this identity would be refused for, then drift.
//!
//! Without a bundle nobody can say whether the chain is believed; but it can be said whether it holds together. So it is
//! verified, by the function that judges peers, as if its topmost certificate were the anchor.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use spiffe::SpiffeId;

use super::{At, Found, Rule, bundle, rules};
use crate::bundle::Bundle;
use crate::certificate::{Certificate, CertificateName};
use crate::clock::Timestamp;
use crate::explain::explain;
use crate::inspect::{CertificateFacts, Encoding, FileFacts, Fit, KeyFault, Kind};
use crate::material::MaterialError;
use crate::path_error::PathError;
use crate::peer_error::PeerError;
use crate::role::Role;
use crate::signed::Signed;
use crate::svid::{self, SvidError};
use crate::trust::{Trust, algorithms};
use crate::verify::verify_peer;

pub(super) fn judge(found: &mut Found, file: &FileFacts, authority: Option<&FileFacts>) {
    key(found, file);
    if file.fault.is_some() {
        return;
    }
    let Some(leaf) = file.ordered().next().or_else(|| file.certificates.first()) else {
        return found.error(&rules::UNREADABLE, At::path(&file.path), "the file holds no certificate");
    };
    let before = found.findings.len();
    let id = identity(found, file, leaf);
    issuers(found, file);
    time(found, file, leaf);
    self_signed(found, file, leaf);
    let holds_so_far = found.findings.len() == before;
    if let Some(id) = id.filter(|_| holds_so_far) {
        path(found, file, authority, &id);
    }
    drift(found, file, leaf);
}

fn key(found: &mut Found, file: &FileFacts) {
    let Some(key) = file.key.as_ref().filter(|key| key.fits == Fit::Refused) else { return };
    let Some(fault) = &key.fault else { return };
    let rule = match fault {
        KeyFault::Refused(MaterialError::KeyMismatch { .. }) => &rules::KEY_MISMATCH,
        KeyFault::Refused(_) | KeyFault::Unread { .. } => &rules::UNUSABLE_KEY,
    };
    found.error(rule, At::path(&key.path), explain(fault));
}

fn identity(found: &mut Found, file: &FileFacts, leaf: &CertificateFacts) -> Option<SpiffeId> {
    // It was parsed once already, so this cannot fail.
    let certificate = Certificate::parse(&leaf.der).ok()?;
    let error = match svid::spiffe_id(&certificate) {
        Ok(id) => return Some(id),
        Err(error) => error,
    };
    let rule = match error {
        SvidError::NoClientAuth | SvidError::NoServerAuth | SvidError::NoAuth => &rules::MISSING_AUTH,
        _ => &rules::NOT_AN_SVID,
    };
    let message = format!("the leaf {}: {}", leaf.facts.name, explain(&error));
    found.error(rule, At::certificate(file, leaf), message);
    None
}

/// What is wrong with a certificate of the chain by itself.
fn issuers(found: &mut Found, file: &FileFacts) {
    for certificate in file.ordered() {
        let at = At::certificate(file, certificate);
        let name = &certificate.facts.name;
        if let Some(bits) = certificate.facts.weak_rsa_bits {
            found.error(&rules::WEAK_RSA, at, format!("{name} has an RSA key of {bits} bits, less than 2048"));
        }
        if certificate.kind == Kind::Leaf {
            continue;
        }
        if let Some(fault) = certificate.facts.issuer_fault {
            found.error(&rules::NOT_AN_ISSUER, at, format!("{name} may not issue certificates: {fault}"));
        }
    }
    // Nobody checks the signature that a root makes under itself.
    for certificate in file.ordered().filter(|certificate| certificate.kind != Kind::Root) {
        if certificate.facts.broken_hash {
            let message = format!("{} is signed with {}", certificate.facts.name, certificate.signature);
            found.error(&rules::SHA1_SIGNATURE, At::certificate(file, certificate), message);
        }
    }
}

fn is_valid(found: &Found, certificate: &CertificateFacts) -> bool {
    (certificate.life.not_before.0..=certificate.life.not_after.0).contains(&found.now)
}

/// Says so if a certificate without which nothing works is not valid.
fn time(found: &mut Found, file: &FileFacts, certificate: &CertificateFacts) {
    let (now, at) = (found.now, At::certificate(file, certificate));
    if now > certificate.life.not_after.0 {
        found.error(&rules::EXPIRED, at, expired(certificate, Timestamp(now)));
    } else if now < certificate.life.not_before.0 {
        let (begin, now) = (certificate.life.not_before, Timestamp(now));
        let message = format!("{} is valid from {begin}, and it is only {now}", certificate.facts.name);
        found.error(&rules::NOT_YET_VALID, at, message);
    }
}

fn expired(certificate: &CertificateFacts, now: Timestamp) -> String {
    format!("{} expired at {}, and it is {now}", certificate.facts.name, certificate.life.not_after)
}

/// No bundle can vouch for a leaf that nobody but itself has signed: an anchor has to be a CA.
fn self_signed(found: &mut Found, file: &FileFacts, leaf: &CertificateFacts) {
    let key = &leaf.facts.public_key;
    let is_own = Signed::parse(&leaf.der).is_some_and(|signed| signed.is_by(key, algorithms().all));
    if leaf.kind == Kind::Leaf && is_own {
        let message = format!("the leaf {} is signed by its own key, so nobody vouches for it", leaf.facts.name);
        found.error(&rules::BROKEN_CHAIN, At::certificate(file, leaf), message);
    }
}

/// Whether the chain holds together, by the verdict of the sidecar itself.
fn path(found: &mut Found, file: &FileFacts, authority: Option<&FileFacts>, id: &SpiffeId) {
    let own = tops(file);
    if !own.is_empty() {
        if !own.iter().any(|top| is_valid(found, top)) {
            // Said here, since as an anchor it would be spoken of as a part of a bundle.
            return own.into_iter().for_each(|top| time(found, file, top));
        }
        let anchors: Vec<_> = own.iter().map(|top| top.der.clone()).collect();
        if let Err(error) = verify(found, file, id, &anchors) {
            return refused(found, file, &error);
        }
        unused(found, file);
    }
    let published = authority.map(FileFacts::ders).unwrap_or_default();
    if published.is_empty() {
        return;
    }
    if let Err(error) = verify(found, file, id, &published) {
        let message = format!("the chain does not hold under the ca.crt beside it: {}", explain(&error));
        found.warning(&rules::NOT_OF_CA_CRT, At::path(&file.path), message);
    }
}

fn verify(
    found: &Found,
    file: &FileFacts,
    id: &SpiffeId,
    anchors: &[CertificateDer<'static>],
) -> Result<(), Box<PeerError>> {
    // None of them may be fit to be an anchor; then nothing is believed, and the chain is said to end at an unknown issuer.
    let bundle = Bundle::from_certificates(id.trust_domain(), anchors)
        .or_else(|_| Bundle::from_certificates(id.trust_domain(), &[]))
        .map(Arc::new);
    let trust = Trust::new(bundle.ok());
    let chain: Vec<_> = file.ordered().map(|certificate| certificate.der.clone()).collect();
    for role in [Role::Client, Role::Server] {
        verify_peer(&trust, role, &chain, found.now).map_err(Box::new)?;
    }
    Ok(())
}

/// The issuers of the chain that nothing else in it vouches for.
fn tops(file: &FileFacts) -> Vec<&CertificateFacts> {
    let issuers: Vec<_> = file.ordered().filter(|certificate| certificate.kind != Kind::Leaf).collect();
    let vouched = |certificate: &CertificateFacts| certificate.issuers.iter().any(|issuer| file.chain.contains(issuer));
    let tops: Vec<_> = issuers.iter().copied().filter(|certificate| !vouched(certificate)).collect();
    if tops.is_empty() {
        // Cross-signed in a circle.
        return issuers.last().copied().into_iter().collect();
    }
    tops
}

fn refused(found: &mut Found, file: &FileFacts, error: &PeerError) {
    let (rule, culprit) = match error {
        PeerError::Path { source, .. } => of_path(source),
        PeerError::WeakKey { certificate, .. } => (&rules::WEAK_RSA, Some(certificate)),
        _ => (&rules::BROKEN_CHAIN, None),
    };
    let named = culprit.and_then(|name| file.ordered().find(|certificate| certificate.facts.name == *name));
    let at = named.map_or(At::path(&file.path), |certificate| At::certificate(file, certificate));
    found.error(rule, at, explain(error));
}

fn of_path(error: &PathError) -> (&'static Rule, Option<&CertificateName>) {
    match error {
        PathError::Expired { certificate, .. } => (&rules::EXPIRED, Some(certificate)),
        PathError::IdleAnchor { anchor, .. } => (&rules::EXPIRED, Some(anchor)),
        PathError::NotYetValid { certificate, .. } => (&rules::NOT_YET_VALID, Some(certificate)),
        PathError::BadIssuer { certificate, .. } => (&rules::NOT_AN_ISSUER, Some(certificate)),
        PathError::WeakKey { certificate, .. } => (&rules::WEAK_RSA, Some(certificate)),
        other => (&rules::BROKEN_CHAIN, other.certificate()),
    }
}

/// An issuer may have ended beside its renewal: the chain holds without it.
fn unused(found: &mut Found, file: &FileFacts) {
    let now = found.now;
    for certificate in file.ordered().skip(1).filter(|certificate| now > certificate.life.not_after.0) {
        let message = format!("{}; the chain holds without it", expired(certificate, Timestamp(now)));
        found.warning(&rules::EXPIRED, At::certificate(file, certificate), message);
    }
}

/// What works today, and should be changed.
fn drift(found: &mut Found, file: &FileFacts, leaf: &CertificateFacts) {
    let (name, at) = (&leaf.facts.name, At::certificate(file, leaf));
    if leaf.kind == Kind::Leaf && leaf.life.whole() > LONGEST_LEAF + BACKDATING {
        let hours = leaf.life.whole() / 3600;
        found.warning(&rules::LONG_LIVED_LEAF, at, format!("the leaf {name} lives for {hours} h, more than 72 h"));
    }
    if let Some(bits) = leaf.facts.rsa_bits.filter(|_| leaf.facts.weak_rsa_bits.is_none()) {
        found.warning(&rules::RSA_LEAF, at, format!("the leaf {name} has an RSA key of {bits} bits"));
    }
    for certificate in file.ordered().filter(|certificate| certificate.kind == Kind::Intermediate) {
        bundle::path_length(found, file, certificate);
    }
    name_constraints(found, file);
    for certificate in file.ordered() {
        little_life_left(found, file, certificate);
    }
    if let Some(disorder) = &file.disorder {
        let at = At::path(&file.path);
        found.warning(&rules::CHAIN_OUT_OF_ORDER, at, format!("the file is put right before use: {disorder}"));
    }
    if file.encoding == Some(Encoding::Der) {
        let message = "the certificate is in DER, and the sidecar reads identities as PEM";
        found.warning(&rules::NOT_PEM, At::path(&file.path), message);
    }
}

/// From the top down: an issuer is held by what holds the one above it.
fn name_constraints(found: &mut Found, file: &FileFacts) {
    let intermediates: Vec<_> = file.ordered().filter(|certificate| certificate.kind == Kind::Intermediate).collect();
    for certificate in intermediates.into_iter().rev() {
        let constraints = certificate.name_constraints.as_ref();
        if constraints.is_some_and(|constraints| constraints.permitted.iter().any(|name| name.kind == "URI")) {
            return;
        }
        let what = match constraints {
            None => "has no name constraints",
            Some(_) => "has name constraints without a permitted URI subtree",
        };
        let message = format!(
            "the intermediate {} {what}: where one root signs dev and prod and is the anchor, whoever holds the dev intermediate can issue prod identities",
            certificate.facts.name
        );
        found.warning(&rules::NO_NAME_CONSTRAINTS, At::certificate(file, certificate), message);
    }
}

fn little_life_left(found: &mut Found, file: &FileFacts, certificate: &CertificateFacts) {
    let (begin, end) = (certificate.life.not_before.0.as_secs(), certificate.life.not_after.0.as_secs());
    let late_from = end.saturating_sub(end.saturating_sub(begin) / 4);
    if (late_from..=end).contains(&found.now.as_secs()) {
        let (name, life) = (&certificate.facts.name, &certificate.life);
        let message = format!("{name} has {} % of its life left and ends at {}", life.percent_left, life.not_after);
        found.warning(&rules::LITTLE_LIFE_LEFT, At::certificate(file, certificate), message);
    }
}

/// What the estate's leaves live for at most.
const LONGEST_LEAF: u64 = 72 * 60 * 60;

/// Issuers set the beginning back by seconds to minutes, for clocks that are late.
const BACKDATING: u64 = 10 * 60;
