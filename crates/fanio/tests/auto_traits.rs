//! `Send`, `Sync` and `Unpin` of every public type.

use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::cell::Cell;
use std::rc::Rc;

use selvedge_fanio::{
    Closed, Counts, Emitted, Entry, Exit, FanOut, FanOutError, FanOutReport, Iter, Merge, Next,
    NextItem, Order, Outlet, Reserve, Route, Slot, Tagged, Take, TryNextError, TryReserveError,
    WindowError,
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

/// Streams and their items may be anything; a merge is what its sources are, and always `Unpin`.
type Pinned = (Movable, std::marker::PhantomPinned);
assert_impl_all!(Merge<Pinned>: Send, Unpin);
assert_impl_all!(Merge<u8>: Send, Sync, Unpin);
assert_impl_all!(Tagged<Pinned>: Send, Unpin);
assert_impl_all!(Tagged<u8>: Send, Sync, Unpin);
assert_impl_all!(NextItem<'static, Merge<u8>>: Send, Sync, Unpin);
assert_not_impl_any!(Merge<Local>: Send, Sync);
assert_not_impl_any!(Merge<Movable>: Sync);
assert_not_impl_any!(Tagged<Local>: Send, Sync);
assert_not_impl_any!(NextItem<'static, Merge<Local>>: Send, Sync);

assert_impl_all!(Emitted<u8>: Send, Sync, Unpin, Copy);
assert_impl_all!(Counts: Send, Sync, Unpin, Copy);
assert_impl_all!(Order: Send, Sync, Unpin, Copy);
assert_impl_all!(Closed: std::error::Error, Send, Sync, Unpin, Copy);
assert_impl_all!(TryReserveError: std::error::Error, Send, Sync, Unpin, Copy);
assert_impl_all!(TryNextError: std::error::Error, Send, Sync, Unpin, Copy);
assert_impl_all!(WindowError: std::error::Error, Send, Sync, Unpin, Copy);

assert_impl_all!(Iter<Pinned>: Send, Unpin);
assert_not_impl_any!(Iter<Local>: Send, Sync);

assert_impl_all!(FanOut<Iter<std::vec::IntoIter<Movable>>>: Send);
assert_not_impl_any!(FanOut<Iter<std::vec::IntoIter<Local>>>: Send, Sync);
assert_impl_all!(FanOutReport<Movable>: Send, Unpin);
assert_impl_all!(Outlet<Movable>: Send, Sync, Unpin);
assert_impl_all!(Take<'static, Movable>: Send, Sync, Unpin);
assert_not_impl_any!(Outlet<Local>: Send, Sync);
assert_not_impl_any!(Take<'static, Local>: Send, Sync);
assert_impl_all!(Route<Local>: Send, Unpin);
assert_not_impl_any!(Route<u8>: Sync);
assert_impl_all!(FanOutError: std::error::Error, Send, Sync, Unpin, Copy);

#[cfg(feature = "tokio")]
mod map {
    use super::*;
    use selvedge_fanio::{All, Failure, FirstOk, MapConcurrent, MapError, NoneOk};
    use std::future::Ready;

    assert_impl_all!(MapConcurrent<Pinned, Movable, Movable>: Send, Unpin);
    assert_impl_all!(MapConcurrent<u8, u8, Movable>: Send, Sync, Unpin);
    assert_not_impl_any!(MapConcurrent<Local, u8, u8>: Send, Sync);
    assert_not_impl_any!(MapConcurrent<u8, Local, u8>: Send, Sync);
    assert_not_impl_any!(MapConcurrent<u8, u8, Local>: Send, Sync);
    assert_impl_all!(MapError: std::error::Error, Send, Sync, Unpin);

    /// Futures and what they return may be anything; both are always `Unpin`.
    type Future = Pinning<Movable>;
    struct Pinning<T>(T, std::marker::PhantomPinned);
    impl<T> std::future::Future for Pinning<T> {
        type Output = T;

        fn poll(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<T> {
            std::task::Poll::Pending
        }
    }
    assert_impl_all!(All<Future>: Send, Unpin);
    assert_impl_all!(All<Ready<Movable>>: Send, Unpin);
    assert_not_impl_any!(All<Ready<Local>>: Send, Sync);
    assert_impl_all!(FirstOk<Future, Movable, Movable>: Send, Unpin);
    assert_not_impl_any!(FirstOk<Ready<Local>, u8, u8>: Send, Sync);
    assert_not_impl_any!(FirstOk<Future, Local, u8>: Send, Sync);
    assert_not_impl_any!(FirstOk<Future, u8, Local>: Send, Sync);
    assert_impl_all!(Failure<Movable>: Send, Unpin);
    assert_impl_all!(NoneOk<Movable>: Send, Unpin);
    assert_impl_all!(NoneOk<String>: std::error::Error, Send, Sync, Unpin);
}
