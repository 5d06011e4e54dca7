//! Taking without waiting: from the word, by the coarse clock, from a lease, and under the lock.

use selvedge_primitives::atomic::Ordering;

use super::{Engine, Locked};
use crate::bucket::GOLDEN;
use crate::bucket::course::{Glance, LARGEST_DEBT, Lack, Outlook, Piece};
use crate::bucket::word::{Refusal, State};
use crate::clock::{LATE, late};
use crate::limiter::lease::Leases;
use crate::limiter::refund::Receipt;
use crate::{NotYet, TryAcquireError};

/// After so long, in nanoseconds, the exact clock is asked again: the counter of the processor and std's clock go apart by some millionths.
const MOST_FAR: u64 = 100_000_000_000;

/// There are so many marks, in place of as many nanoseconds of a time.
const MARKS: u64 = 1 << 16;

/// The mark of a word: others have the same one time in [`MARKS`].
#[inline(always)]
fn mark(seen: State) -> u64 {
    seen.number().wrapping_mul(GOLDEN) >> 48
}

impl Engine {
    /// Takes `wanted` tokens without waiting and without overtaking.
    #[inline(always)]
    pub(crate) fn try_take(&self, wanted: u32) -> Result<(), TryAcquireError> {
        if let Some(leases) = &self.leases {
            return self.try_leased(leases, wanted);
        }
        // Relaxed: a hint, see `try_far`.
        let far = self.far.load(Ordering::Relaxed);
        if far != 0
            && wanted != 0
            && let Some(lack) = self.try_far(self.word.0.snapshot(), wanted, far)
        {
            return Err(TryAcquireError::NotYet(NotYet::new(lack)));
        }
        // The clock first: its read takes longer than all the rest, in which others would change the word.
        let now = self.clock.now();
        let seen = self.word.0.snapshot();
        if seen.is_plain() {
            match self.course.glance(seen.granted(), wanted, now) {
                Glance::Granted(granted) => {
                    return match self.word.0.grant(seen, granted) {
                        true => Ok(()),
                        false => self.try_again(wanted, now, true),
                    };
                }
                Glance::Short { lack, missing }
                    if missing <= self.far_from()
                        && wanted != 0
                        && !(self.clock.may_go_back() && lack.is_early())
                        && self.word.0.is_still(seen) =>
                {
                    return Err(TryAcquireError::NotYet(NotYet::new(lack)));
                }
                Glance::Short { .. } | Glance::Other => {}
            }
        }
        self.try_again(wanted, now, false)
    }

    /// From how many missing units on it is worth while to note that they are far away.
    #[inline(always)]
    fn far_from(&self) -> u64 {
        // Relaxed: a hint.
        self.far_from.load(Ordering::Relaxed)
    }

    /// In leased mode.
    #[inline(never)]
    fn try_leased(&self, leases: &Leases, wanted: u32) -> Result<(), TryAcquireError> {
        let taken = self.word.0.snapshot().is_plain() && leases.hit(wanted);
        if taken { Ok(()) } else { self.try_lease(leases, wanted) }
    }

    /// Not at once, by a clock that said `now`: somebody else was faster, or what is missing is far away, or the word alone does not tell.
    #[inline(never)]
    fn try_again(&self, wanted: u32, now: u64, has_lost: bool) -> Result<(), TryAcquireError> {
        if wanted == 0 {
            return if self.is_closed() { Err(TryAcquireError::Closed) } else { Ok(()) };
        }
        self.word.0.attempt(
            |granted, now| self.course.outlook(granted, wanted, now),
            (now, has_lost),
            || self.clock.now(),
            |seen, lack| {
                if self.clock.was_back(&lack, &self.course, wanted) {
                    return self.try_locked(wanted, Refusal::Unsettled);
                }
                if lack.is_beyond(2 * late()) {
                    self.note_far(seen);
                }
                Err(TryAcquireError::NotYet(NotYet::new(lack)))
            },
            |refusal| self.try_locked(wanted, refusal),
        )
    }

    /// Who is refused for longer than the coarse clock may be late notes for which word that is, and until when there is no token at all. While the word
    /// stays the same, which is what it does in a limiter that is asked for far more than it admits, others are refused by the coarse clock, which
    /// costs a fifth of the exact one: what it says is late, so whoever is refused even if it is late by all it may be is refused by the exact
    /// one, too. If there are tokens, but not as many as are asked for, that takes some arithmetic more.
    ///
    /// These numbers may be of two notes. The time has a mark of its word, so that it is believed of no other. The shift, by which the processor's counter
    /// was ahead of std's clock, only says when to come again.
    #[inline(always)]
    fn try_far(&self, seen: State, wanted: u32, far: u64) -> Option<Lack> {
        if seen.number() != far {
            // Relaxed: a hint.
            self.far.store(0, Ordering::Relaxed);
            return None;
        }
        let (now, late) = self.clock.coarse()?;
        // Relaxed: a hint.
        let until = self.far_until.load(Ordering::Relaxed);
        let is_before = now < until / MARKS * MARKS && until % MARKS == mark(seen);
        // Relaxed: a hint.
        let shift = self.far_shift.load(Ordering::Relaxed).cast_signed();
        let lack = self.course.lack(seen.granted(), wanted, now.saturating_add_signed(shift))?;
        let is_far =
            is_before || !self.clock.may_go_back() && self.course.is_short_until(&lack, late);
        (is_far && self.word.0.is_still(seen)).then_some(lack)
    }

    /// By this word so many tokens do not come soon.
    #[cold]
    fn note_far(&self, seen: State) {
        let (now, may_go_back) = (self.clock.now(), self.clock.may_go_back());
        let piece = self.course.piece();
        let due = piece.due(piece.needs(seen.granted(), 1)).unwrap_or(u64::MAX);
        let over = piece.since.saturating_add(piece.lasts);
        let left = due.min(over).saturating_sub(now).min(MOST_FAR);
        let left = left.saturating_sub(LATE);
        if left == 0 && may_go_back || !self.word.0.is_still(seen) {
            return;
        }
        let Some(by_std) = self.clock.by_std() else { return };
        let until = if left == 0 { 0 } else { by_std.saturating_add(left) };
        // Relaxed: a hint, as the next.
        self.far_until.store(until / MARKS * MARKS + mark(seen), Ordering::Relaxed);
        let shift = if may_go_back { now.wrapping_sub(by_std) } else { 0 };
        // Relaxed: a hint.
        self.far_shift.store(shift, Ordering::Relaxed);
        // Relaxed: a hint.
        self.far.store(seen.number(), Ordering::Relaxed);
    }

    /// What the word alone does not tell.
    #[cold]
    fn try_locked(&self, wanted: u32, refusal: Refusal) -> Result<(), TryAcquireError> {
        match refusal {
            Refusal::Closed => return Err(TryAcquireError::Closed),
            Refusal::Queued => {
                let (now, seen) = (self.clock.now(), self.word.0.snapshot());
                let piece = self.course.piece();
                let fits = wanted <= piece.burst && !piece.is_over(now);
                if fits && seen.is_queued() && self.word.0.is_still(seen) {
                    let lack = self.lack(seen, &piece, now, wanted);
                    return Err(TryAcquireError::NotYet(NotYet::new(lack)));
                }
            }
            Refusal::OverBurst | Refusal::Unsettled => {}
        }
        let (mut locked, piece, now) = self.open();
        self.take_locked(&mut locked, &piece, now, wanted)
    }

    /// Under the lock: takes `wanted` tokens if nobody is in line; and in leased mode a batch more, if it is there.
    fn take_locked(
        &self,
        locked: &mut Locked<'_>,
        piece: &Piece,
        now: u64,
        wanted: u32,
    ) -> Result<(), TryAcquireError> {
        let state = self.word.0.snapshot();
        if state.is_closed() {
            return Err(TryAcquireError::Closed);
        }
        if wanted > piece.burst {
            return Err(TryAcquireError::OverBurst { wanted, burst: piece.burst });
        }
        let (floor, most) = (self.floor_leased(locked, piece, now), piece.most(now));
        let there = piece.tokens(most.saturating_sub(state.granted().max(floor)));
        let mut more = 0;
        if let Some(leases) = self.leases.as_ref().filter(|_| !state.is_queued() && wanted <= there)
        {
            more = leases.room().min(there - wanted);
            // Before the word is written, so that whoever finds the bucket empty finds them.
            leases.put(more);
            locked.leased = leases.held();
        }
        let units = piece.units(wanted.saturating_add(more));
        // Without leases, somebody else may have been faster.
        if !state.is_queued() && self.word.0.take(units, floor, most, false).is_some() {
            return Ok(());
        }
        Err(TryAcquireError::NotYet(NotYet::new(self.lack(state, piece, now, wanted))))
    }

    /// In leased mode, when the slot of this thread has too little: takes a batch, or what others have not used.
    #[cold]
    fn try_lease(&self, leases: &Leases, wanted: u32) -> Result<(), TryAcquireError> {
        if wanted == 0 {
            return if self.is_closed() { Err(TryAcquireError::Closed) } else { Ok(()) };
        }
        if let Some(lack) = self.try_short(leases, wanted) {
            return Err(TryAcquireError::NotYet(NotYet::new(lack)));
        }
        let mut locked = self.queue.lock();
        self.clock.catch_up();
        let now = self.clock.now();
        let piece = self.course.piece();
        if !piece.is_over(now) {
            let taken = self.take_locked(&mut locked, &piece, now, wanted);
            if taken.is_ok() || locked.leased == 0 {
                return taken;
            }
        }
        let piece = self.prepare(&mut locked, now, true);
        self.take_locked(&mut locked, &piece, now, wanted)
    }

    /// A refusal that needs no lock: at one moment there was too little in the bucket, and nothing in any slot.
    fn try_short(&self, leases: &Leases, wanted: u32) -> Option<Lack> {
        let recalls = leases.recalls();
        let seen = self.word.0.snapshot();
        if !seen.is_plain() || leases.held() > 0 {
            return None;
        }
        // Relaxed: a hint, as in `try_take`.
        let far = self.far.load(Ordering::Relaxed);
        let by_far = if far != 0 { self.try_far(seen, wanted, far) } else { None };
        let lack = match by_far {
            Some(lack) => lack,
            None => match self.course.outlook(seen.granted(), wanted, self.clock.now()) {
                Outlook::Short(lack) => lack,
                _ => return None,
            },
        };
        // In this order: the fence in `is_still` stands behind the look at the slots.
        if !self.word.0.is_still(seen) || leases.recalls() != recalls {
            return None;
        }
        if by_far.is_none() {
            if self.clock.was_back(&lack, &self.course, wanted) {
                return None;
            }
            if lack.is_beyond(2 * late()) {
                self.note_far(seen);
            }
        }
        Some(lack)
    }

    /// Takes as many tokens as there are, `count` at most, without overtaking.
    pub(in crate::limiter) fn take_up_to(&self, count: u32) -> u32 {
        let (_locked, piece, now) = self.open();
        let state = self.word.0.snapshot();
        if state.is_queued() || state.is_closed() {
            return 0;
        }
        self.word.0.take_up_to(count, piece.scale.unit, piece.floor(now), piece.most(now))
    }

    /// Takes `wanted` tokens without waiting and without overtaking, and keeps a receipt.
    pub(in crate::limiter) fn take_with_receipt(&self, wanted: u32) -> Option<Receipt> {
        let (locked, piece, now) = self.open();
        let state = self.word.0.snapshot();
        if state.is_queued() || state.is_closed() {
            return None;
        }
        let units = piece.units(wanted);
        let granted = self.word.0.take(units, piece.floor(now), piece.most(now), false)?;
        Some(locked.refunds.receipt(granted))
    }

    /// Takes `count` tokens, whether they are there or not: those who come later wait for them.
    pub(in crate::limiter) fn charge(&self, count: u32) {
        if count == 0 {
            return;
        }
        self.meter.charged(count);
        let (locked, piece, now) = self.open();
        let floor = self.newcomers_floor(&locked, &piece, now);
        self.word.0.charge(piece.units(count), floor, piece.most(now) + LARGEST_DEBT);
        // The alarm of those in line rings too early now, and is set anew when it has.
    }

    /// Under the lock: what lies in leases goes back into the bucket, as if it had never been granted.
    pub(super) fn recall(&self, locked: &mut Locked<'_>, now: u64) {
        let Some(leases) = &self.leases else { return };
        if locked.leased == 0 {
            return;
        }
        // A try that finds nothing in the slots comes to the lock, because what was there is not in the bucket yet.
        let seen = self.word.0.begin_change();
        let piece = self.course.piece();
        let held = piece.units(leases.recall());
        let granted = seen.granted().max(self.floor_leased(locked, &piece, now)) - held;
        locked.peak = locked.peak.max(seen.granted());
        locked.leased = 0;
        self.word.0.end_change(seen, granted);
    }

    /// Under the lock, in leased mode: below this, what has come is lost. What lay in leases when the lock was released last is within the
    /// burst, also if it has been used since.
    fn floor_leased(&self, locked: &Locked<'_>, piece: &Piece, now: u64) -> u64 {
        piece.floor(now) + piece.units(locked.leased)
    }
}

#[cfg(all(test, target_os = "linux", not(selvedge_loom)))]
mod far {
    use selvedge_primitives::observe::Subject;
    use selvedge_primitives::time::Timer;

    use super::*;
    use crate::Rate;
    use crate::limiter::Settings;

    #[test]
    fn the_time_of_another_note_is_not_believed() {
        let (quota, subject) = (Rate::per_hour(1).burst(2), Subject::here("limiter"));
        let engine = Engine::new(quota, Settings::DEFAULT, Timer::thread(), subject);
        engine.try_take(1).unwrap();
        assert!(engine.try_take(2).is_err());
        let (seen, hour) = (engine.word.0.snapshot(), 3_600_000_000_000_u64 / MARKS * MARKS);
        let far = engine.far.load(Ordering::Relaxed);
        assert_eq!(far, seen.number(), "it was noted");
        let is_refused = |until| {
            engine.far_until.store(until, Ordering::Relaxed);
            engine.try_far(seen, 1, far).is_some()
        };
        assert!(is_refused(hour + mark(seen)), "there is one, but it was noted that there is not");
        assert!(!is_refused(hour + (mark(seen) + 1) % MARKS));
        assert_eq!(engine.try_take(1), Ok(()));
    }
}

#[cfg(all(test, feature = "tsc", not(selvedge_loom)))]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use selvedge_primitives::Anchor;
    use selvedge_primitives::observe::Subject;

    use super::*;
    use crate::clock::tests::{HOUR, counted};
    use crate::limiter::Settings;
    use crate::limiter::engine::{Ask, Place};
    use crate::meter::Meter;
    use crate::{Quota, Rate};

    /// One token a second, of which none is left, by a clock that has gone back by an hour since.
    fn behind(settings: Settings) -> (Arc<Engine>, Arc<quanta::Mock>) {
        let (clock, hand) = counted();
        hand.increment(HOUR);
        let (now, subject) = (clock.now(), Subject::here("limiter"));
        let quota: Quota = Rate::per_second(1).burst(8);
        let engine = Engine::resume(quota, settings, clock, subject, now, 0, Meter::new());
        // The lock notes where the clock is, as any wait does.
        assert_eq!(engine.take_up_to(8), 8);
        hand.decrement(HOUR);
        (Arc::new(engine), hand)
    }

    #[test]
    fn a_clock_that_goes_back_blocks_nobody_for_more_than_an_interval() {
        for leased in [false, true] {
            let (engine, hand) = behind(Settings { leased, ..Settings::DEFAULT });
            let Err(TryAcquireError::NotYet(not_yet)) = engine.try_take(1) else {
                panic!("there is none left")
            };
            assert!(not_yet.retry_in().is_some_and(|time| time <= Duration::from_secs(1)));
            hand.increment(1_000_000_000_u64);
            let told = [1, 1].map(|wanted| engine.try_take(wanted).is_ok());
            assert_eq!(told, [true, false], "leased: {leased}");
            // It comes to where it was: that is the burst, and no more.
            hand.increment(HOUR);
            assert_eq!(engine.take_up_to(9), 8);
        }
    }

    #[test]
    fn a_counter_behind_the_beginning_blocks_nobody() {
        for rate in [Rate::per_second(1), Rate::per_second(1_000), Rate::per_second(1_000_000)] {
            let (clock, hand) = counted();
            let (now, subject) = (clock.now(), Subject::here("limiter"));
            let settings = Settings::DEFAULT;
            let engine =
                Engine::resume(rate.burst(8), settings, clock, subject, now, 0, Meter::new());
            hand.decrement(HOUR);
            // By std's clock some more may have come meanwhile.
            assert!((0..9).filter(|_| engine.try_take(1).is_ok()).count() >= 8, "{rate}");
            hand.increment(1_000_000_000_u64);
            assert!(engine.try_take(1).is_ok(), "{rate}");
        }
    }

    #[test]
    fn who_waits_while_the_clock_goes_back_waits_for_an_interval() {
        let (engine, _) = behind(Settings::DEFAULT);
        let mut place = pin!(Place::new(Anchor::borrowed(engine.queue())));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(engine.poll_wait(place.as_mut(), &mut cx, Ask::new(1)).is_pending());
        let standing = engine.standing(place.as_ref(), Ask::new(1)).expect("it stands in line");
        assert!(standing.due_in.is_some_and(|time| time <= Duration::from_secs(1)));
        engine.leave(place, Ask::new(1));
    }
}
