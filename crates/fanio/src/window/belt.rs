//! Where the results lie between completion and emission.
//!
//! Ordered, it is a ring: the place of a sequence number is its distance from the oldest one that
//! was not emitted yet, so settling and emitting are O(1) without a search. Unordered, it is a
//! queue in the order of completion. Both grow on demand; the window above bounds their length.

use std::collections::VecDeque;

use super::Order;
use super::exit::Emitted;

/// The results of one window that were not emitted yet.
pub(super) enum Belt<T> {
    /// A place for each slot that was handed out and not emitted, by sequence.
    Ordered(VecDeque<Place<T>>),
    /// What was settled, in that order.
    Unordered(VecDeque<Emitted<T>>),
}

/// The place of one slot in the ring.
pub(super) enum Place<T> {
    /// The slot is out.
    Open,
    /// The slot was completed.
    Item(T),
    /// The slot was dropped.
    Gap,
}

impl<T> Belt<T> {
    /// An empty one; allocates nothing.
    pub(super) const fn new(order: Order) -> Self {
        match order {
            Order::Ordered => Self::Ordered(VecDeque::new()),
            Order::Unordered => Self::Unordered(VecDeque::new()),
        }
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> Self {
        match self {
            Self::Ordered(ring) => Self::Ordered(std::mem::take(ring)),
            Self::Unordered(queue) => Self::Unordered(std::mem::take(queue)),
        }
    }

    /// Makes a place for the next sequence number.
    pub(super) fn open(&mut self) {
        if let Self::Ordered(ring) = self {
            ring.push_back(Place::Open);
        }
    }

    /// Puts the result of `sequence` in its place; `first` is the oldest sequence number that was
    /// not emitted. Returns whether something can be emitted now that could not before.
    pub(super) fn settle(&mut self, sequence: u64, first: u64, value: Option<T>) -> bool {
        match self {
            Self::Ordered(ring) => {
                let distance = usize::try_from(sequence - first).expect("at most the capacity");
                ring[distance] = value.map_or(Place::Gap, Place::Item);
                distance == 0
            }
            Self::Unordered(queue) => {
                queue.push_back(match value {
                    Some(value) => Emitted::Item { sequence, value },
                    None => Emitted::Gap { sequence },
                });
                queue.len() == 1
            }
        }
    }

    /// Takes out the next one in turn, if it is there; `first` as in [`settle`](Self::settle).
    pub(super) fn emit(&mut self, first: u64) -> Option<Emitted<T>> {
        match self {
            Self::Ordered(ring) => {
                if let Place::Open = ring.front()? {
                    return None;
                }
                match ring.pop_front()? {
                    Place::Item(value) => Some(Emitted::Item { sequence: first, value }),
                    Place::Open | Place::Gap => Some(Emitted::Gap { sequence: first }),
                }
            }
            Self::Unordered(queue) => queue.pop_front(),
        }
    }

    /// The values that lie here.
    pub(super) fn into_values(self) -> impl Iterator<Item = T> {
        let (ring, queue) = match self {
            Self::Ordered(ring) => (ring, VecDeque::new()),
            Self::Unordered(queue) => (VecDeque::new(), queue),
        };
        let in_ring = ring.into_iter().filter_map(|place| match place {
            Place::Item(value) => Some(value),
            Place::Open | Place::Gap => None,
        });
        in_ring.chain(queue.into_iter().filter_map(Emitted::into_value))
    }
}
