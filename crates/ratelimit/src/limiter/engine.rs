//! The engine of a limiter: the state word and the clock beside a line of those who wait, and the
//! alarm that serves it.
//!
//! # Vocabulary
//!
//! Tokens have *come* by a time; they are *granted* to whoever takes them. The *line* is strictly first
//! in, first out; its *front* is *due* when the tokens that it wants have come. The *alarm* is one
//! registration with the timer, for the time at which the front is due.
//!
//! # Protocol
//!
//! 1. *Try*: while nobody is in line, one CAS on the word. Else the answer is no: a newcomer takes
//!    nothing before those who wait.
//! 2. *Wait*: under the lock of the line, take what has come if the line is empty; else set QUEUED
//!    and enter. The first in line serves it then (3), which sets the alarm.
//! 3. *Serve*, under the lock: grant to the front for as long as it is due, then look whether the alarm
//!    is set for the next front, or a time before. What is to be done about it (set, take back) is
//!    noted, and done after the lock was released: a timer may call back at once.
//! 4. *Ring*: the timer calls the engine, not a waiter. It takes the alarm off and serves. So a
//!    waiter that is not polled holds up nobody: it has its tokens, and whoever is behind it is next.
//! 5. *Leave*: a waiter that is dropped in line unlinks itself and serves: whoever was behind it
//!    moves up by its tokens, because what is granted is all that counts, and those were not. One that
//!    was granted and not polled since gives its tokens back, as far as they can be (see below), and
//!    serves as well.
//! 6. *Lose*: the timer's driver is gone. Nobody in line would ever be told, so everybody is, now.
//!
//! # The races
//!
//! - *Take against take*: the CAS decides; the loser looks again, and reads the clock again before it
//!   says no.
//! - *Take against wait*. The waiter sets QUEUED by a CAS on the whole word. A take is before it, and
//!   the CAS looks again; or after it, and finds the bit.
//! - *Refund against wait*: both hold the lock; who refunds serves the line (W3).
//! - *Grant against leave*: decided by the lock. The waiter is out of the line, or finds its grant and
//!   gives it back.
//! - *Setting the alarm against everything*. An alarm has a number. Whoever comes back from the
//!   timer with the ticket and finds another number, or no alarm, takes the registration back: it was
//!   replaced, has rung, or is not needed. A ring takes off whatever alarm is there and sets it anew if
//!   need be, so that a ring for a registration that was taken back too late does no harm.
//! - *Ring against the last one leaving*: the ring finds an empty line and does nothing.
//!
//! # Late alarms
//!
//! A timer rings late: by its grain, and by what the machine is at. What came between the time at which
//! the front was due and the ring was wanted by those in line, and they get it, up to what comes in
//! [`CATCH_UP`], as long as the line is not empty: who comes again when it was served, alone, comes anew.
//! Without that, a burst of one and a timer of a millisecond would be a thousand a second at most. What is older is gone as if nobody had been in line: a process that was stopped for
//! an hour does not make up for the hour.
//!
//! # Refunds
//!
//! A token that is given back long after it was granted may be one that would be beyond the burst by now,
//! had it never been granted; to give it to somebody beside a full bucket would be too much. So a grant
//! keeps its [`Receipt`]: how many were granted in all, it included. At a refund no more goes back than
//! that is above what had come at the horizon, less what *older* grants gave back since. Then
//! what is used in a span of time that begins at `s` and ends at `e` is at most the burst and what came
//! from the horizon of `s` to `e`, with refunds as without. Count `N`, all that was ever granted (or gone
//! beyond the burst), and `R`, all that was ever given back; the word has `N - R`.
//!
//! - Without refunds, what is used is at most `granted(e) - granted(s)`, with `granted(e) <= earned(e) +
//!   burst` and `granted(s) >= earned(horizon of s)`, since a take raises it to that. A refund in the span
//!   of a grant in the span takes away what was not used. So it remains to be shown that what grants before
//!   `s` give back in the span is at most `granted(s) - earned(horizon of s)`.
//! - Take those grants from the oldest on: the first `j` of them give back at most `N_j` less what was
//!   given back before `s` by older ones, less `earned(horizon of s)`, or nothing if that is below zero.
//!   For the first, that is the rule. From one to the next, `N` grows by the next one's tokens, and by those
//!   of the grants between them, which gave back no more than they had.
//! - `granted(s) = N(s) - R(s)`, and what was granted behind the newest of them gave back no more than it
//!   had: so `granted(s)` is at least the `N_j` of the newest less what older ones gave back before `s`.
//!
//! What older grants gave back is not known of each pair, but where all who gave back since did so from the
//! newest on, and so does this one, it is nothing; else everything since the grant counts, which is never
//! too little. Nothing is held back within [`CATCH_UP`] of the time at which the tokens had come, but for
//! that.
//!
//! # Why everybody in line is served
//!
//! Whenever the lock is free and the line is not empty, there is an alarm for a time not after the one at
//! which its front is due, or somebody is on the way to set it (whoever noted it, or a newcomer who has
//! not served yet). The timer rings it, or says that it is lost.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use selvedge_primitives::time::{Expire, Expiry, Ticket, Timer, TimerError};
use selvedge_primitives::{Entry, Left, Locked, WaitQueue, Waiter, contain};

use super::accrual::Accrual;
use super::word::{Take, Word};
use crate::Quota;

/// How late an alarm may ring without a loss to those in line.
pub(super) const CATCH_UP: Duration = Duration::from_millis(2);

/// What a waiter is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grant {
    /// The tokens are its own.
    Tokens(Receipt),
    /// Nobody will tell it when they have come.
    NoTimer(TimerError),
}

/// What a refund has to know of the grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Receipt {
    /// How many tokens were granted in all, with these.
    granted: u64,
    /// How many had been given back in all.
    refunded: u64,
}

/// The line: requests are numbers of tokens.
pub(super) type Queue = WaitQueue<Bell, u32, Grant>;

/// A place in the line.
pub(super) type Place<'q> = Waiter<'q, Bell, u32, Grant>;

/// The state beside the line: the alarm that is set, and what was given back.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// The alarm.
    alarm: Option<Alarm>,
    /// The number of the next one.
    next: u64,
    /// How many tokens were given back in all; modulo 2^64, as all that is reckoned from it.
    refunded: u64,
    /// How many had been when the refunds began that came from ever older grants, up to the last.
    backwards: u64,
    /// The number of the grant that gave back last: what had ever been granted then.
    last: u64,
}

/// A registration with the timer, or one that is about to be made.
#[derive(Debug)]
struct Alarm {
    /// When it rings.
    at: Instant,
    /// Tells it from those before.
    number: u64,
    /// Once it was made.
    ticket: Option<Ticket>,
}

/// What is to be done about the alarm when the lock is released.
#[derive(Debug, Default)]
struct Errand {
    /// To be taken back. Two, if the line was found empty between two batches of grants, and then not.
    stale: [Option<Ticket>; 2],
    /// To be set: when it rings, and its number.
    fresh: Option<(Instant, u64)>,
}

/// A limiter without a face.
#[derive(Debug)]
pub(super) struct Engine {
    /// What was granted, and whether somebody is in line.
    word: Word,
    /// The rate.
    accrual: Accrual,
    /// What was asked for.
    quota: Quota,
    /// When the count began.
    origin: Instant,
    /// Clock and alarm.
    timer: Timer,
    /// Those who wait.
    queue: Queue,
}

impl Engine {
    /// An engine that begins now, with the whole burst.
    pub(super) fn new(quota: Quota, timer: Timer) -> Self {
        Self {
            word: Word::new(),
            accrual: Accrual::new(&quota),
            quota,
            origin: timer.now(),
            timer,
            queue: Queue::new(Bell::default()),
        }
    }

    /// What it admits.
    pub(super) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// The line, for a waiter to hold on to.
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Whether somebody is in line.
    pub(super) fn is_waited_for(&self) -> bool {
        self.word.snapshot().is_queued()
    }

    /// How many tokens have come by now.
    #[inline]
    fn earned(&self) -> u64 {
        self.accrual.earned(self.elapsed())
    }

    /// Nanoseconds since the count began; at most 584 years.
    #[inline]
    fn elapsed(&self) -> u64 {
        let elapsed = self.timer.now().saturating_duration_since(self.origin);
        // What a u64 can be checked for at a glance; `as_nanos` is a multiplication of 128 bits.
        let seconds = elapsed.as_secs().checked_mul(1_000_000_000);
        let nanos = seconds.and_then(|nanos| nanos.checked_add(elapsed.subsec_nanos().into()));
        nanos.unwrap_or(u64::MAX)
    }

    /// How many tokens a newcomer could take, if nobody is in line.
    pub(super) fn available(&self) -> u32 {
        let state = self.word.snapshot();
        state.available(self.earned(), self.quota.burst_size())
    }

    /// How long it is until `wanted` tokens have come, if nobody takes any before; `wanted` is not above
    /// the burst. None if they never come.
    pub(super) fn ready_in(&self, wanted: u32) -> Option<Duration> {
        let state = self.word.snapshot();
        let due = self.accrual.due(state.needs(wanted, self.quota.burst_size()))?;
        Some(Duration::from_nanos(due.saturating_sub(self.elapsed())))
    }

    /// Takes `wanted` tokens, not more than the burst, without waiting and without overtaking.
    #[inline]
    pub(super) fn try_take(&self, wanted: u32) -> Take {
        self.word.try_take(wanted, self.quota.burst_size(), || self.earned())
    }

    /// Stands in line for `wanted` tokens, not more than the burst.
    pub(super) fn poll_wait(
        self: &Arc<Self>,
        place: Pin<&mut Place<'_>>,
        cx: &mut Context<'_>,
        wanted: u32,
    ) -> Poll<Grant> {
        let mut first = false;
        let polled = place.poll_enter(cx, |locked| {
            if !locked.is_empty() {
                return Entry::Wait(wanted);
            }
            match self.word.take_or_queue(wanted, self.quota.burst_size(), self.earned()) {
                // Seen at once, so nobody asks for the receipt.
                Take::Taken => Entry::Ready(Grant::Tokens(Receipt::default())),
                Take::Short | Take::Queued => {
                    first = true;
                    Entry::Wait(wanted)
                }
            }
        });
        if first {
            self.serve(self.queue.lock());
        }
        polled
    }

    /// Leaves the line, or gives back what was granted to `place` and not seen.
    pub(super) fn leave(self: &Arc<Self>, place: Pin<&mut Place<'_>>, wanted: u32) {
        match place.cancel_then(|locked| self.serve(locked)) {
            Left::Granted(Grant::Tokens(receipt)) => self.refund(receipt, wanted),
            Left::Granted(Grant::NoTimer(_)) | Left::Queued(_) | Left::Nothing => {}
        }
    }

    /// Gives back what was granted and not used.
    fn refund(self: &Arc<Self>, receipt: Receipt, count: u32) {
        let mut locked = self.queue.lock();
        let older = locked.given_back_by_older(receipt);
        let back = self.word.refund(count, || {
            let horizon = self.accrual.earned(horizon(self.elapsed()));
            receipt.granted.saturating_sub(older).saturating_sub(horizon)
        });
        locked.refunded = locked.refunded.wrapping_add(back);
        if locked.is_empty() {
            drop(locked);
        } else {
            self.serve(locked);
        }
    }

    /// Serves the line from its front, then sees to the alarm. A waker that panics is nobody's fault
    /// here: the hook has told of it, and all others are woken.
    fn serve<'a>(self: &'a Arc<Self>, mut locked: Locked<'a, Bell, u32, Grant>) {
        let mut errand = Errand::default();
        if locked.is_empty() {
            // Whoever was in line has left.
            self.word.clear_queued();
            locked.silence(&mut errand);
            drop(locked);
        } else {
            let burst = self.quota.burst_size();
            // Those who come while this serves do not keep it serving: at a rate that no thread can
            // keep up with it would never return. For them there is an alarm, which may be past.
            let mut most = locked.len();
            contain(|| {
                self.queue.grant_each(locked, |locked| {
                    let wanted = locked.front(|wanted| *wanted)?;
                    let last = locked.len() == 1;
                    // For each: between two batches wakers run with the lock free, for as long as they
                    // like, and what is granted behind them must not count as granted before.
                    let now = self.elapsed();
                    let earned = self.accrual.earned(now);
                    let horizon = self.accrual.earned(horizon(now));
                    let granted = match most {
                        0 => None,
                        _ => self.word.hand_over(wanted, horizon, earned, burst, last),
                    };
                    if let Some(granted) = granted {
                        most -= 1;
                        if last {
                            locked.silence(&mut errand);
                        }
                        let refunded = locked.refunded;
                        return Some(Grant::Tokens(Receipt { granted, refunded }));
                    }
                    let needs = self.word.snapshot().needs(wanted, burst);
                    match self.due(needs) {
                        Some(at) => locked.ring_at(at, &mut errand),
                        None => locked.silence(&mut errand),
                    }
                    None
                });
            });
        }
        self.run(errand);
    }

    /// When so many tokens will have come; none if the clock has no such time.
    fn due(&self, needs: u64) -> Option<Instant> {
        self.origin.checked_add(Duration::from_nanos(self.accrual.due(needs)?))
    }

    /// Does what is to be done about the alarm, with no lock held.
    fn run(self: &Arc<Self>, errand: Errand) {
        for ticket in errand.stale.into_iter().flatten() {
            self.timer.revoke(ticket);
        }
        let Some((at, number)) = errand.fresh else { return };
        let target: Arc<dyn Expire> = Arc::<Self>::clone(self);
        match self.timer.register(at, target) {
            Ok(ticket) => {
                let mut locked = self.queue.lock();
                match &mut locked.alarm {
                    Some(alarm) if alarm.number == number => alarm.ticket = Some(ticket),
                    _ => {
                        drop(locked);
                        self.timer.revoke(ticket);
                    }
                }
            }
            Err(error) => self.lose(&error),
        }
    }

    /// There is no timer: everybody in line is told.
    fn lose(self: &Arc<Self>, error: &TimerError) {
        let mut errand = Errand::default();
        let mut locked = self.queue.lock();
        locked.silence(&mut errand);
        contain(|| {
            self.queue.grant_each(locked, |locked| {
                if locked.len() == 1 {
                    self.word.clear_queued();
                }
                Some(Grant::NoTimer(error.clone()))
            });
        });
        self.run(errand);
    }
}

/// Before what was `now`, in nanoseconds, tokens beyond the burst are gone also to those in line.
fn horizon(now: u64) -> u64 {
    now.saturating_sub(CATCH_UP.as_nanos() as u64)
}

impl Bell {
    /// At most what grants older than `receipt` have given back since; notes that it gives back now.
    fn given_back_by_older(&mut self, receipt: Receipt) -> u64 {
        let number = receipt.granted.wrapping_add(receipt.refunded);
        // What is alive lies closer together than 2^63.
        let backwards = (number.wrapping_sub(self.last) as i64) < 0;
        self.last = number;
        if !backwards {
            self.backwards = self.refunded;
        }
        let since = self.refunded.wrapping_sub(receipt.refunded);
        let run = self.refunded.wrapping_sub(self.backwards);
        if backwards && since <= run { 0 } else { since }
    }

    /// Sees to it that there is an alarm not after `at`.
    fn ring_at(&mut self, at: Instant, errand: &mut Errand) {
        if self.alarm.as_ref().is_some_and(|alarm| alarm.at <= at) {
            return;
        }
        let number = self.next;
        self.next += 1;
        let old = self.alarm.replace(Alarm { at, number, ticket: None });
        errand.stale[1] = old.and_then(|alarm| alarm.ticket);
        errand.fresh = Some((at, number));
    }

    /// Sees to it that there is no alarm.
    fn silence(&mut self, errand: &mut Errand) {
        // One that rings for an empty line does no harm, so what is in the errand already goes first.
        if errand.stale[0].is_none() {
            // Without a ticket: whoever comes back with it takes it back.
            errand.stale[0] = self.alarm.take().and_then(|alarm| alarm.ticket);
        }
    }
}

impl Expire for Engine {
    fn expire(self: Arc<Self>, expiry: Expiry) {
        if expiry == Expiry::Lost {
            return self.lose(&TimerError::Lost);
        }
        let now = self.timer.now();
        let mut locked = self.queue.lock();
        // It has rung, or is about to; or this is a ring for one that was taken back, and it is not.
        let alarm = locked.alarm.take().filter(|alarm| alarm.at > now);
        if locked.is_empty() {
            drop(locked);
        } else {
            self.serve(locked);
        }
        if let Some(ticket) = alarm.and_then(|alarm| alarm.ticket) {
            self.timer.revoke(ticket);
        }
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_counted_modulo_two_to_the_64() {
        let mut bell = Bell { refunded: u64::MAX, ..Bell::default() };
        let receipt = Receipt { granted: 5, refunded: u64::MAX - 1 };
        assert_eq!(bell.given_back_by_older(receipt), 1);
        bell.refunded = bell.refunded.wrapping_add(3);
        // An older one, after the newer: of what was given back since, nothing counts.
        assert_eq!(bell.given_back_by_older(Receipt { granted: 3, refunded: u64::MAX }), 0);
        // A newer one again: everything since its grant.
        assert_eq!(bell.given_back_by_older(Receipt { granted: 9, refunded: u64::MAX }), 3);
    }
}
