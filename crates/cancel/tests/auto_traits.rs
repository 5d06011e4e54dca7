//! What may cross threads, and what may move.

use std::hash::Hash;
use std::marker::PhantomPinned;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use selvedge_cancel::compat::{
    CancellationToken, DropGuard, DropGuardRef, RunUntilCancelledFuture,
    RunUntilCancelledFutureOwned, WaitForCancellationFuture, WaitForCancellationFutureOwned,
};
use selvedge_cancel::{
    CallbackEnded, CancelAndWait, Cancelled, Canceller, Cause, CauseKind, ChildBuilder, Component,
    Context, DeadlineError, Entered, ManualClock, Registration, Revoked, Run, RunOrCause, Stopping,
    Straggler, Timer, TimerError, UntilEnd, Wait,
};
use static_assertions::{assert_impl_all, assert_not_impl_any, assert_obj_safe};

assert_impl_all!(Context: Send, Sync, Unpin, Clone);
assert_impl_all!(Canceller: Send, Sync, Unpin, Clone);
assert_impl_all!(Cause: Send, Sync, Unpin, Clone, std::error::Error);
assert_impl_all!(CauseKind: Send, Sync, Unpin, Copy);
assert_impl_all!(ChildBuilder<'static>: Send, Sync, Unpin);
assert_impl_all!(DeadlineError: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(ManualClock: Send, Sync, Unpin);
assert_impl_all!(Timer: Send, Sync, Unpin);
assert_impl_all!(TimerError: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(Straggler: Send, Sync, Unpin);
assert_impl_all!(Wait<'static>: Send, Unpin);
assert_obj_safe!(Component);

// A future that waits stands in a queue whose neighbours point at it.
assert_impl_all!(Cancelled: Send, Sync);
assert_not_impl_any!(Cancelled: Unpin);
assert_impl_all!(Stopping: Send, Sync);
assert_not_impl_any!(Stopping: Unpin);
assert_impl_all!(Run<u8>: Send, Sync);
assert_not_impl_any!(Run<u8>: Unpin);
assert_not_impl_any!(Run<PhantomPinned>: Unpin);
assert_not_impl_any!(Run<Rc<u8>>: Send, Sync);
assert_impl_all!(RunOrCause<u8>: Send, Sync);
assert_not_impl_any!(RunOrCause<u8>: Unpin);
assert_impl_all!(UntilEnd<u8>: Send, Sync);
assert_not_impl_any!(UntilEnd<u8>: Unpin);
assert_not_impl_any!(UntilEnd<Rc<u8>>: Send, Sync);
assert_impl_all!(CallbackEnded: Send, Sync);
assert_not_impl_any!(CallbackEnded: Unpin);
assert_impl_all!(CancelAndWait: Send, Sync);
assert_not_impl_any!(CancelAndWait: Unpin);
assert_impl_all!(Entered: Send, Sync, Unpin);
assert_impl_all!(Registration: Send, Sync, Unpin);
assert_impl_all!(Revoked: Send, Sync, Unpin, Copy);

// The token of `compat`, and what comes from it; it crosses an unwinding as tokio-util's does.
assert_impl_all!(CancellationToken: Send, Sync, Unpin, Clone, Default, Eq, Hash, UnwindSafe, RefUnwindSafe);
assert_impl_all!(DropGuard: Send, Sync, Unpin);
assert_not_impl_any!(DropGuard: Clone);
assert_impl_all!(DropGuardRef<'static>: Send, Sync, Unpin);
assert_not_impl_any!(DropGuardRef<'static>: Clone);
assert_impl_all!(WaitForCancellationFuture<'static>: Send, Sync);
assert_not_impl_any!(WaitForCancellationFuture<'static>: Unpin);
assert_impl_all!(WaitForCancellationFutureOwned: Send, Sync);
assert_not_impl_any!(WaitForCancellationFutureOwned: Unpin);
assert_impl_all!(RunUntilCancelledFuture<'static, u8>: Send, Sync);
assert_not_impl_any!(RunUntilCancelledFuture<'static, u8>: Unpin);
assert_not_impl_any!(RunUntilCancelledFuture<'static, Rc<u8>>: Send, Sync);
assert_impl_all!(RunUntilCancelledFutureOwned<u8>: Send, Sync);
assert_not_impl_any!(RunUntilCancelledFutureOwned<u8>: Unpin);
assert_not_impl_any!(RunUntilCancelledFutureOwned<Rc<u8>>: Send, Sync);

// A token that a context cancels.
#[cfg(feature = "tokio-util")]
assert_impl_all!(selvedge_cancel::LinkedToken: Send, Sync, Unpin);
