//! Go's context, made structural: a tree of contexts that are cancelled from above, with causes,
//! deadlines, and two levels of urgency.
//!
//! A [`Context`] observes; a [`Canceller`] may cancel. [`Context::child`] returns both. Whoever
//! waits, waits on a context; whoever starts work keeps the canceller, and dropping the last clone
//! of it cancels, so that forgotten work ends by itself.
//!
//! # Which one do I want?
//!
//! | you want to | take |
//! |---|---|
//! | start a tree | [`Context::background`]`().child()` |
//! | hand a task the right to be told | `ctx.clone()` |
//! | end a part of the work before the rest | [`Context::child`] |
//! | end it at a time | [`Context::with_timeout`], [`Context::with_deadline`] |
//! | wait for the end | [`Context::cancelled`], or [`Context::run`] around your future; [`Context::wait_blocking`] on a thread |
//! | ask in a loop | [`Context::is_cancelled`]: one load, and a read of a clock when there is a deadline |
//! | say "please finish" first | [`Canceller::stop`], seen by [`Context::stopping`] |
//! | carry a request's number or user along | [`Context::with_value`], [`Context::value`] |
//! | clean up although it was cancelled | [`Context::shield`] |
//! | run code when it ends | [`Context::on_cancel`], [`Context::on_stop`] |
//! | end when others end | [`Context::any_of`], [`Context::all_of`] |
//! | cancel, and wait until everybody is out | [`Context::enter`], [`Canceller::cancel_and_wait`] |
//! | know who is still inside | [`Context::stragglers`] |
//! | see the whole tree, or count what is in it | [`Context::dump`], [`Context::counts`] |
//! | end a stream | [`Until`] |
//! | be stopped, drained and aborted by a shutdown | implement [`Component`] |
//! | switch from tokio-util's token by changing an import | [`compat::CancellationToken`] |
//! | work with code that takes or gives tokio-util's token | `Context::to_token`, `Context::from_token`: the feature `tokio-util` |
//!
//! # Two levels
//!
//! | call | sets now | sets later | seen by |
//! |---|---|---|---|
//! | [`Canceller::stop`]`(grace)` | STOPPING | CANCELLED, after the grace | `is_stopping`, `stopping` |
//! | [`Canceller::cancel`], a deadline, the last canceller dropped | STOPPING and CANCELLED | | both, and `is_cancelled`, `cancelled`, `run` |
//!
//! Everywhere in selvedge, drain is a stop and abort is a cancel: what admits new work (submitting,
//! taking the next item, spawning) ends at STOPPING, what finishes accepted work ends at CANCELLED.
//!
//! # Example
//!
//! ```
//! use selvedge_cancel::{CauseKind, Context};
//!
//! let (ctx, canceller) = Context::background().child();
//! let (request, _request_canceller) = ctx.child();
//! assert!(!request.is_cancelled());
//!
//! canceller.cancel();
//! assert!(request.is_cancelled());
//! assert_eq!(request.cause().unwrap().kind(), CauseKind::Cancelled);
//! ```
//!
//! # Guarantees
//!
//! - When `cancel` returns, every descendant is flagged, also when another thread was cancelling
//!   part of the tree at the same time. All flags are set before any waker runs, and no waker,
//!   destructor or other code of a user runs under a lock.
//! - The first cause wins, and descendants see the very cause of the origin.
//! - A cancelled child never touches its parent; a child of a cancelled context is born cancelled.
//! - Values are apart from the tree: looking one up takes no lock and does not depend on the depth, and
//!   a million contexts, each of which overrides the value of the one before, hold one value.
//! - Nothing recurses: making, cancelling and dropping a chain a million deep takes constant stack.
//! - Nodes are at most twice the live ones: a context that was dropped is spliced out of the tree
//!   unless it joins two or more live branches.
//!
//! # When not to use it
//!
//! For one flag that one loop polls, an atomic is enough. A context does not stop code that never
//! asks: give blocking code a context to look at, and async code a [`Context::run`] around it.
//!
//! # Features
//!
//! - `tokio` (default): deadlines on tokio's clock inside a runtime, and tokio's cooperative budget.
//!   Without it deadlines are kept by one timer thread.
//! - `observe`: contexts, and who waits for them, are told to the process's observer; without it, no
//!   code.
//! - `age`: contexts, and who has entered them, have an age, for which the clock is read once each.
//! - `tokio-util`: contexts from the token of tokio-util, and tokens from contexts.
//! - `loom`: model checking; takes effect only under `--cfg selvedge_loom`.
#![deny(unsafe_code)]

mod adapters;
mod callback;
mod canceller;
mod cause;
pub mod compat;
mod component;
mod context;
#[cfg(feature = "tokio-util")]
mod convert;
mod enter;
mod futures;
mod inspect;
mod link;
mod shield;
mod tree;
mod values;

pub use adapters::{RunIn, Until, UntilEnd};
pub use callback::{CallbackEnded, Registration, Revoked};
pub use canceller::Canceller;
pub use cause::{Cause, CauseKind};
pub use component::{Component, Straggler, Wait};
pub use context::{ChildBuilder, Context, DeadlineError};
#[cfg(feature = "tokio-util")]
pub use convert::LinkedToken;
pub use enter::{CancelAndWait, Entered};
pub use futures::{Cancelled, Run, RunOrCause, Stopping};
pub use inspect::{Counts, Dump};
pub use selvedge_primitives::time::{ManualClock, Timer, TimerError};

/// The example of the README, compiled and run with the others; its deadline is on tokio's clock.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
