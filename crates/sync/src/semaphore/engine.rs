//! The engine of the semaphore: the state word beside a wait queue, and who takes the lock when.
//!
//! # Protocol
//!
//! 1. *Acquire*: one CAS on the word while nobody is queued ([`Word::try_take`]). Else the caller
//!    takes the lock of the queue, looks once more, sets QUEUED by a CAS and enters the line with
//!    the number of permits it wants ([`Word::join`]).
//! 2. *Release*: one add on the word. Only if the word it returns has QUEUED set does the releaser
//!    take the lock and hand out.
//! 3. *Hand out*, under the lock: while the front's wish is covered, take that many permits out of
//!    the word by a CAS and grant. The line is strictly first in, first out: nobody behind a front
//!    that is not covered is looked at. Wakers run in batches after the lock is released.
//! 4. *Leave*: a waiter that is dropped in the line unlinks itself and, under the same lock,
//!    either clears QUEUED (it was the last) or hands out (it may have been what the next one
//!    waited behind). One that was granted and not polled again releases what it was granted.
//! 5. *Close*, under the lock: set CLOSED, then hand out: everybody in line is granted the news.
//!    Between two batches a releaser may hold the lock; it hands out the same news.
//!
//! # Why no wake-up is lost
//!
//! A waiter that goes to sleep has set QUEUED, or found it set, under the lock (W2 of the word).
//! Take the last release before it sleeps for ever. Its add came before the waiter's CAS, and then
//! the CAS saw the permits; or after it, and then the releaser saw QUEUED and took the lock after
//! the waiter had entered the line (W3). There it finds the waiter behind a front that is not
//! covered, which is the rule, or serves it. The permits that a hand-out cannot see were added by a
//! releaser that saw QUEUED and stands at the lock, so the next hand-out sees them.
//!
//! The algorithm is the mutex-and-count semaphore of tokio's `batch_semaphore` turned inside out:
//! the count stays in the word while somebody waits (tokio drains it into the first waiter), which
//! is what lets a release see from its own add whether there is anything to do.

use std::pin::Pin;
use std::task::{Context, Poll};

use selvedge_primitives::{Entry, Left, Locked, WaitQueue, Waiter, const_fn};

use super::error::TryAcquireError;
use super::word::{HandOver, Join, State, Take, Word};

/// What a waiter is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// The permits it asked for are its own.
    Permits,
    /// The semaphore was closed.
    Closed,
}

/// The line: requests are numbers of permits. It has no state beside the word.
pub(super) type Queue = WaitQueue<(), usize, Grant>;

/// A place in the line.
pub(super) type Place<'q> = Waiter<'q, (), usize, Grant>;

/// A counting semaphore without a face.
#[derive(Debug)]
pub(super) struct Engine {
    /// How many permits there are in all.
    capacity: usize,
    /// How many are free, whether somebody waits, whether it is closed.
    word: Word,
    /// Those who wait.
    queue: Queue,
}

impl Engine {
    const_fn! {
        /// An engine with `capacity` permits, all free.
        pub(super) const fn new(capacity: usize) -> Self {
            Self { capacity, word: Word::new(capacity), queue: Queue::new(()) }
        }
    }

    /// How many permits there are in all.
    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// The state now.
    pub(super) fn state(&self) -> State {
        self.word.snapshot()
    }

    /// The line, for a waiter to hold on to.
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Takes `wanted` permits without waiting and without overtaking.
    #[inline]
    pub(super) fn try_acquire(&self, wanted: usize) -> Result<(), TryAcquireError> {
        if wanted > self.capacity {
            return Err(TryAcquireError::OverCapacity { wanted, capacity: self.capacity });
        }
        match self.word.try_take(wanted) {
            Take::Taken => Ok(()),
            Take::Short => Err(TryAcquireError::NoPermits),
            Take::Closed => Err(TryAcquireError::Closed),
        }
    }

    /// Stands in line for `wanted` permits, which the capacity covers.
    pub(super) fn poll_wait(
        &self,
        place: Pin<&mut Place<'_>>,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Grant> {
        place.poll_enter(cx, |_| match self.word.join(wanted) {
            Join::Taken => Entry::Ready(Grant::Permits),
            Join::Closed => Entry::Ready(Grant::Closed),
            Join::Queue => Entry::Wait(wanted),
        })
    }

    /// Leaves the line, or gives back what was granted to `place` and not seen.
    pub(super) fn leave(&self, place: Pin<&mut Place<'_>>, wanted: usize) {
        let left = place.cancel_then(|locked| {
            if locked.is_empty() {
                self.word.clear_queued();
            } else {
                self.hand_out(locked);
            }
        });
        match left {
            Left::Granted(Grant::Permits) => self.release(wanted),
            Left::Granted(Grant::Closed) | Left::Queued(_) | Left::Nothing => {}
        }
    }

    /// Gives back `count` permits that were acquired, and hands them on if somebody waits.
    #[inline]
    pub(super) fn release(&self, count: usize) {
        if count > 0 && self.word.give_back(count).is_queued() {
            self.hand_out_after_release();
        }
    }

    /// The rare half of a release, out of line.
    #[cold]
    fn hand_out_after_release(&self) {
        self.hand_out(self.queue.lock());
    }

    /// Closes; everybody in line is told. Idempotent.
    pub(super) fn close(&self) {
        let locked = self.queue.lock();
        self.word.close();
        self.hand_out(locked);
    }

    /// Serves the line from its front for as long as there is something for the front.
    fn hand_out<'a>(&'a self, locked: Locked<'a, (), usize, Grant>) {
        self.queue.grant_each(locked, |locked| {
            let wanted = locked.front(|wanted| *wanted)?;
            match self.word.hand_over(wanted, locked.len() == 1) {
                HandOver::Permits => Some(Grant::Permits),
                HandOver::Closed => Some(Grant::Closed),
                HandOver::Short => None,
            }
        });
    }
}
