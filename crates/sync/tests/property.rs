//! The semaphore against a sequential model of what its documentation says.
#![cfg(not(selvedge_loom))]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use proptest::prelude::*;
use selvedge_sync::TryAcquireError;
use selvedge_sync::{Acquire, AcquireError, AcquireOwned, OwnedPermit, Permit, Semaphore};

/// What may be done to a semaphore. Numbers that choose a waiter or a permit go round.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// `try_acquire` (or owned) of so many.
    Try(usize, bool),
    /// `acquire` (or owned) of so many, polled once.
    Acquire(usize, bool),
    /// Poll one of those that were not ready.
    Poll(usize),
    /// Drop one of those that were not ready.
    Cancel(usize),
    /// Drop a permit.
    Release(usize),
    /// Forget a permit.
    Forget(usize),
    /// Close.
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let n = prop_oneof![20 => 0..8usize, 1 => Just(usize::MAX), 1 => Just(Semaphore::MAX_PERMITS)];
    prop_oneof![
        200 => (n.clone(), any::<bool>()).prop_map(|(n, owned)| Step::Try(n, owned)),
        350 => (n, any::<bool>()).prop_map(|(n, owned)| Step::Acquire(n, owned)),
        250 => any::<usize>().prop_map(Step::Poll),
        120 => any::<usize>().prop_map(Step::Cancel),
        350 => any::<usize>().prop_map(Step::Release),
        4 => any::<usize>().prop_map(Step::Forget),
        1 => Just(Step::Close),
    ]
}

/// What the documentation says, one call after the other.
#[derive(Debug)]
struct Model {
    capacity: usize,
    free: usize,
    closed: bool,
    /// Waiters that were not granted, in order: who, how many.
    line: VecDeque<(usize, usize)>,
    /// What was granted and not seen: who, and the permits or the close.
    granted: Vec<(usize, Result<usize, AcquireError>)>,
}

impl Model {
    fn hand_out(&mut self) {
        while let Some(&(who, n)) = self.line.front() {
            let grant = if self.closed {
                Err(AcquireError::Closed)
            } else if n <= self.free {
                self.free -= n;
                Ok(n)
            } else {
                return;
            };
            self.line.pop_front();
            self.granted.push((who, grant));
        }
    }

    fn try_acquire(&mut self, n: usize) -> Result<usize, TryAcquireError> {
        let capacity = self.capacity;
        if n > capacity {
            Err(TryAcquireError::OverCapacity { wanted: n, capacity })
        } else if self.closed {
            Err(TryAcquireError::Closed)
        } else if n == 0 || (self.line.is_empty() && n <= self.free) {
            self.free -= n;
            Ok(n)
        } else {
            Err(TryAcquireError::NoPermits)
        }
    }

    fn acquire(&mut self, who: usize, n: usize) -> Poll<Result<usize, AcquireError>> {
        Poll::Ready(match self.try_acquire(n) {
            Ok(n) => Ok(n),
            Err(TryAcquireError::NoPermits) => {
                self.line.push_back((who, n));
                return Poll::Pending;
            }
            Err(TryAcquireError::OverCapacity { wanted, capacity }) => {
                Err(AcquireError::OverCapacity { wanted, capacity })
            }
            Err(_) => Err(AcquireError::Closed),
        })
    }

    fn poll(&mut self, who: usize) -> Poll<Result<usize, AcquireError>> {
        match self.granted.iter().position(|&(granted, _)| granted == who) {
            Some(place) => Poll::Ready(self.granted.remove(place).1),
            None => Poll::Pending,
        }
    }

    fn cancel(&mut self, who: usize) {
        match self.poll(who) {
            Poll::Ready(Ok(n)) => self.release(n),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                self.line.retain(|&(waiter, _)| waiter != who);
                self.hand_out();
            }
        }
    }

    fn release(&mut self, n: usize) {
        self.free += n;
        self.hand_out();
    }

    fn close(&mut self) {
        self.closed = true;
        self.hand_out();
    }
}

/// Either kind of permit.
enum Held<'a> {
    Borrowed(Permit<'a>),
    Owned(OwnedPermit),
}

impl Held<'_> {
    fn count(&self) -> usize {
        match self {
            Self::Borrowed(permit) => permit.count(),
            Self::Owned(permit) => permit.count(),
        }
    }

    fn forget(self) {
        match self {
            Self::Borrowed(permit) => permit.forget(),
            Self::Owned(permit) => permit.forget(),
        }
    }
}

/// Either kind of future.
enum Waiting<'a> {
    Borrowed(Pin<Box<Acquire<'a>>>),
    Owned(Pin<Box<AcquireOwned>>),
}

impl<'a> Waiting<'a> {
    fn poll(&mut self, waker: &Waker) -> Poll<Result<Held<'a>, AcquireError>> {
        let mut cx = Context::from_waker(waker);
        match self {
            Self::Borrowed(future) => {
                future.as_mut().poll(&mut cx).map(|result| result.map(Held::Borrowed))
            }
            Self::Owned(future) => {
                future.as_mut().poll(&mut cx).map(|result| result.map(Held::Owned))
            }
        }
    }
}

/// Counts wakes.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn run(capacity: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let semaphore = Arc::new(Semaphore::new(capacity));
    let mut model = Model {
        capacity,
        free: capacity,
        closed: false,
        line: VecDeque::new(),
        granted: Vec::new(),
    };
    let mut waiting: Vec<(usize, Waiting<'_>, Arc<Count>)> = Vec::new();
    let mut permits: Vec<Held<'_>> = Vec::new();
    let mut forgotten = 0;

    for (who, &step) in steps.iter().enumerate() {
        match step {
            Step::Try(n, owned) => {
                let result = if owned {
                    semaphore.try_acquire_owned(n).map(Held::Owned)
                } else {
                    semaphore.try_acquire(n).map(Held::Borrowed)
                };
                prop_assert_eq!(
                    result.as_ref().map(Held::count).map_err(Clone::clone),
                    model.try_acquire(n)
                );
                permits.extend(result);
            }
            Step::Acquire(n, owned) => {
                let mut future = if owned {
                    Waiting::Owned(Box::pin(semaphore.acquire_owned(n)))
                } else {
                    Waiting::Borrowed(Box::pin(semaphore.acquire(n)))
                };
                let count = Arc::new(Count::default());
                let polled = future.poll(&Arc::clone(&count).into());
                let expected = model.acquire(who, n);
                match polled {
                    Poll::Pending => {
                        prop_assert_eq!(expected, Poll::Pending);
                        waiting.push((who, future, count));
                    }
                    Poll::Ready(result) => {
                        let seen = result.as_ref().map(Held::count).map_err(Clone::clone);
                        prop_assert_eq!(Poll::Ready(seen), expected);
                        permits.extend(result);
                    }
                }
            }
            Step::Poll(which) if !waiting.is_empty() => {
                let which = which % waiting.len();
                let (who, future, count) = &mut waiting[which];
                let polled = future.poll(&Arc::clone(count).into());
                let expected = model.poll(*who);
                match polled {
                    Poll::Pending => prop_assert_eq!(expected, Poll::Pending),
                    Poll::Ready(result) => {
                        let seen = result.as_ref().map(Held::count).map_err(Clone::clone);
                        prop_assert_eq!(Poll::Ready(seen), expected);
                        prop_assert_eq!(count.0.load(Ordering::Relaxed), 1);
                        permits.extend(result);
                        waiting.remove(which);
                    }
                }
            }
            Step::Cancel(which) if !waiting.is_empty() => {
                let (who, future, _) = waiting.remove(which % waiting.len());
                drop(future);
                model.cancel(who);
            }
            Step::Release(which) if !permits.is_empty() => {
                let permit = permits.remove(which % permits.len());
                let count = permit.count();
                drop(permit);
                if count > 0 {
                    model.release(count);
                }
            }
            Step::Forget(which) if !permits.is_empty() => {
                let permit = permits.remove(which % permits.len());
                forgotten += permit.count();
                permit.forget();
            }
            Step::Close => {
                semaphore.close();
                model.close();
            }
            Step::Poll(_) | Step::Cancel(_) | Step::Release(_) | Step::Forget(_) => {}
        }
        prop_assert_eq!(semaphore.available(), model.free);
        prop_assert_eq!(semaphore.is_closed(), model.closed);
        let held: usize = permits.iter().map(Held::count).sum();
        let granted: usize =
            model.granted.iter().filter_map(|(_, grant)| grant.as_ref().ok()).sum();
        prop_assert_eq!(model.free + held + granted + forgotten, capacity);
        for (who, _, count) in &waiting {
            let woken = model.granted.iter().any(|(granted, _)| granted == who);
            prop_assert_eq!(count.0.load(Ordering::Relaxed), usize::from(woken));
        }
    }

    drop(waiting);
    drop(permits);
    prop_assert_eq!(semaphore.available(), capacity - forgotten);
    Ok(())
}

proptest! {
    // 1,000 cases of 100 steps: 100,000 operations.
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_model_does(
        capacity in 0..7usize,
        steps in prop::collection::vec(step(), 100),
    ) {
        run(capacity, &steps)?;
    }
}
