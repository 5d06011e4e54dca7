//! The thread driver: one thread for the process, started at the first registration. Thin glue: the
//! engine is [`Watch`], the thread sleeps by parking.

use std::sync::{Arc, LazyLock};
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use super::watch::{Next, Watch};
use super::{Expire, Ticket, TimerError};

/// The process's registrations.
static WATCH: LazyLock<Watch> = LazyLock::new(|| Watch::new(true));

/// Wakes the thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Adds a registration, starting the thread if it is the first.
pub(super) fn register(at: Instant, target: Arc<dyn Expire>) -> Result<Ticket, TimerError> {
    let (ticket, start) = WATCH.register(at, target)?;
    if start {
        let thread = std::thread::Builder::new().name("selvedge-timer".to_owned());
        if let Err(error) = thread.spawn(run) {
            WATCH.give_up(ticket);
            return Err(TimerError::Thread(error.to_string()));
        }
    }
    Ok(ticket)
}

/// Takes a registration out.
pub(super) fn revoke(ticket: Ticket) -> Option<Arc<dyn Expire>> {
    WATCH.revoke(ticket)
}

/// Expires what is due, for ever. A park that ends by itself only looks once too often.
fn run() {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match WATCH.expire_due(&waker, Instant::now) {
            Next::At(at) => {
                std::thread::park_timeout(at.saturating_duration_since(Instant::now()));
            }
            Next::Idle => std::thread::park(),
        }
    }
}
