//! Findings about trust bundles. The bundle is loaded as the sidecar loads it, and its own words are passed on.

use spiffe::TrustDomain;

use super::{At, Found, rules};
use crate::bundle::{Anchor, Bundle, TrustError};
use crate::explain::explain;
use crate::inspect::{CertificateFacts, Encoding, FileFacts, Inspection, Kind};
use crate::volume::BundleFiles;

pub(super) fn judge(found: &mut Found, inspection: &Inspection) {
    let at = At::path(&inspection.path);
    if inspection.beside_identity {
        let message = "it is the ca.crt of the identity's own Secret: a guess of the issuer, which changes only when the leaf is renewed and never holds the old and the new root together, so a change of root breaks calls";
        match inspection.trust_domain {
            Some(_) => found.warning(&rules::CA_CRT_AS_TRUST, at, message),
            // It may only be looked at.
            None => found.note(&rules::CA_CRT_AS_TRUST, at, message),
        }
    }
    for file in &inspection.files {
        judge_form(found, inspection, file);
    }
    let Some(files) = loadable(inspection) else { return };
    let Some(trust_domain) = inspection.trust_domain.clone().or_else(placeholder) else { return };
    match Bundle::load(&trust_domain, &files) {
        Ok(bundle) => judge_anchors(found, inspection, &bundle),
        Err(error @ TrustError::NoAnchor { .. }) => found.error(&rules::NO_USABLE_ANCHOR, at, explain(&error)),
        Err(error) => found.error(&rules::UNREADABLE, at, explain(&error)),
    }
}

/// What the sidecar would load, if nothing that was said before keeps it from that. Of a path that nobody called a bundle it
/// is only what looks like one: there may be revocation lists beside it.
fn loadable(inspection: &Inspection) -> Option<BundleFiles> {
    let readable = |file: &FileFacts| file.fault.is_none() && file.encoding != Some(Encoding::Der);
    let all = inspection.bundle.as_ref()?;
    if inspection.trust_domain.is_some() {
        return inspection.files.iter().all(readable).then(|| all.clone());
    }
    let is_json = |file: &FileFacts| file.encoding == Some(Encoding::Json);
    let usable = |file: &FileFacts| readable(file) && (!file.certificates.is_empty() || is_json(file));
    let pairs = all.files.iter().zip(&inspection.files);
    let files: Vec<_> = pairs.filter(|(_, facts)| usable(facts)).map(|(file, _)| file.clone()).collect();
    (!files.is_empty()).then(|| BundleFiles { files, ..all.clone() })
}

fn judge_form(found: &mut Found, inspection: &Inspection, file: &FileFacts) {
    if file.encoding == Some(Encoding::Der) && !file.certificates.is_empty() {
        let (at, message) = (At::path(&file.path), "the certificate is in DER, and the sidecar reads bundles as PEM");
        match inspection.trust_domain {
            Some(_) => found.error(&rules::NOT_PEM, at, message),
            None => found.warning(&rules::NOT_PEM, at, message),
        }
    }
    for certificate in &file.certificates {
        if certificate.kind == Kind::Intermediate {
            path_length(found, file, certificate);
        }
    }
}

/// Says so if an intermediate may sign further CAs without end.
pub(super) fn path_length(found: &mut Found, file: &FileFacts, certificate: &CertificateFacts) {
    let unlimited = certificate.basic_constraints.as_ref().is_some_and(|found| found.path_length.is_none());
    if unlimited && certificate.facts.issuer_fault.is_none() {
        let message = format!(
            "the intermediate {} has no path length: whoever holds its key can make any number of further CAs",
            certificate.facts.name
        );
        found.warning(&rules::NO_PATH_LENGTH, At::certificate(file, certificate), message);
    }
}

fn judge_anchors(found: &mut Found, inspection: &Inspection, bundle: &Bundle) {
    let now = found.now;
    for refused in bundle.refused() {
        let message = format!("{} is not used as an anchor, because {}", refused.name, refused.fault);
        found.warning(&rules::ANCHOR_REFUSED, by_name(inspection, &refused.name), message);
    }
    for anchor in bundle.anchors() {
        let at = by_fingerprint(inspection, anchor);
        match anchor.idle_because(now) {
            Some(reason) => {
                let message = format!("the anchor {} {reason} and is not used", anchor.name);
                found.warning(&rules::ANCHOR_NOT_VALID, at, message);
            }
            None if now.as_secs() >= near_end_from(anchor) => {
                let end = crate::Timestamp(anchor.not_after);
                let message = format!("the anchor {} ends at {end}: everything below it ends then", anchor.name);
                found.warning(&rules::ANCHOR_NEAR_END, at, message);
            }
            None => {}
        }
    }
    let at = At::path(&inspection.path);
    if bundle.anchors().is_empty() {
        found.warning(
            &rules::EMPTY_BUNDLE,
            at,
            "the SPIFFE bundle has no keys: nobody of its trust domain is believed",
        );
    } else if bundle.anchors().iter().all(|anchor| anchor.idle_because(now).is_some()) {
        found.error(&rules::NO_USABLE_ANCHOR, at, "none of its anchors is valid now, so nobody is believed");
    }
}

/// A quarter of its life, or 90 days if that is less: a root takes weeks to replace, and need not be nagged about for
/// years.
fn near_end_from(anchor: &Anchor) -> u64 {
    let (begin, end) = (anchor.not_before.as_secs(), anchor.not_after.as_secs());
    end.saturating_sub((end.saturating_sub(begin) / 4).min(NEAR_END_SECONDS))
}

fn by_fingerprint<'a>(inspection: &'a Inspection, anchor: &Anchor) -> At<'a> {
    let sha256 = anchor.fingerprint.to_string();
    find(inspection, |certificate| certificate.sha256 == sha256)
}

fn by_name<'a>(inspection: &'a Inspection, name: &crate::CertificateName) -> At<'a> {
    find(inspection, |certificate| certificate.facts.name == *name)
}

fn find(inspection: &Inspection, wanted: impl Fn(&CertificateFacts) -> bool) -> At<'_> {
    let mut all = inspection.files.iter().flat_map(|file| file.certificates.iter().map(move |found| (file, found)));
    match all.find(|(_, certificate)| wanted(certificate)) {
        Some((file, certificate)) => At::certificate(file, certificate),
        None => At::path(&inspection.path),
    }
}

/// Loading asks for a name, and nothing that is said here depends on it.
fn placeholder() -> Option<TrustDomain> {
    TrustDomain::new("unnamed").ok()
}

const NEAR_END_SECONDS: u64 = 90 * 24 * 60 * 60;
