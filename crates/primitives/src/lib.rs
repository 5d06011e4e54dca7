//! The foundation of the selvedge crates. Internal: its interface follows the crates above and
//! promises nothing to anybody else.
//!
//! | you need | take |
//! |---|---|
//! | an atomic, a lock, a thread, a cell that loom can see | [`atomic`], [`Mutex`], [`Condvar`], [`thread`], [`UnsafeCell`] |
//! | a lock for a handful of stores | [`SpinLock`] |
//! | to wait for somebody who is about to be done | [`Backoff`] |
//! | a word for what few have | [`OnceBox`], or [`OnceArc`] if others keep it, too |
//! | to wait for something that another thread or task grants | [`WaitQueue`] and [`Waiter`] |
//! | the same for each of many things that come and go, under one lock | [`Lines`] and [`LineWaiter`] |
//! | the same, under a lock of one's own | a [`List`], a [`Line`] that leads to it, and a [`Stand`] in it |
//! | to run a callback after a critical section | [`release_then`] |
//! | to wake somebody | [`wake`], or a [`WakeBatch`] filled under a lock |
//! | to run several callbacks, all of them although one panics | [`FirstPanic`], [`drop_each`] |
//! | a caught panic as a value | [`Panic`] |
//! | a clock and a timer from one driver | [`time::Timer`] |
//! | the `next` of a stream | [`NextItem`] |
//! | a line of the cache while something else is done | [`prefetch`] |
//! | who made this, and where | [`Origin`] |
//! | to be seen: what is made, who waits for it | [`observe`] |
//! | to take part in tokio's cooperative budget | [`coop`] |
//! | a channel, in a model | `channel`, with the feature `model-channel` |
//!
//! This crate is the only door to atomics, cells, locks, threads and wakers. Under
//! `--cfg selvedge_loom` (with the feature `loom`) the same names stand for loom's types, every
//! operation knows its caller's place, and one mutation given in the environment is obeyed
//! (`shim/mutant.rs` says how). Reference counts are std's `Arc` on both sides: loom's has neither
//! `Weak` nor unsized coercion, and each clone of it would be a scheduling point.
//!
//! # Features
//!
//! - `tokio` (default): the tokio driver of the time seam, and the cooperative budget.
//! - `observe`: the observe seam; without it, [`observe`] is empty and costs nothing.
//! - `model-channel`: the module `channel`, for models and for the tests that compare it.
//! - `loom`: model checking, with the model channel; takes effect only under `--cfg selvedge_loom`.
#![deny(unsafe_code)]

#[cfg(all(selvedge_loom, not(feature = "loom")))]
compile_error!(
    "`--cfg selvedge_loom` needs the feature `loom`: build with `--no-default-features --features loom`, or run `cargo xtask loom`"
);

mod backoff;
#[cfg(feature = "model-channel")]
pub mod channel;
pub mod coop;
mod first_panic;
mod next_item;
pub mod observe;
mod once_arc;
mod once_box;
mod origin;
mod panic;
mod prefetch;
mod shim;
mod spin_lock;
pub mod time;
mod wait_queue;
mod wake_batch;

#[cfg(selvedge_loom)]
pub use shim::model;
pub use shim::{
    Condvar, Mutex, MutexGuard, UnsafeCell, atomic, block_on, block_on_for, release_then, thread,
    wake,
};

pub use backoff::Backoff;
pub use first_panic::{FirstPanic, contain, drop_each};
pub use next_item::NextItem;
pub use once_arc::OnceArc;
pub use once_box::OnceBox;
pub use origin::Origin;
pub use panic::Panic;
pub use prefetch::prefetch;
pub use spin_lock::{Spin, SpinGuard, SpinLock, Spun, is_wanted, let_in};
pub use wait_queue::{
    Anchor, Entry, Left, Line, LineId, LineWaiter, Lines, List, Locked, LockedLines, Serve,
    SpareLines, Stand, WaitQueue, Waiter,
};
pub use wake_batch::WakeBatch;

/// The example of the README, compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Declares a constructor that is `const` except under loom, whose types have no const
/// constructors.
#[macro_export]
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis const fn $($rest:tt)*) => {
        #[cfg(not(selvedge_loom))]
        $(#[$meta])*
        $vis const fn $($rest)*

        #[cfg(selvedge_loom)]
        $(#[$meta])*
        $vis fn $($rest)*
    };
}
