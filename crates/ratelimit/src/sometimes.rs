//! Something that is done the first few times, every so many times, or once in a while.
//!
//! Two words. One numbers the calls, and so tells exactly which of them are the first, and the every so
//! manieth; the other is the time of the last run, and whoever moves it on has the run. Both are moved by
//! single atomic operations before anything is run, so that no lock is held while it runs. The time
//! is told by a clock of `sometimes/clock.rs`, in one word, because an `Instant` cannot be made in a constant.

mod clock;

use std::time::Duration;

use selvedge_primitives::atomic::{AtomicU64, Ordering};
use selvedge_primitives::const_fn;
use selvedge_primitives::time::{Timer, nanos};

use clock::{Clock, NEVER};

/// Runs something the first N times, every Mth time, and once an interval: Go's `rate.Sometimes`, for a
/// log line in a hot loop.
///
/// Each rule adds runs. A call runs when
///
/// | it is | with |
/// |---|---|
/// | the first of all | every `Sometimes` |
/// | one of the first `n` | [`first`](Self::first)`(n)` |
/// | the first, and every `m`th from there: calls 1, 1 + m, 1 + 2m | [`every`](Self::every)`(m)` |
/// | an interval or more after the last run, by whichever rule that was | [`interval`](Self::interval)`(d)` |
///
/// Without a rule, it runs once.
///
/// The counts are exact, however many threads call: of the first `n` calls each runs, and of any `m` in
/// a row exactly one does by the second rule. When several find that the interval is over, one of them runs.
/// (All that is modulo 2⁶⁴ calls.)
///
/// No lock is held while something runs: nobody waits for it, it may call again, and two runs may overlap
/// if one takes longer than it is until the next. A run that panics has been a run. Nothing is promised
/// about what one run sees of another: what they share is for them to order.
///
/// # Beside Go's
///
/// | | `rate.Sometimes` | here |
/// |---|---|---|
/// | a call while another runs | waits until that has returned | does not wait |
/// | a call from within the run | deadlocks | is a call as any other |
/// | the interval begins | when the run has ended | when it is decided on |
/// | a run that panics | is not counted, and is tried again | is counted |
/// | a zero in a rule | the rule is off | does not compile, or panics |
/// | what the closure returns | nothing | is in the result |
/// | for code that cannot be a closure | | [`claim`](Self::claim) |
/// | the clock | the system's | std's, tokio's, or one moved by hand: [`with_timer`](Self::with_timer) |
///
/// # Cost
///
/// A call that does not run reads a word or two, and the clock only if there is an interval. It writes only
/// with `every`, because then it has to be counted. Nothing is allocated.
///
/// # Examples
///
/// A log line that is written three times at once, and then no more than once in ten seconds:
///
/// ```
/// use std::time::Duration;
/// use selvedge_ratelimit::Sometimes;
///
/// static COMPLAINT: Sometimes = Sometimes::new().first(3).interval(Duration::from_secs(10));
///
/// let mut lines = 0;
/// for request in 0..1000 {
///     COMPLAINT.run(|| {
///         eprintln!("request {request}: the cache is cold");
///         lines += 1;
///     });
/// }
/// assert!(lines >= 3);
/// ```
///
/// On a clock that is moved by hand:
///
/// ```
/// use std::time::Duration;
/// use selvedge_ratelimit::{Sometimes, Timer};
///
/// let (timer, clock) = Timer::manual();
/// let sometimes = Sometimes::new().interval(Duration::from_secs(10)).with_timer(timer);
/// assert_eq!(sometimes.run(|| "ran"), Some("ran"));
/// assert_eq!(sometimes.run(|| "ran"), None);
/// clock.advance(Duration::from_secs(10));
/// assert_eq!(sometimes.run(|| "ran"), Some("ran"));
/// ```
#[derive(Debug)]
pub struct Sometimes {
    /// How many of the first calls run; not zero.
    first: u64,
    /// Every how manieth call runs; zero if that is no rule.
    every: u64,
    /// How many nanoseconds after a run the next may be; zero if that is no rule.
    interval: u64,
    /// What tells the time.
    clock: Clock,
    /// How many calls there were. Without `every` it is not counted on when the first have run.
    calls: AtomicU64,
    /// When the last run was, on the clock; [`NEVER`] before the first, and without an interval.
    last: AtomicU64,
}

impl Sometimes {
    const_fn! {
        /// Runs once. What else it is to do is added by the other methods; in a constant, too.
        pub const fn new() -> Self {
            Self {
                first: 1,
                every: 0,
                interval: 0,
                clock: Clock::Std,
                calls: AtomicU64::new(0),
                last: AtomicU64::new(NEVER),
            }
        }
    }

    /// The first `n` calls run.
    ///
    /// # Panics
    ///
    /// When `n` is 0, because the first call always runs; in a constant it does not compile.
    #[track_caller]
    #[must_use = "the rule is in what is returned"]
    pub const fn first(mut self, n: u64) -> Self {
        assert!(n != 0, "the first 0 calls are none, and the first one always runs");
        self.first = n;
        self
    }

    /// The first call runs, and every `m`th from there.
    ///
    /// # Panics
    ///
    /// When `m` is 0; in a constant it does not compile.
    #[track_caller]
    #[must_use = "the rule is in what is returned"]
    pub const fn every(mut self, m: u64) -> Self {
        assert!(m != 0, "every 0th call is none, say every(1) for all of them");
        self.every = m;
        self
    }

    /// A call runs when it is made `interval` or more after the last that ran, by whichever rule. The time
    /// is what it is when that is decided on, before the run; an interval of 584 years never ends.
    ///
    /// # Panics
    ///
    /// When `interval` is zero; in a constant it does not compile.
    #[track_caller]
    #[must_use = "the rule is in what is returned"]
    pub const fn interval(mut self, interval: Duration) -> Self {
        assert!(!interval.is_zero(), "an interval of zero is none, say every(1) for all calls");
        self.interval = nanos(interval);
        self
    }

    /// The interval is told by the clock of `timer`. Without this it is std's.
    #[must_use = "the clock is in what is returned"]
    pub fn with_timer(mut self, timer: Timer) -> Self {
        self.clock = Clock::of(timer);
        self
    }

    /// Counts a call, and runs `f` if the call is one that runs. Returns what `f` returned, or none if it
    /// was not run.
    ///
    /// # Panics
    ///
    /// When `f` does.
    #[inline]
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        self.claim().then(f)
    }

    /// Counts a call, and returns whether it is one that runs; the caller then does what is to be done. For
    /// code that awaits, or returns.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_ratelimit::Sometimes;
    ///
    /// static SAMPLE: Sometimes = Sometimes::new().every(100);
    ///
    /// # async fn report(_page: u32) {}
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// for page in 0..1000 {
    ///     if SAMPLE.claim() {
    ///         report(page).await; // ten of them
    ///     }
    /// }
    /// # }
    /// ```
    #[inline]
    #[must_use = "when it is true, the caller has the run"]
    pub fn claim(&self) -> bool {
        let counted = self.is_counted_in();
        if self.interval == 0 {
            return counted;
        }
        let now = self.clock.now();
        if counted {
            self.ran(now);
            return true;
        }
        self.is_over(now)
    }

    /// Counts a call, and returns whether it runs by its number.
    #[inline]
    fn is_counted_in(&self) -> bool {
        // Relaxed: a number that only grows; whoever sees an old one counts, and is told the true one.
        if self.every == 0 && self.calls.load(Ordering::Relaxed) >= self.first {
            return false;
        }
        // Relaxed: each call has a number of its own because this is one operation; nothing else is
        // published by it.
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        call < self.first || (self.every != 0 && call.is_multiple_of(self.every))
    }

    /// Notes a run that is due to its number. What is there may be later, if others were faster.
    fn ran(&self, now: u64) {
        let later = |last| (last < now).then_some(now);
        // Relaxed, Relaxed: the time is all that is told, and it only grows: an old one is found out by
        // the exchange.
        let _ = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    /// Whether the interval is over, and nobody else has the run. Before the first run is noted it is not:
    /// the first call has that run, though its clock may have still to be read.
    #[inline]
    fn is_over(&self, now: u64) -> bool {
        let next = |last| {
            let over = last != NEVER && now.saturating_sub(last) >= self.interval;
            over.then_some(now)
        };
        // Relaxed, Relaxed: as in `ran`. Of those who see the same time one moves it on; the others see its
        // time in the failed exchange, from which it is not over.
        self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

impl Default for Sometimes {
    fn default() -> Self {
        Self::new()
    }
}
