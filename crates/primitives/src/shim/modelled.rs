//! The shim over loom: the interface of `real.rs`, every operation with its caller's place, and the
//! mutation hooks of `mutant.rs`.

use std::panic::Location;
use std::task::Waker;
use std::time::Duration;

use super::mutant;

pub use loom::future::block_on;

/// Atomics over loom's, each operation open to mutation.
pub mod atomic {
    pub use std::sync::atomic::Ordering;

    use std::panic::Location;

    use super::mutant;

    /// A fence, unless the mutant drops it.
    #[track_caller]
    pub fn fence(order: Ordering) {
        if !mutant::drops_fence(Location::caller()) {
            loom::sync::atomic::fence(order);
        }
    }

    macro_rules! atomic {
        ($name:ident, $value:ty) => {
            /// loom's atomic of the same name.
            #[derive(Debug)]
            pub struct $name(
                /// loom's.
                loom::sync::atomic::$name,
            );

            #[allow(dead_code, reason = "each type offers the same operations")]
            impl $name {
                /// An atomic that holds `value`.
                #[track_caller]
                pub fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                /// Loads.
                #[track_caller]
                pub fn load(&self, order: Ordering) -> $value {
                    self.0.load(mutant::order(Location::caller(), order))
                }

                /// Stores.
                #[track_caller]
                pub fn store(&self, value: $value, order: Ordering) {
                    self.0.store(value, mutant::order(Location::caller(), order));
                }

                /// Swaps.
                #[track_caller]
                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    self.0.swap(value, mutant::order(Location::caller(), order))
                }

                /// Compares and exchanges; never fails spuriously, also where std's would.
                #[track_caller]
                pub fn compare_exchange_weak(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.compare_exchange(current, new, success, failure)
                }

                /// Compares and exchanges.
                #[track_caller]
                pub fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    let place = Location::caller();
                    self.0.compare_exchange(
                        current,
                        new,
                        mutant::order(place, success),
                        mutant::failure(place, failure),
                    )
                }
            }
        };
    }

    macro_rules! atomic_bits {
        ($name:ident, $value:ty) => {
            #[allow(dead_code, reason = "each type offers the same operations")]
            impl $name {
                /// Ors.
                #[track_caller]
                pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                    self.0.fetch_or(value, mutant::order(Location::caller(), order))
                }

                /// Ands.
                #[track_caller]
                pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                    self.0.fetch_and(value, mutant::order(Location::caller(), order))
                }
            }
        };
    }

    macro_rules! atomic_int {
        ($name:ident, $value:ty) => {
            atomic!($name, $value);
            atomic_bits!($name, $value);

            #[allow(dead_code, reason = "each type offers the same operations")]
            impl $name {
                /// Updates: reads, and exchanges until it succeeds. The read is a read-modify-write that
                /// changes nothing: loom's search remembers only the last load before a write, so a plain
                /// one would make it forget the load of another thread with which the write races.
                #[track_caller]
                pub fn fetch_update(
                    &self,
                    success: Ordering,
                    failure: Ordering,
                    mut update: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    let place = Location::caller();
                    let failure = mutant::failure(place, failure);
                    let mut old = self.0.fetch_or(0, failure);
                    while let Some(new) = update(old) {
                        let success = mutant::order(place, success);
                        match self.0.compare_exchange(old, new, success, failure) {
                            Ok(old) => return Ok(old),
                            Err(seen) => old = seen,
                        }
                    }
                    Err(old)
                }

                /// Adds, wrapping.
                #[track_caller]
                pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    self.0.fetch_add(value, mutant::order(Location::caller(), order))
                }

                /// Subtracts, wrapping.
                #[track_caller]
                pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                    self.0.fetch_sub(value, mutant::order(Location::caller(), order))
                }
            }
        };
    }

    /// loom's atomic pointer.
    #[derive(Debug)]
    pub struct AtomicPtr<T>(
        /// loom's.
        loom::sync::atomic::AtomicPtr<T>,
    );

    impl<T> AtomicPtr<T> {
        /// An atomic that holds `value`.
        #[track_caller]
        pub fn new(value: *mut T) -> Self {
            Self(loom::sync::atomic::AtomicPtr::new(value))
        }

        /// Loads.
        #[track_caller]
        pub fn load(&self, order: Ordering) -> *mut T {
            self.0.load(mutant::order(Location::caller(), order))
        }

        /// Compares and exchanges.
        #[track_caller]
        pub fn compare_exchange(
            &self,
            current: *mut T,
            new: *mut T,
            success: Ordering,
            failure: Ordering,
        ) -> Result<*mut T, *mut T> {
            let place = Location::caller();
            self.0.compare_exchange(
                current,
                new,
                mutant::order(place, success),
                mutant::failure(place, failure),
            )
        }
    }

    /// A count of references. In a model that [asks for it](super::super::model::check_counts) loom's, and each use is a
    /// scheduling point. In others std's, as the one in an `Arc` is: most clones and drops race with nothing, and would
    /// multiply the interleavings of everything that stands on the type that is counted.
    #[derive(Debug)]
    pub enum AtomicCount {
        /// loom's.
        Seen(AtomicU32),
        /// std's.
        Unseen(std::sync::atomic::AtomicU32),
    }

    impl AtomicCount {
        /// A count of `value`.
        #[track_caller]
        pub fn new(value: u32) -> Self {
            if super::super::model::counts_are_seen() {
                Self::Seen(AtomicU32::new(value))
            } else {
                Self::Unseen(std::sync::atomic::AtomicU32::new(value))
            }
        }

        /// Loads.
        #[track_caller]
        pub fn load(&self, order: Ordering) -> u32 {
            match self {
                Self::Seen(count) => count.load(order),
                Self::Unseen(count) => count.load(order),
            }
        }

        /// Adds, wrapping.
        #[track_caller]
        pub fn fetch_add(&self, value: u32, order: Ordering) -> u32 {
            match self {
                Self::Seen(count) => count.fetch_add(value, order),
                Self::Unseen(count) => count.fetch_add(value, order),
            }
        }

        /// Subtracts, wrapping.
        #[track_caller]
        pub fn fetch_sub(&self, value: u32, order: Ordering) -> u32 {
            match self {
                Self::Seen(count) => count.fetch_sub(value, order),
                Self::Unseen(count) => count.fetch_sub(value, order),
            }
        }

        /// Updates.
        #[track_caller]
        pub fn fetch_update(
            &self,
            success: Ordering,
            failure: Ordering,
            update: impl FnMut(u32) -> Option<u32>,
        ) -> Result<u32, u32> {
            match self {
                Self::Seen(count) => count.fetch_update(success, failure, update),
                Self::Unseen(count) => count.fetch_update(success, failure, update),
            }
        }
    }

    /// Loads what nobody else writes meanwhile; a model fails if somebody does. It counts as no access: loom compares a store with
    /// the last access only, so that an ordinary load just before it would hide the store from all who read earlier.
    #[track_caller]
    #[expect(unsafe_code, reason = "loom's load that counts as no access is unsafe")]
    pub fn load_unshared(atomic: &AtomicU32) -> u32 {
        // SAFETY: loom checks that nobody writes meanwhile.
        unsafe { atomic.0.unsync_load() }
    }

    atomic!(AtomicBool, bool);
    atomic_bits!(AtomicBool, bool);
    atomic_int!(AtomicU8, u8);
    atomic_int!(AtomicU32, u32);
    atomic_int!(AtomicU64, u64);
    atomic_int!(AtomicUsize, usize);
    atomic_int!(AtomicIsize, isize);
}

/// The guard of a [`Mutex`].
pub type MutexGuard<'a, T> = loom::sync::MutexGuard<'a, T>;

/// loom's lock; loom does not poison.
#[derive(Debug, Default)]
pub struct Mutex<T>(
    /// loom's.
    loom::sync::Mutex<T>,
);

impl<T> Mutex<T> {
    /// A lock around `value`.
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    /// Locks.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("loom locks are not poisoned")
    }

    /// The value, through exclusive access.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().expect("loom locks are not poisoned")
    }

    /// The value; the lock is gone.
    pub fn into_inner(self) -> T {
        self.0.into_inner().expect("loom locks are not poisoned")
    }
}

/// loom's condition variable.
#[derive(Debug, Default)]
pub struct Condvar(
    /// loom's.
    loom::sync::Condvar,
);

impl Condvar {
    /// A condition variable that nobody waits on.
    pub fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    /// Waits for a notification.
    #[track_caller]
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).expect("loom locks are not poisoned")
    }

    /// Waits for a notification: loom has no time, so the limit never passes.
    #[track_caller]
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _limit: Duration,
    ) -> MutexGuard<'a, T> {
        self.wait(guard)
    }

    /// Wakes one waiting thread.
    #[track_caller]
    pub fn notify_one(&self) {
        if !mutant::drops_wake(Location::caller()) {
            self.0.notify_one();
        }
    }

    /// Wakes every waiting thread.
    #[track_caller]
    pub fn notify_all(&self) {
        if !mutant::drops_wake(Location::caller()) {
            self.0.notify_all();
        }
    }
}

/// loom's cell: it reports an access that races with another.
#[derive(Debug, Default)]
pub struct UnsafeCell<T>(
    /// loom's.
    loom::cell::UnsafeCell<T>,
);

impl<T> UnsafeCell<T> {
    /// A cell around `value`.
    #[track_caller]
    pub fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    /// Hands out a pointer for reading.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        self.0.with(f)
    }

    /// Hands out a pointer for writing.
    #[track_caller]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(f)
    }
}

/// loom's threads.
pub mod thread {
    pub use loom::thread::JoinHandle;

    loom::thread_local! {
        /// How often the thread has asked.
        static ASKED: std::cell::Cell<usize> = std::cell::Cell::new(0);
    }

    /// Another number each time, so that a model of few threads sees what is spread.
    pub fn number() -> usize {
        ASKED.with(|asked| asked.replace(asked.get() + 1))
    }

    /// Starts a thread; loom has no use for the name and never fails.
    pub fn spawn<T: Send + 'static>(
        name: String,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<JoinHandle<T>> {
        let _ = name;
        Ok(loom::thread::spawn(f))
    }
}

/// Runs a future to its end: loom has no time, so the limit never passes.
pub fn block_on_for<F: Future>(future: F, _limit: Duration) -> Option<F::Output> {
    Some(block_on(future))
}

/// Wakes, unless the mutant says not to.
#[track_caller]
pub fn wake(waker: impl Into<Option<Waker>>) {
    let wakes = !mutant::drops_wake(Location::caller());
    if let Some(waker) = waker.into().filter(|_| wakes) {
        waker.wake();
    }
}

/// Where a batch of wakes is called for: a mutant can drop just these.
#[derive(Debug)]
pub(crate) struct WakeSite(
    /// The call's.
    &'static Location<'static>,
);

impl WakeSite {
    /// The calling place.
    #[track_caller]
    pub(crate) fn here() -> Self {
        Self(Location::caller())
    }

    /// Whether the wakes happen.
    pub(crate) fn wakes(&self) -> bool {
        !mutant::drops_wake(self.0)
    }
}

/// Releases `guard`, then runs `f`; the other way round if the mutant says so.
#[track_caller]
pub fn release_then<G, R>(guard: G, f: impl FnOnce() -> R) -> R {
    if mutant::holds_lock(Location::caller()) {
        let result = f();
        drop(guard);
        return result;
    }
    drop(guard);
    f()
}

/// Runs `f` and catches nothing: a race or an assertion that loom finds in `f` is a panic, which
/// must not be swallowed.
pub(crate) fn caught(f: impl FnOnce()) -> std::thread::Result<()> {
    f();
    Ok(())
}
