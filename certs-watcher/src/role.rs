//! On which side of a connection a peer is.

/// On which side of the connection the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It called us: `client auth` is needed.
    Client,
    /// We called it: `server auth` is needed.
    Server,
}

impl Role {
    /// The extended key usage that is needed, as cert-manager writes it.
    pub fn usage(self) -> &'static str {
        match self {
            Self::Client => "client auth",
            Self::Server => "server auth",
        }
    }
}
