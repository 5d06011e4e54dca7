//! A queue of priority classes in which nobody is overtaken more often than a bound allows. Plain data:
//! whoever shares it has a lock around it.
//!
//! # The algorithm
//!
//! Items are numbered in the order in which they are pushed. An item *overtakes* those of lower number that
//! are still queued when it is taken. A take serves the most urgent class that has an item, unless the front of some class
//! is *overdue*: it has been overtaken as often as the bound allows. Then it serves the overdue front of the lowest number.
//!
//! # Why the bound holds
//!
//! Within a class items are taken in the order of their numbers, so the front of a class has been overtaken at
//! least as often as anybody behind it. An item that is not overdue may be overtaken once more. One that is,
//! or stands behind a front that is, is not: while there is an overdue front, the one that is taken
//! has the lowest number of all overdue fronts, and overtakes neither them nor those behind them.
//!
//! # How the count is known
//!
//! Of the items before number `n` those that are not queued any more have been taken; so of all that were taken,
//! `taken - (n - queued before n)` have a higher number. A class keeps this count for its front only. A take adds one to
//! the fronts it overtakes, and counts anew for the one front that has moved up: a binary search in each of the other
//! classes. A take costs O(classes × log items), a push O(1).

use std::collections::VecDeque;
use std::fmt;

/// Items of several priority classes: the most urgent first, in order within a class, and none overtaken
/// more often than a bound.
///
/// A strict priority queue starves what is not urgent for as long as urgent work keeps coming. Here an item
/// that was overtaken `bound` times is served before anything that came later. There is no clock in it: the
/// bound is a number of takes, and holds exactly.
///
/// | bound | what it is |
/// |---|---|
/// | 0 | first in, first out, whatever the class |
/// | n | the most urgent first, and nobody overtaken more than n times |
/// | `u64::MAX` | strict priority |
///
/// It is not shared: put it behind a lock, or own it in one task. What is in it can be taken, and not withdrawn. It holds as many items as are pushed; whoever
/// pushes keeps count.
///
/// # Fairness
///
/// Classes are numbered from 0, the most urgent. Items of one class are taken in the order in which they were pushed. An
/// item is taken after those that were there before it, minus those it overtakes, plus at most `bound` that
/// came later.
///
/// # Examples
///
/// A background job is overtaken twice, not three times:
///
/// ```
/// use selvedge_sync::AgeingQueue;
///
/// let mut queue = AgeingQueue::new(2, 2)?;
/// queue.push(1, "background")?;
/// for urgent in ["first", "second", "third"] {
///     queue.push(0, urgent)?;
/// }
/// let order: Vec<_> = std::iter::from_fn(|| queue.take()).collect();
/// assert_eq!(order, ["first", "second", "background", "third"]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// Shared, with room for a hundred jobs, and workers that wait for one: a [`Semaphore`](crate::Semaphore) has a permit for each job that is there,
/// and the queue keeps those for which there is room.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use selvedge_sync::{AgeingQueue, OwnedPermit, Semaphore};
///
/// struct Jobs {
///     there: Arc<Semaphore>,
///     inner: Mutex<(AgeingQueue<String>, OwnedPermit)>,
/// }
///
/// impl Jobs {
///     /// False: there is no room.
///     fn push(&self, class: usize, job: String) -> bool {
///         let mut inner = self.inner.lock().unwrap();
///         let (queue, room) = &mut *inner;
///         let Some(one) = room.split(1) else { return false };
///         queue.push(class, job).expect("there are two classes");
///         drop(inner);
///         // Wakes a worker.
///         drop(one);
///         true
///     }
///
///     async fn take(&self) -> String {
///         let one = self.there.acquire_owned(1).await.expect("it is open");
///         let mut inner = self.inner.lock().unwrap();
///         inner.1.merge(one).expect("it is of the same semaphore");
///         inner.0.take().expect("there is a job for each permit")
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let there = Arc::new(Semaphore::new(100));
/// let room = there.try_acquire_owned(100)?;
/// let jobs = Jobs { there, inner: Mutex::new((AgeingQueue::new(2, 10)?, room)) };
/// assert!(jobs.push(1, "rebuild the index".to_owned()));
/// assert!(jobs.push(0, "answer".to_owned()));
/// assert_eq!(selvedge_testkit::block_on(jobs.take()), "answer");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AgeingQueue<T> {
    /// The most urgent first.
    classes: Box<[Class<T>]>,
    /// How often an item may be overtaken.
    bound: u64,
    /// How many were pushed: the next one's number.
    pushed: u64,
    /// How many were taken.
    taken: u64,
}

/// The items of a class.
#[derive(Clone)]
struct Class<T> {
    /// Each with its number, in order.
    items: VecDeque<(u64, T)>,
    /// How often the front was overtaken.
    overtaken: u64,
}

/// A queue was not made: a take looks at every class, so there may not be many, and one has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("queue not made: {wanted} classes wanted, 1 to {max} are possible", max = MAX_CLASSES)]
#[non_exhaustive]
pub struct ClassCountError {
    /// How many were wanted.
    pub wanted: usize,
}

/// The most classes.
const MAX_CLASSES: usize = 1024;

/// An item was not pushed: there is no such class.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("item not pushed: there is no class {class}, the queue has {classes} from 0")]
#[non_exhaustive]
pub struct NoSuchClass<T> {
    /// The item.
    pub item: T,
    /// The class that was asked for.
    pub class: usize,
    /// How many there are.
    pub classes: usize,
}

impl<T> AgeingQueue<T> {
    /// The most classes a queue may have: 1024.
    pub const MAX_CLASSES: usize = MAX_CLASSES;

    /// A queue of so many classes, in which an item is overtaken `bound` times at most.
    ///
    /// # Errors
    ///
    /// When `classes` is 0, or above [`MAX_CLASSES`](Self::MAX_CLASSES).
    pub fn new(classes: usize, bound: u64) -> Result<Self, ClassCountError> {
        if !(1..=MAX_CLASSES).contains(&classes) {
            return Err(ClassCountError { wanted: classes });
        }
        let class = || Class { items: VecDeque::new(), overtaken: 0 };
        let classes = (0..classes).map(|_| class()).collect();
        Ok(Self { classes, bound, pushed: 0, taken: 0 })
    }

    /// Puts an item at the end of a class, of which 0 is the most urgent.
    ///
    /// # Errors
    ///
    /// When there is no such class. The item comes back.
    pub fn push(&mut self, class: usize, item: T) -> Result<(), NoSuchClass<T>> {
        let classes = self.classes.len();
        let Some(chosen) = self.classes.get_mut(class) else {
            return Err(NoSuchClass { item, class, classes });
        };
        if chosen.items.is_empty() {
            // Nobody has a higher number.
            chosen.overtaken = 0;
        }
        chosen.items.push_back((self.pushed, item));
        self.pushed += 1;
        Ok(())
    }

    /// Takes the item that is next; none if there is none.
    pub fn take(&mut self) -> Option<T> {
        let at = self.next()?;
        let (number, item) = self.classes[at].items.pop_front()?;
        self.taken += 1;
        for class in &mut self.classes {
            if class.front().is_some_and(|front| front < number) {
                class.overtaken += 1;
            }
        }
        if let Some(front) = self.classes[at].front() {
            self.classes[at].overtaken = self.overtaken(front);
        }
        Some(item)
    }

    /// The class that is served next.
    fn next(&self) -> Option<usize> {
        let fronts = || {
            let class =
                |(at, class): (usize, &Class<T>)| Some((class.front()?, at, class.overtaken));
            self.classes.iter().enumerate().filter_map(class)
        };
        let overdue = fronts().filter(|front| front.2 >= self.bound).min();
        let next = overdue.or_else(|| fronts().next());
        next.map(|(_, at, _)| at)
    }

    /// How often the queued item of a number was overtaken.
    fn overtaken(&self, number: u64) -> u64 {
        let before = |class: &Class<T>| class.items.partition_point(|item| item.0 < number) as u64;
        let queued: u64 = self.classes.iter().map(before).sum();
        self.taken + queued - number
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.classes.iter().map(|class| class.items.len()).sum()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.items.is_empty())
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// How often an item may be overtaken.
    pub fn bound(&self) -> u64 {
        self.bound
    }
}

impl<T> Class<T> {
    /// The number of the front.
    fn front(&self) -> Option<u64> {
        self.items.front().map(|&(number, _)| number)
    }
}

impl<T> fmt::Debug for AgeingQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths: Vec<_> = self.classes.iter().map(|class| class.items.len()).collect();
        f.debug_struct("AgeingQueue")
            .field("lengths", &lengths)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for NoSuchClass<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoSuchClass")
            .field("class", &self.class)
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}
