//! The std-or-loom shim: the same few names over std, or over loom under `--cfg selvedge_loom`.
//!
//! `real.rs` and `modelled.rs` export the same interface; nothing outside this folder knows which
//! one it has.

#[cfg(not(selvedge_loom))]
mod real;
#[cfg(not(selvedge_loom))]
pub use real::{
    Condvar, Mutex, MutexGuard, UnsafeCell, atomic, block_on, block_on_for, release_then, thread,
    wake,
};
#[cfg(not(selvedge_loom))]
pub(crate) use real::{WakeSite, caught};

#[cfg(selvedge_loom)]
pub mod model;
#[cfg(selvedge_loom)]
mod modelled;
#[cfg(selvedge_loom)]
mod mutant;
#[cfg(selvedge_loom)]
pub use modelled::{
    Condvar, Mutex, MutexGuard, UnsafeCell, atomic, block_on, block_on_for, release_then, thread,
    wake,
};
#[cfg(selvedge_loom)]
pub(crate) use modelled::{WakeSite, caught};
