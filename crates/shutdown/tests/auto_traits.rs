//! What may cross threads, and what may move.

use std::marker::PhantomPinned;
use std::rc::Rc;

use selvedge_shutdown::{
    BuildError, Builder, ComponentReport, End, InstallError, ManualSignals, Panic, Reason,
    RegisterError, Report, Request, Run, Shutdown, ShutdownHandle, Signal, Signals, SignalsBuilder,
    Wait,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(Shutdown: Send, Unpin);
assert_impl_all!(ShutdownHandle: Send, Sync, Unpin, Clone);
assert_impl_all!(Builder: Send, Sync, Unpin);
assert_impl_all!(Signals: Send, Sync, Unpin);
assert_impl_all!(ManualSignals: Send, Sync, Unpin, Clone);
assert_impl_all!(SignalsBuilder: Send, Sync, Unpin);
assert_impl_all!(Signal: Send, Sync, Unpin, Copy);
assert_impl_all!(Reason: Send, Sync, Unpin, Clone, std::error::Error);
assert_impl_all!(Request: Send, Sync, Unpin);
assert_impl_all!(Report: Send, Sync, Unpin);
assert_impl_all!(ComponentReport: Send, Sync, Unpin);
assert_impl_all!(End: Send, Sync, Unpin);
assert_impl_all!(Panic: Send, Sync, Unpin);
assert_impl_all!(BuildError: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(RegisterError: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(InstallError: Send, Sync, Unpin, std::error::Error);

assert_impl_all!(Wait: Send);
assert_not_impl_any!(Wait: Unpin);
assert_impl_all!(Run<std::future::Ready<()>>: Send);
assert_not_impl_any!(Run<std::future::Ready<()>>: Unpin);
assert_not_impl_any!(Run<std::future::Ready<Rc<()>>>: Send);
assert_not_impl_any!(Run<std::future::Ready<PhantomPinned>>: Unpin);
