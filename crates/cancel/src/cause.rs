//! Why a context ended, who ended it and where.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// What ended a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CauseKind {
    /// [`Canceller::cancel`](crate::Canceller::cancel).
    Cancelled,
    /// [`Canceller::stop`](crate::Canceller::stop).
    Stopped,
    /// A deadline passed.
    Deadline,
    /// The last [`Canceller`](crate::Canceller) was dropped.
    Dropped,
    /// A deadline could no longer be kept: the runtime that drove its timer was shut down.
    TimerLost,
}

/// Why a context ended: a kind, the place that ended it (for [`CauseKind::Deadline`] and
/// [`CauseKind::Dropped`]: that made it), and optionally an error.
///
/// Every descendant sees the cause of the origin. Cloning copies two words, and counts one reference if
/// there is an error; the error is never cloned. Without an error a cause allocates nothing.
#[derive(Clone)]
pub struct Cause(
    /// What is known.
    Known,
);

/// What is known of a cause.
#[derive(Clone)]
enum Known {
    /// What ended it, and where.
    Plain(CauseKind, &'static Location<'static>),
    /// An error as well.
    Full(Arc<Full>),
}

/// A cause with an error.
struct Full {
    /// What ended it.
    kind: CauseKind,
    /// Where.
    place: &'static Location<'static>,
    /// Why.
    error: Arc<dyn Error + Send + Sync>,
}

impl Cause {
    /// A cause without an error, at the caller's place.
    #[track_caller]
    pub fn new(kind: CauseKind) -> Self {
        Self::at(kind, Location::caller())
    }

    /// A cause without an error, at a given place.
    pub(crate) const fn at(kind: CauseKind, place: &'static Location<'static>) -> Self {
        Self(Known::Plain(kind, place))
    }

    /// The same cause with an error that every descendant can read and downcast. Two allocations.
    pub fn with_error(self, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = Arc::from(error.into());
        Self(Known::Full(Arc::new(Full { kind: self.kind(), place: self.place(), error })))
    }

    /// What ended it.
    pub fn kind(&self) -> CauseKind {
        match &self.0 {
            Known::Plain(kind, _) => *kind,
            Known::Full(full) => full.kind,
        }
    }

    /// Where it was ended; for a deadline or a drop, where the context was made.
    pub fn place(&self) -> &'static Location<'static> {
        match &self.0 {
            Known::Plain(_, place) => place,
            Known::Full(full) => full.place,
        }
    }

    /// The error that the canceller gave.
    pub fn error(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        match &self.0 {
            Known::Plain(..) => None,
            Known::Full(full) => Some(&*full.error),
        }
    }

    /// The error as a shared pointer.
    pub fn shared_error(&self) -> Option<Arc<dyn Error + Send + Sync>> {
        match &self.0 {
            Known::Plain(..) => None,
            Known::Full(full) => Some(Arc::clone(&full.error)),
        }
    }

    /// Whether both are the same event: same kind, same place, same error.
    pub fn same(&self, other: &Self) -> bool {
        let errors = match (self.shared_error(), other.shared_error()) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(&a, &b),
            _ => false,
        };
        self.kind() == other.kind() && self.place() == other.place() && errors
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place();
        match self.kind() {
            CauseKind::Cancelled => write!(f, "cancelled at {place}"),
            CauseKind::Stopped => write!(f, "stopped at {place}"),
            CauseKind::Deadline => write!(f, "deadline passed, set at {place}"),
            CauseKind::Dropped => write!(f, "last canceller dropped, made at {place}"),
            CauseKind::TimerLost => {
                write!(f, "timer lost: its runtime was shut down, deadline set at {place}")
            }
        }
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cause({self}")?;
        if let Some(error) = self.error() {
            write!(f, ": {error}")?;
        }
        f.write_str(")")
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error().map(|error| error as &(dyn Error + 'static))
    }
}

/// How a node keeps a cause: a pointer, and a code in its flag word that says to what.
#[allow(unsafe_code, reason = "a cause as a pointer, for a slot of one word")]
pub(crate) mod raw {
    use super::*;

    /// The code of a cause with an error. Others have the code of their kind.
    const FULL: u8 = 7;

    /// The code of a cause.
    pub(crate) fn code(cause: &Cause) -> u8 {
        match &cause.0 {
            Known::Plain(CauseKind::Cancelled, _) => 1,
            Known::Plain(CauseKind::Stopped, _) => 2,
            Known::Plain(CauseKind::Deadline, _) => 3,
            Known::Plain(CauseKind::Dropped, _) => 4,
            Known::Plain(CauseKind::TimerLost, _) => 5,
            Known::Full(_) => FULL,
        }
    }

    /// Turns a cause into a pointer that is never null. It owns what the cause owned.
    pub(crate) fn into_raw(cause: Cause) -> *mut () {
        match cause.0 {
            Known::Plain(_, place) => std::ptr::from_ref(place).cast_mut().cast(),
            Known::Full(full) => Arc::into_raw(full).cast_mut().cast(),
        }
    }

    /// Turns the pointer back.
    ///
    /// # Safety
    ///
    /// The pointer came from [`into_raw`], of a cause that had this code, and owns what it did then:
    /// it is turned back once.
    pub(crate) unsafe fn from_raw(code: u8, raw: *mut ()) -> Cause {
        if code == FULL {
            // SAFETY: the code says that it came from `Arc::into_raw`, and the caller turns it back once.
            return Cause(Known::Full(unsafe { Arc::from_raw(raw.cast_const().cast()) }));
        }
        let kind = match code {
            1 => CauseKind::Cancelled,
            2 => CauseKind::Stopped,
            3 => CauseKind::Deadline,
            4 => CauseKind::Dropped,
            _ => CauseKind::TimerLost,
        };
        // SAFETY: the code says that it came from a `&'static Location`.
        Cause(Known::Plain(kind, unsafe { &*raw.cast_const().cast() }))
    }

    /// A clone of the cause that the pointer stands for, which goes on to own what it did.
    ///
    /// # Safety
    ///
    /// The pointer came from [`into_raw`], of a cause that had this code, and was not turned back.
    pub(crate) unsafe fn clone_raw(code: u8, raw: *mut ()) -> Cause {
        // SAFETY: the caller's contract; it is never dropped, so nothing is given up.
        let held = std::mem::ManuallyDrop::new(unsafe { from_raw(code, raw) });
        Cause::clone(&held)
    }
}
