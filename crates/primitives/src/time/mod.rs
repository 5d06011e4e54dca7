//! The time seam: a clock and a timer that always come from one driver.
//!
//! A [`Timer`] is a cheap handle to a driver. Deadlines are `std::time::Instant`s of that driver's
//! clock; a deadline must be compared with, and registered at, the timer it was made for.
//!
//! | driver | clock | who fires | for |
//! |---|---|---|---|
//! | [`Timer::tokio`] | tokio's, also when paused | one task per runtime, alive only while something is registered | tokio programs |
//! | [`Timer::thread`] | std's monotonic clock | one thread for the process, started at the first registration | plain threads, other executors |
//! | [`Timer::manual`] | moved by hand | the caller of [`ManualClock::advance`] | models and tests |
//!
//! A driver that is missing is an error when the timer is made; one that goes away later (its
//! runtime was shut down) ends every registration with [`Expiry::Lost`] and refuses new ones.
//!
//! Registering and revoking cost O(log n) under one lock a driver; no lock is held while a
//! registration expires. Precision is the driver's ([`Timer::grain`]): tokio goes by the millisecond, the thread
//! wakes as soon as the operating system lets it. Nothing expires early.

mod manual;
mod moment;
mod table;
mod thread;
mod ticks;
#[cfg(feature = "tokio")]
mod tokio;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use manual::ManualClock;
pub use moment::{Elapsed, Moment, Now, coarse_tick, monotonic, nanos};
pub use ticks::ticks;
pub use watch::{Next, Watch};

/// What a registration runs when it ends. Called once at most, with no lock held: on the driver's thread or task; on the thread
/// that moves a manual clock or takes it away, or that registers what is past there; on the thread that shuts a runtime down.
pub trait Expire: Send + Sync {
    /// The time has come, or the driver is gone.
    fn expire(self: Arc<Self>, expiry: Expiry);
}

/// Why a registration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// The time has come.
    Due,
    /// The driver was shut down before the time came.
    Lost,
}

/// No timer can be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimerError {
    /// The tokio runtime was built without its time driver.
    #[error(
        "no timer: this tokio runtime was built without its time driver, call `enable_time` or `enable_all` on its builder"
    )]
    Disabled,
    /// The runtime that drove the timer was shut down.
    #[error(
        "no timer: the runtime that drove it was shut down, make the deadline in one that runs, or with `Timer::thread()`"
    )]
    Lost,
    /// The timer thread could not be started.
    #[error("no timer: the timer thread could not be started: {0}")]
    Thread(String),
}

/// Names a registration, for revoking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// When it is due.
    at: Instant,
    /// Tells registrations for the same instant apart, in order of arrival.
    id: u64,
}

/// A handle to a time driver: clock and timer in one.
#[derive(Clone)]
pub struct Timer(
    /// Which driver.
    Driver,
);

/// The three drivers.
#[derive(Clone)]
enum Driver {
    /// A tokio runtime.
    #[cfg(feature = "tokio")]
    Tokio(Arc<tokio::Driver>),
    /// The process's timer thread.
    Thread,
    /// A clock moved by hand.
    Manual(Arc<manual::Driver>),
}

impl Timer {
    /// The timer of the place where this is called: tokio's inside a tokio runtime (with the
    /// feature `tokio`), the timer thread elsewhere.
    ///
    /// # Errors
    ///
    /// [`TimerError::Disabled`] inside a runtime without its time driver.
    pub fn ambient() -> Result<Self, TimerError> {
        #[cfg(feature = "tokio")]
        if let Some(handle) = tokio::current() {
            return Self::tokio(&handle);
        }
        Ok(Self::thread())
    }

    /// The timer of a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`TimerError::Disabled`] when the runtime was built without its time driver. Tokio tells
    /// that by a panic only, which is caught here; a panic hook sees it once a call, and a program
    /// built with `panic = "abort"` ends.
    #[cfg(feature = "tokio")]
    pub fn tokio(handle: &::tokio::runtime::Handle) -> Result<Self, TimerError> {
        Ok(Self(Driver::Tokio(tokio::Driver::of(handle)?)))
    }

    /// The timer thread of this process, on std's monotonic clock. The thread starts at the first
    /// registration and then stays, asleep while nothing is registered.
    pub const fn thread() -> Self {
        Self(Driver::Thread)
    }

    /// A timer whose clock moves only when told to.
    pub fn manual() -> (Self, ManualClock) {
        let driver = Arc::new(manual::Driver::new());
        (Self(Driver::Manual(Arc::clone(&driver))), ManualClock::new(driver))
    }

    /// How much later than it was registered for something may expire, at most, while the driver gets to run: two milliseconds for
    /// tokio, which rounds a deadline up to one, and the moment from which it sleeps down to one; nothing for the others.
    pub const fn grain(&self) -> Duration {
        match &self.0 {
            #[cfg(feature = "tokio")]
            Driver::Tokio(_) => Duration::from_millis(2),
            Driver::Thread | Driver::Manual(_) => Duration::ZERO,
        }
    }

    /// The driver's clock. About 25 ns for std's clock, which is also that of tokio's multi-thread runtimes, and of all its
    /// runtimes in a build without its feature `test-util`; some more for that of a runtime that may be paused.
    #[inline]
    pub fn now(&self) -> Instant {
        match &self.0 {
            #[cfg(feature = "tokio")]
            Driver::Tokio(driver) => driver.now(),
            Driver::Thread => Instant::now(),
            Driver::Manual(driver) => driver.now(),
        }
    }

    /// Whether its clock is std's, for good.
    #[inline]
    fn keeps_std_time(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "tokio")]
            Driver::Tokio(driver) => driver.keeps_std_time(),
            Driver::Thread => true,
            Driver::Manual(_) => false,
        }
    }

    /// Has `target` expire at `at`, or as soon as possible when `at` is past.
    ///
    /// # Errors
    ///
    /// [`TimerError::Lost`] when the runtime was shut down, [`TimerError::Thread`] when the
    /// operating system gives no thread. The target then never expires.
    pub fn register(&self, at: Instant, target: Arc<dyn Expire>) -> Result<Ticket, TimerError> {
        match &self.0 {
            #[cfg(feature = "tokio")]
            Driver::Tokio(driver) => tokio::Driver::register(driver, at, target),
            Driver::Thread => thread::register(at, target),
            Driver::Manual(driver) => driver.register(at, target),
        }
    }

    /// Takes a registration back. Returns whether it was still there: if not, it has expired, or
    /// is about to on another thread.
    pub fn revoke(&self, ticket: Ticket) -> bool {
        let target = match &self.0 {
            #[cfg(feature = "tokio")]
            Driver::Tokio(driver) => driver.revoke(ticket),
            Driver::Thread => thread::revoke(ticket),
            Driver::Manual(driver) => driver.revoke(ticket),
        };
        // The target is dropped here, with no lock held.
        target.is_some()
    }

    /// Whether both lead to the same driver, so that instants of the one mean the same to the
    /// other.
    pub fn same_driver(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            #[cfg(feature = "tokio")]
            (Driver::Tokio(a), Driver::Tokio(b)) => Arc::ptr_eq(a, b),
            (Driver::Thread, Driver::Thread) => true,
            (Driver::Manual(a), Driver::Manual(b)) => Arc::ptr_eq(a, b),
            #[cfg_attr(
                not(feature = "tokio"),
                allow(unreachable_patterns, reason = "fewer drivers")
            )]
            _ => false,
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            #[cfg(feature = "tokio")]
            Driver::Tokio(_) => "Timer(tokio)",
            Driver::Thread => "Timer(thread)",
            Driver::Manual(_) => "Timer(manual)",
        })
    }
}
