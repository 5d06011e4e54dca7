//! A table of those who hold permits, under a lock of its own that is taken when permits are taken, split, merged or given
//! back, and when somebody looks.

use std::panic::Location;
use std::time::{Duration, Instant};

use selvedge_primitives::{Mutex, const_fn};
use slab::Slab;

/// Since when somebody waits or holds, by std's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Age(
    /// The moment.
    Instant,
);

impl Age {
    /// Begins now.
    pub(in super::super) fn now() -> Self {
        Self(Instant::now())
    }

    /// How long it has been.
    pub(in super::super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Who acquires: where it is called.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Caller(
    /// The place.
    &'static Location<'static>,
);

impl Caller {
    /// Who called at `place`.
    pub(in super::super) fn at(place: &'static Location<'static>) -> Self {
        Self(place)
    }
}

/// Somebody who holds permits of a [`Semaphore`](crate::Semaphore); from
/// [`holders`](crate::Semaphore::holders).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Holder {
    /// How many permits they hold.
    pub count: usize,
    /// For how long. A part that was split off is as old as the whole.
    pub age: Duration,
    /// Where they were acquired.
    pub place: &'static Location<'static>,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// How many permits.
    count: usize,
    /// Since when.
    age: Age,
    /// Who acquired them.
    caller: Caller,
}

/// Those who hold permits.
#[derive(Debug)]
pub(in super::super) struct Holders {
    /// A row for each guard.
    table: Mutex<Slab<Row>>,
}

/// A row's number.
#[derive(Debug)]
pub(in super::super) struct Hold(
    /// In the table.
    usize,
);

impl Holders {
    const_fn! {
        /// Nobody.
        pub(in super::super) const fn new() -> Self {
            Self { table: Mutex::new(Slab::new()) }
        }
    }

    /// Somebody takes `count`.
    pub(in super::super) fn enter(&self, count: usize, caller: Caller) -> Hold {
        let row = Row { count, age: Age::now(), caller };
        Hold(self.table.lock().insert(row))
    }

    /// They have so many now.
    pub(in super::super) fn change(&self, hold: &Hold, count: usize) {
        self.table.lock()[hold.0].count = count;
    }

    /// Somebody else has `count` of theirs.
    pub(in super::super) fn part(&self, hold: &Hold, count: usize) -> Hold {
        let mut table = self.table.lock();
        let row = Row { count, ..table[hold.0] };
        Hold(table.insert(row))
    }

    /// They give back.
    pub(in super::super) fn leave(&self, hold: &Hold) {
        self.table.lock().remove(hold.0);
    }

    /// All of them, the oldest first.
    pub(in super::super) fn list(&self) -> Vec<Holder> {
        let rows: Vec<Row> = self.table.lock().iter().map(|(_, row)| *row).collect();
        let mut holders: Vec<_> = rows
            .into_iter()
            .filter(|row| row.count > 0)
            .map(|row| Holder { count: row.count, age: row.age.elapsed(), place: row.caller.0 })
            .collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.age));
        holders
    }
}
