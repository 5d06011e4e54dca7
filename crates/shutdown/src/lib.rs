//! The end of a program: signals, stop, drain, abort, exit; on time, with a report of who was late.
//!
//! A program that is asked to end wants to finish what it has begun, but not for ever; and whoever
//! asked twice wants it gone, whatever it is doing. This crate makes a plan of that. The components
//! (pools, pipelines, servers: what implements [`Component`]) are stopped together, drain together
//! until a grace period is over, are aborted, and are named in a [`Report`] if that did not help. The first
//! signal begins it, the second ends it within 100 ms even when every worker thread is blocked, and
//! the third from within the signal handler.
//!
//! # Which one do I want?
//!
//! | you want to | take |
//! |---|---|
//! | hear SIGINT and SIGTERM | [`Signals::install`], first thing in `main` |
//! | plan the end | [`Shutdown::builder`] |
//! | have your work know when to finish | [`Shutdown::ctx`]: `stopping()`, then `cancelled()` |
//! | have a pool or a pipeline drained | [`Shutdown::register`] |
//! | run the main task to its end under the plan | [`Shutdown::run`] |
//! | wait for the end, the work being done by components | [`Shutdown::wait`] |
//! | end the program from inside | [`ShutdownHandle::trigger`] |
//! | end it at a time | a context with a deadline as the [parent](Builder::parent) |
//! | know who was late | the [`Report`]; `report.exit()` ends the process with its code |
//! | test your shutdown, or run it where there are no signals | [`Signals::manual`] |
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use selvedge_shutdown::{Shutdown, Signals};
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! # let (signals, hand) = Signals::manual();
//! # hand.raise(selvedge_shutdown::Signal::Interrupt);
//!
//! // let signals = Signals::install()?;
//! let grace = Duration::from_millis(500);
//! let shutdown = Shutdown::builder().signals(signals).grace(grace).build()?;
//! let ctx = shutdown.ctx().clone();
//! let work = async move {
//!     ctx.stopping().await; // Ctrl-C
//!     "what was finished by then"
//! };
//! let (output, report) = shutdown.run(work).await;
//! assert_eq!(output, Some("what was finished by then"));
//! assert_eq!(report.exit_code(), 130); // report.exit()
//! # Ok::<(), selvedge_shutdown::BuildError>(())
//! # }).unwrap();
//! ```
//!
//! # Guarantees
//!
//! - `stop` of every component is called exactly once, whatever triggers at the same time and
//!   whoever registers meanwhile; the first trigger gives the [`Reason`].
//! - The whole takes at most grace + abort budget, and ends earlier when everything has. Nothing is
//!   polled in intervals, and before it begins there is no timer and no wake-up.
//! - A component that is registered is stopped and waited for, or comes back with an error.
//! - A component has ended when its `stop` has returned, on whatever thread, and its `wait` has
//!   completed; one that is still in its `stop` when grace and budget are over is late.
//! - A component that panics stops nobody else, and its panic is in the report, once; unless it is
//!   late and panics after the report was written.
//! - No method of a component, no waker and no destructor runs under a lock of the plan.
//! - The exit of the second signal takes no lock and waits for nobody; the third needs no thread.
//!
//! # When not to use it
//!
//! A program that may die at any time needs none of it: the default action of a signal is quicker
//! than any plan. And a plan does not end what does not listen: blocking code needs a
//! [`Context`] to look at, or it is reported as late and ends with the process.
//!
//! # Features
//!
//! - `tokio` (default): grace and budget on tokio's clock inside a runtime, and tokio's cooperative
//!   budget. Without it they are kept by one timer thread, on any executor.
//! - `loom`: model checking; takes effect only under `--cfg selvedge_loom`.
//!
//! Signals are those of Unix. Elsewhere [`Signals::install`] returns
//! [`InstallError::Unsupported`], and everything else works.
#![deny(unsafe_code)]

mod plan;
mod reason;
mod report;
mod run;
mod shutdown;
mod signals;

pub use reason::{Reason, Request, Signal};
pub use report::{ComponentReport, End, Panic, Report};
pub use run::{Run, Wait};
pub use shutdown::{BuildError, Builder, RegisterError, Shutdown, ShutdownHandle};
pub use signals::{InstallError, ManualSignals, Signals, SignalsBuilder};

pub use selvedge_cancel::{Component, Context, Straggler, Timer};

/// The examples of the README, compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
