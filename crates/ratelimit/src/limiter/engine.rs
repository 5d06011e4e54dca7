//! The engine of a limiter: the bucket beside a line of those who wait, and the alarm that serves it.
//!
//! # Vocabulary
//!
//! Tokens have *come* by a time; they are *granted* to whoever takes them. The *line* is first in, first out, in classes of which each
//! goes before the next; its *front* is *due* when the tokens that it wants have come. The *alarm* is one registration with the
//! timer, for the time at which the front is due.
//!
//! # Protocol
//!
//! 1. *Try*: while nobody is in line, one CAS on the word. Else the answer is no: a newcomer takes nothing before
//!    those who wait.
//! 2. *Wait*: under the lock of the line, take what has come if the line is empty; else set QUEUED and enter. Whoever has nobody before
//!    it in line serves it then (3), which sets the alarm.
//! 3. *Serve*, under the lock: grant to the front for as long as it is due, then look whether the alarm is set for the next
//!    front, or a time before. What is to be done about it (set, take back) is noted, and done after the lock was released: a
//!    timer may call back at once.
//! 4. *Ring*: the timer calls the engine, not a waiter. It takes the alarm off and serves. So a waiter that is not polled holds up
//!    nobody: it has its tokens, and whoever is behind it is next.
//! 5. *Leave*: a waiter that is dropped in line unlinks itself and serves: whoever was behind it moves up by its tokens,
//!    because what is granted is all that counts, and those were not. One that was granted and not polled since gives its tokens back,
//!    as far as they can be ([`refund`](super::refund)), and serves as well.
//! 6. *Lose*: the timer's driver is gone. Nobody in line would ever be told, so everybody is, now. *Close* is the same, for good.
//! 7. *Change*, under the lock: settle what has come at the old rate, write the new piece of the course, serve. While it is written,
//!    takers come to the lock ([`word`](crate::bucket::word)).
//! 8. *Settle*, under the lock, whenever the piece of the course is over: the next begins where it ended.
//!
//! # The races
//!
//! - *Take against take*: the CAS decides; the loser looks again, and reads the clock again before it says no.
//! - *Take against change*: the CAS of a taker that has reckoned with the old quota fails (W4 of the word).
//! - *Take against wait*. The waiter sets QUEUED by a CAS on the whole word. A take is before it, and the CAS looks again;
//!   or after it, and finds the bit.
//! - *Refund against wait*: both hold the lock; who refunds serves the line (W3).
//! - *Grant against leave*: decided by the lock. The waiter is out of the line, or finds its grant and gives it back.
//! - *Setting the alarm against everything*. An alarm has a number. Whoever comes back from the timer with the ticket and finds another
//!   number, or no alarm, takes the registration back: it was replaced, has rung, or is not needed. A ring takes off whatever
//!   alarm is there and sets it anew if need be, so that a ring for a registration that was taken back too late does no harm.
//! - *Ring against the last one leaving*: the ring finds an empty line and does nothing.
//! - *Close against wait*: CLOSED is set under the lock, and everybody in line is told; who comes to the lock later finds it.
//!
//! # Late alarms
//!
//! A timer rings late: by its grain, and by what the machine is at. What came between the time at which the front was due and the ring
//! was wanted by those in line, and they get it, up to what comes in the *catch-up*: of what is taken in line, only what had come
//! before the *horizon* and is beyond the burst is lost. And if the line is empty then and not all of it was taken, whoever comes
//! within another such time gets it: the *slack* of the piece of the course. Without that, a burst of one and a timer of a
//! millisecond would be a thousand a second at most, and one caller alone would get less than its rate. What is older is gone as
//! if nobody had been in line: a process that was stopped for an hour does not make up for the hour.
//!
//! # Why everybody in line is served
//!
//! Whenever the lock is free and the line is not empty, there is an alarm for a time not after the one at which its front is
//! due, or somebody is on the way to set it (whoever noted it, or a newcomer who has not served yet). The timer rings it, or says
//! that it is lost.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use selvedge_primitives::atomic::{AtomicU64, Ordering};
use selvedge_primitives::observe::Subject;
use selvedge_primitives::time::{Expire, Expiry, Timer, TimerError, nanos};
use selvedge_primitives::{Entry, Left, LineId, LineWaiter, Lines, LockedLines, contain};

use super::bell::{Bell, Errand};
use super::lease::Leases;
use super::plan::{Plan, Settings};
use super::priority::Priority;
use super::refund::{Receipt, Refunds, deficit_in};
use super::{NotYet, Standing, TryAcquireError};
use crate::Quota;
use crate::bucket::course::{ANEW, BEGINNING, Course, LARGEST_DEBT, Lack, Outlook, Piece};
use crate::bucket::scale::{LARGEST_BURST, LONGEST};
use crate::bucket::word::{Refusal, State, Word};
use crate::clock::{Clock, LATE};
use crate::meter::Meter;

/// What a waiter is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grant {
    /// The tokens are its own.
    Tokens(Receipt),
    /// There will never be as many at once; so many there may be.
    OverBurst(u32),
    /// They would come so late, in nanoseconds.
    TooLate(u64),
    /// So many wait already.
    TooMany(usize),
    /// There is nothing to wait for any more.
    Closed,
    /// Nobody will tell it when they have come.
    NoTimer(TimerError),
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    /// How many tokens.
    pub(crate) tokens: u32,
    /// In which class.
    pub(crate) priority: Priority,
    /// Whether more than the burst is taken in parts.
    pub(crate) split: bool,
    /// When the tokens are to have come at the latest, on the limiter's clock.
    pub(crate) latest: u64,
}

impl Ask {
    /// So many tokens, at once, whenever they come.
    pub(crate) const fn new(tokens: u32) -> Self {
        Self { tokens, priority: Priority::Normal, split: false, latest: u64::MAX }
    }
}

/// What one who stands in line has asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// How many tokens it still wants.
    rest: u32,
    /// How many it has got already.
    taken: u32,
    /// Whether more than the burst is taken in parts.
    split: bool,
    /// Of the last part.
    receipt: Receipt,
}

/// What lies beside the line of a class: how many tokens are wanted in it.
#[derive(Debug, Default)]
pub(super) struct Class {
    /// In all.
    wanted: u64,
}

/// So many more than stand in line are served before others get the lock: parts, and those who come meanwhile.
const PARTS: usize = 32;

/// The line: a line for each class.
pub(super) type Queue = Lines<Desk, Class, Request, Grant>;

/// A place in the line.
pub(super) type Place<'q> = LineWaiter<'q, Desk, Class, Request, Grant>;

/// The lock of the line, held.
type Locked<'a> = LockedLines<'a, Desk, Class, Request, Grant>;

/// What the lock of the line guards beside it.
#[derive(Debug)]
pub(super) struct Desk {
    /// What is to be done.
    plan: Plan,
    /// The alarm.
    bell: Bell,
    /// What was given back.
    refunds: Refunds,
    /// The largest value that the word has had before it last shrank.
    peak: u64,
    /// How many tokens lay in leases when the lock was released last, at most.
    leased: u32,
    /// Since when the bucket has been full, if it was when the piece began; kept if it warms up.
    full_since: u64,
    /// How long the piece of the course lasts in all, if it has slack, which is over before.
    lasts: u64,
    /// The piece before, and when it ended.
    past: Option<(Piece, u64)>,
}

impl Desk {
    /// What had been earned at `time`, also if that was before `piece` began: in the one before it. Further back there is nothing, so that
    /// whoever asks for a horizon gets a later one.
    fn earned(&self, piece: &Piece, time: u64) -> u64 {
        let (Some((past, end)), true) = (&self.past, time < piece.since) else {
            return piece.earned(time);
        };
        let come = past.earned(*end) - past.earned(time.min(*end));
        // Rounded down, so that what had been earned is rounded up.
        let come = -deficit_in(past, -i128::from(come), piece.scale.unit);
        piece.base.saturating_sub(u64::try_from(come).unwrap_or(u64::MAX))
    }
}

/// On a line of the cache of its own: whoever takes writes to it.
#[derive(Debug)]
#[repr(align(64))]
struct OwnLine<T>(T);

/// A limiter without a face.
#[derive(Debug)]
pub(crate) struct Engine {
    /// What was granted, and whether somebody is in line.
    word: OwnLine<Word>,
    /// What has come.
    course: Course,
    /// Clock and timer.
    clock: Clock,
    /// What threads have taken in batches, in leased mode.
    leases: Option<Leases>,
    /// The word for which a token is far away, or zero: see [`try_far`](Self::try_far).
    far: AtomicU64,
    /// Until when it is, on the limiter's clock.
    far_until: AtomicU64,
    /// How many tokens are wanted in line, for those who do not come to the lock. Changes under it.
    ahead: AtomicU64,
    /// Those who wait.
    queue: Queue,
    /// Counts.
    meter: Meter,
}

impl Engine {
    /// An engine that begins now, with the whole burst.
    pub(crate) fn new(quota: Quota, settings: Settings, timer: Timer, subject: Subject) -> Self {
        let clock = settings.clock(timer);
        let now = clock.now();
        Self::resume(quota, settings, clock, subject, now, 0, Meter::new())
    }

    /// An engine that began at `now` by this clock, with so many units missing from the burst.
    pub(crate) fn resume(
        quota: Quota,
        settings: Settings,
        clock: Clock,
        subject: Subject,
        now: u64,
        deficit: u64,
        meter: Meter,
    ) -> Self {
        let plan = Plan::new(quota, settings);
        let granted = BEGINNING + deficit;
        let piece = plan.piece(now, u64::MAX).based(BEGINNING);
        let refunds = Refunds::new(piece.scale.unit, granted);
        let (bell, full_since) = (Bell::default(), now);
        let (peak, leased, lasts, past) = (granted, 0, 0, None);
        let desk = Desk { plan, bell, refunds, peak, leased, full_since, lasts, past };
        let queue = Queue::observed(desk, subject);
        let mut locked = queue.lock();
        for priority in Priority::ALL {
            let id = locked.insert(Class::default());
            assert_eq!(id, priority.line(), "lines are numbered from zero on");
        }
        drop(locked);
        let (word, course) = (OwnLine(Word::new(granted)), Course::new(piece));
        let leases = settings.leased.then(|| Leases::new(piece.burst));
        let [far, far_until, ahead] = std::array::from_fn(|_| AtomicU64::new(0));
        Self { word, course, clock, leases, far, far_until, ahead, queue, meter }
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What counts.
    #[inline]
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The line, for a waiter to hold on to.
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What it admits.
    pub(super) fn quota(&self) -> Quota {
        self.queue.lock().plan.quota
    }

    /// How many may be had at once.
    #[inline]
    pub(super) fn burst(&self) -> u32 {
        self.course.burst()
    }

    /// How many units are missing from a full bucket at `now`, which is not long ago, with nobody in line.
    pub(crate) fn deficit(&self, now: u64) -> u64 {
        let (_locked, piece, _) = self.open();
        self.word.0.snapshot().granted().saturating_sub(piece.earned(now))
    }

    /// How many are in line.
    pub(crate) fn waiting(&self) -> usize {
        if self.word.0.snapshot().is_queued() { waiting(&self.queue.lock()) } else { 0 }
    }

    /// Whether nothing is granted any more.
    pub(super) fn is_closed(&self) -> bool {
        self.word.0.snapshot().is_closed()
    }

    /// What `look` says of the word, the piece and the clock, as they are at one moment; and of how many tokens lie in leases.
    fn view<T>(&self, look: impl FnOnce(State, &Piece, u64, u32) -> T) -> T {
        if self.leases.is_none() {
            let (now, seen) = (self.clock.now(), self.word.0.snapshot());
            let piece = self.course.piece();
            if !piece.is_over(now) && self.word.0.is_still(seen) {
                return look(seen, &piece, now, 0);
            }
        }
        let mut locked = self.queue.lock();
        let now = self.clock.now();
        self.settle(&mut locked, now, false);
        let held = self.leases.as_ref().map_or(0, Leases::held);
        look(self.word.0.snapshot(), &self.course.piece(), now, held)
    }

    /// The lock of the line, with the piece of the course that holds now, and nothing in leases.
    fn open(&self) -> (Locked<'_>, Piece, u64) {
        let mut locked = self.queue.lock();
        let now = self.clock.now();
        let piece = self.prepare(&mut locked, now, true);
        (locked, piece, now)
    }

    /// Under the lock: the piece of the course that holds now, for one who `takes` or not; and nothing in leases.
    fn prepare(&self, locked: &mut Locked<'_>, now: u64, takes: bool) -> Piece {
        self.recall(locked, now);
        self.settle(locked, now, takes);
        self.course.piece()
    }

    /// Under the lock: what lies in leases goes back into the bucket, as if it had never been granted.
    fn recall(&self, locked: &mut Locked<'_>, now: u64) {
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

    /// How many tokens a newcomer could take, if nobody is in line.
    pub(crate) fn available(&self) -> u32 {
        self.view(|state, piece, now, held| {
            let granted = state.granted().max(piece.floor(now) + piece.units(held));
            piece.tokens(piece.most(now).saturating_sub(granted)).saturating_add(held)
        })
    }

    /// How long it is until `wanted` tokens have come, if nobody takes any before and those in line have theirs; `wanted` is not above the
    /// burst. None if they never come.
    pub(crate) fn ready_in(&self, wanted: u32) -> Option<Duration> {
        self.view(|state, piece, now, held| {
            let wanted = wanted.saturating_sub(held);
            self.lack(state, piece, now, wanted).wait().map(Duration::from_nanos)
        })
    }

    /// What is missing for a newcomer who wants so much.
    fn lack(&self, state: State, piece: &Piece, now: u64, wanted: u32) -> Lack {
        // Relaxed: a count, right when the lock is free.
        let ahead = self.ahead.load(Ordering::Relaxed);
        let granted = state.granted().max(piece.floor(now));
        Lack::new(piece, piece.needs(granted, ahead + u64::from(wanted)), now)
    }

    /// Takes `wanted` tokens without waiting and without overtaking.
    #[inline]
    pub(crate) fn try_take(&self, wanted: u32) -> Result<(), TryAcquireError> {
        if wanted == 0 {
            return if self.is_closed() { Err(TryAcquireError::Closed) } else { Ok(()) };
        }
        if let Some(leases) = &self.leases {
            let taken = self.word.0.snapshot().is_plain() && leases.hit(wanted);
            return if taken { Ok(()) } else { self.try_lease(leases, wanted) };
        }
        // Acquire: pairs with the Release in `note_far`; the time is of this note, or a later one.
        let far = self.far.load(Ordering::Acquire);
        if far != 0
            && let Some(lack) = self.try_far(wanted, far)
        {
            return Err(TryAcquireError::NotYet(NotYet::new(lack)));
        }
        self.word.0.attempt(
            |granted, now| self.course.outlook(granted, wanted, now),
            || self.clock.now(),
            |seen, lack| {
                if lack.is_beyond(2 * LATE) {
                    self.note_far(seen);
                }
                TryAcquireError::NotYet(NotYet::new(lack))
            },
            |refusal| self.try_locked(wanted, refusal),
        )
    }

    /// Who is refused for longer than the coarse clock may be late notes for which word that is, and until when. While the word stays the same,
    /// which is what it does in a limiter that is asked for far more than it admits, others are refused by the coarse clock, which costs a
    /// third of the exact one: what it says is late, so whoever is refused even if it is late by all it may be is refused by the exact
    /// one, too.
    ///
    /// Word and time are two numbers. They are of one note, or the time is of a later one: then the word has changed since, and if it came back to
    /// what it was (by a refund), one try may be refused that need not be, and the next finds another word noted.
    #[inline]
    fn try_far(&self, wanted: u32, far: u64) -> Option<Lack> {
        let seen = self.word.0.snapshot();
        if seen.number() != far {
            // Relaxed: a hint.
            self.far.store(0, Ordering::Relaxed);
            return None;
        }
        let now = self.clock.coarse()?;
        // Relaxed: a hint.
        if now >= self.far_until.load(Ordering::Relaxed) {
            return None;
        }
        let lack = self.course.lack(seen.granted(), wanted, now)?;
        self.word.0.is_still(seen).then_some(lack)
    }

    /// A token is far away by this word.
    #[cold]
    fn note_far(&self, seen: State) {
        let piece = self.course.piece();
        let due = piece.due(piece.needs(seen.granted(), 1)).unwrap_or(u64::MAX);
        let over = piece.since.saturating_add(piece.lasts);
        if self.clock.coarse().is_some() && self.word.0.is_still(seen) {
            // Relaxed: the next store publishes it.
            self.far_until.store(due.min(over).saturating_sub(LATE), Ordering::Relaxed);
            // Release: publishes the time; pairs with the Acquire in `try_take`.
            self.far.store(seen.number(), Ordering::Release);
        }
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
        if let Some(lack) = self.try_short(leases, wanted) {
            return Err(TryAcquireError::NotYet(NotYet::new(lack)));
        }
        let mut locked = self.queue.lock();
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

    /// A refusal that needs no lock: there is too little in the bucket, and nothing in any slot.
    fn try_short(&self, leases: &Leases, wanted: u32) -> Option<Lack> {
        // Acquire: as in `try_take`.
        let far = self.far.load(Ordering::Acquire);
        if far != 0 {
            // Nothing was in slots when it was noted, and nothing gets there without a change of the word.
            let lack = self.try_far(wanted, far);
            if lack.is_some() {
                return lack;
            }
        }
        let (now, seen) = (self.clock.now(), self.word.0.snapshot());
        if !seen.is_plain() || leases.held() > 0 {
            return None;
        }
        match self.course.outlook(seen.granted(), wanted, now) {
            Outlook::Short(lack) if self.word.0.is_still(seen) => {
                if lack.is_beyond(2 * LATE) {
                    self.note_far(seen);
                }
                Some(lack)
            }
            _ => None,
        }
    }

    /// Takes as many tokens as there are, `count` at most, without overtaking.
    pub(super) fn take_up_to(&self, count: u32) -> u32 {
        let (_locked, piece, now) = self.open();
        let state = self.word.0.snapshot();
        if state.is_queued() || state.is_closed() {
            return 0;
        }
        self.word.0.take_up_to(count, piece.scale.unit, piece.floor(now), piece.most(now))
    }

    /// Takes `wanted` tokens without waiting and without overtaking, and keeps a receipt.
    pub(super) fn take_with_receipt(&self, wanted: u32) -> Option<Receipt> {
        let (locked, piece, now) = self.open();
        let state = self.word.0.snapshot();
        if state.is_queued() || state.is_closed() {
            return None;
        }
        let units = piece.units(wanted);
        let granted = self.word.0.take(units, piece.floor(now), piece.most(now), false)?;
        Some(locked.refunds.receipt(granted))
    }

    /// Serves those who are due, whatever the timer does.
    pub(super) fn serve_due(self: &Arc<Self>) {
        let locked = self.queue.lock();
        if waiting(&locked) > 0 {
            self.serve(locked);
        }
    }

    /// Takes `count` tokens, whether they are there or not: those who come later wait for them.
    pub(super) fn charge(&self, count: u32) {
        if count == 0 {
            return;
        }
        self.meter.charged(count);
        let (locked, piece, now) = self.open();
        let floor = self.newcomers_floor(&locked, &piece, now);
        self.word.0.charge(piece.units(count), floor, piece.most(now) + LARGEST_DEBT);
        // The alarm of those in line rings too early now, and is set anew when it has.
    }

    /// Stands in line.
    pub(super) fn poll_wait(
        self: &Arc<Self>,
        place: Pin<&mut Place<'_>>,
        cx: &mut Context<'_>,
        ask: Ask,
    ) -> Poll<Grant> {
        let (mut first, mut at_once) = (false, false);
        let polled = place.poll_enter(cx, |locked| match self.enter(locked, ask) {
            Ok(grant) => {
                at_once = true;
                Entry::Ready(grant)
            }
            Err((request, is_first)) => {
                first = is_first;
                Entry::Wait((ask.priority.line(), request))
            }
        });
        if first {
            self.serve(self.queue.lock());
        }
        if let Poll::Ready(grant) = &polled {
            self.meter.told(ask.tokens, matches!(grant, Grant::Tokens(_)), at_once);
        }
        polled
    }

    /// Comes to the line: gets what it wants, or is told why not, or enters, and may have nobody before it there.
    fn enter(&self, locked: &mut Locked<'_>, ask: Ask) -> Result<Grant, (Request, bool)> {
        let now = self.clock.now();
        let piece = self.prepare(locked, now, true);
        if self.is_closed() {
            return Ok(Grant::Closed);
        }
        if ask.tokens > piece.burst && !ask.split {
            return Ok(Grant::OverBurst(piece.burst));
        }
        let is_empty = waiting(locked) == 0;
        if is_empty {
            let (units, floor) = (piece.units(ask.tokens), piece.floor(now));
            let taken = self.word.0.take_or_queue(units, floor, piece.most(now));
            if let Some(granted) = taken {
                return Ok(Grant::Tokens(locked.refunds.receipt(granted)));
            }
        }
        if let Some(refusal) = self.refuses(locked, &piece, now, ask) {
            if is_empty {
                self.word.0.clear_queued();
            }
            return Ok(refusal);
        }
        let id = ask.priority.line();
        let is_first = before(locked, id).0 == 0 && locked.waiting(id) == 0;
        self.count(locked, id, i64::from(ask.tokens));
        let receipt = Receipt::default();
        Err((Request { rest: ask.tokens, taken: 0, split: ask.split, receipt }, is_first))
    }

    /// Why one does not get into the line, if so.
    fn refuses(&self, locked: &Locked<'_>, piece: &Piece, now: u64, ask: Ask) -> Option<Grant> {
        if ask.latest != u64::MAX {
            let id = ask.priority.line();
            let wanted = before(locked, id).1 + locked.line(id).map_or(0, |line| line.wanted);
            let granted = self.word.0.snapshot().granted().max(self.floor(locked, piece, now));
            let needs = piece.needs(granted, wanted + u64::from(ask.tokens));
            let due = locked.plan.due(piece, needs);
            if due.is_none_or(|due| due > ask.latest) {
                return Some(Grant::TooLate(due.unwrap_or(u64::MAX).saturating_sub(now)));
            }
        }
        let waiting = waiting(locked);
        (waiting >= locked.plan.settings.max_waiting).then_some(Grant::TooMany(waiting))
    }

    /// So many more tokens are wanted in a line, or fewer.
    fn count(&self, locked: &mut Locked<'_>, id: LineId, more: i64) {
        let class = locked.line_mut(id).expect("there is a line for each class");
        class.wanted = class.wanted.wrapping_add_signed(more);
        // Relaxed: changes under the lock only, and is a count for all others.
        let ahead = self.ahead.load(Ordering::Relaxed);
        // Relaxed: as above.
        self.ahead.store(ahead.wrapping_add_signed(more), Ordering::Relaxed);
    }

    /// Below this, what has come is lost, with or without somebody in line.
    fn newcomers_floor(&self, locked: &Locked<'_>, piece: &Piece, now: u64) -> u64 {
        match waiting(locked) {
            0 => piece.floor(now),
            _ => self.floor(locked, piece, now),
        }
    }

    /// Below this, what has come is lost, with somebody in line.
    fn floor(&self, locked: &Locked<'_>, piece: &Piece, now: u64) -> u64 {
        let horizon = locked.earned(piece, locked.plan.settings.horizon(now));
        horizon.min(piece.floor(now))
    }

    /// Where one who waits stands; none if it does not stand in line, or was granted something.
    pub(super) fn standing(&self, place: Pin<&Place<'_>>, ask: Ask) -> Option<Standing> {
        // What is reckoned below is of the piece that holds: one that is over loses nothing any more, and says too early.
        let mut locked = self.queue.lock();
        let now = self.clock.now();
        self.settle(&mut locked, now, false);
        drop(locked);
        let (people, tokens) = (Cell::new(0), Cell::new(0));
        let look = |request: &Request| {
            people.set(people.get() + 1);
            tokens.set(tokens.get() + u64::from(request.rest));
        };
        place.ahead(look, |locked, id| {
            let now = self.clock.now();
            let piece = self.course.piece();
            let granted = self.word.0.snapshot().granted().max(self.floor(locked, &piece, now));
            let (mut others, mut wanted) = before(locked, id);
            let front = locked.front(id, |front| (front.rest, front.taken > 0));
            let front = front.filter(|_| people.get() == 0);
            if let Some((_, true)) = front {
                // It has got a part: nobody goes before it, whatever the class.
                (others, wanted) = (0, 0);
            }
            let rest = front.map(|(rest, _)| rest);
            let wanted = wanted + tokens.get() + u64::from(rest.unwrap_or(ask.tokens));
            // More than a burst that was lowered is told so, when it comes to the front.
            let fits = ask.split || ask.tokens <= piece.burst;
            let needs = Some(piece.needs(granted, wanted)).filter(|_| fits);
            let due = needs.and_then(|needs| locked.plan.due(&piece, needs));
            let due_in = due.map(|due| Duration::from_nanos(due.saturating_sub(now)));
            Standing { ahead: people.get() + others, due_in }
        })
    }

    /// Leaves the line, or was granted something: the receipt, of which nothing has gone back. How many tokens others may have now.
    pub(super) fn withdraw(
        self: &Arc<Self>,
        place: Pin<&mut Place<'_>>,
        ask: Ask,
    ) -> (Option<Receipt>, u32) {
        let left = place.cancel_with(|mut locked, request| {
            self.count(&mut locked, ask.priority.line(), -i64::from(request.rest));
            self.serve(locked);
        });
        match left {
            Left::Granted(Grant::Tokens(receipt)) => (Some(receipt), 0),
            Left::Queued(Request { rest, taken, receipt, .. }) => {
                self.meter.cancelled();
                (None, rest + self.refund(receipt, taken))
            }
            Left::Granted(_) => {
                self.meter.cancelled();
                (None, 0)
            }
            Left::Nothing => (None, 0),
        }
    }

    /// Leaves the line, or gives back what was granted to `place` and not seen. How many tokens others may have now.
    pub(super) fn leave(self: &Arc<Self>, place: Pin<&mut Place<'_>>, ask: Ask) -> u32 {
        match self.withdraw(place, ask) {
            (Some(receipt), _) => {
                self.meter.cancelled();
                self.refund(receipt, ask.tokens)
            }
            (None, back) => back,
        }
    }

    /// Gives back what was granted and not used, as far as it can be. How many tokens that is.
    pub(super) fn refund(self: &Arc<Self>, receipt: Receipt, tokens: u32) -> u32 {
        if tokens == 0 {
            return 0;
        }
        let mut locked = self.queue.lock();
        let now = self.clock.now();
        let piece = self.prepare(&mut locked, now, false);
        let horizon = locked.earned(&piece, locked.plan.settings.horizon(now));
        let above = locked.refunds.above(receipt, horizon);
        let units = piece.units(tokens);
        let start = locked.refunds.start();
        // Looked at after the word: what others took since has raised the horizon of their time.
        let allowed = |desk: &Desk| {
            let now = desk.earned(&piece, desk.plan.settings.horizon(self.clock.now()));
            above.saturating_sub(now.saturating_sub(horizon)).min(units)
        };
        let (before, mut back) = self.word.0.refund(start, || allowed(&locked));
        locked.peak = locked.peak.max(before);
        if back < units && before - back == start {
            // Below where the piece began the word has been before it. So the course bends, with a smaller deficit.
            let floor = self.newcomers_floor(&locked, &piece, now);
            let rest = |desk: &Desk| allowed(desk).saturating_sub(back);
            back += self.bend(&mut locked, now, floor, piece, rest);
        }
        locked.refunds.gave_back(back);
        if waiting(&locked) > 0 {
            self.serve(locked);
        }
        // A change of the quota since the grant may have cost a unit.
        match piece.scale.unit {
            0 => tokens,
            unit => piece.tokens(back.saturating_add(unit.ilog2().into())).min(tokens),
        }
    }

    /// Serves the line from its front, then sees to the alarm. A waker that panics is nobody's fault here: the hook has told of it,
    /// and all others are woken.
    fn serve<'a>(self: &'a Arc<Self>, mut locked: Locked<'a>) {
        let mut errand = Errand::default();
        let most = waiting(&locked);
        if most == 0 {
            // Whoever was in line has left.
            self.word.0.clear_queued();
            locked.bell.silence(&mut errand);
            drop(locked);
        } else {
            // Those who come while this serves do not keep it serving: at a rate that no thread can keep up with it would never return. For
            // them there is an alarm, which may be past.
            let mut left = most.saturating_add(PARTS);
            contain(|| {
                self.queue.grant_from(locked, |locked| self.next(locked, &mut left, &mut errand));
            });
        }
        self.run(errand);
    }

    /// What the front of the line gets, if it is one of the `left` who are served and it is due; else the alarm is seen to.
    fn next(
        &self,
        locked: &mut Locked<'_>,
        left: &mut usize,
        errand: &mut Errand,
    ) -> Option<(LineId, Grant)> {
        loop {
            let (id, request) = front(locked)?;
            // For each: between two batches wakers run with the lock free, for as long as they like, and what is granted behind them must
            // not count as granted before.
            let now = self.clock.now();
            self.settle(locked, now, true);
            let piece = self.course.piece();
            let is_last = waiting(locked) == 1;
            let rest = i64::from(request.rest);
            if request.rest > piece.burst && !request.split {
                // The burst was lowered.
                *left = left.saturating_sub(1);
                self.count(locked, id, -rest);
                if is_last {
                    self.word.0.clear_queued();
                    locked.bell.silence(errand);
                }
                return Some((id, Grant::OverBurst(piece.burst)));
            }
            let part = request.rest.min(piece.burst);
            let ends = part == request.rest;
            let earned = piece.earned(now);
            let floor = self.floor(locked, &piece, now);
            // QUEUED keeps others away for as long as what is left over is not noted.
            let units = piece.units(part);
            let leaves = self.word.0.snapshot().granted().max(floor).saturating_add(units) < earned;
            let granted = match *left {
                0 => None,
                _ => self.word.0.take(units, floor, piece.most(now), ends && is_last && !leaves),
            };
            let Some(granted) = granted else {
                self.set_alarm(locked, &piece, floor, part, errand);
                return None;
            };
            let receipt = locked.refunds.receipt(granted);
            self.count(locked, id, -i64::from(part));
            if !ends {
                locked.front_mut(id, |request| {
                    request.rest -= part;
                    request.taken += part;
                    request.receipt = receipt;
                });
                *left -= 1;
                continue;
            }
            *left -= 1;
            if is_last {
                locked.bell.silence(errand);
                if leaves {
                    self.slacken(locked, &piece, granted, now);
                    self.word.0.clear_queued();
                }
            }
            return Some((id, Grant::Tokens(receipt)));
        }
    }

    /// Sees to it that an alarm rings when the front is due for so many tokens.
    fn set_alarm(
        &self,
        locked: &mut Locked<'_>,
        piece: &Piece,
        floor: u64,
        part: u32,
        errand: &mut Errand,
    ) {
        let granted = self.word.0.snapshot().granted().max(floor);
        let due = piece.due(piece.needs(granted, part.into()));
        // What comes after the end of the piece is reckoned when it is there.
        let end = piece.since.checked_add(piece.lasts).and_then(|end| end.checked_add(1));
        let at = due.into_iter().chain(end).min().and_then(|at| self.clock.at(at));
        let Some(at) = at else { return locked.bell.silence(errand) };
        let jitter = locked.plan.settings.jitter;
        if locked.bell.rings_by(at.checked_add(jitter).unwrap_or(at)) {
            return;
        }
        let late = if jitter.is_zero() { jitter } else { jitter.mul_f64(fastrand::f64()) };
        locked.bell.ring_at(at.checked_add(late).unwrap_or(at), errand);
    }

    /// The line is empty, and perhaps not all was taken of what came while it was not: it is there for another while.
    fn slacken(&self, locked: &mut Locked<'_>, piece: &Piece, granted: u64, now: u64) {
        let span = locked.plan.settings.credit();
        let earned = piece.earned(now);
        let slack = earned.saturating_sub(granted).min(piece.scale.earned(span)).min(LARGEST_BURST);
        if slack == 0 {
            return;
        }
        if piece.slack == 0 {
            locked.lasts = piece.lasts;
        }
        // The same line, for a while.
        let lasts = now.saturating_sub(piece.since).saturating_add(span).min(locked.lasts);
        self.bend(locked, now, earned - slack, Piece { lasts, slack, ..*piece }, |_| 0);
    }

    /// Under the lock: if the piece of the course is over, the one that holds now, for one who takes or, with `takes` false, only looks.
    fn settle(&self, locked: &mut Locked<'_>, now: u64, takes: bool) {
        loop {
            let piece = self.course.piece();
            if !piece.is_over(now) || locked.plan.is_cold() && !takes {
                return;
            }
            self.recall(locked, now);
            let end = piece.since.saturating_add(piece.lasts);
            let floor = self.newcomers_floor(locked, &Piece { slack: 0, ..piece }, end);
            let next = if piece.slack > 0 && locked.lasts > piece.lasts {
                Piece { lasts: locked.lasts, slack: 0, ..piece }
            } else if locked.plan.warms_up() {
                // Nobody has taken since the end: whoever wants to comes here first.
                let full_since = self.full_since(locked, &piece, end);
                let idle = now.saturating_sub(full_since);
                let begins = locked.plan.advance(idle);
                let cold = full_since.saturating_add(nanos(locked.plan.settings.warm_up));
                locked.plan.piece(if begins { now } else { end }, cold.saturating_sub(end))
            } else {
                without_loss(&piece, locked.plan.piece(end, u64::MAX), end)
            };
            self.bend(locked, end, floor, next, |_| 0);
        }
    }

    /// Since when the bucket is full, or from when on it will be if nobody takes.
    fn full_since(&self, locked: &Locked<'_>, piece: &Piece, at: u64) -> u64 {
        match self.word.0.snapshot().granted() {
            granted if granted <= piece.base => locked.full_since,
            granted if granted <= piece.earned(at) => piece.due(granted).unwrap_or(u64::MAX),
            granted => {
                let fills = piece.scale.due(granted - piece.earned(at));
                fills.and_then(|fills| at.checked_add(fills)).unwrap_or(u64::MAX)
            }
        }
    }

    /// Under the lock: the course bends at `at`, which is not after the end of its piece, and goes on with `next`, for which the base is
    /// reckoned here; the deficit gets smaller by what `back` says, which is given back. What had come below `floor` by then is lost.
    fn bend(
        &self,
        locked: &mut Locked<'_>,
        at: u64,
        floor: u64,
        next: Piece,
        back: impl FnOnce(&Desk) -> u64,
    ) -> u64 {
        let old = self.course.piece();
        if locked.plan.warms_up() {
            locked.full_since = self.full_since(locked, &old, at);
        }
        let seen = self.word.0.begin_change();
        let back = back(locked);
        let before = seen.granted().max(floor);
        let deficit = i128::from(before) - i128::from(old.earned(at)) - i128::from(back);
        // What is beyond a full bucket is what comes while a timer is late, at the new rate as well.
        let credit = next.scale.earned(locked.plan.settings.credit()).min(LARGEST_BURST);
        let most = next.burst_units() + LARGEST_DEBT;
        let deficit = deficit_in(&old, deficit, next.scale.unit);
        let deficit = deficit.clamp(-i128::from(credit), most.into());
        // Above whatever the word has been, so that whoever reckoned with the old piece does not get its result into it.
        let above = locked.peak.max(seen.granted()) + 1;
        let (granted, since) = match above {
            ..ANEW => (above, next.since),
            _ if next.since != old.since => (BEGINNING, next.since),
            // The count begins anew, and so does the piece.
            _ => (BEGINNING, next.since.max(at)),
        };
        let lasts = next.lasts.saturating_sub(since - next.since);
        let next = Piece { since, lasts, ..next };
        let come = next.scale.earned(at.saturating_sub(since).min(lasts));
        let base = u64::try_from(i128::from(granted) - deficit - i128::from(come));
        let next = next.based(base.expect("the count begins above the largest deficit"));
        locked.refunds.change(before - back, granted, next.scale.unit);
        locked.peak = granted;
        if since >= at || since != old.since {
            locked.past = Some((old, at));
        }
        self.course.set(next);
        self.word.0.end_change(seen, granted);
        back
    }

    /// Another quota from now on: what has come until now came at the old rate.
    pub(crate) fn change(self: &Arc<Self>, quota: impl FnOnce(Quota) -> Quota) {
        let mut locked = self.queue.lock();
        let now = self.clock.now();
        let piece = self.prepare(&mut locked, now, false);
        let floor = self.newcomers_floor(&locked, &piece, now);
        let quota = quota(locked.plan.quota);
        locked.plan.change(quota);
        let at = now.min(piece.since.saturating_add(piece.lasts));
        let mut next = locked.plan.piece(now, u64::MAX);
        if locked.plan.warms_up() && !locked.plan.is_cold() {
            // As far on its way as it was.
            let lasts = if piece.slack > 0 { locked.lasts } else { piece.lasts };
            let left = lasts.saturating_sub(now.saturating_sub(piece.since)).max(1);
            next.lasts = next.lasts.min(left);
        }
        let next = without_loss(&piece, next, now);
        if let Some(leases) = &self.leases {
            leases.suit(next.burst);
        }
        self.bend(&mut locked, at, floor, next, |_| 0);
        if waiting(&locked) > 0 {
            self.serve(locked);
        }
    }

    /// Does what is to be done about the alarm, with no lock held.
    fn run(self: &Arc<Self>, mut errand: Errand) {
        let timer = self.clock.timer();
        for ticket in errand.stale() {
            timer.revoke(ticket);
        }
        let Some((at, number)) = errand.fresh() else { return };
        let target: Arc<dyn Expire> = Arc::<Self>::clone(self);
        match timer.register(at, target) {
            Ok(ticket) => {
                let is_set = self.queue.lock().bell.is_set(number, ticket);
                if !is_set {
                    timer.revoke(ticket);
                }
            }
            Err(error) => self.tell(self.queue.lock(), &Grant::NoTimer(error)),
        }
    }

    /// Nothing is granted any more; everybody in line is told. Whether it was open.
    pub(super) fn close(self: &Arc<Self>) -> bool {
        let locked = self.queue.lock();
        let was_open = self.word.0.close();
        self.tell(locked, &Grant::Closed);
        was_open
    }

    /// Everybody in line is told that there is nothing to wait for.
    fn tell<'a>(self: &'a Arc<Self>, mut locked: Locked<'a>, grant: &Grant) {
        let mut errand = Errand::default();
        locked.bell.silence(&mut errand);
        contain(|| {
            self.queue.grant_from(locked, |locked| {
                let (id, request) = front(locked)?;
                self.count(locked, id, -i64::from(request.rest));
                if waiting(locked) == 1 {
                    self.word.0.clear_queued();
                }
                Some((id, grant.clone()))
            });
        });
        self.run(errand);
    }
}

/// The piece after `piece`, which ends at `at`. At the same rate what has come of a unit by then is not lost.
fn without_loss(piece: &Piece, next: Piece, at: u64) -> Piece {
    if next.scale != piece.scale || next.since != at || piece.is_over(at) {
        return next;
    }
    let since = piece.last_unit(at);
    Piece { since, lasts: next.lasts.saturating_add(at - since).min(LONGEST), ..next }
}

/// How many are in line.
fn waiting(locked: &Locked<'_>) -> usize {
    Priority::ALL.into_iter().map(|priority| locked.waiting(priority.line())).sum()
}

/// Who is next, and what it wants: the first of the first class in which somebody stands, but for one that has got a part already.
fn front(locked: &Locked<'_>) -> Option<(LineId, Request)> {
    let fronts = Priority::ALL.into_iter().filter_map(|priority| {
        let id = priority.line();
        Some((id, locked.front(id, |request| *request)?))
    });
    fronts.min_by_key(|(_, request)| request.taken == 0)
}

/// How many stand before the first of a class, and how many tokens they want.
fn before(locked: &Locked<'_>, id: LineId) -> (usize, u64) {
    let mut before = (0, 0);
    let mut is_before = true;
    for at in Priority::ALL.map(Priority::line) {
        is_before &= at != id;
        let begun =
            locked.front(at, |request| (request.taken > 0).then_some(request.rest)).flatten();
        match begun {
            _ if is_before => {
                before.0 += locked.waiting(at);
                before.1 += locked.line(at).map_or(0, |class| class.wanted);
            }
            Some(rest) if at != id => before = (before.0 + 1, before.1 + u64::from(rest)),
            _ => {}
        }
    }
    before
}

impl Expire for Engine {
    fn expire(self: Arc<Self>, expiry: Expiry) {
        if expiry == Expiry::Lost {
            return self.tell(self.queue.lock(), &Grant::NoTimer(TimerError::Lost));
        }
        let now = self.clock.timer().now();
        let mut locked = self.queue.lock();
        let stale = locked.bell.has_rung(now);
        if waiting(&locked) == 0 {
            drop(locked);
        } else {
            self.serve(locked);
        }
        if let Some(ticket) = stale {
            self.clock.timer().revoke(ticket);
        }
    }
}
