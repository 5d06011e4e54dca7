//! The state word of a gate and every transition it makes. No other file of the gate touches an
//! atomic.
//!
//! ```text
//!   63                                            1       0
//! +-------------------------------------------------+---------+
//! | count: what is still to be waited for           | WAITING |
//! +-------------------------------------------------+---------+
//! ```
//!
//! (On a 32-bit machine the count ends at bit 31.)
//!
//! | count | WAITING | meaning                                      | who may leave it                          |
//! |-------|---------|----------------------------------------------|-------------------------------------------|
//! | 0     | 0       | open                                         | who adds                                  |
//! | > 0   | 0       | closed, nobody waits                         | anyone, by an add or a done; a waiter, under the lock |
//! | > 0   | 1       | closed, somebody waits                       | anyone, by an add or a done               |
//! | 0     | 1       | open; who made it so comes to the lock       | whoever holds the lock; who adds          |
//!
//! # Invariants
//!
//! - **W1** WAITING changes only under the lock of the queue, and whenever that lock is free, it is
//!   set exactly if somebody is in the queue.
//! - **W2** Who brings the count to 0 and sees WAITING in the word that its change returned takes
//!   the lock afterwards. So a done is either seen by the waiter that sets WAITING (its CAS is on the
//!   whole word), or it sees WAITING and comes to the lock after that waiter is in the queue.
//! - **W3** Every change of the word is a read-modify-write. So an Acquire that reads the word at any
//!   later time synchronises with *every* Release before it, not only with the last.
//! - **W4** The count is at most [`MAX_COUNT`], plus what was too much and is about to be taken off again, a [few](FEW) a thread; and
//!   nobody takes more off it than is on it. So no add runs over, and no subtraction borrows.

use std::fmt;

use selvedge_primitives::atomic::{AtomicUsize, Ordering};
use selvedge_primitives::const_fn;

/// Somebody is in the queue.
const WAITING_BIT: usize = 1 << 0;
/// Where the count begins.
const COUNT_SHIFT: u32 = 1;
/// One, as it is added to the word.
const ONE: usize = 1 << COUNT_SHIFT;

/// The highest count there may be. The word has room for twice as many.
pub(crate) const MAX_COUNT: usize = usize::MAX >> (COUNT_SHIFT + 1);

/// So much, or less, is added without a look. The field has room for as many threads as that goes into [`MAX_COUNT`].
const FEW: usize = 1 << 8;

/// The word at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct State(
    /// As drawn above.
    usize,
);

impl State {
    /// Counts `count`, nobody waits.
    const fn counting(count: usize) -> Self {
        Self(count << COUNT_SHIFT)
    }

    /// What is still to be waited for.
    pub(super) const fn count(self) -> usize {
        self.0 >> COUNT_SHIFT
    }

    /// Whether there is nothing to wait for.
    pub(super) const fn is_open(self) -> bool {
        self.count() == 0
    }

    /// Whether somebody is in the queue.
    pub(super) const fn is_waited_for(self) -> bool {
        self.0 & WAITING_BIT != 0
    }

    /// With somebody in the queue.
    const fn waited_for(self) -> Self {
        Self(self.0 | WAITING_BIT)
    }

    /// With `n` more, if that is not above [`MAX_COUNT`].
    const fn more(self, n: usize) -> Option<Self> {
        match MAX_COUNT.checked_sub(self.count()) {
            Some(room) if n <= room => Some(Self(self.0 + n * ONE)),
            _ => None,
        }
    }

    /// With `n` less, which it counts.
    const fn less(self, n: usize) -> Self {
        debug_assert!(n <= self.count());
        Self(self.0 - n * ONE)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("count", &self.count())
            .field("waited_for", &self.is_waited_for())
            .finish()
    }
}

/// What taking something off the count has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "when somebody is to be let out, the caller takes the lock"]
pub(super) enum Taken {
    /// There is more to wait for, or there was nothing before.
    Rest,
    /// The gate is open by this, and nobody waits.
    Opened,
    /// The gate is open by this, and whoever waits is to be let out.
    OpenedForWaiters,
}

impl Taken {
    /// What taking `n` off `before` has done.
    const fn of(before: State, n: usize) -> Self {
        if n == 0 || before.count() != n {
            Self::Rest
        } else if before.is_waited_for() {
            Self::OpenedForWaiters
        } else {
            Self::Opened
        }
    }
}

/// How adding to the count ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what was added must be taken off again"]
pub(super) enum Added {
    /// It is on the count.
    Yes,
    /// It is not: this is the count, and it would be too much.
    TooMuch(usize),
    /// It is on the count, which was this before, and is too much: the caller takes it off, as what is done.
    Over(usize),
}

/// The state word, shared.
#[derive(Debug)]
pub(super) struct Word {
    /// A [`State`].
    bits: AtomicUsize,
}

impl Word {
    const_fn! {
        /// Counts `count`, which is at most [`MAX_COUNT`]; nobody waits.
        pub(super) const fn new(count: usize) -> Self {
            Self { bits: AtomicUsize::new(State::counting(count).0) }
        }
    }

    /// The word now.
    #[inline]
    pub(super) fn snapshot(&self) -> State {
        // Acquire: pairs with the Release in `done` and `count_down`; what preceded everything that
        // is off the count by now is visible (W3).
        State(self.bits.load(Ordering::Acquire))
    }

    /// Puts `n` on the count, if that is not too much.
    ///
    /// A few are put there without a look: a load of the word right after a read-modify-write of it waits until that is done, and costs
    /// as much as half of one.
    #[inline]
    pub(super) fn add(&self, n: usize) -> Added {
        if n > FEW {
            return self.add_many(n);
        }
        // Relaxed: an add publishes nothing and looks at nothing; W3 asks only that it is a read-modify-write.
        let seen = State(self.bits.fetch_add(n * ONE, Ordering::Relaxed));
        if seen.more(n).is_some() { Added::Yes } else { Added::Over(seen.count()) }
    }

    /// As [`add`](Self::add), with a look.
    #[cold]
    fn add_many(&self, n: usize) -> Added {
        // Relaxed: the CAS below decides.
        let mut seen = State(self.bits.load(Ordering::Relaxed));
        loop {
            let Some(next) = seen.more(n) else { return Added::TooMuch(seen.count()) };
            match self.bits.compare_exchange_weak(
                seen.0,
                next.0,
                // Relaxed: as above.
                Ordering::Relaxed,
                // Relaxed: only the number is used, for the next attempt.
                Ordering::Relaxed,
            ) {
                Ok(_) => return Added::Yes,
                Err(now) => seen = State(now),
            }
        }
    }

    /// Takes `n` off the count, which the caller has put on it.
    #[inline]
    pub(super) fn done(&self, n: usize) -> Taken {
        // Release: publishes what was done before; pairs with the Acquire in `snapshot`, of a waiter
        // or of whoever lets it out. No Acquire: the returned word only says whether to take the
        // lock, and under it the word is read again.
        Taken::of(State(self.bits.fetch_sub(n * ONE, Ordering::Release)), n)
    }

    /// Takes up to `n` off the count; with nothing on it, nothing happens.
    pub(super) fn count_down(&self, n: usize) -> Taken {
        // Relaxed: the CAS below decides.
        let mut seen = State(self.bits.load(Ordering::Relaxed));
        loop {
            let taken = n.min(seen.count());
            if taken == 0 {
                return Taken::Rest;
            }
            match self.bits.compare_exchange_weak(
                seen.0,
                seen.less(taken).0,
                // Release: as in `done`.
                Ordering::Release,
                // Relaxed: only the number is used, for the next attempt.
                Ordering::Relaxed,
            ) {
                Ok(_) => return Taken::of(seen, taken),
                Err(now) => seen = State(now),
            }
        }
    }

    /// Comes to the queue, under the lock: true if there is something to wait for. Then WAITING is
    /// set, and the caller enters the queue before it lets go of the lock. The CAS is on the whole
    /// word, so a done between the look and WAITING makes it fail and look again.
    pub(super) fn must_wait(&self) -> bool {
        let mut seen = self.snapshot();
        loop {
            if seen.is_open() {
                return false;
            }
            if seen.is_waited_for() {
                return true;
            }
            match self.bits.compare_exchange_weak(
                seen.0,
                seen.waited_for().0,
                // Relaxed: WAITING needs no Release. Who sees it takes the lock, and that comes
                // after us.
                Ordering::Relaxed,
                // Acquire: as in `snapshot`: the gate may have been opened by this.
                Ordering::Acquire,
            ) {
                Ok(_) => return true,
                Err(now) => seen = State(now),
            }
        }
    }

    /// Nobody is in the queue any more; under the lock.
    pub(super) fn clear_waiting(&self) {
        // Relaxed: it publishes nothing; W1 is about the lock.
        self.bits.fetch_and(!WAITING_BIT, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A state with each field as given.
    fn pack(count: usize, waiting: bool) -> State {
        let state = State::counting(count);
        if waiting { state.waited_for() } else { state }
    }

    proptest! {
        #[test]
        fn fields_come_out_as_they_went_in(count in 0..=MAX_COUNT, waiting: bool) {
            let state = pack(count, waiting);
            prop_assert_eq!(state.count(), count);
            prop_assert_eq!(state.is_waited_for(), waiting);
            prop_assert_eq!(state.is_open(), count == 0);
        }

        #[test]
        fn each_step_changes_one_field(count in 0..=MAX_COUNT, n: usize, waiting: bool) {
            let state = pack(count, waiting);
            let more = count.checked_add(n).filter(|sum| *sum <= MAX_COUNT);
            prop_assert_eq!(state.more(n), more.map(|sum| pack(sum, waiting)));
            let n = n.min(count);
            prop_assert_eq!(state.less(n), pack(count - n, waiting));
        }

        #[test]
        fn a_count_never_goes_below_nothing(count in 0..=MAX_COUNT, n: usize) {
            let word = Word::new(count);
            let opens = count > 0 && n >= count;
            let taken = word.count_down(n);
            prop_assert_eq!(taken, if opens { Taken::Opened } else { Taken::Rest });
            prop_assert_eq!(word.snapshot(), pack(count.saturating_sub(n), false));
        }
    }

    #[test]
    fn only_the_last_one_is_told_of_those_who_wait() {
        let word = Word::new(3);
        assert!(word.must_wait());
        assert_eq!(word.done(2), Taken::Rest);
        assert_eq!(word.done(0), Taken::Rest);
        assert_eq!(word.done(1), Taken::OpenedForWaiters);
        assert_eq!(word.snapshot(), pack(0, true));
        word.clear_waiting();
        assert!(!word.must_wait());
        assert_eq!(word.add(MAX_COUNT), Added::Yes);
        assert_eq!(word.add(MAX_COUNT), Added::TooMuch(MAX_COUNT));
        assert_eq!(word.add(FEW), Added::Over(MAX_COUNT));
        assert_eq!(word.add(FEW), Added::Over(MAX_COUNT + FEW));
        assert_eq!(word.add(MAX_COUNT), Added::TooMuch(MAX_COUNT + 2 * FEW));
        assert_eq!(word.done(2 * FEW), Taken::Rest);
        assert_eq!(word.done(MAX_COUNT), Taken::Opened);
    }
}
