//! What may cross threads, and what may move.

use std::cell::Cell;
use std::rc::Rc;

use selvedge_primitives::time::{Expiry, ManualClock, Ticket, Timer, TimerError};
use selvedge_primitives::{
    Anchor, Condvar, Entry, Left, Locked, Mutex, Origin, UnsafeCell, WaitQueue, Waiter, WakeBatch,
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
assert_impl_all!(Timer: Send, Sync, Unpin);
assert_impl_all!(ManualClock: Send, Sync, Unpin);
assert_impl_all!(Ticket: Send, Sync, Unpin);
assert_impl_all!(Expiry: Send, Sync, Unpin);
assert_impl_all!(TimerError: Send, Sync, Unpin);
