//! The two kinds of workers, as types.
//!
//! # Why a type parameter
//!
//! One engine serves both kinds, and so does one face: `Pool<W>`. Reserving, draining, aborting, the
//! ledger, the watcher and the component are written once, for every `W`; only what takes a job is
//! written twice, under the same name, because the bounds on a job differ. So a closure that returns
//! no future is not accepted by a pool of tasks, at compile time. Two types (`Pool`, `AsyncPool`)
//! would double the face, its slots and its futures; one type with two submit methods could be
//! handed a blocking closure for a task at run time. `Submit`, `JobHandle`, `Ended`, `Drain` and
//! `Watcher` need no parameter at all.

/// The workers are threads: a job is a closure `FnOnce(&Context) -> R`, and may block.
///
/// A mark, not a value: see [`Pool`](crate::Pool).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {}

/// The workers are tasks of an executor: a job is a closure `FnOnce(Context) -> Fut`, whose future
/// must not block.
///
/// A mark, not a value: see [`Pool`](crate::Pool).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tasks {}
