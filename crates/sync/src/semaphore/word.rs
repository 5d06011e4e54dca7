//! The state word of the semaphore and every transition it makes. No other file of the semaphore
//! touches the word.
//!
//! ```text
//!   63                                            3      2        1        0
//! +----------------------------------------------+------+--------+--------+
//! | permits: free, signed; below zero, a debt    | SHUT | QUEUED | CLOSED |
//! +----------------------------------------------+------+--------+--------+
//! ```
//!
//! (On a 32-bit machine the permits end at bit 31.)
//!
//! Permits are below zero when the capacity was lowered below what is out: so many have to come back before one
//! is free. SHUT says that nobody takes who does not stand in line, QUEUED that whoever gives back comes to the
//! lock of the line.
//!
//! | CLOSED | SHUT | QUEUED | meaning                                                 | who may leave it          |
//! |--------|------|--------|---------------------------------------------------------|---------------------------|
//! | 0      | 0    | 0      | nobody waits; or the front was called and is on its way | anyone, by a CAS that takes or an add |
//! | 0      | 1    | 1      | the line waits for a release; nobody overtakes          | a releaser, by an add; then it takes the lock |
//! | 0      | 0    | 1      | the line waits for a release; running callers overtake  | the same, and anyone, by a CAS that takes |
//! | 0      | 1    | 0      | the front was called, is on its way, and nobody overtakes | whoever holds the lock; a releaser, by an add; one who has lost a turn, by a CAS |
//! | 1      | any  | any    | closed; releases count; the line is being sent home     | nobody                    |
//!
//! With strict fairness only the first two rows occur, and the last. Beside that, one who takes without a look, and puts back, does not leave a row.
//!
//! # Invariants
//!
//! - **W1** Permits in the word, plus permits handed over to waiters or held by guards, plus those that were taken without a look
//!   and are about to be put back, are the capacity. A release puts back what an acquire took, so the permits never exceed the capacity.
//!   Capacity and debt are at most [`MAX_PERMITS`] each, for which the field has room twice.
//! - **W2** SHUT and QUEUED change only under the lock of the line. Whenever that is free, and no server is between two batches: if nobody is in line, both are
//!   clear; if somebody is, QUEUED is set, unless the front was called and somebody sees to it that it comes
//!   (the alarm of `line.rs`; or there is nobody behind it who would wait for it; or the bound is so long that it may take for ever). Where there is no
//!   timer any more, whoever finds that out sets QUEUED next.
//! - **W3** Who sees QUEUED in the word that its release returned takes the lock afterwards. So a
//!   release is either seen by the one that sets QUEUED (its CAS is on the whole word), or it
//!   sees QUEUED, comes to the lock after that, and serves.
//! - **W4** CLOSED is never cleared.
//! - **W5** Every change of the word is a read-modify-write. So an Acquire that reads the word at
//!   any later time synchronises with *every* Release before it (they all head release sequences
//!   that nothing interrupts), not only with the last.
//!
//! # Taking without a look
//!
//! A load of the word right after a read-modify-write of it waits until that is done: it costs as much as half of one. So where
//! there is [plenty](Plenty) a few permits are taken by a subtraction, and the word that it returns says whether they were there. If others
//! were a lot faster they were not, or somebody stands in line by now; then what was taken is a debt, and is put back as a release
//! puts back: it sees QUEUED. Until then there seem to be fewer than there are, and nobody takes what is not there.
//! What tells of plenty lies on another line of the cache, which is seldom written.

use std::fmt;

use selvedge_primitives::atomic::{AtomicBool, AtomicUsize, Ordering};
use selvedge_primitives::const_fn;

/// The semaphore is closed.
const CLOSED_BIT: usize = 1 << 0;
/// Whoever gives back comes to the lock.
const QUEUED_BIT: usize = 1 << 1;
/// Nobody takes who does not stand in line.
const SHUT_BIT: usize = 1 << 2;
/// Where the permits begin.
const PERMITS_SHIFT: u32 = 3;
/// One permit, as it is added to the word.
const ONE_PERMIT: usize = 1 << PERMITS_SHIFT;

/// The most permits there may be, and the deepest debt. Half of what the field has room for: so those who take without a look
/// may take as many too many as they can, and the field does not run over.
pub(super) const MAX_PERMITS: usize = usize::MAX >> (PERMITS_SHIFT + 2);

/// So many, or fewer, are taken without a look where there is plenty.
pub(super) const FEW: usize = 2;

/// There is plenty: whoever takes a few leaves a few, at least.
const PLENTY: usize = 2 * FEW;

/// The word at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct State(
    /// As drawn above.
    usize,
);

impl State {
    /// Open, nobody waits, `permits` are free.
    const fn free(permits: usize) -> Self {
        Self(permits << PERMITS_SHIFT)
    }

    /// How many permits are free; below zero, how many have to come back before one is.
    pub(super) const fn permits(self) -> isize {
        self.0.cast_signed() >> PERMITS_SHIFT
    }

    /// Whether whoever gives back comes to the lock.
    pub(super) const fn is_queued(self) -> bool {
        self.0 & QUEUED_BIT != 0
    }

    /// Whether nobody takes who does not stand in line.
    pub(super) const fn is_shut(self) -> bool {
        self.0 & SHUT_BIT != 0
    }

    /// Whether the semaphore is closed.
    pub(super) const fn is_closed(self) -> bool {
        self.0 & CLOSED_BIT != 0
    }

    /// Whether `wanted` permits were there for one who took them without a look.
    pub(super) const fn let_go(self, wanted: usize) -> bool {
        !self.is_closed() && self.admits(wanted)
    }

    /// Whether there is plenty for everybody, and nobody waits.
    #[inline]
    pub(super) const fn is_plenty(self) -> bool {
        self.is_plain() && self.permits() >= PLENTY.cast_signed()
    }

    /// Whether it is open, and nobody waits.
    const fn is_plain(self) -> bool {
        self.0 & (CLOSED_BIT | QUEUED_BIT | SHUT_BIT) == 0
    }

    /// Whether `wanted` permits are free.
    const fn covers(self, wanted: usize) -> bool {
        wanted <= MAX_PERMITS && self.permits() >= wanted.cast_signed()
    }

    /// Whether somebody who does not stand in line may take `wanted` permits. Nothing can always
    /// be taken: it keeps nobody waiting.
    const fn admits(self, wanted: usize) -> bool {
        wanted == 0 || (!self.is_shut() && self.covers(wanted))
    }

    /// Without `wanted` permits, which it covers, or which are none.
    const fn less(self, wanted: usize) -> Self {
        debug_assert!(wanted == 0 || self.covers(wanted));
        Self(self.0.wrapping_sub(wanted << PERMITS_SHIFT))
    }

    /// With these flags.
    const fn with(self, flags: Flags) -> Self {
        let Flags { queued, shut } = flags;
        let bits = if queued { QUEUED_BIT } else { 0 } | if shut { SHUT_BIT } else { 0 };
        Self((self.0 & !(QUEUED_BIT | SHUT_BIT)) | bits)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("permits", &self.permits())
            .field("shut", &self.is_shut())
            .field("queued", &self.is_queued())
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// The bits that tell others of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags {
    /// Whoever gives back comes to the lock.
    pub(super) queued: bool,
    /// Nobody takes who does not stand in line.
    pub(super) shut: bool,
}

impl Flags {
    /// Nobody is in line.
    pub(super) const NONE: Self = Self { queued: false, shut: false };
}

/// How taking without standing in line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "permits that were taken must be given back"]
pub(super) enum Take {
    /// The permits are out of the word.
    Taken,
    /// Too few are free.
    Short,
    /// They may be free, but are not for those who do not stand in line.
    Shut,
    /// The semaphore is closed.
    Closed,
}

/// How coming to the line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the caller must queue, or has permits"]
pub(super) enum Join {
    /// Permits came in the meantime, and nobody was overtaken who must not be: they are out of the word.
    Taken,
    /// The caller enters the line before it releases the lock; if it is the first there, the flags are set.
    Queue,
    /// The semaphore is closed.
    Closed,
}

/// Whether there is plenty: a hint, for those who would take without a look. Not on the line of the word.
#[derive(Debug)]
pub(super) struct Plenty {
    /// There was, a while ago.
    there: AtomicBool,
}

impl Plenty {
    const_fn! {
        /// With so many permits, all free.
        pub(super) const fn new(permits: usize) -> Self {
            Self { there: AtomicBool::new(permits >= 2 * PLENTY) }
        }
    }

    /// Whether there is.
    #[inline]
    pub(super) fn is_there(&self) -> bool {
        // Relaxed: a hint; the word decides.
        self.there.load(Ordering::Relaxed)
    }

    /// There is none, or the line is about to be changed.
    #[inline]
    pub(super) fn gone(&self) {
        self.set(false);
    }

    /// `left` is left.
    #[inline]
    fn note(&self, left: State) {
        if left.is_plain() && left.permits() >= (2 * PLENTY).cast_signed() {
            self.set(true);
        } else if !left.is_plenty() {
            self.set(false);
        }
    }

    /// Notes it, if that is news: else the line of the cache stays where it is.
    #[inline]
    fn set(&self, there: bool) {
        if self.is_there() != there {
            // Relaxed: a hint.
            self.there.store(there, Ordering::Relaxed);
        }
    }
}

/// The state word, shared. It has a line of the cache for itself.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Word {
    /// A [`State`].
    bits: AtomicUsize,
}

impl Word {
    const_fn! {
        /// Open, nobody waits, `permits` are free.
        pub(super) const fn new(permits: usize) -> Self {
            Self { bits: AtomicUsize::new(State::free(permits).0) }
        }
    }

    /// The word now.
    pub(super) fn snapshot(&self) -> State {
        // Acquire: pairs with the Release in `give_back`, `change` and `close`: what preceded the releases
        // that the snapshot counts, or the close that it shows, is visible.
        State(self.bits.load(Ordering::Acquire))
    }

    /// Takes `wanted` permits, which are a [few](FEW), where there seems to be plenty, and returns the word as it was before. If that does not
    /// [let them go](State::let_go), the caller gives them back, as by a release.
    #[inline]
    #[must_use = "what was taken and was not there must be given back"]
    pub(super) fn take_unseen(&self, wanted: usize) -> State {
        // Acquire: as in `try_take`.
        State(self.bits.fetch_sub(wanted << PERMITS_SHIFT, Ordering::Acquire))
    }

    /// Takes `wanted` permits if nobody is overtaken who must not be, and they are free; notes whether there is plenty left.
    ///
    /// Never inlined, so that taking without a look is.
    #[inline(never)]
    pub(super) fn try_take(&self, wanted: usize, plenty: &Plenty) -> Take {
        // Relaxed: the CAS below decides, and a close is read again.
        let mut seen = State(self.bits.load(Ordering::Relaxed));
        loop {
            if seen.is_closed() {
                return self.found_closed();
            }
            if !seen.admits(wanted) {
                return if seen.is_shut() { Take::Shut } else { Take::Short };
            }
            match self.bits.compare_exchange_weak(
                seen.0,
                seen.less(wanted).0,
                // Acquire: pairs with the Release in `give_back` and `change`; what the former holders did
                // under the permits, or what preceded their making, is visible to the new one (W5).
                Ordering::Acquire,
                // Relaxed: only the number is used, for the next attempt.
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    plenty.note(seen.less(wanted));
                    return Take::Taken;
                }
                Err(now) => seen = State(now),
            }
        }
    }

    /// The semaphore was seen closed by a Relaxed load.
    #[cold]
    fn found_closed(&self) -> Take {
        // Read again, now with Acquire: pairs with the Release in `close`, and CLOSED stays (W4),
        // so what preceded the close is visible to the caller that is told of it.
        let state = self.snapshot();
        debug_assert!(state.is_closed());
        Take::Closed
    }

    /// Puts `count` permits back and returns the word as it was before. If that is queued, the
    /// caller takes the lock and serves (W3).
    #[inline]
    #[must_use = "when somebody is queued, the caller serves the line"]
    pub(super) fn give_back(&self, count: usize) -> State {
        // Release: publishes what was done under the permits; pairs with the Acquire in `try_take`, `take_unseen`,
        // `join` and `take_for_front`, whichever takes them next, and in `snapshot`. No Acquire: the
        // returned word only says whether to take the lock, and the lock shows the queue.
        State(self.bits.fetch_add(count * ONE_PERMIT, Ordering::Release))
    }

    /// The capacity has grown by `by`, or shrunk, under the lock: so many permits are free more, or are owed. The caller serves the line.
    pub(super) fn change(&self, by: isize) {
        // Release: what preceded the making of permits is visible to who takes them, as for `give_back`.
        self.bits.fetch_add(by.cast_unsigned() << PERMITS_SHIFT, Ordering::Release);
    }

    /// Comes to the end of the line, under the lock: a last look, then the flags. The CAS is on the
    /// whole word, so a release between the look and QUEUED makes it fail and look again. `first` says that nobody is in line,
    /// `shut` what SHUT becomes then; `again` that the caller has stood in line before: it takes what is there although the door is shut.
    pub(super) fn join(&self, wanted: usize, first: bool, shut: bool, again: bool) -> Join {
        // Relaxed: the flags change only under the lock that is held here, so they
        // are current; the permits are decided by the CAS below.
        let mut seen = State(self.bits.load(Ordering::Relaxed));
        loop {
            if seen.is_closed() {
                return Join::Closed;
            }
            let admitted = seen.admits(wanted) || (again && seen.covers(wanted));
            if !admitted && !first {
                // The flags say what is to be said of those before.
                return Join::Queue;
            }
            let next = match admitted {
                true => seen.less(wanted),
                false => seen.with(Flags { queued: true, shut }),
            };
            match self.bits.compare_exchange_weak(
                seen.0,
                next.0,
                // Acquire: pairs with the Release in `give_back` and `change`, for the permits taken here.
                // QUEUED needs no Release: who sees it takes the lock, and that comes after us.
                Ordering::Acquire,
                // Relaxed: only the number is used, for the next attempt.
                Ordering::Relaxed,
            ) {
                Ok(_) if admitted => return Join::Taken,
                Ok(_) => return Join::Queue,
                Err(now) => seen = State(now),
            }
        }
    }

    /// Takes what the front of the line wants, under the lock; false if that is not covered, or the semaphore closed. `last` says that nobody is in line
    /// once the front has left it; then the flags go in the same step, so that no release falls
    /// between the two: it is counted here, or it finds nobody queued.
    #[must_use = "permits that were taken must be handed over"]
    #[inline]
    pub(super) fn take_for_front(&self, wanted: usize, last: bool) -> bool {
        // Relaxed: CLOSED is current under the lock; a release that this misses has seen QUEUED and
        // comes to the lock next (W3), or the front was called and looks for itself.
        let mut seen = State(self.bits.load(Ordering::Relaxed));
        loop {
            if seen.is_closed() || !seen.covers(wanted) {
                return false;
            }
            let rest = seen.less(wanted);
            let next = if last { rest.with(Flags::NONE) } else { rest };
            match self.bits.compare_exchange_weak(
                seen.0,
                next.0,
                // Acquire: pairs with the Release in `give_back` and `change` of every releaser whose permits
                // go with this; the outcome in the waiter's node carries it on to the waiter.
                Ordering::Acquire,
                // Relaxed: only the number is used, for the next attempt.
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => seen = State(now),
            }
        }
    }

    /// Sets the flags for a front that wants `wanted`, under the lock: `covered` if so many are free, else `short`. True for the
    /// former. A release between the look and the flags makes the CAS fail and look again: it is counted, or sees the flags.
    pub(super) fn tell(&self, wanted: usize, covered: Flags, short: Flags) -> bool {
        // Relaxed: as in `join`.
        let mut seen = State(self.bits.load(Ordering::Relaxed));
        loop {
            let covers = seen.covers(wanted);
            let next = seen.with(if covers { covered } else { short });
            if next == seen {
                return covers;
            }
            match self.bits.compare_exchange_weak(
                seen.0,
                next.0,
                // Relaxed, twice: nothing is taken, and who sees QUEUED takes the lock.
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return covers,
                Err(now) => seen = State(now),
            }
        }
    }

    /// Nobody is in line any more; under the lock. A release before this saw QUEUED and finds
    /// the line empty; its permits are in the word for anybody.
    pub(super) fn clear(&self) {
        // Relaxed: it publishes nothing; W2 is about the lock.
        self.bits.fetch_and(!(QUEUED_BIT | SHUT_BIT), Ordering::Relaxed);
    }

    /// Somebody is in line whom nobody overtakes; under the lock. The caller serves the line.
    pub(super) fn shut(&self) {
        // Relaxed: as in `clear`.
        self.bits.fetch_or(QUEUED_BIT | SHUT_BIT, Ordering::Relaxed);
    }

    /// Closes, under the lock.
    pub(super) fn close(&self) {
        // Release: publishes what preceded the close; pairs with the Acquire in `snapshot`. Those
        // who wait get it through the lock and their nodes.
        self.bits.fetch_or(CLOSED_BIT, Ordering::Release);
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Nobody overtakes those in line.
    const STRICT: Flags = Flags { queued: true, shut: true };

    /// A state with each field as given.
    fn pack(permits: isize, flags: Flags, closed: bool) -> State {
        let bits = permits.cast_unsigned() << PERMITS_SHIFT;
        State(bits | if closed { CLOSED_BIT } else { 0 }).with(flags)
    }

    /// Any flags.
    fn flags() -> impl Strategy<Value = Flags> {
        (any::<bool>(), any::<bool>()).prop_map(|(queued, shut)| Flags { queued, shut })
    }

    /// Any number of permits, a debt included.
    fn permits() -> impl Strategy<Value = isize> {
        let most = MAX_PERMITS.cast_signed();
        -most..=most
    }

    proptest! {
        #[test]
        fn fields_come_out_as_they_went_in(
            permits in permits(),
            flags in flags(),
            closed: bool,
        ) {
            let state = pack(permits, flags, closed);
            prop_assert_eq!(state.permits(), permits);
            prop_assert_eq!(state.is_queued(), flags.queued);
            prop_assert_eq!(state.is_shut(), flags.shut);
            prop_assert_eq!(state.is_closed(), closed);
        }

        #[test]
        fn each_step_changes_one_field(
            permits in permits(),
            wanted in 0..=MAX_PERMITS,
            flags in flags(),
            closed: bool,
        ) {
            let state = pack(permits, flags, closed);
            let signed = wanted.cast_signed();
            prop_assert_eq!(state.covers(wanted), signed <= permits);
            prop_assert_eq!(state.admits(wanted), wanted == 0 || (!flags.shut && signed <= permits));
            if signed <= permits {
                prop_assert_eq!(state.less(wanted), pack(permits - signed, flags, closed));
            }
            prop_assert_eq!(state.less(0), state);
            prop_assert_eq!(state.with(Flags::NONE), pack(permits, Flags::NONE, closed));
            prop_assert_eq!(state.with(STRICT), pack(permits, STRICT, closed));
        }

        #[test]
        fn the_word_keeps_what_is_not_its_business(
            capacity in 0..=MAX_PERMITS,
            lower in 0..=MAX_PERMITS,
        ) {
            let word = Word::new(capacity);
            prop_assert_eq!(word.try_take(capacity, &Plenty::new(0)), Take::Taken);
            prop_assert_eq!(word.join(1, true, true, false), Join::Queue);
            prop_assert_eq!(word.try_take(0, &Plenty::new(0)), Take::Taken);
            prop_assert_eq!(word.try_take(1, &Plenty::new(0)), Take::Shut);
            word.change(lower.cast_signed() - capacity.cast_signed());
            let owed = lower.cast_signed() - capacity.cast_signed();
            prop_assert_eq!(word.snapshot(), pack(owed, STRICT, false));
            prop_assert!(word.give_back(capacity).is_queued());
            prop_assert_eq!(word.snapshot(), pack(lower.cast_signed(), STRICT, false));
            word.close();
            prop_assert_eq!(word.snapshot(), pack(lower.cast_signed(), STRICT, true));
            prop_assert!(!word.take_for_front(lower, true));
            prop_assert_eq!(word.snapshot(), pack(lower.cast_signed(), STRICT, true));
            word.clear();
            prop_assert_eq!(word.snapshot(), pack(lower.cast_signed(), Flags::NONE, true));
        }
    }

    #[test]
    fn more_than_there_may_be_is_never_covered() {
        let state = State::free(MAX_PERMITS);
        assert!(state.covers(MAX_PERMITS));
        for wanted in [MAX_PERMITS + 1, usize::MAX >> 1, usize::MAX] {
            assert!(!state.covers(wanted), "{wanted}");
        }
    }

    #[test]
    fn the_last_of_the_line_clears_the_flags_in_the_same_step() {
        let word = Word::new(3);
        assert_eq!(word.join(4, true, true, false), Join::Queue);
        assert!(!word.take_for_front(4, true));
        assert_eq!(word.snapshot(), pack(3, STRICT, false));
        assert!(word.take_for_front(2, false));
        assert_eq!(word.snapshot(), pack(1, STRICT, false));
        assert!(word.take_for_front(1, true));
        assert_eq!(word.snapshot(), pack(0, Flags::NONE, false));
    }

    #[test]
    fn coming_late_to_no_line_takes() {
        let word = Word::new(3);
        assert_eq!(word.join(2, true, true, false), Join::Taken);
        assert_eq!(word.snapshot(), pack(1, Flags::NONE, false));
    }

    #[test]
    fn where_nobody_is_shut_out_a_running_caller_takes_beside_a_line() {
        let word = Word::new(1);
        assert_eq!(word.join(2, true, false, false), Join::Queue);
        assert_eq!(word.try_take(1, &Plenty::new(0)), Take::Taken);
        assert_eq!(word.join(1, false, false, false), Join::Queue);
        assert!(word.give_back(1).is_queued());
        let (call, wait) = (Flags::NONE, Flags { queued: true, shut: false });
        assert!(word.tell(1, call, wait));
        assert!(!word.give_back(1).is_queued());
        assert!(!word.tell(3, call, wait));
        assert!(word.snapshot().is_queued());
    }
}
