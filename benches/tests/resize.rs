//! A limit that is lowered under load: the control that an operator reaches for when something is overloaded.
//!
//! tokio's semaphore can only forget permits that are idle (tokio issues 5308 and 6331; materialize issue 38509 tells of a service whose
//! limit could not be lowered for as long as anybody was queued). Under load none ever is: a permit that comes back goes to
//! whoever is queued. So the same program that lowers our limit from 8 to 2 stays at 8 there, for as long as there is work.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

/// What is in use before.
const BEFORE: usize = 8;
/// What may be in use afterwards.
const AFTER: usize = 2;
/// How many are queued.
const QUEUED: usize = 100;
/// How long each holds its permit.
const HOLD: Duration = Duration::from_millis(2);

/// A limit that can be lowered, or is said to.
trait Limit: Send + Sync + 'static {
    /// Leave to run.
    type Permit: Send;

    fn new() -> Self;
    fn acquire(self: Arc<Self>) -> impl Future<Output = Self::Permit> + Send;
    /// Does what there is to do to have no more than [`AFTER`] in use.
    fn lower(&self);
}

impl Limit for selvedge_sync::Semaphore {
    type Permit = selvedge_sync::OwnedPermit;

    fn new() -> Self {
        Self::new(BEFORE)
    }

    async fn acquire(self: Arc<Self>) -> Self::Permit {
        self.acquire_owned(1).await.expect("it is open, and has one")
    }

    fn lower(&self) {
        self.set_capacity(AFTER).expect("few");
    }
}

impl Limit for tokio::sync::Semaphore {
    type Permit = tokio::sync::OwnedSemaphorePermit;

    fn new() -> Self {
        Self::new(BEFORE)
    }

    async fn acquire(self: Arc<Self>) -> Self::Permit {
        self.acquire_owned().await.expect("it is open")
    }

    fn lower(&self) {
        // Whatever is idle, again and again.
        self.forget_permits(BEFORE - AFTER);
    }
}

/// Lowers the limit while [`QUEUED`] tasks are queued, and again after each millisecond. Gives what was in use at those
/// moments, for as long as somebody was queued.
async fn lower_under_load<L: Limit>() -> Vec<usize> {
    let limit = Arc::new(L::new());
    let (in_use, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..BEFORE + QUEUED)
        .map(|_| {
            let (limit, in_use, done) =
                (Arc::clone(&limit), Arc::clone(&in_use), Arc::clone(&done));
            tokio::spawn(async move {
                let permit = limit.acquire().await;
                in_use.fetch_add(1, Ordering::Relaxed);
                sleep(HOLD).await;
                in_use.fetch_sub(1, Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
                drop(permit);
            })
        })
        .collect();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(in_use.load(Ordering::Relaxed), BEFORE);
    let mut seen = Vec::new();
    while done.load(Ordering::Relaxed) < QUEUED {
        limit.lower();
        sleep(Duration::from_millis(1)).await;
        seen.push(in_use.load(Ordering::Relaxed));
    }
    for task in tasks {
        task.await.expect("no task panics");
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn ours_falls_to_the_new_limit_and_stays_there() {
    let seen = lower_under_load::<selvedge_sync::Semaphore>().await;
    let fell = seen.iter().position(|in_use| *in_use <= AFTER).expect("it falls");
    assert!(fell <= 3, "when those that were running have ended: {seen:?}");
    assert!(seen[fell..].iter().all(|in_use| *in_use <= AFTER), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn tokios_stays_where_it_was_for_as_long_as_anybody_is_queued() {
    let seen = lower_under_load::<tokio::sync::Semaphore>().await;
    let at_the_old_limit = seen.iter().filter(|in_use| **in_use == BEFORE).count();
    assert!(at_the_old_limit + 4 >= seen.len(), "it was to be stuck at {BEFORE}: {seen:?}");
}
