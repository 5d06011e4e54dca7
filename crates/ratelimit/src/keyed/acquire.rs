//! The future that waits for tokens of a key.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::ops::Deref;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::coop;

use super::Keyed;
use crate::limiter::{Ask, Handle};
use crate::{Acquire, AcquireError, TryAcquireError};

/// What leads to the limits: a borrow or a shared owner.
pub(super) enum Of<'a, K, S> {
    /// Somebody's.
    Borrowed(&'a Keyed<K, S>),
    /// One's own.
    Shared(Arc<Keyed<K, S>>),
}

impl<K, S> Deref for Of<'_, K, S> {
    type Target = Keyed<K, S>;

    #[inline]
    fn deref(&self) -> &Keyed<K, S> {
        match self {
            Self::Borrowed(keyed) => keyed,
            Self::Shared(keyed) => keyed,
        }
    }
}

/// Waits for tokens of a key; made by [`Keyed::acquire`], which says what it promises. Dropped, it leaves the line.
#[pin_project(PinnedDrop)]
#[must_use = "a future does nothing, and stands in no line, until it is polled"]
pub struct AcquireKey<'a, K, S> {
    /// The limits.
    keyed: Of<'a, K, S>,
    /// The key.
    key: K,
    /// What is asked for.
    ask: Ask,
    /// The waiting, when there is something to wait for.
    #[pin]
    acquire: Option<Acquire<'static>>,
    /// The number of the entry that is waited for.
    number: u32,
    /// Whether it has completed.
    done: bool,
    /// Who called `acquire`.
    place: &'static Location<'static>,
}

impl<'a, K, S> AcquireKey<'a, K, S> {
    /// Waits on behalf of the caller.
    #[track_caller]
    pub(super) fn new(keyed: Of<'a, K, S>, key: K, ask: Ask) -> Self {
        let place = Location::caller();
        Self { keyed, key, ask, acquire: None, number: 0, done: false, place }
    }
}

impl<K: Hash + Clone, S: BuildHasher> Future for AcquireKey<'_, K, S> {
    type Output = Result<(), AcquireError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        assert!(!*this.done, "`AcquireKey` polled after it completed");
        if this.acquire.is_none() {
            let proceed = ready!(coop::poll_proceed(cx));
            let (keyed, key) = (&**this.keyed, &*this.key);
            let print = keyed.table.print(key);
            let tried = keyed.take(print, this.ask.tokens, || key.clone());
            let told = match tried {
                Ok(()) => Some(Ok(())),
                Err(TryAcquireError::NotYet(_)) => None,
                Err(error) => Some(Err(refused(error))),
            };
            if let Some(told) = told {
                keyed.table.meter().tried(this.ask.tokens, &told);
                proceed.made_progress();
                *this.done = true;
                return Poll::Ready(told);
            }
            let (number, engine) =
                match keyed.table.engine(print, || keyed.fresh(key.clone()), false) {
                    Ok(engine) => engine,
                    Err(error) => {
                        keyed.table.meter().refused();
                        proceed.made_progress();
                        *this.done = true;
                        return Poll::Ready(Err(refused(error)));
                    }
                };
            *this.number = number;
            this.acquire.set(Some(Acquire::new(Handle::Shared(engine), *this.ask)));
        }
        let acquire = this.acquire.as_mut().as_pin_mut().expect("made above");
        let acquired = ready!(acquire.poll(cx));
        this.acquire.set(None);
        *this.done = true;
        this.keyed.table.try_demote(*this.number);
        Poll::Ready(acquired)
    }
}

#[pinned_drop]
impl<K, S> PinnedDrop for AcquireKey<'_, K, S> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.acquire.is_some() {
            this.acquire.set(None);
            // The last to wait takes the limiter along.
            this.keyed.table.try_demote(*this.number);
        }
    }
}

/// Why a key is not waited for.
pub(super) fn refused(error: TryAcquireError) -> AcquireError {
    match error {
        TryAcquireError::OverBurst { wanted, burst } => AcquireError::OverBurst { wanted, burst },
        TryAcquireError::TooManyKeys { max_keys } => AcquireError::TooManyKeys { max_keys },
        TryAcquireError::TooManyQuotas => AcquireError::TooManyQuotas,
        // What comes later is waited for.
        TryAcquireError::Closed | TryAcquireError::NotYet(_) => AcquireError::Closed,
    }
}

impl<K: fmt::Debug, S> fmt::Debug for AcquireKey<'_, K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcquireKey")
            .field("key", &self.key)
            .field("wanted", &self.ask.tokens)
            .field("place", &format_args!("{}", self.place))
            .finish()
    }
}
