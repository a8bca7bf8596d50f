//! What all sources hold at one moment, before anything of it is judged.
//!
//! Sources may share a volume: `ca.crt` beside `tls.crt`, a CRL beside its bundle. Each is read whole for itself; if a
//! volume is swapped between two of them, all are read again, so that they are of one generation.

use std::path::PathBuf;

use crate::feed::{Found, Refusal};
use crate::sources::{Sources, TrustSource};
use crate::volume::{self, BundleFiles, IdentityFiles, VolumeError};

/// What all sources hold.
pub(super) struct Reading {
    pub(super) identity: Result<Found<IdentityFiles>, Refusal>,
    /// In the order of [`Sources::trust`].
    pub(super) domains: Vec<DomainReading>,
    /// None if no deny list is configured.
    pub(super) deny_list: Option<Files>,
}

/// What the sources of one trust domain hold.
pub(super) struct DomainReading {
    pub(super) bundle: Files,
    /// None if no revocation lists are configured.
    pub(super) lists: Option<Files>,
}

/// The files of one source.
pub(super) type Files = Result<Found<BundleFiles>, Refusal>;

impl Reading {
    pub(super) fn of(sources: &Sources) -> Self {
        let generations =
            || -> Vec<Option<PathBuf>> { sources.paths().map(|path| volume::generation_of(path)).collect() };
        settled(generations, || Self::once(sources))
    }

    fn once(sources: &Sources) -> Self {
        Self {
            domains: sources.trust.iter().map(DomainReading::once).collect(),
            deny_list: sources.deny_list.as_ref().map(|source| found(volume::read_single(&source.path))),
            identity: match volume::read_identity(&sources.identity) {
                Ok(files) => Ok(Found { digest: files.digest, layout: files.layout, content: files }),
                Err(error) => Err(unread(&error)),
            },
        }
    }
}

impl DomainReading {
    fn once(source: &TrustSource) -> Self {
        Self {
            bundle: found(volume::read_bundle(&source.bundle)),
            lists: source.crl.as_ref().map(|path| found(volume::read_lists(path))),
        }
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

fn found(files: Result<BundleFiles, VolumeError>) -> Files {
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
