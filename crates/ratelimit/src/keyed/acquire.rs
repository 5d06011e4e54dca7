//! The future that waits for tokens of a key.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use selvedge_primitives::coop;

use super::Keyed;
use super::room::NoRoom;
use crate::lent::Lent;
use crate::limiter::{Ask, Handle};
use crate::{Acquire, AcquireError, TryAcquireError};

/// What leads to the limits.
pub(super) type Of<'a, K, S> = Lent<'a, Keyed<K, S>, Arc<Keyed<K, S>>>;

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
            if let Some(told) = for_good(tried) {
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
                        return Poll::Ready(Err(error.into()));
                    }
                };
            *this.number = number;
            this.acquire.set(Some(Acquire::new(Handle::Owned(engine), *this.ask)));
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

/// What a try says to one who would wait; none if there is something to wait for.
fn for_good(tried: Result<(), TryAcquireError>) -> Option<Result<(), AcquireError>> {
    Some(match tried {
        Ok(()) => Ok(()),
        Err(TryAcquireError::NotYet(_)) => return None,
        Err(TryAcquireError::OverBurst { wanted, burst }) => {
            Err(AcquireError::OverBurst { wanted, burst })
        }
        Err(TryAcquireError::TooManyKeys { max_keys }) => Err(NoRoom::Keys { max_keys }.into()),
        Err(TryAcquireError::TooManyQuotas) => Err(NoRoom::Quotas.into()),
        Err(TryAcquireError::Closed) => Err(AcquireError::Closed),
    })
}

impl From<NoRoom> for AcquireError {
    fn from(why: NoRoom) -> Self {
        match why {
            NoRoom::Keys { max_keys } => Self::TooManyKeys { max_keys },
            NoRoom::Quotas => Self::TooManyQuotas,
        }
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
