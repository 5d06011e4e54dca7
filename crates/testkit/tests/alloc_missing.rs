//! Without the allocator installed, a count says so rather than zero.

use selvedge_testkit::CountingAllocator;

#[test]
#[should_panic(expected = "nothing is counted: install the allocator")]
fn a_count_without_the_allocator_panics() {
    CountingAllocator::count(|| ());
}
