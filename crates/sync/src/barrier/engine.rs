//! The engine of [`Barrier`](crate::Barrier): a line of those who have come, and whether it is broken.
//!
//! # Vocabulary
//!
//! The parties of a *round* are those who come to the barrier from one time on at which nobody waits. The
//! *last* is the one with which all have come. A barrier is *broken* from the time at which somebody leaves
//! the line until it is reset.
//!
//! # Protocol
//!
//! All under the lock of the line, one critical section each:
//!
//! 1. *Come*: broken, it is an error. With all others in the line, take them all out and leave each of them its
//!    pass; otherwise enter the line.
//! 2. *Leave*: a party that is dropped in the line takes itself out, breaks the barrier, and takes all others out
//!    with the error. One that was taken out before has nothing to say: its round is over.
//! 3. *Reset*: take all out with an error of its own: they may come again, because the barrier is whole.
//!
//! Wakers run after the lock is released, from batches that are filled under it.
//!
//! # The races
//!
//! - *Leave against the last*: decided by the lock. Either the line is short of one and broken when the last
//!   comes, which gets the error as everybody does; or the one that leaves has its pass, and everybody
//!   passes.
//! - *A fast party against a slow one*: because the line is emptied in the critical section in which the round ends,
//!   a party that comes again before others of its round were woken finds an empty line. So rounds do
//!   not mix, and need no numbers. The price is that a line of many is emptied under the lock; it is a few
//!   stores each.
//!
//! # Why no wake-up is lost
//!
//! Whoever is in the line is taken out by the last, by one that leaves, or by a reset, and each of them wakes
//! everybody it has taken out, also when a waker panics.

use std::pin::Pin;
use std::task::{Context, Poll};

use selvedge_primitives::{
    Entry, FirstPanic, Locked, WaitQueue, Waiter, WakeBatch, const_fn, release_then,
};

/// Those who wait, and whether the barrier is broken.
type Queue = WaitQueue<State, (), Told>;

/// A place in the line.
pub(super) type Place<'b> = Waiter<'b, State, (), Told>;

/// What the lock guards beside the line.
#[derive(Debug)]
pub(super) struct State {
    /// Whether somebody has left a round.
    broken: bool,
}

/// How a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// All have come, this one last or not.
    Passed {
        /// Whether it was the last.
        last: bool,
    },
    /// Somebody has left.
    Broken,
    /// It begins anew.
    Reset,
}

/// A barrier without a face.
#[derive(Debug)]
pub(super) struct Engine {
    /// Those who wait.
    queue: Queue,
    /// How many have to come.
    parties: usize,
}

impl Engine {
    const_fn! {
        /// For so many, one at least.
        pub(super) const fn new(parties: usize) -> Self {
            Self { queue: WaitQueue::new(State { broken: false }), parties }
        }
    }

    /// The line.
    pub(super) const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// How many have to come.
    pub(super) const fn parties(&self) -> usize {
        self.parties
    }

    /// How many have.
    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().len()
    }

    /// Whether somebody has left.
    pub(super) fn is_broken(&self) -> bool {
        self.queue.lock().broken
    }

    /// Comes, and waits.
    pub(super) fn poll_wait(&self, place: Pin<&mut Place<'_>>, cx: &mut Context<'_>) -> Poll<Told> {
        let mut crowd = Crowd::new();
        let polled = place.poll_enter(cx, |locked| {
            if locked.broken {
                return Entry::Ready(Told::Broken);
            }
            if locked.len() < self.parties - 1 {
                return Entry::Wait(());
            }
            crowd.take_out(locked, Told::Passed { last: false });
            Entry::Ready(Told::Passed { last: true })
        });
        crowd.wake_up();
        polled
    }

    /// Leaves the line, if it stands in it.
    pub(super) fn leave(&self, place: Pin<&mut Place<'_>>) {
        let mut crowd = Crowd::new();
        let _nothing_to_pass_on = place.cancel_then(|mut locked| {
            locked.broken = true;
            crowd.take_out(&mut locked, Told::Broken);
        });
        crowd.wake_up();
    }

    /// Begins anew.
    pub(super) fn reset(&self) {
        let mut crowd = Crowd::new();
        let mut locked = self.queue.lock();
        locked.broken = false;
        crowd.take_out(&mut locked, Told::Reset);
        release_then(locked, || crowd.wake_up());
    }
}

/// The wakers of a whole line.
struct Crowd {
    /// The first of them.
    first: WakeBatch,
    /// The others.
    more: Vec<WakeBatch>,
}

impl Crowd {
    /// Nobody.
    fn new() -> Self {
        Self { first: WakeBatch::new(), more: Vec::new() }
    }

    /// Empties the line, and leaves `told` to everybody.
    fn take_out(&mut self, locked: &mut Locked<'_, State, (), Told>, told: Told) {
        let mut batch = &mut self.first;
        while !locked.is_empty() {
            if batch.is_full() {
                self.more.push(WakeBatch::new());
                batch = self.more.last_mut().expect("pushed in the line above");
            }
            locked.grant_front(told, batch).expect("somebody waits");
        }
    }

    /// Wakes everybody, with no lock held. A waker that panics stops no other.
    fn wake_up(mut self) {
        let mut panics = FirstPanic::new();
        panics.catch(|| self.first.wake_all());
        for batch in &mut self.more {
            panics.catch(|| batch.wake_all());
        }
        panics.resume();
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;
    use selvedge_primitives::Anchor;
    use std::task::Waker;

    #[test]
    fn a_line_longer_than_a_batch_is_emptied_at_once() {
        let engine = Engine::new(101);
        let mut cx = Context::from_waker(Waker::noop());
        let place = || Box::pin(Place::new(Anchor::borrowed(engine.queue())));
        let mut places: Vec<_> = (0..100).map(|_| place()).collect();
        for place in &mut places {
            assert!(engine.poll_wait(place.as_mut(), &mut cx).is_pending());
        }
        let last = engine.poll_wait(place().as_mut(), &mut cx);
        assert_eq!(last, Poll::Ready(Told::Passed { last: true }));
        assert_eq!(engine.waiting(), 0);
        for place in &mut places {
            let passed = engine.poll_wait(place.as_mut(), &mut cx);
            assert_eq!(passed, Poll::Ready(Told::Passed { last: false }));
        }
    }
}
