//! The plan on tokio's paused clock, with components that do what the test says.
#![cfg(feature = "tokio")]

mod fake;

use std::future::{pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use fake::{Answer, Fake};
use selvedge_cancel::{CauseKind, TimerError};
use selvedge_shutdown::{
    BuildError, Builder, Component, Context, End, Reason, RegisterError, Request, Shutdown, Signal,
    Signals, Timer,
};
use selvedge_testkit::{ManualExecutor, watchdog};
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

/// A grace of 500 ms, and 100 ms for the abort.
fn plan() -> Builder {
    Shutdown::builder().grace(500 * MS).abort_budget(100 * MS)
}

// Smoke.

#[tokio::test(start_paused = true)]
async fn the_return_of_main_drains_and_completes() {
    let shutdown = plan().build().unwrap();
    let fake = Fake::new("pool").shared();
    shutdown.register(fake.clone()).unwrap();
    let ending = fake.clone();
    tokio::spawn(async move {
        sleep(300 * MS).await;
        ending.end();
    });
    let main = async {
        sleep(100 * MS).await;
        7
    };
    let (output, report) = shutdown.run(main).await;
    assert_eq!(output, Some(7));
    assert!(matches!(report.reason(), Reason::Completed));
    assert_eq!(report.took(), 200 * MS);
    assert_eq!(report.main(), Some(&End::Finished { after: Duration::ZERO }));
    assert_eq!(report.components()[0].end(), &End::Finished { after: 200 * MS });
    assert_eq!((fake.stops(), fake.aborts()), (1, 0));
    assert_eq!((report.exit_code(), report.is_clean()), (0, true));
}

#[tokio::test(start_paused = true)]
async fn a_signal_stops_and_main_writes_what_is_finished() {
    let (signals, hand) = Signals::manual();
    let shutdown = plan().signals(signals).build().unwrap();
    let ctx = shutdown.ctx().clone();
    tokio::spawn(async move {
        sleep(50 * MS).await;
        assert!(hand.raise(Signal::Interrupt));
    });
    let main = async move {
        ctx.stopping().await;
        // What is in flight gets the grace.
        let dropped = ctx.run(pending::<()>()).await.is_err();
        sleep(20 * MS).await;
        (dropped, "written")
    };
    let start = Instant::now();
    let (output, report) = shutdown.run(main).await;
    assert_eq!(output, Some((true, "written")));
    assert_eq!(start.elapsed(), 570 * MS);
    assert_eq!(report.main(), Some(&End::Aborted { after: 520 * MS }));
    assert_eq!(report.exit_code(), 130);
}

#[tokio::test(start_paused = true)]
async fn the_reason_is_the_error_of_the_contexts_cause() {
    let shutdown = plan().build().unwrap();
    let (ctx, handle) = (shutdown.ctx().clone(), shutdown.handle());
    assert!(handle.reason().is_none() && handle.ctx().cause().is_none());
    assert!(shutdown.trigger(Request::new("disk full").code(74)));
    let cause = ctx.cause().unwrap();
    assert_eq!(cause.kind(), CauseKind::Stopped);
    let reason = cause.error().unwrap().downcast_ref::<Reason>().unwrap();
    assert_eq!(reason.to_string(), "request: disk full");
    assert_eq!(shutdown.wait().await.exit_code(), 74);
    assert!(ctx.is_cancelled(), "nothing outlives the plan on its context");
}

#[tokio::test(start_paused = true)]
async fn components_drain_at_the_same_time() {
    let shutdown = plan().build().unwrap();
    for index in 0..100 {
        let fake = Fake::new("worker").shared();
        shutdown.register(fake.clone()).unwrap();
        tokio::spawn(async move {
            sleep(MS * (100 + index)).await;
            fake.end();
        });
    }
    shutdown.trigger("enough");
    let report = shutdown.wait().await;
    assert_eq!(report.took(), 199 * MS);
    assert!(report.is_clean());
    let last = report.components().last().unwrap();
    assert_eq!(last.end(), &End::Finished { after: 199 * MS });
}

#[test]
fn only_components_that_were_woken_are_polled() {
    /// Counts the polls of its wait.
    struct Counted(Fake, AtomicUsize);
    impl Component for Counted {
        fn name(&self) -> String {
            self.0.name()
        }
        fn stop(&self) {}
        fn abort(&self) {}
        fn stragglers(&self) -> Vec<selvedge_shutdown::Straggler> {
            Vec::new()
        }
        fn wait(&self) -> selvedge_cancel::Wait<'_> {
            let mut inner = self.0.wait();
            Box::pin(poll_fn(move |cx| {
                self.1.fetch_add(1, Ordering::Relaxed);
                inner.as_mut().poll(cx)
            }))
        }
    }
    let shutdown = plan().build().unwrap();
    let counted = || Arc::new(Counted(Fake::new("counted"), AtomicUsize::new(0)));
    let components: Vec<_> = (0..1_000).map(|_| counted()).collect();
    for component in &components {
        shutdown.register(component.clone()).unwrap();
    }
    shutdown.trigger("enough");
    let mut executor = ManualExecutor::new();
    let waiting = executor.spawn(shutdown.wait());
    for component in &components {
        executor.run_until_stalled();
        component.0.end();
    }
    executor.run_until_stalled();
    assert!(waiting.take().unwrap().is_clean());
    let polls: usize = components.iter().map(|c| c.1.load(Ordering::Relaxed)).sum();
    assert_eq!(polls, 2_000, "two polls a component");
}

// Deadlines.

#[tokio::test(start_paused = true)]
async fn a_component_that_never_ends_is_late_at_grace_and_budget() {
    let shutdown = plan().build().unwrap();
    let stuck = Fake::new("stuck").on_abort(Answer::GoOn).shared();
    let slow = Fake::new("slow").shared();
    let quick = Fake::new("quick").on_stop(Answer::End).shared();
    for fake in [&stuck, &slow, &quick] {
        shutdown.register((*fake).clone()).unwrap();
    }
    let place = format!("{}:{}", file!(), line!() - 2);
    shutdown.trigger(Signal::Terminate);
    let report = shutdown.wait().await;
    assert_eq!(report.took(), 600 * MS);
    let ends: Vec<_> = report.components().iter().map(|part| part.end().clone()).collect();
    assert_eq!(ends[0], End::Late { stragglers: stuck.stragglers() });
    assert_eq!(ends[1], End::Aborted { after: 500 * MS });
    assert_eq!(ends[2], End::Finished { after: Duration::ZERO });
    assert_eq!([stuck.aborts(), slow.aborts(), quick.aborts()], [1, 1, 0]);
    assert_eq!(report.late().map(|part| part.name()).collect::<Vec<_>>(), ["stuck"]);
    let text = report.to_string();
    for needle in [
        "shutdown (SIGTERM) took 600.0ms, 1 of 3 components late, exit code 143",
        "still running: work of stuck: counting sheep",
        "slow",
        "aborted, ended after 500.0ms",
        "finished after 0.0ns",
        &place,
    ] {
        assert!(text.contains(needle), "{needle:?} is not in:\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_main_that_never_ends_is_dropped_at_grace_and_budget() {
    let shutdown = plan().build().unwrap();
    shutdown.trigger("enough");
    let (output, report) = shutdown.run(pending::<()>()).await;
    assert_eq!(output, None);
    assert!(report.main().unwrap().is_late());
    assert_eq!(report.took(), 600 * MS);
    assert_eq!(report.exit_code(), 1, "0 would say that all is well");
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_the_grace() {
    let (signals, hand) = Signals::manual();
    let shutdown = plan().grace(Duration::MAX).signals(signals).build().unwrap();
    let fake = Fake::new("pool").shared();
    shutdown.register(fake.clone()).unwrap();
    let second = hand.clone();
    tokio::spawn(async move {
        hand.raise(Signal::Interrupt);
        sleep(30 * MS).await;
        hand.raise(Signal::Terminate);
        hand.raise(Signal::Terminate);
    });
    let report = shutdown.wait().await;
    assert_eq!(report.took(), 30 * MS);
    assert_eq!((fake.stops(), fake.aborts()), (1, 1));
    assert_eq!(report.exit_code(), 130, "the first one asked");
    assert!(!second.raise(Signal::Interrupt), "nobody is left to tell");
}

#[tokio::test(start_paused = true)]
async fn a_signal_before_the_plan_is_kept_for_it() {
    let (signals, hand) = Signals::manual();
    assert!(hand.raise(Signal::Terminate));
    let shutdown = plan().signals(signals).build().unwrap();
    assert!(shutdown.ctx().is_stopping() && !shutdown.ctx().is_cancelled());
    assert!(hand.raise(Signal::Interrupt));
    assert!(shutdown.ctx().is_cancelled());
    assert_eq!(shutdown.wait().await.exit_code(), 143);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_the_parent_aborts_and_exits_124() {
    let (parent, _keep) = Context::background().with_timeout(70 * MS).unwrap();
    let shutdown = plan().parent(&parent).build().unwrap();
    let fake = Fake::new("pool").shared();
    shutdown.register(fake.clone()).unwrap();
    let ctx = shutdown.ctx().clone();
    let main = async move { ctx.cancelled().await.kind() };
    let (output, report) = shutdown.run(main).await;
    assert_eq!(output, Some(CauseKind::Deadline));
    assert_eq!((fake.stops(), fake.aborts()), (1, 1));
    assert_eq!(report.took(), Duration::ZERO);
    assert!(matches!(report.reason(), Reason::Ended(_)));
    assert_eq!(report.exit_code(), 124);
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_the_parent_drains_until_the_earlier_end() {
    let (parent, canceller) = Context::background().child();
    let shutdown = plan().parent(&parent).build().unwrap();
    let fake = Fake::new("pool").shared();
    shutdown.register(fake.clone()).unwrap();
    canceller.stop(200 * MS);
    let report = shutdown.wait().await;
    assert_eq!(report.took(), 200 * MS);
    assert_eq!((fake.stops(), fake.aborts()), (1, 1));
    assert_eq!(report.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn main_that_returns_because_of_the_context_is_not_the_reason() {
    let (parent, canceller) = Context::background().child();
    let shutdown = plan().parent(&parent).build().unwrap();
    let main = async move { canceller.cancel() };
    let (_, report) = shutdown.run(main).await;
    assert!(matches!(report.reason(), Reason::Ended(_)), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_trigger_from_outside_the_runtime_is_timed_by_the_plans_clock() {
    let shutdown = plan().build().unwrap();
    let stuck = Fake::new("stuck").shared();
    shutdown.register(stuck.clone()).unwrap();
    let handle = shutdown.handle();
    std::thread::spawn(move || handle.trigger("enough")).join().unwrap();
    assert_eq!(shutdown.wait().await.took(), 500 * MS);
}

// Registration.

#[tokio::test(start_paused = true)]
async fn a_component_that_is_registered_late_is_stopped_and_waited_for() {
    let shutdown = plan().build().unwrap();
    let handle = shutdown.handle();
    let early = Fake::new("early").shared();
    shutdown.register(early.clone()).unwrap();
    let [draining, aborting] = ["draining", "aborting"].map(|name| Fake::new(name).shared());
    let main = {
        let (draining, aborting, handle) = (draining.clone(), aborting.clone(), handle.clone());
        async move {
            handle.trigger("enough");
            sleep(10 * MS).await;
            handle.register(draining.clone()).unwrap();
            assert_eq!(draining.stops(), 1);
            handle.ctx().cancelled().await;
            sleep(10 * MS).await;
            handle.register(aborting).unwrap();
        }
    };
    let (_, report) = shutdown.run(main).await;
    for fake in [&early, &draining, &aborting] {
        assert_eq!((fake.stops(), fake.aborts()), (1, 1));
    }
    assert!(report.is_clean(), "{report}");
    let last = report.components()[2].end();
    assert_eq!(last, &End::Aborted { after: 510 * MS });

    let late = Fake::new("late").shared();
    let RegisterError(back) = handle.register(late.clone()).unwrap_err();
    assert_eq!(back.name(), "late");
    assert_eq!((late.stops(), late.aborts()), (0, 0), "it comes back untouched");
    assert!(!handle.trigger("again"));
}

#[tokio::test(start_paused = true)]
async fn a_component_that_registers_another_in_its_stop_has_it_stopped() {
    struct Parent(selvedge_shutdown::ShutdownHandle, Arc<Fake>);
    impl Component for Parent {
        fn name(&self) -> String {
            "parent".to_owned()
        }
        fn stop(&self) {
            self.0.register(self.1.clone()).unwrap();
        }
        fn abort(&self) {}
        fn wait(&self) -> selvedge_cancel::Wait<'_> {
            Box::pin(async {})
        }
        fn stragglers(&self) -> Vec<selvedge_shutdown::Straggler> {
            Vec::new()
        }
    }
    let shutdown = plan().build().unwrap();
    let child = Fake::new("child").on_stop(Answer::End).shared();
    shutdown.register(Arc::new(Parent(shutdown.handle(), child.clone()))).unwrap();
    shutdown.trigger("enough");
    let report = shutdown.wait().await;
    assert_eq!(child.stops(), 1);
    assert_eq!(report.components().len(), 2);
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn of_several_triggers_the_first_wins() {
    let shutdown = plan().build().unwrap();
    let fake = Fake::new("pool").on_stop(Answer::End).shared();
    shutdown.register(fake.clone()).unwrap();
    assert!(shutdown.trigger(Signal::Terminate));
    assert!(!shutdown.trigger(Signal::Interrupt));
    assert!(!shutdown.trigger("enough"));
    assert_eq!(shutdown.wait().await.exit_code(), 143);
    assert_eq!(fake.stops(), 1);
}

// Drop.

#[test]
fn a_dropped_plan_cancels_and_aborts_and_waits_for_nothing() {
    let shutdown = plan().build().unwrap();
    let (handle, fake) = (shutdown.handle(), Fake::new("pool").shared());
    shutdown.register(fake.clone()).unwrap();
    drop(shutdown);
    assert!(handle.ctx().is_cancelled());
    assert_eq!((fake.stops(), fake.aborts()), (0, 1));
    assert!(matches!(handle.reason(), Some(Reason::Dropped)));
    assert!(handle.register(fake.clone()).is_err());
    assert_eq!(Arc::strong_count(&fake), 1, "the plan has let it go");
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_is_done_keeps_nothing() {
    let shutdown = plan().build().unwrap();
    let (handle, fake) = (shutdown.handle(), Fake::new("pool").on_abort(Answer::GoOn).shared());
    shutdown.register(fake.clone()).unwrap();
    shutdown.trigger("enough");
    let report = shutdown.wait().await;
    fake.end();
    assert_eq!(report.late().count(), 1);
    assert_eq!(Arc::strong_count(&fake), 1);
    drop(handle);
}

// Panics.

#[tokio::test(start_paused = true)]
async fn a_component_that_panics_stops_nobody_else_and_is_reported_once() {
    let shutdown = plan().build().unwrap();
    let fakes = [
        Fake::new("stops badly").on_stop(Answer::Panic),
        Fake::new("aborts badly").on_abort(Answer::Panic),
        Fake::new("waits badly").on_wait(Answer::Panic),
        Fake::new("well"),
    ];
    let fakes = fakes.map(Fake::shared);
    for fake in &fakes {
        shutdown.register(fake.clone()).unwrap();
    }
    shutdown.trigger("enough");
    let report = shutdown.wait().await;
    let panics: Vec<Vec<_>> = report
        .components()
        .iter()
        .map(|part| part.panics().iter().map(ToString::to_string).collect())
        .collect();
    assert_eq!(
        panics,
        [
            vec!["panicked in stop: stops badly does not stop"],
            vec!["panicked in abort: aborts badly does not abort"],
            vec!["panicked in wait: waits badly does not wait"],
            vec![],
        ]
    );
    for fake in &fakes {
        assert_eq!((fake.stops(), fake.aborts()), (1, 1), "{}", fake.name());
    }
    let ends: Vec<_> = report.components().iter().map(|part| part.end().clone()).collect();
    assert_eq!(ends[0], End::Aborted { after: 500 * MS });
    assert!(ends[1].is_late());
    assert_eq!(ends[2], End::Unknown);
    assert_eq!(ends[3], End::Aborted { after: 500 * MS });
    assert_eq!(report.exit_code(), 1);
}

/// Ended by itself; its `stop` says that it has begun, waits to be let go, and panics.
struct Held {
    begun: mpsc::SyncSender<()>,
    gate: Mutex<mpsc::Receiver<()>>,
    left: AtomicUsize,
    aborts: AtomicUsize,
}

impl Held {
    /// It; what says that its `stop` has begun; what lets it go.
    fn new() -> (Arc<Self>, mpsc::Receiver<()>, mpsc::SyncSender<()>) {
        let (begun, has_begun) = mpsc::sync_channel(1);
        let (let_go, gate) = mpsc::sync_channel(1);
        let (left, aborts) = (AtomicUsize::new(0), AtomicUsize::new(0));
        (Arc::new(Self { begun, gate: Mutex::new(gate), left, aborts }), has_begun, let_go)
    }
}

impl Component for Held {
    fn name(&self) -> String {
        "held".to_owned()
    }
    fn stop(&self) {
        self.begun.send(()).unwrap();
        self.gate.lock().unwrap().recv().unwrap();
        self.left.fetch_add(1, Ordering::Release);
        std::panic::resume_unwind(Box::new("held for too long"));
    }
    fn abort(&self) {
        self.aborts.fetch_add(1, Ordering::Relaxed);
    }
    fn wait(&self) -> selvedge_cancel::Wait<'_> {
        Box::pin(async {})
    }
    fn stragglers(&self) -> Vec<selvedge_shutdown::Straggler> {
        Vec::new()
    }
}

#[test]
fn a_stop_that_is_slow_on_another_thread_is_waited_for_and_its_panic_is_reported() {
    watchdog(Duration::from_secs(10), "a plan with a slow stop", || {
        let (timer, _clock) = Timer::manual();
        let shutdown = plan().timer(timer).build().unwrap();
        let (held, has_begun, let_go) = Held::new();
        shutdown.register(held.clone()).unwrap();
        let others: Vec<_> = (0..19).map(|_| Fake::new("quick").on_stop(Answer::End)).collect();
        for fake in others {
            shutdown.register(fake.shared()).unwrap();
        }
        let handle = shutdown.handle();
        let trigger = std::thread::spawn(move || handle.trigger("enough"));
        has_begun.recv().unwrap();
        let mut executor = ManualExecutor::new();
        let waiting = executor.spawn(shutdown.wait());
        executor.run_until_stalled();
        assert!(waiting.take().is_none(), "the plan is done while `stop` runs");
        let_go.send(()).unwrap();
        assert!(trigger.join().unwrap());
        executor.run_until_stalled();
        let report = waiting.take().expect("the end of `stop` wakes the driver");
        assert_eq!(held.left.load(Ordering::Acquire), 1);
        let held = &report.components()[0];
        assert!(matches!(held.end(), End::Finished { .. }), "{report}");
        let panics: Vec<_> = held.panics().iter().map(ToString::to_string).collect();
        assert_eq!(panics, ["panicked in stop: held for too long"]);
        assert_eq!((report.is_clean(), report.exit_code()), (false, 1));
        assert!(report.components()[1..].iter().all(|part| part.panics().is_empty()));
    });
}

#[test]
fn a_stop_that_outlasts_grace_and_budget_is_late() {
    watchdog(Duration::from_secs(10), "a plan with a stuck stop", || {
        let (timer, clock) = Timer::manual();
        let shutdown = plan().timer(timer).build().unwrap();
        let (held, has_begun, let_go) = Held::new();
        shutdown.register(held.clone()).unwrap();
        let handle = shutdown.handle();
        let trigger = std::thread::spawn(move || handle.trigger("enough"));
        has_begun.recv().unwrap();
        let mut executor = ManualExecutor::new();
        let waiting = executor.spawn(shutdown.wait());
        executor.run_until_stalled();
        clock.advance(500 * MS);
        executor.run_until_stalled();
        assert_eq!(held.aborts.load(Ordering::Relaxed), 1, "it has not ended, so it is aborted");
        assert!(waiting.take().is_none(), "it has the budget to end in");
        clock.advance(100 * MS);
        executor.run_until_stalled();
        let report = waiting.take().expect("the budget is over");
        assert_eq!(report.took(), 600 * MS);
        assert_eq!(report.late().map(|part| part.name()).collect::<Vec<_>>(), ["held"]);
        assert!(report.components()[0].panics().is_empty());
        let_go.send(()).unwrap();
        assert!(trigger.join().unwrap(), "a panic that comes too late stops nobody");
        assert_eq!(Arc::strong_count(&held), 1, "the plan keeps a component");
    });
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_main_goes_on_when_the_plan_is_done() {
    let shutdown = plan().build().unwrap();
    let (handle, fake) = (shutdown.handle(), Fake::new("pool").shared());
    shutdown.register(fake).unwrap();
    let start = Instant::now();
    let run = shutdown.run(async { panic!("main panics") });
    let payload = tokio::spawn(run).await.unwrap_err().into_panic();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"main panics"));
    assert!(matches!(handle.reason(), Some(Reason::Panicked)));
    assert_eq!(start.elapsed(), 500 * MS, "the pool had its grace");
}

/// Panics when it is dropped, with that text, unless the thread panics already.
struct DropPanics(&'static str);

impl Drop for DropPanics {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            std::panic::panic_any(self.0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_mains_destructor_goes_on_when_the_plan_is_done_whatever_its_output_does() {
    let shutdown = plan().build().unwrap();
    shutdown.register(Fake::new("pool").shared()).unwrap();
    let start = Instant::now();
    let held = DropPanics("of main");
    let run = shutdown.run(poll_fn(move |_| {
        let _held = &held;
        Poll::Ready(DropPanics("of the output"))
    }));
    let payload = tokio::spawn(run).await.err().unwrap().into_panic();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"of main"));
    assert_eq!(start.elapsed(), 500 * MS, "the pool had its grace");
}

#[test]
fn what_a_waker_panics_with_does_no_harm_to_who_raises_a_signal() {
    /// Panics when it is dropped. What that panics with is leaked; it has no size.
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            std::panic::panic_any(());
        }
    }
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            std::panic::panic_any(Payload);
        }
    }
    let (signals, hand) = Signals::manual();
    let shutdown = plan().signals(signals).build().unwrap();
    let fake = Fake::new("pool").shared();
    shutdown.register(fake.clone()).unwrap();
    let mut stopping = std::pin::pin!(shutdown.ctx().stopping());
    let mut cancelled = std::pin::pin!(shutdown.ctx().cancelled());
    let waker = Waker::from(Arc::new(Panics));
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(stopping.as_mut().poll(&mut cx).is_pending());
    assert!(cancelled.as_mut().poll(&mut cx).is_pending());
    hand.raise(Signal::Interrupt);
    hand.raise(Signal::Interrupt);
    assert_eq!(fake.stops(), 1);
    assert!(shutdown.ctx().is_cancelled());
}

#[test]
fn a_waker_that_panics_stops_no_component_and_the_panic_goes_on() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("this waker panics");
        }
    }
    let shutdown = plan().build().unwrap();
    let fake = Fake::new("pool").shared();
    shutdown.register(fake.clone()).unwrap();
    let mut stopping = std::pin::pin!(shutdown.ctx().stopping());
    let waker = Waker::from(Arc::new(Panics));
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(stopping.as_mut().poll(&mut cx).is_pending());
    let trigger = AssertUnwindSafe(|| shutdown.trigger("enough"));
    assert!(std::panic::catch_unwind(trigger).is_err());
    assert_eq!(fake.stops(), 1);
}

// Bad input.

#[tokio::test(start_paused = true)]
async fn no_grace_and_no_budget_abort_at_once_and_still_look() {
    let shutdown = plan().grace(Duration::ZERO).abort_budget(Duration::ZERO).build().unwrap();
    let [heeds, stuck] = [Fake::new("heeds"), Fake::new("stuck").on_abort(Answer::GoOn)];
    let (heeds, stuck) = (heeds.shared(), stuck.shared());
    shutdown.register(heeds.clone()).unwrap();
    shutdown.register(stuck.clone()).unwrap();
    let ctx = shutdown.ctx().clone();
    shutdown.trigger("enough");
    let (output, report) = shutdown.run(async move { ctx.cancelled().await.kind() }).await;
    assert_eq!(output, Some(CauseKind::Stopped));
    assert_eq!(report.took(), Duration::ZERO);
    assert_eq!(report.components()[0].end(), &End::Aborted { after: Duration::ZERO });
    assert!(report.components()[1].end().is_late());
}

#[tokio::test(start_paused = true)]
async fn a_grace_without_end_lasts_until_all_have_ended() {
    let shutdown = plan().grace(Duration::MAX).abort_budget(Duration::MAX).build().unwrap();
    let fake = Fake::new("pool").shared();
    shutdown.register(fake.clone()).unwrap();
    shutdown.trigger("enough");
    tokio::spawn(async move {
        sleep(Duration::from_secs(1_000_000)).await;
        fake.end();
    });
    let report = shutdown.wait().await;
    assert_eq!(report.took(), Duration::from_secs(1_000_000));
}

#[test]
fn a_plan_without_components_ends_at_once() {
    let shutdown = plan().build().unwrap();
    shutdown.trigger("enough");
    let report = selvedge_testkit::block_on(shutdown.wait());
    assert_eq!((report.exit_code(), report.components().len()), (0, 0));
    assert_eq!(report.main(), None);
}

#[test]
fn outside_a_runtime_the_timer_thread_keeps_the_deadlines() {
    let report = watchdog(Duration::from_secs(10), "a plan on the timer thread", || {
        let shutdown = Shutdown::builder().grace(20 * MS).abort_budget(20 * MS).build().unwrap();
        let stuck = Fake::new("stuck").on_abort(Answer::GoOn).shared();
        shutdown.register(stuck).unwrap();
        shutdown.trigger("enough");
        selvedge_testkit::block_on(shutdown.wait())
    });
    assert!(report.took() >= 40 * MS);
    assert_eq!(report.late().count(), 1);
}

#[test]
fn a_runtime_without_its_time_driver_is_an_error_that_another_timer_mends() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let error = Shutdown::builder().build().unwrap_err();
        assert_eq!(error, BuildError::Timer(TimerError::Disabled));
        let shutdown = Shutdown::builder().timer(Timer::thread()).build().unwrap();
        assert_eq!(shutdown.run(async { 1 }).await.0, Some(1));
    });
}

#[tokio::test(start_paused = true)]
async fn a_timer_other_than_the_parents_is_an_error() {
    let (parent, _keep) = Context::background().with_timeout(MS).unwrap();
    let error = plan().parent(&parent).timer(Timer::thread()).build().unwrap_err();
    assert_eq!(error, BuildError::OtherTimer);
}

#[test]
fn a_runtime_that_was_shut_down_underneath_is_no_hang() {
    let report = watchdog(Duration::from_secs(10), "a plan without its runtime", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let shutdown = runtime.block_on(async { plan().build().unwrap() });
        let stuck = Fake::new("stuck").on_abort(Answer::GoOn).shared();
        shutdown.register(stuck).unwrap();
        drop(runtime);
        shutdown.trigger("enough");
        selvedge_testkit::block_on(shutdown.wait())
    });
    assert_eq!(report.late().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_has_ended_begins_the_shutdown_at_once() {
    let (parent, canceller) = Context::background().child();
    canceller.cancel();
    let report = plan().parent(&parent).build().unwrap().wait().await;
    assert_eq!(report.took(), Duration::ZERO);
    assert_eq!(report.exit_code(), 1);
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn a_future_that_is_polled_after_its_end_says_so() {
    let shutdown = plan().build().unwrap();
    shutdown.trigger("enough");
    let mut waiting = std::pin::pin!(shutdown.wait());
    let mut cx = std::task::Context::from_waker(Waker::noop());
    let Poll::Ready(_) = waiting.as_mut().poll(&mut cx) else { return };
    let _ = waiting.as_mut().poll(&mut cx);
}

#[tokio::test]
async fn an_always_ready_loop_over_plans_yields() {
    let ticks = Arc::new(AtomicUsize::new(0));
    let counting = ticks.clone();
    tokio::spawn(async move {
        loop {
            counting.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..1_000 {
        let shutdown = plan().build().unwrap();
        shutdown.trigger("enough");
        let _ = shutdown.wait().await;
    }
    assert!(ticks.load(Ordering::Relaxed) > 0, "the loop never yielded");
}
