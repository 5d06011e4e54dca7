//! The waits: enter the key, then wait for its semaphore.

use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project::pin_project;
use selvedge_primitives::coop;

use super::error::KeyedError;
use super::map::{Entry, Map, User};
use super::permit::KeyedPermit;
use crate::semaphore::{AcquireError, Acquiring, Engine, Handle, Queue};
use selvedge_primitives::Anchor;

impl<K: Send + Sync + 'static> Handle<'static> for Arc<Entry<K>> {
    fn engine(&self) -> &Engine {
        self.semaphore.engine()
    }

    fn anchor(&self) -> Anchor<'static, Queue> {
        Anchor::shared(Self::clone(self), |entry| entry.semaphore.engine().queue())
    }
}

/// A wait for permits of a key, outside of tokio's budget.
#[pin_project]
pub(super) struct Entering<K: Send + Sync + 'static> {
    /// Where the key is entered, and the key; none once it was.
    outside: Option<(Arc<Map<K>>, K)>,
    /// How many permits.
    wanted: usize,
    /// The place in the key's line; dropped before the key is left.
    #[pin]
    acquiring: Option<Acquiring<'static, Arc<Entry<K>>>>,
    /// Uses the key; goes on to the permit.
    user: Option<User<K>>,
}

impl<K: Send + Sync + 'static> Entering<K> {
    /// A wait that has not begun.
    pub(super) fn new(map: Arc<Map<K>>, key: K, wanted: usize) -> Self {
        Self { outside: Some((map, key)), wanted, acquiring: None, user: None }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Future for Entering<K> {
    type Output = Result<KeyedPermit<K>, KeyedError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some((map, key)) = this.outside.take() {
            let user = match Map::enter(&map, key) {
                Ok(user) => user,
                Err(max) => return Poll::Ready(Err(KeyedError::TooManyKeys { max })),
            };
            this.acquiring.set(Some(Acquiring::new(Arc::clone(user.entry()), *this.wanted)));
            *this.user = Some(user);
        }
        let acquiring = this.acquiring.as_mut().as_pin_mut();
        let acquiring = acquiring.expect("a keyed acquire is not polled after it was ready");
        let acquired = ready!(acquiring.poll_acquire(cx));
        this.acquiring.set(None);
        let user = this.user.take().expect("it has entered");
        Poll::Ready(match acquired {
            Ok(_) => Ok(KeyedPermit::new(user, *this.wanted)),
            Err(AcquireError::OverCapacity { wanted, capacity }) => {
                Err(KeyedError::OverCapacity { wanted, capacity })
            }
            Err(AcquireError::Closed | AcquireError::Ended(_)) => {
                unreachable!("the semaphore of a key is never closed")
            }
        })
    }
}

/// Waits for permits of a key; made by [`KeyedSemaphore::acquire`](crate::KeyedSemaphore::acquire) and
/// [`KeyedLock::lock`](crate::KeyedLock::lock), which say what it promises. Dropped, it leaves the line, and the key.
#[pin_project]
#[must_use = "a future does nothing, and stands in no line, until it is polled"]
pub struct AcquireKeyed<K: Send + Sync + 'static> {
    /// The waiting.
    #[pin]
    entering: Entering<K>,
    /// Who called.
    place: &'static Location<'static>,
}

impl<K: Send + Sync + 'static> AcquireKeyed<K> {
    /// A wait that has not begun.
    #[track_caller]
    pub(super) fn new(map: Arc<Map<K>>, key: K, wanted: usize) -> Self {
        Self { entering: Entering::new(map, key, wanted), place: Location::caller() }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Future for AcquireKeyed<K> {
    type Output = Result<KeyedPermit<K>, KeyedError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let proceed = ready!(coop::poll_proceed(cx));
        let acquired = ready!(self.project().entering.poll(cx));
        proceed.made_progress();
        Poll::Ready(acquired)
    }
}

impl<K: Send + Sync + 'static> fmt::Debug for AcquireKeyed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcquireKeyed")
            .field("wanted", &self.entering.wanted)
            .field("place", &format_args!("{}", self.place))
            .finish()
    }
}
