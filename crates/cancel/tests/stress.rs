//! Threads that make, stop, cancel, drop and wait in one tree at once. Real time: the timer thread is
//! in the game.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Waker};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_cancel::{CauseKind, Context};
use selvedge_testkit::{block_on, watchdog};

const RUN: Duration = Duration::from_millis(800);
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Makes a small tree below `ctx`, does something to it, and checks what must hold then.
fn turn(ctx: &Context, dice: &mut Dice) {
    let (top, canceller) = match dice.roll(3) {
        0 => ctx.with_timeout(Duration::from_micros(dice.roll(2_000))).unwrap(),
        _ => ctx.child(),
    };
    let mut all = vec![top.clone()];
    let mut keep = Vec::new();
    for _ in 0..dice.roll(6) {
        let parent = &all[dice.roll(all.len() as u64) as usize];
        let (child, child_canceller) = parent.child();
        keep.push(child_canceller);
        all.push(child);
    }
    let last = all[all.len() - 1].clone();
    let mut waiter = Box::pin(last.cancelled());
    let _ = waiter.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    match dice.roll(5) {
        0 => {
            canceller.cancel();
            assert!(all.iter().all(Context::is_cancelled), "cancel has returned");
        }
        1 => {
            canceller.stop(Duration::from_micros(dice.roll(500)));
            assert!(all.iter().all(Context::is_stopping), "stop has returned");
            assert!(matches!(
                block_on(waiter).kind(),
                CauseKind::Stopped | CauseKind::Deadline | CauseKind::Cancelled
            ));
        }
        2 => {
            drop(canceller);
            assert!(all.iter().all(Context::is_cancelled), "the last canceller is gone");
        }
        3 => {
            all.swap_remove(dice.roll(all.len() as u64) as usize);
            canceller.detach();
            drop(all);
        }
        _ => {
            let other = thread::spawn(move || canceller.cancel());
            block_on(waiter);
            other.join().unwrap();
        }
    }
    if last.is_cancelled() {
        let cause = last.cause().expect("cancelled, so there is a cause");
        assert!(last.cause().unwrap().same(&cause), "it does not change");
        assert!(last.child().0.is_cancelled());
    }
}

#[test]
fn a_tree_under_fire_keeps_its_promises_and_ends_empty() {
    watchdog(PATIENCE, "the stress of the tree", || {
        let (root, root_canceller) = Context::background().child();
        let turns = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let (root, turns) = (root.clone(), Arc::clone(&turns));
                thread::spawn(move || {
                    let mut dice = Dice(number + 1);
                    while start.elapsed() < RUN {
                        turn(&root, &mut dice);
                        // Relaxed: read after the threads are joined.
                        turns.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        while start.elapsed() < RUN {
            let _ = format!("{root:?}, {} nodes", root.nodes());
            thread::sleep(Duration::from_millis(1));
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(turns.load(Ordering::Relaxed) > 0);
        assert!(root.cause().is_none(), "nothing below touched it");
        assert_eq!(root.nodes(), 1);
        root_canceller.cancel();
    });
}

#[test]
fn every_waiter_of_a_cancelled_crowd_comes_back() {
    watchdog(PATIENCE, "a crowd of waiters", || {
        for round in 0..100_u64 {
            let (root, canceller) = Context::background().child();
            let begun = Arc::new(AtomicBool::new(false));
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    let (root, begun) = (root.clone(), Arc::clone(&begun));
                    thread::spawn(move || {
                        let mut dice = Dice(round * 4 + number + 1);
                        let mut ctx = root;
                        // Relaxed: only a signal.
                        while !begun.load(Ordering::Relaxed) {
                            thread::yield_now();
                        }
                        for _ in 0..dice.roll(20) {
                            let (child, child_canceller) = ctx.child();
                            child_canceller.detach();
                            ctx = child;
                        }
                        match dice.roll(2) {
                            0 => block_on(ctx.cancelled()),
                            _ => block_on(ctx.run(std::future::pending::<()>())).unwrap_err(),
                        }
                        .kind()
                    })
                })
                .collect();
            begun.store(true, Ordering::Relaxed);
            canceller.stop(Duration::from_micros(50));
            canceller.cancel();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), CauseKind::Stopped);
            }
            assert_eq!(root.nodes(), 1);
        }
    });
}
