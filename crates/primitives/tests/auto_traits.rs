//! What may cross threads, and what may move.

use std::cell::Cell;
use std::rc::Rc;

use selvedge_primitives::time::{Expiry, ManualClock, Ticket, Timer, TimerError};
use selvedge_primitives::{
    Anchor, Condvar, Entry, Left, LineId, LineWaiter, Lines, Locked, LockedLines, Mutex, NextItem,
    Origin, SpareLines, UnsafeCell, WaitQueue, Waiter, WakeBatch,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

// A queued node is pointed at by its neighbours: a waiter that moved would leave them dangling.
assert_impl_all!(Waiter<'static, (), (), ()>: Send, Sync);
assert_not_impl_any!(Waiter<'static, (), (), ()>: Unpin);
assert_not_impl_any!(Waiter<'static, Rc<u8>, (), ()>: Send, Sync);
assert_not_impl_any!(Waiter<'static, (), Rc<u8>, ()>: Send, Sync);
assert_not_impl_any!(Waiter<'static, (), (), Rc<u8>>: Send, Sync);

// The lock makes a queue of Send things Sync, and nothing makes other things Send.
assert_impl_all!(WaitQueue<Cell<u8>, Cell<u8>, Cell<u8>>: Send, Sync, Unpin);
assert_not_impl_any!(WaitQueue<Rc<u8>, (), ()>: Send, Sync);
assert_not_impl_any!(WaitQueue<(), Rc<u8>, ()>: Send, Sync);
assert_not_impl_any!(WaitQueue<(), (), Rc<u8>>: Send, Sync);
assert_not_impl_any!(Locked<'static, (), (), ()>: Send);

// The same of many lines; a waiter may be looked at from two threads, as far as that goes.
assert_impl_all!(LineWaiter<'static, (), (), (), ()>: Send, Sync);
assert_not_impl_any!(LineWaiter<'static, (), (), (), ()>: Unpin);
assert_not_impl_any!(LineWaiter<'static, Rc<u8>, (), (), ()>: Send, Sync);
assert_not_impl_any!(LineWaiter<'static, (), Rc<u8>, (), ()>: Send, Sync);
assert_not_impl_any!(LineWaiter<'static, (), (), Rc<u8>, ()>: Send, Sync);
assert_not_impl_any!(LineWaiter<'static, (), (), (), Rc<u8>>: Send, Sync);
assert_impl_all!(Lines<Cell<u8>, Cell<u8>, Cell<u8>, Cell<u8>>: Send, Sync, Unpin);
assert_not_impl_any!(Lines<Rc<u8>, (), (), ()>: Send, Sync);
assert_not_impl_any!(Lines<(), Rc<u8>, (), ()>: Send, Sync);
assert_not_impl_any!(LockedLines<'static, (), (), (), ()>: Send);
assert_impl_all!(SpareLines<u8, u8, u8>: Send, Unpin);
assert_impl_all!(LineId: Send, Sync, Copy, Unpin);

assert_impl_all!(Anchor<'static, u8>: Send, Sync, Unpin);
assert_not_impl_any!(Anchor<'static, Cell<u8>>: Send, Sync);
assert_impl_all!(Entry<u8, u8>: Send, Sync, Unpin);
assert_impl_all!(Left<u8, u8>: Send, Sync, Unpin);
assert_impl_all!(WakeBatch: Send, Sync, Unpin);

assert_impl_all!(Mutex<Cell<u8>>: Send, Sync, Unpin);
assert_not_impl_any!(Mutex<Rc<u8>>: Send, Sync);
assert_impl_all!(Condvar: Send, Sync, Unpin);
assert_impl_all!(UnsafeCell<u8>: Send, Unpin);
assert_not_impl_any!(UnsafeCell<u8>: Sync);

assert_impl_all!(Origin: Send, Sync, Unpin);
assert_impl_all!(NextItem<'static, u8>: Send, Sync, Unpin);
assert_not_impl_any!(NextItem<'static, Rc<u8>>: Send, Sync);
assert_impl_all!(Timer: Send, Sync, Unpin);
assert_impl_all!(ManualClock: Send, Sync, Unpin);
assert_impl_all!(Ticket: Send, Sync, Unpin);
assert_impl_all!(Expiry: Send, Sync, Unpin);
assert_impl_all!(TimerError: Send, Sync, Unpin);

#[cfg(feature = "model-channel")]
mod channel {
    use super::*;
    use selvedge_primitives::channel::{
        Receiver, Recv, RecvError, Send as SendFuture, SendError, Sender, TryRecvError,
        TrySendError,
    };

    // The lock makes a channel of Send things Sync; a future stands in a queue.
    assert_impl_all!(Sender<Cell<u8>>: Send, Sync, Unpin, Clone);
    assert_impl_all!(Receiver<Cell<u8>>: Send, Sync, Unpin, Clone);
    assert_not_impl_any!(Sender<Rc<u8>>: Send, Sync);
    assert_not_impl_any!(Receiver<Rc<u8>>: Send, Sync);
    assert_impl_all!(SendFuture<'static, u8>: Send, Sync);
    assert_impl_all!(Recv<'static, Cell<u8>>: Send, Sync);
    assert_not_impl_any!(SendFuture<'static, u8>: Unpin);
    assert_not_impl_any!(Recv<'static, u8>: Unpin);
    assert_impl_all!(SendError<u8>: Send, Sync, Unpin, std::error::Error);
    assert_impl_all!(TrySendError<u8>: Send, Sync, Unpin, std::error::Error);
    assert_impl_all!(RecvError: Send, Sync, Unpin, std::error::Error);
    assert_impl_all!(TryRecvError: Send, Sync, Unpin, std::error::Error);
}

assert_impl_all!(selvedge_primitives::SpinGuard<'static, u8>: Sync, Unpin);
assert_not_impl_any!(selvedge_primitives::SpinGuard<'static, u8>: Send);
assert_impl_all!(selvedge_primitives::time::Moment: Send, Sync, Unpin);
assert_impl_all!(selvedge_primitives::time::Now: Send, Sync, Unpin, Copy);
assert_impl_all!(selvedge_primitives::observe::Subject: Send, Sync, Unpin);
assert_impl_all!(selvedge_primitives::observe::Place: Send, Sync, Unpin, Copy);

#[cfg(feature = "observe")]
mod observe {
    use super::*;
    use selvedge_primitives::observe::{AlreadyInstalled, Event, Happened, Observer, Wait};
    use static_assertions::assert_obj_safe;

    assert_obj_safe!(Observer);
    assert_impl_all!(Event<'static>: Send, Sync, Unpin, Copy);
    assert_impl_all!(Happened: Send, Sync, Unpin, Copy);
    assert_impl_all!(Wait: Send, Sync, Unpin, Copy);
    assert_impl_all!(AlreadyInstalled: Send, Sync, Unpin, std::error::Error);
}
