//! A lock of two bytes for critical sections of a few instructions.
//!
//! Locking is one compare-exchange, unlocking one store: half of what a lock costs that knows whether
//! somebody sleeps on it. Who finds it taken spins, then yields, then sleeps for a moment each
//! time ([`Backoff`]), so that a holder that was preempted gets its processor, also when the one who
//! waits has the higher priority. Nobody is queued: there is no fairness, and there must be no critical
//! section that is worth queueing for.
//!
//! Take it for what is a handful of stores to memory that is at hand. Never run code of a user under
//! it, or make a system call under it that waits; nor allocate under it, but for a little, and seldom.
//!
//! Who waits says so in the lock. A holder that has many small things to do under it can look
//! ([`is_wanted`]), and [let others in](let_in) between two of them: without that, one who unlocks and
//! locks again at once keeps everybody out, because it is always the first.
//!
//! Unlocking is the last access to the lock, so its memory may be freed by whoever locks it next; not so
//! after [`let_in`].
//!
//! # Models
//!
//! Under `--cfg selvedge_loom` a [`SpinLock`] is loom's lock, which explores faster than a loop;
//! [`Spin`], the lock itself, is explored by models of its own.
#![allow(unsafe_code, reason = "the cell behind the lock, behind a safe face")]

use std::fmt;

use crate::atomic::{AtomicBool, Ordering};
use crate::{Backoff, const_fn};

/// How often who has slept looks before it sleeps again: for as long as a holder takes to let it in.
#[cfg(not(selvedge_loom))]
const LOOKS: u32 = 32;
/// Once: a look that finds nothing new explores nothing new.
#[cfg(selvedge_loom)]
const LOOKS: u32 = 1;

/// The bare lock: it guards nothing by itself.
pub struct Spin {
    /// Whether somebody has it.
    taken: AtomicBool,
    /// Whether somebody waits for it. Not a state of the other byte: a store unlocks, which a mark by somebody
    /// else must not undo.
    wanted: AtomicBool,
}

/// A [`Spin`] that is held.
#[must_use = "the lock is released when this is dropped"]
pub struct Spun<'a> {
    /// Which.
    spin: &'a Spin,
}

impl Spin {
    const_fn! {
        /// Nobody has it.
        pub const fn new() -> Self {
            Self { taken: AtomicBool::new(false), wanted: AtomicBool::new(false) }
        }
    }

    /// Locks, waiting for as long as it takes.
    #[inline]
    pub fn lock(&self) -> Spun<'_> {
        if !self.try_take() {
            self.wait();
        }
        Spun { spin: self }
    }

    /// Takes it, if it is free.
    #[inline]
    fn try_take(&self) -> bool {
        // Acquire: pairs with the Release in `Spun::drop`; what the last holder did is visible.
        // Relaxed on failure: it is taken, so nothing is looked at.
        self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Whether somebody waits for it.
    #[inline]
    fn is_wanted(&self) -> bool {
        // Relaxed: a hint.
        self.wanted.load(Ordering::Relaxed)
    }

    /// Takes it when it is free.
    #[cold]
    fn wait(&self) {
        let mut backoff = Backoff::new();
        loop {
            backoff.snooze();
            // To say that it is wanted takes the line from the holder, and so does a look: seldom at first. After a sleep often,
            // to be there when it is let in.
            let looks = if backoff.has_slept() { LOOKS } else { 1 };
            for _ in 0..looks {
                // Relaxed: a hint; `try_take` decides. A load leaves the line with the holder.
                if !self.taken.load(Ordering::Relaxed) && self.try_take() {
                    if backoff.has_spun() {
                        // Relaxed: a hint; others who wait say so again.
                        self.wanted.store(false, Ordering::Relaxed);
                    }
                    return;
                }
                // Relaxed: a hint.
                if backoff.has_spun() && !self.wanted.load(Ordering::Relaxed) {
                    // Relaxed: as above.
                    self.wanted.store(true, Ordering::Relaxed);
                }
                std::hint::spin_loop();
            }
        }
    }
}

impl Spun<'_> {
    /// Whether somebody waits for it. A hint: they say so again and again.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.spin.is_wanted()
    }

    /// Unlocks, and gives those who wait a moment to lock. The lock's memory has to stay there for that long.
    #[cold]
    pub fn let_in(self) {
        let spin = self.spin;
        // Relaxed: a hint.
        spin.wanted.store(false, Ordering::Relaxed);
        drop(self);
        for _ in 0..2 * LOOKS {
            // Relaxed: a hint.
            if spin.taken.load(Ordering::Relaxed) {
                return;
            }
            std::hint::spin_loop();
        }
    }
}

impl Default for Spin {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Spun<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: what was done under the lock is visible to the next holder; pairs with the Acquire
        // in `try_take`. It is the last access: the next holder may free the lock.
        self.spin.taken.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Spin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spin").finish_non_exhaustive()
    }
}

impl fmt::Debug for Spun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spun").finish_non_exhaustive()
    }
}

#[cfg(not(selvedge_loom))]
mod guarded {
    use std::cell::UnsafeCell;
    use std::fmt;
    use std::marker::PhantomData;
    use std::ops::{Deref, DerefMut};
    use std::panic::{RefUnwindSafe, UnwindSafe};

    use super::{Spin, Spun};

    /// A value behind a [`Spin`].
    #[derive(Default)]
    pub struct SpinLock<T> {
        /// The lock.
        spin: Spin,
        /// What it guards.
        value: UnsafeCell<T>,
    }

    // SAFETY: the value is reached by one thread at a time, the one that holds the lock, so all it
    // needs is that it may go from thread to thread.
    unsafe impl<T: Send> Sync for SpinLock<T> {}

    // No code of a user runs under the lock, so no panic leaves the value halfway, as with the other locks here.
    impl<T> UnwindSafe for SpinLock<T> {}
    impl<T> RefUnwindSafe for SpinLock<T> {}

    /// A [`SpinLock`] that is held. One word, so that a guard is moved in a register.
    #[must_use = "the lock is released when this is dropped"]
    pub struct SpinGuard<'a, T> {
        /// Which.
        lock: &'a SpinLock<T>,
        /// It stays on its thread, so that no future keeps it while it waits.
        stays: PhantomData<*const ()>,
    }

    // SAFETY: a shared guard gives `&T` only.
    unsafe impl<T: Sync> Sync for SpinGuard<'_, T> {}

    impl<T> SpinLock<T> {
        /// A lock around `value`.
        pub const fn new(value: T) -> Self {
            Self { spin: Spin::new(), value: UnsafeCell::new(value) }
        }

        /// Locks, waiting for as long as it takes.
        #[inline]
        pub fn lock(&self) -> SpinGuard<'_, T> {
            // Released by the guard.
            std::mem::forget(self.spin.lock());
            SpinGuard { lock: self, stays: PhantomData }
        }
    }

    /// Whether somebody waits for the lock of a guard. A hint: they say so again and again.
    #[inline]
    pub fn is_wanted<T>(guard: &SpinGuard<'_, T>) -> bool {
        guard.lock.spin.is_wanted()
    }

    /// Unlocks, and gives those who wait a moment to lock. The lock's memory has to stay there for that long.
    pub fn let_in<T>(guard: SpinGuard<'_, T>) {
        let spin = &guard.lock.spin;
        std::mem::forget(guard);
        Spun { spin }.let_in();
    }

    impl<T> Drop for SpinGuard<'_, T> {
        #[inline]
        fn drop(&mut self) {
            drop(Spun { spin: &self.lock.spin });
        }
    }

    impl<T> Deref for SpinGuard<'_, T> {
        type Target = T;

        #[inline]
        fn deref(&self) -> &T {
            // SAFETY: the guard holds the lock, and `&self` rules out the `&mut` of `deref_mut`.
            unsafe { &*self.lock.value.get() }
        }
    }

    impl<T> DerefMut for SpinGuard<'_, T> {
        #[inline]
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: the guard holds the lock, and `&mut self` is the only way to the value.
            unsafe { &mut *self.lock.value.get() }
        }
    }

    impl<T> fmt::Debug for SpinLock<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("SpinLock").finish_non_exhaustive()
        }
    }

    impl<T> fmt::Debug for SpinGuard<'_, T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("SpinGuard").finish_non_exhaustive()
        }
    }
}

/// Under loom, loom's lock.
#[cfg(selvedge_loom)]
mod guarded {
    pub use crate::{Mutex as SpinLock, MutexGuard as SpinGuard};

    /// Always: so that a model sees what happens in between.
    pub fn is_wanted<T>(_: &SpinGuard<'_, T>) -> bool {
        true
    }

    /// Unlocks.
    pub fn let_in<T>(guard: SpinGuard<'_, T>) {
        drop(guard);
    }
}

pub use guarded::{SpinGuard, SpinLock, is_wanted, let_in};

#[cfg(not(selvedge_loom))]
const _: () = assert!(size_of::<SpinLock<u8>>() == 3);

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::thread;
    use std::time::Duration;

    use selvedge_testkit::watchdog;

    use super::*;

    #[test]
    fn who_waits_says_so_and_is_let_in() {
        watchdog(Duration::from_secs(60), "a lock that is wanted", || {
            let lock = SpinLock::new(1);
            let mut held = lock.lock();
            assert!(!is_wanted(&held));
            thread::scope(|scope| {
                scope.spawn(|| *lock.lock() += 1);
                while !is_wanted(&held) {
                    thread::yield_now();
                }
                while *held == 1 {
                    let_in(held);
                    held = lock.lock();
                }
            });
        });
    }
}
