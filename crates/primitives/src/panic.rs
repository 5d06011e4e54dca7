//! A panic as a value: caught in one place, to be reported, or to go on, in another.

use std::any::Any;
use std::fmt;
use std::panic::resume_unwind;

use crate::Mutex;

/// The payload of a panic that was caught: what a job, a task or a stage panicked with.
pub struct Panic {
    /// The payload's text.
    message: String,
    /// The payload; in a lock because an error is `Sync` and a payload is not. Nobody locks it.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    /// Keeps a payload, and takes its text out.
    pub fn new(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&'static str>().copied());
        let message = text.unwrap_or("(a payload that is no text)").to_owned();
        Self { message, payload: Mutex::new(payload) }
    }

    /// The text that was given to `panic!`; a stand-in in parentheses, if the payload is no text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The payload, as `std::thread::JoinHandle::join` would return it.
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload.into_inner()
    }

    /// Goes on with the panic on this thread, without another call of the panic hook.
    pub fn resume(self) -> ! {
        resume_unwind(self.into_payload())
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Panic({:?})", self.message)
    }
}
