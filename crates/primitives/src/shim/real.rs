//! The shim over std: thin, inlined, without poison. A panic under a lock of ours leaves the data
//! as the last completed statement left it, so a poisoned flag would only turn one panic into two.

use std::sync::PoisonError;
use std::sync::{Condvar as StdCondvar, Mutex as StdMutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::coop;

/// Atomics: std's own.
pub mod atomic {
    pub use std::sync::atomic::{
        AtomicBool, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
        fence,
    };

    /// Loads what nobody else writes meanwhile, because of a lock, say. A model fails if somebody does.
    #[inline]
    pub fn load_unshared(atomic: &AtomicU32) -> u32 {
        // Relaxed: what keeps others from writing orders it.
        atomic.load(Ordering::Relaxed)
    }

    /// A count of references; an atomic as others here, which models see only if they ask to.
    pub type AtomicCount = AtomicU32;
}

/// The guard of a [`Mutex`].
pub use std::sync::MutexGuard;

/// A mutual exclusion lock that is never poisoned.
#[derive(Debug, Default)]
pub struct Mutex<T>(
    /// std's lock; its poison flag is ignored.
    StdMutex<T>,
);

impl<T> Mutex<T> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(StdMutex::new(value))
    }

    /// Locks, waiting for as long as it takes.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, through exclusive access.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value; the lock is gone.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A condition variable for a [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar(
    /// std's condition variable.
    StdCondvar,
);

impl Condvar {
    /// A condition variable that nobody waits on.
    pub const fn new() -> Self {
        Self(StdCondvar::new())
    }

    /// Unlocks, waits for a notification (or for nothing: wake-ups may be spurious), locks again.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`wait`](Self::wait), for at most `limit`.
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> MutexGuard<'a, T> {
        self.0.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wakes one waiting thread.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes every waiting thread.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A cell whose content is reached through closures, so that loom can watch each access.
#[derive(Debug, Default)]
pub struct UnsafeCell<T>(
    /// std's cell.
    std::cell::UnsafeCell<T>,
);

impl<T> UnsafeCell<T> {
    /// A cell around `value`.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Hands out a pointer for reading.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Hands out a pointer for writing.
    #[inline]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Threads with names.
pub mod thread {
    use std::cell::Cell;
    use std::num::NonZero;
    use std::sync::atomic::{AtomicUsize, Ordering};

    pub use std::thread::JoinHandle;

    /// The calling thread's number, by the order in which threads first asked: to spread them.
    #[inline]
    pub fn number() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        thread_local! {
            static NUMBER: Cell<Option<NonZero<usize>>> = const { Cell::new(None) };
        }
        let new = || {
            // Relaxed: all that counts is that no two get the same.
            let number = NonZero::new(NEXT.fetch_add(1, Ordering::Relaxed));
            NUMBER.set(number);
            number
        };
        NUMBER.get().or_else(new).map_or(0, NonZero::get)
    }

    /// Starts a named thread.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says when it has no thread to give.
    pub fn spawn<T: Send + 'static>(
        name: String,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<JoinHandle<T>> {
        std::thread::Builder::new().name(name).spawn(f)
    }
}

/// Wakes, if there is somebody to wake. Every wake of these crates goes through here or through a [`WakeBatch`](crate::WakeBatch)
/// (which calls this), so that a model can drop one and see what breaks.
#[inline]
pub fn wake(waker: impl Into<Option<Waker>>) {
    if let Some(waker) = waker.into() {
        waker.wake();
    }
}

/// Where a batch of wakes is called for, so that a model can drop just these; here, nothing.
#[derive(Debug)]
pub(crate) struct WakeSite;

impl WakeSite {
    /// The calling place.
    #[inline]
    pub(crate) const fn here() -> Self {
        Self
    }

    /// Whether the wakes happen: they do.
    #[inline]
    pub(crate) const fn wakes(&self) -> bool {
        true
    }
}

/// Releases `guard`, then runs `f`: the one form in which user code (wakers, callbacks,
/// destructors) follows a critical section. A model can hold the guard over `f` to see whether a
/// test would notice.
#[inline]
pub fn release_then<G, R>(guard: G, f: impl FnOnce() -> R) -> R {
    drop(guard);
    f()
}

/// Runs a future to its end on this thread, parking it in between. Also on a thread of a runtime, in a task whose cooperative
/// budget is spent.
pub fn block_on<F: Future>(future: F) -> F::Output {
    block(future, None).expect("without a limit it waits for the end")
}

/// Runs a future on this thread, parking it in between, for at most so long; zero polls it once.
pub fn block_on_for<F: Future>(future: F, limit: Duration) -> Option<F::Output> {
    // A limit that is too long for the clock is none.
    match Instant::now().checked_add(limit) {
        Some(until) => block(future, Some(until)),
        None => Some(block_on(future)),
    }
}

/// Runs a future on this thread until then.
fn block<F: Future>(future: F, until: Option<Instant>) -> Option<F::Output> {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = std::pin::pin!(coop::unconstrained(future));
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        // A park may end without an unpark; then the future is polled once too often.
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}

/// Runs `f` and catches its panic. Under loom nothing is caught: loom tells what it found by
/// panicking.
pub(crate) fn caught(f: impl FnOnce()) -> std::thread::Result<()> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f))
}
