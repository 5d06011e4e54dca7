//! Models of the plan: the engine itself on the real context tree. `loom-models.toml` lists them;
//! `cargo xtask loom shutdown` runs them. Signals are raised by hand: a handler and its pipes are
//! nothing loom can see, but what the signal thread does with a signal is the hub, which is here.
#![cfg(selvedge_loom)]

mod fake;
mod reentry;

use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use fake::{Answer, Fake};
use selvedge_cancel::Wait;
use selvedge_primitives::{Mutex, block_on, model, thread};
use selvedge_shutdown::{
    Builder, Component, End, Reason, Report, Shutdown, Signal, Signals, Straggler, Timer,
};

const SECOND: Duration = Duration::from_secs(1);

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn("model".to_owned(), f).unwrap()
}

/// A plan without limits, on a clock that stands still.
fn unlimited() -> Builder {
    let (timer, _clock) = Timer::manual();
    Shutdown::builder().timer(timer).grace(Duration::MAX).abort_budget(Duration::MAX)
}

/// A component that has ended by itself, and whose `stop` takes its time and panics at its end.
#[derive(Default)]
struct Slow {
    stop: Mutex<(usize, bool)>,
}

impl Slow {
    /// How often `stop` was called, and whether it has come to its end.
    fn seen(&self) -> (usize, bool) {
        *self.stop.lock()
    }
}

impl Component for Slow {
    fn name(&self) -> String {
        "slow".to_owned()
    }

    fn stop(&self) {
        {
            self.stop.lock().0 += 1;
        }
        {
            self.stop.lock().1 = true;
        }
        // Past the hook, which would print it in each of the interleavings.
        resume_unwind(Box::new("too slow"));
    }

    fn wait(&self) -> Wait<'_> {
        Box::pin(std::future::ready(()))
    }

    fn abort(&self) {}

    fn stragglers(&self) -> Vec<Straggler> {
        Vec::new()
    }
}

/// The component was stopped once, to the end, and its panic is in the report.
fn assert_slow_was_waited_for(slow: &Slow, report: &Report) {
    assert_eq!(slow.seen(), (1, true), "stop was not waited for");
    let [component] = report.components() else { panic!("one component: {report}") };
    assert!(matches!(component.end(), End::Finished { .. }), "{report}");
    let panics: Vec<_> = component.panics().iter().map(ToString::to_string).collect();
    assert_eq!(panics, ["panicked in stop: too slow"]);
}

fn only(report: &Report) -> &End {
    let [component] = report.components() else { panic!("one component: {report}") };
    assert!(component.panics().is_empty());
    component.end()
}

/// Race: the signal thread triggers while the program does. One of them wins: it gives the reason,
/// and the component is stopped once. When a trigger that lost has returned, the reason is known.
#[test]
fn stop_is_called_once_signal_vs_programmatic() {
    model::check(|| {
        let (signals, hand) = Signals::manual();
        let shutdown = unlimited().signals(signals).build().unwrap();
        let fake = Fake::new("fake").on_stop(Answer::End).shared();
        shutdown.register(fake.clone()).unwrap();
        let handle = shutdown.handle();
        let thread = spawn(move || hand.raise(Signal::Interrupt));
        let first = handle.trigger("enough");
        let known = handle.reason().expect("a trigger has returned");
        assert_eq!(first, matches!(known, Reason::Requested(_)));
        let report = block_on(shutdown.wait());
        // False when the plan is done already: then nobody was left to tell.
        let told = thread.join().unwrap();
        assert!(told || first);
        assert_eq!(fake.stops(), 1, "stop of one component");
        assert_eq!(fake.aborts(), 0);
        assert_eq!(report.exit_code(), if first { 0 } else { 130 });
        assert!(handle.ctx().is_stopping());
        assert!(matches!(only(&report), End::Finished { .. }));
    });
}

/// Race: a signal is raised while the plan attaches to the signals. It is told to the plan, once.
#[test]
fn signal_vs_attach() {
    model::check(|| {
        let (signals, hand) = Signals::manual();
        let thread = spawn(move || hand.raise(Signal::Terminate));
        let shutdown = unlimited().signals(signals).build().unwrap();
        assert_eq!(block_on(shutdown.wait()).exit_code(), 143, "the signal was lost");
        assert!(thread.join().unwrap());
    });
}

/// Race: two signals on two threads and the plan that attaches. Whichever was first gives the exit
/// code, and the second one aborts, whoever of the three tells it to the plan.
#[test]
fn two_signals_vs_attach() {
    model::check(|| {
        let (signals, hand) = Signals::manual();
        let other = hand.clone();
        let raise =
            |hand: selvedge_shutdown::ManualSignals, signal| spawn(move || hand.raise(signal));
        let first = raise(hand, Signal::Terminate);
        let second = raise(other, Signal::Interrupt);
        let shutdown = unlimited().signals(signals).build().unwrap();
        let fake = Fake::new("fake").shared();
        shutdown.register(fake.clone()).unwrap();
        let report = block_on(shutdown.wait());
        assert!(first.join().unwrap() && second.join().unwrap());
        assert!([130, 143].contains(&report.exit_code()), "{report}");
        assert_eq!((fake.stops(), fake.aborts()), (1, 1), "the second one was lost");
    });
}

/// Race: a second signal while the plan drains. The component is stopped once, aborted once at most,
/// and the plan ends: a lost wake-up shows as a deadlock.
#[test]
fn second_signal_vs_drain() {
    model::check(|| {
        let (signals, hand) = Signals::manual();
        let shutdown = unlimited().signals(signals).build().unwrap();
        let fake = Fake::new("fake").shared();
        shutdown.register(fake.clone()).unwrap();
        let thread = spawn(move || {
            hand.raise(Signal::Interrupt);
            hand.raise(Signal::Terminate);
        });
        let report = block_on(shutdown.wait());
        thread.join().unwrap();
        assert_eq!((fake.stops(), fake.aborts()), (1, 1));
        assert_eq!(report.exit_code(), 130);
        assert!(matches!(only(&report), End::Aborted { .. }));
    });
}

/// Race: a component is registered while the trigger runs. It is stopped exactly once, by whichever
/// of the two, and waited for.
#[test]
fn trigger_vs_register() {
    model::check(|| {
        let shutdown = unlimited().build().unwrap();
        let fake = Fake::new("fake").on_stop(Answer::End).shared();
        let handle = shutdown.handle();
        let registrar = spawn({
            let (handle, fake) = (handle.clone(), fake.clone());
            move || handle.register(fake).is_ok()
        });
        handle.trigger("enough");
        let registered = registrar.join().unwrap();
        assert!(registered, "only a plan that is done refuses");
        assert_eq!(fake.stops(), 1, "stop of one component");
        let report = block_on(shutdown.wait());
        assert_eq!(fake.stops(), 1, "stop of one component");
        assert!(matches!(only(&report), End::Finished { .. }));
    });
}

/// Race: a component is registered while the plan ends. Either it is stopped and waited for, or it
/// comes back untouched.
#[test]
fn register_vs_finish() {
    model::check(|| {
        let shutdown = unlimited().build().unwrap();
        let fake = Fake::new("fake").on_stop(Answer::End).shared();
        let handle = shutdown.handle();
        handle.trigger("enough");
        let registrar = spawn({
            let fake = fake.clone();
            move || handle.register(fake).is_ok()
        });
        let report = block_on(shutdown.wait());
        if registrar.join().unwrap() {
            assert_eq!(fake.stops(), 1, "stop of one component");
            assert!(matches!(only(&report), End::Finished { .. }));
        } else {
            assert_eq!(fake.stops(), 0, "a refused component was stopped");
            assert!(report.components().is_empty());
        }
    });
}

/// Race: a component ends while the grace does. Whoever is first, the plan ends, and the report
/// agrees with what was done: what finished was not aborted.
#[test]
fn finish_vs_deadline() {
    model::check(|| {
        let (timer, clock) = Timer::manual();
        let plan = Shutdown::builder().timer(timer).grace(SECOND).abort_budget(Duration::MAX);
        let shutdown = plan.build().unwrap();
        let fake = Fake::new("fake").shared();
        shutdown.register(fake.clone()).unwrap();
        shutdown.trigger("enough");
        let finishing = spawn({
            let fake = fake.clone();
            move || fake.end()
        });
        let passing = spawn(move || clock.advance(SECOND));
        let report = block_on(shutdown.wait());
        finishing.join().unwrap();
        passing.join().unwrap();
        match only(&report) {
            End::Finished { .. } => assert_eq!(fake.aborts(), 0, "finished, and aborted"),
            // It may have ended by itself after the context was cancelled, before the abort.
            End::Aborted { .. } => assert!(fake.aborts() <= 1),
            end => panic!("{end}"),
        }
        assert_eq!(fake.stops(), 1);
    });
}

/// Race: a component that does not heed the abort ends while the budget does. It is late or not; the
/// plan ends, although another component never does: a lost wake-up shows as a deadlock.
#[test]
fn finish_vs_budget() {
    model::check(|| {
        let (timer, clock) = Timer::manual();
        let plan = Shutdown::builder().timer(timer).grace(Duration::ZERO).abort_budget(SECOND);
        let shutdown = plan.build().unwrap();
        let fake = Fake::new("fake").on_abort(Answer::GoOn).shared();
        shutdown.register(fake.clone()).unwrap();
        let stuck = Fake::new("stuck").on_abort(Answer::GoOn).shared();
        shutdown.register(stuck).unwrap();
        shutdown.trigger("enough");
        let mut waiting = pin!(shutdown.wait());
        let mut cx = TaskContext::from_waker(Waker::noop());
        let Poll::Pending = waiting.as_mut().poll(&mut cx) else { panic!("it has not ended") };
        let finishing = spawn({
            let fake = fake.clone();
            move || fake.end()
        });
        let passing = spawn(move || clock.advance(SECOND));
        let report = block_on(waiting);
        finishing.join().unwrap();
        passing.join().unwrap();
        assert_eq!((fake.stops(), fake.aborts()), (1, 1));
        let [end, stuck] = [0, 1].map(|index| report.components()[index].end());
        assert!(stuck.is_late());
        match end {
            End::Aborted { after } => assert!(*after <= SECOND),
            End::Late { stragglers } => assert_eq!(stragglers.len(), 1),
            end => panic!("{end}"),
        }
    });
}

/// Race: the trigger against the first poll of `wait`. A lost wake-up shows as a deadlock.
#[test]
fn trigger_vs_wait() {
    model::check(|| {
        let shutdown = unlimited().build().unwrap();
        let fake = Fake::new("fake").on_stop(Answer::End).shared();
        shutdown.register(fake.clone()).unwrap();
        let handle = shutdown.handle();
        let thread = spawn(move || assert!(handle.trigger("enough")));
        let report = block_on(shutdown.wait());
        thread.join().unwrap();
        assert_eq!(fake.stops(), 1);
        assert!(matches!(only(&report), End::Finished { .. }));
    });
}

/// Race: the thread that triggers is slow to stop a component that has ended by itself, while the
/// driver waits for it. When `wait` has returned, `stop` has, and its panic is in the report, once. A
/// lost wake-up shows as a deadlock.
#[test]
fn slow_stop_vs_finish() {
    model::check(|| {
        let shutdown = unlimited().build().unwrap();
        let slow = Arc::new(Slow::default());
        shutdown.register(slow.clone()).unwrap();
        let handle = shutdown.handle();
        let thread = spawn(move || assert!(handle.trigger("enough")));
        let report = block_on(shutdown.wait());
        assert_slow_was_waited_for(&slow, &report);
        thread.join().unwrap();
        assert_eq!(slow.seen(), (1, true), "stop of one component");
    });
}

/// Race: a component that has ended by itself is registered while the plan ends. Either it is stopped
/// and that is waited for, or it comes back untouched.
#[test]
fn register_of_an_ended_component_vs_finish() {
    model::check(|| {
        let shutdown = unlimited().build().unwrap();
        let slow = Arc::new(Slow::default());
        let handle = shutdown.handle();
        handle.trigger("enough");
        let registrar = spawn({
            let slow = slow.clone();
            move || handle.register(slow).is_ok()
        });
        let report = block_on(shutdown.wait());
        if report.components().is_empty() {
            assert!(!registrar.join().unwrap(), "a component was lost");
            assert_eq!(slow.seen(), (0, false), "a refused component was stopped");
        } else {
            assert_slow_was_waited_for(&slow, &report);
            assert!(registrar.join().unwrap());
        }
    });
}

/// Race: two components end while they are waited for, so that the alarm rings twice, while the
/// driver takes the queue. A component that is forgotten shows as a deadlock.
#[test]
fn finish_vs_finish() {
    model::check(|| {
        let shutdown = unlimited().build().unwrap();
        let fakes = ["one", "two"].map(|name| Fake::new(name).shared());
        for fake in &fakes {
            shutdown.register(fake.clone()).unwrap();
        }
        shutdown.trigger("enough");
        let [one, two] = fakes;
        let mut waiting = pin!(shutdown.wait());
        let mut cx = TaskContext::from_waker(Waker::noop());
        let Poll::Pending = waiting.as_mut().poll(&mut cx) else { panic!("neither has ended") };
        let threads = [one, two].map(|fake: Arc<Fake>| spawn(move || fake.end()));
        let report = block_on(waiting);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.components().len(), 2);
    });
}

/// Race: the plan is dropped while it is triggered. The context is cancelled, and the component has
/// been told to go.
#[test]
fn trigger_vs_drop() {
    model::check(|| {
        let shutdown = unlimited().build().unwrap();
        let fake = Fake::new("fake").shared();
        shutdown.register(fake.clone()).unwrap();
        let handle = shutdown.handle();
        let thread = spawn({
            let handle = handle.clone();
            move || handle.trigger("enough")
        });
        drop(shutdown);
        let first = thread.join().unwrap();
        assert!(handle.ctx().is_cancelled());
        assert_eq!(fake.aborts(), 1);
        assert!(fake.stops() <= usize::from(first));
        assert_eq!(first, matches!(handle.reason(), Some(Reason::Requested(_))));
    });
}
