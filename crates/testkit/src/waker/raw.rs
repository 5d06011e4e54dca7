//! The waker below the faces: an `Arc` behind a hand-written vtable.
//!
//! `std::task::Wake` makes a waker of an `Arc` without unsafe code, but tells nobody when a handle
//! is cloned or dropped. Here each handle (a `Waker`) owns one strong count of the core:
//!
//! | vtable entry | strong counts | what is counted |
//! |---|---|---|
//! | `clone` | one more | `clones` |
//! | `wake_by_ref` | the same | `wakes` |
//! | `wake` | one less | `wakes`, then `drops` |
//! | `drop` | one less | `drops` |
//!
//! Counts rise before the closures run, and the strong count is given back also when one panics.
#![allow(unsafe_code, reason = "a vtable is written by hand to see what std's does not tell")]

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{RawWaker, RawWakerVTable, Waker};

/// What a waker runs when something happens to it.
type Callback = Box<dyn Fn() + Send + Sync>;

/// The counts and closures that every handle of a waker shares.
#[derive(Default)]
pub(super) struct Core {
    /// Handles made by [`waker`].
    made: AtomicUsize,
    /// Handles made by cloning one.
    clones: AtomicUsize,
    /// Handles gone.
    drops: AtomicUsize,
    /// Wakes by value and by reference.
    wakes: AtomicUsize,
    /// Runs at each wake.
    on_wake: Option<Callback>,
    /// Runs when a handle goes.
    on_drop: Option<Callback>,
}

impl Core {
    /// Runs `f` at each wake.
    pub(super) fn with_on_wake(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_wake = Some(Box::new(f));
        self
    }

    /// Runs `f` when a handle goes.
    pub(super) fn with_on_drop(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_drop = Some(Box::new(f));
        self
    }

    /// Wakes so far.
    pub(super) fn wakes(&self) -> usize {
        read(&self.wakes)
    }

    /// Clones so far.
    pub(super) fn clones(&self) -> usize {
        read(&self.clones)
    }

    /// Handles gone so far.
    pub(super) fn drops(&self) -> usize {
        read(&self.drops)
    }

    /// Handles alive.
    ///
    /// The drops are read first: a handle is counted as made before it can be dropped, so a
    /// difference taken while others clone and drop is too large at most, never below zero.
    pub(super) fn live(&self) -> usize {
        let drops = read(&self.drops);
        (read(&self.made) + read(&self.clones)).saturating_sub(drops)
    }

    /// Counts a wake and runs its closure.
    fn wake(&self) {
        add_one(&self.wakes);
        if let Some(on_wake) = &self.on_wake {
            on_wake();
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("wakes", &self.wakes())
            .field("clones", &self.clones())
            .field("drops", &self.drops())
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}

/// Reads a counter.
fn read(counter: &AtomicUsize) -> usize {
    // Relaxed: a counter; nothing is published through it.
    counter.load(Ordering::Relaxed)
}

/// Counts one more.
fn add_one(counter: &AtomicUsize) {
    // Relaxed: a counter; nothing is published through it.
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The strong count of one handle; dropping it is what the end of a handle means.
struct Handle {
    /// The core that the handle kept alive.
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        add_one(&self.core.drops);
        if let Some(on_drop) = &self.core.on_drop {
            on_drop();
        }
    }
}

/// A static, not a constant: `Waker::will_wake` compares its address.
static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_handle);

/// A new handle of `core`.
pub(super) fn waker(core: &Arc<Core>) -> Waker {
    add_one(&core.made);
    let data = Arc::into_raw(Arc::clone(core)).cast();
    // SAFETY: `data` comes from `Arc::into_raw` of an `Arc<Core>` and carries one strong count,
    // which is what each entry of `VTABLE` asks for. `Core` is `Send + Sync`, as its closures are,
    // so the entries may be called from any thread.
    unsafe { Waker::new(data, &VTABLE) }
}

/// Takes over the strong count behind `data`.
///
/// # Safety
///
/// `data` is the data of a handle made here, and that handle is not used again.
unsafe fn take(data: *const ()) -> Handle {
    // SAFETY: the caller gives up a handle, whose `data` came from `Arc::into_raw` of an
    // `Arc<Core>` and owns one strong count; nothing else gives that count back.
    let core = unsafe { Arc::from_raw(data.cast::<Core>()) };
    Handle { core }
}

/// Looks at the core behind `data` and leaves its strong count where it is.
///
/// # Safety
///
/// `data` is the data of a handle made here, which outlives what is returned.
unsafe fn borrow(data: *const ()) -> ManuallyDrop<Arc<Core>> {
    // SAFETY: `data` came from `Arc::into_raw` of an `Arc<Core>`, and the handle's strong count
    // keeps the core alive. `ManuallyDrop` never gives that count back.
    ManuallyDrop::new(unsafe { Arc::from_raw(data.cast::<Core>()) })
}

/// The vtable's `clone`.
///
/// # Safety
///
/// `data` is the data of a handle that lives during the call.
unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the caller's handle lives during this call, and the borrow ends with it.
    let core = unsafe { borrow(data) };
    add_one(&core.clones);
    RawWaker::new(Arc::into_raw(Arc::clone(&core)).cast(), &VTABLE)
}

/// The vtable's `wake`.
///
/// # Safety
///
/// `data` is the data of a handle that is not used again.
unsafe fn wake(data: *const ()) {
    // SAFETY: the caller gives its handle up.
    let handle = unsafe { take(data) };
    handle.core.wake();
}

/// The vtable's `wake_by_ref`.
///
/// # Safety
///
/// `data` is the data of a handle that lives during the call.
unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: the caller's handle lives during this call, and the borrow ends with it.
    let core = unsafe { borrow(data) };
    core.wake();
}

/// The vtable's `drop`.
///
/// # Safety
///
/// `data` is the data of a handle that is not used again.
unsafe fn drop_handle(data: *const ()) {
    // SAFETY: the caller gives its handle up.
    drop(unsafe { take(data) });
}
