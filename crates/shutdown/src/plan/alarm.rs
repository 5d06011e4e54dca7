//! The alarm: wakes the driver of a plan, and remembers which components to poll.
//!
//! Each component's `wait` is polled with a waker of its own, which queues the component and wakes
//! the driver; so a drain of n components costs O(n) polls and not O(n²).
//!
//! The driver [listens](Alarm::listen) *before* it looks at anything, so that whatever changes after
//! the look wakes it: the waker is there when the change comes.

use std::sync::Arc;
use std::task::{Wake, Waker};

use selvedge_primitives::{Mutex, release_then, wake};

/// Wakes the driver.
pub(crate) struct Alarm {
    /// Who to wake, and what for.
    state: Mutex<State>,
}

/// What the lock guards.
struct State {
    /// Components to poll, each at most once.
    queue: Vec<usize>,
    /// By component: whether it is in `queue`.
    queued: Vec<bool>,
    /// Wakes the driver; taken by the first who does.
    driver: Option<Waker>,
}

impl Alarm {
    /// An alarm that nobody listens to.
    pub(crate) fn new() -> Arc<Self> {
        let state = State { queue: Vec::new(), queued: Vec::new(), driver: None };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Has the next event wake this task.
    pub(crate) fn listen(&self, waker: &Waker) {
        let fresh = waker.clone();
        let mut state = self.state.lock();
        let old = state.driver.replace(fresh);
        release_then(state, || drop(old));
    }

    /// Lets go of the driver's waker: there is nothing left to drive.
    pub(crate) fn silence(&self) {
        let mut state = self.state.lock();
        let old = state.driver.take();
        release_then(state, || drop(old));
    }

    /// Wakes the driver.
    pub(crate) fn ring(&self) {
        let mut state = self.state.lock();
        let driver = state.driver.take();
        release_then(state, || wake(driver));
    }

    /// Queues a component, and wakes the driver unless it was queued.
    fn ring_for(&self, component: usize) {
        let mut state = self.state.lock();
        if state.queued.len() <= component {
            state.queued.resize(component + 1, false);
        }
        if std::mem::replace(&mut state.queued[component], true) {
            return;
        }
        state.queue.push(component);
        let driver = state.driver.take();
        release_then(state, || wake(driver));
    }

    /// Takes the components to poll; a wake queues them again from here on.
    pub(crate) fn take(&self) -> Vec<usize> {
        let mut state = self.state.lock();
        let taken = std::mem::take(&mut state.queue);
        for &component in &taken {
            state.queued[component] = false;
        }
        taken
    }

    /// The waker of a component.
    pub(crate) fn waker(alarm: &Arc<Self>, component: usize) -> Waker {
        Arc::new(Bell { component, alarm: Arc::clone(alarm) }).into()
    }
}

/// The waker of one component.
struct Bell {
    /// Whose.
    component: usize,
    /// What it rings.
    alarm: Arc<Alarm>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.alarm.ring_for(self.component);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.alarm.ring_for(self.component);
    }
}
