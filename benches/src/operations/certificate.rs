//! What a certificate costs beside the handshake's own signatures.

use std::sync::Arc;

use portcullis_certs_watcher::certificate::Certificate;
use portcullis_certs_watcher::{Bundle, Role, Trust, svid, verify_peer};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::mesh::Mesh;
use super::{Failure, Work};

/// A leaf from DER to its SPIFFE ID.
pub fn parse() -> Result<Work, Failure> {
    let mesh = Mesh::new()?;
    let chain = Arc::clone(mesh.caller.material()?.chain());
    let leaf = chain.first().cloned().ok_or(Failure::Wrong("the chain is empty"))?;
    Ok(Work::whole(move || {
        let id = svid::spiffe_id(&Certificate::parse(&leaf)?)?;
        if id == mesh.caller.id { Ok(id) } else { Err(Failure::Wrong("another identity")) }
    }))
}

/// A client's chain from DER to a proven peer under a trust that has not seen it. `anchors` says where its path ends.
pub fn verify_cold(anchors: Anchors) -> Result<Work, Failure> {
    let mut turns = cases(anchors)?.into_iter().cycle();
    let now = UnixTime::now();
    Ok(Work::whole(move || {
        let (bundle, chain) = turns.next().ok_or(Failure::Wrong("there is no chain"))?;
        // A trust that was just made remembers nothing; making it is a hundredth of what is measured.
        Ok(verify_peer(&Trust::new([bundle]), Role::Client, &chain, now)?)
    }))
}

/// The same chains again and again under one trust, as callers come back while nothing is swapped.
pub fn verify_warm(anchors: Anchors) -> Result<Work, Failure> {
    let now = UnixTime::now();
    let seen = |(bundle, chain): Case| {
        let trust = Trust::new([bundle]);
        verify_peer(&trust, Role::Client, &chain, now)?;
        Ok((trust, chain))
    };
    let cases = cases(anchors)?.into_iter().map(seen).collect::<Result<Vec<_>, Failure>>()?;
    let mut next = 0;
    Ok(Work::whole(move || {
        let (trust, chain) = cases.get(next).ok_or(Failure::Wrong("there is no chain"))?;
        next = (next + 1) % cases.len();
        Ok(verify_peer(trust, Role::Client, chain, now)?)
    }))
}

/// Where a path of leaf, intermediate and root ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchors {
    /// At the intermediate: one signature, of the leaf.
    Intermediate,
    /// At the root: two signatures, of leaf and intermediate.
    Root,
}

type Case = (Arc<Bundle>, Arc<[CertificateDer<'static>]>);

/// Several chains, each with the bundle that it leads to: the time of a verification depends on the numbers in the
/// signature, so they take turns.
fn cases(anchors: Anchors) -> Result<Vec<Case>, Failure> {
    let case = |_| {
        let mesh = Mesh::new()?;
        let chain = Arc::clone(mesh.caller.material()?.chain());
        let domain = mesh.caller.id.trust_domain();
        let bundle = match anchors {
            Anchors::Root => mesh.api.trust().bundle(domain).cloned(),
            Anchors::Intermediate => {
                let intermediate = chain.get(1).cloned().ok_or(Failure::Wrong("the chain has no intermediate"))?;
                Some(Arc::new(Bundle::from_certificates(domain, &[intermediate])?))
            }
        };
        Ok((bundle.ok_or(Failure::Wrong("there is no bundle"))?, chain))
    };
    (0..CHAINS).map(case).collect()
}

/// Enough to even out the numbers of single signatures.
const CHAINS: usize = 16;
