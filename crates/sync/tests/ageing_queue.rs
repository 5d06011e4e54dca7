//! The ageing queue: order, the bound on overtaking, bad input, and a model.
#![cfg(not(selvedge_loom))]

use std::cell::Cell;
use std::iter::from_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use selvedge_sync::AgeingQueue;

fn queue<T>(classes: usize, bound: u64) -> AgeingQueue<T> {
    AgeingQueue::new(classes, bound).unwrap()
}

fn rest<T>(queue: &mut AgeingQueue<T>) -> Vec<T> {
    from_fn(|| queue.take()).collect()
}

#[test]
fn the_most_urgent_comes_first_and_a_class_in_order() {
    let mut queue = queue(3, u64::MAX);
    for (class, item) in [(2, 'a'), (1, 'b'), (0, 'c'), (1, 'd'), (0, 'e')] {
        assert!(queue.push(class, item).is_ok());
    }
    assert_eq!((queue.len(), queue.classes(), queue.bound()), (5, 3, u64::MAX));
    assert_eq!(rest(&mut queue), ['c', 'e', 'b', 'd', 'a']);
    assert!(queue.is_empty() && queue.take().is_none());
}

#[test]
fn with_a_bound_of_nothing_it_is_first_in_first_out() {
    let mut queue = queue(3, 0);
    let items = [(2, 'a'), (1, 'b'), (0, 'c'), (1, 'd'), (0, 'e')];
    assert!(items.into_iter().all(|(class, item)| queue.push(class, item).is_ok()));
    assert_eq!(rest(&mut queue), ['a', 'b', 'c', 'd', 'e']);
}

#[test]
fn a_stream_of_urgent_items_delays_another_by_the_bound() {
    let mut queue = queue(2, 5);
    assert!(queue.push(1, u32::MAX).is_ok());
    for n in 0..5 {
        assert!(queue.push(0, n).is_ok());
        assert_eq!(queue.take(), Some(n));
    }
    assert!(queue.push(0, 5).is_ok());
    assert_eq!(rest(&mut queue), [u32::MAX, 5]);
}

#[test]
fn everybody_in_a_backlog_has_the_same_bound() {
    let mut queue = queue(2, 3);
    for n in 0..100 {
        assert!(queue.push(1, n).is_ok());
    }
    // What is urgent comes before a backlog that is not overdue, and behind it if it is.
    for n in 100..103 {
        assert!(queue.push(0, n).is_ok());
        assert_eq!(queue.take(), Some(n));
    }
    assert!(queue.push(0, 103).is_ok());
    let order = rest(&mut queue);
    assert_eq!(order, (0..100).chain([103]).collect::<Vec<_>>());
}

#[test]
fn no_classes_are_refused_and_so_are_too_many() {
    for wanted in [0, AgeingQueue::<()>::MAX_CLASSES + 1, usize::MAX] {
        let error = AgeingQueue::<()>::new(wanted, 1).map(drop).unwrap_err();
        assert_eq!(error.wanted, wanted);
        assert!(error.to_string().ends_with("1 to 1024 are possible"));
    }
    assert_eq!(queue::<()>(AgeingQueue::<()>::MAX_CLASSES, 1).classes(), 1024);
}

#[test]
fn an_item_for_no_class_comes_back() {
    let mut queue = queue(2, 1);
    for class in [2, usize::MAX] {
        let error = queue.push(class, "item").unwrap_err();
        assert_eq!((error.item, error.class, error.classes), ("item", class, 2));
        assert!(error.to_string().starts_with("item not pushed: there is no class"));
    }
    assert!(queue.is_empty());
    assert!(format!("{queue:?}").contains("lengths: [0, 0]"));
}

#[test]
fn a_clone_that_panics_leaves_the_queue_whole() {
    struct Fragile<'a>(&'a Cell<bool>);
    impl Clone for Fragile<'_> {
        fn clone(&self) -> Self {
            assert!(!self.0.get(), "clone");
            Self(self.0)
        }
    }
    let fire = Cell::new(true);
    let mut queue = queue(1, 1);
    assert!(queue.push(0, Fragile(&fire)).is_ok());
    assert!(catch_unwind(AssertUnwindSafe(|| queue.clone())).is_err());
    fire.set(false);
    assert_eq!(rest(&mut queue.clone()).len(), rest(&mut queue).len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nobody_is_overtaken_more_often_than_the_bound_and_only_the_overdue_go_before_the_urgent(
        classes in 1..5usize,
        bound in prop_oneof![0..8u64, Just(u64::MAX)],
        // A class to push to, or a take.
        steps in prop::collection::vec(prop::option::weighted(0.6, 0..5usize), 0..400),
    ) {
        let mut queue = queue(classes, bound);
        // Number, class and how often it was overtaken.
        let mut queued: Vec<(usize, usize, u64)> = Vec::new();
        let all = steps.len();
        let steps = steps.into_iter().enumerate().chain((all..2 * all).map(|n| (n, None)));
        for (number, step) in steps {
            match step {
                Some(class) => {
                    let class = class % classes;
                    prop_assert!(queue.push(class, number).is_ok());
                    queued.push((number, class, 0));
                }
                None => {
                    let overdue = queued.iter().find(|item| item.2 >= bound);
                    let urgent = queued.iter().min_by_key(|item| (item.1, item.0));
                    let next = overdue.or(urgent).copied();
                    prop_assert_eq!(queue.take(), next.map(|next| next.0));
                    let Some(next) = next else { continue };
                    queued.retain(|item| item.0 != next.0);
                    for item in queued.iter_mut().filter(|item| item.0 < next.0) {
                        item.2 += 1;
                        prop_assert!(item.2 <= bound);
                    }
                }
            }
            prop_assert_eq!(queue.len(), queued.len());
        }
        prop_assert!(queue.is_empty());
    }
}
