//! The engine of a limiter: the bucket beside a line of those who wait, and the alarm that serves it.
//!
//! | file | concept |
//! |---|---|
//! | `engine.rs` | what there is, and what it looks like at one moment |
//! | `engine/take.rs` | taking without waiting |
//! | `engine/line.rs` | the line and the alarm |
//! | `engine/bend.rs` | the course: where it bends |
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
//! within another such time gets it, and what comes meanwhile, up to as much in all: the *slack* of the piece of the course. (Who was woken takes a
//! while until it asks again.) Without that, a burst of one and a timer of a
//! millisecond would be a thousand a second at most, and one caller alone would get less than its rate. What is older is gone as
//! if nobody had been in line: a process that was stopped for an hour does not make up for the hour.
//!
//! # Why everybody in line is served
//!
//! Whenever the lock is free and the line is not empty, there is an alarm for a time not after the one at which its front is
//! due, or somebody is on the way to set it (whoever noted it, or a newcomer who has not served yet). The timer rings it, or says
//! that it is lost.

mod bend;
mod line;
mod take;

use std::time::Duration;

use selvedge_primitives::atomic::{AtomicU64, Ordering};
use selvedge_primitives::observe::Subject;
use selvedge_primitives::time::{Timer, TimerError};
use selvedge_primitives::{LineWaiter, Lines, LockedLines};

use super::bell::Bell;
use super::lease::Leases;
use super::plan::{Plan, Settings};
use super::priority::Priority;
use super::refund::{Receipt, Refunds, deficit_in};
use crate::Quota;
use crate::bucket::course::{BEGINNING, Course, Lack, Piece};
use crate::bucket::word::{State, Word};
use crate::clock::{Clock, late};
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
    /// The word for which somebody's tokens were far away, or zero: see [`try_far`](Self::try_far).
    far: AtomicU64,
    /// Until when there is no token at all, by std's clock, if the limiter's is that or the processor's; with a mark of the word.
    far_until: AtomicU64,
    /// By how much the limiter's clock was ahead of that then, as a signed number.
    far_shift: AtomicU64,
    /// What is missing is far away from so many units on.
    far_from: AtomicU64,
    /// How many tokens are wanted in line, for those who do not come to the lock. Changes under it.
    ahead: AtomicU64,
    /// Those who wait.
    queue: Queue,
    /// Counts.
    meter: Meter,
}

/// From how many missing units on it is worth while to note that tokens are far away: see [`Engine::try_far`].
fn far_from(piece: &Piece) -> u64 {
    piece.scale.earned(2 * late())
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
        let [far, far_until, far_shift, ahead] = std::array::from_fn(|_| AtomicU64::new(0));
        let far_from = AtomicU64::new(far_from(&piece));
        Self {
            word,
            course,
            clock,
            leases,
            far,
            far_until,
            far_shift,
            far_from,
            ahead,
            queue,
            meter,
        }
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
    pub(crate) fn quota(&self) -> Quota {
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
        self.clock.catch_up();
        let now = self.clock.now();
        self.settle(&mut locked, now, false);
        let held = self.leases.as_ref().map_or(0, Leases::held);
        look(self.word.0.snapshot(), &self.course.piece(), now, held)
    }

    /// The lock of the line, with the piece of the course that holds now, and nothing in leases.
    fn open(&self) -> (Locked<'_>, Piece, u64) {
        let mut locked = self.queue.lock();
        self.clock.catch_up();
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
}

/// How many are in line.
fn waiting(locked: &Locked<'_>) -> usize {
    Priority::ALL.into_iter().map(|priority| locked.waiting(priority.line())).sum()
}
