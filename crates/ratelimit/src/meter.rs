//! Counts what limiters do, for [`Metrics`](crate::Metrics): nothing at all without the feature `metrics`.
//!
//! The counts are *striped*: each thread adds to those of a stripe that is its own, or is shared with few, on lines of the cache of its own, so that
//! counting makes no two threads share a line that they would not share without it. What is read is the sum over the stripes.
//!
//! The orderings are all Relaxed: each count is one number to which everybody adds by a RMW, so none is lost; what was counted before a reader was
//! told of it in another way is in what it reads, and nothing else comes with a count.

#[cfg(feature = "metrics")]
mod striped;

#[cfg(feature = "metrics")]
pub(crate) use striped::Meter;

/// Counts nothing.
#[cfg(not(feature = "metrics"))]
#[derive(Debug, Clone)]
pub(crate) struct Meter;

#[cfg(not(feature = "metrics"))]
impl Meter {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self
    }

    #[inline(always)]
    fn count(&self, _: Count, _: u64) {}
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// Requests for no tokens that were granted, which is at once.
    ForNone,
    /// Requests for others that were granted at once.
    AtOnce,
    /// Requests that were granted after a wait.
    AfterWait,
    /// Tokens that were granted, beyond one for each of these.
    Beyond,
    /// Requests that were refused.
    Refused,
    /// Waits that were given up.
    Cancelled,
    /// Tokens that were charged late.
    Charged,
    /// Tokens that came back.
    Returned,
    /// Keys that came.
    Inserted,
    /// Keys that made room.
    Evicted,
    /// Keys that were forgotten.
    Forgotten,
    /// Requests of keys that found no room.
    TurnedAway,
}

impl Meter {
    /// Tokens for a request.
    #[inline]
    fn tokens(&self, count: Count, tokens: u32) {
        let Some(beyond) = tokens.checked_sub(1) else { return self.count(Count::ForNone, 1) };
        self.count(count, 1);
        // So that a request for one, as most are, costs one addition.
        if beyond > 0 {
            self.count(Count::Beyond, beyond.into());
        }
    }

    /// A request was granted at once.
    #[inline]
    pub(crate) fn granted(&self, tokens: u32) {
        self.tokens(Count::AtOnce, tokens);
    }

    /// A request was granted after a wait.
    #[inline]
    pub(crate) fn waited(&self, tokens: u32) {
        self.tokens(Count::AfterWait, tokens);
    }

    /// A request was refused.
    #[inline]
    pub(crate) fn refused(&self) {
        self.count(Count::Refused, 1);
    }

    /// A request was granted at once, or refused.
    #[inline]
    pub(crate) fn tried<E>(&self, tokens: u32, told: &Result<(), E>) {
        match told {
            Ok(()) => self.granted(tokens),
            Err(_) => self.refused(),
        }
    }

    /// A request came to the line, and was granted or refused: at once, or after a wait.
    pub(crate) fn told(&self, tokens: u32, is_granted: bool, at_once: bool) {
        match (is_granted, at_once) {
            (true, true) => self.granted(tokens),
            (true, false) => self.waited(tokens),
            (false, _) => self.refused(),
        }
    }

    /// A wait was given up.
    pub(crate) fn cancelled(&self) {
        self.count(Count::Cancelled, 1);
    }

    /// Tokens were charged late.
    pub(crate) fn charged(&self, tokens: u32) {
        self.count(Count::Charged, tokens.into());
    }

    /// Of tokens that were counted as granted, so many came back.
    pub(crate) fn returned(&self, tokens: u32) {
        self.count(Count::Returned, tokens.into());
    }

    /// A key came.
    pub(crate) fn inserted(&self) {
        self.count(Count::Inserted, 1);
    }

    /// A key made room for another.
    pub(crate) fn evicted(&self) {
        self.count(Count::Evicted, 1);
    }

    /// A key was forgotten.
    pub(crate) fn forgotten(&self) {
        self.count(Count::Forgotten, 1);
    }

    /// A request of a key that came found no room for it.
    pub(crate) fn turned_away(&self) {
        self.count(Count::TurnedAway, 1);
    }
}
