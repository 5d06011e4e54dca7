//! A time that a stage waits for: the engine under batches and ticks.
//!
//! # Vocabulary
//!
//! An [`Alarm`] is the stage's hold on its timer; a [`Bell`] is what the timer rings. Each time that
//! is [set](Alarm::set) has a bell of its own, so one that rings late, for a time that was taken
//! back, is heard by nobody.
//!
//! # Protocol
//!
//! 1. `set` registers a bell with the timer.
//! 2. The timer, on its own thread, notes in the bell that it rang, then takes the waker out under
//!    the bell's lock and wakes it.
//! 3. `poll` looks at the note; if it finds none it leaves a waker under the lock, and looks again
//!    before it lets go of it.
//! 4. `clear`, and dropping the alarm, take the registration back.
//!
//! # The race
//!
//! *Ring against the stage going to sleep.* Either the timer takes the lock after the stage left its
//! waker, and wakes it; or it took it before, and the stage, which takes it later, sees the note.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use selvedge_cancel::{Timer, TimerError};
use selvedge_primitives::atomic::{AtomicU8, Ordering};
use selvedge_primitives::time::{Expire, Expiry, Ticket};
use selvedge_primitives::{Mutex, release_then, wake};

/// The time has not come.
const QUIET: u8 = 0;
/// The time has come.
const DUE: u8 = 1;
/// The timer's driver is gone, so the time will not come.
const LOST: u8 = 2;

/// A timer, and one time at most that is waited for.
pub(crate) struct Alarm {
    /// Clock and timer.
    timer: Timer,
    /// What is waited for.
    set: Option<(Ticket, Arc<Bell>)>,
}

/// What the timer rings.
struct Bell {
    /// `QUIET`, or what rang.
    rang: AtomicU8,
    /// Who waits for it.
    waker: Mutex<Option<Waker>>,
}

impl Alarm {
    /// Nothing is waited for.
    pub(crate) fn new(timer: Timer) -> Self {
        Self { timer, set: None }
    }

    /// The timer's clock.
    pub(crate) fn now(&self) -> Instant {
        self.timer.now()
    }

    /// Waits for `at`, and for no other time any more.
    ///
    /// # Errors
    ///
    /// When the timer's driver is gone.
    pub(crate) fn set(&mut self, at: Instant) -> Result<(), TimerError> {
        self.clear();
        let bell = Arc::new(Bell { rang: AtomicU8::new(QUIET), waker: Mutex::new(None) });
        let target: Arc<dyn Expire> = Arc::<Bell>::clone(&bell);
        self.set = Some((self.timer.register(at, target)?, bell));
        Ok(())
    }

    /// Waits for nothing.
    pub(crate) fn clear(&mut self) {
        if let Some((ticket, bell)) = self.set.take()
            && bell.rang().is_none()
        {
            self.timer.revoke(ticket);
        }
    }

    /// Whether a time is waited for that has not been seen to come.
    pub(crate) fn is_set(&self) -> bool {
        self.set.is_some()
    }

    /// Whether the time has come, or cannot come any more. Then nothing is waited for any more.
    pub(crate) fn rang(&mut self) -> Option<Result<(), TimerError>> {
        let (_, bell) = self.set.as_ref()?;
        let rang = bell.rang()?;
        self.set = None;
        Some(rang)
    }

    /// Ready when the time has come; pending for ever if none is waited for.
    ///
    /// # Errors
    ///
    /// When the timer's driver is gone.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TimerError>> {
        if let Some((_, bell)) = &self.set {
            bell.listen(cx.waker());
        }
        match self.rang() {
            Some(rang) => Poll::Ready(rang),
            None => Poll::Pending,
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Bell {
    /// What rang.
    fn rang(&self) -> Option<Result<(), TimerError>> {
        // Relaxed: the time publishes nothing but itself; for the wake-up see `listen`.
        match self.rang.load(Ordering::Relaxed) {
            QUIET => None,
            DUE => Some(Ok(())),
            _ => Some(Err(TimerError::Lost)),
        }
    }

    /// Leaves a waker, for a ring that the caller does not see when this returns.
    fn listen(&self, task: &Waker) {
        if self.rang().is_some() {
            return;
        }
        let fresh = task.clone();
        let mut waker = self.waker.lock();
        // Whoever rings later than this finds the waker; who has had the lock before noted the ring
        // before that, so the caller sees it.
        let old = waker.replace(fresh);
        release_then(waker, || drop(old));
    }
}

impl Expire for Bell {
    fn expire(self: Arc<Self>, expiry: Expiry) {
        let rang = if expiry == Expiry::Due { DUE } else { LOST };
        // Relaxed: the lock below orders it before the look that follows `listen`.
        self.rang.store(rang, Ordering::Relaxed);
        let waker = self.waker.lock().take();
        wake(waker);
    }
}
