//! An executor that is moved by hand, one poll at a time.
//!
//! Tasks live in a `Vec` and keep their index for life. A wake puts the index into a queue that the
//! wakers share with the executor; `step` takes one out, in order or by a seeded draw. The queue's
//! lock is never held while a future is polled or dropped, so a task may wake any other, or itself.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// A run of more polls is taken never to stall.
const MAX_POLLS: usize = 1_000_000;

/// Runs several futures on this thread, one poll at a time, in an order that comes back.
///
/// The futures may borrow and need not be `Send`; wakes may come from any thread. A task is polled
/// only when it was woken, once for any number of wakes.
///
/// # Fairness
///
/// [`new`](Self::new) polls in the order of the wakes. [`seeded`](Self::seeded) draws among the
/// woken tasks: the same seed gives the same interleaving, another one another, and none is left
/// out for good.
///
/// # Examples
///
/// ```
/// use selvedge_testkit::ManualExecutor;
/// use tokio::sync::Notify;
///
/// let notify = Notify::new();
/// let mut executor = ManualExecutor::new();
/// let waiting = executor.spawn(notify.notified());
/// let impatient = executor.spawn(notify.notified());
/// assert_eq!(executor.run_until_stalled(), 2);
///
/// // The first in line is notified, but dropped before it is polled: the second is next.
/// notify.notify_one();
/// assert!(executor.drop_task(&waiting));
/// executor.run_until_stalled();
/// assert_eq!(impatient.take(), Some(()));
/// ```
pub struct ManualExecutor<'t> {
    /// Each task that was spawned; `None` once it is finished or dropped.
    tasks: Vec<Option<Pin<Box<dyn Future<Output = ()> + 't>>>>,
    /// Which of them to poll, shared with their wakers.
    woken: Arc<Woken>,
    /// How the next one is chosen.
    order: Order,
}

impl<'t> ManualExecutor<'t> {
    /// Polls tasks in the order in which they were woken.
    pub fn new() -> Self {
        Self::with_order(Order::Fifo)
    }

    /// Polls one of the woken tasks, drawn from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self::with_order(Order::Drawn(Xorshift::new(seed)))
    }

    /// An executor without tasks.
    fn with_order(order: Order) -> Self {
        Self { tasks: Vec::new(), woken: Arc::default(), order }
    }

    /// Adds a task, woken once, so that a step polls it for the first time.
    pub fn spawn<F>(&mut self, future: F) -> Task<F::Output>
    where
        F: Future + 't,
        F::Output: 't,
    {
        let index = self.tasks.len();
        let result = Rc::new(RefCell::new(Progress::Running));
        let outcome = Rc::clone(&result);
        self.tasks.push(Some(Box::pin(async move {
            let output = future.await;
            *outcome.borrow_mut() = Progress::Finished(Some(output));
        })));
        self.woken.add_task();
        Task { index, result, woken: Arc::clone(&self.woken) }
    }

    /// Polls one woken task, once; `false` if none is woken.
    ///
    /// # Panics
    ///
    /// With the panic of the task, which is dropped by it; the others can go on.
    pub fn step(&mut self) -> bool {
        while let Some(index) = self.woken.take_one(&mut self.order) {
            // Woken late: it is finished or dropped.
            let Some(mut task) = self.tasks[index].take() else { continue };
            let waker = Waker::from(Arc::new(WakeTask { index, woken: Arc::clone(&self.woken) }));
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                self.tasks[index] = Some(task);
            }
            return true;
        }
        false
    }

    /// Steps until no task is woken; returns the number of polls.
    ///
    /// # Panics
    ///
    /// With the panic of a task, and after a million polls: some task wakes itself without end.
    #[track_caller]
    pub fn run_until_stalled(&mut self) -> usize {
        for polls in 0..MAX_POLLS {
            if !self.step() {
                return polls;
            }
        }
        panic!("not stalled after {MAX_POLLS} polls: a task wakes itself without end; use `step`")
    }

    /// Drops a task where it stands; `false` if it was finished or dropped before.
    ///
    /// # Panics
    ///
    /// If `task` is a task of another executor.
    #[track_caller]
    pub fn drop_task<T>(&mut self, task: &Task<T>) -> bool {
        assert!(
            Arc::ptr_eq(&self.woken, &task.woken),
            "the task belongs to another executor: drop it there"
        );
        self.tasks[task.index].take().is_some()
    }
}

impl Default for ManualExecutor<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualExecutor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.tasks.iter().flatten().count();
        f.debug_struct("ManualExecutor")
            .field("spawned", &self.tasks.len())
            .field("running", &running)
            .finish_non_exhaustive()
    }
}

/// A task of a [`ManualExecutor`]: its result, and the name by which to drop it.
///
/// Dropping the handle leaves the task alone.
pub struct Task<T> {
    /// Its place in the executor.
    index: usize,
    /// Filled by the task's last poll.
    result: Rc<RefCell<Progress<T>>>,
    /// Tells the executor it belongs to.
    woken: Arc<Woken>,
}

impl<T> Task<T> {
    /// Whether the future has returned; `take` may have taken its result since.
    pub fn is_finished(&self) -> bool {
        matches!(*self.result.borrow(), Progress::Finished(_))
    }

    /// What the future returned, the first time it is asked for after that.
    pub fn take(&self) -> Option<T> {
        match &mut *self.result.borrow_mut() {
            Progress::Running => None,
            Progress::Finished(output) => output.take(),
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("index", &self.index)
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

/// How far a task is.
enum Progress<T> {
    /// It has not returned; it may have been dropped.
    Running,
    /// It has returned this, unless that was taken.
    Finished(Option<T>),
}

/// Which tasks are to be polled.
#[derive(Default)]
struct Woken {
    /// Guards both fields of [`Queue`]; held for a push or a pop only.
    queue: Mutex<Queue>,
}

/// Indexes of woken tasks.
#[derive(Default)]
struct Queue {
    /// Woken and not polled since, in the order of the first wake.
    indexes: VecDeque<usize>,
    /// By task: whether it stands in `indexes`, where each stands at most once.
    contains: Vec<bool>,
}

impl Woken {
    /// Makes room for one more task and queues it.
    fn add_task(&self) {
        let mut queue = self.lock();
        let index = queue.contains.len();
        queue.contains.push(true);
        queue.indexes.push_back(index);
    }

    /// Queues a task, unless it is queued.
    fn wake(&self, index: usize) {
        let mut queue = self.lock();
        if !queue.contains[index] {
            queue.contains[index] = true;
            queue.indexes.push_back(index);
        }
    }

    /// Takes the task that is to be polled next; a wake queues it again from here on.
    fn take_one(&self, order: &mut Order) -> Option<usize> {
        let mut queue = self.lock();
        let at = match order {
            Order::Drawn(draw) if !queue.indexes.is_empty() => draw.below(queue.indexes.len()),
            _ => 0,
        };
        let index = queue.indexes.remove(at)?;
        queue.contains[index] = false;
        Some(index)
    }

    /// Locks the queue. Nothing panics while it is held, so it is never half changed.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes one task.
struct WakeTask {
    /// The task's place.
    index: usize,
    /// The queue it is put into.
    woken: Arc<Woken>,
}

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.wake(self.index);
    }
}

/// How the next task is chosen.
enum Order {
    /// The one that was woken first.
    Fifo,
    /// Any of them.
    Drawn(Xorshift),
}

/// Marsaglia's xorshift64, multiplied (Vigna's xorshift64*): small, and the same everywhere.
struct Xorshift {
    /// Never zero: zero would stay zero.
    state: u64,
}

impl Xorshift {
    /// Spreads the bits of `seed`, so that 1, 2 and 3 draw differently from the start.
    fn new(seed: u64) -> Self {
        let spread = (seed ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        Self { state: (spread ^ (spread >> 31)).max(1) }
    }

    /// A number below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let drawn = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        (drawn as usize) % bound
    }
}
