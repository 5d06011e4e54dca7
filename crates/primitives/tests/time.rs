//! The three time drivers: order, revoking, panics, being lost, and what is left behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_primitives::time::{Expire, Expiry, ManualClock, Timer, TimerError};
use selvedge_testkit::watchdog;
use tokio::runtime::{Builder, Handle, Runtime};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// Notes who expired, and how.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(u32, Expiry)>>>);

impl Log {
    /// Something to register under a number.
    fn entry(&self, number: u32) -> Arc<dyn Expire> {
        Arc::new(Entry { log: self.clone(), number })
    }

    fn take(&self) -> Vec<(u32, Expiry)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The numbers, when all came in time.
    fn due(&self) -> Vec<u32> {
        let all = self.take();
        assert!(all.iter().all(|(_, expiry)| *expiry == Expiry::Due), "{all:?}");
        all.into_iter().map(|(number, _)| number).collect()
    }
}

struct Entry {
    log: Log,
    number: u32,
}

impl Expire for Entry {
    fn expire(self: Arc<Self>, expiry: Expiry) {
        self.log.0.lock().unwrap().push((self.number, expiry));
    }
}

/// Runs a closure.
struct Call<F>(F);

impl<F: Fn(Expiry) + Send + Sync> Expire for Call<F> {
    fn expire(self: Arc<Self>, expiry: Expiry) {
        (self.0)(expiry);
    }
}

fn call(f: impl Fn(Expiry) + Send + Sync + 'static) -> Arc<dyn Expire> {
    Arc::new(Call(f))
}

/// Sends how it expired, and when.
fn signal() -> (Arc<dyn Expire>, mpsc::Receiver<(Expiry, Instant)>) {
    let (sender, receiver) = mpsc::channel();
    let target = call(move |expiry| {
        let _ = sender.send((expiry, Instant::now()));
    });
    (target, receiver)
}

fn manual() -> (Timer, ManualClock, Log) {
    let (timer, clock) = Timer::manual();
    (timer, clock, Log::default())
}

fn here() -> Timer {
    Timer::tokio(&Handle::current()).unwrap()
}

/// Lets other tasks of a current-thread runtime run until they wait.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

// Manual.

#[test]
fn manual_expires_what_is_due_in_order_of_time_then_of_arrival() {
    let (timer, clock, log) = manual();
    let start = timer.now();
    for (number, after) in [(0, 3), (1, 1), (2, 2), (3, 1), (4, 9)] {
        timer.register(start + after * SECOND, log.entry(number)).unwrap();
    }
    assert_eq!(clock.registered(), 5);
    clock.advance(SECOND - Duration::from_nanos(1));
    assert_eq!(log.due(), []);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(log.due(), [1, 3]);
    clock.advance(5 * SECOND);
    assert_eq!(log.due(), [2, 0]);
    assert_eq!(clock.registered(), 1);
    assert_eq!(timer.now(), start + 6 * SECOND);
}

#[test]
fn manual_expires_a_past_instant_at_once() {
    let (timer, clock, log) = manual();
    let ticket = timer.register(timer.now(), log.entry(0)).unwrap();
    assert_eq!(log.due(), [0]);
    assert!(!timer.revoke(ticket));
    assert_eq!(clock.registered(), 0);
}

#[test]
fn a_revoked_registration_never_expires_and_is_dropped() {
    let (timer, clock, log) = manual();
    let entry = log.entry(0);
    let alive = Arc::downgrade(&entry);
    let ticket = timer.register(timer.now() + SECOND, entry).unwrap();
    assert!(timer.revoke(ticket));
    assert!(alive.upgrade().is_none());
    assert!(!timer.revoke(ticket), "once");
    clock.advance(2 * SECOND);
    assert_eq!(log.due(), []);
}

#[test]
fn a_silent_advance_moves_the_clock_and_expires_nothing() {
    let (timer, clock, log) = manual();
    timer.register(timer.now() + SECOND, log.entry(0)).unwrap();
    clock.advance_silently(2 * SECOND);
    assert_eq!(log.due(), []);
    clock.advance(Duration::ZERO);
    assert_eq!(log.due(), [0]);
}

#[test]
fn a_lost_manual_driver_expires_all_as_lost_and_takes_no_more() {
    let (timer, clock, log) = manual();
    for number in 0..3 {
        timer.register(timer.now() + SECOND, log.entry(number)).unwrap();
    }
    clock.lose();
    assert_eq!(log.take(), [(0, Expiry::Lost), (1, Expiry::Lost), (2, Expiry::Lost)]);
    let refused = timer.register(timer.now(), log.entry(9));
    assert_eq!(refused, Err(TimerError::Lost));
    assert_eq!(log.take(), [], "what was refused never expires");
}

#[test]
fn an_expiry_may_register_revoke_and_read_the_clock() {
    watchdog(PATIENCE, "an expiry that uses its timer", || {
        let (timer, clock, log) = manual();
        let revoked = timer.register(timer.now() + 5 * SECOND, log.entry(8)).unwrap();
        let (again, noted) = (timer.clone(), log.clone());
        let target = call(move |_| {
            assert!(again.revoke(revoked));
            let now = again.now();
            again.register(now, noted.entry(1)).unwrap();
            again.register(now + SECOND, noted.entry(2)).unwrap();
        });
        timer.register(timer.now() + SECOND, target).unwrap();
        clock.advance(SECOND);
        assert_eq!(log.due(), [1]);
        clock.advance(SECOND);
        assert_eq!(log.due(), [2]);
    });
}

#[test]
fn a_panicking_expiry_stops_no_other_and_its_panic_goes_on() {
    let (timer, clock, log) = manual();
    let start = timer.now();
    timer.register(start + SECOND, call(|_| panic!("this expiry panics"))).unwrap();
    timer.register(start + SECOND, log.entry(1)).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| clock.advance(SECOND))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"this expiry panics"));
    assert_eq!(log.due(), [1]);

    timer.register(start + 9 * SECOND, call(|_| panic!("this loss panics"))).unwrap();
    timer.register(start + 9 * SECOND, log.entry(2)).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| clock.lose())).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"this loss panics"));
    assert_eq!(log.take(), [(2, Expiry::Lost)]);
}

#[test]
fn an_advance_past_the_end_of_time_panics_and_changes_nothing() {
    let (timer, clock, log) = manual();
    let now = timer.now();
    timer.register(now + SECOND, log.entry(0)).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| clock.advance(Duration::MAX))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| clock.advance_silently(Duration::MAX))).is_err());
    assert_eq!(timer.now(), now);
    clock.advance(SECOND);
    assert_eq!(log.due(), [0]);
}

// The thread.

#[test]
fn the_thread_expires_in_order_and_never_early() {
    let timer = Timer::thread();
    let log = Log::default();
    let start = timer.now();
    for (number, after) in [(0, 60), (1, 20), (2, 40)] {
        timer.register(start + after * MS, log.entry(number)).unwrap();
    }
    let (last, done) = signal();
    timer.register(start + 80 * MS, last).unwrap();
    let (expiry, at) = done.recv_timeout(PATIENCE).unwrap();
    assert_eq!(expiry, Expiry::Due);
    assert!(at >= start + 80 * MS, "early");
    assert_eq!(log.due(), [1, 2, 0]);
}

#[test]
fn the_thread_notices_an_earlier_registration() {
    let timer = Timer::thread();
    let (late, _kept) = signal();
    let hour = timer.register(timer.now() + 3600 * SECOND, late).unwrap();
    // The thread sleeps for an hour by now, or is about to.
    thread::sleep(5 * MS);
    let (soon, done) = signal();
    timer.register(timer.now() + 5 * MS, soon).unwrap();
    assert_eq!(done.recv_timeout(PATIENCE).unwrap().0, Expiry::Due);
    assert!(timer.revoke(hour));
}

#[test]
fn the_thread_expires_a_past_instant_and_keeps_a_revoked_one_quiet() {
    let timer = Timer::thread();
    let log = Log::default();
    let ticket = timer.register(timer.now() + 20 * MS, log.entry(0)).unwrap();
    assert!(timer.revoke(ticket));
    let (past, done) = signal();
    timer.register(timer.now(), past).unwrap();
    done.recv_timeout(PATIENCE).unwrap();
    let (after, done) = signal();
    timer.register(timer.now() + 40 * MS, after).unwrap();
    done.recv_timeout(PATIENCE).unwrap();
    assert_eq!(log.due(), []);
}

#[test]
fn a_panicking_expiry_does_not_kill_the_thread() {
    let timer = Timer::thread();
    timer.register(timer.now(), call(|_| panic!("this expiry panics"))).unwrap();
    let (next, done) = signal();
    timer.register(timer.now() + 5 * MS, next).unwrap();
    assert_eq!(done.recv_timeout(PATIENCE).unwrap().0, Expiry::Due);
}

#[test]
fn the_thread_takes_the_last_instant_there_is() {
    let timer = Timer::thread();
    let log = Log::default();
    let ticket = timer.register(last_instant(), log.entry(0)).unwrap();
    let (next, done) = signal();
    timer.register(timer.now() + 5 * MS, next).unwrap();
    done.recv_timeout(PATIENCE).unwrap();
    assert_eq!(log.due(), []);
    assert!(timer.revoke(ticket));
}

/// The greatest instant, found by halving steps.
fn last_instant() -> Instant {
    let mut last = Instant::now();
    let mut step = Duration::MAX;
    while !step.is_zero() {
        match last.checked_add(step) {
            Some(later) => last = later,
            None => step /= 2,
        }
    }
    last
}

#[test]
fn concurrent_registrations_all_expire_once() {
    watchdog(PATIENCE, "concurrent registrations", || {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        for timer in [Timer::thread(), Timer::tokio(runtime.handle()).unwrap()] {
            let expired = Arc::new(AtomicUsize::new(0));
            let revoked = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = (0..4_u32)
                .map(|number| {
                    let (timer, expired, revoked) =
                        (timer.clone(), Arc::clone(&expired), Arc::clone(&revoked));
                    thread::spawn(move || {
                        for i in 0..500 {
                            let expired = Arc::clone(&expired);
                            let target = call(move |expiry| {
                                assert_eq!(expiry, Expiry::Due);
                                // Relaxed: read when it has reached the total.
                                expired.fetch_add(1, Ordering::Relaxed);
                            });
                            let at = timer.now() + ((i * 7 + number) % 5) * MS;
                            let ticket = timer.register(at, target).unwrap();
                            if i % 3 == 0 && timer.revoke(ticket) {
                                revoked.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            let both = || expired.load(Ordering::Relaxed) + revoked.load(Ordering::Relaxed);
            while both() < 2000 {
                thread::sleep(MS);
            }
            thread::sleep(10 * MS);
            assert_eq!(both(), 2000, "each expired once or was revoked");
        }
    });
}

// Tokio.

#[tokio::test(start_paused = true)]
async fn tokio_is_exact_under_paused_time() {
    let timer = here();
    let log = Log::default();
    let start = timer.now();
    assert_eq!(start, tokio::time::Instant::now().into_std());
    for (number, after) in [(0, 3000), (1, 1000), (2, 2000), (3, 1000)] {
        timer.register(start + after * MS, log.entry(number)).unwrap();
    }
    tokio::time::sleep(999 * MS).await;
    assert_eq!(log.due(), []);
    tokio::time::sleep(2 * MS).await;
    assert_eq!(log.due(), [1, 3]);
    tokio::time::sleep(2000 * MS).await;
    assert_eq!(log.due(), [2, 0]);
}

#[tokio::test(start_paused = true)]
async fn tokio_moves_forward_to_an_earlier_registration() {
    let timer = here();
    let log = Log::default();
    let start = timer.now();
    timer.register(start + 10 * SECOND, log.entry(0)).unwrap();
    settle().await;
    timer.register(start + SECOND, log.entry(1)).unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(log.due(), [1]);
    tokio::time::sleep(9 * SECOND).await;
    assert_eq!(log.due(), [0]);
}

#[tokio::test(start_paused = true)]
async fn tokio_leaves_no_task_when_nothing_is_registered() {
    let alive = || Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let timer = here();
    let log = Log::default();
    assert_eq!(alive(), before, "a timer alone is no task");

    let first = timer.register(timer.now() + SECOND, log.entry(0)).unwrap();
    let second = timer.register(timer.now() + SECOND, log.entry(1)).unwrap();
    settle().await;
    assert_eq!(alive(), before + 1, "one task for both");

    assert!(timer.revoke(first));
    settle().await;
    assert_eq!(alive(), before + 1);
    assert!(timer.revoke(second));
    settle().await;
    assert_eq!(alive(), before, "revoked");

    timer.register(timer.now() + SECOND, log.entry(2)).unwrap();
    tokio::time::sleep(2 * SECOND).await;
    settle().await;
    assert_eq!(alive(), before, "expired");
    assert_eq!(log.due(), [2]);

    // Nothing of ours moves the paused time.
    let now = timer.now();
    settle().await;
    assert_eq!(timer.now(), now);
}

#[tokio::test(start_paused = true)]
async fn tokio_serves_a_registration_made_while_its_task_ends() {
    let timer = here();
    let log = Log::default();
    for number in 0..20 {
        let ticket = timer.register(timer.now() + SECOND, log.entry(99)).unwrap();
        for _ in 0..number % 5 {
            tokio::task::yield_now().await;
        }
        assert!(timer.revoke(ticket));
        for _ in 0..number % 3 {
            tokio::task::yield_now().await;
        }
        timer.register(timer.now() + SECOND, log.entry(number)).unwrap();
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(log.due(), [number]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panicking_expiry_does_not_kill_the_task() {
    let timer = here();
    let log = Log::default();
    timer.register(timer.now() + SECOND, call(|_| panic!("this expiry panics"))).unwrap();
    timer.register(timer.now() + SECOND, log.entry(1)).unwrap();
    timer.register(timer.now() + 2 * SECOND, log.entry(2)).unwrap();
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(log.due(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn tokio_takes_the_last_instant_there_is() {
    let timer = here();
    let log = Log::default();
    timer.register(timer.now() + SECOND, log.entry(0)).unwrap();
    let ticket = timer.register(last_instant(), log.entry(1)).unwrap();
    tokio::time::sleep(2 * SECOND).await;
    settle().await;
    assert_eq!(log.due(), [0]);
    assert!(timer.revoke(ticket));
}

#[test]
fn timers_of_a_runtime_are_one_driver() {
    let one = runtime();
    let two = runtime();
    let timer = Timer::tokio(one.handle()).unwrap();
    assert!(timer.same_driver(&Timer::tokio(one.handle()).unwrap()));
    assert!(!timer.same_driver(&Timer::tokio(two.handle()).unwrap()));
    assert!(!timer.same_driver(&Timer::thread()));
    assert!(Timer::thread().same_driver(&Timer::thread()));
    let (manual, _clock) = Timer::manual();
    assert!(manual.same_driver(&manual.clone()) && !manual.same_driver(&Timer::manual().0));
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

#[test]
fn ambient_is_tokio_inside_a_runtime_and_the_thread_outside() {
    assert!(Timer::ambient().unwrap().same_driver(&Timer::thread()));
    let runtime = runtime();
    let inside = runtime.block_on(async { Timer::ambient().unwrap() });
    assert!(inside.same_driver(&Timer::tokio(runtime.handle()).unwrap()));
}

#[test]
fn a_runtime_without_its_time_driver_is_a_typed_error() {
    let runtime = Builder::new_current_thread().build().unwrap();
    assert_eq!(Timer::tokio(runtime.handle()).unwrap_err(), TimerError::Disabled);
    let ambient = runtime.block_on(async { Timer::ambient().map(drop) });
    assert_eq!(ambient, Err(TimerError::Disabled));
    let text = TimerError::Disabled.to_string();
    assert!(text.contains("enable_time"), "it says what would be right: {text}");
}

#[test]
fn a_shutdown_loses_what_is_registered_and_refuses_more() {
    watchdog(PATIENCE, "a runtime shut down", || {
        let multi = || Builder::new_multi_thread().worker_threads(1).enable_time().build();
        for runtime in [runtime(), multi().unwrap()] {
            let timer = Timer::tokio(runtime.handle()).unwrap();
            let log = Log::default();
            timer.register(timer.now() + 3600 * SECOND, log.entry(0)).unwrap();
            runtime.block_on(settle());
            drop(runtime);
            assert_eq!(log.take(), [(0, Expiry::Lost)]);
            assert_eq!(timer.register(timer.now(), log.entry(1)), Err(TimerError::Lost));
            assert_eq!(log.take(), []);
        }
    });
}

#[test]
fn a_registration_after_an_idle_shutdown_ends_as_lost() {
    watchdog(PATIENCE, "a runtime shut down", || {
        let runtime = runtime();
        let timer = Timer::tokio(runtime.handle()).unwrap();
        let log = Log::default();
        drop(runtime);
        // The first finds out: it is accepted and lost at once. The second is refused.
        assert!(timer.register(timer.now(), log.entry(0)).is_ok());
        assert_eq!(log.take(), [(0, Expiry::Lost)]);
        assert_eq!(timer.register(timer.now(), log.entry(1)), Err(TimerError::Lost));
    });
}

#[test]
fn a_registration_on_a_runtime_that_nobody_drives_fires_when_it_is_driven() {
    let runtime = runtime();
    let timer = Timer::tokio(runtime.handle()).unwrap();
    let log = Log::default();
    timer.register(timer.now() + MS, log.entry(0)).unwrap();
    thread::sleep(5 * MS);
    assert_eq!(log.due(), []);
    runtime.block_on(async {
        while Handle::current().metrics().num_alive_tasks() > 0 {
            tokio::time::sleep(MS).await;
        }
    });
    assert_eq!(log.due(), [0]);
}

#[test]
fn a_driver_goes_with_its_last_timer() {
    let runtime = runtime();
    let log = Log::default();
    let entry = log.entry(0);
    let alive = Arc::downgrade(&entry);
    let timer = Timer::tokio(runtime.handle()).unwrap();
    let ticket = timer.register(timer.now() + SECOND, entry).unwrap();
    assert!(timer.revoke(ticket));
    assert!(alive.upgrade().is_none());
    drop(timer);
    runtime.block_on(settle());
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
    assert!(Timer::tokio(runtime.handle()).is_ok());
}

/// Panics when it is dropped. What is leaked then has no size: no memory is left behind, which a
/// sanitizer would tell of.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(());
    }
}

/// Panics with a bomb.
struct Fuse;

impl Expire for Fuse {
    fn expire(self: Arc<Self>, _: Expiry) {
        std::panic::panic_any(Bomb);
    }
}

#[test]
fn the_timer_thread_outlives_a_payload_that_panics_when_dropped() {
    let timer = Timer::thread();
    timer.register(timer.now(), Arc::new(Fuse)).unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    struct Tell(std::sync::mpsc::Sender<()>);
    impl Expire for Tell {
        fn expire(self: Arc<Self>, _: Expiry) {
            self.0.send(()).unwrap();
        }
    }
    timer.register(timer.now() + Duration::from_millis(20), Arc::new(Tell(told))).unwrap();
    heard.recv_timeout(Duration::from_secs(20)).expect("the timer thread is gone");
}
