//! The path from a leaf to an anchor of one bundle.
//!
//! webpki builds it and checks signatures, validity, basic constraints, path lengths, extended key usage and the name
//! constraints that it knows. What it never looks at is checked here, on each path that it finds and before it settles on
//! one: key usage and RSA sizes of issuers, validity, path length and purpose of anchors, URI name constraints,
//! revocation.
//!
//! An issuer with URI constraints is given to webpki as an anchor without them, since webpki refuses every SVID below
//! such an issuer. The path then goes on above it by `ca_path.rs`. A claimed constraint can only end webpki's part
//! sooner: whatever is above has to hold all the same.

use std::cell::{Cell, RefCell};

use rustls_pki_types::{CertificateDer, Der, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::bundle::{Anchor, Bundle};
use crate::ca_path::{Issuers, MAX_SIGNATURES};
use crate::certificate::{Certificate, Fingerprint, MalformedCertificate};
use crate::deny_list::CertificateKey;
use crate::name_constraints::{NameConstraints, UriConstraints};
use crate::path_error::PathError;
use crate::revocation::Link;
use crate::role::Role;
use crate::trust::Trust;

/// A path that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The first instant at which all of it is valid, anchor included.
    pub not_before: UnixTime,
    /// The last instant at which all of it is valid, anchor included; where a late CRL is fatal, its end too.
    pub not_after: UnixTime,
    /// SHA-256 of the anchor.
    pub anchor: Fingerprint,
    /// The certificates from the leaf up, and the anchor.
    pub(crate) keys: Vec<CertificateKey>,
}

/// Finds a path from the first certificate of `chain` to an anchor of `bundle`, by way of the others.
///
/// It judges issuers, signatures, times, constraints and revocation, and not who the leaf is: [`crate::verify_peer`] does
/// that, and bounds the chain before. Nothing here asks the deny list.
///
/// # Errors
/// If there is no such path that holds; of several failures, the last one that says more than that a way leads nowhere.
pub fn verify_path(
    trust: &Trust,
    bundle: &Bundle,
    role: Role,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<Path, PathError> {
    let parse =
        |(index, der)| Certificate::parse(der).map_err(|source| PathError::Malformed { position: index + 1, source });
    let certificates = chain.iter().map(|der| &**der).enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
    let mut constraints = vec![None];
    for certificate in certificates.iter().skip(1) {
        let read = NameConstraints::of(certificate)
            .map_err(|source| PathError::UnreadableConstraints { certificate: certificate.name(), source })?;
        constraints.push(read);
    }
    let issuers = Issuers {
        bundle,
        algorithms: trust.algorithms(),
        role,
        now,
        chain,
        certificates: &certificates,
        signatures: Cell::new(MAX_SIGNATURES),
    };
    let remembering = trust.signatures().remembering(trust.algorithms().all);
    let algorithms: Vec<_> = remembering.iter().map(|one| one as &dyn SignatureVerificationAlgorithm).collect();
    Search { trust, issuers, algorithms: &algorithms, constraints }.run()
}

struct Search<'s, 'c> {
    trust: &'s Trust,
    issuers: Issuers<'s, 'c>,
    /// For signatures of whoever is trusted; climbing looks at those of strangers too.
    algorithms: &'s [&'s dyn SignatureVerificationAlgorithm],
    /// In the order of the chain.
    constraints: Vec<Option<NameConstraints>>,
}

impl Search<'_, '_> {
    fn run(&self) -> Result<Path, PathError> {
        let split: Vec<usize> = (1..self.constraints.len()).filter(|index| self.uris(*index).is_some()).collect();
        let Some((leaf, rest)) = self.issuers.chain.split_first() else { return Err(PathError::NoPath) };
        if split.is_empty() {
            return self.ask_webpki(leaf, rest, self.issuers.bundle.for_webpki(), &[]);
        }
        // Whoever is not trusted may claim any constraints, and webpki would evaluate all of them on all names of the
        // leaf: a stranger could buy a quarter of a million comparisons for one small message. So the way up comes first.
        let mut failure = None;
        let mut trusted = Vec::with_capacity(split.len());
        for index in &split {
            match self.issuers.climb(*index, 0) {
                Ok(_) => trusted.push(*index),
                Err(error) => failure = Some(error),
            }
        }
        let mut anchors = self.issuers.bundle.for_webpki().to_vec();
        for index in &trusted {
            anchors.push(self.as_anchor(*index, self.others(*index)).map_err(|error| self.explained(error))?);
        }
        let rest: Vec<_> =
            (1..).zip(rest).filter(|(index, _)| !split.contains(index)).map(|(_, der)| der.clone()).collect();
        match (self.ask_webpki(leaf, &rest, &anchors, &trusted), failure) {
            // Why there is no way up says more than that there is none.
            (Err(PathError::UnknownIssuer { .. }), Some(failure)) => Err(failure),
            (found, _) => found,
        }
    }

    /// Lets webpki look for paths, and judges each that it finds. `split` are the certificates behind the last anchors.
    fn ask_webpki(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        anchors: &[TrustAnchor<'_>],
        split: &[usize],
    ) -> Result<Path, PathError> {
        let end_entity = EndEntityCert::try_from(leaf).map_err(|error| self.explained(error))?;
        // webpki goes on to the next path when we refuse one, and reports only an error of its own kind.
        let judged = RefCell::new(None);
        let judge = |path: &VerifiedPath<'_>| {
            let position = anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
            let judgement = position.ok_or(PathError::NoPath).and_then(|position| self.judge(path, position, split));
            let accepted = judgement.is_ok();
            let judgement = match (judged.take(), judgement) {
                (Some(Err(before)), Err(error)) => Err(PathError::or(before, error)),
                (_, judgement) => judgement,
            };
            judged.replace(Some(judgement));
            if accepted { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
        };
        let found = end_entity
            .verify_for_usage(
                self.algorithms,
                anchors,
                intermediates,
                self.issuers.now,
                self.usage(),
                None,
                Some(&judge),
            )
            .map(|_| ());
        match (found, judged.take()) {
            (Ok(()), Some(Ok(path))) => Ok(path),
            (_, Some(Err(error))) => Err(error),
            (Err(error), _) => Err(self.explained(error)),
            // webpki asks about every path before it accepts one. Should it ever not, that is no reason to believe it.
            (Ok(()), None) => Err(PathError::NoPath),
        }
    }

    /// Judges a path that holds in webpki's eyes and ends at the anchor at `position`.
    fn judge(&self, path: &VerifiedPath<'_>, position: usize, split: &[usize]) -> Result<Path, PathError> {
        let mut members = vec![0];
        for intermediate in path.intermediate_certificates() {
            let index = self.issuers.chain.iter().position(|der| *der == intermediate.der());
            members.push(index.ok_or(PathError::NoPath)?);
        }
        let shown_to_webpki = members.len();
        let anchors = self.issuers.bundle.anchors();
        let anchor = match anchors.get(position) {
            Some(anchor) => anchor,
            None => {
                let from = split.get(position - anchors.len()).ok_or(PathError::NoPath)?;
                let (above, anchor) = self.issuers.climb(*from, shown_to_webpki - 1)?;
                members.extend(above);
                anchor
            }
        };
        self.issuers.check_anchor(anchor, members.len() - 1)?;
        self.check_issuers(&members)?;
        self.check_uris(&members, anchor)?;
        self.check_other_names(&members, shown_to_webpki, anchor)?;
        let good_until = self.check_revocation(&members, anchor)?;
        Ok(self.path(&members, anchor, good_until))
    }

    fn check_issuers(&self, members: &[usize]) -> Result<(), PathError> {
        for certificate in members.iter().skip(1).filter_map(|index| self.issuers.certificates.get(*index)) {
            if let Some(fault) = certificate.issuer_fault() {
                return Err(PathError::BadIssuer { certificate: certificate.name(), fault });
            }
            if let Some(bits) = certificate.weak_rsa_bits() {
                return Err(PathError::WeakKey { certificate: certificate.name(), bits });
            }
        }
        Ok(())
    }

    /// The URI constraints of each issuer, on the URIs of everything below it.
    fn check_uris(&self, members: &[usize], anchor: &Anchor) -> Result<(), PathError> {
        for (place, index) in members.iter().enumerate().skip(1) {
            let (Some(uris), Some(issuer)) = (self.uris(*index), self.issuers.certificates.get(*index)) else {
                continue;
            };
            self.check_uris_below(members.get(..place).unwrap_or(members), uris, || issuer.name())?;
        }
        match anchor.constraints().and_then(NameConstraints::uris) {
            Some(uris) => self.check_uris_below(members, uris, || anchor.name.clone()),
            None => Ok(()),
        }
    }

    fn check_uris_below(
        &self,
        below: &[usize],
        uris: &UriConstraints,
        issuer: impl Fn() -> crate::CertificateName,
    ) -> Result<(), PathError> {
        for index in below {
            let Some(certificate) = self.issuers.certificates.get(*index) else { return Err(PathError::NoPath) };
            let names = certificate
                .uris()
                .ok_or(PathError::Malformed { position: index + 1, source: MalformedCertificate::Names })?;
            for uri in names {
                uris.judge(uri).map_err(|source| PathError::UriConstraints {
                    issuer: issuer(),
                    certificate: certificate.name(),
                    source: Box::new(source),
                })?;
            }
        }
        Ok(())
    }

    /// The other constraints of the issuers that webpki was not shown. It judges the certificates that it was shown once
    /// more for each of them; the issuers in between may then have no such names at all.
    fn check_other_names(&self, members: &[usize], shown: usize, anchor: &Anchor) -> Result<(), PathError> {
        let Some((split, above)) = members.get(shown..).and_then(<[usize]>::split_first) else { return Ok(()) };
        let of_anchor = anchor.constraints().and_then(NameConstraints::others);
        for (place, others) in above.iter().map(|index| self.others(*index)).chain([of_anchor]).enumerate() {
            let Some(others) = others else { continue };
            let between = members.get(shown..=shown + place).unwrap_or(members);
            for certificate in between.iter().filter_map(|index| self.issuers.certificates.get(*index)) {
                if certificate.has_names_other_than_uris() {
                    return Err(PathError::NameConstraints { certificate: certificate.name() });
                }
            }
            let shown: Vec<_> =
                members.get(..shown).unwrap_or(members).iter().filter_map(|i| self.issuers.chain.get(*i)).collect();
            let Some((leaf, intermediates)) = shown.split_first() else { return Err(PathError::NoPath) };
            let intermediates: Vec<_> = intermediates.iter().map(|der| (*der).clone()).collect();
            let anchors = [self.as_anchor(*split, Some(others)).map_err(|error| self.explained(error))?];
            EndEntityCert::try_from(*leaf)
                .and_then(|leaf| {
                    let algorithms = self.algorithms;
                    let (now, usage) = (self.issuers.now, self.usage());
                    leaf.verify_for_usage(algorithms, &anchors, &intermediates, now, usage, None, None).map(|_| ())
                })
                .map_err(|error| self.explained(error))?;
        }
        Ok(())
    }

    /// Until when all of the path counts as not revoked, if the lists set an end to that.
    fn check_revocation(&self, members: &[usize], anchor: &Anchor) -> Result<Option<UnixTime>, PathError> {
        let Some(revocation) = self.trust.revocation(self.issuers.bundle.trust_domain()) else { return Ok(None) };
        let mut good_until: Option<UnixTime> = None;
        for (position, index) in members.iter().enumerate() {
            let Some(certificate) = self.issuers.certificates.get(*index) else { return Err(PathError::NoPath) };
            let issuer = members.get(position + 1).and_then(|index| self.issuers.certificates.get(*index));
            let (issuer_key, issuer_signs_lists) = match issuer {
                Some(issuer) => (issuer.public_key(), issuer.signs_lists()),
                None => (anchor.public_key(), anchor.signs_lists()),
            };
            let link = Link { certificate, position, issuer_key, issuer_signs_lists };
            let until = revocation.good_until(&link, self.algorithms, self.issuers.now)?;
            good_until = [good_until, until].into_iter().flatten().min();
        }
        Ok(good_until)
    }

    fn path(&self, members: &[usize], anchor: &Anchor, good_until: Option<UnixTime>) -> Path {
        let certificates = || members.iter().filter_map(|index| self.issuers.certificates.get(*index));
        let not_before = certificates().map(Certificate::not_before).fold(anchor.not_before, Ord::max);
        let not_after = certificates().map(Certificate::not_after).chain(good_until).fold(anchor.not_after, Ord::min);
        let keys = certificates().map(Certificate::key).chain([anchor.key().clone()]).collect();
        Path { not_before, not_after, anchor: anchor.fingerprint, keys }
    }

    fn uris(&self, index: usize) -> Option<&UriConstraints> {
        self.constraints.get(index)?.as_ref()?.uris()
    }

    fn others(&self, index: usize) -> Option<&[u8]> {
        self.constraints.get(index)?.as_ref()?.others()
    }

    /// The issuer at `index` as an anchor with these constraints instead of its own.
    fn as_anchor(&self, index: usize, others: Option<&[u8]>) -> Result<TrustAnchor<'_>, webpki::Error> {
        let der = self.issuers.chain.get(index).ok_or(webpki::Error::UnknownIssuer)?;
        let mut anchor = webpki::anchor_from_trusted_cert(der)?;
        anchor.name_constraints = others.map(|content| Der::from(content.to_vec()));
        Ok(anchor.to_owned())
    }

    fn usage(&self) -> KeyUsage {
        match self.issuers.role {
            Role::Client => KeyUsage::client_auth(),
            Role::Server => KeyUsage::server_auth(),
        }
    }

    fn explained(&self, error: webpki::Error) -> PathError {
        let trust_domain = self.issuers.bundle.trust_domain().as_str();
        PathError::from_webpki(error, self.issuers.certificates, trust_domain, self.issuers.now)
    }
}

#[cfg(test)]
mod tests;
