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
    /// Why; there is always an error, except where a pointer has no room for the kind (see [`raw`]).
    error: Option<Arc<dyn Error + Send + Sync>>,
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

    /// The same cause with an error that every descendant can read and downcast. Two allocations,
    /// and one for an error that is not in a box yet.
    pub fn with_error(self, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = Some(Arc::from(error.into()));
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
            Known::Full(full) => full.error.as_deref(),
        }
    }

    /// The error as a shared pointer.
    pub fn shared_error(&self) -> Option<Arc<dyn Error + Send + Sync>> {
        match &self.0 {
            Known::Plain(..) => None,
            Known::Full(full) => full.error.clone(),
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

/// How a node keeps a cause: in a pointer, whose lowest bits say to what. To a place, and the bits are the
/// kind; or to the whole.
#[allow(unsafe_code, reason = "a cause as a pointer, for a slot of one word")]
pub(crate) mod raw {
    use super::*;

    /// The lowest bits.
    const TAG: usize = 0b111;
    /// Whether both kinds of pointers leave the lowest bits free; elsewhere a cause in a node is an allocation.
    const FREE: bool = align_of::<Location<'static>>() > TAG && align_of::<Full>() > TAG;

    /// The tag of a kind; zero is for the whole.
    const fn tag(kind: CauseKind) -> usize {
        match kind {
            CauseKind::Cancelled => 1,
            CauseKind::Stopped => 2,
            CauseKind::Deadline => 3,
            CauseKind::Dropped => 4,
            CauseKind::TimerLost => 5,
        }
    }

    /// The kind of a tag.
    const fn kind(tag: usize) -> CauseKind {
        match tag {
            1 => CauseKind::Cancelled,
            2 => CauseKind::Stopped,
            3 => CauseKind::Deadline,
            4 => CauseKind::Dropped,
            _ => CauseKind::TimerLost,
        }
    }

    /// Turns a cause into a pointer that is never null. It owns what the cause owned.
    pub(crate) fn into_raw(cause: Cause) -> *mut () {
        match cause.0 {
            Known::Plain(kind, place) if FREE => {
                let place: *const Location<'static> = place;
                place.cast_mut().cast::<()>().map_addr(|place| place | tag(kind))
            }
            Known::Plain(kind, place) => whole(Arc::new(Full { kind, place, error: None })),
            Known::Full(full) => whole(full),
        }
    }

    /// Whether a pointer is what [`into_raw`] made of this very cause.
    pub(crate) fn is(raw: *mut (), cause: &Cause) -> bool {
        match &cause.0 {
            Known::Plain(kind, place) => {
                FREE && raw.addr() == std::ptr::from_ref(*place).addr() | tag(*kind)
            }
            Known::Full(full) => raw.addr() == Arc::as_ptr(full).addr(),
        }
    }

    /// The pointer to a whole.
    fn whole(full: Arc<Full>) -> *mut () {
        Arc::into_raw(full).cast_mut().cast()
    }

    /// Turns the pointer back.
    ///
    /// # Safety
    ///
    /// The pointer came from [`into_raw`], and is turned back once: it owns what the cause did.
    pub(crate) unsafe fn from_raw(raw: *mut ()) -> Cause {
        let tag = if FREE { raw.addr() & TAG } else { 0 };
        if tag == 0 {
            // SAFETY: without a tag it came from `Arc::into_raw`; the caller turns it back once.
            return Cause(Known::Full(unsafe { Arc::from_raw(raw.cast_const().cast()) }));
        }
        let place: *const Location<'static> = raw.map_addr(|raw| raw & !TAG).cast_const().cast();
        // SAFETY: with a tag it came from a `&'static Location`.
        Cause(Known::Plain(kind(tag), unsafe { &*place }))
    }

    /// A clone of the cause that the pointer stands for, which goes on to own what it did.
    ///
    /// # Safety
    ///
    /// The pointer came from [`into_raw`], and was not turned back.
    pub(crate) unsafe fn clone_raw(raw: *mut ()) -> Cause {
        // SAFETY: the caller's contract; it is never dropped, so nothing is given up.
        let held = std::mem::ManuallyDrop::new(unsafe { from_raw(raw) });
        Cause::clone(&held)
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;

    #[test]
    #[allow(unsafe_code, reason = "pointers that were made in the line above")]
    fn a_cause_comes_back_from_a_pointer_as_it_was() {
        let kinds = [
            CauseKind::Cancelled,
            CauseKind::Stopped,
            CauseKind::Deadline,
            CauseKind::Dropped,
            CauseKind::TimerLost,
        ];
        for kind in kinds {
            for cause in [Cause::new(kind), Cause::new(kind).with_error("why")] {
                let raw = raw::into_raw(cause.clone());
                // SAFETY: it was made above.
                let clone = unsafe { raw::clone_raw(raw) };
                // SAFETY: it was made above, and is turned back here.
                let back = unsafe { raw::from_raw(raw) };
                assert!(back.same(&cause) && clone.same(&cause));
                assert!(raw::is(raw, &cause) && !raw::is(raw, &Cause::new(kind)));
            }
        }
    }
}
