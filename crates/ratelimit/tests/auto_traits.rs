//! What may cross threads and what may move, pinned for every public type.
#![cfg(not(selvedge_loom))]

use std::cell::Cell;
use std::error::Error;
use std::fmt::Debug;
use std::hash::{Hash, RandomState};
use std::panic::{RefUnwindSafe, UnwindSafe};

use futures_core::Stream;
use selvedge_cancel::RunOrCause;
use selvedge_ratelimit::http::{
    PolicyName, PolicyNameError, RateLimit, RateLimitPolicy, RetryAfter, XRateLimit,
};
use selvedge_ratelimit::{
    Acquire, AcquireError, AcquireKey, Heat, Keyed, KeyedBuilder, Limiter, LimiterBuilder,
    ManualClock, NotYet, Priority, Quota, QuotaError, Rate, Ready, Reservation, Sometimes,
    Standing, Throttle, Timer, TimerError, TryAcquireError, WhenFull,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(Quota: Send, Sync, Unpin, Copy, Eq, Hash, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Rate: Send, Sync, Unpin, Copy, Eq, Hash, UnwindSafe, RefUnwindSafe);
assert_impl_all!(QuotaError: Error, Send, Sync, Unpin, Copy, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Limiter: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(Acquire<'_>: Send, Sync, Debug);
assert_impl_all!(RunOrCause<Acquire<'_>>: Send, Sync, Debug);
assert_impl_all!(Reservation: Send, Sync, Unpin, Debug);
assert_impl_all!(Ready<'_>: Send, Sync, Unpin, Debug);
assert_impl_all!(LimiterBuilder: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(Standing: Send, Sync, Unpin, Copy, Eq, Debug, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Priority: Send, Sync, Unpin, Copy, Ord, Hash, Default, UnwindSafe, RefUnwindSafe);
assert_impl_all!(AcquireError: Error, Send, Sync, Clone, Eq, Unpin);
assert_impl_all!(TryAcquireError: Error, Send, Sync, Copy, Eq, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(NotYet: Send, Sync, Copy, Eq, Unpin, Debug, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Timer: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(TimerError: Error, Send, Sync, Unpin, Clone, Eq);
assert_impl_all!(ManualClock: Send, Sync, Unpin, Debug);
assert_impl_all!(Sometimes: Send, Sync, Unpin, Debug);
assert_impl_all!(RetryAfter: Send, Sync, Unpin, Copy, Eq, UnwindSafe, RefUnwindSafe);
assert_impl_all!(RateLimitPolicy<'_>: Send, Sync, Unpin, Copy, Eq, UnwindSafe, RefUnwindSafe);
assert_impl_all!(RateLimit<'_>: Send, Sync, Unpin, Copy, Eq, UnwindSafe, RefUnwindSafe);
assert_impl_all!(XRateLimit: Send, Sync, Unpin, Copy, Eq, UnwindSafe, RefUnwindSafe);
assert_impl_all!(PolicyName<'_>: Send, Sync, Unpin, Copy, Eq, UnwindSafe, RefUnwindSafe);
assert_impl_all!(PolicyNameError: Error, Send, Sync, Unpin, Copy, UnwindSafe, RefUnwindSafe);

assert_impl_all!(Keyed<String>: Send, Sync, Unpin, Debug);
assert_impl_all!(KeyedBuilder<String>: Send, Sync, Unpin, Debug);
assert_impl_all!(AcquireKey<'_, String, RandomState>: Send, Sync, Debug);
assert_not_impl_any!(AcquireKey<'_, String, RandomState>: Unpin);
assert_impl_all!(WhenFull: Send, Sync, Unpin, Copy, Eq, Hash, Default, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Heat<String>: Send, Sync, Unpin, Clone, Eq, Debug, UnwindSafe, RefUnwindSafe);
assert_not_impl_any!(Keyed<std::rc::Rc<u8>>: Send, Sync);

// The line points at futures that wait, so they stay where they are.
assert_not_impl_any!(Acquire<'_>: Unpin);
assert_not_impl_any!(RunOrCause<Acquire<'_>>: Unpin);
// A place in the line, or tokens, that are two.
assert_not_impl_any!(Reservation: Clone);
assert_not_impl_any!(Acquire<'_>: Clone);

/// A stream of what may go to another thread, or not.
type Items<T> = std::pin::Pin<Box<dyn Stream<Item = T> + Send + Sync>>;

assert_impl_all!(Throttle<Items<u8>>: Send, Sync, Debug);
assert_impl_all!(Throttle<Items<Cell<u8>>>: Send);
assert_not_impl_any!(Throttle<Items<Cell<u8>>>: Sync);
assert_not_impl_any!(Throttle<Items<*const u8>>: Send, Sync);
assert_not_impl_any!(Throttle<Items<u8>>: Unpin);

#[cfg(feature = "sink")]
mod sink {
    use super::*;
    use selvedge_ratelimit::{ThrottleSink, ThrottleSinkError};

    assert_impl_all!(ThrottleSink<u8, u8>: Send, Sync, Debug);
    assert_impl_all!(ThrottleSink<u8, Cell<u8>>: Send);
    assert_not_impl_any!(ThrottleSink<u8, Cell<u8>>: Sync);
    assert_not_impl_any!(ThrottleSink<*const u8, u8>: Send, Sync);
    assert_not_impl_any!(ThrottleSink<u8, u8>: Unpin, Clone);
    assert_impl_all!(ThrottleSinkError<QuotaError>: Error, Send, Sync, Clone, Eq, Unpin);
}

#[cfg(feature = "tower")]
mod tower {
    use super::*;
    use selvedge_ratelimit::tower::{
        Admitted, Answered, BackPressure, ByKey, Delay, Delayed, One, RateLimit, RateLimitError,
        RateLimitLayer, Reject, RejectWith,
    };
    use selvedge_ratelimit::{AcquireKey, Keyed};

    type Key = fn(&u8) -> u8;
    type Inner = ::tower::util::BoxCloneSyncService<u8, u8, QuotaError>;

    assert_impl_all!(RateLimitLayer: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(RateLimitLayer<Delay<ByKey<u8, Key>>, Key>: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(RateLimit<Inner>: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(BackPressure: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(Reject<Limiter>: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(RejectWith<Limiter, Key>: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(One: Send, Sync, Unpin, Copy, Debug);
    assert_impl_all!(Admitted<u8>: Send, Sync, Unpin, Debug);
    assert_impl_all!(Answered<u8, u8>: Send, Sync, Unpin, Debug);
    assert_impl_all!(Delayed<Inner, u8, Acquire<'static>>: Send, Debug);
    assert_impl_all!(RateLimitError<QuotaError>: Error, Send, Sync, Clone, Eq, Unpin);
    assert_impl_all!(AcquireKey<'static, u8, std::hash::RandomState>: Send, Sync, Debug);
    assert_impl_all!(Keyed<u8>: Send, Sync, Debug);

    assert_not_impl_any!(RateLimit<*const u8>: Send, Sync);
    assert_not_impl_any!(Delayed<Inner, u8, Acquire<'static>>: Unpin, Clone);
}

#[cfg(feature = "metrics")]
mod metrics {
    use super::*;
    use selvedge_ratelimit::{KeyedMetrics, Metrics};
    use std::fmt::Display;

    assert_impl_all!(Metrics: Send, Sync, Unpin, Copy, Eq, Hash, Default, Debug, Display);
    assert_impl_all!(KeyedMetrics: Send, Sync, Unpin, Copy, Eq, Hash, Default, Debug, Display);
}
