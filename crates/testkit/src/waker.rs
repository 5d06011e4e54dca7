//! Wakers that count, panic, or call back.
//!
//! Three faces over the one waker of `raw`, which counts what happens to its handles and can run a
//! closure when it is woken and when a handle is dropped.

mod raw;

use std::sync::Arc;
use std::task::Waker;

use raw::Core;

/// Counts what a structure does with the waker it is given.
///
/// Clones of the `CountingWaker` itself look at the same counts.
///
/// # Examples
///
/// ```
/// use selvedge_testkit::CountingWaker;
///
/// let counting = CountingWaker::new();
/// let waker = counting.waker();
/// let stored = waker.clone();
/// drop(waker);
/// assert_eq!((counting.clones(), counting.drops(), counting.live()), (1, 1, 1));
///
/// stored.wake();
/// assert_eq!((counting.wakes(), counting.live()), (1, 0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct CountingWaker {
    /// The counts, shared with every handle.
    core: Arc<Core>,
}

impl CountingWaker {
    /// Counts that stand at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle whose fate is counted.
    pub fn waker(&self) -> Waker {
        raw::waker(&self.core)
    }

    /// How often a handle was woken, by value or by reference.
    pub fn wakes(&self) -> usize {
        self.core.wakes()
    }

    /// How often a handle was cloned; [`waker`](Self::waker) does not count.
    pub fn clones(&self) -> usize {
        self.core.clones()
    }

    /// How many handles are gone, dropped or woken by value.
    pub fn drops(&self) -> usize {
        self.core.drops()
    }

    /// How many handles are alive.
    pub fn live(&self) -> usize {
        self.core.live()
    }
}

/// Panics when it is woken, to show what a structure loses when a waker panics under its hands.
///
/// # Examples
///
/// ```
/// use std::panic::catch_unwind;
///
/// use selvedge_testkit::PanickingWaker;
///
/// let panicking = PanickingWaker::new();
/// let waker = panicking.waker();
/// assert!(catch_unwind(|| waker.wake()).is_err());
/// assert_eq!(panicking.wakes(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct PanickingWaker {
    /// Panics when woken.
    core: Arc<Core>,
}

impl PanickingWaker {
    /// A waker that panics.
    pub fn new() -> Self {
        let core = Core::default().with_on_wake(|| panic!("a PanickingWaker was woken"));
        Self { core: Arc::new(core) }
    }

    /// A handle that panics when it is woken.
    pub fn waker(&self) -> Waker {
        raw::waker(&self.core)
    }

    /// How often a handle was woken.
    pub fn wakes(&self) -> usize {
        self.core.wakes()
    }

    /// How many handles are alive.
    pub fn live(&self) -> usize {
        self.core.live()
    }
}

impl Default for PanickingWaker {
    fn default() -> Self {
        Self::new()
    }
}

/// Calls back when it is woken, and when a handle is dropped.
///
/// A closure that uses the structure under test hangs or panics if that structure wakes, or drops
/// a waker, while it holds its own lock. Run such a test under a [`watchdog`](crate::watchdog()).
/// A closure that owns the structure, and a structure that owns the waker, keep each other alive:
/// capture a `Weak`, or end the test by waking.
///
/// # Examples
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use selvedge_testkit::ReentrantWaker;
///
/// let queue = Arc::new(Mutex::new(Vec::new()));
/// let again = Arc::clone(&queue);
/// let reentrant = ReentrantWaker::on_wake(move || {
///     again.try_lock().expect("woken outside the lock").push("woken");
/// });
///
/// reentrant.waker().wake();
/// assert_eq!(*queue.lock().unwrap(), ["woken"]);
/// ```
#[derive(Clone, Debug)]
pub struct ReentrantWaker {
    /// Calls back.
    core: Arc<Core>,
}

impl ReentrantWaker {
    /// Runs `f` at each wake, before `wake` returns.
    pub fn on_wake(f: impl Fn() + Send + Sync + 'static) -> Self {
        Self { core: Arc::new(Core::default().with_on_wake(f)) }
    }

    /// Runs `f` whenever a handle goes: each clone that is dropped, and each wake by value.
    pub fn on_drop(f: impl Fn() + Send + Sync + 'static) -> Self {
        Self { core: Arc::new(Core::default().with_on_drop(f)) }
    }

    /// Runs `woken` at each wake, and `dropped` whenever a handle goes.
    pub fn on_wake_and_drop(
        woken: impl Fn() + Send + Sync + 'static,
        dropped: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { core: Arc::new(Core::default().with_on_wake(woken).with_on_drop(dropped)) }
    }

    /// A handle that calls back.
    pub fn waker(&self) -> Waker {
        raw::waker(&self.core)
    }

    /// How often a handle was woken.
    pub fn wakes(&self) -> usize {
        self.core.wakes()
    }

    /// How many handles are alive.
    pub fn live(&self) -> usize {
        self.core.live()
    }
}
