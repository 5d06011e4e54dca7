//! The line: those who wait, what is known of the front, and the alarm that sees to it that nobody waits behind a
//! front that does not come.
//!
//! # The alarm
//!
//! With [`Fairness::Eventual`] the front is *called*: woken, to come to the lock and take what it wants itself, if nobody
//! was faster. Two things have to happen although nobody may touch the semaphore meanwhile:
//!
//! - a front that has waited for the bound has to say so, by SHUT, or running callers overtake it for ever: it is
//!   called, and looks. If it was called before and has not come (its task waits for the very worker on which somebody overtakes it
//!   again and again), the one behind it is *sent*, and shuts the door for it;
//! - a front that was called because there was something for it, and has not come within its *turn* (the bound, or [`TURN`] if that is longer), has
//!   lost it: it is taken out of the line, told to begin *again*, and the next one is called. It has waited for as long as before, takes
//!   what is there although the door is shut, and has twice as long for its next turn: so those who are always late take each
//!   other's turns for a while only, and one that never comes costs a turn.
//!
//! For this the line has one alarm, a registration with a timer, that is armed when somebody comes to the line or is
//! called and no alarm is armed for as early, so about once a bound. It may ring as much later as the timer's grain
//! ([`Timer::grain`]), so the door is shut as much before the end of the bound, but not before half of that.
//!
//! It reaches the line and not the word, because a semaphore may be
//! moved or dropped while nobody borrows it: so it changes nothing that the word tells (W2). It takes nobody out who is alone in line:
//! there is nobody to whom the turn could go, and whoever comes next sees to it. One that is overdue and has seen that it is
//! is left alone: the door is shut, and whoever gives back calls it.
//!
//! The timer is that of the place where the first waits, unless the user gives one. If it is lost (its runtime was shut down) the
//! timer thread of the process takes over. Where there is none (a runtime without its time driver) no alarm is armed: then QUEUED stays
//! set while a front is on its way, and whoever gives back, or comes to the line, looks at the clock himself.
//!
//! The alarm is armed when the lock is free, and after those who are called were woken: a waker that takes long delays it.
//!
//! Times are of the timer's clock. Who came before a timer was lost has a time of that one's: with clocks that do not agree (one that was
//! moved by hand, or paused) it may be let pass earlier or later than the bound says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_primitives::atomic::{AtomicBool, Ordering};
use selvedge_primitives::observe::Subject;
use selvedge_primitives::time::{Expire, Expiry, Ticket, Timer};
use selvedge_primitives::{Locked, Serve, WaitQueue, Waiter, contain};

use super::age::Age;
use super::fairness::Fairness;
use super::word::State;

/// How long somebody who was called has to come, at least: what most timers count in.
const TURN: Duration = Duration::from_millis(1);

/// What a waiter wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// So many permits.
    pub(super) permits: usize,
    /// When it came to the line, if that was eventual.
    pub(super) since: Option<Instant>,
    /// How long it has waited, with the feature `age`.
    #[cfg_attr(not(feature = "age"), expect(dead_code, reason = "it is nothing then"))]
    pub(super) age: Age,
    /// How often it has begun again; each of its turns is twice as long as the one before.
    pub(super) lost: u8,
}

/// No turn is longer than the first, doubled so many times.
const DOUBLED: u8 = 10;

impl Wish {
    /// Comes now, for so many permits.
    pub(super) fn new(permits: usize) -> Self {
        Self { permits, since: None, age: Age::now(), lost: 0 }
    }

    /// The same after another turn that was lost: it has waited for as long.
    fn late(self) -> Self {
        Self { lost: (self.lost + 1).min(DOUBLED), ..self }
    }
}

/// What a waiter is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Grant {
    /// The permits it asked for are its own.
    Permits,
    /// The semaphore was closed.
    Closed,
    /// It wants more than there is in all by now, which is this.
    OverCapacity(usize),
    /// It was called, did not come, and has lost its turn: it begins again, with this.
    Again(Wish),
}

impl Grant {
    /// The front has lost its turn.
    pub(super) fn again(locked: &Held<'_>) -> Option<Self> {
        locked.front(|wish| Self::Again(wish.late()))
    }
}

/// What the lock of the line guards, beside the line.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Who may overtake whom.
    fairness: Fairness,
    /// When the front was called, if it was.
    called: Option<Instant>,
    /// When the word last told how the front stands, or somebody was called to see to that.
    seen: Option<Instant>,
    /// The clock, and what rings the alarm; found when the first waits.
    timer: Option<Timer>,
    /// For when the alarm is armed.
    armed: Option<Instant>,
    /// The registration, to be revoked if the semaphore goes before.
    ticket: Option<Ticket>,
}

/// The queue of those who wait.
pub(crate) type Queue = WaitQueue<Rules, Wish, Grant>;

/// A place in the line.
pub(super) type Place<'q> = Waiter<'q, Rules, Wish, Grant>;

/// The lock of the line, held.
pub(super) type Held<'a> = Locked<'a, Rules, Wish, Grant>;

/// Those who wait, and their alarm.
#[derive(Debug)]
pub(super) struct Line {
    /// Those who wait.
    pub(super) queue: Queue,
    /// Whether a timer has been looked for; a hint.
    timed: AtomicBool,
}

/// What is to be done when the lock is free.
#[derive(Debug, Default)]
#[must_use = "do it"]
pub(super) enum Errand {
    /// Nothing.
    #[default]
    Nothing,
    /// Arm the alarm: with this timer, for this moment.
    Arm(Timer, Instant),
    /// Serve the line: nobody else may see to its front.
    Serve,
}

impl Errand {
    /// Whether nothing is to be done.
    #[inline]
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

impl Line {
    /// Nobody waits.
    pub(super) fn new(fairness: Fairness, timer: Option<Timer>, subject: Subject) -> Self {
        let timed = AtomicBool::new(timer.is_some());
        let rules = Rules { fairness, called: None, seen: None, timer, armed: None, ticket: None };
        Self { queue: Queue::observed(rules, subject), timed }
    }

    /// Looks for a timer, if nobody has: for one who is about to wait. No lock is held, because it may take a moment.
    pub(super) fn find_timer(&self) {
        // Relaxed: a hint; a second one who looks finds the same.
        if self.timed.load(Ordering::Relaxed) {
            return;
        }
        let found = Timer::ambient().ok();
        let mut locked = self.queue.lock();
        if locked.timer.is_none() {
            locked.timer = found;
        }
        // Relaxed: as above. Where there is none it is not looked for again: tokio tells it by a panic.
        self.timed.store(true, Ordering::Relaxed);
    }

    /// Takes this timer from now on; the alarm of another one counts no more.
    pub(super) fn set_timer(&self, timer: Timer) {
        self.replace_timer(self.queue.lock(), Some(timer));
    }

    /// Takes this timer, or none, from now on.
    fn replace_timer(&self, mut locked: Held<'_>, timer: Option<Timer>) {
        let before = std::mem::replace(&mut locked.timer, timer);
        locked.armed = None;
        locked.ticket = None;
        // Times of another clock.
        locked.seen = None;
        if locked.called.is_some() {
            locked.called = Some(locked.now());
        }
        // Relaxed: as in `find_timer`.
        self.timed.store(true, Ordering::Relaxed);
        drop(locked);
        drop(before);
    }

    /// `timer` is gone, if it is the line's: the timer thread takes over. If that is what is gone, there is none.
    fn lose_timer(&self, timer: &Timer) {
        let thread = Timer::thread();
        let locked = self.queue.lock();
        if locked.has_timer_of(timer) {
            let next = if timer.same_driver(&thread) { None } else { Some(thread) };
            self.replace_timer(locked, next);
        }
    }

    /// Arms the alarm. True if there is no timer any more: the caller serves the line, which sets the flags accordingly.
    pub(super) fn arm(self: &Arc<Self>, timer: &Timer, at: Instant) -> bool {
        let alarm = Arc::new(Alarm { line: Arc::clone(self), timer: timer.clone() });
        let Ok(ticket) = timer.register(at, alarm) else {
            self.lose_timer(timer);
            self.ring();
            return self.queue.lock().timer.is_none();
        };
        let mut locked = self.queue.lock();
        // One that was armed for later is not needed; nor is this one, if it has rung or another was armed for earlier meanwhile.
        let needed = locked.armed == Some(at) && locked.has_timer_of(timer);
        let unneeded = if needed { locked.ticket.replace(ticket) } else { Some(ticket) };
        let timeless = locked.timer.is_none();
        drop(locked);
        if let Some(unneeded) = unneeded {
            timer.revoke(unneeded);
        }
        timeless
    }

    /// The semaphore is gone, and nobody waits who is alive: the alarm need not ring.
    pub(super) fn disarm(&self) {
        let mut locked = self.queue.lock();
        let (timer, ticket) = (locked.timer.clone(), locked.ticket.take());
        drop(locked);
        if let (Some(timer), Some(ticket)) = (timer, ticket) {
            timer.revoke(ticket);
        }
    }

    /// The alarm: see to the front. Calls it, or the next.
    fn ring(self: &Arc<Self>) {
        let mut locked = self.queue.lock();
        let now = locked.now();
        if locked.armed.is_some_and(|at| at <= now) {
            locked.armed = None;
            locked.ticket = None;
        }
        let (mut errand, mut passed) = (Errand::Nothing, false);
        // A waker that panics is nobody's fault here.
        contain(|| {
            self.queue.serve_each(locked, |locked| {
                let (serve, and) = see_to_front(locked, passed);
                passed |= matches!(serve, Serve::Grant(_));
                if !and.is_nothing() {
                    errand = and;
                }
                serve
            });
        });
        if let Errand::Arm(timer, at) = errand {
            // Without a timer everybody has begun again, and sets the flags himself.
            let _none = self.arm(&timer, at);
        }
    }
}

/// What the alarm does for the front, and what then. `passed` says that another has just lost its turn to it.
///
/// Without a timer everybody begins again but one: they look at the clock themselves.
fn see_to_front(locked: &mut Held<'_>, passed: bool) -> (Serve<Grant>, Errand) {
    let (alone, lost) = (locked.len() == 1, locked.timer.is_none());
    let now = locked.now();
    if !locked.is_eventual() {
        return (Serve::Rest, Errand::Nothing);
    }
    let called = is_called(locked);
    let late = called && is_over(turn_end(locked), now);
    if !alone && (lost || late) {
        let again = Grant::again(locked).map_or(Serve::Rest, Serve::Grant);
        return (again, Errand::Nothing);
    }
    if called && alone {
        // It is on its way, and there is nobody to whom its turn could go, or who could see to it.
        return (Serve::Rest, Errand::Nothing);
    }
    if !called && (passed || lost) {
        return (Serve::Call, call(locked, now));
    }
    if is_overdue(locked, now) && !is_seen(locked) {
        // Only to look, and to shut the door: it has no turn to lose, because there may be nothing for it. QUEUED is set, so whoever
        // gives back serves; or it was called before, and the one behind it looks.
        locked.seen = Some(now);
        if called {
            return (Serve::Send, arm(locked, true));
        }
        locked.called = None;
        return (Serve::Call, Errand::Nothing);
    }
    (Serve::Rest, arm(locked, called))
}

/// Whether the front was called because there was something for it, and has not come.
fn is_called(locked: &Held<'_>) -> bool {
    locked.called.is_some() && locked.is_front_called()
}

/// How long the front has to come when it is called.
fn turn(locked: &Held<'_>) -> Duration {
    let Fairness::Eventual(bound) = locked.fairness else { return Duration::MAX };
    let lost = locked.front(|wish| wish.lost).unwrap_or(0);
    bound.max(TURN).saturating_mul(1 << lost)
}

/// When the front that was called has lost its turn, if ever.
fn turn_end(locked: &Held<'_>) -> Option<Instant> {
    locked.called?.checked_add(turn(locked))
}

/// When the front has waited for the bound, if ever. Not without a time: it came while the line was strict, and was told
/// that nobody overtakes it when that changed.
fn bound_end(locked: &Held<'_>) -> Option<Instant> {
    locked.front(|wish| wish.since).flatten()?.checked_add(locked.patience()?)
}

/// Whether this moment has come.
fn is_over(end: Option<Instant>, now: Instant) -> bool {
    end.is_some_and(|end| end <= now)
}

/// Whether the word has told how the front stands, or somebody was called to see to that, since it has waited for the bound.
fn is_seen(locked: &Held<'_>) -> bool {
    bound_end(locked).is_none_or(|end| locked.seen.is_some_and(|seen| seen >= end))
}

/// Arms the alarm, if it is not armed, for when the front has to be seen to next; `called`, if it may lose its turn.
fn arm(locked: &mut Held<'_>, called: bool) -> Errand {
    // Perhaps over by now: then it rings at once.
    let bound = bound_end(locked).filter(|_| !is_seen(locked));
    let turn = turn_end(locked).filter(|_| called);
    locked.arm_at(bound.into_iter().chain(turn).min())
}

/// Notes that the front is called, and arms the alarm.
fn call(locked: &mut Held<'_>, now: Instant) -> Errand {
    locked.called = Some(now);
    arm(locked, true)
}

/// The same, when the word has told how it stands.
pub(super) fn call_told(locked: &mut Held<'_>, now: Instant) -> Errand {
    locked.seen = Some(now);
    call(locked, now)
}

/// One is about to enter an eventual line, of which the word tells `state`: who sees to the front from now on.
pub(super) fn came(locked: &mut Held<'_>, now: Instant, state: State) -> Errand {
    if !locked.sees_to_front(now) {
        return Errand::Serve;
    }
    if locked.is_empty() {
        // The word has told how it stands.
        locked.seen = Some(now);
        return locked.wait(now);
    }
    let called = is_called(locked);
    // One that was sent to see to that has not come, perhaps.
    let open = called && !state.is_shut();
    let unseen = is_overdue(locked, now) && (open || !is_seen(locked));
    if unseen || front(locked, now) == Front::Late {
        return Errand::Serve;
    }
    // The front was alone perhaps, and needed no alarm.
    arm(locked, called)
}

/// The word has told how the front stands, or it has looked: arms the alarm for what comes next, unless it waits and is overdue: then
/// nothing is to be done before it is called.
pub(super) fn arm_for_front(locked: &mut Held<'_>, now: Instant) -> Errand {
    locked.seen = Some(now);
    let called = is_called(locked);
    arm(locked, called)
}

/// The alarm of a line, as it is registered.
struct Alarm {
    /// Whose it is.
    line: Arc<Line>,
    /// With what it is registered.
    timer: Timer,
}

impl Expire for Alarm {
    fn expire(self: Arc<Self>, expiry: Expiry) {
        if expiry == Expiry::Lost {
            self.line.lose_timer(&self.timer);
        }
        self.line.ring();
    }
}

/// How the front of an eventual line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Front {
    /// It was called and is on its way.
    OnItsWay,
    /// It was called and has not come in time.
    Late,
    /// It waits.
    Waits,
}

/// How the front stands at `now`.
pub(super) fn front(locked: &Held<'_>, now: Instant) -> Front {
    match is_called(locked) {
        false => Front::Waits,
        true if is_over(turn_end(locked), now) => Front::Late,
        true => Front::OnItsWay,
    }
}

/// Whether nobody may overtake the front: always so in a strict line, and if it came while the line was that.
pub(super) fn is_overdue(locked: &Held<'_>, now: Instant) -> bool {
    locked.front(|wish| wish.since).flatten().is_none_or(|since| locked.has_waited(since, now))
}

impl Rules {
    /// Who may overtake whom.
    pub(super) fn fairness(&self) -> Fairness {
        self.fairness
    }

    /// Whether running callers may overtake.
    pub(super) fn is_eventual(&self) -> bool {
        matches!(self.fairness, Fairness::Eventual(_))
    }

    /// The time.
    pub(super) fn now(&self) -> Instant {
        match &self.timer {
            Some(timer) => timer.now(),
            None => Instant::now(),
        }
    }

    /// Whether a front that is called need not be seen to by whoever gives back: an alarm does, or will, or it may take for ever.
    pub(super) fn sees_to_front(&self, now: Instant) -> bool {
        self.timer.is_some() || self.is_unbounded(now)
    }

    /// Whether a front that is called and does not come loses its turn to an alarm.
    pub(super) fn has_alarm(&self, now: Instant) -> bool {
        self.timer.is_some() && !self.is_unbounded(now)
    }

    /// Whether the bound is so long that it is never over.
    fn is_unbounded(&self, now: Instant) -> bool {
        match self.fairness {
            Fairness::Eventual(bound) => now.checked_add(bound).is_none(),
            Fairness::Strict => false,
        }
    }

    /// Notes that the front has come.
    pub(super) fn come(&mut self) {
        self.called = None;
    }

    /// Whether one who came at `since` has waited for the bound at `now`. In a strict line everybody has.
    pub(super) fn has_waited(&self, since: Instant, now: Instant) -> bool {
        let Some(patience) = self.patience() else { return true };
        since.checked_add(patience).is_some_and(|due| due <= now)
    }

    /// Whether the timer is of this one's driver.
    fn has_timer_of(&self, timer: &Timer) -> bool {
        self.timer.as_ref().is_some_and(|ours| ours.same_driver(timer))
    }

    /// One comes to a line in which nobody stands: arms the alarm for the end of the bound, if it is not armed. Not for less than a turn: timers are not
    /// as fine, and whoever gives back looks at the clock as well.
    fn wait(&mut self, now: Instant) -> Errand {
        self.patience().map_or(Errand::Nothing, |wait| self.arm_at(now.checked_add(wait.max(TURN))))
    }

    /// For how long running callers may overtake the front: for the bound, less what the alarm may be late by; but for half of the bound
    /// at least. Nobody may in a strict line.
    fn patience(&self) -> Option<Duration> {
        let Fairness::Eventual(bound) = self.fairness else { return None };
        let late = self.timer.as_ref().map_or(Duration::ZERO, Timer::grain);
        Some(bound - late.min(bound / 2))
    }

    /// Changes who may overtake whom.
    pub(super) fn change(&mut self, fairness: Fairness) {
        self.fairness = fairness;
    }

    /// Arms the alarm for `at`, if it is not armed for as early and there ever is such a moment.
    fn arm_at(&mut self, at: Option<Instant>) -> Errand {
        let (Some(at), Some(timer)) = (at, &self.timer) else { return Errand::Nothing };
        if self.armed.is_some_and(|armed| armed <= at) {
            return Errand::Nothing;
        }
        self.armed = Some(at);
        Errand::Arm(timer.clone(), at)
    }
}
