//! Models of what is not ours and comes back: wakers and destructors that enter the plan again. A
//! lock held over one of them shows as a deadlock.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use selvedge_cancel::Wait;
use selvedge_primitives::{Mutex, block_on, model};
use selvedge_shutdown::{Component, ShutdownHandle, Signal, Signals, Straggler};
use selvedge_testkit::ReentrantWaker;

use crate::fake::{Answer, Fake};
use crate::{spawn, unlimited};

/// Ends when it is told to; keeps its waker, to ring it ever after.
#[derive(Default)]
struct Bells {
    state: Mutex<(bool, Vec<Waker>)>,
}

impl Bells {
    /// Wakes whoever polled it last: enters the plan's alarm.
    fn ring(&self) {
        let last = self.state.lock().1.last().cloned();
        if let Some(waker) = last {
            waker.wake();
        }
    }

    /// Ends.
    fn end(&self) {
        self.state.lock().0 = true;
        self.ring();
    }
}

impl Component for Bells {
    fn name(&self) -> String {
        "bells".to_owned()
    }

    fn stop(&self) {}

    fn wait(&self) -> Wait<'_> {
        Box::pin(poll_fn(|cx| {
            let waker = cx.waker().clone();
            let mut state = self.state.lock();
            state.1.push(waker);
            if state.0 { Poll::Ready(()) } else { Poll::Pending }
        }))
    }

    fn abort(&self) {
        self.end();
    }

    fn stragglers(&self) -> Vec<Straggler> {
        Vec::new()
    }
}

/// Race: the trigger and the end of a component against a driver whose wakers ring the component's
/// bell when they are woken and when they are dropped.
#[test]
fn driver_wakers_ring_again() {
    model::check(|| {
        let shutdown = unlimited().build().unwrap();
        let bells = Arc::new(Bells::default());
        shutdown.register(bells.clone()).unwrap();
        let (handle, other) = (shutdown.handle(), Arc::clone(&bells));
        let thread = spawn(move || {
            handle.trigger("test");
            other.end();
        });
        let mut wait = pin!(shutdown.wait());
        // The first waker is replaced by the second, and the second is left behind.
        let wakers = [(); 2].map(|()| {
            let (woken, dropped) = (Arc::clone(&bells), Arc::clone(&bells));
            ReentrantWaker::on_wake_and_drop(move || woken.ring(), move || dropped.ring()).waker()
        });
        for waker in &wakers {
            if wait.as_mut().poll(&mut TaskContext::from_waker(waker)).is_ready() {
                break;
            }
        }
        thread.join().unwrap();
    });
}

/// Race: a register while the plan stops, which rings the driver, against a driver whose waker
/// registers another one.
#[test]
fn driver_waker_registers_again() {
    model::check(|| {
        let shutdown = unlimited().build().unwrap();
        let handle = shutdown.handle();
        shutdown.register(Fake::new("first").shared()).unwrap();
        handle.trigger("test");
        let again = handle.clone();
        let waker = ReentrantWaker::on_wake(move || {
            let _ = again.register(Fake::new("third").on_stop(Answer::End).shared());
        });
        let mut wait = pin!(shutdown.wait());
        let waker = waker.waker();
        assert!(wait.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        let thread = spawn(move || {
            handle.register(Fake::new("second").on_stop(Answer::End).shared()).unwrap();
        });
        let _ = wait.as_mut().poll(&mut TaskContext::from_waker(&waker));
        thread.join().unwrap();
    });
}

/// Race: a signal against the plan that attaches, with a waiter on the plan's context that raises
/// the second signal when it is woken for the first.
#[test]
fn signal_raised_while_one_is_told() {
    model::check(|| {
        let (signals, hand) = Signals::manual();
        let shutdown = unlimited().signals(signals).build().unwrap();
        let again = hand.clone();
        let waker = ReentrantWaker::on_wake(move || {
            again.raise(Signal::Interrupt);
        });
        let ctx = shutdown.handle().ctx().clone();
        let mut stopping = pin!(ctx.stopping());
        let waker = waker.waker();
        assert!(stopping.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        let thread = spawn(move || hand.raise(Signal::Terminate));
        assert_eq!(block_on(shutdown.wait()).exit_code(), 143);
        thread.join().unwrap();
        assert!(ctx.is_cancelled(), "the second signal was lost");
    });
}

/// Registers a component when it is dropped.
struct Registers(ShutdownHandle);

impl Drop for Registers {
    fn drop(&mut self) {
        let _ = self.0.register(Fake::new("late").on_stop(Answer::End).shared());
    }
}

/// Its `stop` takes its time, then panics with something that registers another one.
struct PanicsLate(Mutex<Option<ShutdownHandle>>);

impl Component for PanicsLate {
    fn name(&self) -> String {
        "panics late".to_owned()
    }

    fn stop(&self) {
        let handle = self.0.lock().take();
        if let Some(handle) = handle {
            // Past the hook, which would print it in each of the interleavings.
            resume_unwind(Box::new(Registers(handle)));
        }
    }

    fn wait(&self) -> Wait<'_> {
        Box::pin(std::future::ready(()))
    }

    fn abort(&self) {}

    fn stragglers(&self) -> Vec<Straggler> {
        Vec::new()
    }
}

/// Race: a `stop` that panics against the drop of the plan. A panic that comes too late for the
/// report is dropped, and what it carried enters the plan again.
#[test]
fn late_panic_registers_again() {
    model::check(|| {
        let shutdown = unlimited().build().unwrap();
        let handle = shutdown.handle();
        let component = PanicsLate(Mutex::new(Some(handle.clone())));
        shutdown.register(Arc::new(component)).unwrap();
        let thread = spawn(move || handle.trigger("test"));
        drop(shutdown);
        thread.join().unwrap();
    });
}
