//! The observe seam: what is made, who waits for it, who was served, what is gone.
//!
//! A consumer installs one observer for the process (`install`) and is told `Event`s:
//!
//! | `Happened` | when |
//! |---|---|
//! | `Created` | before the first event of a subject |
//! | `Waiting` | a waiter has queued |
//! | `Granted` | that waiter was polled or dropped, and had its grant by then |
//! | `Left` | that waiter has gone without |
//! | `Done` | the subject is gone |
//!
//! After each `Waiting` comes one `Granted` or one `Left` with the same number, from whichever thread
//! polls or drops the waiter; a waiter that is forgotten, or that the observer itself polls or drops,
//! never comes to either. The events of one
//! waiter come in order; those of different threads do not wait for each other. What began before the
//! observer was installed is not told: a wait that was under way then has no events at all.
//!
//! A [`Subject`] is what an owner says of itself. [`WaitQueue::observed`](crate::WaitQueue::observed)
//! takes one, and every event of waiting comes from there, so that whoever waits in a queue of ours is
//! seen without a word of its own. A queue that was made without one is called "wait queue", and is
//! placed where it was made.
//!
//! The observer is somebody else's code: it is called with no lock held, its panic is contained, and
//! what it does with our types is not told to it again; a subject that it was the first to use is told
//! of when somebody else uses it.
//!
//! # Cost
//!
//! The feature `observe` is off by default: then subjects, places and waits are types of no size, and
//! their methods are empty (`off.rs` has the build assert it). With it on, an event without an observer is one
//! relaxed load. Under `--cfg selvedge_loom` it is always off: foreign code has no place in a model.

#[cfg(all(feature = "observe", not(selvedge_loom)))]
mod live;
#[cfg(not(all(feature = "observe", not(selvedge_loom))))]
mod off;

#[cfg(all(feature = "observe", not(selvedge_loom)))]
pub(crate) use live::Waiting;
#[cfg(all(feature = "observe", not(selvedge_loom)))]
pub use live::{AlreadyInstalled, Event, Happened, Observer, Place, Subject, Wait, install};
#[cfg(not(all(feature = "observe", not(selvedge_loom))))]
pub(crate) use off::Waiting;
#[cfg(not(all(feature = "observe", not(selvedge_loom))))]
pub use off::{Place, Subject};
