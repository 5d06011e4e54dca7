//! The seam with its feature.

use std::cell::Cell;
use std::panic::Location;
use std::sync::OnceLock;

use crate::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::{Origin, contain};

/// Whether there is an observer: what every event looks at first.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// The observer.
static OBSERVER: OnceLock<&'static dyn Observer> = OnceLock::new();

/// The next number of a subject or a wait.
static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// Whether this thread is inside the observer.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Is told what happens. Called on the thread on which it happens, with no lock of ours held.
pub trait Observer: Sync {
    /// Something has happened.
    fn observe(&self, event: &Event<'_>);
}

/// Something that has happened to a subject.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Event<'a> {
    /// What.
    pub happened: Happened,
    /// The subject's number; no other subject of the process has it, and no wait.
    pub subject: u64,
    /// What kind of thing the subject is, or the part of it that is waited for.
    pub kind: &'static str,
    /// The subject's name, and where it was made.
    pub origin: &'a Origin,
}

/// What can happen to a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happened {
    /// It was made; or this is its first event.
    Created,
    /// Somebody waits for it.
    Waiting(Wait),
    /// Somebody who waited was granted what it waited for; told when it is polled or dropped.
    Granted(Wait),
    /// Somebody who waited has gone without.
    Left(Wait),
    /// It is gone.
    Done,
}

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wait {
    /// Its number; no other wait of the process has it, and no subject.
    pub id: u64,
    /// Where the wait was asked for.
    pub place: &'static Location<'static>,
}

/// The observer was not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("observer not installed: the process has one already")]
pub struct AlreadyInstalled;

/// Has `observer` be told of everything that begins from now on, for the rest of the process.
///
/// # Errors
///
/// [`AlreadyInstalled`], from the second call on.
pub fn install(observer: &'static dyn Observer) -> Result<(), AlreadyInstalled> {
    OBSERVER.set(observer).map_err(|_| AlreadyInstalled)?;
    // Relaxed: a hint; the cell itself publishes the observer.
    INSTALLED.store(true, Ordering::Relaxed);
    Ok(())
}

/// The observer, if there is one, and if this thread is not inside it: what begins there is not told
/// of later, either, so that no end comes without its beginning.
#[inline]
fn observer() -> Option<&'static dyn Observer> {
    installed().filter(|_| INSIDE.try_with(|inside| !inside.get()).unwrap_or(false))
}

/// The observer, if there is one.
#[inline]
fn installed() -> Option<&'static dyn Observer> {
    // Relaxed: a hint, see `install`.
    if INSTALLED.load(Ordering::Relaxed) { OBSERVER.get().copied() } else { None }
}

/// A fresh number.
fn number() -> u64 {
    // Relaxed: all that counts is that no two get the same.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Calls the observer, unless this thread is inside it already, or has come to its end.
fn tell(observer: &'static dyn Observer, event: &Event<'_>) {
    let _ = INSIDE.try_with(|inside| {
        if !inside.replace(true) {
            contain(|| observer.observe(event));
            inside.set(false);
        }
    });
}

/// What is observed: a primitive, a pool, a context.
#[derive(Debug)]
pub struct Subject {
    /// Its number; none before its first event.
    id: OnceLock<u64>,
    /// What it is.
    kind: &'static str,
    /// Name and place.
    origin: Origin,
    /// Whether it is not a part of another subject, which tells when both are gone.
    whole: bool,
}

impl Subject {
    /// A subject without a name, made by the caller.
    #[track_caller]
    pub const fn here(kind: &'static str) -> Self {
        Self { id: OnceLock::new(), kind, origin: Origin::here(), whole: true }
    }

    /// A subject of this name and place.
    pub fn new(kind: &'static str, origin: &Origin) -> Self {
        Self { id: OnceLock::new(), kind, origin: origin.clone(), whole: true }
    }

    /// A part of it, with the same number: one of several queues of a thing. Of a thing that was made
    /// before the observer was installed, each part is a subject of its own.
    pub fn part(&self, kind: &'static str) -> Self {
        let mut part = Self::new(kind, &self.origin);
        if let Some(observer) = observer() {
            part.id = OnceLock::from(self.announced(observer));
            part.whole = false;
        }
        part
    }

    /// Tells that it was made, if nothing was told of it yet.
    pub fn created(&self) {
        if let Some(observer) = observer() {
            self.announced(observer);
        }
    }

    /// Its number; the observer has been told of it.
    fn announced(&self, observer: &'static dyn Observer) -> u64 {
        let mut fresh = false;
        let id = *self.id.get_or_init(|| {
            fresh = true;
            number()
        });
        if fresh {
            self.tell(observer, id, Happened::Created);
        }
        id
    }

    /// Tells what has happened to it.
    fn tell(&self, observer: &'static dyn Observer, subject: u64, happened: Happened) {
        tell(observer, &Event { happened, subject, kind: self.kind, origin: &self.origin });
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if !self.whole {
            return;
        }
        if let (Some(observer), Some(id)) = (observer(), self.id.get()) {
            self.tell(observer, *id, Happened::Done);
        }
    }
}

/// Where a wait was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Place(
    /// The place.
    &'static Location<'static>,
);

impl Place {
    /// The caller's.
    #[track_caller]
    pub const fn here() -> Self {
        Self(Location::caller())
    }
}

/// The wait of a waiter; one after the other, if it waits again.
pub(crate) struct Waiting {
    /// The number of the wait that is under way, if the observer was told of it.
    id: Cell<Option<u64>>,
    /// Where it was asked for.
    place: Place,
}

impl Waiting {
    /// Nobody waits yet.
    pub(crate) const fn new(place: Place) -> Self {
        Self { id: Cell::new(None), place }
    }

    /// The waiter has queued. Call it with no lock held, as all of these.
    #[inline]
    pub(crate) fn began(&self, subject: &Subject) {
        if let Some(observer) = observer() {
            let of = subject.announced(observer);
            let id = number();
            self.id.set(Some(id));
            subject.tell(observer, of, Happened::Waiting(self.wait(id)));
        }
    }

    /// The waiter has taken its grant.
    #[inline]
    pub(crate) fn granted(&self, subject: &Subject) {
        self.ended(subject, Happened::Granted);
    }

    /// The waiter goes without: tells it when what is returned is dropped.
    #[inline]
    pub(crate) fn leaving<'a>(&'a self, subject: &'a Subject) -> Leaving<'a> {
        Leaving { waiting: self, subject }
    }

    /// The wait that is under way is over.
    #[inline]
    fn ended(&self, subject: &Subject, happened: impl FnOnce(Wait) -> Happened) {
        // The number is taken inside the observer, too: the wait is over, though it is not told.
        if let Some(observer) = installed()
            && let Some(id) = self.id.take()
        {
            subject.tell(observer, subject.announced(observer), happened(self.wait(id)));
        }
    }

    /// The wait of this number.
    fn wait(&self, id: u64) -> Wait {
        Wait { id, place: self.place.0 }
    }
}

/// Tells that a waiter has left, also when its leaving ends in a panic.
pub(crate) struct Leaving<'a> {
    /// Whose wait is over.
    waiting: &'a Waiting,
    /// What it waited for.
    subject: &'a Subject,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.waiting.ended(self.subject, Happened::Left);
    }
}
