//! Models of the races of the semaphore, the gate (latch and wait group) and the task group, on the
//! real engines. Each has at most three threads and the smallest capacity that shows the race, and
//! ends with what must hold whoever won: free permits are the capacity, and nobody sleeps while
//! permits are free; the gate is clean and whoever waited is out; the group's counts add up. In the
//! models of the task group a thread that blocks on a task stands for the executor.
//!
//! `Ledger` stands for what the permits protect, or for what a task did: a number that is read and written without any
//! ordering of its own, so a lost happens-before shows as a lost entry.
#![cfg(selvedge_loom)]

use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use selvedge_cancel::{CauseKind, Context as Tree, ManualClock, Timer};
use selvedge_primitives::atomic::{AtomicUsize, Ordering};
use selvedge_primitives::{block_on, model, thread};
use selvedge_sync::{
    AcquireError, AcquireOwned, Fairness, Fault, GroupTask, Latch, OwnedPermit, Refusal, Semaphore,
    TaskFailed, TaskGroup, TryAcquireError, WaitGroup,
};

#[path = "loom/ageing.rs"]
mod ageing;
#[path = "loom/barrier.rs"]
mod barrier;
#[path = "loom/flight.rs"]
mod flight;
#[path = "loom/keyed.rs"]
mod keyed;
#[path = "loom/lanes.rs"]
mod lanes;
#[path = "loom/outside.rs"]
mod outside;

/// A number that only the type under test protects.
struct Ledger(AtomicUsize);

impl Ledger {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(0)))
    }

    /// Adds an entry, in two steps.
    fn enter(&self) {
        // Relaxed, twice: whatever the type under test promises is what orders this.
        let entries = self.0.load(Ordering::Relaxed);
        self.0.store(entries + 1, Ordering::Relaxed);
    }

    /// How many entries are visible here.
    fn entries(&self) -> usize {
        // Relaxed: whether the type under test orders this is the question.
        self.0.load(Ordering::Relaxed)
    }
}

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn("model".to_owned(), f).unwrap()
}

/// A semaphore of `capacity` permits, of which `out` are out, one guard each.
fn semaphore(capacity: usize, out: usize) -> (Arc<Semaphore>, Vec<OwnedPermit>) {
    let semaphore = Arc::new(Semaphore::new(capacity));
    let permits = (0..out).map(|_| semaphore.try_acquire_owned(1).unwrap()).collect();
    (semaphore, permits)
}

/// Polls once, for nobody in particular.
fn poll_once(future: Pin<&mut AcquireOwned>) -> Poll<Result<OwnedPermit, AcquireError>> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Everything is back and can be had.
fn assert_whole(semaphore: &Semaphore) {
    assert_eq!(semaphore.available(), semaphore.capacity());
    if !semaphore.is_closed() {
        drop(semaphore.try_acquire(semaphore.capacity()).expect("nobody is in the line"));
    }
}

// Two fast paths: the second holder must see what the first did, and only one holds at a time.
#[test]
fn semaphore_try_vs_release() {
    model::check(|| {
        let (semaphore, _) = semaphore(1, 0);
        let ledger = Ledger::new();
        let attempt = |semaphore: &Semaphore, ledger: &Ledger| match semaphore.try_acquire(1) {
            Ok(_permit) => {
                ledger.enter();
                1
            }
            Err(error) => {
                assert_eq!(error, TryAcquireError::NoPermits);
                0
            }
        };
        let other = {
            let (semaphore, ledger) = (Arc::clone(&semaphore), Arc::clone(&ledger));
            spawn(move || attempt(&semaphore, &ledger))
        };
        let mine = attempt(&semaphore, &ledger);
        let theirs = other.join().unwrap();
        assert!(mine + theirs >= 1);
        assert_eq!(ledger.entries(), mine + theirs);
        assert_whole(&semaphore);
    });
}

// A release between the waiter's look and its QUEUED: one of the two must see the other.
#[test]
fn semaphore_release_vs_queue() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(1, 1);
        let ledger = Ledger::new();
        let releaser = {
            let (permit, ledger) = (permits.pop(), Arc::clone(&ledger));
            spawn(move || {
                ledger.enter();
                drop(permit);
            })
        };
        let permit = block_on(semaphore.acquire(1)).unwrap();
        ledger.enter();
        assert_eq!(ledger.entries(), 2);
        drop(permit);
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// Two releases that are enough only together: one of them hands out the permits of both, and the
// waiter must see what was done under either.
#[test]
fn semaphore_two_releasers() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(2, 2);
        let ledgers = [Ledger::new(), Ledger::new()];
        let mut waiter = Box::pin(semaphore.acquire_owned(2));
        assert!(poll_once(waiter.as_mut()).is_pending());
        let releaser = {
            let (permit, ledger) = (permits.pop(), Arc::clone(&ledgers[0]));
            spawn(move || {
                ledger.enter();
                drop(permit);
            })
        };
        let checker = {
            let ledgers = ledgers.clone();
            spawn(move || {
                let both = block_on(waiter).unwrap();
                assert_eq!(ledgers.map(|ledger| ledger.entries()), [1, 1]);
                drop(both);
            })
        };
        ledgers[1].enter();
        drop(permits);
        releaser.join().unwrap();
        checker.join().unwrap();
        assert_whole(&semaphore);
    });
}

// As above, with the waiter on its way into the line.
#[test]
fn semaphore_two_releasers_vs_queue() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(2, 2);
        let ledgers = [Ledger::new(), Ledger::new()];
        let releasers = ledgers.clone().map(|ledger| {
            let permit = permits.pop();
            spawn(move || {
                ledger.enter();
                drop(permit);
            })
        });
        let both = block_on(semaphore.acquire(2)).unwrap();
        assert_eq!(ledgers.map(|ledger| ledger.entries()), [1, 1]);
        drop(both);
        for releaser in releasers {
            releaser.join().unwrap();
        }
        assert_whole(&semaphore);
    });
}

/// A waiter gives up while the release serves it; another stands behind it, and is served.
fn leave_vs_release(semaphore: &Arc<Semaphore>, mut permits: Vec<OwnedPermit>) {
    let mut quitter = Box::pin(semaphore.acquire_owned(1));
    let mut next = Box::pin(semaphore.acquire_owned(1));
    assert!(poll_once(quitter.as_mut()).is_pending());
    assert!(poll_once(next.as_mut()).is_pending());
    let releaser = {
        let permit = permits.pop();
        spawn(move || drop(permit))
    };
    drop(quitter);
    drop(block_on(next).unwrap());
    releaser.join().unwrap();
    assert_whole(semaphore);
}

// A waiter gives up while the release serves it: what it was granted, or its turn, goes to the
// next in line.
#[test]
fn semaphore_cancel_in_queue_vs_release() {
    model::check(|| {
        let (semaphore, permits) = semaphore(1, 1);
        leave_vs_release(&semaphore, permits);
    });
}

// As above, with the next on its way into the line.
#[test]
fn semaphore_cancel_vs_release_vs_queue() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(1, 1);
        let mut quitter = Box::pin(semaphore.acquire_owned(1));
        assert!(poll_once(quitter.as_mut()).is_pending());
        let next = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || drop(block_on(semaphore.acquire(1)).unwrap()))
        };
        let releaser = {
            let permit = permits.pop();
            spawn(move || drop(permit))
        };
        drop(quitter);
        next.join().unwrap();
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// The front wants more than is free and gives up while a release makes it fit: granted or gone,
// both behind it fit then, and no other release comes to tell them so.
#[test]
fn semaphore_cancel_head_vs_release_weighted() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(2, 1);
        let mut front = Box::pin(semaphore.acquire_owned(2));
        let mut behind = [(); 2].map(|()| Box::pin(semaphore.acquire_owned(1)));
        assert!(poll_once(front.as_mut()).is_pending());
        for waiter in &mut behind {
            assert!(poll_once(waiter.as_mut()).is_pending());
        }
        let releaser = {
            let permit = permits.pop();
            spawn(move || drop(permit))
        };
        drop(front);
        let permits = behind.map(|waiter| block_on(waiter).unwrap());
        assert_eq!(semaphore.available(), 0);
        drop(permits);
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// As above, with one behind that is on its way into the line.
#[test]
fn semaphore_cancel_head_vs_release_vs_queue() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(2, 1);
        let mut front = Box::pin(semaphore.acquire_owned(2));
        assert!(poll_once(front.as_mut()).is_pending());
        let behind = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || drop(block_on(semaphore.acquire(1)).unwrap()))
        };
        let releaser = {
            let permit = permits.pop();
            spawn(move || drop(permit))
        };
        drop(front);
        behind.join().unwrap();
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// As above without any release: the leaving itself must serve the one behind.
#[test]
fn semaphore_cancel_head_serves_the_next() {
    model::check(|| {
        let (semaphore, permits) = semaphore(2, 1);
        let mut front = Box::pin(semaphore.acquire_owned(2));
        assert!(poll_once(front.as_mut()).is_pending());
        let behind = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || drop(block_on(semaphore.acquire(1)).unwrap()))
        };
        drop(front);
        behind.join().unwrap();
        drop(permits);
        assert_whole(&semaphore);
    });
}

// The last waiter leaves while another comes: QUEUED is cleared for the one and set for the other.
#[test]
fn semaphore_last_leaves_vs_first_comes() {
    model::check(|| {
        let (semaphore, permits) = semaphore(1, 1);
        let mut last = Box::pin(semaphore.acquire_owned(1));
        assert!(poll_once(last.as_mut()).is_pending());
        let comer = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || drop(block_on(semaphore.acquire(1)).unwrap()))
        };
        drop(last);
        drop(permits);
        comer.join().unwrap();
        assert_whole(&semaphore);
    });
}

// Granted, never polled again, dropped: the grant goes to whoever comes, before or after.
#[test]
fn semaphore_granted_then_dropped() {
    model::check(|| {
        let (semaphore, permits) = semaphore(1, 1);
        let mut granted = Box::pin(semaphore.acquire_owned(1));
        assert!(poll_once(granted.as_mut()).is_pending());
        drop(permits);
        assert_eq!(semaphore.available(), 0);
        let next = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || drop(block_on(semaphore.acquire(1)).unwrap()))
        };
        drop(granted);
        next.join().unwrap();
        assert_whole(&semaphore);
    });
}

// Close against a waiter on its way into the line and a release on its way to it: the waiter gets
// the permit or the error, and with the error sees what preceded the close.
#[test]
fn semaphore_close_vs_wait() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(1, 1);
        let reason = Ledger::new();
        let waiter = {
            let (semaphore, reason) = (Arc::clone(&semaphore), Arc::clone(&reason));
            spawn(move || match block_on(semaphore.acquire(1)) {
                Ok(permit) => drop(permit),
                Err(error) => {
                    assert_eq!(error, AcquireError::Closed);
                    assert_eq!(reason.entries(), 1);
                }
            })
        };
        let releaser = {
            let permit = permits.pop();
            spawn(move || drop(permit))
        };
        reason.enter();
        semaphore.close();
        waiter.join().unwrap();
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// Close drains more waiters than fit into one batch, and a release comes in between: everybody is
// told, nobody is granted after the close has begun but once, and the permit is there at the end.
#[test]
fn semaphore_close_in_batches_vs_release() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(1, 1);
        let mut waiters = [(); 3].map(|()| Box::pin(semaphore.acquire_owned(1)));
        for waiter in &mut waiters {
            assert!(poll_once(waiter.as_mut()).is_pending());
        }
        let releaser = {
            let permit = permits.pop();
            spawn(move || drop(permit))
        };
        semaphore.close();
        let granted = waiters.each_mut().map(|waiter| match poll_once(waiter.as_mut()) {
            Poll::Ready(Ok(permit)) => {
                drop(permit);
                true
            }
            Poll::Ready(Err(error)) => {
                assert_eq!(error, AcquireError::Closed);
                false
            }
            Poll::Pending => panic!("close has returned and somebody still waits"),
        });
        assert!(!granted[1] && !granted[2]);
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// Two closers: both return with everybody told, or on the way to be told by the other.
#[test]
fn semaphore_close_twice_vs_wait() {
    model::check(|| {
        let (semaphore, permits) = semaphore(1, 1);
        let closer = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || semaphore.close())
        };
        let waiter = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || {
                assert_eq!(block_on(semaphore.acquire(1)).unwrap_err(), AcquireError::Closed);
            })
        };
        semaphore.close();
        closer.join().unwrap();
        waiter.join().unwrap();
        drop(permits);
        assert_whole(&semaphore);
    });
}

// Permits gather for a front that wants two; in between somebody tries for one. It must not get
// it, neither before the hand-over nor in the middle of it.
#[test]
fn semaphore_try_never_overtakes() {
    model::check(|| {
        let (semaphore, permits) = semaphore(2, 2);
        let mut front = Box::pin(semaphore.acquire_owned(2));
        assert!(poll_once(front.as_mut()).is_pending());
        let other = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || semaphore.try_acquire(1).map(drop))
        };
        drop(permits);
        assert_eq!(other.join().unwrap(), Err(TryAcquireError::NoPermits));
        let Poll::Ready(Ok(both)) = poll_once(front.as_mut()) else {
            panic!("both permits were there");
        };
        drop(both);
        assert_whole(&semaphore);
    });
}

// A task that moves: polled with another waker while it is granted. One of the wakers that wakes
// must be the new one, or the poll sees the grant.
#[test]
fn semaphore_new_waker_vs_release() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(1, 1);
        let mut moved = Box::pin(semaphore.acquire_owned(1));
        assert!(poll_once(moved.as_mut()).is_pending());
        let releaser = {
            let permit = permits.pop();
            spawn(move || drop(permit))
        };
        drop(block_on(moved).unwrap());
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// Whoever counts a permit as free sees what its holder did.
#[test]
fn semaphore_available_sees_what_was_released() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(1, 1);
        let ledger = Ledger::new();
        let releaser = {
            let (permit, ledger) = (permits.pop(), Arc::clone(&ledger));
            spawn(move || {
                ledger.enter();
                drop(permit);
            })
        };
        if semaphore.available() == 1 {
            assert_eq!(ledger.entries(), 1);
        }
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// Whoever is told of the close, by a question or by a refusal, sees what preceded it.
#[test]
fn semaphore_closed_sees_what_preceded() {
    model::check(|| {
        let (semaphore, _) = semaphore(1, 0);
        let reason = Ledger::new();
        let closer = {
            let (semaphore, reason) = (Arc::clone(&semaphore), Arc::clone(&reason));
            spawn(move || {
                reason.enter();
                semaphore.close();
            })
        };
        let refused = semaphore.try_acquire(1).map(drop) == Err(TryAcquireError::Closed);
        if refused || semaphore.is_closed() {
            assert_eq!(reason.entries(), 1);
        }
        closer.join().unwrap();
        assert_whole(&semaphore);
    });
}

/// A waker that uses the semaphore from within the wake.
struct Reenters(Arc<Semaphore>);

impl Wake for Reenters {
    fn wake(self: Arc<Self>) {
        let mut future = pin!(self.0.acquire(1));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        self.0.close();
    }
}

// A wake under the lock would deadlock here: the waker queues, leaves and closes.
#[test]
fn semaphore_wake_reenters() {
    model::check(|| {
        let (semaphore, permits) = semaphore(1, 1);
        let waker = Waker::from(Arc::new(Reenters(Arc::clone(&semaphore))));
        let mut future = Box::pin(semaphore.acquire_owned(1));
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(permits);
        drop(block_on(poll_fn(|cx| future.as_mut().poll(cx))).unwrap());
        assert_whole(&semaphore);
    });
}

// A blocked thread and a task in one line; each is served by the other's release.
#[test]
fn semaphore_blocking_beside_async() {
    model::check(|| {
        let (semaphore, _) = semaphore(1, 0);
        let ledger = Ledger::new();
        let thread = {
            let (semaphore, ledger) = (Arc::clone(&semaphore), Arc::clone(&ledger));
            spawn(move || {
                let _permit = semaphore.acquire_blocking(1).unwrap();
                ledger.enter();
            })
        };
        let permit = block_on(semaphore.acquire_owned(1)).unwrap();
        ledger.enter();
        drop(permit);
        thread.join().unwrap();
        assert_eq!(ledger.entries(), 2);
        assert_whole(&semaphore);
    });
}

// A wait that ends with its context, on the real tree, against the release that would serve it: a
// permit or a cause, and the permit is there afterwards.
#[test]
fn semaphore_tree_cancel_vs_release() {
    model::check(|| {
        let (semaphore, out) = semaphore(1, 1);
        let (ctx, canceller) = selvedge_cancel::Context::background().child();
        let releaser = spawn(move || drop(out));
        let cancelling = spawn(move || canceller.cancel());
        match block_on(ctx.run(semaphore.acquire(1))) {
            Ok(permit) => drop(permit.expect("never closed")),
            Err(cause) => assert_eq!(cause.kind(), selvedge_cancel::CauseKind::Cancelled),
        }
        releaser.join().unwrap();
        cancelling.join().unwrap();
        assert_whole(&semaphore);
    });
}

// Where there is plenty: permits that are taken without a look.

/// Enough for a few to be taken without a look.
const PLENTY: usize = 8;

// The one who takes the last of them sees what their former holder did.
#[test]
fn semaphore_unseen_vs_release() {
    model::check(|| {
        let (semaphore, _) = semaphore(PLENTY, 0);
        let (permit, ledger) = (semaphore.try_acquire_owned(2).unwrap(), Ledger::new());
        let releaser = {
            let ledger = Arc::clone(&ledger);
            spawn(move || {
                ledger.enter();
                drop(permit);
            })
        };
        // By twos, so that there is plenty until the last two.
        let taken = [0; PLENTY / 2].map(|_| semaphore.try_acquire(2));
        if taken.iter().all(Result::is_ok) {
            assert_eq!(ledger.entries(), 1);
        }
        drop(taken);
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// They are all taken by another before: what was not there is put back, and one who came to the line meanwhile gets it.
#[test]
fn semaphore_unseen_vs_queue() {
    model::check(|| {
        let (semaphore, _) = semaphore(PLENTY, 0);
        let ledger = Ledger::new();
        let unseen = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || drop(semaphore.try_acquire(2)))
        };
        let all = {
            let (semaphore, ledger) = (Arc::clone(&semaphore), Arc::clone(&ledger));
            spawn(move || {
                let all = block_on(semaphore.acquire(PLENTY)).unwrap();
                ledger.enter();
                drop(all);
            })
        };
        let mine = block_on(semaphore.acquire(PLENTY)).unwrap();
        ledger.enter();
        drop(mine);
        unseen.join().unwrap();
        all.join().unwrap();
        assert_eq!(ledger.entries(), 2);
        assert_whole(&semaphore);
    });
}

// The front of an eventual line was called, and nobody has to come to the lock: it has what it was called for, or sees that it comes back.
#[test]
fn semaphore_unseen_vs_called() {
    model::check(|| {
        let (semaphore, _, _clock) = eventual(PLENTY + 2, 0);
        let all = semaphore.try_acquire(PLENTY + 2).unwrap();
        let mut front = Box::pin(semaphore.acquire_owned(PLENTY));
        assert!(poll_once(front.as_mut()).is_pending());
        drop(all);
        let unseen = {
            let semaphore = Arc::clone(&semaphore);
            // The first finds that there is plenty, the second does not look.
            spawn(move || drop([0; 2].map(|_| semaphore.try_acquire(2))))
        };
        drop(block_on(front).unwrap());
        unseen.join().unwrap();
        assert_whole(&semaphore);
    });
}

// The semaphore is closed before: they are put back, and the caller is told.
#[test]
fn semaphore_unseen_vs_close() {
    model::check(|| {
        let (semaphore, _) = semaphore(PLENTY, 0);
        let ledger = Ledger::new();
        let unseen = {
            let (semaphore, ledger) = (Arc::clone(&semaphore), Arc::clone(&ledger));
            spawn(move || match semaphore.try_acquire(1) {
                Ok(permit) => drop(permit),
                Err(TryAcquireError::Closed) => assert_eq!(ledger.entries(), 1),
                Err(error) => panic!("{error}"),
            })
        };
        ledger.enter();
        semaphore.close();
        unseen.join().unwrap();
        assert_whole(&semaphore);
    });
}

// The capacity is lowered before: they are taken of what there is by then, or put back.
#[test]
fn semaphore_unseen_vs_resize() {
    model::check(|| {
        let (semaphore, _) = semaphore(PLENTY, 0);
        let unseen = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || [0; 2].map(|_| semaphore.try_acquire_owned(1).is_ok()))
        };
        semaphore.set_capacity(0).unwrap();
        // Nothing is to be had from here on but what comes back.
        assert!(semaphore.try_acquire(1).is_err());
        let [first, second] = unseen.join().unwrap();
        assert!(first || !second);
        assert_whole(&semaphore);
    });
}

// Capacity and fairness that change.

/// Lets running callers overtake for four milliseconds of its clock.
fn eventual(capacity: usize, out: usize) -> (Arc<Semaphore>, Vec<OwnedPermit>, ManualClock) {
    let (timer, clock) = Timer::manual();
    let semaphore = Semaphore::new(capacity).with_fairness(Fairness::EVENTUAL).with_timer(timer);
    let semaphore = Arc::new(semaphore);
    let permits = (0..out).map(|_| semaphore.try_acquire_owned(1).unwrap()).collect();
    (semaphore, permits, clock)
}

/// The bound of the above, over.
fn pass_the_bound(clock: &ManualClock) {
    clock.advance(Duration::from_millis(4));
}

// The capacity is lowered while a permit comes back: it pays the debt, whoever is first, and nobody is served for it.
#[test]
fn semaphore_resize_vs_release() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(2, 2);
        let mut waiter = Box::pin(semaphore.acquire_owned(1));
        assert!(poll_once(waiter.as_mut()).is_pending());
        let releaser = {
            let permit = permits.pop();
            spawn(move || drop(permit))
        };
        semaphore.set_capacity(1).unwrap();
        releaser.join().unwrap();
        // One is out still: served before the capacity was lowered, or not at all.
        let served = poll_once(waiter.as_mut());
        assert_eq!(semaphore.debt(), usize::from(served.is_ready()));
        assert_eq!(semaphore.available(), 0);
        drop((served, waiter));
        drop(permits);
        assert_whole(&semaphore);
    });
}

// The capacity is lowered while one who wants more than that comes to the line: it is told in any case.
#[test]
fn semaphore_resize_vs_queue() {
    model::check(|| {
        let (semaphore, out) = semaphore(2, 1);
        let waiter = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || block_on(semaphore.acquire(2)).map(drop).unwrap_err())
        };
        semaphore.set_capacity(1).unwrap();
        let told = waiter.join().unwrap();
        assert_eq!(told, AcquireError::OverCapacity { wanted: 2, capacity: 1 });
        drop(out);
        assert_whole(&semaphore);
    });
}

// The capacity is raised while one comes to the line: it finds the new permit, or is served.
#[test]
fn semaphore_raise_vs_queue() {
    model::check(|| {
        let (semaphore, out) = semaphore(1, 1);
        let ledger = Ledger::new();
        let waiter = {
            let (semaphore, ledger) = (Arc::clone(&semaphore), Arc::clone(&ledger));
            spawn(move || {
                let permit = block_on(semaphore.acquire(1)).unwrap();
                assert_eq!(ledger.entries(), 1, "what preceded the making is visible");
                drop(permit);
            })
        };
        ledger.enter();
        semaphore.add(1).unwrap();
        waiter.join().unwrap();
        drop(out);
        assert_eq!(semaphore.capacity(), 2);
        assert_whole(&semaphore);
    });
}

// A permit is forgotten while another comes back, and one waits for both.
#[test]
fn semaphore_forget_vs_release() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(2, 2);
        let mut both = Box::pin(semaphore.acquire_owned(2));
        assert!(poll_once(both.as_mut()).is_pending());
        let releaser = {
            let permit = permits.pop();
            spawn(move || drop(permit))
        };
        permits.pop().unwrap().forget();
        releaser.join().unwrap();
        let told = block_on(both).map(drop);
        assert_eq!(told, Err(AcquireError::OverCapacity { wanted: 2, capacity: 1 }));
        assert_whole(&semaphore);
    });
}

// A front is called while a running caller takes what it is called for, and gives it back: it is called again, or finds it.
#[test]
fn semaphore_called_vs_running_caller() {
    model::check(|| {
        let (semaphore, out, _clock) = eventual(1, 1);
        let ledger = Ledger::new();
        let waiter = {
            let (semaphore, ledger) = (Arc::clone(&semaphore), Arc::clone(&ledger));
            spawn(move || {
                let permit = block_on(semaphore.acquire(1)).unwrap();
                ledger.enter();
                drop(permit);
            })
        };
        drop(out);
        let mut mine = 0;
        if let Ok(permit) = semaphore.try_acquire(1) {
            ledger.enter();
            mine = 1;
            drop(permit);
        }
        waiter.join().unwrap();
        assert_eq!(ledger.entries(), 1 + mine);
        assert_whole(&semaphore);
    });
}

// Two releases, of which only the first calls the front; one who waits behind it is called by whoever comes next.
#[test]
fn semaphore_called_vs_second_release() {
    model::check(|| {
        let (semaphore, mut permits, _clock) = eventual(2, 2);
        let mut first = Box::pin(semaphore.acquire_owned(1));
        let mut second = Box::pin(semaphore.acquire_owned(1));
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        let releaser = {
            let permit = permits.pop();
            spawn(move || drop(permit))
        };
        let other = spawn(move || drop(block_on(first).unwrap()));
        drop(permits);
        drop(block_on(second).unwrap());
        releaser.join().unwrap();
        other.join().unwrap();
        assert_whole(&semaphore);
    });
}

// The front leaves while it is called: its turn goes to the next.
#[test]
fn semaphore_called_vs_cancel() {
    model::check(|| {
        let (semaphore, permits, _clock) = eventual(1, 1);
        leave_vs_release(&semaphore, permits);
    });
}

/// Two wait with eventual fairness, and the first has been called; and what there is beside.
fn called() -> (Arc<Semaphore>, ManualClock, [Pin<Box<AcquireOwned>>; 2]) {
    let (semaphore, mut permits, clock) = eventual(1, 1);
    let waiting = [0, 1].map(|_| {
        let mut wait = Box::pin(semaphore.acquire_owned(1));
        assert!(poll_once(wait.as_mut()).is_pending());
        wait
    });
    permits.pop();
    (semaphore, clock, waiting)
}

// A turn is taken back while the one that was called comes: it has the permit, or begins again; the next one gets its turn.
#[test]
fn semaphore_turn_taken_back_vs_coming() {
    model::check(|| {
        let (semaphore, clock, [late, next]) = called();
        let coming = spawn(move || drop(block_on(late).unwrap()));
        pass_the_bound(&clock);
        drop(block_on(next).unwrap());
        coming.join().unwrap();
        assert_whole(&semaphore);
    });
}

// A turn is taken back while its owner leaves.
#[test]
fn semaphore_turn_taken_back_vs_cancel() {
    model::check(|| {
        let (semaphore, clock, [late, next]) = called();
        let leaving = spawn(move || drop(late));
        pass_the_bound(&clock);
        drop(block_on(next).unwrap());
        leaving.join().unwrap();
        assert_whole(&semaphore);
    });
}

// A front that was called is overdue and does not come: the one behind it is sent, and shuts the door, while a running caller
// gives back, and while the front comes after all.
#[test]
fn semaphore_sent_vs_running_caller() {
    model::check(|| {
        let (semaphore, mut permits, clock) = eventual(1, 1);
        let [late, next] = [0, 1].map(|_| {
            let mut wait = Box::pin(semaphore.acquire_owned(1));
            assert!(poll_once(wait.as_mut()).is_pending());
            wait
        });
        // The front is called later than it came, so it is overdue before it has lost its turn.
        clock.advance(Duration::from_millis(1));
        permits.pop();
        let running = semaphore.try_acquire_owned(1).unwrap();
        let behind = spawn(move || drop(block_on(next).unwrap()));
        let releaser = spawn(move || drop(running));
        clock.advance(Duration::from_millis(3));
        drop(block_on(late).unwrap());
        behind.join().unwrap();
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// The alarm calls a front that is overdue while the permit comes back: it takes it, or shuts the door and is called for it.
#[test]
fn semaphore_overdue_vs_release() {
    model::check(|| {
        let (semaphore, mut permits, clock) = eventual(1, 1);
        let waiter = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || drop(block_on(semaphore.acquire(1)).unwrap()))
        };
        let releaser = {
            let permit = permits.pop();
            spawn(move || drop(permit))
        };
        pass_the_bound(&clock);
        waiter.join().unwrap();
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// The line becomes strict while its front is called, and while a running caller is about to take.
#[test]
fn semaphore_fairness_switch_vs_release() {
    model::check(|| {
        let (semaphore, mut permits, _clock) = eventual(1, 1);
        let mut waiter = Box::pin(semaphore.acquire_owned(1));
        assert!(poll_once(waiter.as_mut()).is_pending());
        let releaser = {
            let permit = permits.pop();
            spawn(move || drop(permit))
        };
        semaphore.set_fairness(Fairness::Strict);
        // From here on nobody overtakes, and what is free is granted.
        assert!(semaphore.try_acquire(1).is_err());
        drop(block_on(waiter).unwrap());
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// The line becomes eventual while one comes to it, and while the permit comes back.
#[test]
fn semaphore_fairness_switch_vs_queue() {
    model::check(|| {
        let (timer, _clock) = Timer::manual();
        let semaphore = Arc::new(Semaphore::new(1).with_timer(timer));
        let permit = semaphore.try_acquire_owned(1).unwrap();
        let waiter = {
            let semaphore = Arc::clone(&semaphore);
            spawn(move || drop(block_on(semaphore.acquire(1)).unwrap()))
        };
        let releaser = spawn(move || drop(permit));
        semaphore.set_fairness(Fairness::EVENTUAL);
        waiter.join().unwrap();
        releaser.join().unwrap();
        assert_whole(&semaphore);
    });
}

// A wait within a context ends with it while the permit comes: it has it, or the next one gets it.
#[test]
fn semaphore_acquire_in_vs_release() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(1, 1);
        let (ctx, canceller) = Tree::background().child();
        let releaser = {
            let permit = permits.pop();
            spawn(move || drop(permit))
        };
        let cancelling = spawn(move || canceller.cancel());
        match block_on(semaphore.acquire_in(&ctx, 1)) {
            Ok(permit) => drop(permit),
            Err(AcquireError::Ended(cause)) => assert_eq!(cause.kind(), CauseKind::Cancelled),
            Err(error) => panic!("{error}"),
        }
        releaser.join().unwrap();
        cancelling.join().unwrap();
        assert_whole(&semaphore);
    });
}

// The gate.

/// Polls once, for nobody in particular.
fn is_pending(future: Pin<&mut impl Future>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

// The last count down between the waiter's look and its WAITING, or while it sleeps.
#[test]
fn latch_last_vs_wait() {
    model::check(|| {
        let latch = Arc::new(Latch::new(1));
        let ledger = Ledger::new();
        let counter = {
            let (latch, ledger) = (Arc::clone(&latch), Arc::clone(&ledger));
            spawn(move || {
                ledger.enter();
                assert!(latch.count_down(1), "nobody else opens it");
            })
        };
        block_on(latch.wait());
        assert_eq!(ledger.entries(), 1);
        counter.join().unwrap();
        assert!(!is_pending(pin!(latch.wait())));
    });
}

// Whoever sees the latch open sees what was done before.
#[test]
fn latch_last_vs_look() {
    model::check(|| {
        let latch = Arc::new(Latch::new(2));
        let ledger = Ledger::new();
        let counter = {
            let (latch, ledger) = (Arc::clone(&latch), Arc::clone(&ledger));
            spawn(move || {
                ledger.enter();
                latch.count_down(1)
            })
        };
        let mine = latch.count_down(1);
        if latch.is_open() {
            assert_eq!(ledger.entries(), 1);
        }
        let theirs = counter.join().unwrap();
        assert!(mine ^ theirs, "one of the two opened it");
    });
}

// Two count downs, of which the last lets the waiter out: it must see what was done before either.
#[test]
fn latch_two_count_downs() {
    model::check(|| {
        let latch = Arc::new(Latch::new(2));
        let ledgers = [Ledger::new(), Ledger::new()];
        let mut waiter = Box::pin(latch.wait());
        assert!(is_pending(waiter.as_mut()));
        let counters = ledgers.clone().map(|ledger| {
            let latch = Arc::clone(&latch);
            spawn(move || {
                ledger.enter();
                latch.count_down(1)
            })
        });
        block_on(waiter);
        assert_eq!(ledgers.map(|ledger| ledger.entries()), [1, 1]);
        let [first, second] = counters.map(|counter| counter.join().unwrap());
        assert!(first ^ second, "one of the two opened it");
    });
}

// A waiter that gives up against the last count down; another stands behind it.
#[test]
fn latch_wait_dropped_vs_last() {
    model::check(|| {
        let latch = Arc::new(Latch::new(1));
        let counter = {
            let latch = Arc::clone(&latch);
            spawn(move || latch.count_down(1))
        };
        let mut leaves = Box::pin(latch.wait());
        let mut stays = Box::pin(latch.wait());
        let left_pending = is_pending(leaves.as_mut());
        let _ = is_pending(stays.as_mut());
        drop(leaves);
        block_on(stays);
        assert!(counter.join().unwrap());
        assert!(!left_pending || latch.is_open());
    });
}

// The last guard's drop between the waiter's look and its WAITING, or while it sleeps.
#[test]
fn wait_group_last_done_vs_wait() {
    model::check(|| {
        let group = Arc::new(WaitGroup::new());
        let ledgers = [Ledger::new(), Ledger::new()];
        let tasks = ledgers.clone().map(|ledger| {
            let guard = group.add_owned(1).unwrap();
            spawn(move || {
                ledger.enter();
                drop(guard);
            })
        });
        block_on(group.wait());
        assert_eq!(ledgers.map(|ledger| ledger.entries()), [1, 1]);
        for task in tasks {
            task.join().unwrap();
        }
        assert_eq!(group.count(), 0);
    });
}

// An add between the last done and its lock: who began to wait after the add is not let out with
// those who waited before, and nobody is forgotten.
#[test]
fn wait_group_add_vs_last_done() {
    model::check(|| {
        let group = Arc::new(WaitGroup::new());
        let first = group.add_owned(1).unwrap();
        let mut before = Box::pin(group.wait());
        assert!(is_pending(before.as_mut()));
        let task = spawn(move || drop(first));
        let second = group.add(1).unwrap();
        let mut after = Box::pin(group.wait());
        assert!(is_pending(after.as_mut()), "a guard lives that was made before");
        assert!(is_pending(after.as_mut()), "a guard lives that was made before");
        drop(second);
        block_on(before);
        block_on(after);
        task.join().unwrap();
        assert_eq!(group.count(), 0);
        assert!(!is_pending(pin!(group.wait())));
    });
}

// An add and its done while the last done lets two waiters out: who is not let out any more is still
// told of.
#[test]
fn wait_group_add_vs_let_out() {
    model::check(|| {
        let group = Arc::new(WaitGroup::new());
        let first = group.add_owned(1).unwrap();
        let mut waits = [0, 1].map(|_| Box::pin(group.wait()));
        for wait in &mut waits {
            assert!(is_pending(wait.as_mut()));
        }
        let task = spawn(move || drop(first));
        drop(group.add(1).unwrap());
        for wait in waits {
            block_on(wait);
        }
        task.join().unwrap();
        assert!(!is_pending(pin!(group.wait())));
    });
}

// A waiter that gives up against the last done, and the group used again: WAITING must tell the truth.
#[test]
fn wait_group_wait_dropped_vs_last_done() {
    model::check(|| {
        let group = Arc::new(WaitGroup::new());
        let first = group.add_owned(1).unwrap();
        let mut leaves = Box::pin(group.wait());
        assert!(is_pending(leaves.as_mut()));
        let task = spawn(move || drop(first));
        drop(leaves);
        let second = group.add_owned(1).unwrap();
        let other = spawn(move || drop(second));
        block_on(group.wait());
        task.join().unwrap();
        other.join().unwrap();
        assert_eq!(group.count(), 0);
    });
}

// The task group.

/// What the models' tasks fail with.
type Text = &'static str;

/// A group under `tree`, with room for `limit` tasks.
fn group(tree: &Tree, limit: usize) -> Arc<TaskGroup<usize, Text>> {
    Arc::new(TaskGroup::builder(tree).limit(limit).build().unwrap())
}

/// A task in room that is there.
fn task<F: Future<Output = Result<usize, Text>>>(
    group: &TaskGroup<usize, Text>,
    future: F,
) -> GroupTask<usize, Text, F> {
    group.try_reserve().unwrap().into_task(future).unwrap()
}

/// Every task of `group` has ended, in one of the four ways.
fn assert_ended(group: &TaskGroup<usize, Text>) {
    let counts = group.counts();
    assert_eq!(counts.running(), 0, "{counts:?}");
}

/// What a task captures: enters the ledger when it is dropped.
struct Captured(Arc<Ledger>);

impl Drop for Captured {
    fn drop(&mut self) {
        self.0.enter();
    }
}

// The last end against the join, which goes to sleep: it sees every value, and all that the tasks
// captured is dropped.
#[test]
fn task_group_last_end_vs_join() {
    model::check(|| {
        let group = group(&Tree::background(), 2);
        let ledgers = [Ledger::new(), Ledger::new()];
        let executors = [0, 1].map(|value| {
            let captured = Captured(Arc::clone(&ledgers[value]));
            let task = task(&group, async move {
                let _captured = captured;
                Ok(value)
            });
            spawn(move || block_on(task))
        });
        let joined = block_on(group.join());
        assert_eq!(ledgers.map(|ledger| ledger.entries()), [1, 1]);
        assert_eq!(joined.into_result().unwrap(), [0, 1]);
        for executor in executors {
            executor.join().unwrap();
        }
        assert_ended(&group);
    });
}

// Two failures at once, against the join: one of them is the first, it alone is kept, and the context
// carries it by the time the join is over.
#[test]
fn task_group_first_error_vs_join() {
    model::check(|| {
        let group = group(&Tree::background(), 2);
        // Both are let in before one fails.
        let tasks = [0, 1].map(|_| task(&group, ready(Err("failed"))));
        let executors = tasks.map(|task| spawn(move || block_on(task)));
        let joined = block_on(group.join());
        assert_eq!(joined.failures.len(), 1);
        assert!(matches!(joined.failures[0].fault, Fault::Error("failed")));
        assert_eq!(joined.counts.failed + joined.counts.cancelled, 2);
        let cause = joined.cause.expect("the first failure cancels before it counts");
        let told = cause.error().unwrap().downcast_ref::<TaskFailed>().unwrap();
        assert_eq!(told.index(), joined.failures[0].index);
        for executor in executors {
            executor.join().unwrap();
        }
        assert_ended(&group);
    });
}

// A failure against another task that goes to sleep: it is woken, dropped and counted.
#[test]
fn task_group_first_error_vs_pending_task() {
    model::check(|| {
        let group = group(&Tree::background(), 2);
        let ledger = Ledger::new();
        let sleeps = {
            let captured = Captured(Arc::clone(&ledger));
            let task = task(&group, async move {
                let _captured = captured;
                pending().await
            });
            spawn(move || block_on(task))
        };
        block_on(task(&group, ready(Err("failed"))));
        let joined = block_on(group.join());
        assert_eq!(ledger.entries(), 1);
        assert_eq!((joined.counts.failed, joined.counts.cancelled), (1, 1));
        sleeps.join().unwrap();
        assert_ended(&group);
    });
}

// A cancel of the tree above against a task that ends or goes to sleep, on another thread.
#[test]
fn task_group_cancel_vs_end() {
    model::check(|| {
        let (tree, canceller) = Tree::background().child();
        let group = group(&tree, 1);
        let executor = {
            let mut polls = 0;
            let task = task(
                &group,
                poll_fn(move |cx| {
                    polls += 1;
                    if polls == 2 {
                        return Poll::Ready(Ok(7));
                    }
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }),
            );
            spawn(move || block_on(task))
        };
        let cancels = spawn(move || canceller.cancel());
        let joined = block_on(group.join());
        let counts = joined.counts;
        assert_eq!(counts.finished + counts.cancelled, 1, "{counts:?}");
        assert_eq!(joined.results, [(counts.finished == 1).then_some(7)]);
        executor.join().unwrap();
        cancels.join().unwrap();
        assert_ended(&group);
    });
}

// The group's drop against a task that goes to sleep: nobody joins, and yet it ends.
#[test]
fn task_group_drop_vs_end() {
    model::check(|| {
        let group = group(&Tree::background(), 1);
        let ctx = group.context().clone();
        let ledger = Ledger::new();
        let executor = {
            let captured = Captured(Arc::clone(&ledger));
            let task = task(&group, async move {
                let _captured = captured;
                pending().await
            });
            spawn(move || block_on(task))
        };
        drop(group);
        assert_eq!(ctx.cause().unwrap().kind(), CauseKind::Dropped);
        executor.join().unwrap();
        assert_eq!(ledger.entries(), 1);
    });
}

// An executor that drops its task (a runtime that shuts down) against the join.
#[test]
fn task_group_lost_task_vs_join() {
    model::check(|| {
        let group = group(&Tree::background(), 1);
        let ledger = Ledger::new();
        let executor = {
            let captured = Captured(Arc::clone(&ledger));
            let task = task(&group, async move {
                let _captured = captured;
                pending().await
            });
            spawn(move || drop(task))
        };
        let joined = block_on(group.join());
        assert_eq!(ledger.entries(), 1);
        assert_eq!(joined.counts.cancelled, 1);
        executor.join().unwrap();
        assert_ended(&group);
    });
}

// Somebody who waits for room against the close and the end that gives room: let in and joined, or
// refused.
#[test]
fn task_group_spawn_vs_close() {
    model::check(|| {
        let group = group(&Tree::background(), 1);
        let executor = {
            let task = task(&group, ready(Ok(1)));
            spawn(move || block_on(task))
        };
        let spawner = {
            let group = Arc::clone(&group);
            spawn(move || {
                let slot = match block_on(group.reserve()) {
                    Ok(slot) => slot,
                    Err(refusal) => {
                        assert!(matches!(refusal, Refusal::Closed));
                        return 0;
                    }
                };
                match slot.into_task(ready(Ok(1))) {
                    Ok(task) => {
                        block_on(task);
                        1
                    }
                    Err(error) => {
                        assert!(matches!(error.refusal(), Refusal::Closed));
                        0
                    }
                }
            })
        };
        let joined = block_on(group.join());
        let counts = joined.counts;
        assert_eq!(joined.into_result().unwrap(), vec![1; counts.spawned]);
        executor.join().unwrap();
        assert_eq!(counts.spawned, 1 + spawner.join().unwrap());
        assert_ended(&group);
    });
}

// A close against somebody on the way to wait for room that never comes: only the join ends it.
#[test]
fn task_group_close_vs_wait_for_room() {
    model::check(|| {
        let group = group(&Tree::background(), 1);
        let held = group.try_reserve().unwrap();
        let waits = {
            let group = Arc::clone(&group);
            spawn(move || assert!(matches!(block_on(group.reserve()), Err(Refusal::Closed))))
        };
        assert_eq!(block_on(group.join()).counts.spawned, 0);
        waits.join().unwrap();
        drop(held);
        assert_ended(&group);
    });
}

// Room that is given back against a waiter that gives up; the next stands behind it.
#[test]
fn task_group_room_vs_cancelled_waiter() {
    model::check(|| {
        let group = group(&Tree::background(), 1);
        let executor = {
            let task = task(&group, ready(Ok(1)));
            spawn(move || block_on(task))
        };
        let mut leaves = Box::pin(group.reserve());
        let mut stays = Box::pin(group.reserve());
        let waits = is_pending(leaves.as_mut());
        if waits {
            let _ = is_pending(stays.as_mut());
        }
        drop(leaves);
        if waits {
            drop(block_on(stays).unwrap());
        }
        executor.join().unwrap();
        drop(group.try_reserve().expect("the room came back"));
    });
}

// An end against one who waits for its value, and against another who does: each value is taken once, and both are told of
// the end.
#[test]
fn task_group_end_vs_next() {
    model::check(|| {
        let tree = Tree::background();
        let group = TaskGroup::builder(&tree).stream_results().build().unwrap();
        let group: Arc<TaskGroup<usize, Text>> = Arc::new(group);
        let ledger = Ledger::new();
        let executor = {
            let ledger = Arc::clone(&ledger);
            let task = task(&group, async move {
                ledger.enter();
                Ok(1)
            });
            spawn(move || block_on(task))
        };
        let taker = {
            let group = Arc::clone(&group);
            spawn(move || block_on(group.next()))
        };
        let mine = block_on(group.next());
        let theirs = taker.join().unwrap();
        executor.join().unwrap();
        assert!(matches!((mine, theirs), (Some((0, 1)), None) | (None, Some((0, 1)))));
        if mine.is_some() {
            assert_eq!(ledger.entries(), 1);
        }
        assert_ended(&group);
    });
}

// One who was woken for a value and leaves against another who waits for it.
#[test]
fn task_group_end_vs_next_that_leaves() {
    model::check(|| {
        let tree = Tree::background();
        let group = TaskGroup::builder(&tree).stream_results().build().unwrap();
        let group: Arc<TaskGroup<usize, Text>> = Arc::new(group);
        // Alive all the time: no last end wakes everybody.
        let alive = task(&group, pending());
        let executor = {
            let task = task(&group, ready(Ok(1)));
            spawn(move || block_on(task))
        };
        let mut leaves = Box::pin(group.next());
        let taken = match leaves.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => next,
            Poll::Pending => {
                let mut stays = Box::pin(group.next());
                let polled = stays.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                drop(leaves);
                match polled {
                    Poll::Ready(next) => next,
                    Poll::Pending => block_on(stays),
                }
            }
        };
        assert_eq!(taken, Some((1, 1)));
        executor.join().unwrap();
        drop(alive);
        assert_ended(&group);
    });
}

// A limit that is raised against one on the way to wait for room.
#[test]
fn task_group_limit_vs_wait_for_room() {
    model::check(|| {
        let group = group(&Tree::background(), 1);
        let held = group.try_reserve().unwrap();
        let waits = {
            let group = Arc::clone(&group);
            spawn(move || drop(block_on(group.reserve()).unwrap()))
        };
        assert_eq!(group.set_limit(2), Ok(1));
        waits.join().unwrap();
        drop(held);
        assert!(matches!(group.set_limit(1), Ok(2)));
        drop(group.try_reserve().expect("the room came back"));
        assert!(group.try_reserve().is_ok());
    });
}

// A limit that is lowered against the end of one, while somebody waits for room: it gets that before or after, and no more are let in than the limit says.
#[test]
fn task_group_lowered_limit_vs_end() {
    model::check(|| {
        let group = group(&Tree::background(), 2);
        let held = [0; 2].map(|_| group.try_reserve().unwrap().into_task(ready(Ok(1))).unwrap());
        let waits = {
            let group = Arc::clone(&group);
            spawn(move || drop(block_on(group.reserve()).unwrap()))
        };
        let [first, second] = held;
        let ends = spawn(move || block_on(first));
        assert_eq!(group.set_limit(1), Ok(2));
        block_on(second);
        ends.join().unwrap();
        waits.join().unwrap();
        let one = group.try_reserve().unwrap();
        assert!(group.try_reserve().is_err());
        drop(one);
    });
}

// A cancel of a group with a grace against a task that becomes pending: it is dropped when the grace is over, and not lost.
#[test]
fn task_group_grace_vs_pending_task() {
    model::check(|| {
        let (timer, clock) = Timer::manual();
        let tree = Tree::background();
        let builder = TaskGroup::builder(&tree).abort_after(Duration::from_secs(1)).timer(timer);
        let group: Arc<TaskGroup<usize, Text>> = Arc::new(builder.build().unwrap());
        let executor = {
            let task = task(&group, pending());
            spawn(move || block_on(task))
        };
        group.cancel();
        clock.advance(Duration::from_secs(1));
        executor.join().unwrap();
        assert_eq!(group.counts().cancelled, 1);
        assert_ended(&group);
    });
}

// A stop against somebody who waits for room, and against the end that gives it: the wait ends, and
// the room is not lost to the count of those that are taken.
#[test]
fn task_group_stop_vs_wait_for_room() {
    model::check(|| {
        let (tree, canceller) = Tree::background().child();
        let group = group(&tree, 1);
        let executor = {
            let task = task(&group, ready(Ok(1)));
            spawn(move || block_on(task))
        };
        let cancels = spawn(move || canceller.cancel());
        match block_on(group.reserve()) {
            Ok(slot) => drop(slot),
            Err(refusal) => assert!(matches!(refusal, Refusal::Stopping(_))),
        }
        executor.join().unwrap();
        cancels.join().unwrap();
        let joined = block_on(group.join());
        assert_eq!(joined.counts.finished + joined.counts.cancelled, 1);
        assert_ended(&group);
    });
}

// A cancel against somebody on the way to wait for room that never comes: only the context ends it.
#[test]
fn task_group_stop_vs_wait_without_room() {
    model::check(|| {
        let (tree, canceller) = Tree::background().child();
        let group = group(&tree, 1);
        let held = group.try_reserve().unwrap();
        let cancels = spawn(move || canceller.cancel());
        assert!(matches!(block_on(group.reserve()), Err(Refusal::Stopping(_))));
        drop(held);
        cancels.join().unwrap();
        assert_eq!(block_on(group.join()).counts.spawned, 0);
    });
}

// Two panics at once: one goes on at the join, and the other's payload is dropped where its
// destructor may use the group.
#[test]
fn task_group_panic_vs_panic() {
    struct LooksBack(Arc<TaskGroup<usize, Text>>);
    impl Drop for LooksBack {
        fn drop(&mut self) {
            let _ = self.0.counts();
        }
    }

    model::check(|| {
        let group = group(&Tree::background(), 2);
        let tasks = [0, 1].map(|_| {
            let seen = Arc::clone(&group);
            let payload = move || Box::new(LooksBack(Arc::clone(&seen)));
            task(&group, poll_fn(move |_| resume_unwind(payload())))
        });
        let executors = tasks.map(|task| spawn(move || block_on(task)));
        let panic = catch_unwind(AssertUnwindSafe(|| drop(block_on(group.join()))));
        drop(panic.expect_err("a task has panicked").downcast::<LooksBack>().unwrap());
        let counts = block_on(group.join()).counts;
        assert_eq!(counts.panicked + counts.cancelled, 2);
        for executor in executors {
            executor.join().unwrap();
        }
        assert_ended(&group);
    });
}
