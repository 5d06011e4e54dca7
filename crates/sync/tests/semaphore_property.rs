//! The semaphore against a sequential model of what its documentation says: with strict fairness call by call; with eventual
//! fairness, where it is open who of several is faster, by what must hold after each.
#![cfg(not(selvedge_loom))]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_cancel::Timer;
use selvedge_sync::{
    Acquire, AcquireError, AcquireOwned, Fairness, OwnedPermit, Permit, Semaphore, TryAcquireError,
};

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
    /// Split so many off a permit.
    Split(usize, usize),
    /// Merge a permit into the one before.
    Merge(usize),
    /// Set the capacity.
    Resize(usize),
    /// Add so many permits.
    Add(usize),
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
        40 => (any::<usize>(), 0..4usize).prop_map(|(which, n)| Step::Split(which, n)),
        20 => any::<usize>().prop_map(Step::Merge),
        40 => (0..9usize).prop_map(Step::Resize),
        8 => (0..3usize).prop_map(Step::Add),
        1 => Just(Step::Close),
    ]
}

/// What the documentation says, one call after the other.
#[derive(Debug)]
struct Model {
    capacity: usize,
    /// Below zero a debt.
    free: isize,
    closed: bool,
    /// Waiters that were not granted, in order: who, how many.
    line: VecDeque<(usize, usize)>,
    /// What was granted and not seen: who, and the permits or the close.
    granted: Vec<(usize, Result<usize, AcquireError>)>,
}

impl Model {
    fn covers(&self, n: usize) -> bool {
        n.cast_signed() <= self.free
    }

    fn hand_out(&mut self) {
        while let Some(&(who, n)) = self.line.front() {
            let grant = if self.closed {
                Err(AcquireError::Closed)
            } else if n > self.capacity {
                Err(AcquireError::OverCapacity { wanted: n, capacity: self.capacity })
            } else if self.covers(n) {
                self.free -= n.cast_signed();
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
        } else if n == 0 || (self.line.is_empty() && self.covers(n)) {
            self.free -= n.cast_signed();
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
        self.free += n.cast_signed();
        self.hand_out();
    }

    fn resize(&mut self, capacity: usize) {
        self.free += capacity.cast_signed() - self.capacity.cast_signed();
        self.capacity = capacity;
        self.hand_out();
    }

    fn forget(&mut self, n: usize) {
        let gone = n.min(self.capacity);
        self.capacity -= gone;
        self.free += (n - gone).cast_signed();
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

    fn split(&mut self, n: usize) -> Option<Self> {
        match self {
            Self::Borrowed(permit) => permit.split(n).map(Held::Borrowed),
            Self::Owned(permit) => permit.split(n).map(Held::Owned),
        }
    }

    /// Merges where both are of one kind; gives `other` back where not.
    fn merge(&mut self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Borrowed(permit), Self::Borrowed(other)) => permit.merge(other).unwrap(),
            (Self::Owned(permit), Self::Owned(other)) => permit.merge(other).unwrap(),
            (_, other) => return Some(other),
        }
        None
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
        free: capacity.cast_signed(),
        closed: false,
        line: VecDeque::new(),
        granted: Vec::new(),
    };
    let mut waiting: Vec<(usize, Waiting<'_>, Arc<Count>)> = Vec::new();
    let mut permits: Vec<Held<'_>> = Vec::new();

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
                let count = permit.count();
                permit.forget();
                model.forget(count);
            }
            Step::Split(which, n) if !permits.is_empty() => {
                let which = which % permits.len();
                let had = permits[which].count();
                let part = permits[which].split(n);
                prop_assert_eq!(part.is_some(), n <= had);
                permits.extend(part);
            }
            Step::Merge(which) if permits.len() > 1 => {
                let other = permits.remove(1 + which % (permits.len() - 1));
                let back = permits[0].merge(other);
                permits.extend(back);
            }
            Step::Resize(capacity) => {
                prop_assert_eq!(semaphore.set_capacity(capacity), Ok(model.capacity));
                model.resize(capacity);
            }
            Step::Add(n) => {
                semaphore.add(n).unwrap();
                model.resize(model.capacity + n);
            }
            Step::Close => {
                semaphore.close();
                model.close();
            }
            Step::Poll(_)
            | Step::Cancel(_)
            | Step::Release(_)
            | Step::Forget(_)
            | Step::Split(..)
            | Step::Merge(_) => {}
        }
        prop_assert_eq!(semaphore.capacity(), model.capacity);
        prop_assert_eq!(
            semaphore.available().cast_signed() - semaphore.debt().cast_signed(),
            model.free
        );
        prop_assert_eq!(semaphore.waiting(), model.line.len());
        prop_assert_eq!(semaphore.is_closed(), model.closed);
        let held: usize = permits.iter().map(Held::count).sum();
        let granted: usize =
            model.granted.iter().filter_map(|(_, grant)| grant.as_ref().ok()).sum();
        prop_assert_eq!(model.free + (held + granted).cast_signed(), model.capacity.cast_signed());
        for (who, _, count) in &waiting {
            let woken = model.granted.iter().any(|(granted, _)| granted == who);
            prop_assert_eq!(count.0.load(Ordering::Relaxed), usize::from(woken));
        }
    }

    drop(waiting);
    drop(permits);
    prop_assert_eq!((semaphore.available(), semaphore.debt()), (model.capacity, 0));
    Ok(())
}

/// The bound of the eventual semaphore.
const BOUND: Duration = Duration::from_millis(4);

/// What may be done to an eventual semaphore.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// Of the strict one's.
    Step(Step),
    /// Poll whoever was woken, until nobody is.
    Settle,
    /// Some milliseconds pass.
    Pass(u64),
    /// Change the fairness.
    Switch(bool),
}

fn turn(switches: bool) -> impl Strategy<Value = Turn> {
    prop_oneof![
        600 => step().prop_map(Turn::Step),
        150 => Just(Turn::Settle),
        100 => (0..6u64).prop_map(Turn::Pass),
        if switches { 30 } else { 0 } => any::<bool>().prop_map(Turn::Switch),
    ]
}

/// Somebody who waits for so many permits.
struct Standing<'a> {
    wanted: usize,
    future: Waiting<'a>,
    count: Arc<Count>,
}

/// All there is of an eventual semaphore.
struct Table<'a> {
    semaphore: &'a Semaphore,
    waiting: Vec<Standing<'a>>,
    permits: Vec<Held<'a>>,
    closed: bool,
}

impl Table<'_> {
    /// Polls one; true if that ended its wait.
    fn poll(&mut self, which: usize) -> Result<bool, TestCaseError> {
        let Standing { wanted, future, count } = &mut self.waiting[which];
        count.0.store(0, Ordering::Relaxed);
        let Poll::Ready(result) = future.poll(&Arc::clone(count).into()) else {
            return Ok(false);
        };
        match &result {
            Ok(permit) => prop_assert_eq!(permit.count(), *wanted),
            Err(AcquireError::Closed) => prop_assert!(self.closed),
            // Of the capacity that was then.
            Err(AcquireError::OverCapacity { wanted: it, capacity }) => {
                prop_assert_eq!(it, wanted);
                prop_assert!(capacity < it);
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        self.waiting.remove(which);
        self.permits.extend(result);
        Ok(true)
    }

    /// Polls whoever was woken, until nobody is. After that nobody waits for what is free.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        let woken = |standing: &Standing<'_>| standing.count.0.load(Ordering::Relaxed) > 0;
        while let Some(which) = self.waiting.iter().position(woken) {
            self.poll(which)?;
        }
        if let Some(most) = self.waiting.iter().map(|standing| standing.wanted).max() {
            prop_assert!(!self.closed, "somebody was not told of the close");
            prop_assert!(self.semaphore.available() < most, "somebody waits for what is free");
            prop_assert_eq!(self.semaphore.waiting(), self.waiting.len());
        }
        Ok(())
    }
}

fn run_eventual(capacity: usize, turns: &[Turn]) -> Result<(), TestCaseError> {
    let (timer, clock) = Timer::manual();
    let fairness = Fairness::Eventual(BOUND);
    let semaphore = Arc::new(Semaphore::new(capacity).with_fairness(fairness).with_timer(timer));
    let mut table =
        Table { semaphore: &semaphore, waiting: Vec::new(), permits: Vec::new(), closed: false };
    let mut switched = false;

    for &turn in turns {
        match turn {
            Turn::Settle => table.settle()?,
            Turn::Pass(millis) => clock.advance(Duration::from_millis(millis)),
            Turn::Switch(strict) => {
                switched = true;
                semaphore.set_fairness(if strict { Fairness::Strict } else { fairness });
            }
            Turn::Step(Step::Try(n, owned)) => {
                let (capacity, free) = (semaphore.capacity(), semaphore.available());
                let result = if owned {
                    semaphore.try_acquire_owned(n).map(Held::Owned)
                } else {
                    semaphore.try_acquire(n).map(Held::Borrowed)
                };
                match &result {
                    Ok(permit) => prop_assert!(permit.count() == n && n <= free && !table.closed),
                    Err(TryAcquireError::OverCapacity { .. }) => prop_assert!(n > capacity),
                    Err(TryAcquireError::Closed) => prop_assert!(table.closed),
                    Err(_) => prop_assert!(n > 0 && (n > free || !table.waiting.is_empty())),
                }
                table.permits.extend(result);
            }
            Turn::Step(Step::Acquire(wanted, owned)) => {
                let future = if owned {
                    Waiting::Owned(Box::pin(semaphore.acquire_owned(wanted)))
                } else {
                    Waiting::Borrowed(Box::pin(semaphore.acquire(wanted)))
                };
                table.waiting.push(Standing { wanted, future, count: Arc::default() });
                table.poll(table.waiting.len() - 1)?;
            }
            Turn::Step(Step::Poll(which)) if !table.waiting.is_empty() => {
                table.poll(which % table.waiting.len())?;
            }
            Turn::Step(Step::Cancel(which)) if !table.waiting.is_empty() => {
                drop(table.waiting.remove(which % table.waiting.len()));
            }
            Turn::Step(Step::Release(which)) if !table.permits.is_empty() => {
                drop(table.permits.remove(which % table.permits.len()));
            }
            Turn::Step(Step::Forget(which)) if !table.permits.is_empty() => {
                table.permits.remove(which % table.permits.len()).forget();
            }
            Turn::Step(Step::Resize(capacity)) => drop(semaphore.set_capacity(capacity)),
            Turn::Step(Step::Add(n)) => semaphore.add(n).unwrap(),
            Turn::Step(Step::Close) => {
                semaphore.close();
                table.closed = true;
            }
            Turn::Step(_) => {}
        }
        // Nothing is granted that is not taken, unless the line is, or was, strict.
        if !switched {
            let held: usize = table.permits.iter().map(Held::count).sum();
            prop_assert_eq!(semaphore.available() + held, semaphore.capacity() + semaphore.debt());
        }
    }

    // Whoever waits for the bound, and is polled when woken, shuts the door, whatever came before.
    if !table.closed && !switched {
        for _ in 0..2 {
            clock.advance(BOUND);
            table.settle()?;
        }
        if !table.waiting.is_empty() {
            prop_assert_eq!(semaphore.try_acquire(1).unwrap_err(), TryAcquireError::NoPermits);
        }
    }
    let Table { waiting, permits, closed, .. } = table;
    drop(waiting);
    drop(permits);
    let capacity = semaphore.capacity();
    prop_assert_eq!((semaphore.available(), semaphore.debt()), (capacity, 0));
    prop_assert_eq!(semaphore.waiting(), 0);
    prop_assert_eq!(semaphore.try_acquire(capacity).is_ok(), !closed);
    Ok(())
}

proptest! {
    // 1,000 cases of 100 steps: 100,000 operations.
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_model_does(
        capacity in 0..14usize,
        steps in prop::collection::vec(step(), 100),
    ) {
        run(capacity, &steps)?;
    }

    #[test]
    fn eventual_it_conserves_permits_and_leaves_nobody_waiting_for_what_is_free(
        capacity in 0..14usize,
        turns in prop::collection::vec(turn(false), 100),
    ) {
        run_eventual(capacity, &turns)?;
    }

    #[test]
    fn nor_when_the_fairness_changes(
        capacity in 0..14usize,
        turns in prop::collection::vec(turn(true), 100),
    ) {
        run_eventual(capacity, &turns)?;
    }
}
