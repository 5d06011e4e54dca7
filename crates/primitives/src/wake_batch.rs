//! A fixed batch of wakers: filled under a lock, woken outside it.
#![allow(unsafe_code, reason = "an array that is filled from the front, not all at once")]

use std::fmt;
use std::mem::MaybeUninit;
use std::task::Waker;

use crate::shim::WakeSite;
use crate::{FirstPanic, const_fn, contain, wake};

/// How many wakers are collected before the lock is released to wake them: large enough that a
/// crowd costs few lock trips, small enough for the stack.
#[cfg(not(selvedge_loom))]
const CAPACITY: usize = 32;
/// Two, so that a model sees a second batch with three waiters.
#[cfg(selvedge_loom)]
const CAPACITY: usize = 2;

/// Wakers taken out under a lock, to be woken after it is released.
pub struct WakeBatch {
    /// The ones from `woken` to `len` are there.
    wakers: [MaybeUninit<Waker>; CAPACITY],
    /// How many were put in.
    len: usize,
    /// How many of them were taken out.
    woken: usize,
    /// Who called for the wakes.
    site: WakeSite,
}

impl WakeBatch {
    const_fn! {
        /// An empty batch. A model can drop the wakes of the batches that are made at one place.
        #[track_caller]
        pub const fn new() -> Self {
            let wakers = [const { MaybeUninit::uninit() }; CAPACITY];
            Self { wakers, len: 0, woken: 0, site: WakeSite::here() }
        }
    }

    /// Whether there is nobody to wake.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether another waker does not fit.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len == CAPACITY
    }

    /// Adds a waker.
    ///
    /// # Panics
    ///
    /// When the batch is full.
    #[inline]
    pub fn push(&mut self, waker: Waker) {
        self.wakers[self.len].write(waker);
        self.len += 1;
    }

    /// Wakes them in order and empties the batch. A waker that panics stops no other: the first
    /// panic goes on when all were woken. While the thread unwinds already (a permit is given back
    /// by a panicking task), it ends here, reported by the hook: a second one would abort.
    ///
    /// Call it with no lock held: a waker is somebody else's code.
    #[inline]
    pub fn wake_all(&mut self) {
        // One, mostly: its panic stops no other, and goes on by itself.
        if self.len == 1 && !std::thread::panicking() {
            if let Some(waker) = self.take() {
                self.len = 0;
                self.woken = 0;
                if self.site.wakes() {
                    wake(waker);
                }
            }
        } else if self.len > 0 {
            self.wake_each();
        }
    }

    /// Wakes several.
    #[cold]
    fn wake_each(&mut self) {
        let mut panics = FirstPanic::new();
        // A panic ends one turn; the next goes on behind it.
        while self.woken < self.len {
            panics.catch(|| {
                while let Some(waker) = self.take() {
                    if self.site.wakes() {
                        wake(waker);
                    }
                }
            });
        }
        self.len = 0;
        self.woken = 0;
        panics.resume();
    }

    /// Takes the next one out.
    fn take(&mut self) -> Option<Waker> {
        let at = self.woken;
        if at == self.len {
            return None;
        }
        self.woken += 1;
        // SAFETY: `push` wrote it, because it lies before `len`; and it is taken out once, because `woken` has
        // passed it from here on, until both begin anew.
        Some(unsafe { self.wakers[at].assume_init_read() })
    }
}

impl Default for WakeBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for WakeBatch {
    /// Wakers that were taken out of a queue are owed their wake also when a panic passes by.
    fn drop(&mut self) {
        if self.len > 0 {
            // A destructor that panics helps nobody; the hook has reported it.
            contain(|| self.wake_all());
        }
    }
}

impl fmt::Debug for WakeBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeBatch").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("this waker panics");
        }
    }

    #[test]
    fn a_panicking_waker_stops_no_other_and_its_panic_goes_on() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let mut batch = WakeBatch::new();
        batch.push(count.clone().into());
        batch.push(Arc::new(Panics).into());
        batch.push(count.clone().into());
        let panic = catch_unwind(AssertUnwindSafe(|| batch.wake_all())).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"this waker panics"));
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_panicking_waker_does_not_abort_a_thread_that_unwinds_already() {
        struct WakesInDrop(WakeBatch);
        impl Drop for WakesInDrop {
            fn drop(&mut self) {
                self.0.wake_all();
            }
        }
        let panic = catch_unwind(|| {
            let mut batch = WakeBatch::new();
            batch.push(Arc::new(Panics).into());
            let _in_drop = WakesInDrop(batch);
            panic!("the first panic");
        });
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"the first panic"));
    }

    #[test]
    fn a_batch_dropped_unwoken_wakes() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let mut batch = WakeBatch::new();
        batch.push(count.clone().into());
        drop(batch);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
