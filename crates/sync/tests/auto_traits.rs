//! What may cross threads and what may move, pinned for every public type.
#![cfg(not(selvedge_loom))]

use std::cell::Cell;
use std::error::Error;
use std::fmt::Debug;
use std::future::Ready;
use std::panic::{RefUnwindSafe, UnwindSafe};

use selvedge_sync::{
    Acquire, AcquireError, AcquireKeyed, AcquireOwned, AddError, AgeingQueue, Backoff,
    BackoffError, Barrier, BarrierError, BarrierWait, CapacityError, ClassCountError, Counts,
    Delays, Failure, Fairness, Fault, FlightWait, GroupTask, Jitter, Join, JoinError, Joined,
    KeyedError, KeyedLanes, KeyedLock, KeyedPermit, KeyedSemaphore, LaneHold, LanesClosed, Latch,
    LatchWait, Lease, MergeError, Next, NoParties, NoSuchClass, OwnedPermit, OwnedWaitGuard,
    Passed, Permit, Refusal, Reserve, Semaphore, SingleFlight, SingleFlightBuilder, Slot,
    SpawnError, TakeLease, TaskFailed, TaskGroup, TaskGroupBuilder, TaskGroupError,
    TryAcquireError, TryKeyedError, WaitGroup, WaitGroupWait, WaitGuard, Within, WithinOrCause,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(Semaphore: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Permit<'_>: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(OwnedPermit: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Acquire<'_>: Send, Sync);
assert_impl_all!(AcquireOwned: Send, Sync);
assert_impl_all!(AcquireError: Error, Clone, Eq, Send, Sync, Unpin);
assert_impl_all!(TryAcquireError: Error, Send, Sync, Copy, Unpin, UnwindSafe, RefUnwindSafe);

// The line points at futures that wait, so they stay where they are.
assert_not_impl_any!(Acquire<'_>: Unpin);
assert_not_impl_any!(AcquireOwned: Unpin);
assert_impl_all!(WithinOrCause<'_, Acquire<'_>>: Debug, Send, Sync);
assert_impl_all!(WithinOrCause<'static, AcquireOwned>: Debug, Send, Sync);
assert_not_impl_any!(WithinOrCause<'_, Acquire<'_>>: Unpin);
assert_not_impl_any!(WithinOrCause<'static, AcquireOwned>: Unpin);
assert_impl_all!(Fairness: Copy, Debug, Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(CapacityError: Error, Copy, Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(MergeError<Permit<'_>>: Error, Send, Sync, Unpin);

// Whoever has a copy of a permit has one permit too many.
assert_not_impl_any!(Permit<'_>: Clone);
assert_not_impl_any!(OwnedPermit: Clone);

assert_impl_all!(Latch: Debug, Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(LatchWait<'_>: Debug, Send, Sync);
assert_not_impl_any!(LatchWait<'_>: Unpin);
assert_impl_all!(Within<'_, LatchWait<'_>>: Debug, Send, Sync);
assert_not_impl_any!(Within<'_, LatchWait<'_>>: Unpin);

assert_impl_all!(WaitGroup: Debug, Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(WaitGuard<'_>: Debug, Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(OwnedWaitGuard: Debug, Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(WaitGroupWait<'_>: Debug, Send, Sync);
assert_impl_all!(AddError: Error, Send, Sync, Copy, Unpin, UnwindSafe, RefUnwindSafe);
assert_not_impl_any!(WaitGroupWait<'_>: Unpin);
assert_impl_all!(Within<'_, WaitGroupWait<'_>>: Debug, Send, Sync);
assert_not_impl_any!(Within<'_, WaitGroupWait<'_>>: Unpin);
// Whoever has a copy of a guard is done twice.
assert_not_impl_any!(WaitGuard<'_>: Clone);
assert_not_impl_any!(OwnedWaitGuard: Clone);

/// May go to another thread and not be looked at from two: what tasks return need not be `Sync`.
type Value = Cell<u32>;
/// Likewise.
type Fails = Cell<i32>;

assert_impl_all!(TaskGroup<Value, Fails>: Debug, Send, Sync, Unpin);
assert_impl_all!(TaskGroupBuilder<'_, Value, Fails>: Debug, Send, Sync, Unpin);
assert_impl_all!(Join<'_, Value, Fails>: Debug, Send, Sync);
assert_impl_all!(Reserve<'_, Value, Fails>: Debug, Send, Sync);
assert_impl_all!(Slot<'_, Value, Fails>: Debug, Send, Sync, Unpin);
assert_impl_all!(GroupTask<Value, Fails, Ready<()>>: Debug, Send, Sync);
assert_impl_all!(Joined<Value, Fails>: Debug, Send, Unpin);
assert_impl_all!(Failure<Fails>: Debug, Send, Unpin);
assert_impl_all!(Fault<Fails>: Debug, Send, Unpin);
assert_impl_all!(JoinError<String>: Error, Send, Sync, Unpin);
assert_impl_all!(SpawnError<Ready<()>>: Error, Send, Sync, Unpin);
assert_impl_all!(Refusal: Error, Send, Sync, Clone, Unpin);
assert_impl_all!(TaskGroupError: Error, Send, Sync, Clone, Eq, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Next<'_, Value, Fails>: Debug, Send, Sync);
assert_not_impl_any!(Next<'_, Value, Fails>: Unpin);
assert_impl_all!(TaskFailed: Error, Send, Sync, Clone, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Counts: Debug, Send, Sync, Copy, Unpin, UnwindSafe, RefUnwindSafe);
assert_not_impl_any!(Join<'_, Value, Fails>: Unpin);
assert_not_impl_any!(Reserve<'_, Value, Fails>: Unpin);
assert_not_impl_any!(GroupTask<Value, Fails, Ready<()>>: Unpin);
// A local task stays on its thread.
assert_not_impl_any!(GroupTask<Value, Fails, Ready<std::rc::Rc<()>>>: Send);
// Room used twice is room for two.
assert_not_impl_any!(Slot<'_, Value, Fails>: Clone);

/// What needs tokio.
#[cfg(feature = "tokio")]
mod with_tokio {
    use super::{Debug, Fails, Ready, Value, assert_impl_all, assert_not_impl_any};
    use selvedge_sync::Spawn;

    assert_impl_all!(Spawn<'_, Value, Fails, Ready<()>>: Debug, Send, Sync);
    assert_not_impl_any!(Spawn<'_, Value, Fails, Ready<()>>: Unpin);
}

/// May go to another thread and not be looked at from two: the keys of a single flight.
type Key = Cell<u32>;
type Flights = SingleFlight<Key, u32, String>;
type MakesWork = fn() -> Ready<Result<u32, String>>;

assert_impl_all!(Flights: Debug, Clone, Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(SingleFlightBuilder<Key, u32, String>: Debug, Send, Sync, Unpin);
assert_impl_all!(FlightWait<'_, Key, u32, String, MakesWork>: Debug, Send);
assert_not_impl_any!(FlightWait<'_, Key, u32, String, MakesWork>: Sync, Unpin);
assert_impl_all!(FlightWait<'_, u32, u32, String, MakesWork>: Sync);
assert_impl_all!(Within<'_, FlightWait<'_, Key, u32, String, MakesWork>>: Debug, Send);
assert_not_impl_any!(Within<'_, FlightWait<'_, Key, u32, String, MakesWork>>: Unpin);

assert_impl_all!(Barrier: Debug, Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(BarrierWait<'_>: Debug, Send, Sync);
assert_not_impl_any!(BarrierWait<'_>: Unpin);
assert_impl_all!(Within<'_, BarrierWait<'_>>: Debug, Send, Sync);
assert_not_impl_any!(Within<'_, BarrierWait<'_>>: Unpin);
assert_impl_all!(Passed: Debug, Send, Sync, Copy, Unpin);
assert_impl_all!(BarrierError: Error, Send, Sync, Copy, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(NoParties: Error, Send, Sync, Copy, Unpin, UnwindSafe, RefUnwindSafe);

assert_impl_all!(AgeingQueue<Value>: Debug, Clone, Send, Unpin, UnwindSafe);
assert_impl_all!(AgeingQueue<u32>: Sync, RefUnwindSafe);
assert_impl_all!(NoSuchClass<Value>: Error, Send);
assert_impl_all!(ClassCountError: Error, Send, Sync, Copy, Unpin, UnwindSafe, RefUnwindSafe);

assert_impl_all!(KeyedLanes<Key, Value>: Debug, Clone, Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(TakeLease<'_, Key, Value>: Debug, Send, Sync);
assert_impl_all!(Lease<Key, Value>: Debug, Send, Unpin);
assert_impl_all!(LaneHold<Key, Value>: Debug, Send, Sync, Unpin);
assert_impl_all!(LanesClosed<Key, Value>: Error, Send, Unpin);
assert_not_impl_any!(TakeLease<'_, Key, Value>: Unpin);
assert_impl_all!(Within<'_, TakeLease<'_, Key, Value>>: Debug, Send, Sync);
assert_not_impl_any!(Within<'_, TakeLease<'_, Key, Value>>: Unpin);
// Whoever has a copy of a lease hands its lane on twice.
assert_not_impl_any!(Lease<Key, u32>: Clone);
assert_not_impl_any!(LaneHold<Key, Value>: Clone);

assert_impl_all!(Backoff: Debug, Send, Sync, Copy, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Jitter: Debug, Send, Sync, Copy, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(BackoffError: Error, Send, Sync, Copy, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Delays: Debug, Clone, Iterator, Send, Unpin, UnwindSafe);

assert_impl_all!(KeyedSemaphore<Key>: Debug, Clone, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(KeyedSemaphore<String>: Send, Sync);
assert_impl_all!(KeyedLock<Key>: Debug, Clone, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(KeyedLock<String>: Send, Sync);
assert_impl_all!(KeyedPermit<String>: Debug, Send, Sync, Unpin);
assert_impl_all!(AcquireKeyed<String>: Debug, Send, Sync);
assert_impl_all!(WithinOrCause<'_, AcquireKeyed<String>>: Debug, Send, Sync);
assert_not_impl_any!(AcquireKeyed<String>: Unpin);
assert_not_impl_any!(WithinOrCause<'_, AcquireKeyed<String>>: Unpin);
assert_impl_all!(KeyedError: Error, Clone, Send, Sync, Unpin);
assert_impl_all!(TryKeyedError: Error, Copy, Eq, Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
// Whoever has a copy of a permit has one permit too many.
assert_not_impl_any!(KeyedPermit<String>: Clone);
