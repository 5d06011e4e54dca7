//! Making a single flight with more than the defaults.

use std::borrow::Cow;
use std::fmt;
use std::hash::RandomState;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use selvedge_primitives::Origin;
use selvedge_primitives::time::Timer;

use super::SingleFlight;
use super::map::{Keep, Map};

/// How many results are kept unless told otherwise.
const KEPT: usize = 1024;

/// What makes flights of these, and has none.
type Maker<K, V, E> = fn() -> (K, V, E);

/// Makes a [`SingleFlight`] with a name, or one that keeps results for a time; from
/// [`SingleFlight::builder`].
#[must_use = "call `build`"]
pub struct SingleFlightBuilder<K, V, E, S = RandomState> {
    /// Name and place.
    origin: Origin,
    /// How long values are kept.
    values: Duration,
    /// How long errors are kept.
    errors: Duration,
    /// How many of both.
    at_most: usize,
    /// Whose clock tells the time; none for that of the place of the build.
    timer: Option<Timer>,
    /// Makes the hashes of the keys.
    hasher: S,
    /// What it is of.
    flights: PhantomData<Maker<K, V, E>>,
}

impl<K, V, E> SingleFlightBuilder<K, V, E> {
    /// The defaults.
    #[track_caller]
    pub(super) fn new() -> Self {
        Self {
            origin: Origin::here(),
            values: Duration::ZERO,
            errors: Duration::ZERO,
            at_most: KEPT,
            timer: None,
            hasher: RandomState::new(),
            flights: PhantomData,
        }
    }
}

impl<K, V, E, S> SingleFlightBuilder<K, V, E, S> {
    /// Hashes the keys with what `hasher` builds, instead of std's [`RandomState`].
    ///
    /// That one is keyed with what nobody outside can guess, so that who chooses keys (the path of a request is one) cannot choose
    /// them such that all meet in one place. For a short key it does not show beside the trips to a lock that a call costs. Where keys are
    /// long and one's own, another may be faster; it is to spread over all 64 bits, because the place of a key is taken from both ends and from
    /// the middle.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::hash::{BuildHasherDefault, DefaultHasher};
    /// use selvedge_sync::SingleFlight;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// // The same hashes in every process.
    /// type Fixed = BuildHasherDefault<DefaultHasher>;
    /// let flights: SingleFlight<u64, u32, Infallible, Fixed> =
    ///     SingleFlight::builder().hasher(Fixed::new()).build();
    /// assert_eq!(flights.run(7, || async { Ok(1) }).await, Ok(1));
    /// # }
    /// ```
    pub fn hasher<H>(self, hasher: H) -> SingleFlightBuilder<K, V, E, H> {
        let Self { origin, values, errors, at_most, timer, flights, .. } = self;
        SingleFlightBuilder { origin, values, errors, at_most, timer, hasher, flights }
    }

    /// Names it, for `{:?}`.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.origin = self.origin.named(name);
        self
    }

    /// Gives a value to whoever calls within `time` after the flight has landed, instead of another
    /// flight. Zero, the default, keeps nothing; [`Duration::MAX`] is for ever.
    pub fn keep_values(mut self, time: Duration) -> Self {
        self.values = time;
        self
    }

    /// The same for errors: a key that cannot be had is not asked for again and again.
    pub fn keep_errors(mut self, time: Duration) -> Self {
        self.errors = time;
        self
    }

    /// Keeps no more than `count` results at a time, 1024 by default. Room for another is made by dropping the
    /// one whose time ends first, among those in the same shard: so it may happen some results before `count`. With 0 nothing
    /// is kept.
    pub fn keep_at_most(mut self, count: usize) -> Self {
        self.at_most = count;
        self
    }

    /// Tells the time by the clock of `timer`. By default it is that of the place where
    /// [`build`](Self::build) is called: tokio's inside a tokio runtime with a time driver, the system's elsewhere. Nothing is
    /// ever registered with it.
    pub fn timer(mut self, timer: Timer) -> Self {
        self.timer = Some(timer);
        self
    }

    /// Makes it.
    #[must_use]
    pub fn build(self) -> SingleFlight<K, V, E, S> {
        let Self { origin, values, errors, at_most, timer, hasher, .. } = self;
        let keeps = at_most > 0 && !(values.is_zero() && errors.is_zero());
        let clock = keeps
            .then(|| timer.unwrap_or_else(|| Timer::ambient().unwrap_or_else(|_| Timer::thread())));
        let keep = clock.map(|clock| Keep { values, errors, at_most, clock });
        SingleFlight { map: Arc::new(Map::new(keep, hasher, &origin)), origin }
    }
}

impl<K, V, E, S> fmt::Debug for SingleFlightBuilder<K, V, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlightBuilder")
            .field("origin", &self.origin)
            .field("keep_values", &self.values)
            .field("keep_errors", &self.errors)
            .field("keep_at_most", &self.at_most)
            .finish_non_exhaustive()
    }
}
