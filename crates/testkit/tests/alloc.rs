//! The allocator counts what a thread does, exactly, and nothing of the others.

use std::hint::black_box;
use std::thread;

use selvedge_testkit::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_box_is_one_allocation_and_one_free() {
    let counted = CountingAllocator::count(|| drop(black_box(Box::new([0_u8; 100]))));
    assert_eq!(counted.to_string(), "1 allocations (100 bytes), 1 frees (100 bytes)");
}

#[test]
fn nothing_is_counted_where_nothing_is_allocated() {
    assert_eq!(CountingAllocator::count(|| ()), selvedge_testkit::Allocations::default());
}

#[test]
fn a_reallocation_is_one_of_each() {
    let mut bytes = black_box(Vec::<u8>::with_capacity(8));
    let counted = CountingAllocator::count(|| bytes.reserve_exact(64));
    assert_eq!((counted.allocations, counted.frees), (1, 1));
    assert_eq!((counted.bytes_allocated, counted.bytes_freed), (64, 8));
}

#[test]
fn zeroed_memory_is_counted() {
    let mut zeroed = Vec::new();
    let counted = CountingAllocator::count(|| zeroed = black_box(vec![0_u64; 16]));
    assert_eq!((counted.allocations, counted.bytes_allocated), (1, 128));
    assert_eq!(zeroed, [0; 16]);
}

#[test]
fn counts_nest() {
    let mut inner = None;
    let outer = CountingAllocator::count(|| {
        drop(black_box(Box::new(1)));
        inner = Some(CountingAllocator::count(|| drop(black_box(Box::new(2)))));
    });
    assert_eq!(inner.unwrap().allocations, 1);
    assert_eq!(outer.allocations, 3, "its own, the inner one, and the probe of the inner count");
}

#[test]
fn other_threads_do_not_disturb_the_count() {
    let (start, started) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let busy = thread::spawn(move || {
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            drop(black_box(vec![0_u8; 32]));
            let _ = start.send(());
        }
    });
    started.recv().unwrap();
    let counted = CountingAllocator::count(|| {
        for _ in 0..1000 {
            drop(black_box(Box::new(0_u8)));
        }
    });
    drop(stop);
    busy.join().unwrap();
    assert_eq!((counted.allocations, counted.frees), (1000, 1000));
}
