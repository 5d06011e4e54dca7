//! Tests for futures: what a future may lose between two polls, shown to be kept.
//!
//! Every `.await` is a place where a future may be dropped: by a timeout, by `select!`, by a
//! panic further up, by a runtime that shuts down. A permit handed over in that very moment is
//! lost if nobody takes care of it, and no ordinary test drops a future there. [`sweep`] runs a
//! scenario once to count the polls that return `Pending`, and then again for each of them, to
//! drop, wake and drop, drop on another thread, panic or cancel at exactly that point, while the
//! scenario asserts after each that nothing was lost. It goes by poll count, never by time, so a
//! failure comes back on every run.
//!
//! The other tools are what such tests want beside it.
//!
//! # Which one do I want?
//!
//! | question | tool |
//! |---|---|
//! | what does my future lose when it is dropped half way? | [`sweep`] |
//! | the same for a stream | [`sweep`] over [`next`] or [`for_each`] |
//! | who was woken, and did a waker stay behind? | [`CountingWaker`] |
//! | does my structure survive a waker that panics? | [`PanickingWaker`] |
//! | does it wake, or drop a waker, while it holds its lock? | [`ReentrantWaker`] |
//! | how many allocations does an operation cost? | [`CountingAllocator`] |
//! | several futures, one poll at a time, in an order I choose | [`ManualExecutor`] |
//! | one future to its end, without a runtime | [`block_on`] |
//! | a test that must fail rather than hang | [`watchdog`] |
//!
//! # Example: a notification is never lost
//!
//! The future under test is tokio's `Notified`. Whatever happens to it, a notification that was
//! sent is either what ended it or is still there for the next one.
//!
//! ```
//! use std::cell::Cell;
//! use std::pin::pin;
//!
//! use selvedge_testkit::{Ended, Run, sweep};
//! use tokio::sync::Notify;
//!
//! let summary = sweep("Notified", |run: &mut Run| {
//!     let notify = Notify::new();
//!     let sent = Cell::new(false);
//!
//!     let ended = run.drive(notify.notified(), |_| {
//!         notify.notify_one();
//!         sent.set(true);
//!     });
//!
//!     let received = matches!(ended, Ended::Ready(()));
//!     let still_there = pin!(notify.notified()).enable();
//!     assert_eq!(sent.get(), received ^ still_there, "a notification was lost or doubled");
//! });
//!
//! assert_eq!(summary.pending_points, 1);
//! ```
//!
//! # Guarantees
//!
//! - The sweep polls by hand. It reads no clock and starts no thread but the one that drops the
//!   future in [`Mode::DropElsewhere`]; two runs of one scenario do the same.
//! - A failure names the future, the mode, the point k of K and what was violated, and carries the
//!   scenario's own message.
//! - The crate prints nothing, and it never touches the panic hook.
//!
//! # When not to use it
//!
//! The sweep shows what is lost between two polls. What two threads do to each other *during* a
//! poll is a matter for a model checker (loom, shuttle), not for this crate.
//!
//! # Features
//!
//! None. The one dependency is `futures-core`, for [`next`] and [`for_each`].
#![deny(unsafe_code)]

mod alloc;
mod block_on;
mod executor;
mod stream;
mod sweep;
mod waker;
mod watchdog;
mod yield_now;

pub use alloc::{Allocations, CountingAllocator};
pub use block_on::block_on;
pub use executor::{ManualExecutor, Task};
pub use stream::{ForEach, Next, for_each, next};
pub use sweep::{Ended, Mode, Run, Summary, sweep};
pub use waker::{CountingWaker, PanickingWaker, ReentrantWaker};
pub use watchdog::watchdog;
pub use yield_now::{YieldNow, yield_now};

/// The examples of the README, compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
