//! Free ports on loopback.
//!
//! The system chooses them, and they are given back before a proxy takes them: somebody may be faster. So the start of a
//! proxy is tried more than once.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// So many different ports that were free a moment ago.
///
/// # Errors
/// When the system has none.
pub fn free<const N: usize>() -> io::Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        // Held until all are known, so that they differ.
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_differ_and_can_be_taken() {
        let [one, two, three] = free::<3>().unwrap();
        assert!(one != two && two != three && one != three);
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, two)).is_ok());
    }
}
