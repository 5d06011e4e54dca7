//! Somebody else's code that may panic: contained, or several pieces in a row of which all must run.

use std::any::Any;
use std::fmt;
use std::panic::resume_unwind;

use crate::shim::caught;

/// Runs `f`, a waker or a destructor of somebody else; a panic ends here, reported by the hook, and
/// so does a panic of what it carried.
///
/// Under loom nothing is caught: loom tells what it found by panicking.
pub fn contain(f: impl FnOnce()) {
    if let Err(payload) = caught(f) {
        discard(payload);
    }
}

/// Drops what a panic carried. Its destructor is somebody else's code, too; what that panics with is
/// leaked, because dropping it might never come to an end.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = caught(|| drop(payload)) {
        std::mem::forget(second);
    }
}

/// Runs wakers and callbacks so that the panic of one stops no other: the first panic is kept, to go
/// on when all have run.
#[derive(Default)]
#[must_use = "call `resume`, or the panic is lost"]
pub struct FirstPanic {
    /// What the first panic carried.
    payload: Option<Box<dyn Any + Send>>,
}

impl FirstPanic {
    /// Nothing has panicked.
    pub const fn new() -> Self {
        Self { payload: None }
    }

    /// Whether nothing has panicked.
    #[inline]
    pub const fn is_none(&self) -> bool {
        self.payload.is_none()
    }

    /// Runs `f`, and keeps its panic if it is the first; a later one was reported by the hook.
    pub fn catch(&mut self, f: impl FnOnce()) {
        match caught(f) {
            Ok(()) => {}
            Err(payload) if self.payload.is_none() => self.payload = Some(payload),
            Err(payload) => discard(payload),
        }
    }

    /// Lets the first panic go on, if there was one. While the thread unwinds already (a permit is
    /// given back by a panicking task), it ends here, reported by the hook: a second one would
    /// abort.
    #[inline]
    pub fn resume(self) {
        if self.payload.is_some() {
            self.go_on();
        }
    }

    /// The first panic goes on.
    #[cold]
    fn go_on(self) {
        match self.payload {
            None => {}
            Some(payload) if std::thread::panicking() => discard(payload),
            Some(payload) => resume_unwind(payload),
        }
    }
}

/// Drops every value, also when the destructor of one panics; the first panic goes on at the end, as
/// [`FirstPanic::resume`] says.
pub fn drop_each<T>(values: impl IntoIterator<Item = T>) {
    let mut panics = FirstPanic::new();
    for value in values {
        panics.catch(|| drop(value));
    }
    panics.resume();
}

impl fmt::Debug for FirstPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstPanic").field("panicked", &self.payload.is_some()).finish()
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// How many a thread has still to throw.
        static NASTY: Cell<u32> = const { Cell::new(0) };
    }

    /// Panics when it is dropped, with another of its kind. Without a size, so that the one that is
    /// leaked leaves no memory behind, which a sanitizer would tell of.
    struct Nasty;

    impl Drop for Nasty {
        fn drop(&mut self) {
            if let Some(left) = NASTY.get().checked_sub(1) {
                NASTY.set(left);
                std::panic::panic_any(Nasty);
            }
        }
    }

    /// Panics with something that panics when it is dropped, three times over.
    fn throw() {
        NASTY.set(3);
        std::panic::panic_any(Nasty);
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_contained() {
        contain(throw);
        assert_eq!(NASTY.get(), 2, "the second was thrown, and leaked");
    }

    #[test]
    fn a_second_payload_that_panics_when_dropped_stops_no_other() {
        let mut ran = 0;
        let mut panics = FirstPanic::new();
        panics.catch(|| std::panic::panic_any("the first"));
        panics.catch(throw);
        panics.catch(|| ran += 1);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panics.resume()));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"the first"));
        assert_eq!(ran, 1);
    }
}
