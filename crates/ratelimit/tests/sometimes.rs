//! What runs sometimes: by count, by time, by both; from many threads, within itself, after a panic.
#![cfg(not(selvedge_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use selvedge_ratelimit::{ManualClock, Sometimes, Timer};
use selvedge_testkit::watchdog;

const SEC: Duration = Duration::from_secs(1);

/// On a clock that is moved by hand and that began long ago.
fn manual(sometimes: Sometimes) -> (Sometimes, ManualClock) {
    let (timer, clock) = Timer::manual();
    let sometimes = sometimes.with_timer(timer);
    clock.advance(100 * SEC);
    (sometimes, clock)
}

/// Which of the next `n` calls run, from 1.
fn runs(sometimes: &Sometimes, n: u64) -> Vec<u64> {
    (1..=n).filter(|_| sometimes.claim()).collect()
}

#[test]
fn without_a_rule_it_runs_once() {
    let once = Sometimes::new();
    assert_eq!((once.run(|| 7), once.run(|| 8)), (Some(7), None));
    assert_eq!(runs(&Sometimes::default(), 100), [1]);
}

#[test]
fn the_first_calls_run() {
    assert_eq!(runs(&Sometimes::new().first(3), 100), [1, 2, 3]);
    assert_eq!(runs(&Sometimes::new().first(1), 100), [1]);
    assert_eq!(runs(&Sometimes::new().first(u64::MAX), 100).len(), 100);
}

#[test]
fn every_so_manieth_call_runs_from_the_first() {
    assert_eq!(runs(&Sometimes::new().every(3), 10), [1, 4, 7, 10]);
    assert_eq!(runs(&Sometimes::new().every(1), 3), [1, 2, 3]);
    assert_eq!(runs(&Sometimes::new().every(u64::MAX), 100), [1]);
    assert_eq!(runs(&Sometimes::new().first(2).every(3), 10), [1, 2, 4, 7, 10]);
}

#[test]
fn a_call_runs_when_the_interval_is_over() {
    let (sometimes, clock) = manual(Sometimes::new().interval(SEC));
    assert_eq!(runs(&sometimes, 5), [1]);
    clock.advance(SEC - Duration::from_nanos(1));
    assert_eq!(runs(&sometimes, 5), []);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(runs(&sometimes, 5), [1]);
    // What is not used is not saved.
    clock.advance(100 * SEC);
    assert_eq!(runs(&sometimes, 5), [1]);
}

#[test]
fn the_interval_begins_with_a_run_by_any_rule() {
    let (sometimes, clock) = manual(Sometimes::new().first(3).interval(SEC));
    assert_eq!(runs(&sometimes, 2), [1, 2]);
    clock.advance(SEC / 2);
    assert_eq!(runs(&sometimes, 5), [1]);
    clock.advance(SEC / 2);
    assert_eq!(runs(&sometimes, 5), []);
    clock.advance(SEC / 2);
    assert_eq!(runs(&sometimes, 5), [1]);

    let (sometimes, clock) = manual(Sometimes::new().every(3).interval(SEC));
    assert_eq!(runs(&sometimes, 4), [1, 4]);
    clock.advance(SEC);
    // The fifth call by time, the seventh by its number.
    assert_eq!(runs(&sometimes, 3), [1, 3]);
}

#[test]
fn the_interval_begins_before_the_run() {
    let (sometimes, clock) = manual(Sometimes::new().interval(SEC));
    assert!(sometimes.run(|| clock.advance(SEC)).is_some());
    assert!(sometimes.claim());
}

#[test]
fn the_longest_intervals_end_never_or_in_time() {
    for interval in [Duration::MAX, Duration::from_nanos(u64::MAX)] {
        let (sometimes, clock) = manual(Sometimes::new().interval(interval));
        assert_eq!(runs(&sometimes, 2), [1]);
        clock.advance(100 * 365 * 86_400 * SEC);
        assert_eq!(runs(&sometimes, 2), []);
    }
    let (sometimes, clock) = manual(Sometimes::new().interval(Duration::from_nanos(1)));
    assert_eq!(runs(&sometimes, 3), [1]);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(runs(&sometimes, 3), [1]);
}

#[test]
fn it_lives_in_a_static() {
    static LOG: Sometimes =
        Sometimes::new().first(2).every(1_000).interval(Duration::from_secs(3600));
    assert_eq!(runs(&LOG, 1_001), [1, 2, 1_001]);
}

#[test]
fn std_time_goes_by_without_a_timer() {
    watchdog(60 * SEC, "std's clock", || {
        let sometimes = Sometimes::new().interval(Duration::from_millis(1));
        assert!(sometimes.claim());
        while !sometimes.claim() {
            thread::yield_now();
        }
    });
}

#[test]
fn paused_time_tells_the_interval() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let sometimes = Sometimes::new().interval(SEC).with_timer(Timer::ambient().unwrap());
        assert_eq!(runs(&sometimes, 3), [1]);
        tokio::time::advance(SEC).await;
        assert_eq!(runs(&sometimes, 3), [1]);
    });
}

#[test]
fn a_run_may_call_again() {
    let (sometimes, clock) = manual(Sometimes::new().first(2).interval(SEC));
    let inner = sometimes.run(|| sometimes.run(|| sometimes.run(|| ())));
    assert_eq!(inner, Some(Some(None)));
    clock.advance(SEC);
    assert_eq!(sometimes.run(|| sometimes.run(|| ())), Some(None));
}

#[test]
fn a_run_that_panics_has_been_a_run() {
    let (sometimes, clock) = manual(Sometimes::new().interval(SEC));
    let caught = catch_unwind(AssertUnwindSafe(|| sometimes.run(|| panic!("as it may"))));
    assert!(caught.is_err());
    assert_eq!(runs(&sometimes, 3), []);
    clock.advance(SEC);
    assert_eq!(runs(&sometimes, 3), [1]);
}

#[test]
fn nobody_waits_for_a_run() {
    watchdog(60 * SEC, "a call beside a run", || {
        let sometimes = Sometimes::new().first(2);
        // Both are in their runs at the same time.
        let both = Barrier::new(2);
        thread::scope(|scope| {
            for _thread in 0..2 {
                scope.spawn(|| sometimes.run(|| both.wait()).expect("one of the first two"));
            }
        });
        assert!(!sometimes.claim());
    });
}

#[test]
fn counts_are_exact_from_many_threads() {
    const THREADS: u64 = 4;
    const CALLS: u64 = 20_000;
    for (sometimes, expected) in [
        (Sometimes::new().first(1_000), 1_000),
        (Sometimes::new().every(7), (THREADS * CALLS).div_ceil(7)),
        (manual(Sometimes::new().interval(SEC)).0, 1),
        (manual(Sometimes::new().first(5).interval(SEC)).0, 5),
    ] {
        let ran = AtomicU64::new(0);
        thread::scope(|scope| {
            for _thread in 0..THREADS {
                scope.spawn(|| {
                    for _call in 0..CALLS {
                        sometimes.run(|| ran.fetch_add(1, Ordering::Relaxed));
                    }
                });
            }
        });
        assert_eq!(ran.into_inner(), expected, "{sometimes:?}");
    }
}

#[test]
fn one_of_many_threads_has_the_run_of_an_interval() {
    const TURNS: u64 = 2_000;
    watchdog(60 * SEC, "turns", || {
        let (sometimes, clock) = manual(Sometimes::new().interval(SEC));
        let (begin, end) = (Barrier::new(4), Barrier::new(4));
        let ran = AtomicU64::new(0);
        thread::scope(|scope| {
            for thread in 0..4 {
                let (sometimes, clock, begin, end, ran) = (&sometimes, &clock, &begin, &end, &ran);
                scope.spawn(move || {
                    for turn in 1..=TURNS {
                        begin.wait();
                        sometimes.run(|| ran.fetch_add(1, Ordering::Relaxed));
                        end.wait();
                        if thread == 0 {
                            assert_eq!(ran.load(Ordering::Relaxed), turn);
                            clock.advance(SEC);
                        }
                    }
                });
            }
        });
    });
}

/// Go's, with what is said there to differ: a lock, plain numbers, the interval from the decision on.
struct Model {
    first: u64,
    every: Option<u64>,
    interval: Option<u64>,
    calls: u64,
    last: u64,
}

impl Model {
    fn call(&mut self, now: u64) -> bool {
        let runs = self.calls == 0
            || self.calls < self.first
            || self.every.is_some_and(|every| self.calls.is_multiple_of(every))
            || self.interval.is_some_and(|interval| now - self.last >= interval);
        self.calls += 1;
        if runs {
            self.last = now;
        }
        runs
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn it_runs_when_the_model_does(
        first in 0..5_u64,
        every in prop::option::of(1..6_u64),
        interval in prop::option::of(1..10_u64),
        steps in prop::collection::vec(0..4_u64, 1..100),
    ) {
        let mut made = Sometimes::new();
        if first > 0 {
            made = made.first(first);
        }
        if let Some(every) = every {
            made = made.every(every);
        }
        if let Some(interval) = interval {
            made = made.interval(Duration::from_nanos(interval));
        }
        let (sometimes, clock) = manual(made);
        let mut model = Model { first, every, interval, calls: 0, last: 0 };
        let mut now = 0;
        for step in steps {
            clock.advance(Duration::from_nanos(step));
            now += step;
            prop_assert_eq!(sometimes.claim(), model.call(now));
        }
    }
}
