//! How long to wait before another attempt: delays that grow, up to a cap, with jitter. Numbers only; who
//! uses them waits, on whatever clock.
//!
//! The ceiling of the first delay is the base, and each further one is the one before times the factor, up to the cap. It is
//! computed in floating point and never goes back: a product that cannot be told from what it was, or that no
//! [`Duration`] can hold, is what it was, or the cap. The jitter draws from whole nanoseconds, both ends included. The
//! kinds are those of Marc Brooker, "Exponential Backoff And Jitter" (2015), "decorrelated" among them, which has no ceilings but begins as if
//! there had been a delay of the base; his factor there is 3.

use std::iter::FusedIterator;
use std::time::Duration;

use fastrand::Rng;

/// How many delays there are unless told otherwise.
const ATTEMPTS: usize = 10;

/// How many nanoseconds a second has.
const SECOND: u128 = 1_000_000_000;

/// The delays between attempts: exponential, with a cap, a number of attempts and jitter.
///
/// This is a plan, and can be kept and copied; [`delays`](Self::delays) begins a sequence.
///
/// | jitter | a delay is drawn from | take it |
/// |---|---|---|
/// | [`Jitter::None`] | the ceiling itself | if there is one client, or in tests |
/// | [`Jitter::Full`], the default | 0 to the ceiling | for the least load on what is retried |
/// | [`Jitter::Equal`] | half the ceiling to the ceiling | if a delay near zero is of no use |
/// | [`Jitter::Decorrelated`] | the base to the last delay times the factor, up to the cap | if clients that began together are to drift apart quickly |
///
/// The ceiling is base × factor<sup>n</sup>, and not above the cap. No input overflows.
///
/// The first delay of [`Jitter::Decorrelated`] is drawn from the base to the base times the factor. Its source uses a
/// [`factor`](Self::factor) of 3; with 1 nothing of it is left to chance.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use selvedge_sync::{Backoff, Jitter};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), selvedge_sync::BackoffError> {
/// # let mut answers = [Err("busy"), Err("busy"), Ok(7)].into_iter();
/// # let mut ask = move || std::future::ready(answers.next().unwrap());
/// let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5))?;
/// let mut delays = backoff.delays();
/// let answer = loop {
///     match ask().await {
///         Ok(answer) => break Some(answer),
///         Err(_busy) => match delays.next() {
///             Some(delay) => tokio::time::sleep(delay).await,
///             None => break None,
///         },
///     }
/// };
/// assert_eq!(answer, Some(7));
///
/// let exact = backoff.jitter(Jitter::None).attempts(3).delays();
/// assert_eq!(exact.map(|delay| delay.as_millis()).collect::<Vec<_>>(), [100, 200, 400]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use = "a plan does nothing: call `delays`"]
pub struct Backoff {
    /// The first ceiling.
    base: Duration,
    /// The last ceiling.
    cap: Duration,
    /// From one ceiling to the next.
    factor: f64,
    /// How many delays; none for no end.
    attempts: Option<usize>,
    /// What is drawn.
    jitter: Jitter,
}

/// What of a delay is left to chance; [`Backoff`] has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Jitter {
    /// Nothing.
    None,
    /// All of it.
    #[default]
    Full,
    /// Half of it.
    Equal,
    /// All above the base; it grows from the last delay, and not from the last ceiling, by a factor that has to be above 1.
    Decorrelated,
}

/// A plan was not made.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BackoffError {
    /// No delay would fit between the two.
    #[error("backoff not made: its cap of {cap:?} is below its base of {base:?}")]
    CapBelowBase {
        /// The first ceiling.
        base: Duration,
        /// The last ceiling.
        cap: Duration,
    },
    /// Delays do not grow by this.
    #[error("backoff not made: a factor of {factor}, and it has to be a finite number from 1")]
    Factor {
        /// The factor.
        factor: f64,
    },
}

impl Backoff {
    /// Delays from `base` up to `cap`: doubling, with full jitter, ten of them.
    ///
    /// A base of zero gives delays of zero.
    ///
    /// # Errors
    ///
    /// [`BackoffError::CapBelowBase`].
    pub const fn new(base: Duration, cap: Duration) -> Result<Self, BackoffError> {
        if cap.as_nanos() < base.as_nanos() {
            return Err(BackoffError::CapBelowBase { base, cap });
        }
        Ok(Self { base, cap, factor: 2.0, attempts: Some(ATTEMPTS), jitter: Jitter::Full })
    }

    /// Delays grow by `factor`. With 1 they do not, and those of [`Jitter::Decorrelated`] are all the base.
    ///
    /// # Errors
    ///
    /// [`BackoffError::Factor`], when it is below 1, infinite or no number.
    pub const fn factor(mut self, factor: f64) -> Result<Self, BackoffError> {
        if !(factor.is_finite() && factor >= 1.0) {
            return Err(BackoffError::Factor { factor });
        }
        self.factor = factor;
        Ok(self)
    }

    /// `count` delays, so `count` attempts after the first.
    pub const fn attempts(mut self, count: usize) -> Self {
        self.attempts = Some(count);
        self
    }

    /// Delays without end.
    pub const fn endless(mut self) -> Self {
        self.attempts = None;
        self
    }

    /// What is left to chance.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Begins a sequence, by chance.
    pub fn delays(&self) -> Delays {
        self.begin(Rng::new())
    }

    /// Begins a sequence: the same one for the same seed, in the same version of this crate.
    pub fn delays_seeded(&self, seed: u64) -> Delays {
        self.begin(Rng::with_seed(seed))
    }

    /// Begins a sequence.
    fn begin(&self, rng: Rng) -> Delays {
        let next = match self.jitter {
            // Or all who begin together would come again together, after the base.
            Jitter::Decorrelated => self.grown(self.base),
            _ => self.base,
        };
        Delays { plan: *self, next, left: self.attempts, rng }
    }

    /// What follows `last`.
    fn grown(&self, last: Duration) -> Duration {
        let grown = Duration::try_from_secs_f64(last.as_secs_f64() * self.factor);
        // Not below: the product of a long duration and little more than 1 may be rounded down.
        grown.map_or(self.cap, |grown| grown.max(last).min(self.cap))
    }
}

/// The delays of one sequence of attempts; from [`Backoff::delays`].
#[derive(Debug, Clone)]
#[must_use = "iterators are lazy: call `next` after each failed attempt"]
pub struct Delays {
    /// The plan.
    plan: Backoff,
    /// The next ceiling.
    next: Duration,
    /// How many delays are left; none for no end.
    left: Option<usize>,
    /// Chance.
    rng: Rng,
}

impl Delays {
    /// From `low` to `high`, each nanosecond as likely as the other.
    fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let nanos = self.rng.u128(low.as_nanos()..=high.as_nanos());
        // Both fit: they are not above the seconds of `high`, and below a second.
        Duration::new((nanos / SECOND) as u64, (nanos % SECOND) as u32)
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let (plan, ceiling) = (self.plan, self.next);
        let delay = match plan.jitter {
            Jitter::None => ceiling,
            Jitter::Full => self.between(Duration::ZERO, ceiling),
            Jitter::Equal => {
                let half = ceiling / 2;
                (ceiling - half) + self.between(Duration::ZERO, half)
            }
            Jitter::Decorrelated => self.between(plan.base, ceiling),
        };
        self.next = plan.grown(match plan.jitter {
            Jitter::Decorrelated => delay,
            _ => ceiling,
        });
        Some(delay)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.unwrap_or(usize::MAX), self.left)
    }
}

impl FusedIterator for Delays {}
