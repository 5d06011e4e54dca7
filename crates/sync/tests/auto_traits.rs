//! What may cross threads and what may move, pinned for every public type.
#![cfg(not(selvedge_loom))]

use std::error::Error;
use std::panic::{RefUnwindSafe, UnwindSafe};

use selvedge_sync::{
    Acquire, AcquireError, AcquireOwned, OwnedPermit, Permit, Semaphore, TryAcquireError,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(Semaphore: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Permit<'_>: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(OwnedPermit: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Acquire<'_>: Send, Sync);
assert_impl_all!(AcquireOwned: Send, Sync);
assert_impl_all!(AcquireError: Error, Send, Sync, Copy, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(TryAcquireError: Error, Send, Sync, Copy, Unpin, UnwindSafe, RefUnwindSafe);

// The line points at futures that wait, so they stay where they are.
assert_not_impl_any!(Acquire<'_>: Unpin);
assert_not_impl_any!(AcquireOwned: Unpin);

// Whoever has a copy of a permit has one permit too many.
assert_not_impl_any!(Permit<'_>: Clone);
assert_not_impl_any!(OwnedPermit: Clone);
