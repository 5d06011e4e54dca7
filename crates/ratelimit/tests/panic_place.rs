//! A quota, or a rule of what runs sometimes, that makes no sense panics at the place where the program says
//! it.
#![cfg(not(selvedge_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Mutex;
use std::time::Duration;

use selvedge_ratelimit::{Limiter, Quota, Rate, Sometimes};

/// Where the last panic was.
static PLACE: Mutex<Option<(String, u32)>> = Mutex::new(None);

/// The line in this file at which `f` panics.
#[track_caller]
fn line_of<T>(f: impl FnOnce() -> T) -> u32 {
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
    let (file, line) = PLACE.lock().unwrap().take().expect("a panic has a place");
    assert_eq!(file, file!());
    line
}

// One test: the hook is the process's.
#[test]
fn what_makes_no_sense_panics_where_it_is_written() {
    let old = take_hook();
    set_hook(Box::new(|info| {
        *PLACE.lock().unwrap() = info.location().map(|at| (at.file().to_owned(), at.line()));
    }));
    let limiter = Limiter::new(Rate::per_second(1).burst(1));
    #[cfg(feature = "tower")]
    {
        use tower::{Layer, Service, service_fn};
        let inner = service_fn(async |_: ()| Ok::<_, std::convert::Infallible>(()));
        let mut service =
            selvedge_ratelimit::tower::RateLimitLayer::new(limiter.clone()).layer(inner);
        assert_eq!(line_of(|| service.call(())), line!());
    }
    let lines = [
        (line_of(|| Rate::per_second(0)), line!()),
        (line_of(|| Rate::per_minute(0)), line!()),
        (line_of(|| Rate::per_hour(u64::MAX)), line!()),
        (line_of(|| Rate::every(Duration::ZERO)), line!()),
        (line_of(|| Rate::new(1, Duration::MAX)), line!()),
        (line_of(|| Rate::per_second(1).burst(0)), line!()),
        (line_of(|| Quota::new(Rate::UNLIMITED).with_burst(0)), line!()),
        (line_of(|| limiter.set_burst(0)), line!()),
        (line_of(|| Sometimes::new().first(0)), line!()),
        (line_of(|| Sometimes::new().every(0)), line!()),
        (line_of(|| Sometimes::new().interval(Duration::ZERO)), line!()),
    ];
    set_hook(old);
    for (panicked, written) in lines {
        assert_eq!(panicked, written);
    }
    assert_eq!(limiter.try_acquire(1), Ok(()), "it holds no lock");
}
