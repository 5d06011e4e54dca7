//! What may cross threads, and what may move.
#![cfg(not(selvedge_loom))]

use std::cell::Cell;
use std::error::Error;
use std::marker::PhantomPinned;
use std::rc::Rc;

use selvedge_cancel::Component;
use selvedge_pool::{
    Completed, Drain, Ended, JobError, JobHandle, Ledger, Panic, Pool, PoolBuilder, PoolError,
    Reserve, ReserveError, ReserveResult, ResultSlot, Results, ResultsError, Slot, Submit,
    SubmitError, Submitter, Tasks, Threads, TrySubmitError, Watcher, Worker, WorkersLost,
};
use static_assertions::{assert_impl_all, assert_not_impl_any, assert_obj_safe};

/// Send, and not Sync.
type Job = Cell<u8>;

assert_impl_all!(Pool: Send, Sync, Unpin, Component);
assert_impl_all!(Pool<Tasks>: Send, Sync, Unpin, Component);
assert_impl_all!(Threads: Send, Sync, Unpin, Copy);
assert_impl_all!(Tasks: Send, Sync, Unpin, Copy);
assert_impl_all!(PoolBuilder: Send, Sync, Unpin, Clone);
assert_impl_all!(Watcher: Send, Sync, Unpin, Clone);
assert_impl_all!(Ledger: Send, Sync, Unpin, Copy);
assert_impl_all!(Slot: Send, Sync, Unpin);

assert_impl_all!(Submit<'static, Job, Job>: Send);
assert_not_impl_any!(Submit<'static, Job, Job>: Unpin);
assert_impl_all!(Reserve<'static>: Send, Sync);
assert_not_impl_any!(Reserve<'static>: Unpin);
assert_impl_all!(Drain<'static>: Send, Sync);
assert_not_impl_any!(Drain<'static>: Unpin);
assert_impl_all!(Ended: Send, Sync);
assert_not_impl_any!(Ended: Unpin);
assert_impl_all!(JobHandle<Job>: Send, Sync, Unpin);
assert_impl_all!(JobHandle<PhantomPinned>: Unpin);
assert_not_impl_any!(JobHandle<Rc<u8>>: Send, Sync);
assert_impl_all!(Worker: Send);
assert_not_impl_any!(Worker: Sync, Unpin);

assert_impl_all!(Submitter<Job, Tasks>: Send, Sync, Unpin);
assert_not_impl_any!(Submitter<Rc<u8>>: Send, Sync);
assert_impl_all!(ReserveResult<'static, Job>: Send, Sync);
assert_not_impl_any!(ReserveResult<'static, Job>: Unpin);
assert_impl_all!(ResultSlot<Job, Tasks>: Send, Sync, Unpin);
assert_impl_all!(Results<Job>: Send, Sync, Unpin);
assert_not_impl_any!(Results<Rc<u8>>: Send, Sync);
assert_impl_all!(Completed<u8>: Send, Sync, Unpin);
assert_impl_all!(Completed<Job>: Send, Unpin);

assert_impl_all!(PoolError: Error, Send, Sync, Unpin);
assert_impl_all!(JobError: Error, Send, Sync, Unpin);
assert_impl_all!(Panic: Send, Sync, Unpin);
assert_impl_all!(ReserveError: Error, Send, Sync, Unpin, Clone);
assert_impl_all!(SubmitError<u8>: Error, Send, Sync, Unpin);
assert_impl_all!(SubmitError<Job>: Error, Send);
assert_not_impl_any!(SubmitError<Job>: Sync);
assert_impl_all!(TrySubmitError<u8>: Error, Send, Sync, Unpin);
assert_impl_all!(TrySubmitError<Job>: Error, Send);
assert_not_impl_any!(TrySubmitError<Job>: Sync);
assert_impl_all!(ResultsError: Error, Send, Sync, Unpin, Copy);
assert_impl_all!(WorkersLost: Error, Send, Sync, Unpin, Copy);

assert_obj_safe!(Component);
