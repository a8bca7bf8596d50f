//! Findings that no path shows by itself: anchors that several trust domains share, a bundle that copies a `ca.crt`.

use std::collections::BTreeMap;

use super::{At, Found, rules};
use crate::inspect::{CertificateFacts, FileFacts, Inspection, Purpose};

pub(super) fn judge(found: &mut Found, inspections: &[Inspection]) {
    shared_anchors(found, inspections);
    copies_of_ca_crt(found, inspections);
}

/// By key, since one root may have several certificates.
fn shared_anchors(found: &mut Found, inspections: &[Inspection]) {
    let mut owners: BTreeMap<&[u8], Vec<(&str, &FileFacts, &CertificateFacts)>> = BTreeMap::new();
    for inspection in inspections {
        let Some(trust_domain) = &inspection.trust_domain else { continue };
        for (file, certificate) in anchors(inspection) {
            let known = owners.entry(certificate.facts.public_key.as_slice()).or_default();
            if !known.iter().any(|(domain, ..)| *domain == trust_domain.as_str()) {
                known.push((trust_domain.as_str(), file, certificate));
            }
        }
    }
    for sharing in owners.values().filter(|sharing| sharing.len() > 1) {
        let Some((_, file, certificate)) = sharing.last() else { continue };
        let domains: Vec<_> = sharing.iter().map(|(domain, ..)| format!("`{domain}`")).collect();
        let message = format!(
            "the anchor {} is in the bundles of {}: an intermediate of one of them can sign identities of the others, unless name constraints forbid it",
            certificate.facts.name,
            domains.join(", ")
        );
        found.warning(&rules::SHARED_ANCHOR, At::certificate(file, certificate), message);
    }
}

fn copies_of_ca_crt(found: &mut Found, inspections: &[Inspection]) {
    let secrets = inspections.iter().filter(|inspection| inspection.purpose == Purpose::Secret);
    for authority in secrets.filter_map(|secret| secret.files.get(1)) {
        let bundles = inspections.iter().filter(|found| found.purpose == Purpose::Bundle && !found.beside_identity);
        for bundle in bundles {
            if fingerprints(bundle.files.iter()) == fingerprints([authority].into_iter()) {
                let message = format!(
                    "it holds exactly the certificates of `{}`: should it be a copy of that, it will not have the old and the new root together when the root changes",
                    authority.path
                );
                found.note(&rules::CA_CRT_AS_TRUST, At::path(&bundle.path), message);
            }
        }
    }
}

fn anchors(inspection: &Inspection) -> impl Iterator<Item = (&FileFacts, &CertificateFacts)> {
    let all = inspection.files.iter().flat_map(|file| file.certificates.iter().map(move |found| (file, found)));
    all.filter(|(_, certificate)| certificate.facts.issuer_fault.is_none())
}

fn fingerprints<'a>(files: impl Iterator<Item = &'a FileFacts>) -> Vec<&'a str> {
    let mut all: Vec<_> = files.flat_map(|file| &file.certificates).map(|found| found.sha256.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    all
}
