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
/// Every descendant sees the cause of the origin. Cloning copies two words and counts one
/// reference; the error is never cloned.
#[derive(Clone)]
pub struct Cause {
    /// What ended it.
    kind: CauseKind,
    /// Where.
    place: &'static Location<'static>,
    /// Why, if the canceller said so.
    error: Option<Arc<dyn Error + Send + Sync>>,
}

impl Cause {
    /// A cause without an error, at the caller's place.
    #[track_caller]
    pub fn new(kind: CauseKind) -> Self {
        Self::at(kind, Location::caller())
    }

    /// A cause without an error, at a given place.
    pub(crate) fn at(kind: CauseKind, place: &'static Location<'static>) -> Self {
        Self { kind, place, error: None }
    }

    /// The same cause with an error that every descendant can read and downcast.
    pub fn with_error(self, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: Some(Arc::from(error.into())), ..self }
    }

    /// What ended it.
    pub fn kind(&self) -> CauseKind {
        self.kind
    }

    /// Where it was ended; for a deadline or a drop, where the context was made.
    pub fn place(&self) -> &'static Location<'static> {
        self.place
    }

    /// The error that the canceller gave.
    pub fn error(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.error.as_deref()
    }

    /// The error as a shared pointer.
    pub fn shared_error(&self) -> Option<Arc<dyn Error + Send + Sync>> {
        self.error.clone()
    }

    /// Whether both are the same event: same kind, same place, same error.
    pub fn same(&self, other: &Self) -> bool {
        let errors = match (&self.error, &other.error) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        self.kind == other.kind && self.place == other.place && errors
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place;
        match self.kind {
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
        if let Some(error) = &self.error {
            write!(f, ": {error}")?;
        }
        f.write_str(")")
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_deref().map(|error| error as &(dyn Error + 'static))
    }
}
