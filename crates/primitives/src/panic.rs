//! A panic as a value: caught in one place, to be reported, or to go on, in another.

use std::any::Any;
use std::fmt;
use std::panic::resume_unwind;

use crate::{Mutex, contain};

/// The payload of a panic that was caught: what a job, a task or a stage panicked with.
///
/// Dropping it does not panic: a panic of the payload's destructor is reported by the hook, and ends
/// there.
pub struct Panic {
    /// The payload's text.
    message: String,
    /// The payload, until it is taken out; in a lock because an error is `Sync` and a payload is not.
    /// Nobody locks it.
    payload: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Panic {
    /// Keeps a payload, and takes its text out.
    pub fn new(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&'static str>().copied());
        let message = text.unwrap_or("(a payload that is no text)").to_owned();
        Self { message, payload: Mutex::new(Some(payload)) }
    }

    /// The text that was given to `panic!`; a stand-in in parentheses, if the payload is no text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The payload, as `std::thread::JoinHandle::join` would return it.
    pub fn into_payload(mut self) -> Box<dyn Any + Send> {
        self.payload.get_mut().take().expect("taken once, by value")
    }

    /// Goes on with the panic on this thread, without another call of the panic hook.
    pub fn resume(self) -> ! {
        resume_unwind(self.into_payload())
    }
}

impl Drop for Panic {
    fn drop(&mut self) {
        if let Some(payload) = self.payload.get_mut().take() {
            contain(|| drop(payload));
        }
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

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_payload_whose_destructor_panics_is_dropped_without_a_panic() {
        struct Nasty;
        impl Drop for Nasty {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        drop(Panic::new(Box::new(Nasty)));
        let payload = Panic::new(Box::new(7)).into_payload();
        assert_eq!(payload.downcast_ref(), Some(&7));
    }
}
