//! What the world reads of a node, without the tree's lock.
//!
//! ```text
//!  7      4     3        2          1          0
//! +--------+-------+----------+-----------+----------+
//! | unused | GRACE | DEADLINE | CANCELLED | STOPPING |
//! +--------+-------+----------+-----------+----------+
//! ```
//!
//! | CANCELLED | STOPPING | meaning | left by |
//! |---|---|---|---|
//! | 0 | 0 | running | a walk, or a reader that finds the limit past |
//! | 0 | 1 | asked to finish | a walk, or a reader that finds the limit past |
//! | 1 | 1 | ended, final | nobody |
//!
//! DEADLINE is set when the node carries a deadline, GRACE when it carries the end of a grace; neither is
//! ever cleared. A look at the deadline costs a read of the clock, a look at the grace a lock as well.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_primitives::atomic::{AtomicU8, Ordering};
use selvedge_primitives::observe::Subject;
use selvedge_primitives::time::Timer;
use selvedge_primitives::{FirstPanic, Mutex, Origin, WaitQueue};

use super::limit::Limit;
use crate::{Cause, CauseKind};

/// Asked to finish.
const STOPPING: u8 = 1;
/// Ended.
const CANCELLED: u8 = 2;
/// There is a deadline: ask the clock.
const DEADLINE: u8 = 4;
/// There is the end of a grace: ask the details, and the clock.
const GRACE: u8 = 8;

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// STOPPING.
    Stopping,
    /// CANCELLED.
    Cancelled,
}

impl Level {
    /// The bit that says it is reached.
    const fn bit(self) -> u8 {
        match self {
            Level::Stopping => STOPPING,
            Level::Cancelled => CANCELLED,
        }
    }

    /// The bits that reaching it sets.
    const fn bits(self) -> u8 {
        match self {
            Level::Stopping => STOPPING,
            Level::Cancelled => STOPPING | CANCELLED,
        }
    }
}

/// The part of a node that is read without the tree's lock.
pub(crate) struct Cell {
    /// The flags; see the drawing above.
    word: AtomicU8,
    /// What is behind the flags.
    details: Mutex<Details>,
    /// The earliest deadline in the chain.
    pub(super) deadline: Option<Arc<Limit>>,
    /// Who waits for STOPPING.
    stopping: WaitQueue<(), (), ()>,
    /// Who waits for CANCELLED.
    cancelled: WaitQueue<(), (), ()>,
    /// Name and place.
    pub(crate) origin: Origin,
    /// Tells the observer that the node was made, and when it is gone.
    _subject: Subject,
}

/// What is read only when a flag says that it is there.
struct Details {
    /// The first cause; set before STOPPING, never changed.
    cause: Option<Cause>,
    /// The earliest end of a grace.
    grace: Option<Arc<Limit>>,
}

/// What a walk did to a cell.
pub(super) struct Flagged {
    /// The level that is reached now.
    pub(super) level: Level,
    /// A grace that was replaced by an earlier one; dropped outside the lock.
    pub(super) replaced: Option<Arc<Limit>>,
}

impl Cell {
    /// A cell that carries the earlier of an inherited and an own deadline.
    pub(super) fn new(origin: Origin, deadline: Option<Arc<Limit>>) -> Self {
        let word = if deadline.is_some() { DEADLINE } else { 0 };
        let subject = Subject::new("context", &origin);
        subject.created();
        Self {
            word: AtomicU8::new(word),
            details: Mutex::new(Details { cause: None, grace: None }),
            deadline,
            stopping: WaitQueue::observed((), subject.part("context stopping")),
            cancelled: WaitQueue::observed((), subject.part("context cancelled")),
            origin,
            _subject: subject,
        }
    }

    /// The flag word.
    #[inline]
    fn word(&self) -> u8 {
        // Acquire: pairs with the Release in `raise`; what the canceller did before, the cause
        // included, is visible to whoever sees the flag.
        self.word.load(Ordering::Acquire)
    }

    /// Whether the flag of `level` is set, without a look at the clock.
    pub(crate) fn is_flagged(&self, level: Level) -> bool {
        self.word() & level.bit() != 0
    }

    /// Whether `level` is reached, with a look at the clock if there is a limit.
    #[inline]
    pub(crate) fn has_reached(&self, level: Level) -> bool {
        let word = self.word();
        if word & level.bit() != 0 {
            return true;
        }
        (word & DEADLINE != 0 && self.is_past_deadline())
            || (word & GRACE != 0 && self.is_past_grace())
    }

    /// Whether it is to finish.
    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.has_reached(Level::Stopping)
    }

    /// Whether it has ended.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.has_reached(Level::Cancelled)
    }

    /// Looks at the clock, and records a past deadline on this node only.
    fn is_past_deadline(&self) -> bool {
        let Some(deadline) = self.deadline.as_ref().filter(|deadline| deadline.is_past()) else {
            return false;
        };
        self.raise(Level::Cancelled, || deadline.cause(CauseKind::Deadline));
        true
    }

    /// Looks at the clock, and records the past end of a grace on this node only.
    fn is_past_grace(&self) -> bool {
        let past = self.grace().is_some_and(|grace| grace.is_past());
        if past {
            // A grace has a stop's cause, so this one is not used.
            self.raise(Level::Cancelled, || self.fallback(CauseKind::Stopped));
        }
        past
    }

    /// Sets the flags of `level`, and the cause if it is the first.
    fn raise(&self, level: Level, cause: impl FnOnce() -> Cause) {
        let mut details = self.details.lock();
        if details.cause.is_none() {
            details.cause = Some(cause());
        }
        // Release: publishes the cause and whatever the canceller did before; pairs with the
        // Acquire in `word`.
        self.word.fetch_or(level.bits(), Ordering::Release);
    }

    /// Sets the flags of a walk, under the tree's lock. A limit that is past by now wins: over the
    /// level that was asked for, and over the cause, if there is none yet.
    pub(super) fn flag(&self, level: Level, cause: &Cause, grace: Option<&Arc<Limit>>) -> Flagged {
        // No look at the word: what a walk finds ended has a limit that is past. (And loom's search
        // forgets a reader's load for a load of the thread that is about to set the flag.)
        if self.is_past_deadline() || self.is_past_grace() {
            // Ended is final: it takes no grace, which would be one that nobody times.
            return Flagged { level: Level::Cancelled, replaced: None };
        }
        let replaced = grace.and_then(|grace| self.shorten(grace));
        self.raise(level, || cause.clone());
        Flagged { level, replaced }
    }

    /// Takes an end of a grace unless an earlier one holds. Returns the later one, or the given
    /// one if it was not taken.
    fn shorten(&self, grace: &Arc<Limit>) -> Option<Arc<Limit>> {
        let mut details = self.details.lock();
        let taken = details.grace.as_ref().is_none_or(|held| grace.is_before(held));
        if !taken {
            return None;
        }
        // Relaxed: whoever sees GRACE takes the lock of the details to look at it.
        self.word.fetch_or(GRACE, Ordering::Relaxed);
        details.grace.replace(Arc::clone(grace))
    }

    /// Takes over the state of a parent that is stopping or cancelled, before anybody sees this
    /// cell.
    pub(super) fn inherit(&self, parent: &Cell) {
        let (cause, grace) = {
            let details = parent.details.lock();
            (details.cause.clone(), details.grace.clone())
        };
        let Some(cause) = cause else { return };
        let level =
            if parent.is_flagged(Level::Cancelled) { Level::Cancelled } else { Level::Stopping };
        if let Some(grace) = &grace {
            self.shorten(grace);
        }
        self.raise(level, || cause);
    }

    /// Wakes who waits for what is reached.
    pub(super) fn wake(&self, level: Level, panics: &mut FirstPanic) {
        let stopping = self.stopping.lock();
        panics.catch(|| self.stopping.grant_while(stopping, |(), ()| Some(())));
        if level == Level::Cancelled {
            let cancelled = self.cancelled.lock();
            panics.catch(|| self.cancelled.grant_while(cancelled, |(), ()| Some(())));
        }
    }

    /// The queue of those who wait for `level`.
    pub(crate) fn queue(&self, level: Level) -> &WaitQueue<(), (), ()> {
        match level {
            Level::Stopping => &self.stopping,
            Level::Cancelled => &self.cancelled,
        }
    }

    /// The end of the grace, if a stop gave one.
    pub(super) fn grace(&self) -> Option<Arc<Limit>> {
        self.details.lock().grace.clone()
    }

    /// The cause, if a level is reached.
    pub(crate) fn cause(&self) -> Option<Cause> {
        self.is_stopping().then(|| self.known_cause())
    }

    /// The cause of a cell of which a flag was seen.
    pub(crate) fn known_cause(&self) -> Cause {
        let cause = self.details.lock().cause.clone();
        cause.unwrap_or_else(|| self.fallback(CauseKind::Cancelled))
    }

    /// A cause made of what the cell knows.
    fn fallback(&self, kind: CauseKind) -> Cause {
        Cause::at(kind, self.origin.place())
    }

    /// The earliest deadline in the chain.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.as_ref().map(|deadline| deadline.at)
    }

    /// How long until the deadline.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline.as_ref()?;
        Some(deadline.at.saturating_duration_since(deadline.timer.now()))
    }

    /// The timer of the chain.
    pub(crate) fn timer(&self) -> Option<Timer> {
        match &self.deadline {
            Some(deadline) => Some(deadline.timer.clone()),
            None => self.grace().map(|grace| grace.timer.clone()),
        }
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        match self.cause() {
            None => f.write_str(", running"),
            Some(cause) if self.is_cancelled() => write!(f, ", {cause}"),
            Some(cause) => write!(f, ", stopping: {cause}"),
        }
    }
}
