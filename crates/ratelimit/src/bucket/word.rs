//! The state word of a bucket and every transition it makes.
//!
//! ```text
//!   63                                            3        2          1        0
//! +-------------------------------------------------+--------+----------+--------+
//! | granted: units that were taken, or are lost     | CLOSED | CHANGING | QUEUED |
//! +-------------------------------------------------+--------+----------+--------+
//! ```
//!
//! | flags | a taker without the lock |
//! |---|---|
//! | none | takes, by a CAS |
//! | QUEUED | gets nothing: others are in line |
//! | CHANGING | comes to the lock: the piece of the course is being written |
//! | CLOSED | gets nothing ever more; final |
//!
//! # Invariants
//!
//! - **W1** `granted` grows only by a CAS to a value that is at most `earned + burst`, for an `earned` of a time that is
//!   past; and, under the lock, by a late charge, to at most [`LARGEST_DEBT`] beyond that. So a clock that was
//!   read late or early, or went back, admits nothing beyond the quota.
//! - **W2** QUEUED changes only under the lock of the line, and whenever that lock is free, it is set exactly if
//!   somebody is in line. While it is set, `granted` grows under the lock only.
//! - **W3** `granted` shrinks only by what was granted and not used (a refund), under the lock, and never below what had
//!   been earned at the horizon of that moment, counted from the grant: `limiter/engine.rs` says why.
//! - **W4** The piece of the course changes only while CHANGING is set, under the lock. A change begins with a RMW of the word,
//!   and ends with a value of `granted` that the word has never had (but after [`BEGINNING`] was left years ago, when the count begins
//!   anew). Nor does a refund bring one of these back: one that would take `granted` below where the piece began is a change. So a CAS succeeds
//!   only if the piece did not change from the load of the word on that it expects: neither is
//!   CHANGING seen in that load, nor was the word changed since. This is what a count of generations would be for, and there is no
//!   count that could come round while a thread stands still.
//!
//! # Orderings
//!
//! Tokens carry nothing from one who used them to the next, and the line has its lock. What has to be ordered are the reads of the
//! piece between the load of the word and what is made of them: a CAS, or another load that finds the word unchanged.
//!
//! - The load is Acquire: it reads from the Release store that ended the last change, or from a CAS behind it in its release
//!   sequence. So the reads see that change's piece, or a later one.
//! - A change begins with a RMW of the word, and a Release fence stands before its writes. An Acquire fence stands behind the reads. So if a read
//!   has seen what a later change wrote, that change's RMW happens before what comes behind the fence: the CAS finds another value, and
//!   so does the load.

use selvedge_primitives::atomic::{AtomicU64, Ordering, fence};

#[cfg(doc)]
use super::course::LARGEST_DEBT;
use super::course::{BEGINNING, Lack, Outlook};

/// Somebody is in line.
const QUEUED_BIT: u64 = 1;
/// The piece of the course is being written.
const CHANGING_BIT: u64 = 2;
/// Nothing is granted any more.
const CLOSED_BIT: u64 = 4;
/// All of these.
const FLAGS_MASK: u64 = 7;
/// Where the count begins.
const GRANTED_SHIFT: u32 = 3;

/// The word at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(
    /// As drawn above.
    u64,
);

impl State {
    /// Units that were taken, or are lost.
    pub(crate) const fn granted(self) -> u64 {
        self.0 >> GRANTED_SHIFT
    }

    /// All of it, as a number. Not zero: the count begins above that.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    /// Whether it has no flag.
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & FLAGS_MASK == 0
    }

    /// Whether somebody is in line.
    pub(crate) const fn is_queued(self) -> bool {
        self.0 & QUEUED_BIT != 0
    }

    /// Whether nothing is granted any more.
    pub(crate) const fn is_closed(self) -> bool {
        self.0 & CLOSED_BIT != 0
    }

    /// Whether the piece of the course is being written.
    const fn is_changing(self) -> bool {
        self.0 & CHANGING_BIT != 0
    }

    /// With nobody in line.
    const fn unqueued(self) -> Self {
        Self(self.0 & !QUEUED_BIT)
    }

    /// With so much granted.
    const fn with(self, granted: u64) -> Self {
        Self(granted << GRANTED_SHIFT | self.0 & FLAGS_MASK)
    }
}

/// Why the word alone does not say yes, and not when either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Others are in line.
    Queued,
    /// Nothing is granted any more.
    Closed,
    /// The piece is being written, or over: the lock tells.
    Unsettled,
    /// So many there never are at once.
    OverBurst,
}

/// The state word, shared.
#[derive(Debug)]
pub(crate) struct Word {
    /// A [`State`].
    bits: AtomicU64,
}

impl Word {
    /// So much granted, nobody in line.
    pub(crate) fn new(granted: u64) -> Self {
        Self { bits: AtomicU64::new(granted << GRANTED_SHIFT) }
    }

    /// The word now.
    #[inline]
    pub(crate) fn snapshot(&self) -> State {
        // Acquire: pairs with the Release in `end_change`, see the header.
        State(self.bits.load(Ordering::Acquire))
    }

    /// Stands behind the reads of the course, and before what is made of them.
    #[inline]
    fn read(&self) {
        // Fence Acquire: against the Release fence in `begin_change`, see the header.
        fence(Ordering::Acquire);
    }

    /// The word after what was read of the course since `seen`: whether that was whole, and still is. Not so while it changes.
    #[inline]
    pub(crate) fn is_still(&self, seen: State) -> bool {
        self.read();
        // Relaxed: the fence orders it.
        self.bits.load(Ordering::Relaxed) == seen.0 && !seen.is_changing()
    }

    /// Puts `next` where `seen` was seen; what is there instead, if it changed.
    #[inline]
    fn exchange(&self, seen: State, next: State) -> Result<(), State> {
        let exchanged = self.bits.compare_exchange_weak(
            seen.0,
            next.0,
            // Relaxed: ordered by the fence in `read`, or by the lock.
            Ordering::Relaxed,
            // Acquire: as in `snapshot`; the next attempt reads the course again.
            Ordering::Acquire,
        );
        exchanged.map(drop).map_err(State)
    }

    /// Of no bucket: CHANGING, until it is given [to one](Self::begin).
    pub(crate) fn idle() -> Self {
        Self { bits: AtomicU64::new(BEGINNING << GRANTED_SHIFT | CHANGING_BIT) }
    }

    /// Grants so much in all, where `seen` was seen, which has no flag, unless somebody else is faster.
    #[inline(always)]
    pub(crate) fn grant(&self, seen: State, granted: u64) -> bool {
        self.read();
        self.exchange(seen, seen.with(granted)).is_ok()
    }

    /// Takes what `outlook` says of so much granted and of the clock, if nobody is in line. A clock that was read before somebody
    /// else took is read again before it is said that there is too little; one was read, and since then somebody else took if it `has_lost`.
    /// What else is to be said is said by `short` and `other`: nothing is
    /// handed about that does not fit into registers.
    #[inline(always)]
    pub(crate) fn attempt<E>(
        &self,
        outlook: impl Fn(u64, u64) -> Outlook,
        (mut by_now, has_lost): (u64, bool),
        now: impl Fn() -> u64,
        short: impl FnOnce(State, Lack) -> Result<(), E>,
        other: impl FnOnce(Refusal) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut seen = self.snapshot();
        let mut contention = Contention { lost: has_lost.into() };
        loop {
            if !seen.is_plain() {
                return other(Self::refusal(seen));
            }
            let outlook = outlook(seen.granted(), by_now);
            if let Outlook::Granted(granted) = outlook {
                self.read();
                match self.exchange(seen, seen.with(granted)) {
                    Ok(()) => return Ok(()),
                    Err(changed) => seen = changed,
                }
                contention.wait();
                continue;
            }
            if contention.is_none() && self.is_still(seen) {
                return match outlook {
                    Outlook::Short(lack) => short(seen, lack),
                    Outlook::OverBurst => other(Refusal::OverBurst),
                    Outlook::Granted(_) | Outlook::Over => other(Refusal::Unsettled),
                };
            }
            (by_now, seen, contention) = (now(), self.snapshot(), Contention::default());
        }
    }

    /// Why a word with a flag gives nothing.
    fn refusal(seen: State) -> Refusal {
        match seen {
            seen if seen.is_closed() => Refusal::Closed,
            seen if seen.is_changing() => Refusal::Unsettled,
            _ => Refusal::Queued,
        }
    }

    /// Under the lock: takes `units` where no more than `most` may be granted in all, and what is below `floor` is lost. Gives how much is
    /// granted then. With `last`, nobody is in line any more.
    pub(crate) fn take(&self, units: u64, floor: u64, most: u64, last: bool) -> Option<u64> {
        let mut seen = self.snapshot();
        loop {
            let next = seen.granted().max(floor).saturating_add(units);
            if next > most {
                return None;
            }
            let state = seen.with(next);
            match self.exchange(seen, if last { state.unqueued() } else { state }) {
                Ok(()) => return Some(next),
                Err(changed) => seen = changed,
            }
        }
    }

    /// Under the lock, with nobody in line: as [`take`](Self::take), or sets QUEUED, and then the caller enters the line before it lets go
    /// of the lock, or [takes it back](Self::clear_queued).
    pub(crate) fn take_or_queue(&self, units: u64, floor: u64, most: u64) -> Option<u64> {
        let mut seen = self.snapshot();
        loop {
            let next = seen.granted().max(floor).saturating_add(units);
            let taken = next <= most;
            let state = if taken { seen.with(next) } else { State(seen.0 | QUEUED_BIT) };
            match self.exchange(seen, state) {
                Ok(()) => return taken.then_some(next),
                Err(changed) => seen = changed,
            }
        }
    }

    /// Under the lock: takes as many times `unit` as there are, `count` at most. Gives how many.
    pub(crate) fn take_up_to(&self, count: u32, unit: u64, floor: u64, most: u64) -> u32 {
        let mut seen = self.snapshot();
        loop {
            let granted = seen.granted().max(floor);
            let there = most.saturating_sub(granted).checked_div(unit).unwrap_or(u64::MAX);
            let taken = count.min(u32::try_from(there).unwrap_or(u32::MAX));
            if taken == 0 {
                return 0;
            }
            match self.exchange(seen, seen.with(granted + u64::from(taken) * unit)) {
                Ok(()) => return taken,
                Err(changed) => seen = changed,
            }
        }
    }

    /// Under the lock: `units` more are granted, whatever there is, but no more than `most` in all.
    pub(crate) fn charge(&self, units: u64, floor: u64, most: u64) {
        let mut seen = self.snapshot();
        loop {
            let granted = seen.granted().max(floor);
            let next = granted.saturating_add(units).min(most.max(granted));
            match self.exchange(seen, seen.with(next)) {
                Ok(()) => return,
                Err(changed) => seen = changed,
            }
        }
    }

    /// Under the lock: gives back of what was granted and not used as much as `allowed` says, which is asked after the word was read; but no
    /// further back than to `start`. Returns what was granted before, and how much went back.
    pub(crate) fn refund(&self, start: u64, allowed: impl Fn() -> u64) -> (u64, u64) {
        let mut seen = self.snapshot();
        loop {
            let back = allowed().min(seen.granted().saturating_sub(start));
            match self.exchange(seen, seen.with(seen.granted() - back)) {
                Ok(()) => return (seen.granted(), back),
                Err(changed) => seen = changed,
            }
        }
    }

    /// Under the lock: nobody is in line any more.
    pub(crate) fn clear_queued(&self) {
        // Relaxed: whoever takes next reads the same course as before.
        self.bits.fetch_and(!QUEUED_BIT, Ordering::Relaxed);
    }

    /// Under the lock: nothing is granted any more. Whether it was the first to say so.
    pub(crate) fn close(&self) -> bool {
        // Relaxed: final, and nothing comes with it.
        !State(self.bits.fetch_or(CLOSED_BIT, Ordering::Relaxed)).is_closed()
    }

    /// Under the lock: from here on nobody takes, until [`end_change`](Self::end_change). Gives the word before.
    pub(crate) fn begin_change(&self) -> State {
        // Relaxed: the next line orders it before what is written from here on.
        let seen = State(self.bits.fetch_or(CHANGING_BIT, Ordering::Relaxed));
        // Fence Release: against the Acquire fence in `read`: who reads what is written from here on finds CHANGING, or what came after it.
        fence(Ordering::Release);
        seen
    }

    /// Under the lock, with nothing changed: others may take again.
    pub(crate) fn cancel_change(&self, seen: State) {
        self.end_change(seen, seen.granted());
    }

    /// Under the lock, instead of [`end_change`](Self::end_change): the bucket is somebody else's for now, who has a line.
    pub(crate) fn hand_to_line(&self, seen: State, granted: u64) {
        self.end_change(State(seen.0 | QUEUED_BIT), granted);
    }

    /// Under the lock: no flags, and so much granted, which is a value that the word has never had. It has CHANGING.
    pub(crate) fn begin(&self, granted: u64) {
        self.end_change(State(0), granted);
    }

    /// Under the lock: it is done. If the course was written, `granted` is a value that the word has never had.
    pub(crate) fn end_change(&self, seen: State, granted: u64) {
        // Release: publishes the course; pairs with the Acquire in `snapshot` and `exchange`. A store: since `begin_change`, nobody but the
        // holder of the lock has written to the word.
        self.bits.store(seen.with(granted).0, Ordering::Release);
    }
}

/// How often somebody else was faster.
#[derive(Default)]
struct Contention {
    /// So often.
    lost: u32,
}

impl Contention {
    /// Nobody was.
    fn is_none(&self) -> bool {
        self.lost == 0
    }

    /// Lets the others go first for a moment, longer each time, so that who has the line of the cache can use it more than once.
    fn wait(&mut self) {
        #[cfg(not(selvedge_loom))]
        (0..1_u32 << self.lost.min(4)).for_each(|_| std::hint::spin_loop());
        self.lost += 1;
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;
    use crate::Rate;
    use crate::bucket::course::{ANEW, BEGINNING, Course, LARGEST_DEBT, Piece};
    use crate::bucket::scale::{LARGEST_BURST, Scale};

    #[test]
    fn a_clock_that_goes_back_admits_nothing() {
        let quota = Rate::per_second(1_000_000_000).burst(3);
        let course = Course::new(Piece::new(Scale::new(&quota), 3, 0));
        let word = Word::new(BEGINNING);
        let granted = |now| {
            let outlook = |granted, now| course.outlook(granted, 1, now);
            word.attempt(
                outlook,
                (now, false),
                || now,
                |_, _| Err(false),
                |_| panic!("nobody waits"),
            )
            .is_ok()
        };
        assert_eq!([10, 10, 10, 10].map(granted), [true, true, true, false]);
        assert_eq!([9, 10, 0].map(granted), [false; 3]);
        assert_eq!([11, 11].map(granted), [true, false]);
    }

    #[test]
    fn who_was_slower_reads_the_clock_again_before_it_is_refused() {
        let quota = Rate::per_second(1_000_000_000).burst(3);
        let course = Course::new(Piece::new(Scale::new(&quota), 3, 0));
        for has_lost in [false, true] {
            let word = Word::new(BEGINNING + course.piece().burst_units());
            let outlook = |granted, now| course.outlook(granted, 1, now);
            let refused = |_, _| Err(());
            let told = word.attempt(outlook, (0, has_lost), || 9, refused, |_| Err(()));
            assert_eq!(told.is_ok(), has_lost);
        }
    }

    #[test]
    fn what_is_reckoned_before_a_change_is_not_used_after_it() {
        let word = Word::new(BEGINNING);
        let before = word.snapshot();
        let seen = word.begin_change();
        assert!(!word.is_still(before));
        assert_eq!(word.exchange(before, before.with(BEGINNING + 1)), Err(word.snapshot()));
        word.end_change(seen, BEGINNING + 1);
        assert!(word.exchange(before, before.with(BEGINNING + 2)).is_err());
        assert_eq!(word.snapshot().granted(), BEGINNING + 1);
    }

    #[test]
    fn the_largest_numbers_fit_and_leave_the_flags_alone() {
        let most = ANEW + LARGEST_BURST + LARGEST_DEBT;
        let word = Word::new(0);
        assert_eq!(word.take_or_queue(1, 0, 0), None);
        word.charge(u64::MAX, ANEW, most);
        assert_eq!((word.snapshot().granted(), word.snapshot().is_queued()), (most, true));
        word.charge(1, 0, most - 1);
        assert_eq!(word.snapshot().granted(), most);
        assert_eq!(word.refund(0, || LARGEST_DEBT), (most, LARGEST_DEBT));
        assert_eq!(word.take(LARGEST_DEBT, 0, most, true), Some(most));
        assert!(!word.snapshot().is_queued());
        assert!(word.close() && !word.close() && word.snapshot().is_closed());
    }
}
