//! Which outlet an item goes to.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How the items of a fan-out are shared among its outlets.
pub struct Route<T> {
    /// Which way.
    way: Way<T>,
    /// Whether what is for one outlet goes to no other.
    strict: bool,
}

/// The ways.
enum Way<T> {
    /// Whoever asks first.
    Shared,
    /// In turn; the number of the outlet whose turn it is.
    RoundRobin(usize),
    /// By what this makes of an item.
    ByKey(Hasher64<T>),
    /// To the outlet that this names, and to no other.
    ByIndex(Index<T>),
}

/// Names the outlet of an item.
type Index<T> = Box<dyn FnMut(&T) -> usize + Send>;

/// Makes a number of an item.
type Hasher64<T> = Box<dyn FnMut(&T) -> u64 + Send>;

impl<T> Route<T> {
    /// One queue for all: an item goes to whoever asks first, so a slow consumer gets fewer, and
    /// what a dropped one would have got, the others get. Those who wait are served in order.
    pub fn shared() -> Self {
        Self::of(Way::Shared)
    }

    /// A queue for each consumer: the items go to one after the other. A slow one whose queue is
    /// full holds up the others, so that each gets as many as the next. A dropped one is left out,
    /// and what lies in its queue goes to the others.
    pub fn round_robin() -> Self {
        Self::of(Way::RoundRobin(0))
    }

    /// A queue for each consumer: items with the same key go to the same one, in their order. A slow
    /// one whose queue is full holds up the others. The keys of a dropped one, and first what lies
    /// in its queue, go to the next one that is alive, so the order of a key is kept.
    ///
    /// The key is hashed as a `HashMap` of the standard library does, without its random seed. It is
    /// asked for again for an item that a dropped consumer has left.
    pub fn by_key<K: Hash>(mut key: impl FnMut(&T) -> K + Send + 'static) -> Self {
        Self::of(Way::ByKey(Box::new(move |item| {
            let mut hasher = DefaultHasher::new();
            key(item).hash(&mut hasher);
            hasher.finish()
        })))
    }

    /// A queue for each consumer: an item goes to the one that `index` names, counted from 0, and to no
    /// other, be it [strict](Self::strict) or not. A slow one whose queue is full holds up the others.
    /// An index of no consumer is that of one that is gone.
    pub fn by_index(index: impl FnMut(&T) -> usize + Send + 'static) -> Self {
        Self::of(Way::ByIndex(Box::new(index))).strict()
    }

    /// The same without handing over: what is for a consumer that is gone goes to no other. Once there
    /// is such an item, the source is not read any further; the others get what is theirs, and what was
    /// for the one that is gone is [left](crate::FanOutReport::left).
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Not strict.
    fn of(way: Way<T>) -> Self {
        Self { way, strict: false }
    }

    /// Whether what is for one outlet goes to no other.
    pub(super) fn is_strict(&self) -> bool {
        self.strict
    }

    /// How many lanes so many outlets have, and how many outlets each of the lanes.
    pub(super) fn lanes(&self, outlets: usize) -> (usize, usize) {
        match self.way {
            Way::Shared => (1, outlets),
            Way::RoundRobin(_) | Way::ByKey(_) | Way::ByIndex(_) => (outlets, 1),
        }
    }

    /// The lane of an item, among those that are alive, of which there is one; none when the item is
    /// for one that is not, and for no other.
    pub(super) fn pick(&mut self, item: &T, alive: &[bool]) -> Option<usize> {
        let first = match &mut self.way {
            Way::Shared => 0,
            Way::RoundRobin(next) => *next,
            Way::ByKey(hash) => (hash(item) % alive.len() as u64) as usize,
            Way::ByIndex(index) => index(item),
        };
        let lane = if self.strict {
            Some(first).filter(|lane| alive.get(*lane) == Some(&true))?
        } else {
            (first..alive.len()).chain(0..first).find(|lane| alive[*lane]).unwrap_or(first)
        };
        if let Way::RoundRobin(next) = &mut self.way {
            *next = (lane + 1) % alive.len();
        }
        Some(lane)
    }
}

impl<T> fmt::Debug for Route<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.way {
            Way::Shared => "Route::shared",
            Way::RoundRobin(_) => "Route::round_robin",
            Way::ByKey(_) => "Route::by_key",
            Way::ByIndex(_) => "Route::by_index",
        })?;
        f.write_str(if self.strict { " (strict)" } else { "" })
    }
}
