//! An allocator that counts the allocations of all threads, while somebody asks.
//!
//! The one of testkit counts by thread, which is what a test wants; a pool allocates on threads of
//! its own, so this one counts for the process. Counting would put one line of memory between all
//! threads, so it is off while anything is timed: then an allocation pays for one relaxed load of a
//! line that nobody writes.
#![allow(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Whether allocations are counted.
static COUNTING: AtomicBool = AtomicBool::new(false);
/// How many were, ever.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// How many bytes were allocated more than freed, while they were counted; modulo 2^64.
static HELD: AtomicU64 = AtomicU64::new(0);

/// The allocator to install.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

/// What `f` returns, and how many blocks the process allocated meanwhile; a reallocation is one. Zero
/// where [`Allocator`] is not installed.
pub fn counted<R>(f: impl FnOnce() -> R) -> (R, u64) {
    // Relaxed: the threads that matter are started by `f` or reached through its queues.
    let before = COUNT.load(Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
    let value = f();
    COUNTING.store(false, Ordering::Relaxed);
    (value, COUNT.load(Ordering::Relaxed) - before)
}

/// What `f` returns, and how many bytes the process holds more than before. Zero where [`Allocator`] is not installed.
pub fn held<R>(f: impl FnOnce() -> R) -> (R, u64) {
    // Relaxed: as in `counted`.
    let before = HELD.load(Ordering::Relaxed);
    let (value, _) = counted(f);
    (value, HELD.load(Ordering::Relaxed).wrapping_sub(before))
}

/// One allocation more, or one less, of so many bytes, if anybody asks.
#[inline]
fn note(allocations: u64, bytes: usize, freed: usize) {
    // Relaxed: a statistic.
    if COUNTING.load(Ordering::Relaxed) {
        COUNT.fetch_add(allocations, Ordering::Relaxed);
        HELD.fetch_add((bytes as u64).wrapping_sub(freed as u64), Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to `System` unchanged and its answer returned, so the contract of
// `GlobalAlloc` holds because it holds for `System`; the counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size(), 0);
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size(), 0);
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(0, 0, layout.size());
        // SAFETY: `block` came from `System` with `layout`, as the caller promises; it is freed once.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(1, new_size, layout.size());
        // SAFETY: `block` came from `System` with `layout`, and the promise about `new_size` is the
        // one that `System` asks for.
        unsafe { System.realloc(block, layout, new_size) }
    }
}
