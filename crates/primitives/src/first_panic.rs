//! Several pieces of somebody else's code in a row, of which each may panic and all must run.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

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

    /// Runs `f`, and keeps its panic if it is the first; a later one was reported by the hook.
    pub fn catch(&mut self, f: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            self.payload.get_or_insert(payload);
        }
    }

    /// Lets the first panic go on, if there was one. While the thread unwinds already (a permit is
    /// given back by a panicking task), it ends here, reported by the hook: a second one would
    /// abort.
    pub fn resume(self) {
        if let Some(payload) = self.payload
            && !std::thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}

impl fmt::Debug for FirstPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstPanic").field("panicked", &self.payload.is_some()).finish()
    }
}
