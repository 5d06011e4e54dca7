//! `Send`, `Sync` and `Unpin` of every public type.

use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::cell::Cell;
use std::rc::Rc;

use selvedge_fanio::{
    Closed, Counts, Emitted, Entry, Exit, Next, Order, Reserve, Slot, TryNextError,
    TryReserveError, WindowError,
};

/// May move to another thread, and not be shared.
type Movable = Cell<u8>;
/// May do neither.
type Local = Rc<u8>;

assert_impl_all!(Entry<Movable>: Send, Sync, Unpin);
assert_impl_all!(Exit<Movable>: Send, Sync, Unpin);
assert_impl_all!(Slot<Movable>: Send, Sync, Unpin);
assert_impl_all!(Next<'static, Movable>: Send, Sync, Unpin);
assert_impl_all!(Reserve<'static, Movable>: Send, Sync);

assert_not_impl_any!(Entry<Local>: Send, Sync);
assert_not_impl_any!(Exit<Local>: Send, Sync);
assert_not_impl_any!(Slot<Local>: Send, Sync);
assert_not_impl_any!(Next<'static, Local>: Send, Sync);
assert_not_impl_any!(Reserve<'static, Local>: Send, Sync);

assert_impl_all!(Emitted<u8>: Send, Sync, Unpin, Copy);
assert_impl_all!(Counts: Send, Sync, Unpin, Copy);
assert_impl_all!(Order: Send, Sync, Unpin, Copy);
assert_impl_all!(Closed: std::error::Error, Send, Sync, Unpin, Copy);
assert_impl_all!(TryReserveError: std::error::Error, Send, Sync, Unpin, Copy);
assert_impl_all!(TryNextError: std::error::Error, Send, Sync, Unpin, Copy);
assert_impl_all!(WindowError: std::error::Error, Send, Sync, Unpin, Copy);
