//! An allocator that counts, by thread.
//!
//! It relies on thread-locals that are initialised at compile time and have no destructor: reading
//! one neither allocates nor registers anything, so counting does not recurse into the allocator,
//! and it works from a thread's first allocation to its last.
#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt;
use std::hint::black_box;

/// Counts the allocations of each thread, and leaves the work to [`System`].
///
/// Install it in a test of its own, and ask [`CountingAllocator::count`] what a piece of code
/// costs. Other threads, the test harness among them, do not disturb the count.
///
/// # Examples
///
/// ```standalone_crate
/// use selvedge_testkit::CountingAllocator;
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator;
///
/// let mut items = Vec::with_capacity(8);
/// let growing = CountingAllocator::count(|| items.extend(0..9_u64));
/// assert_eq!((growing.allocations, growing.frees), (1, 1));
///
/// let within_capacity = CountingAllocator::count(|| items.push(9));
/// assert_eq!(within_capacity.allocations, 0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

impl CountingAllocator {
    /// What `f` allocates and frees on this thread.
    ///
    /// # Panics
    ///
    /// If the allocator is not installed: the counts would all be zero and mean nothing.
    #[track_caller]
    pub fn count(f: impl FnOnce()) -> Allocations {
        let before = here();
        drop(black_box(Box::new(0_u8)));
        assert!(
            here() != before,
            "nothing is counted: install the allocator in this program, with `#[global_allocator] \
             static ALLOCATOR: CountingAllocator = CountingAllocator;`"
        );

        let before = here();
        f();
        here().since(before)
    }
}

/// What was allocated and freed; a reallocation is one of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allocations {
    /// Blocks allocated.
    pub allocations: u64,
    /// Blocks freed.
    pub frees: u64,
    /// Bytes allocated.
    pub bytes_allocated: u64,
    /// Bytes freed.
    pub bytes_freed: u64,
}

impl Allocations {
    /// Counts that stand at zero.
    const ZERO: Self = Self { allocations: 0, frees: 0, bytes_allocated: 0, bytes_freed: 0 };

    /// What was counted after `before`.
    fn since(self, before: Self) -> Self {
        Self {
            allocations: self.allocations - before.allocations,
            frees: self.frees - before.frees,
            bytes_allocated: self.bytes_allocated - before.bytes_allocated,
            bytes_freed: self.bytes_freed - before.bytes_freed,
        }
    }
}

impl fmt::Display for Allocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} allocations ({} bytes), {} frees ({} bytes)",
            self.allocations, self.bytes_allocated, self.frees, self.bytes_freed
        )
    }
}

thread_local! {
    /// What this thread has allocated and freed since it began.
    static HERE: Cell<Allocations> = const { Cell::new(Allocations::ZERO) };
}

/// The counts of this thread.
fn here() -> Allocations {
    HERE.get()
}

/// Counts a block of `bytes` that was allocated.
fn note_allocated(bytes: usize) {
    let mut counts = HERE.get();
    counts.allocations += 1;
    counts.bytes_allocated += bytes as u64;
    HERE.set(counts);
}

/// Counts a block of `bytes` that was freed.
fn note_freed(bytes: usize) {
    let mut counts = HERE.get();
    counts.frees += 1;
    counts.bytes_freed += bytes as u64;
    HERE.set(counts);
}

// SAFETY: every call is passed on to `System` unchanged and its answer returned, so the contract of
// `GlobalAlloc` holds because it holds for `System`. The counting beside it neither allocates nor
// unwinds: it reads and writes a `Cell` without destructor, and 64 bits of bytes do not overflow.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            note_allocated(layout.size());
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            note_allocated(layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note_freed(layout.size());
        // SAFETY: `block` was allocated here with `layout`, as the caller promises, hence by
        // `System`; it is freed once.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: `block` was allocated here with `layout`, as the caller promises, hence by
        // `System`; the promise about `new_size` is the one that `System` asks for.
        let moved = unsafe { System.realloc(block, layout, new_size) };
        if !moved.is_null() {
            note_freed(layout.size());
            note_allocated(new_size);
        }
        moved
    }
}
