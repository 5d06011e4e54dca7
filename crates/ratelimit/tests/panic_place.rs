//! A quota that makes no sense panics at the place where the program says it.
#![cfg(not(selvedge_loom))]

use std::panic::{catch_unwind, set_hook, take_hook};
use std::sync::Mutex;

use selvedge_ratelimit::Quota;

/// Where the last panic was.
static PLACE: Mutex<Option<(String, u32)>> = Mutex::new(None);

/// The line in this file at which `f` panics.
#[track_caller]
fn line_of(f: impl FnOnce() -> Quota + std::panic::UnwindSafe) -> u32 {
    assert!(catch_unwind(f).is_err());
    let (file, line) = PLACE.lock().unwrap().take().expect("a panic has a place");
    assert_eq!(file, file!());
    line
}

// One test: the hook is the process's.
#[test]
fn quotas_that_make_no_sense_panic_where_they_are_written() {
    let old = take_hook();
    set_hook(Box::new(|info| {
        *PLACE.lock().unwrap() = info.location().map(|at| (at.file().to_owned(), at.line()));
    }));
    let lines = [
        (line_of(|| Quota::per_second(0)), line!()),
        (line_of(|| Quota::every(std::time::Duration::ZERO)), line!()),
        (line_of(|| Quota::per_second(1).burst(0)), line!()),
    ];
    set_hook(old);
    for (panicked, written) in lines {
        assert_eq!(panicked, written);
    }
}
