//! Threads that clone, wake, drop and panic at once: every handle of a waker is counted once and frees
//! once, and so is every block of the allocator. Also run under the address sanitizer, which sees a
//! core that is touched after its last handle is gone.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use selvedge_testkit::{
    CountingAllocator, CountingWaker, PanickingWaker, ReentrantWaker, watchdog,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const THREADS: u64 = 4;
const RUN: Duration = Duration::from_millis(400);
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

/// What one thread did to the handles that it was given.
#[derive(Default)]
struct Done {
    clones: usize,
    wakes: usize,
    drops: usize,
}

/// Clones, wakes and drops at random until the time is over, and leaves nothing behind. A wake may
/// panic.
fn use_up(waker: Waker, dice: &mut Dice, until: Instant) -> Done {
    let mut done = Done::default();
    let mut handles = vec![waker];
    while Instant::now() < until {
        let any = dice.roll(handles.len() as u64) as usize;
        match dice.roll(6) {
            0 | 1 if handles.len() < 16 => {
                handles.push(handles[any].clone());
                done.clones += 1;
            }
            2 => {
                let _ = catch_unwind(AssertUnwindSafe(|| handles[any].wake_by_ref()));
                done.wakes += 1;
            }
            // The last one stays, to clone from.
            3 if handles.len() > 1 => {
                let handle = handles.swap_remove(any);
                let _ = catch_unwind(AssertUnwindSafe(|| handle.wake()));
                done.wakes += 1;
                done.drops += 1;
            }
            4 if handles.len() > 1 => {
                drop(handles.swap_remove(any));
                done.drops += 1;
            }
            _ => thread::yield_now(),
        }
    }
    done.drops += handles.len();
    done
}

/// Gives every thread one handle of `make`, and returns what they did in all.
fn share(make: impl Fn() -> Waker) -> Done {
    let until = Instant::now() + RUN;
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let waker = make();
            thread::spawn(move || use_up(waker, &mut Dice(number + 1), until))
        })
        .collect();
    let mut all = Done::default();
    for thread in threads {
        let done = thread.join().unwrap();
        all.clones += done.clones;
        all.wakes += done.wakes;
        all.drops += done.drops;
    }
    all
}

#[test]
fn every_handle_is_counted_once_on_whatever_thread_it_ends() {
    watchdog(PATIENCE, "the stress of the counting waker", || {
        let counting = CountingWaker::new();
        let done = share(|| counting.waker());
        assert_eq!((counting.clones(), counting.wakes()), (done.clones, done.wakes));
        assert_eq!((counting.drops(), counting.live()), (done.drops, 0));
    });
}

#[test]
fn handles_that_outlive_their_face_free_the_closures_once() {
    watchdog(PATIENCE, "the stress of the re-entrant waker", || {
        let owned = Arc::new(());
        let calls = Arc::new(AtomicUsize::new(0));
        let (in_wake, in_drop) = (Arc::clone(&owned), Arc::clone(&owned));
        let (woken, dropped) = (Arc::clone(&calls), Arc::clone(&calls));
        let reentrant = ReentrantWaker::on_wake_and_drop(
            // Relaxed here and below: a count, read after the threads are joined.
            move || drop((Arc::clone(&in_wake), woken.fetch_add(1, Ordering::Relaxed))),
            move || drop((Arc::clone(&in_drop), dropped.fetch_add(1, Ordering::Relaxed))),
        );
        let handles: Vec<Waker> = (0..THREADS).map(|_| reentrant.waker()).collect();
        drop(reentrant);
        let handles = std::cell::RefCell::new(handles);
        let done = share(|| handles.borrow_mut().pop().unwrap());
        assert_eq!(calls.load(Ordering::Relaxed), done.wakes + done.drops);
        assert_eq!(Arc::strong_count(&owned), 1, "leaked");
    });
}

#[test]
fn a_panic_of_a_wake_frees_its_handle_all_the_same() {
    watchdog(PATIENCE, "the stress of the panicking waker", || {
        // The hook would print each of them.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let panicking = PanickingWaker::new();
        let done = share(|| panicking.waker());
        std::panic::set_hook(hook);
        assert_eq!((panicking.wakes(), panicking.live()), (done.wakes, 0));
    });
}

#[test]
fn blocks_that_change_hands_are_counted_where_they_come_and_go() {
    watchdog(PATIENCE, "the stress of the allocator", || {
        let until = Instant::now() + RUN;
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                thread::spawn(move || {
                    let mut dice = Dice(number + 1);
                    while Instant::now() < until {
                        let (size, grown) = (1 + dice.roll(500), 600 + dice.roll(500));
                        let mut bytes = Vec::<u8>::new();
                        let coming = CountingAllocator::count(|| {
                            bytes = black_box(vec![0; size as usize]);
                            bytes.reserve_exact((grown - size) as usize);
                        });
                        assert_eq!((coming.allocations, coming.frees), (2, 1));
                        assert_eq!(
                            (coming.bytes_allocated, coming.bytes_freed),
                            (size + grown, size)
                        );
                        let going = thread::scope(|scope| {
                            let free = || CountingAllocator::count(|| drop(bytes));
                            scope.spawn(free).join().unwrap()
                        });
                        assert_eq!((going.allocations, going.frees), (0, 1));
                        assert_eq!(going.bytes_freed, grown);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
