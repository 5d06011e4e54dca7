//! Callbacks: when they run, on which thread, what revoking them finds, and what they may do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context as TaskContext, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{Canceller, CauseKind, Context, Revoked, Timer};
use selvedge_testkit::{CountingAllocator, CountingWaker, block_on, watchdog};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> (Context, Canceller) {
    Context::background().child()
}

/// Counts calls.
#[derive(Clone, Default)]
struct Calls(Arc<AtomicUsize>);

impl Calls {
    fn count(&self) -> usize {
        // Relaxed: whoever calls back has returned, or was waited for.
        self.0.load(Ordering::Relaxed)
    }

    fn callback<T>(&self) -> impl FnOnce(T) + Send + 'static {
        let calls = self.clone();
        move |_| {
            // Relaxed: see `count`.
            calls.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_callback_runs_once_on_the_thread_that_cancels_with_the_cause() {
    let (ctx, canceller) = root();
    let (child, _keep) = ctx.child();
    let (tell, told) = mpsc::channel();
    let _registration =
        child.on_cancel(move |cause| tell.send((thread::current().id(), cause)).unwrap());
    canceller.cancel();
    canceller.cancel();
    let (thread, cause) = told.recv().unwrap();
    assert_eq!(thread, thread::current().id());
    assert!(cause.same(&ctx.cause().unwrap()));
    assert!(told.try_recv().is_err(), "once");
}

#[test]
fn on_stop_runs_at_the_stop_and_on_cancel_at_the_cancel() {
    let (ctx, canceller) = root();
    let (stopped, cancelled) = (Calls::default(), Calls::default());
    let _one = ctx.on_stop(stopped.callback());
    let _two = ctx.on_cancel(cancelled.callback());
    canceller.stop(Duration::MAX);
    assert_eq!((stopped.count(), cancelled.count()), (1, 0));
    canceller.cancel();
    assert_eq!((stopped.count(), cancelled.count()), (1, 1));
}

#[test]
fn a_callback_on_a_cancelled_context_runs_at_once() {
    let (ctx, canceller) = root();
    canceller.cancel();
    let calls = Calls::default();
    let registration = ctx.on_cancel(calls.callback());
    assert_eq!(calls.count(), 1);
    assert_eq!(registration.revoke(), Revoked::Late);
}

#[test]
fn every_flag_is_set_before_a_callback_runs() {
    let (ctx, canceller) = root();
    let children: Vec<_> = (0..100).map(|_| ctx.child()).collect();
    let all: Vec<_> = children.iter().map(|(ctx, _)| ctx.clone()).collect();
    let (tell, told) = mpsc::channel();
    let _registration =
        ctx.on_cancel(move |_| tell.send(all.iter().all(Context::is_cancelled)).unwrap());
    canceller.cancel();
    assert!(told.recv().unwrap());
}

#[test]
fn a_deadline_runs_the_callback_because_registering_sets_its_timer() {
    let (timer, clock) = Timer::manual();
    let made = Context::background().child_with().timeout(SECOND).timer(timer).build();
    let (ctx, _canceller) = made.unwrap();
    let calls = Calls::default();
    let _registration = ctx.on_cancel(calls.callback());
    assert_eq!(clock.registered(), 1);
    clock.advance(SECOND);
    assert_eq!(calls.count(), 1);
}

#[test]
fn a_revoked_callback_never_runs_and_lets_go_of_what_it_captured() {
    let (ctx, canceller) = root();
    let captured = Arc::new(());
    let held = Arc::clone(&captured);
    let registration = ctx.on_cancel(move |_| drop(held));
    assert_eq!(registration.revoke(), Revoked::InTime);
    assert_eq!(Arc::strong_count(&captured), 1);
    assert_eq!(registration.revoke(), Revoked::InTime, "again");
    canceller.cancel();
    assert_eq!(registration.revoke(), Revoked::InTime, "it did not run");
    block_on(registration.ended());
}

#[test]
fn dropping_the_registration_revokes_and_detaching_it_does_not() {
    let (ctx, canceller) = root();
    let (dropped, detached) = (Calls::default(), Calls::default());
    drop(ctx.on_cancel(dropped.callback()));
    ctx.on_cancel(detached.callback()).detach();
    canceller.cancel();
    assert_eq!((dropped.count(), detached.count()), (0, 1));
}

#[test]
fn a_detached_callback_keeps_its_node_and_goes_with_its_run() {
    let (root, canceller) = root();
    let (child, child_canceller) = root.child();
    child_canceller.detach();
    let calls = Calls::default();
    child.on_cancel(calls.callback()).detach();
    drop(child);
    assert_eq!(root.nodes(), 2, "the callback keeps it");
    canceller.cancel();
    assert_eq!((calls.count(), root.nodes()), (1, 1));
}

#[test]
fn the_background_never_runs_a_callback() {
    let calls = Calls::default();
    let registration = Context::background().on_cancel(calls.callback());
    assert_eq!(registration.revoke(), Revoked::InTime);
    block_on(registration.ended());
    registration.detach();
    assert_eq!(calls.count(), 0);
}

#[test]
fn revoking_a_running_callback_does_not_wait_and_ended_does() {
    watchdog(PATIENCE, "a callback that runs", || {
        let (ctx, canceller) = root();
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let done = Calls::default();
        let registration = ctx.on_cancel({
            let done = done.clone();
            move |cause| {
                begun.send(()).unwrap();
                may_go_on.recv().unwrap();
                done.callback()(cause);
            }
        });
        let cancelling = thread::spawn(move || canceller.cancel());
        has_begun.recv().unwrap();
        assert_eq!(registration.revoke(), Revoked::Running);
        let mut ended = pin!(registration.ended());
        let counting = CountingWaker::new();
        let waker = counting.waker();
        assert!(ended.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        go_on.send(()).unwrap();
        block_on(ended);
        assert_eq!(done.count(), 1, "ended comes after the callback");
        assert_eq!(registration.revoke(), Revoked::Late);
        cancelling.join().unwrap();
    });
}

#[test]
fn a_callback_may_revoke_itself_and_finds_itself_running() {
    let (ctx, canceller) = root();
    let own = Arc::new(Mutex::new(None));
    let found = Arc::new(Mutex::new(None));
    let registration = ctx.on_cancel({
        let (own, found) = (Arc::clone(&own), Arc::clone(&found));
        move |_| {
            let registration: Option<selvedge_cancel::Registration> = own.lock().unwrap().take();
            *found.lock().unwrap() = registration.map(|registration| registration.revoke());
        }
    });
    *own.lock().unwrap() = Some(registration);
    canceller.cancel();
    assert_eq!(*found.lock().unwrap(), Some(Revoked::Running));
}

#[test]
fn a_panicking_callback_stops_nobody_else_and_is_reported_once() {
    let (ctx, canceller) = root();
    let (before, after) = (Calls::default(), Calls::default());
    let _before = ctx.on_cancel(before.callback());
    let panicking = ctx.on_cancel(|_| panic!("this callback panics"));
    let _after = ctx.on_cancel(after.callback());
    let panic = catch_unwind(AssertUnwindSafe(|| canceller.cancel())).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"this callback panics"));
    assert_eq!((before.count(), after.count()), (1, 1));
    assert_eq!(panicking.revoke(), Revoked::Late);
    block_on(panicking.ended());
    canceller.cancel();
}

#[test]
fn a_callback_may_cancel_make_and_drop_in_its_own_tree() {
    watchdog(PATIENCE, "a callback in its own tree", || {
        let (ctx, canceller) = root();
        let (sibling, sibling_canceller) = ctx.child();
        let (child, keep) = ctx.child();
        let again = ctx.clone();
        let registration = child.on_cancel(move |_| {
            sibling_canceller.cancel();
            let (fresh, _keep) = again.child();
            assert!(fresh.is_cancelled());
            drop((again.clone(), sibling));
            drop(again.on_cancel(|_| ()));
            assert!(again.nodes() > 0);
        });
        canceller.cancel();
        assert_eq!(registration.revoke(), Revoked::Late);
        drop((child, keep, registration));
        assert_eq!(ctx.nodes(), 1);
    });
}

#[test]
fn callbacks_of_one_context_run_in_the_order_of_their_registration() {
    let (ctx, canceller) = root();
    let order = Arc::new(Mutex::new(Vec::new()));
    let all: Vec<_> = (0..100)
        .map(|number| {
            let order = Arc::clone(&order);
            ctx.on_cancel(move |_| order.lock().unwrap().push(number))
        })
        .collect();
    canceller.cancel();
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
    drop(all);
}

#[test]
fn everything_comes_back() {
    let (ctx, canceller) = root();
    drop(ctx.on_cancel(|_| ()));
    let cost = CountingAllocator::count(|| {
        let (child, child_canceller) = ctx.child();
        let one = child.on_cancel(|_| ());
        child.on_stop(|_| ()).detach();
        drop(child.on_cancel(|_| ()));
        child_canceller.cancel();
        drop((child, child_canceller, one));
    });
    assert_eq!(cost.allocations, cost.frees, "{cost}");
    assert_eq!(ctx.cause().map(|cause| cause.kind()), None::<CauseKind>);
    canceller.detach();
}

#[test]
fn a_dropped_wait_for_the_end_leaves_no_waker() {
    let (ctx, canceller) = root();
    let registration = ctx.on_cancel(|_| ());
    let counting = CountingWaker::new();
    {
        let waker = counting.waker();
        let mut ended = pin!(registration.ended());
        assert!(ended.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    }
    assert_eq!(counting.live(), 0);
    let mut ended = pin!(registration.ended());
    assert!(ended.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
    assert_eq!(registration.revoke(), Revoked::InTime);
    assert!(ended.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_ready());
    canceller.detach();
}

#[test]
fn the_panic_of_a_callback_is_told_to_the_hook_once() {
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    const WORDS: &str = "a callback whose panic is counted";
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match panic.payload().downcast_ref::<&str>() {
        Some(&WORDS) => drop(TOLD.fetch_add(1, Ordering::Relaxed)),
        _ => before(panic),
    }));
    let (ctx, canceller) = root();
    let (child, _keep) = ctx.child();
    let _callback = child.on_cancel(|_| std::panic::panic_any(WORDS));
    catch_unwind(AssertUnwindSafe(|| canceller.cancel())).unwrap_err();
    assert_eq!(TOLD.load(Ordering::Relaxed), 1);
}

#[test]
fn what_a_revoked_callback_has_captured_may_panic_while_its_thread_unwinds() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let (ctx, _canceller) = root();
    let captured = Panics;
    let registration = ctx.on_cancel(move |_| drop(captured));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _revoked_by_the_panic = registration;
        panic!("the first");
    }));
    assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"the first"));
}
