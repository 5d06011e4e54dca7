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
use crate::semaphore::{Acquiring, Engine, Handle, Queue};
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
    /// Why it was not entered on behalf of a task whose budget was spent, for the next poll.
    refused: Option<KeyedError>,
}

impl<K: Send + Sync + 'static> Entering<K> {
    /// A wait that has not begun.
    pub(super) fn new(map: Arc<Map<K>>, key: K, wanted: usize) -> Self {
        Self { outside: Some((map, key)), wanted, acquiring: None, user: None, refused: None }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Entering<K> {
    /// Enters the key, if it has not.
    fn enter(self: Pin<&mut Self>) -> Result<(), KeyedError> {
        let mut this = self.project();
        let Some((map, key)) = this.outside.take() else { return Ok(()) };
        let (wanted, capacity) = (*this.wanted, map.permits());
        // Before it is entered: what is hopeless takes up no room among the keys.
        if wanted > capacity {
            return Err(KeyedError::OverCapacity { wanted, capacity });
        }
        let entered = Map::enter(&map, key);
        let user = entered.map_err(|max| KeyedError::TooManyKeys { max })?;
        this.acquiring.set(Some(Acquiring::new(Arc::clone(user.entry()), wanted)));
        *this.user = Some(user);
        Ok(())
    }

    /// Enters the key, and stands in its line if others do, on behalf of a task whose budget is spent: it takes nothing now, and those
    /// who come after it do not go first.
    #[cold]
    fn stand(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) {
        let entered = self.as_mut().enter();
        let this = self.project();
        match (entered, this.acquiring.as_pin_mut()) {
            (Err(error), _) => *this.refused = Some(error),
            (Ok(()), Some(acquiring)) => acquiring.stand(cx),
            (Ok(()), None) => {}
        }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Future for Entering<K> {
    type Output = Result<KeyedPermit<K>, KeyedError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if let Err(error) = self.as_mut().enter() {
            return Poll::Ready(Err(error));
        }
        let mut this = self.project();
        if let Some(error) = this.refused.take() {
            return Poll::Ready(Err(error));
        }
        let acquiring = this.acquiring.as_mut().as_pin_mut();
        let acquiring = acquiring.expect("a keyed acquire is not polled after it was ready");
        let acquired = ready!(acquiring.poll_acquire(cx));
        this.acquiring.set(None);
        let user = this.user.take().expect("it has entered");
        match acquired {
            Ok(_) => Poll::Ready(Ok(KeyedPermit::new(user, *this.wanted))),
            Err(_) => {
                unreachable!("the semaphore of a key has what was compared, and is never closed")
            }
        }
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
        let entering = self.project().entering;
        let Poll::Ready(proceed) = coop::poll_proceed(cx) else {
            entering.stand(cx);
            return Poll::Pending;
        };
        let acquired = ready!(entering.poll(cx));
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
