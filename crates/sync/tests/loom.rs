//! Models of the semaphore's races, on the real engine. Each has at most three threads and the
//! smallest capacity that shows the race, and ends with what must hold whoever won: free permits
//! are the capacity, and nobody sleeps while permits are free.
//!
//! `Ledger` stands for what the permits protect: a number that is read and written without any
//! ordering of its own, so a lost happens-before shows as a lost entry.
#![cfg(selvedge_loom)]

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use selvedge_primitives::atomic::{AtomicUsize, Ordering};
use selvedge_primitives::{block_on, model, thread};
use selvedge_sync::{AcquireError, AcquireOwned, OwnedPermit, Semaphore, TryAcquireError};

/// A number that only permits protect.
struct Ledger(AtomicUsize);

impl Ledger {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(0)))
    }

    /// Adds an entry, in two steps.
    fn enter(&self) {
        // Relaxed, twice: the permit that the caller holds is what orders this.
        let entries = self.0.load(Ordering::Relaxed);
        self.0.store(entries + 1, Ordering::Relaxed);
    }

    /// How many entries are visible here.
    fn entries(&self) -> usize {
        // Relaxed: whether the semaphore orders this is the question.
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

// A waiter gives up while the release serves it: what it was granted, or its turn, goes to the
// next in line.
#[test]
fn semaphore_cancel_in_queue_vs_release() {
    model::check(|| {
        let (semaphore, mut permits) = semaphore(1, 1);
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
        assert_whole(&semaphore);
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
