//! The line: those who wait, what is known of the front, and the alarm that sees to it that nobody waits behind a
//! front that does not come.
//!
//! # The alarm
//!
//! With [`Fairness::Eventual`] the front is *called*: woken, to come to the lock and take what it wants itself, if nobody
//! was faster. Two things have to happen although nobody may touch the semaphore meanwhile:
//!
//! - a front that has waited for the bound has to say so, by SHUT, or running callers overtake it for ever: it is
//!   called, and looks;
//! - a front that was called and has not come within the bound (or within [`TURN`], if that is longer) has lost its turn: it is
//!   taken out of the line, told to begin *again*, and the next one is called.
//!
//! For this the line has one alarm, a registration with a timer, that is armed when somebody comes to the line or is
//! called and no alarm is armed, so at most once a bound. It reaches the line and not the word, because a semaphore may be
//! moved or dropped while nobody borrows it: so it changes nothing that the word tells (W2). It takes nobody out who is alone in line:
//! there is nobody to whom the turn could go, and running callers look for themselves.
//!
//! Without a timer (a runtime without its time driver, or a driver that was shut down) no alarm is armed. Then QUEUED stays set while a
//! front is on its way, and whoever gives back looks at the clock himself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_primitives::atomic::{AtomicBool, Ordering};
use selvedge_primitives::observe::Subject;
use selvedge_primitives::time::{Expire, Expiry, Timer};
use selvedge_primitives::{Locked, Serve, WaitQueue, Waiter, contain};

use super::age::Age;
use super::fairness::Fairness;

/// How long somebody who was called has to come, at least: the grain of most timers.
const TURN: Duration = Duration::from_millis(1);

/// What a waiter wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// So many permits.
    pub(super) permits: usize,
    /// When it came to the line, if that was eventual.
    pub(super) since: Option<Instant>,
    /// How long it has waited, with the feature `age`.
    #[cfg_attr(not(feature = "age"), expect(dead_code, reason = "it is nothing then"))]
    pub(super) age: Age,
}

/// What a waiter is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// The permits it asked for are its own.
    Permits,
    /// The semaphore was closed.
    Closed,
    /// It wants more than there is in all by now, which is this.
    OverCapacity(usize),
    /// It was called, did not come, and has lost its turn: it begins again.
    Again,
}

/// What the lock of the line guards, beside the line.
#[derive(Debug)]
pub(super) struct Rules {
    /// Who may overtake whom.
    fairness: Fairness,
    /// When the front was called, if it was.
    called: Option<Instant>,
    /// The clock, and what rings the alarm; found when the first waits.
    timer: Option<Timer>,
    /// Whether the alarm is armed.
    armed: bool,
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

/// What is to be done when the lock is free: arm the alarm.
#[derive(Debug, Default)]
#[must_use = "arm the alarm"]
pub(super) struct Errand(
    /// With which timer, for when.
    Option<(Timer, Instant)>,
);

impl Errand {
    /// Whether nothing is to be done.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl Line {
    /// Nobody waits.
    pub(super) fn new(fairness: Fairness, timer: Option<Timer>, subject: Subject) -> Self {
        let timed = AtomicBool::new(timer.is_some());
        let rules = Rules { fairness, called: None, timer, armed: false };
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
        drop(locked);
        // Relaxed: as above. Where there is none it is not looked for again: tokio tells it by a panic.
        self.timed.store(true, Ordering::Relaxed);
    }

    /// The timer is gone. The next one who is about to wait finds another.
    fn lose_timer(&self, mut locked: Held<'_>) {
        locked.armed = false;
        let timer = locked.timer.take();
        drop(locked);
        drop(timer);
        // Relaxed: as in `find_timer`.
        self.timed.store(false, Ordering::Relaxed);
    }

    /// Arms the alarm, if that is the errand. True if it cannot be: then whoever comes has to look at the clock, and the caller
    /// serves the line, which says so.
    pub(super) fn run(self: &Arc<Self>, errand: Errand) -> bool {
        let Some((timer, at)) = errand.0 else { return false };
        let alarm: Arc<Self> = Arc::clone(self);
        if timer.register(at, alarm).is_ok() {
            return false;
        }
        self.lose_timer(self.queue.lock());
        true
    }

    /// The alarm: see to the front. Calls it, or the next.
    fn ring(self: &Arc<Self>, expiry: Expiry) {
        if expiry == Expiry::Lost {
            self.lose_timer(self.queue.lock());
        }
        let mut locked = self.queue.lock();
        locked.armed = false;
        let (mut errand, mut passed) = (Errand::default(), false);
        // A waker that panics is nobody's fault here.
        contain(|| {
            self.queue.serve_each(locked, |locked| match see_to_front(locked, expiry, passed) {
                (Serve::Grant(Grant::Again), _) => {
                    passed = true;
                    Serve::Grant(Grant::Again)
                }
                (serve, and) => {
                    errand = and;
                    serve
                }
            });
        });
        if self.run(errand) {
            self.ring(Expiry::Lost);
        }
    }
}

/// What the alarm does for the front, and what then. `passed` says that another has just lost its turn to it.
///
/// Without a timer everybody begins again but one: they find another timer, or look at the clock themselves.
fn see_to_front(locked: &mut Held<'_>, expiry: Expiry, passed: bool) -> (Serve<Grant>, Errand) {
    let (called, alone, lost) =
        (locked.is_front_called(), locked.len() == 1, expiry == Expiry::Lost);
    let now = locked.now();
    let Some(due) = due(locked, now) else { return (Serve::Rest, Errand::default()) };
    if !alone && (lost || called && due <= now) {
        return (Serve::Grant(Grant::Again), Errand::default());
    }
    if called {
        // It is on its way, or there is nobody to whom its turn could go.
        let again = if alone { None } else { Some(due) };
        return (Serve::Rest, locked.arm_at(again));
    }
    if !(lost || passed || due <= now) {
        return (Serve::Rest, locked.arm_at(Some(due)));
    }
    (Serve::Call, locked.call(now))
}

/// When the front has to be seen to, if ever. If it came while the line was strict, now.
fn due(locked: &Held<'_>, now: Instant) -> Option<Instant> {
    let Fairness::Eventual(bound) = locked.fairness else { return None };
    match locked.called.filter(|_| locked.is_front_called()) {
        Some(called) => called.checked_add(bound.max(TURN)),
        None => match locked.front(|wish| wish.since)? {
            Some(since) => since.checked_add(bound),
            None => Some(now),
        },
    }
}

/// Arms the alarm for the front, if it is not armed, unless it is overdue already: then nothing is to be done before it is called.
pub(super) fn arm_for_front(locked: &mut Held<'_>, now: Instant) -> Errand {
    let due = due(locked, now).filter(|due| *due > now);
    locked.arm_at(due)
}

impl Expire for Line {
    fn expire(self: Arc<Self>, expiry: Expiry) {
        self.ring(expiry);
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
    match due(locked, now) {
        _ if locked.called.is_none() || !locked.is_front_called() => Front::Waits,
        Some(due) if due <= now => Front::Late,
        _ => Front::OnItsWay,
    }
}

/// Whether nobody may overtake the front: always so in a strict line, and if it came while the line was that.
pub(super) fn is_overdue(locked: &Held<'_>, now: Instant) -> bool {
    let Fairness::Eventual(bound) = locked.fairness else { return true };
    let since = locked.front(|wish| wish.since).flatten();
    since.is_none_or(|since| since.checked_add(bound).is_some_and(|due| due <= now))
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
        self.armed || self.timer.is_some() || self.is_unbounded(now)
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

    /// Notes that the front is called, and arms the alarm for the end of its turn, if it is not armed.
    pub(super) fn call(&mut self, now: Instant) -> Errand {
        self.called = Some(now);
        self.arm(now, TURN)
    }

    /// One comes to the line: arms the alarm for the end of the bound, if it is not armed.
    pub(super) fn wait(&mut self, now: Instant) -> Errand {
        self.arm(now, Duration::ZERO)
    }

    /// Arms the alarm for the bound from `now` on, which is at least `least`, if it is not armed.
    fn arm(&mut self, now: Instant, least: Duration) -> Errand {
        match self.fairness {
            Fairness::Eventual(bound) => self.arm_at(now.checked_add(bound.max(least))),
            Fairness::Strict => Errand::default(),
        }
    }

    /// Changes who may overtake whom. The alarm, if it is armed, may be for a moment that is too late by the new bound: it
    /// does not count any more.
    pub(super) fn change(&mut self, fairness: Fairness) {
        self.fairness = fairness;
        self.armed = false;
    }

    /// Arms the alarm for `at`, if it is not armed and there ever is such a moment.
    fn arm_at(&mut self, at: Option<Instant>) -> Errand {
        let (Some(at), Some(timer), false) = (at, &self.timer, self.armed) else {
            return Errand::default();
        };
        self.armed = true;
        Errand(Some((timer.clone(), at)))
    }
}
