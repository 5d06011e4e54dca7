//! Models of the context tree: the engine itself, no stand-in. `loom-models.toml` lists them;
//! `cargo xtask loom cancel` runs them.
#![cfg(selvedge_loom)]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Wake, Waker};
use std::time::Duration;

use selvedge_cancel::{
    Canceller, Cause, CauseKind, Component, Context, ManualClock, Revoked, Timer,
};
use selvedge_primitives::atomic::{AtomicUsize, Ordering};
use selvedge_primitives::{UnsafeCell, block_on, model, thread};
use selvedge_testkit::ReentrantWaker;

const SECOND: Duration = Duration::from_secs(1);

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn("model".to_owned(), f).unwrap()
}

/// A waker that counts.
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        // Relaxed: read after the threads are joined.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An error that holds what was written before.
#[derive(Debug)]
struct Written(UnsafeCell<usize>);

// SAFETY: the models' claim is that what they are about orders the accesses; loom checks it.
unsafe impl Send for Written {}
// SAFETY: as for Send.
unsafe impl Sync for Written {}

impl Written {
    fn write(&self, value: usize) {
        self.0.with_mut(|written| {
            // SAFETY: nobody reads before what the model is about.
            unsafe { *written = value };
        });
    }

    fn read(&self) -> usize {
        self.0.with(|written| {
            // SAFETY: what the model is about came before.
            unsafe { *written }
        })
    }
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("written")
    }
}

impl std::error::Error for Written {}

/// A context with a deadline in a second of a manual clock.
fn timed() -> (Context, Canceller, ManualClock) {
    let (timer, clock) = Timer::manual();
    let made = Context::background().child_with().timeout(SECOND).timer(timer).build();
    let (ctx, canceller) = made.unwrap();
    (ctx, canceller, clock)
}

/// A waiter, polled once.
fn waiting<F: Future>(future: F, waker: &Waker) -> std::pin::Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(future.as_mut().poll(&mut TaskContext::from_waker(waker)).is_pending());
    future
}

/// A poll that leaves a waker that nobody listens to.
fn poll_once(future: impl Future<Output = Cause>) -> Option<Cause> {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        std::task::Poll::Ready(cause) => Some(cause),
        std::task::Poll::Pending => None,
    }
}

/// Race: the walk sets the flag and wakes while a waiter looks at the flag and queues. A lost
/// wake-up shows as a deadlock.
#[test]
fn cancel_vs_register() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let (child, _keep) = ctx.child();
        let thread = spawn(move || canceller.cancel());
        assert_eq!(block_on(child.cancelled()).kind(), CauseKind::Cancelled);
        thread.join().unwrap();
    });
}

/// Race: a waiter that is dropped, queued or granted, while the walk wakes. Another waiter of the
/// same context is woken all the same.
#[test]
fn cancel_vs_unregister() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut staying = Box::pin(ctx.cancelled());
        assert!(staying.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        let leaver = spawn({
            let ctx = ctx.clone();
            move || poll_once(ctx.cancelled())
        });
        canceller.cancel();
        leaver.join().unwrap();
        // Relaxed: the leaver is joined, and the canceller is this thread.
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    });
}

/// A waiter is polled again while the walk wakes, by the task that it knows or by another. Either it is ready, or it wakes whoever
/// polled last; somebody is woken once.
fn cancel_vs_repoll(same_task: bool) {
    model::check_counts(move || {
        let (ctx, canceller) = Context::background().child();
        let woken = [(); 2].map(|()| Arc::new(Woken(AtomicUsize::new(0))));
        let [first, other] = woken.clone().map(Waker::from);
        let mut waits = waiting(ctx.cancelled_owned(), &first);
        let poller = spawn(move || {
            let waker = if same_task { first } else { other };
            let polled = waits.as_mut().poll(&mut TaskContext::from_waker(&waker));
            (polled.is_ready(), waits)
        });
        canceller.cancel();
        let (ready, waits) = poller.join().unwrap();
        // Relaxed: the poller is joined, and the canceller is this thread.
        let wakes = woken.map(|woken| woken.0.load(Ordering::Relaxed));
        assert_eq!(wakes[0] + wakes[1], 1, "{wakes:?}");
        assert!(ready || wakes[usize::from(!same_task)] == 1, "a waker that was replaced");
        drop(waits);
    });
}

/// Race: the task that waits polls again while the walk wakes it.
#[test]
fn cancel_vs_repoll_by_the_same_task() {
    cancel_vs_repoll(true);
}

/// Race: another task takes the wait over while the walk wakes.
#[test]
fn cancel_vs_repoll_by_another_task() {
    cancel_vs_repoll(false);
}

/// Race: a child is made while the walk goes over its parent. It is either seen by the walk or born
/// cancelled: when both are done it is cancelled, and so is its own child.
#[test]
fn cancel_vs_create_child() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let thread = spawn(move || canceller.cancel());
        let (child, keep) = ctx.child();
        let (grandchild, keep_too) = child.child();
        thread.join().unwrap();
        assert!(child.is_cancelled() && grandchild.is_cancelled());
        assert_eq!(grandchild.cause().unwrap().kind(), CauseKind::Cancelled);
        keep.detach();
        keep_too.detach();
    });
}

/// Race: an inner node with one live child is dropped, and so spliced out, while the walk goes over
/// the tree. The child is flagged when the cancel has returned.
#[test]
fn cancel_vs_drop() {
    model::check_counts(|| {
        let (root, canceller) = Context::background().child();
        let (inner, inner_canceller) = root.child();
        let (leaf, _leaf_canceller) = inner.child();
        inner_canceller.detach();
        let dropper = spawn(move || drop(inner));
        canceller.cancel();
        assert!(leaf.is_cancelled(), "cancel returned and a descendant is not flagged");
        dropper.join().unwrap();
        assert_eq!(root.nodes(), 2, "the dropped node is still in the tree");
    });
}

/// Race: both children of a node without handles are dropped at once. Whoever is second splices the
/// relay; nothing stays behind.
#[test]
fn drop_vs_drop() {
    model::check_counts(|| {
        let (root, _canceller) = Context::background().child();
        let (inner, inner_canceller) = root.child();
        inner_canceller.detach();
        let (left, left_canceller) = inner.child();
        let (right, right_canceller) = inner.child();
        left_canceller.detach();
        right_canceller.detach();
        drop(inner);
        assert_eq!(root.nodes(), 4, "root, relay and two leaves");
        let dropper = spawn(move || drop(left));
        drop(right);
        dropper.join().unwrap();
        assert_eq!(root.nodes(), 1);
    });
}

/// Race: a stop against a cancel. The first cause wins on every node alike, both flags are set in
/// the end, and a cancel that has returned has cancelled.
#[test]
fn stop_vs_cancel() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let (child, _keep) = ctx.child();
        let stopper = spawn({
            let canceller = canceller.clone();
            move || canceller.stop(Duration::MAX)
        });
        canceller.cancel();
        assert!(ctx.is_cancelled() && child.is_cancelled());
        let cause = child.cause().unwrap();
        stopper.join().unwrap();
        assert!(ctx.cause().unwrap().same(&cause), "the causes differ");
        assert!(child.cause().unwrap().same(&cause), "the cause changed");
    });
}

/// Race: a child is made while a link brings the end of its source. It is flagged, and so is what is made below it later.
#[test]
fn link_vs_create_child() {
    model::check_counts(|| {
        let (source, source_canceller) = Context::background().child();
        let (any, _keep) = Context::any_of([&source]);
        let ending = spawn(move || source_canceller.cancel());
        let child = quiet(&any);
        ending.join().unwrap();
        assert!(child.is_cancelled() && quiet(&child).is_cancelled());
    });
}

/// Race: a child is made while the loss of the timer ends its parent. No clock tells it of that afterwards.
#[test]
fn timer_lost_vs_create_child() {
    model::check_counts(|| {
        let (ctx, _canceller, clock) = timed();
        let _waits = waiting(ctx.cancelled(), Waker::noop());
        let losing = spawn(move || clock.lose());
        let child = quiet(&ctx);
        losing.join().unwrap();
        assert!(child.is_cancelled());
    });
}

/// Race: a child is made inside of a shield while the masked deadline above it fires: it is to finish.
#[test]
fn masked_deadline_fire_vs_create_child() {
    model::check_counts(|| {
        let (ctx, canceller, clock) = timed();
        canceller.detach();
        let mut inside = None;
        let run = ctx.shield(SECOND * 2, |ctx| {
            inside = Some(ctx);
            std::future::pending::<()>()
        });
        let inside = inside.unwrap();
        // The walk begins at the shielded node.
        drop(ctx);
        // So the next is on the side where the walk begins.
        drop(quiet(&inside));
        let firing = spawn(move || clock.advance(SECOND));
        let child = quiet(&inside);
        firing.join().unwrap();
        assert!(child.is_stopping() && !child.is_cancelled());
        drop(run);
    });
}

/// Race: a waiter for STOPPING queues while a stop goes by; it is woken, and the context is not
/// cancelled.
#[test]
fn stop_vs_register() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let thread = spawn({
            let canceller = canceller.clone();
            move || canceller.stop(Duration::MAX)
        });
        assert_eq!(block_on(ctx.stopping()).kind(), CauseKind::Stopped);
        assert!(!ctx.is_cancelled());
        thread.join().unwrap();
    });
}

/// Race: the timer fires while somebody cancels. One cause wins, for the node and its child alike,
/// the waiter is woken, and nothing stays registered.
#[test]
fn deadline_fire_vs_cancel() {
    model::check_counts(|| {
        let (ctx, canceller, clock) = timed();
        let child = quiet(&ctx);
        let mut waiting = pin!(ctx.cancelled());
        let mut cx = TaskContext::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        assert_eq!(clock.registered(), 1);
        let clock = Arc::new(clock);
        let firing = spawn({
            let clock = Arc::clone(&clock);
            move || clock.advance(SECOND)
        });
        canceller.cancel();
        let cause = ctx.cause().unwrap();
        firing.join().unwrap();
        for ctx in [&ctx, &child] {
            assert!(ctx.is_cancelled() && ctx.cause().unwrap().same(&cause), "another cause");
        }
        assert!(waiting.as_mut().poll(&mut cx).is_ready());
        assert_eq!(clock.registered(), 0);
    });
}

/// Race: the first waiter registers the deadline while the context is cancelled. The registration is
/// taken back, whoever comes second.
#[test]
fn arm_vs_cancel() {
    model::check_counts(|| {
        let (ctx, canceller, clock) = timed();
        let thread = spawn(move || canceller.cancel());
        block_on(ctx.cancelled());
        thread.join().unwrap();
        assert_eq!(clock.registered(), 0, "a registration was left behind");
    });
}

/// Race: the first waiter registers while the clock passes the deadline. It is woken by the timer,
/// or sees the past deadline.
#[test]
fn arm_vs_fire() {
    model::check_counts(|| {
        let (ctx, _canceller, clock) = timed();
        let waiter = spawn(move || block_on(ctx.cancelled()).kind());
        clock.advance(SECOND);
        assert_eq!(waiter.join().unwrap(), CauseKind::Deadline);
    });
}

/// Race: a loop that only polls finds the deadline past and records it, while the timer fires and
/// walks. The cause is the deadline's for both, and a child is flagged when the timer has walked.
#[test]
fn polling_loop_vs_deadline_fire() {
    model::check_counts(|| {
        let (ctx, _canceller, clock) = timed();
        let (child, _keep) = ctx.child();
        assert!(poll_once(child.cancelled()).is_none());
        let poller = spawn({
            let ctx = ctx.clone();
            move || ctx.is_cancelled().then(|| ctx.cause().unwrap().kind())
        });
        clock.advance(SECOND);
        assert!(child.is_cancelled());
        assert_eq!(child.cause().unwrap().kind(), CauseKind::Deadline);
        if let Some(kind) = poller.join().unwrap() {
            assert_eq!(kind, CauseKind::Deadline);
        }
    });
}

/// Race: the timer's driver goes away while the context is cancelled. One cause wins.
#[test]
fn timer_lost_vs_cancel() {
    model::check_counts(|| {
        let (ctx, canceller, clock) = timed();
        assert!(poll_once(ctx.cancelled()).is_none());
        let thread = spawn(move || canceller.cancel());
        clock.lose();
        // The registration was taken back unfired, so nothing is left to lose.
        thread.join().unwrap();
        assert!(ctx.is_cancelled());
        let kind = ctx.cause().unwrap().kind();
        assert!(matches!(kind, CauseKind::Cancelled | CauseKind::TimerLost));
    });
}

/// Race: the end of a grace against a cancel; the stop's cause stays, and the grace's registration
/// goes.
#[test]
fn grace_end_vs_cancel() {
    model::check_counts(|| {
        let (timer, clock) = Timer::manual();
        let hour = Duration::from_secs(3600);
        let made = Context::background().child_with().timeout(hour).timer(timer).build();
        let (ctx, canceller) = made.unwrap();
        canceller.stop(SECOND);
        assert!(ctx.is_stopping() && !ctx.is_cancelled());
        assert_eq!(clock.registered(), 1);
        let thread = spawn({
            let canceller = canceller.clone();
            move || canceller.cancel()
        });
        clock.advance(SECOND);
        assert!(ctx.is_cancelled());
        thread.join().unwrap();
        assert_eq!(ctx.cause().unwrap().kind(), CauseKind::Stopped);
        assert_eq!(clock.registered(), 0);
    });
}

/// Race: a reader finds the end of a grace past, and records it, while the stop that brings the grace
/// is still walking. The end is timed all the same, so the waiter below is woken.
#[test]
fn stop_vs_look() {
    model::check_counts(|| {
        let (timer, clock) = Timer::manual();
        let made = Context::background().child_with().timeout(SECOND * 9).timer(timer).build();
        let (ctx, canceller) = made.unwrap();
        let (child, _keep) = ctx.child();
        let mut waiting = pin!(child.cancelled());
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        assert!(waiting.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        let stopper = spawn(move || {
            canceller.stop(SECOND);
            canceller
        });
        clock.advance_silently(SECOND);
        let _ = ctx.is_cancelled();
        let canceller = stopper.join().unwrap();
        // At the latest a second after the stop; before the deadline.
        clock.advance(SECOND * 2);
        // Relaxed: both threads have been joined.
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the waiter below sleeps on");
        canceller.detach();
    });
}

/// Race: a cancel of the root against a cancel of an inner node. Whichever returns, the leaf below
/// both is flagged by then.
#[test]
fn cancel_root_vs_cancel_inner() {
    model::check_counts(|| {
        let (root, root_canceller) = Context::background().child();
        let (inner, inner_canceller) = root.child();
        let (leaf, _keep) = inner.child();
        let thread = spawn({
            let leaf = leaf.clone();
            move || {
                root_canceller.cancel();
                assert!(leaf.is_cancelled());
            }
        });
        inner_canceller.cancel();
        assert!(leaf.is_cancelled(), "cancel returned and a descendant is not flagged");
        thread.join().unwrap();
        assert!(leaf.cause().unwrap().same(&inner.cause().unwrap()));
    });
}

/// Race: what the canceller wrote before against a reader that saw only the flag. (The reader is the other thread: loom's
/// search would forget its look for one of the canceller's own.)
#[test]
fn cancel_publishes() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let written = Arc::new(Written(UnsafeCell::new(0)));
        let reader = spawn({
            let written = Arc::clone(&written);
            move || {
                if ctx.is_cancelled() {
                    assert_eq!(written.read(), 7);
                    assert!(ctx.cause().is_some());
                }
            }
        });
        written.write(7);
        canceller.cancel();
        reader.join().unwrap();
    });
}

/// Race: `run` against cancel: a value or a cause, and a cause only when the flag is set.
#[test]
fn run_vs_cancel() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let thread = spawn(move || canceller.cancel());
        match block_on(ctx.run(std::future::ready(5))) {
            Ok(value) => assert_eq!(value, 5),
            Err(cause) => {
                assert!(ctx.is_cancelled());
                assert_eq!(cause.kind(), CauseKind::Cancelled);
            }
        }
        thread.join().unwrap();
        assert!(block_on(ctx.run(std::future::ready(5))).is_err());
    });
}

/// Race: a deadline that fires against the drop of a sibling, with a waiter that counts the tree's
/// nodes when it is woken. A lock held over the waker shows as a deadlock.
#[test]
fn deadline_waker_enters_the_tree() {
    model::check_counts(|| {
        let (ctx, _canceller, clock) = timed();
        let (sibling, keep) = ctx.child();
        let again = ctx.clone();
        let waker = ReentrantWaker::on_wake(move || assert!(again.nodes() > 0));
        let mut cancelled = pin!(ctx.cancelled());
        let waker = waker.waker();
        assert!(cancelled.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        let thread = spawn(move || drop((sibling, keep)));
        clock.advance(SECOND);
        assert_eq!(block_on(cancelled).kind(), CauseKind::Deadline);
        thread.join().unwrap();
    });
}

/// An error that makes a child of a tree when it is dropped.
#[derive(Debug)]
struct EntersTheTree(Context);

impl std::fmt::Display for EntersTheTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("enters the tree")
    }
}

impl std::error::Error for EntersTheTree {}

impl Drop for EntersTheTree {
    fn drop(&mut self) {
        drop(self.0.child());
    }
}

/// Race: the drop of two siblings, of which the first splices their parent out: a relay by then, and
/// the only one whose cause carries the error that is dropped with it.
#[test]
fn relay_drop_enters_the_tree() {
    model::check_counts(|| {
        let (root, _root_canceller) = Context::background().child();
        let (parent, parent_canceller) = root.child();
        let siblings = [parent.child(), parent.child()];
        for (_, canceller) in &siblings {
            canceller.cancel();
        }
        let error = EntersTheTree(root.clone());
        parent_canceller.cancel_with(Cause::new(CauseKind::Cancelled).with_error(error));
        drop((parent, parent_canceller));
        let [left, right] = siblings;
        let thread = spawn(move || drop(left));
        drop(right);
        thread.join().unwrap();
        assert_eq!(root.nodes(), 1, "the relay is gone");
    });
}

/// Looks at the tree of another context when it is dropped, which takes that tree's lock.
struct Looks {
    number: usize,
    root: Context,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Looks {
    fn drop(&mut self) {
        assert!(self.root.nodes() > 0, "the tree is there");
        // Relaxed: read after the threads are joined.
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Race: a value is read through a child, which is then dropped, while the context that brought it,
/// its canceller and an override of it go. What is read is whole; each value is dropped once, with the
/// tree's lock free; the tree is empty but for the root.
#[test]
fn values_vs_drop() {
    model::check_counts(|| {
        let (root, canceller) = Context::background().child();
        let dropped = Arc::new(AtomicUsize::new(0));
        let value = |number| Looks { number, root: root.clone(), dropped: Arc::clone(&dropped) };
        let (plain, request_canceller) = root.child();
        let request = plain.with_value(value(7));
        let overriding = request.with_value(value(8));
        let (step, keep) = request.child();
        drop(plain);
        let reader = spawn(move || {
            let number = step.value::<Looks>().unwrap().number;
            let kept = step.shared_value::<Looks>().unwrap();
            drop((step, keep));
            assert_eq!((number, kept.number), (7, 7));
        });
        drop(request);
        assert_eq!(overriding.value::<Looks>().unwrap().number, 8);
        drop(request_canceller);
        assert!(overriding.is_cancelled());
        drop(overriding);
        reader.join().unwrap();
        // Relaxed: the reader is joined.
        assert_eq!(dropped.load(Ordering::Relaxed), 2, "a value was leaked or dropped twice");
        assert_eq!(root.nodes(), 1, "a dropped context is still in the tree");
        canceller.detach();
    });
}

/// A child that only its parent cancels.
fn quiet(parent: &Context) -> Context {
    let (child, canceller) = parent.child();
    canceller.detach();
    child
}

/// Leaves a waker once, and the future behind.
fn was_waited_on(ctx: &Context) {
    assert!(poll_once(ctx.cancelled()).is_none());
}

/// Race: two cancels of one node. Whichever returns, the child is flagged by then; one cause for both.
#[test]
fn cancel_vs_cancel() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let child = quiet(&ctx);
        let thread = spawn({
            let (canceller, child) = (canceller.clone(), child.clone());
            move || {
                canceller.cancel();
                assert!(child.is_cancelled(), "a cancel returned before the flags were set");
            }
        });
        canceller.cancel();
        assert!(child.is_cancelled(), "a cancel returned before the flags were set");
        thread.join().unwrap();
        assert!(child.cause().unwrap().same(&ctx.cause().unwrap()));
    });
}

/// Race: both inner nodes of a chain are dropped at once, and spliced out; the leaf is still below the root.
#[test]
fn splice_vs_splice() {
    model::check_counts(|| {
        let (root, canceller) = Context::background().child();
        let upper = quiet(&root);
        let lower = quiet(&upper);
        let leaf = quiet(&lower);
        let dropper = spawn(move || drop(upper));
        drop(lower);
        dropper.join().unwrap();
        assert_eq!(root.nodes(), 2, "root and leaf");
        canceller.cancel();
        assert!(leaf.is_cancelled(), "the leaf is lost");
    });
}

/// Race: a relay is left with one child, which is a relay itself from this very moment on. Whoever comes second
/// splices the upper one.
#[test]
fn relay_collapse_vs_relay() {
    model::check_counts(|| {
        let (root, canceller) = Context::background().child();
        let upper = quiet(&root);
        let (lower, beside) = (quiet(&upper), quiet(&upper));
        let (left, right) = (quiet(&lower), quiet(&lower));
        drop(upper);
        let dropper = spawn(move || drop(beside));
        drop(lower);
        dropper.join().unwrap();
        assert_eq!(root.nodes(), 4, "the root, a relay, its two children");
        canceller.cancel();
        assert!(left.is_cancelled() && right.is_cancelled());
    });
}

/// Race: a node with one child, on which somebody waits, is dropped with the waiter while a cancel walks, whose batch is full:
/// the walk wants it in its list, the drop wants it out of the tree. It goes, and the child is flagged.
#[test]
fn cancel_vs_drop_of_a_node_that_is_waited_on() {
    model::check_counts(|| {
        let (root, canceller) = Context::background().child();
        let fills = [(); 2].map(|()| waiting(root.cancelled(), Waker::noop()));
        let inner = quiet(&root);
        let waits = waiting(inner.cancelled_owned(), Waker::noop());
        let leaf = quiet(&inner);
        let dropper = spawn(move || drop((inner, waits)));
        canceller.cancel();
        assert!(leaf.is_cancelled());
        dropper.join().unwrap();
        drop(fills);
        assert_eq!(root.nodes(), 2, "the dropped node is still in the tree");
    });
}

/// Race: the same for a leaf and a stop, which takes it out of its list again.
#[test]
fn stop_vs_drop_of_a_leaf_that_is_waited_on() {
    model::check_counts(|| {
        let (root, canceller) = Context::background().child();
        let fills = [(); 2].map(|()| waiting(root.stopping(), Waker::noop()));
        let leaf = quiet(&root);
        let waits = waiting(leaf.stopping_owned(), Waker::noop());
        let dropper = spawn(move || drop((leaf, waits)));
        canceller.stop(Duration::MAX);
        dropper.join().unwrap();
        drop(fills);
        assert_eq!(root.nodes(), 1, "the dropped node is still in the tree");
        canceller.detach();
    });
}

/// Race: a cancel comes to a node that a stop has in its list; the batches of both are full before they come there. Each wakes
/// those to whom it brought the level, once; who waits for the cancel is woken when everything is flagged.
#[test]
fn stop_in_its_wakes_vs_cancel() {
    model::check_counts(|| {
        let (root, canceller) = Context::background().child();
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let stops = Waker::from(Arc::clone(&woken));
        let fills = [(); 2].map(|()| waiting(root.stopping(), Waker::noop()));
        let fills_too = [(); 2].map(|()| waiting(root.cancelled(), Waker::noop()));
        // Visited last: the newest child comes first.
        let beside = quiet(&root);
        let inner = quiet(&root);
        let ends = ReentrantWaker::on_wake({
            let (beside, woken) = (beside.clone(), Arc::clone(&woken));
            move || {
                assert!(beside.is_cancelled(), "woken before every flag was set");
                // Relaxed: read after the threads are joined.
                woken.0.fetch_add(1, Ordering::Relaxed);
            }
        });
        let waits_to_stop = waiting(inner.stopping_owned(), &stops);
        let waits = waiting(inner.cancelled_owned(), &ends.waker());
        let stopper = spawn({
            let canceller = canceller.clone();
            move || canceller.stop(Duration::MAX)
        });
        canceller.cancel();
        stopper.join().unwrap();
        // Relaxed: the stopper is joined, and the canceller is this thread.
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        drop((fills, fills_too, waits_to_stop, waits, inner));
        assert_eq!(root.nodes(), 2, "the node that was in both walks' hands is still in the tree");
    });
}

/// Race: a cancel of an inner node against its drop by another.
#[test]
fn cancel_inner_vs_drop_inner() {
    model::check_counts(|| {
        let (root, _canceller) = Context::background().child();
        let (inner, inner_canceller) = root.child();
        let leaf = quiet(&inner);
        let dropper = spawn(move || drop(inner));
        inner_canceller.cancel();
        assert!(leaf.is_cancelled());
        drop(inner_canceller);
        dropper.join().unwrap();
        assert_eq!(root.nodes(), 2);
        assert!(!root.is_cancelled());
    });
}

/// Race: the end of a grace fires while a stop replaces it by an earlier one and the node is dropped. Nobody looks at
/// the node after it is gone; its registrations go with it.
#[test]
fn grace_fire_vs_earlier_stop_and_drop() {
    model::check_counts(|| {
        let (root, _root_canceller) = Context::background().child();
        let (timer, clock) = Timer::manual();
        let made = root.child_with().timeout(SECOND * 9).timer(timer).build();
        let (ctx, canceller) = made.unwrap();
        canceller.stop(SECOND * 2);
        let clock = Arc::new(clock);
        let firing = spawn({
            let clock = Arc::clone(&clock);
            move || clock.lose()
        });
        canceller.stop(SECOND);
        drop((ctx, canceller));
        firing.join().unwrap();
        assert_eq!((root.nodes(), clock.registered()), (1, 0));
    });
}

/// Race: a stop and a cancel at once, with a node that has both kinds of waiters in between. Who waits for CANCELLED is
/// woken only when the child below is flagged, whoever wakes it.
#[test]
fn stop_vs_cancel_wakes_after_every_flag() {
    model::check_counts(|| {
        let (root, canceller) = Context::background().child();
        let inner = quiet(&root);
        let leaf = quiet(&inner);
        was_waited_on(&inner);
        let waker = ReentrantWaker::on_wake({
            let leaf = leaf.clone();
            move || assert!(leaf.is_cancelled(), "woken before every flag was set")
        });
        let waker = waker.waker();
        let mut waiting = Box::pin(inner.cancelled());
        assert!(waiting.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
        let stopper = spawn({
            let canceller = canceller.clone();
            move || canceller.stop(Duration::MAX)
        });
        canceller.cancel();
        stopper.join().unwrap();
        assert!(waiting.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_ready());
    });
}

/// Race: a callback is revoked while the cancel runs it. It is told which of the two it was, and what was told is true; who
/// waits for the end sees what the callback did.
#[test]
fn callback_revoke_vs_run() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let ran = Arc::new(AtomicUsize::new(0));
        let registration = ctx.on_cancel({
            let ran = Arc::clone(&ran);
            // Relaxed: what orders it is what the model is about.
            move |_| {
                ran.fetch_add(1, Ordering::Relaxed);
            }
        });
        let thread = spawn(move || canceller.cancel());
        let found = registration.revoke();
        block_on(registration.ended());
        // Relaxed: as above.
        let calls = ran.load(Ordering::Relaxed);
        match found {
            Revoked::InTime => assert_eq!(calls, 0),
            Revoked::Running | Revoked::Late => assert_eq!(calls, 1),
        }
        thread.join().unwrap();
    });
}

/// Race: a registration that is dropped while the cancel runs its callback.
#[test]
fn callback_drop_vs_run() {
    model::check_counts(|| {
        let (root, canceller) = Context::background().child();
        let ctx = quiet(&root);
        let registration = ctx.on_cancel(|cause| assert_eq!(cause.kind(), CauseKind::Cancelled));
        drop(ctx);
        let thread = spawn(move || drop(registration));
        canceller.cancel();
        thread.join().unwrap();
        assert_eq!(root.nodes(), 1);
    });
}

/// Race: both sources of an any-of are cancelled at once. It is cancelled for one of them when both have returned, and what
/// is below it as well.
#[test]
fn any_of_vs_both_sources() {
    model::check_counts(|| {
        let (one, one_canceller) = Context::background().child();
        let (two, two_canceller) = Context::background().child();
        let (any, _keep) = Context::any_of([&one, &two]);
        let below = quiet(&any);
        let thread = spawn(move || one_canceller.cancel());
        two_canceller.cancel();
        thread.join().unwrap();
        assert!(any.is_cancelled() && below.is_cancelled());
        let cause = any.cause().unwrap();
        assert!(cause.same(&one.cause().unwrap()) || cause.same(&two.cause().unwrap()));
    });
}

/// Race: both sources of an all-of are cancelled at once. Whoever is last ends it.
#[test]
fn all_of_vs_both_sources() {
    model::check_counts(|| {
        let (one, one_canceller) = Context::background().child();
        let (two, two_canceller) = Context::background().child();
        let (all, _keep) = Context::all_of([&one, &two]);
        let thread = spawn(move || one_canceller.cancel());
        two_canceller.cancel();
        thread.join().unwrap();
        assert!(all.is_cancelled());
        let cause = all.cause().unwrap();
        assert!([&one, &two].iter().any(|source| source.cause().unwrap().same(&cause)));
    });
}

/// Race: one source of an any-of is stopped, another cancelled, and the linked context dropped: two walks come for a node
/// that goes.
#[test]
fn any_of_stop_and_cancel_vs_drop() {
    model::check_counts(|| {
        let (one, one_canceller) = Context::background().child();
        let (two, two_canceller) = Context::background().child();
        let (any, canceller) = Context::any_of([&one, &two]);
        canceller.detach();
        let stopping = spawn(move || one_canceller.stop(Duration::MAX));
        let cancelling = spawn(move || two_canceller.cancel());
        let child = quiet(&any);
        drop(any);
        stopping.join().unwrap();
        cancelling.join().unwrap();
        assert!(child.is_cancelled() && child.nodes() == 1);
        assert!(one.is_stopping() && two.is_cancelled());
        assert_eq!((one.nodes(), two.nodes()), (1, 1));
    });
}

/// Race: a section is shielded while a stop walks over its context. Whichever comes first, it is stopping in the end and not
/// cancelled; a cancel after that is masked.
#[test]
fn shield_vs_stop() {
    model::check_counts(|| {
        let (timer, clock) = Timer::manual();
        let made = Context::background().child_with().timeout(SECOND * 9).timer(timer).build();
        let (ctx, canceller) = made.unwrap();
        let stopper = spawn({
            let canceller = canceller.clone();
            move || canceller.stop(SECOND * 2)
        });
        let mut inside = None;
        let run = ctx.shield(SECOND * 4, |ctx| {
            inside = Some(ctx);
            std::future::pending::<()>()
        });
        stopper.join().unwrap();
        let inside = inside.unwrap();
        assert!(inside.is_stopping() && !inside.is_cancelled());
        clock.advance(SECOND * 2);
        assert!(ctx.is_cancelled() && !inside.is_cancelled(), "the end of the grace is not masked");
        clock.advance(SECOND * 2);
        assert!(inside.is_cancelled());
        drop(run);
    });
}

/// Race: a section is shielded while its context is cancelled. It is masked, and ends with its budget.
#[test]
fn shield_vs_cancel() {
    model::check_counts(|| {
        let (timer, clock) = Timer::manual();
        let made = Context::background().child_with().timeout(SECOND * 9).timer(timer).build();
        let (ctx, canceller) = made.unwrap();
        let thread = spawn(move || canceller.cancel());
        let mut inside = None;
        let run = ctx.shield(SECOND, |ctx| {
            inside = Some(ctx);
            std::future::pending::<()>()
        });
        thread.join().unwrap();
        let inside = inside.unwrap();
        assert!(inside.is_stopping() && !inside.is_cancelled(), "not masked");
        clock.advance(SECOND);
        assert!(inside.is_cancelled());
        drop((run, inside));
        assert_eq!((ctx.nodes(), clock.registered()), (1, 0));
    });
}

/// Race: somebody enters while the context is cancelled and everybody waited for. It is refused, or waited for.
#[test]
fn enter_vs_close() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let first = ctx.enter().unwrap();
        let inside = Arc::new(AtomicUsize::new(0));
        let thread = spawn({
            let (ctx, inside) = (ctx.clone(), Arc::clone(&inside));
            move || {
                drop(first);
                if let Ok(entered) = ctx.enter() {
                    // Relaxed: the guard orders it, which is what the model is about.
                    inside.fetch_add(1, Ordering::Relaxed);
                    inside.fetch_sub(1, Ordering::Relaxed);
                    drop(entered);
                    return true;
                }
                false
            }
        });
        let stragglers = block_on(canceller.cancel_and_wait(Duration::MAX));
        assert!(stragglers.is_empty());
        // Relaxed: as above.
        assert_eq!(inside.load(Ordering::Relaxed), 0, "somebody is inside");
        thread.join().unwrap();
    });
}

/// Race: the last guard leaves while the last handle goes. Whoever is second takes the node out of the tree.
#[test]
fn leave_vs_drop() {
    model::check_counts(|| {
        let (root, _canceller) = Context::background().child();
        let ctx = quiet(&root);
        let entered = ctx.enter().unwrap();
        let thread = spawn(move || drop(entered));
        drop(ctx);
        thread.join().unwrap();
        assert_eq!(root.nodes(), 1, "the node is left behind");
    });
}

/// Race: two guards of a node without handles leave at once.
#[test]
fn leave_vs_leave() {
    model::check_counts(|| {
        let (root, _canceller) = Context::background().child();
        let ctx = quiet(&root);
        let (one, two) = (ctx.enter().unwrap(), ctx.enter().unwrap());
        drop(ctx);
        let thread = spawn(move || drop(one));
        drop(two);
        thread.join().unwrap();
        assert_eq!(root.nodes(), 1, "the node is left behind");
    });
}

/// Race: the first two to enter a context at once make one tracker.
#[test]
fn enter_vs_enter() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let thread = spawn({
            let ctx = ctx.clone();
            move || ctx.enter().unwrap()
        });
        let one = ctx.enter().unwrap();
        let two = thread.join().unwrap();
        assert_eq!(ctx.stragglers().len(), 2);
        drop((one, two));
        assert!(block_on(canceller.cancel_and_wait(Duration::MAX)).is_empty());
    });
}

/// Race: a canceller is detached while its clone is dropped. Whoever is last knows of it.
#[test]
fn detach_vs_drop() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let thread = spawn({
            let canceller = canceller.clone();
            move || canceller.detach()
        });
        drop(canceller);
        thread.join().unwrap();
        assert!(!ctx.is_cancelled(), "it was detached");
    });
}

/// Race: somebody waits for the end of a callback that another revokes. A lost wake-up shows as a deadlock.
#[test]
fn callback_revoke_vs_wait() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let registration = ctx.on_cancel(|_| ());
        let ended = registration.ended();
        let thread = spawn(move || block_on(ended));
        assert_eq!(registration.revoke(), Revoked::InTime);
        thread.join().unwrap();
        canceller.detach();
    });
}

/// Race: what was written before the cancel of one source of an all-of, against the one who cancels the other.
#[test]
fn all_of_publishes() {
    model::check_counts(|| {
        let (one, one_canceller) = Context::background().child();
        let (two, two_canceller) = Context::background().child();
        let (all, _keep) = Context::all_of([&one, &two]);
        let written = Arc::new(Written(UnsafeCell::new(0)));
        let thread = spawn({
            let written = Arc::clone(&written);
            move || {
                written.write(7);
                one_canceller.cancel();
            }
        });
        two_canceller.cancel();
        if all.is_cancelled() {
            assert_eq!(written.read(), 7);
        }
        thread.join().unwrap();
    });
}

/// Race: a context makes a child and goes, while its last canceller is dropped, which looks whether there is anybody to
/// cancel. The child is cancelled.
#[test]
fn last_canceller_vs_last_context() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let thread = spawn(move || {
            let child = quiet(&ctx);
            drop(ctx);
            child
        });
        drop(canceller);
        let child = thread.join().unwrap();
        assert!(child.is_cancelled(), "the last canceller is gone");
    });
}

/// Race: a cause with an error is published by one canceller, and its flag set by another. Whoever reads the cause sees the
/// error as it was made.
#[test]
fn cause_publishes_its_error() {
    model::check_counts(|| {
        let (ctx, canceller) = Context::background().child();
        let first = spawn({
            let canceller = canceller.clone();
            move || {
                let error = Written(UnsafeCell::new(0));
                error.write(7);
                canceller.cancel_because(error);
            }
        });
        let second = spawn(move || canceller.cancel());
        if let Some(cause) = ctx.cause()
            && let Some(error) = cause.error()
        {
            assert_eq!(error.downcast_ref::<Written>().unwrap().read(), 7);
        }
        first.join().unwrap();
        second.join().unwrap();
    });
}

/// Race: two leave while everybody is waited for, in any order with the closing. What each of them has done inside is seen by
/// who has waited.
#[test]
fn leave_publishes() {
    model::check(|| {
        let (ctx, canceller) = Context::background().child();
        let written = Arc::new([0, 0].map(|value| Written(UnsafeCell::new(value))));
        let threads = [0, 1].map(|number| {
            let (entered, written) = (ctx.enter().unwrap(), Arc::clone(&written));
            spawn(move || {
                written[number].write(7);
                drop(entered);
            })
        });
        assert!(block_on(canceller.cancel_and_wait(Duration::MAX)).is_empty());
        assert_eq!(written[0].read() + written[1].read(), 14);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// Race: one leaves before the closing, another after it, who then waits, and did not close: what the first has done inside is
/// passed on to the last by who closed. (Of the two shards the one of the last is closed first: else its lock would do.)
#[test]
fn leave_before_the_closing_publishes() {
    model::check(|| {
        let (ctx, canceller) = Context::background().child();
        let written = Arc::new(Written(UnsafeCell::new(0)));
        let (last, first) = (ctx.enter().unwrap(), ctx.enter().unwrap());
        let leaver = spawn({
            let written = Arc::clone(&written);
            move || {
                written.write(7);
                drop(first);
            }
        });
        let closer = spawn({
            let canceller = canceller.clone();
            move || drop(canceller.cancel_and_wait(Duration::MAX))
        });
        drop(last);
        assert!(block_on(canceller.cancel_and_wait(Duration::MAX)).is_empty());
        assert_eq!(written.read(), 7);
        leaver.join().unwrap();
        closer.join().unwrap();
    });
}

/// Race: somebody looks at a part of a tree while another looks at the whole. Neither is shown a node twice.
#[test]
fn survey_vs_survey() {
    model::check(|| {
        let (root, _canceller) = Context::background().child();
        let part = quiet(&root);
        let leaf = quiet(&part);
        let thread = spawn(move || {
            assert_eq!(part.counts().nodes, 2);
            part
        });
        assert_eq!(root.counts().nodes, 3);
        drop((thread.join().unwrap(), leaf));
    });
}

/// Race: a node is spliced out while the last handle of its only child, which somebody had entered, is dropped, and
/// everybody is waited for. Whoever wakes that one holds no lock.
#[test]
fn splice_vs_last_handle_vs_wait() {
    model::check_counts(|| {
        let (root, canceller) = Context::background().child();
        let inner = quiet(&root);
        let child = quiet(&inner);
        drop(child.enter().unwrap());
        canceller.cancel();
        let threads = [spawn(move || drop(inner)), spawn(move || drop(child))];
        let looked = root.clone();
        let enters = ReentrantWaker::on_wake(move || assert!(looked.counts().nodes > 0));
        let mut waiting = pin!(canceller.cancel_and_wait(Duration::MAX));
        let _ready = waiting.as_mut().poll(&mut TaskContext::from_waker(&enters.waker()));
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(root.nodes(), 1);
    });
}

/// Race: a component is waited for while it is stopped, and while somebody enters below. Whoever has waited was told that
/// nobody is inside, and that nobody will be.
#[test]
fn component_wait_vs_stop_vs_enter() {
    model::check(|| {
        let (ctx, canceller) = Context::background().child();
        let child = quiet(&ctx);
        let out = Arc::new(AtomicUsize::new(0));
        let stops = spawn({
            let canceller = canceller.clone();
            move || canceller.stop(Duration::MAX)
        });
        let enters = spawn({
            let out = Arc::clone(&out);
            move || {
                let entered = child.enter();
                // Relaxed: whoever has waited was told of this guard, which is what the model is about.
                assert!(entered.is_err() || out.load(Ordering::Relaxed) == 0, "somebody is inside");
                drop(entered);
            }
        });
        let mut waiting = Component::wait(&canceller);
        if waiting.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_ready() {
            // Relaxed: as above.
            out.store(1, Ordering::Relaxed);
        }
        enters.join().unwrap();
        stops.join().unwrap();
    });
}

/// Race: the deadline of a context passes while it is dropped, and leaves a shield below in its place. It is a stop there.
#[test]
fn masked_deadline_vs_drop() {
    model::check_counts(|| {
        let (root, _canceller, clock) = timed();
        let (ctx, canceller) = root.with_timeout(SECOND / 2).unwrap();
        canceller.detach();
        let mut inside = None;
        let run = ctx.shield(SECOND * 3 / 4, |ctx| {
            inside = Some(ctx);
            std::future::pending::<()>()
        });
        let inside = inside.unwrap();
        let thread = spawn(move || drop(ctx));
        clock.advance(SECOND / 2);
        thread.join().unwrap();
        assert!(inside.is_stopping() && !inside.is_cancelled());
        assert_eq!(root.nodes(), 2);
        drop(run);
    });
}

/// Cancels while three wait on a node, more than a batch holds, whose wakers enter the node.
fn cancel_with_wakers_that_enter(ctx: &Context, canceller: &Canceller) {
    let entered = Arc::new(AtomicUsize::new(0));
    let waker = ReentrantWaker::on_wake({
        let (ctx, entered) = (ctx.clone(), Arc::clone(&entered));
        move || {
            assert_eq!(ctx.counts().nodes, 1);
            // Relaxed: one thread.
            entered.fetch_add(1, Ordering::Relaxed);
        }
    });
    let waker = waker.waker();
    let waits = [(); 3].map(|()| waiting(ctx.cancelled(), &waker));
    canceller.cancel();
    drop(waits);
    // Relaxed: as above.
    assert_eq!(entered.load(Ordering::Relaxed), 3);
}

/// More wait than are woken at once; each of them looks at the tree when it is woken. No lock is held.
#[test]
fn wakers_of_many_batches_enter() {
    model::check(|| {
        let (ctx, canceller) = Context::background().child();
        cancel_with_wakers_that_enter(&ctx, &canceller);
    });
}

/// The same for a node that a walk has in its list, because its batch was full.
#[test]
fn wakers_of_a_queued_node_enter() {
    model::check(|| {
        let (root, canceller) = Context::background().child();
        cancel_with_wakers_that_enter(&quiet(&root), &canceller);
    });
}

/// Race: somebody enters a node and drops its last handle while the node above is spliced out, which has to tell that this
/// one stays.
#[test]
fn enter_and_drop_vs_splice() {
    model::check_counts(|| {
        let (root, _canceller) = Context::background().child();
        let inner = quiet(&root);
        let child = quiet(&inner);
        let thread = spawn(move || {
            let entered = child.enter().unwrap();
            drop(child);
            entered
        });
        drop(inner);
        let entered = thread.join().unwrap();
        assert_eq!(root.nodes(), 2, "a relay with one child stays");
        drop(entered);
        assert_eq!(root.nodes(), 1);
    });
}

/// Race: somebody looks at a tree while it is cancelled. The cancel returns when everything is flagged, and the look shows
/// each node once.
#[test]
fn survey_vs_cancel() {
    model::check(|| {
        let (root, canceller) = Context::background().child();
        let inner = quiet(&root);
        let leaf = quiet(&inner);
        let thread = spawn({
            let leaf = leaf.clone();
            move || {
                canceller.cancel();
                assert!(leaf.is_cancelled());
            }
        });
        assert_eq!(root.counts().nodes, 3);
        thread.join().unwrap();
        drop((inner, leaf));
    });
}
