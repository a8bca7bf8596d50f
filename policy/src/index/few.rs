//! A few things in an array, or too many: nothing is allocated for those, they are looked up again.

/// Up to eight; an identity is seldom in more groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Few<T> {
    held: [T; MOST],
    count: usize,
}

impl<T: Copy + Default> Default for Few<T> {
    fn default() -> Self {
        Self { held: [T::default(); MOST], count: 0 }
    }
}

impl<T> Few<T> {
    pub(super) fn push(&mut self, one: T) {
        if let Some(place) = self.held.get_mut(self.count) {
            *place = one;
        }
        self.count = self.count.saturating_add(1);
    }

    /// All that were pushed; `None` if those were too many.
    pub(super) fn all(&self) -> Option<&[T]> {
        self.held.get(..self.count)
    }
}

const MOST: usize = 8;
