//! Wakers count each handle once, whatever becomes of it, and call back outside themselves.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread;

use selvedge_testkit::{CountingWaker, PanickingWaker, ReentrantWaker};

#[test]
fn wakes_by_value_and_by_reference_are_counted() {
    let counting = CountingWaker::new();
    let waker = counting.waker();
    waker.wake_by_ref();
    waker.wake_by_ref();
    assert_eq!((counting.wakes(), counting.drops(), counting.live()), (2, 0, 1));
    waker.wake();
    assert_eq!((counting.wakes(), counting.drops(), counting.live()), (3, 1, 0));
}

#[test]
fn clones_and_drops_are_counted() {
    let counting = CountingWaker::new();
    let wakers: Vec<Waker> = vec![counting.waker(); 4];
    assert_eq!((counting.clones(), counting.live()), (3, 4));
    drop(wakers);
    assert_eq!((counting.drops(), counting.live(), counting.wakes()), (4, 0, 0));
}

#[test]
fn a_clone_will_wake_what_its_original_wakes() {
    let (one, other) = (CountingWaker::new(), CountingWaker::new());
    let waker = one.waker();
    assert!(waker.will_wake(&waker.clone()));
    assert!(waker.will_wake(&one.clone().waker()));
    assert!(!waker.will_wake(&other.waker()));
}

#[test]
fn a_handle_outlives_the_counter_and_its_thread() {
    let waker = CountingWaker::new().waker();
    thread::spawn(move || waker.wake()).join().unwrap();

    let counting = CountingWaker::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            let waker = counting.waker();
            scope.spawn(move || {
                let clones = vec![waker; 100];
                clones.into_iter().for_each(Waker::wake);
            });
        }
    });
    assert_eq!((counting.wakes(), counting.clones()), (400, 396));
    assert_eq!((counting.drops(), counting.live()), (400, 0));
}

#[test]
fn a_panicking_waker_panics_and_is_not_leaked() {
    let panicking = PanickingWaker::default();
    let waker = panicking.waker();
    let by_reference = catch_unwind(AssertUnwindSafe(|| waker.wake_by_ref()));
    assert_eq!(by_reference.unwrap_err().downcast_ref(), Some(&"a PanickingWaker was woken"));
    assert_eq!(panicking.live(), 1);
    assert!(catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err());
    assert_eq!((panicking.wakes(), panicking.live()), (2, 0));
}

#[test]
fn a_reentrant_waker_finds_a_structure_that_wakes_under_its_lock() {
    let structure = Arc::new(Mutex::new(0));
    let again = Arc::clone(&structure);
    let reentrant = ReentrantWaker::on_wake(move || {
        *again.try_lock().expect("woken under the lock") += 1;
    });
    let waker = reentrant.waker();

    waker.wake_by_ref();
    assert_eq!(*structure.lock().unwrap(), 1);

    let locked = structure.lock().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| waker.wake_by_ref())).is_err());
    drop(locked);
    assert_eq!((reentrant.wakes(), reentrant.live()), (2, 1));
}

#[test]
fn a_reentrant_waker_calls_back_for_each_handle_that_goes() {
    let (woken, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let add_one = |counter: &Arc<AtomicUsize>| {
        let counter = Arc::clone(counter);
        move || {
            // Relaxed: a counter, read on the same thread.
            counter.fetch_add(1, Ordering::Relaxed);
        }
    };
    // Relaxed: a counter, read on the same thread.
    let read = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);

    let on_drop = ReentrantWaker::on_drop(add_one(&dropped));
    drop(on_drop.waker().clone());
    assert_eq!(read(&dropped), 2);

    let both = ReentrantWaker::on_wake_and_drop(add_one(&woken), add_one(&dropped));
    both.waker().wake();
    assert_eq!((read(&woken), read(&dropped)), (1, 3));
}

#[test]
fn the_closures_of_a_waker_go_with_its_last_handle() {
    let owned = Arc::new(());
    let (in_wake, in_drop) = (Arc::clone(&owned), Arc::clone(&owned));
    let reentrant = ReentrantWaker::on_wake_and_drop(
        move || panic!("woken, by one of {}", Arc::strong_count(&in_wake)),
        move || drop(Arc::clone(&in_drop)),
    );
    let waker = reentrant.waker();
    drop(reentrant);
    let clone = waker.clone();
    drop(clone);
    assert!(catch_unwind(AssertUnwindSafe(|| waker.wake_by_ref())).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err());
    assert_eq!(Arc::strong_count(&owned), 1, "leaked");
}
