//! Room for one more connection: the limits on their number, asked before there is anything to enter.
//!
//! Room is kept apart from the entry because a tunnel must have it before its upstream agrees, and must not have it otherwise.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use portcullis_certs_watcher::Peer;

use super::{Connections, Entry, Opened, Registered, Table};
use crate::telemetry::metrics::Direction;

/// Room in the registry for one connection; given back when this is dropped without having been entered.
#[derive(Debug)]
pub struct Room {
    connections: Arc<Connections>,
    direction: Direction,
    caller: Option<Arc<Peer>>,
    is_entered: bool,
}

/// Why a new connection was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// `limits.connections` is reached.
    #[error("`limits.connections` is reached")]
    Connections,
    /// `limits.connectionsPerIdentity` is reached for this peer.
    #[error("`limits.connectionsPerIdentity` is reached for this caller")]
    PerIdentity,
}

impl Full {
    /// The word for the limit on all.
    pub const CONNECTIONS: &'static str = "too_many_connections";
    /// The word for the limit on one caller.
    pub const PER_IDENTITY: &'static str = "too_many_connections_of_identity";

    /// The fixed word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connections => Self::CONNECTIONS,
            Self::PerIdentity => Self::PER_IDENTITY,
        }
    }
}

/// Where a tunnel is, seen from the connection that it was asked for on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of its streams.
    Beside,
    /// All of it.
    Instead,
}

impl Connections {
    /// Keeps room for a connection of which it is not known yet whether it comes to be.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub fn reserve(self: &Arc<Self>, direction: Direction, peer: Option<&Arc<Peer>>) -> Result<Room, Full> {
        let mut table = self.lock();
        if self.limit != 0 {
            // A storm from the mesh must not keep our own application from calling out.
            let for_inbound = self.limit - self.limit / OUTBOUND_SHARE;
            let is_full = match direction {
                Direction::Inbound => table.inbound >= for_inbound,
                Direction::Outbound => false,
            };
            if is_full || table.inbound + table.outbound >= self.limit {
                return Err(Full::Connections);
            }
        }
        let caller = peer.filter(|_| direction == Direction::Inbound);
        if self.limit_per_identity != 0
            && caller.and_then(|peer| table.by_caller.get(&peer.id)).is_some_and(|of| *of >= self.limit_per_identity)
        {
            return Err(Full::PerIdentity);
        }
        Ok(self.keep(&mut table, direction, caller))
    }

    /// Room for a connection that takes the place of one which leaves: no limit is asked, since for a moment both are there.
    pub fn replace(self: &Arc<Self>, direction: Direction, peer: Option<&Arc<Peer>>) -> Room {
        self.keep(&mut self.lock(), direction, peer.filter(|_| direction == Direction::Inbound))
    }

    fn keep(self: &Arc<Self>, table: &mut Table, direction: Direction, caller: Option<&Arc<Peer>>) -> Room {
        *table.of(direction) += 1;
        if let Some(peer) = caller {
            *table.by_caller.entry(peer.id.clone()).or_insert(0) += 1;
        }
        Room { connections: Arc::clone(self), direction, caller: caller.map(Arc::clone), is_entered: false }
    }
}

impl Registered {
    /// Room for a tunnel that a request on this connection asks for. One over HTTP/2 is there beside its connection, one over
    /// HTTP/1.1 in its stead.
    ///
    /// # Errors
    /// When a limit is reached.
    pub fn room_for_tunnel(&self, place: Place) -> Result<Room, Full> {
        let Opened { direction, ref peer, .. } = self.entry.opened;
        match place {
            Place::Beside => self.connections.reserve(direction, peer.as_ref()),
            Place::Instead => Ok(self.connections.replace(direction, peer.as_ref())),
        }
    }
}

impl Room {
    /// Enters the connection that it was kept for: one of the same direction and peer.
    pub fn enter(mut self, opened: Opened) -> Registered {
        // From here on it is the entry's to give back.
        self.is_entered = true;
        let connections = Arc::clone(&self.connections);
        let direction = opened.direction;
        let id = connections.next_id.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry::new(id, opened));
        connections.lock().open.insert(id, Arc::clone(&entry));
        connections.note(&entry);
        connections.metrics.of(direction).connections.increment(1.0);
        Registered { entry, connections }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !self.is_entered {
            self.connections.lock().give_back(self.direction, self.caller.as_ref());
            self.connections.left.notify_waiters();
        }
    }
}

impl Table {
    pub(super) fn of(&mut self, direction: Direction) -> &mut usize {
        match direction {
            Direction::Inbound => &mut self.inbound,
            Direction::Outbound => &mut self.outbound,
        }
    }

    pub(super) fn give_back(&mut self, direction: Direction, caller: Option<&Arc<Peer>>) {
        *self.of(direction) -= 1;
        if let Some(peer) = caller
            && let Some(of_caller) = self.by_caller.get_mut(&peer.id)
        {
            *of_caller -= 1;
            if *of_caller == 0 {
                self.by_caller.remove(&peer.id);
            }
        }
    }
}

/// Outbound connections have this part of `limits.connections` for themselves: one of so many.
const OUTBOUND_SHARE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::{Carries, Generation};
    use crate::telemetry::metrics::Metrics;

    fn opened(direction: Direction) -> Opened {
        Opened {
            direction,
            carries: Carries::Tcp,
            peer: None,
            address: "127.0.0.1:1".parse().unwrap(),
            port: 1,
            called: None,
            answerers: None,
            opening: None,
            own: None,
            generation: Generation::default(),
        }
    }

    #[test]
    fn a_storm_from_the_mesh_leaves_an_eighth_to_our_own_calls() {
        let connections = Arc::new(Connections::new(16, 0, Arc::new(Metrics::new())));
        let enter = |direction| connections.enter(opened(direction));
        let mut kept: Vec<_> = (0..14).map(|_| enter(Direction::Inbound).unwrap()).collect();
        assert_eq!(enter(Direction::Inbound).err(), Some(Full::Connections));
        kept.extend((0..2).map(|_| enter(Direction::Outbound).unwrap()));
        assert_eq!(enter(Direction::Outbound).err(), Some(Full::Connections));
        // The other way round nothing is kept: who calls out too often is our own application.
        kept.clear();
        kept.extend((0..16).map(|_| enter(Direction::Outbound).unwrap()));
        assert_eq!(enter(Direction::Inbound).err(), Some(Full::Connections));
    }

    #[test]
    fn room_that_is_kept_counts_and_comes_back() {
        let connections = Arc::new(Connections::new(2, 0, Arc::new(Metrics::new())));
        let reserve = || connections.reserve(Direction::Outbound, None);
        let (first, second) = (reserve().unwrap(), reserve().unwrap());
        assert_eq!((reserve().err(), connections.count(Direction::Outbound)), (Some(Full::Connections), 2));
        drop(first);
        let entered = second.enter(opened(Direction::Outbound));
        assert_eq!((connections.count(Direction::Outbound), connections.snapshot().len()), (1, 1));
        let instead = connections.replace(Direction::Outbound, None);
        let more = connections.replace(Direction::Outbound, None);
        assert_eq!(connections.count(Direction::Outbound), 3, "no limit is asked");
        drop((entered, instead, more));
        assert_eq!((connections.count(Direction::Outbound), connections.snapshot().len()), (0, 0));
    }
}
