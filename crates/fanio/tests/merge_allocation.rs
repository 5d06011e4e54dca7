//! What a merge allocates: its sources, their wakers, and nothing for an item.

mod support;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use selvedge_fanio::merge;
use selvedge_testkit::CountingAllocator;
use support::pipes;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_merge_allocates_once_for_its_sources_and_once_for_their_wakers() {
    for n in [1, 64, 65, 10_000] {
        let (sources, _hands) = pipes(n);
        let mut merged = None;
        let making = CountingAllocator::count(|| merged = Some(merge(sources)));
        assert_eq!(making.allocations, 2, "{n} sources");
        let dropping = CountingAllocator::count(|| drop(merged));
        assert!(dropping.frees >= 2);
    }
}

#[test]
fn an_item_allocates_nothing() {
    let (sources, hands) = pipes(1_000);
    let mut merged = merge(sources);
    let mut cx = Context::from_waker(Waker::noop());
    let mut poll = || Pin::new(&mut merged).poll_next(&mut cx);
    assert!(poll().is_pending());
    for hand in &hands {
        // Room in the source's own queue, which is none of the merge's.
        hand.state().items.reserve(8);
    }
    let running = CountingAllocator::count(|| {
        for lap in 0..100 {
            for hand in hands.iter().step_by(lap + 1) {
                hand.push(1);
                hand.push(2);
            }
            while let Poll::Ready(item) = poll() {
                assert!(item.is_some());
            }
        }
    });
    assert_eq!(running.allocations, 0);
}
