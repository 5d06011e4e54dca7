//! Tests for futures: wakers, a counting allocator, a manual executor, a watchdog.
//!
//! # Which one do I want?
//!
//! | question | tool |
//! |---|---|
//! | who was woken, and did a waker stay behind? | [`CountingWaker`] |
//! | does my structure survive a waker that panics? | [`PanickingWaker`] |
//! | does it wake, or drop a waker, while it holds its lock? | [`ReentrantWaker`] |
//! | how many allocations does an operation cost? | [`CountingAllocator`] |
//! | several futures, one poll at a time, in an order I choose | [`ManualExecutor`] |
//! | one future to its end, without a runtime | [`block_on`] |
//! | a test that must fail rather than hang | [`watchdog`] |

mod alloc;
mod block_on;
mod executor;
mod waker;
mod watchdog;
mod yield_now;

pub use alloc::{Allocations, CountingAllocator};
pub use block_on::block_on;
pub use executor::{ManualExecutor, Task};
pub use waker::{CountingWaker, PanickingWaker, ReentrantWaker};
pub use watchdog::watchdog;
pub use yield_now::{YieldNow, yield_now};
