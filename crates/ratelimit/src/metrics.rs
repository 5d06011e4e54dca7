//! What was counted, as plain numbers.

use std::fmt;

/// What a limiter has done since it was made; from [`Limiter::metrics`](crate::Limiter::metrics).
///
/// The counts are exact, whatever threads do: each request is counted once, when it is told what becomes of it. While requests are on
/// their way, numbers that were read one after the other need not be of the same moment; and a count that is read later is never smaller.
///
/// What was used in all is `tokens - returned + charged`.
///
/// # Examples
///
/// ```
/// use selvedge_ratelimit::{Limiter, Rate};
///
/// let limiter = Limiter::new(Rate::per_hour(1).burst(5));
/// limiter.try_acquire(3)?;
/// assert!(limiter.try_acquire(3).is_err());
/// let metrics = limiter.metrics();
/// assert_eq!((metrics.at_once, metrics.tokens, metrics.refused), (1, 3, 1));
/// assert_eq!(
///     metrics.to_string(),
///     "1 granted at once, 0 after a wait (3 tokens), 1 refused, 0 waits given up, 0 tokens charged late, 0 returned"
/// );
/// # Ok::<_, selvedge_ratelimit::TryAcquireError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Metrics {
    /// Requests that were granted without a wait: tries, waits that found their tokens there, and reservations that were due at once.
    pub at_once: u64,
    /// Requests that were granted after a wait in line. One that waits is counted when it is told.
    pub after_wait: u64,
    /// Tokens that all these were granted.
    pub tokens: u64,
    /// Requests that were refused, for whatever reason: tries, and waits that ended with an error, at once or later.
    pub refused: u64,
    /// Waits that were given up: dropped, ended by their context, or cancelled, before they were told.
    pub cancelled: u64,
    /// Tokens that were [charged](crate::Limiter::charge) late, those of [reservations](crate::Reservation::commit) as well.
    pub charged: u64,
    /// Tokens that [reservations](crate::Reservation) were granted and gave back, as far as they went back into the bucket.
    pub returned: u64,
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_once, after_wait, tokens, refused, cancelled, charged, returned } = self;
        write!(f, "{at_once} granted at once, {after_wait} after a wait ({tokens} tokens), ")?;
        write!(f, "{refused} refused, {cancelled} waits given up, ")?;
        write!(f, "{charged} tokens charged late, {returned} returned")
    }
}

/// What limits by key have done since they were made; from [`Keyed::metrics`](crate::Keyed::metrics).
///
/// `inserted - evicted - forgotten` is how many keys there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct KeyedMetrics {
    /// Of the requests of all keys.
    pub requests: Metrics,
    /// Keys that came.
    pub inserted: u64,
    /// Keys that went to make room for others.
    pub evicted: u64,
    /// Keys that were [forgotten](crate::Keyed::forget).
    pub forgotten: u64,
    /// Requests of new keys for which there was no room: refused, or led to the bucket that is [shared](crate::WhenFull::Share).
    pub turned_away: u64,
}

impl fmt::Display for KeyedMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, inserted, evicted, forgotten, turned_away } = self;
        write!(f, "{requests}; {inserted} keys came, {evicted} were evicted, ")?;
        write!(f, "{forgotten} forgotten, {turned_away} turned away")
    }
}
