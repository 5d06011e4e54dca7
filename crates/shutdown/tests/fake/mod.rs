//! A component that does what the test says, and counts what was asked of it. It goes through
//! primitives, so that models can explore it as well.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use selvedge_cancel::Wait;
use selvedge_primitives::{Mutex, release_then, wake};
use selvedge_shutdown::{Component, Straggler};

/// What a [`Fake`] does when it is asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Ends at once.
    End,
    /// Goes on.
    GoOn,
    /// Panics.
    Panic,
}

/// See the file's header.
pub(crate) struct Fake {
    name: &'static str,
    on_stop: Answer,
    on_abort: Answer,
    on_wait: Answer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stops: usize,
    aborts: usize,
    ended: bool,
    waiting: Vec<Waker>,
}

impl Fake {
    /// A component that ends when [`end`](Self::end) is called, or when it is aborted.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            on_stop: Answer::GoOn,
            on_abort: Answer::End,
            on_wait: Answer::GoOn,
            state: Mutex::new(State::default()),
        }
    }

    pub(crate) fn on_stop(self, on_stop: Answer) -> Self {
        Self { on_stop, ..self }
    }

    pub(crate) fn on_abort(self, on_abort: Answer) -> Self {
        Self { on_abort, ..self }
    }

    pub(crate) fn on_wait(self, on_wait: Answer) -> Self {
        Self { on_wait, ..self }
    }

    pub(crate) fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }

    /// Ends, and wakes who waits.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let waiting = std::mem::take(&mut state.waiting);
        release_then(state, || waiting.into_iter().for_each(wake));
    }

    pub(crate) fn stops(&self) -> usize {
        self.state.lock().stops
    }

    pub(crate) fn aborts(&self) -> usize {
        self.state.lock().aborts
    }

    fn answer(&self, answer: Answer, what: &str) {
        match answer {
            Answer::End => self.end(),
            Answer::GoOn => {}
            Answer::Panic => panic!("{} does not {what}", self.name),
        }
    }
}

impl Component for Fake {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn stop(&self) {
        {
            self.state.lock().stops += 1;
        }
        self.answer(self.on_stop, "stop");
    }

    fn wait(&self) -> Wait<'_> {
        Box::pin(poll_fn(|cx| {
            if self.on_wait == Answer::Panic {
                panic!("{} does not wait", self.name);
            }
            let waker = cx.waker().clone();
            let mut state = self.state.lock();
            if state.ended {
                return Poll::Ready(());
            }
            state.waiting.push(waker);
            Poll::Pending
        }))
    }

    fn abort(&self) {
        {
            self.state.lock().aborts += 1;
        }
        self.answer(self.on_abort, "abort");
    }

    fn stragglers(&self) -> Vec<Straggler> {
        let name = format!("work of {}", self.name);
        vec![Straggler { name, place: None, age: None, note: "counting sheep".to_owned() }]
    }
}
