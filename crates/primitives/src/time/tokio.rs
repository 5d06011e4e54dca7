//! The tokio driver: one task per runtime, alive only while something is registered.
//!
//! The task owns one `Sleep` for the earliest registration. It is spawned by the registration that
//! finds none running, and ends when the table is empty, so that an idle program has no task and
//! no timer of ours (with tokio's paused clock, a left-over timer would move the time). When the
//! runtime shuts down it drops the task; the drop finds registrations left over and ends them as
//! lost. Thin glue around [`Watch`]; it is tested under paused time.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::tokio::runtime::{Handle, Id, RuntimeFlavor};
use ::tokio::time::Sleep;

use super::watch::{Next, Watch};
use super::{Expire, Ticket, TimerError};

/// Drivers by runtime, so that every timer of a runtime shares one task.
static DRIVERS: Mutex<Option<HashMap<Id, Weak<Driver>>>> = Mutex::new(None);

/// The resolution of tokio's timers.
const TICK: Duration = Duration::from_millis(1);

/// Locks; nothing panics under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The runtime of the calling thread, if it is in one.
pub(super) fn current() -> Option<Handle> {
    Handle::try_current().ok()
}

/// The driver of one runtime.
pub(super) struct Driver {
    /// The runtime; a handle does not keep it running.
    handle: Handle,
    /// Whether its clock is std's for good: tokio pauses the clock of a current-thread runtime only, and only with a feature.
    keeps_std_time: bool,
    /// What is registered; the task watches it.
    watch: Watch,
}

impl Driver {
    /// The driver of a runtime.
    pub(super) fn of(handle: &Handle) -> Result<Arc<Self>, TimerError> {
        let known = {
            let drivers = lock(&DRIVERS);
            let known = drivers.as_ref().and_then(|drivers| drivers.get(&handle.id()));
            known.and_then(Weak::upgrade)
        };
        if let Some(driver) = known {
            return Ok(driver);
        }
        // Tokio offers no other way to ask than to make a timer and see whether it panics.
        catch_unwind(AssertUnwindSafe(|| {
            let _inside = handle.enter();
            drop(::tokio::time::sleep(Duration::ZERO));
        }))
        .map_err(|_| TimerError::Disabled)?;

        let keeps_std_time =
            handle.runtime_flavor() == RuntimeFlavor::MultiThread || !pause::is_possible();
        let watch = Watch::new(false);
        let fresh = Arc::new(Self { handle: handle.clone(), keeps_std_time, watch });
        let mut drivers = lock(&DRIVERS);
        let drivers = drivers.get_or_insert_default();
        if let Some(driver) = drivers.get(&handle.id()).and_then(Weak::upgrade) {
            return Ok(driver);
        }
        drivers.insert(handle.id(), Arc::downgrade(&fresh));
        Ok(fresh)
    }

    /// Whether its clock is std's for good.
    pub(super) fn keeps_std_time(&self) -> bool {
        self.keeps_std_time
    }

    /// Tokio's clock, paused or not. One that may be paused belongs to its runtime, so the runtime is entered.
    pub(super) fn now(&self) -> Instant {
        if self.keeps_std_time {
            return Instant::now();
        }
        match Handle::try_current() {
            // At the end of a thread, tokio's own thread-local may be gone and cannot be entered.
            Err(error) if error.is_thread_local_destroyed() => return Instant::now(),
            Ok(current) if current.id() == self.handle.id() => {
                return ::tokio::time::Instant::now().into_std();
            }
            _ => {}
        }
        let _inside = self.handle.enter();
        ::tokio::time::Instant::now().into_std()
    }

    /// Adds a registration, spawning the task if there is none.
    pub(super) fn register(
        driver: &Arc<Self>,
        at: Instant,
        target: Arc<dyn Expire>,
    ) -> Result<Ticket, TimerError> {
        let (ticket, start) = driver.watch.register(at, target)?;
        if start {
            // On a runtime that was shut down the task is dropped at once, which expires the
            // registration that was just made.
            let driver = Arc::clone(driver);
            drop(driver.handle.clone().spawn(Task { driver, sleep: None, ended: false }));
        }
        Ok(ticket)
    }

    /// Takes a registration out.
    pub(super) fn revoke(&self, ticket: Ticket) -> Option<Arc<dyn Expire>> {
        self.watch.revoke(ticket)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let mut drivers = lock(&DRIVERS);
        if let Some(drivers) = drivers.as_mut() {
            // A new driver of the same runtime may have taken the place already.
            if drivers.get(&self.handle.id()).is_some_and(|known| known.strong_count() == 0) {
                drivers.remove(&self.handle.id());
            }
        }
    }
}

/// Whether this build of tokio can pause a clock: with its feature `test-util`, which another crate may have turned on, a
/// builder has a method for that. A method of a type comes before one of a trait of the same name.
mod pause {
    use ::tokio::runtime::Builder;

    /// What the method of the trait returns.
    struct Absent;

    /// Called if the builder has none of its own.
    trait StartPaused {
        fn start_paused(&mut self, _paused: bool) -> Absent {
            Absent
        }
    }

    impl StartPaused for Builder {}

    // So it is used in both builds.
    const _: fn(&mut Builder, bool) -> Absent = <Builder as StartPaused>::start_paused;

    /// Tells which of the two was called.
    trait IsPossible {
        /// Whether it was the builder's own.
        const IS_POSSIBLE: bool;
    }

    impl IsPossible for Absent {
        const IS_POSSIBLE: bool = false;
    }

    impl IsPossible for &mut Builder {
        const IS_POSSIBLE: bool = true;
    }

    /// Whether it can.
    pub(super) fn is_possible() -> bool {
        fn of<T: IsPossible>(_: T) -> bool {
            T::IS_POSSIBLE
        }
        of(Builder::new_current_thread().start_paused(false))
    }
}

/// The task of a driver.
struct Task {
    /// Whose table it watches.
    driver: Arc<Driver>,
    /// Due at the earliest registration.
    sleep: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Whether it found nothing left to do. Not to be asked of the watch: by the time this task is
    /// dropped the next one may run.
    ended: bool,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let next = this.driver.watch.expire_due(cx.waker(), || this.driver.now());
            let Next::At(at) = next else {
                this.ended = true;
                return Poll::Ready(());
            };
            // Tokio rounds an instant up to its next tick, and panics when there is none.
            let at = at.checked_add(TICK).map_or(at - TICK, |_| at);
            let sleep = match &mut this.sleep {
                Some((armed, sleep)) => {
                    if *armed != at {
                        *armed = at;
                        sleep.as_mut().reset(at.into());
                    }
                    sleep
                }
                none => &mut none.insert((at, Box::pin(::tokio::time::sleep_until(at.into())))).1,
            };
            // The budget of this task must not delay timers.
            let mut sleep = std::pin::pin!(::tokio::task::coop::unconstrained(sleep.as_mut()));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.sleep = None;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.ended {
            self.driver.watch.lose();
        }
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use ::tokio::runtime::{Builder, Runtime};

    use super::*;

    fn keeps_std_time(runtime: &Runtime) -> bool {
        Driver::of(runtime.handle()).expect("it has a time driver").keeps_std_time()
    }

    /// Tests are built with tokio's `test-util`.
    #[test]
    fn a_clock_that_may_be_paused_is_not_taken_for_stds() {
        assert!(pause::is_possible());
        let current = Builder::new_current_thread().enable_time().build().expect("a runtime");
        assert!(!keeps_std_time(&current));
        let several = Builder::new_multi_thread().worker_threads(1).enable_time().build();
        assert!(keeps_std_time(&several.expect("a runtime")));
    }
}
