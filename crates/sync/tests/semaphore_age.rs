//! Who holds permits, since when and from where, and how long the front of the line has waited: the feature `age`.
#![cfg(all(feature = "age", not(selvedge_loom)))]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use selvedge_sync::Semaphore;

#[test]
fn holders_are_listed_with_count_age_and_place_the_oldest_first() {
    let semaphore = Arc::new(Semaphore::new(10));
    assert!(semaphore.holders().is_empty());
    let first_line = line!() + 1;
    let first = semaphore.try_acquire(2).unwrap();
    thread::sleep(Duration::from_millis(2));
    let second_line = line!() + 1;
    let second = semaphore.try_acquire_owned(3).unwrap();
    let listed: Vec<_> =
        semaphore.holders().iter().map(|holder| (holder.count, holder.place.line())).collect();
    assert_eq!(listed, [(2, first_line), (3, second_line)]);
    assert!(semaphore.holders()[0].age >= Duration::from_millis(2));
    assert!(semaphore.holders()[0].place.file().ends_with("semaphore_age.rs"));
    drop(first);
    assert_eq!(semaphore.holders().len(), 1);
    second.forget();
    assert!(semaphore.holders().is_empty());
}

#[test]
fn every_way_to_acquire_tells_its_place() {
    let semaphore = Arc::new(Semaphore::new(9));
    let mut cx = Context::from_waker(Waker::noop());
    let began = line!();
    let held = (
        pin!(semaphore.acquire(1)).poll(&mut cx).map(Result::unwrap),
        pin!(semaphore.acquire_owned(1)).poll(&mut cx).map(Result::unwrap),
        semaphore.acquire_blocking(1).unwrap(),
        pin!(semaphore.acquire_in(&selvedge_cancel::Context::background(), 1))
            .poll(&mut cx)
            .map(Result::unwrap),
    );
    let places: Vec<_> = semaphore.holders().iter().map(|holder| holder.place).collect();
    assert_eq!(places.len(), 4);
    for place in places {
        assert!(place.file().ends_with("semaphore_age.rs"), "{place}");
        assert!((began..began + 10).contains(&place.line()), "{place}");
    }
    drop(held);
}

#[test]
fn a_part_is_as_old_as_the_whole_and_a_merged_one_is_gone() {
    let semaphore = Semaphore::new(5);
    let mut whole = semaphore.try_acquire(5).unwrap();
    thread::sleep(Duration::from_millis(2));
    let part = whole.split(2).unwrap();
    let holders = semaphore.holders();
    let mut counts: Vec<_> = holders.iter().map(|holder| holder.count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 3]);
    assert!(holders.iter().all(|holder| holder.age >= Duration::from_millis(2)));
    whole.merge(part).unwrap();
    assert_eq!(semaphore.holders().len(), 1);
    assert_eq!(semaphore.holders()[0].count, 5);
    drop(whole);
    assert!(semaphore.holders().is_empty());
}

#[test]
fn the_longest_wait_is_that_of_the_front() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire(1).unwrap();
    assert_eq!(semaphore.longest_wait(), None);
    let mut cx = Context::from_waker(Waker::noop());
    let mut first = Box::pin(semaphore.acquire(1));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    thread::sleep(Duration::from_millis(5));
    let mut second = Box::pin(semaphore.acquire(1));
    assert!(second.as_mut().poll(&mut cx).is_pending());
    let longest = semaphore.longest_wait().unwrap();
    assert!(longest >= Duration::from_millis(5));
    drop(first);
    assert!(semaphore.longest_wait().unwrap() < longest);
    drop(permit);
    assert_eq!(semaphore.longest_wait(), None, "it was granted");
    drop(second);
}
