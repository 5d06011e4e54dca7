//! Threads that queue, change wakers, give up and grant at once: every token is somewhere in the end.
//! Also run under the address sanitizer, which sees a node that is touched after it is freed, and what
//! is left in one.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_primitives::observe::Subject;
use selvedge_primitives::{
    Anchor, Entry, Left, LineId, LineWaiter, Lines, LockedLines, WaitQueue, Waiter, block_on,
};
use selvedge_testkit::{CountingWaker, watchdog};

/// Tokens under the lock; a waiter asks for one.
type Queue = WaitQueue<usize, (), usize>;

const TOKENS: usize = 3;
const TAKERS: u64 = 4;
const RUN: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives tokens back to those who wait, in order.
fn release(queue: &Queue, tokens: usize) {
    let mut locked = queue.lock();
    *locked += tokens;
    queue.grant_while(locked, |tokens, ()| {
        *tokens = tokens.checked_sub(1)?;
        Some(1)
    });
}

fn poll(waiter: Pin<&mut Waiter<'_, usize, (), usize>>, waker: &Waker) -> Poll<usize> {
    waiter.poll_enter(&mut Context::from_waker(waker), |tokens| match tokens.checked_sub(1) {
        Some(left) => {
            **tokens = left;
            Entry::Ready(1)
        }
        None => Entry::Wait(()),
    })
}

/// A generator that needs no crate: xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A waiter that is polled some times with one waker or another, and then dropped. What it was
/// handed, before or in the very moment, goes back.
fn hesitate(queue: &Arc<Queue>, dice: &mut Dice) {
    // In a box of its own: freed as soon as it is dropped.
    let mut waiter = Box::pin(match dice.roll(2) {
        0 => Waiter::new(Anchor::shared(Arc::clone(queue), |queue| queue)),
        _ => Waiter::new(Anchor::borrowed(queue)),
    });
    for _ in 0..=dice.roll(3) {
        let polled = match dice.roll(2) {
            0 => poll(waiter.as_mut(), &CountingWaker::new().waker()),
            _ => poll(waiter.as_mut(), Waker::noop()),
        };
        if let Poll::Ready(tokens) = polled {
            return release(queue, tokens);
        }
    }
    if let Left::Granted(tokens) = waiter.as_mut().cancel() {
        drop(waiter);
        release(queue, tokens);
    }
}

/// Waits for a token and gives it back.
fn take(queue: &Queue) {
    let mut waiter = pin!(Waiter::new(Anchor::borrowed(queue)));
    let tokens = block_on(std::future::poll_fn(|cx| poll(waiter.as_mut(), cx.waker())));
    release(queue, tokens);
}

#[test]
fn tokens_are_conserved_and_nobody_sleeps_on() {
    watchdog(PATIENCE, "the stress of the wait queue", || {
        let queue = Arc::new(Queue::new(TOKENS));
        let over = Arc::new(AtomicBool::new(false));
        let turns = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..TAKERS)
            .map(|number| {
                let (queue, over, turns) = (queue.clone(), over.clone(), turns.clone());
                thread::spawn(move || {
                    let mut dice = Dice(number + 1);
                    // Relaxed: only a signal to stop.
                    while !over.load(Ordering::Relaxed) {
                        match dice.roll(3) {
                            0 => take(&queue),
                            _ => hesitate(&queue, &mut dice),
                        }
                        // Relaxed: read after the threads are joined.
                        turns.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();

        // This thread takes the tokens away now and then, so that the others queue.
        let start = Instant::now();
        while start.elapsed() < RUN {
            let taken = std::mem::take(&mut *queue.lock());
            thread::yield_now();
            release(&queue, taken);
        }
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
        let locked = queue.lock();
        assert_eq!((*locked, locked.len()), (TOKENS, 0), "tokens, and who waits");
        assert!(turns.load(Ordering::Relaxed) > 0);
    });
}

#[test]
fn a_crowd_is_woken_by_one_grant_while_others_leave() {
    watchdog(PATIENCE, "a crowd", || {
        for round in 0..50 {
            let queue = Arc::new(Queue::new(0));
            let threads: Vec<_> = (0..TAKERS)
                .map(|number| {
                    let queue = Arc::clone(&queue);
                    thread::spawn(move || {
                        let mut dice = Dice(round * TAKERS + number + 1);
                        for _ in 0..100 {
                            hesitate(&queue, &mut dice);
                        }
                        take(&queue);
                    })
                })
                .collect();
            for _ in 0..TAKERS {
                release(&queue, 1);
            }
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(*queue.lock(), TAKERS as usize);
        }
    });
}

/// A place on the heap that goes back to its owner's count when it is dropped, by whomever.
struct Place {
    /// Memory of its own, for the sanitizer.
    number: Box<usize>,
    /// Places that are somewhere.
    out: Arc<AtomicUsize>,
}

impl Place {
    fn new(number: usize, out: &Arc<AtomicUsize>) -> Self {
        // Relaxed: a count, read after the threads are joined.
        out.fetch_add(1, Ordering::Relaxed);
        Self { number: Box::new(number), out: Arc::clone(out) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Relaxed: a count, read after the threads are joined.
        self.out.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Requests and outcomes that own memory. A request says which number is asked for.
type Owned = WaitQueue<(), Place, Place>;

/// Serves who is at the front, each with a place of the number that it asked for.
fn serve(queue: &Owned, most: u64) {
    let mut left = most;
    queue.grant_while(queue.lock(), |(), request| {
        left = left.checked_sub(1)?;
        Some(Place::new(*request.number, &request.out))
    });
}

/// A few waiters that are polled, served, cancelled and dropped in any order. `turn` is theirs alone.
fn come_and_go(queue: &Arc<Owned>, out: &Arc<AtomicUsize>, turn: usize, dice: &mut Dice) {
    let mut waiters = Vec::new();
    for _ in 0..=dice.roll(4) {
        waiters.push(Box::pin(match dice.roll(2) {
            0 => Waiter::new(Anchor::shared(Arc::clone(queue), |queue| queue)),
            _ => Waiter::new(Anchor::borrowed(queue)),
        }));
    }
    for _ in 0..dice.roll(12) {
        let any = dice.roll(waiters.len() as u64) as usize;
        let waiter = &mut waiters[any];
        let waker = CountingWaker::new().waker();
        let mut cx = Context::from_waker(&waker);
        let polled = waiter.as_mut().poll_enter(&mut cx, |_| Entry::Wait(Place::new(turn, out)));
        if let Poll::Ready(place) = polled {
            assert_eq!(*place.number, turn, "what somebody else was given");
        }
        match dice.roll(4) {
            0 => serve(queue, dice.roll(4)),
            1 => drop(waiter.as_mut().cancel()),
            // Whoever stands in the queue, or has been served, goes as it is.
            2 => drop(waiters.swap_remove(any)),
            _ => thread::yield_now(),
        }
        if waiters.is_empty() {
            break;
        }
    }
}

#[test]
fn a_waiter_that_goes_at_any_moment_drops_once_what_it_asked_for_and_what_it_was_given() {
    watchdog(PATIENCE, "waiters that own", || {
        let queue = Arc::new(Owned::new(()));
        let out = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let threads: Vec<_> = (0..TAKERS as usize)
            .map(|number| {
                let (queue, out) = (Arc::clone(&queue), Arc::clone(&out));
                thread::spawn(move || {
                    let mut dice = Dice(number as u64 + 1);
                    let turns = (number..).step_by(TAKERS as usize);
                    for turn in turns.take_while(|_| start.elapsed() < RUN) {
                        come_and_go(&queue, &out, turn, &mut dice);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(queue.lock().len(), 0, "who waits");
        // Relaxed: the threads are joined.
        assert_eq!(out.load(Ordering::Relaxed), 0, "places that nobody has");
    });
}

/// Lines that are made for whoever finds none, with a count of those who use them; the number is that of the newest.
type Many = Lines<Option<LineId>, usize, (), ()>;

/// Uses the newest line, or makes one; waits in it for a moment, perhaps grants to all in it, and leaves it. The last takes it out.
fn visit(many: &Many, dice: &mut Dice) {
    let mut mine = None;
    let mut waiter = Box::pin(LineWaiter::new(Anchor::borrowed(many)));
    let make = dice.roll(4) == 0;
    let polled = waiter.as_mut().poll_enter(&mut Context::from_waker(Waker::noop()), |held| {
        let id = match **held {
            Some(id) if !make => id,
            _ => {
                let id = held.insert(0);
                **held = Some(id);
                id
            }
        };
        *held.line_mut(id).expect("it is used, or new") += 1;
        mine = Some(id);
        Entry::Wait((id, ()))
    });
    assert!(polled.is_pending());
    let id = mine.expect("it has entered");
    if dice.roll(2) == 0 {
        many.grant_each(many.lock(), id, |_| Some(()), |_| ());
    }
    let leave = |held: &mut LockedLines<'_, Option<LineId>, usize, (), ()>| {
        let users = held.line_mut(id).expect("it is used");
        *users -= 1;
        if *users == 0 {
            if **held == Some(id) {
                **held = None;
            }
            assert_eq!(held.remove(id), Some(0));
        }
    };
    match waiter.as_mut().cancel_then(|mut held| leave(&mut held)) {
        Left::Queued(()) => {}
        _ => leave(&mut many.lock()),
    }
}

#[test]
fn lines_that_come_and_go_keep_everybody_in_his_own() {
    watchdog(PATIENCE, "the stress of many lines", || {
        let many = Arc::new(Many::observed(None, Subject::here("lines")));
        let threads: Vec<_> = (0..TAKERS)
            .map(|number| {
                let many = Arc::clone(&many);
                thread::spawn(move || {
                    let mut dice = Dice(number + 1);
                    let start = Instant::now();
                    while start.elapsed() < RUN {
                        (0..100).for_each(|_| visit(&many, &mut dice));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*many.lock(), None);
        assert!(many.lock().spare(0).is_some(), "no line is left");
    });
}
