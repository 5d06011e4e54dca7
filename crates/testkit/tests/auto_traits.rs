//! What may cross threads, and what may move.

use std::marker::PhantomPinned;
use std::rc::Rc;

use selvedge_testkit::{
    Allocations, CountingAllocator, CountingWaker, Ended, ForEach, ManualExecutor, Mode, Next,
    PanickingWaker, ReentrantWaker, Run, Summary, Task, YieldNow,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(Summary: Send, Sync, Unpin);
assert_impl_all!(Mode: Send, Sync, Unpin);
assert_impl_all!(Run: Send, Sync, Unpin);
assert_impl_all!(Ended<u8>: Send, Sync, Unpin);
assert_not_impl_any!(Ended<Rc<u8>>: Send, Sync);
assert_impl_all!(CountingWaker: Send, Sync, Unpin);
assert_impl_all!(PanickingWaker: Send, Sync, Unpin);
assert_impl_all!(ReentrantWaker: Send, Sync, Unpin);
assert_impl_all!(CountingAllocator: Send, Sync, Unpin);
assert_impl_all!(Allocations: Send, Sync, Unpin);
assert_impl_all!(YieldNow: Send, Sync, Unpin);
assert_impl_all!(Next<'static, u8>: Send, Sync, Unpin);
assert_not_impl_any!(Next<'static, Rc<u8>>: Send, Sync);
assert_impl_all!(ForEach<PhantomPinned, PhantomPinned>: Send, Sync, Unpin);
assert_not_impl_any!(ForEach<Rc<u8>, u8>: Send, Sync);
assert_impl_all!(ManualExecutor<'static>: Unpin);
assert_not_impl_any!(ManualExecutor<'static>: Send, Sync);
assert_impl_all!(Task<u8>: Unpin);
assert_not_impl_any!(Task<u8>: Send, Sync);
