//! What a certificate costs beside the handshake's own signatures.

use std::sync::Arc;

use portcullis_certs_watcher::certificate::Certificate;
use portcullis_certs_watcher::{Role, Trust, svid, verify_peer};
use rustls_pki_types::UnixTime;

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

/// A client's chain from DER to a proven peer: two signatures to verify, of the leaf and of the intermediate.
pub fn verify() -> Result<Work, Failure> {
    // The time of a verification depends on the numbers in the signature, so several take turns.
    let meshes = (0..CHAINS).map(|_| Mesh::new()).collect::<Result<Vec<_>, _>>()?;
    let cases = meshes.iter().map(|mesh| Ok((mesh.api.trust(), Arc::clone(mesh.caller.material()?.chain()))));
    let cases = cases.collect::<Result<Vec<_>, Failure>>()?;
    let mut turns = cases.into_iter().cycle();
    let now = UnixTime::now();
    Ok(Work::whole(move || {
        let (trust, chain) = turns.next().ok_or(Failure::Wrong("there is no chain"))?;
        Ok(verify_peer(&Trust::new(trust.bundles().cloned()), Role::Client, &chain, now)?)
    }))
}

/// Enough to even out the numbers of single signatures.
const CHAINS: usize = 16;
