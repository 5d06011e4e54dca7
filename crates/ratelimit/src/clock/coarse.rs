//! A clock that somebody keeps: a number in memory that a thread writes now and then.
// tidy: std-sync, a word of which every value was true once, and a thread that only writes it: nothing for a model to find

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use selvedge_primitives::time::{Elapsed, monotonic};

/// What the clock said last, in nanoseconds by the kernel's count; zero if nobody keeps it.
static NOW: AtomicU64 = AtomicU64::new(0);

/// Keeps a coarse clock for all limiters of the process, by which they refuse what is far away without a read of the exact one: for a
/// tenth of what the kernel's coarse clock costs, which they read otherwise.
///
/// A thread of its own writes the time each `interval`, until this is dropped. Only refusals of what is more than 20 ms away go by it, and by
/// the exact clock once it is nearer. If the thread is held up, such refusals last as much longer; nothing is ever granted by
/// it. A process that is forked has no such thread: there the limiters that use it have to be kept anew, or refuse for good what is far away.
///
/// Where the kernel does not tell its count (elsewhere than on Linux and Android) it is not used.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use selvedge_ratelimit::{CoarseClock, Limiter, Rate};
///
/// let _kept = CoarseClock::keep(Duration::from_millis(1))?;
/// let limiter = Limiter::new(Rate::per_hour(1).burst(1));
/// assert!(limiter.try_acquire(1).is_ok());
/// assert!((0..1_000).all(|_| limiter.try_acquire(1).is_err()));
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the clock stops when it is dropped"]
pub struct CoarseClock {
    /// Whether it is over.
    is_over: Arc<AtomicBool>,
    /// Writes the time, if there is one to write.
    thread: Option<JoinHandle<()>>,
}

impl CoarseClock {
    /// Starts the thread, which writes the time each `interval`: a millisecond is a good one, and more than ten are ten.
    ///
    /// # Errors
    ///
    /// That of the system, when there is no thread to be had.
    pub fn keep(interval: Duration) -> std::io::Result<Self> {
        let interval = interval.clamp(Duration::from_micros(10), Duration::from_millis(10));
        let is_over = Arc::new(AtomicBool::new(false));
        if !write() {
            return Ok(Self { is_over, thread: None });
        }
        let keeps = {
            let is_over = Arc::clone(&is_over);
            move || {
                // Relaxed: nothing comes with it.
                while !is_over.load(Ordering::Relaxed) {
                    write();
                    std::thread::park_timeout(interval);
                }
            }
        };
        let thread = Builder::new().name("selvedge-coarse".to_owned()).spawn(keeps);
        let thread = Some(thread.inspect_err(|_| forget())?);
        Ok(Self { is_over, thread })
    }
}

/// Writes the time, if the kernel tells it.
fn write() -> bool {
    let now = monotonic();
    // Relaxed: whatever is there was true once.
    NOW.store(now.unwrap_or(0), Ordering::Relaxed);
    now.is_some()
}

/// Nobody keeps it any more, or somebody else writes it again in a moment.
fn forget() {
    // Relaxed: as in `write`.
    NOW.store(0, Ordering::Relaxed);
}

impl Drop for CoarseClock {
    fn drop(&mut self) {
        // Relaxed: nothing comes with it.
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does nothing that could panic.
            let _ = thread.join();
            forget();
        }
    }
}

/// Whether somebody keeps it.
pub(super) fn is_kept() -> bool {
    // Relaxed: as in `write`.
    NOW.load(Ordering::Relaxed) != 0
}

/// Nanoseconds since `elapsed` began, by the clock that is kept; none if nobody keeps it, or it is not a clock of that kind.
#[inline]
pub(super) fn since(elapsed: &Elapsed) -> Option<u64> {
    // Relaxed: whatever is there was true once.
    let now = NOW.load(Ordering::Relaxed);
    if now == 0 {
        return None;
    }
    elapsed.since_start(now)
}
