//! What all sources hold at one moment, before anything of it is judged.
//!
//! Sources may share a volume: `ca.crt` beside `tls.crt`, a CRL beside its bundle. Each is read whole for itself; if a
//! volume is swapped between two of them, all are read again, so that they are of one generation. What a Workload API
//! delivers is of one message.

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use spiffe::TrustDomain;

use crate::agents::Agents;
use crate::feed::{Found, Read, Refusal};
use crate::intake::Standing;
use crate::sources::{BundleSource, IdentitySource, Sources, TrustSource};
use crate::volume::{self, BundleFiles, Digest, IdentityFiles, Layout, VolumeError};
use crate::workload_api::{Choice, Endpoint, NoSvid, Report};

/// What all sources hold.
pub(super) struct Reading {
    pub(super) identity: Read<IdentityContent>,
    /// In the order of [`Sources::trust`].
    pub(super) domains: Vec<DomainReading>,
    pub(super) deny_list: Read<BundleFiles>,
}

/// What the sources of one trust domain hold.
pub(super) struct DomainReading {
    pub(super) bundle: Read<BundleContent>,
    pub(super) lists: Read<Lists>,
}

/// A chain and a key.
pub(super) enum IdentityContent {
    Files(IdentityFiles),
    Delivered { report: Report, choice: Choice },
}

/// Anchors.
pub(super) enum BundleContent {
    Files(BundleFiles),
    Certificates(Arc<[CertificateDer<'static>]>),
}

/// Revocation lists, from files and from a message.
pub(super) struct Lists {
    pub(super) files: Option<BundleFiles>,
    pub(super) delivered: Arc<[CertificateRevocationListDer<'static>]>,
}

impl Reading {
    pub(super) fn of(sources: &Sources, agents: &Agents) -> Self {
        let generations = || -> Vec<PathBuf> { sources.paths().map(|path| volume::generation_of(path)).collect() };
        settled(generations, || Self::once(sources, agents))
    }

    fn once(sources: &Sources, agents: &Agents) -> Self {
        Self {
            identity: read_identity(&sources.identity, agents),
            domains: sources.trust.iter().map(|source| DomainReading::once(source, agents)).collect(),
            deny_list: sources.deny_list.as_ref().map(|source| found(volume::read_single(&source.path))),
        }
    }
}

impl DomainReading {
    fn once(source: &TrustSource, agents: &Agents) -> Self {
        let bundle = match &source.bundle {
            BundleSource::Path(path) => Some(volume::read_bundle(path).map_err(|error| unread(&error)).map(|files| {
                Found { digest: files.digest, layout: files.layout, content: BundleContent::Files(files) }
            })),
            BundleSource::WorkloadApi(endpoint) => delivered_bundle(&source.trust_domain, endpoint, agents),
        };
        Self { bundle, lists: read_lists(source, agents) }
    }
}

/// Reads again for as long as the generations change under it, within reason.
fn settled<G: PartialEq, T>(generations: impl Fn() -> G, mut read: impl FnMut() -> T) -> T {
    let mut before = generations();
    for _ in 1..MAX_ATTEMPTS {
        let reading = read();
        let after = generations();
        if after == before {
            return reading;
        }
        before = after;
    }
    read()
}

fn read_identity(source: &IdentitySource, agents: &Agents) -> Read<IdentityContent> {
    match source {
        IdentitySource::Directory(path) => {
            let files = volume::read_identity(path).map_err(|error| unread(&error));
            Some(files.map(|files| Found {
                digest: files.digest,
                layout: files.layout,
                content: IdentityContent::Files(files),
            }))
        }
        IdentitySource::WorkloadApi { endpoint, choice } => {
            let report = agents.report(endpoint)?;
            let svid = match report.svid(choice) {
                Ok(svid) => svid,
                Err(NoSvid::NothingYet) => return nothing_yet(endpoint, agents),
                Err(error) => {
                    let standing = if error.revokes() { Standing::Withdrawn } else { Standing::Stays };
                    return Some(Err(Refusal { standing, ..Refusal::new(error.label(), &error) }));
                }
            };
            let key = svid.key.der();
            let parts = svid.chain.iter().map(AsRef::as_ref).chain([key.secret_pkcs8_der()]);
            Some(Ok(Found {
                digest: Digest::of_parts(parts),
                layout: Layout::Swapped,
                content: IdentityContent::Delivered { report: report.clone(), choice: choice.clone() },
            }))
        }
    }
}

/// A message is the full state: a trust domain that is not in it has no anchor any longer.
fn delivered_bundle(trust_domain: &TrustDomain, endpoint: &Endpoint, agents: &Agents) -> Read<BundleContent> {
    let Some(delivery) = agents.delivery(endpoint) else { return nothing_yet(endpoint, agents) };
    let certificates = delivery.bundles.get(trust_domain).cloned().unwrap_or_default();
    Some(Ok(Found {
        digest: Digest::of_parts(certificates.iter().map(AsRef::as_ref)),
        layout: Layout::Swapped,
        content: BundleContent::Certificates(certificates),
    }))
}

fn read_lists(source: &TrustSource, agents: &Agents) -> Read<Lists> {
    let files = match source.crl.as_ref().map(|path| volume::read_lists(path)) {
        Some(Err(error)) => return Some(Err(unread(&error))),
        Some(Ok(files)) => Some(files),
        None => None,
    };
    let delivered: Arc<[_]> = match source.bundle.endpoint() {
        Some(endpoint) => match agents.delivery(endpoint) {
            Some(delivery) => delivery.crls.clone(),
            // What is wrong then is told of the bundle.
            None => return None,
        },
        None => Arc::default(),
    };
    let of_files = files.as_ref().map(|files| files.digest.as_bytes());
    let digest = Digest::of_parts(of_files.into_iter().chain(delivered.iter().map(AsRef::as_ref)));
    let layout = files.as_ref().map_or(Layout::Swapped, |files| files.layout);
    (files.is_some() || source.bundle.endpoint().is_some()).then_some(Ok(Found {
        digest,
        layout,
        content: Lists { files, delivered },
    }))
}

/// Whoever has not spoken yet is at fault only once something has gone wrong.
fn nothing_yet<C>(endpoint: &Endpoint, agents: &Agents) -> Read<C> {
    let problem = agents.report(endpoint)?.problem.as_ref()?;
    let place = format!("`{endpoint}`");
    Some(Err(Refusal::new(problem.label(), problem.as_ref()).at(place)))
}

fn found(files: Result<BundleFiles, VolumeError>) -> Result<Found<BundleFiles>, Refusal> {
    let files = files.map_err(|error| unread(&error))?;
    Ok(Found { digest: files.digest, layout: files.layout, content: files })
}

fn unread(error: &VolumeError) -> Refusal {
    Refusal::new(error.label(), error)
}
/// A swap during one read is rare, during the next one too is a test; then each source is still whole for itself, and
/// the announcement of the swap brings the next pass.
const MAX_ATTEMPTS: usize = 4;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_was_swapped_under_a_read_is_read_again() {
        let check = |swaps: u32, reads: u32| {
            let (generation, made) = (Cell::new(0_u32), Cell::new(0_u32));
            let read = settled(
                || generation.get(),
                || {
                    made.set(made.get() + 1);
                    let first = generation.get();
                    generation.set((first + 1).min(swaps));
                    (first, generation.get())
                },
            );
            assert_eq!(made.get(), reads, "{swaps} swaps");
            assert!(read.0 == read.1 || swaps >= reads, "{swaps} swaps gave a mixture: {read:?}");
        };
        check(0, 1);
        check(1, 2);
        check(2, 3);
        // It ends, and the next pass begins with the announcement of the last swap.
        check(100, 4);
    }
}
