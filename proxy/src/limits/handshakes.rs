//! `limits.handshakes`: inbound handshakes under way, refused ones among them whose caller still has to read why.
//!
//! When all places are taken, the place of whoever has done least is given to the newest: first one that was refused already,
//! then the oldest without a complete ClientHello. So connections that say nothing, which cost their sender nothing, cannot
//! keep others out; only where all are at work is the newest refused.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::telemetry::episode::Episode;

/// All places.
#[derive(Debug)]
pub struct Handshakes {
    most: usize,
    state: Mutex<State>,
    /// The refusals for this limit.
    pub episode: Arc<Episode>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    next: u64,
    /// Those that give way, in their order.
    give_way: BTreeMap<(Stage, u64), Arc<Displaced>>,
}

/// How far someone has come who would give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Refused; what is left is to read what still comes, so that the alert is not lost.
    Refused,
    /// No complete ClientHello has come.
    Silent,
}

#[derive(Debug, Default)]
struct Displaced {
    is: AtomicBool,
    told: Notify,
}

/// The place of one handshake, free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    handshakes: Arc<Handshakes>,
    number: u64,
    displaced: Arc<Displaced>,
}

/// All places are taken by handshakes at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

impl Handshakes {
    /// So many places.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default(), episode: Episode::new("handshakes", "inbound") })
    }

    /// Takes a place, if need be that of another one, which is told.
    ///
    /// # Errors
    /// When all are taken, and by handshakes that have got further.
    pub fn enter(self: &Arc<Self>) -> Result<Place, NoPlace> {
        let displaced = Arc::<Displaced>::default();
        let mut state = self.lock();
        if state.taken < self.most {
            state.taken += 1;
        } else {
            let (_, other) = state.give_way.pop_first().ok_or(NoPlace)?;
            other.is.store(true, Ordering::Relaxed);
            other.told.notify_one();
        }
        let number = state.next;
        state.next += 1;
        state.give_way.insert((Stage::Silent, number), Arc::clone(&displaced));
        drop(state);
        Ok(Place { handshakes: Arc::clone(self), number, displaced })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The ClientHello is complete: from here on it gives way to nobody.
    pub fn heard(&self) {
        self.handshakes.lock().give_way.remove(&(Stage::Silent, self.number));
    }

    /// The handshake was refused: what is left of it gives way to everybody.
    pub fn refused(&self) {
        let mut state = self.handshakes.lock();
        state.give_way.remove(&(Stage::Silent, self.number));
        if !self.displaced.is.load(Ordering::Relaxed) {
            state.give_way.insert((Stage::Refused, self.number), Arc::clone(&self.displaced));
        }
    }

    /// Resolves when the place has gone to another one.
    pub async fn displaced(&self) {
        self.displaced.told.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.handshakes.lock();
        for stage in [Stage::Refused, Stage::Silent] {
            state.give_way.remove(&(stage, self.number));
        }
        if !self.displaced.is.load(Ordering::Relaxed) {
            state.taken -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these have been displaced.
    fn displaced(places: &[Place]) -> Vec<usize> {
        let is = |place: &Place| place.displaced.is.load(Ordering::Relaxed);
        places.iter().enumerate().filter(|(_, place)| is(place)).map(|(index, _)| index).collect()
    }

    #[tokio::test]
    async fn whoever_has_done_least_gives_way_and_the_oldest_of_them_first() {
        let handshakes = Handshakes::new(5);
        let mut places: Vec<_> = (0..5).map(|_| handshakes.enter().unwrap()).collect();
        places[0].heard();
        places[3].refused();
        for expected in [vec![3], vec![1, 3], vec![1, 2, 3], vec![1, 2, 3, 4]] {
            places.push(handshakes.enter().unwrap());
            assert_eq!(displaced(&places), expected);
        }
        places[4].displaced().await;
        // A handshake that is refused after it was heard.
        places[5..].iter().for_each(Place::heard);
        assert_eq!(handshakes.enter().err(), Some(NoPlace));
        places[0].refused();
        places.push(handshakes.enter().unwrap());
        assert_eq!(displaced(&places), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn every_place_comes_back_once() {
        let handshakes = Handshakes::new(3);
        for _ in 0..100 {
            let places: Vec<_> = (0..10).map(|_| handshakes.enter().unwrap()).collect();
            assert_eq!(displaced(&places).len(), 7);
            // Too late for these: their places are gone.
            places[0].heard();
            places[1].refused();
            assert_eq!(handshakes.lock().taken, 3);
        }
        let state = handshakes.lock();
        assert_eq!((state.taken, state.give_way.len()), (0, 0));
    }
}
