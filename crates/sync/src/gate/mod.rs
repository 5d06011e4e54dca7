//! The engine of [`WaitGroup`](crate::WaitGroup) and [`Latch`](crate::Latch): a gate that is open
//! while its count is zero.
//!
//! # Vocabulary
//!
//! The *count* is what is still to be waited for. The gate is *open* at zero. A *done* takes
//! something off the count; the one that brings it to zero is the *last*. A latch never adds, so its
//! gate opens once; a wait group does, so its gate may close again.
//!
//! # Protocol
//!
//! 1. *Add*: one addition to the word, or one CAS for many. *Done*: one subtraction (a latch, whose count may be asked for more
//!    than it has, needs a CAS). Only a last done that sees WAITING in the word goes on to 3.
//! 2. *Wait*: one load while the gate is open. Else the waiter takes the lock of the queue, looks once
//!    more, sets WAITING by a CAS, and enters the queue.
//! 3. *Let out*, under the lock: look at the word again. While the gate is open, take the front out;
//!    with the last of them WAITING goes. Wakers run in batches after the lock is released.
//! 4. *Leave*: a waiter that is dropped in the queue unlinks itself; the last one clears WAITING. One
//!    that was let out and not polled again has nothing to pass on.
//!
//! # The races
//!
//! - *Last done against wait*. The waiter's CAS is on the whole word. Either it sees the zero, or the
//!   last done sees WAITING and comes to the lock after the waiter is in the queue (W2 of the word).
//! - *Add against last done*. The last done has brought the count to zero, and before it has the lock
//!   somebody adds. Under the lock the gate is closed, and nobody is let out: among those who wait
//!   may be one that came after the add, and for it the count has never been zero. WAITING is still
//!   set, so the next last done comes here as well. The same holds between two batches. So who is let
//!   out was in the queue when the count was seen to be zero, and a wait never ends early; a wait
//!   that misses such a moment ends at the next.
//! - *Leave against let out*: decided by the lock; WAITING is cleared by whoever empties the queue.
//!
//! # Why no wake-up is lost
//!
//! While somebody is in the queue, WAITING is set (W1). Take the last time at which the count comes
//! to zero and stays there: whoever brought it there sees WAITING and comes to the lock, finds the
//! gate open, and lets everybody out.

mod wait;
mod word;

use std::pin::Pin;

use selvedge_primitives::{Entry, Locked, WaitQueue, Waiter, const_fn};

pub(crate) use wait::GateWait;
pub(crate) use word::MAX_COUNT;
use word::{Added, Taken, Word};

/// Those who wait; all for the same.
type Queue = WaitQueue<(), (), ()>;

/// A place in the queue.
type Place<'g> = Waiter<'g, (), (), ()>;

/// A counted gate without a face.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The count, and whether somebody waits.
    word: Word,
    /// Those who wait.
    queue: Queue,
}

impl Gate {
    const_fn! {
        /// A gate that counts `count`, which is at most [`MAX_COUNT`].
        pub(crate) const fn new(count: usize) -> Self {
            Self { word: Word::new(count), queue: Queue::new(()) }
        }
    }

    /// What is still to be waited for.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.word.snapshot().count()
    }

    /// Whether there is nothing to wait for.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.word.snapshot().is_open()
    }

    /// Puts `n` on the count; the count as it is, if that would be more than [`MAX_COUNT`].
    #[inline]
    pub(crate) fn add(&self, n: usize) -> Result<(), usize> {
        match self.word.add(n) {
            Added::Yes => Ok(()),
            Added::TooMuch(count) => Err(count),
            Added::Over(count) => {
                self.done(n);
                Err(count.min(MAX_COUNT))
            }
        }
    }

    /// Takes `n` off the count, which the caller has put on it.
    #[inline]
    pub(crate) fn done(&self, n: usize) {
        if self.word.done(n) == Taken::OpenedForWaiters {
            self.let_out_all();
        }
    }

    /// Takes up to `n` off the count; true if that opened the gate.
    pub(crate) fn count_down(&self, n: usize) -> bool {
        match self.word.count_down(n) {
            Taken::Rest => false,
            Taken::Opened => true,
            Taken::OpenedForWaiters => {
                self.let_out_all();
                true
            }
        }
    }

    /// Lets out whoever waits for as long as the gate is open.
    #[cold]
    fn let_out_all(&self) {
        self.queue.grant_each(self.queue.lock(), |locked| self.let_out(locked));
    }

    /// Whether the front may go.
    fn let_out(&self, locked: &mut Locked<'_, (), (), ()>) -> Option<()> {
        if !self.word.snapshot().is_open() {
            return None;
        }
        if locked.len() == 1 {
            self.word.clear_waiting();
        }
        Some(())
    }

    /// Stands in the queue.
    fn poll_wait(
        &self,
        place: Pin<&mut Place<'_>>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<()> {
        place.poll_enter(cx, |_| match self.word.must_wait() {
            true => Entry::Wait(()),
            false => Entry::Ready(()),
        })
    }

    /// Leaves the queue.
    fn leave(&self, place: Pin<&mut Place<'_>>) {
        let _nothing_to_pass_on = place.cancel_then(|locked| {
            if locked.is_empty() {
                self.word.clear_waiting();
            }
        });
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;
    use selvedge_primitives::Anchor;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn the_last_to_leave_clears_waiting_and_no_other() {
        let gate = Gate::new(1);
        let mut cx = Context::from_waker(Waker::noop());
        let mut places = [0, 1].map(|_| Box::pin(Place::new(Anchor::borrowed(&gate.queue))));
        for place in &mut places {
            assert_eq!(gate.poll_wait(place.as_mut(), &mut cx), Poll::Pending);
        }
        let [first, second] = &mut places;
        gate.leave(first.as_mut());
        assert!(gate.word.snapshot().is_waited_for());
        gate.leave(second.as_mut());
        assert!(!gate.word.snapshot().is_waited_for());
    }
}
