//! Code of a user that enters the tree from where the tree runs it: a waker, a callback, the destructor of a cause's error.
//!
//! Each case hangs if a node's lock is held meanwhile: `docs/planted/users-code-under-the-lock.patch` holds it, and
//! `cargo xtask planted` shows that every one of them fails then.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::Context as TaskContext;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use selvedge_cancel::{Canceller, Context};
use selvedge_testkit::{ReentrantWaker, watchdog};

const NEVER: Duration = Duration::MAX;
const PATIENCE: Duration = Duration::from_secs(10);

/// A context, and what a user's code may do with it.
struct Scene {
    ctx: Context,
    canceller: Canceller,
    /// A child, to be dropped.
    child: Mutex<Option<(Context, Canceller)>>,
    /// A queue with room for one, which is there already.
    queue: SyncSender<()>,
    /// Tells who empties the queue to do so.
    blocked: SyncSender<()>,
    /// How often the user's code ran.
    runs: Mutex<u32>,
}

impl Scene {
    /// A scene, and who empties its queue: not before a child could be made.
    fn new() -> (Arc<Self>, JoinHandle<()>) {
        let (ctx, canceller) = Context::background().child();
        let child = Mutex::new(Some(ctx.child()));
        let (queue, taken) = sync_channel(1);
        queue.send(()).unwrap();
        let (blocked, asked): (_, Receiver<()>) = sync_channel(1);
        let observed = ctx.clone();
        let empties = thread::spawn(move || {
            while asked.recv().is_ok() {
                drop(observed.child());
                taken.recv().unwrap();
            }
        });
        let runs = Mutex::new(0);
        (Arc::new(Self { ctx, canceller, child, queue, blocked, runs }), empties)
    }

    fn cancel(&self) {
        self.canceller.cancel();
    }

    fn make_children(&self) {
        let (child, _canceller) = self.ctx.child();
        drop(child.child());
    }

    fn clone_and_drop(&self) {
        drop((self.ctx.clone(), self.canceller.clone()));
        drop(self.child.lock().unwrap().take());
    }

    fn wait(&self) {
        let waker = ReentrantWaker::on_wake(|| ());
        let waiting = pin!(self.ctx.cancelled());
        assert!(waiting.poll(&mut TaskContext::from_waker(&waker.waker())).is_pending());
    }

    fn block_on_a_full_queue(&self) {
        self.blocked.send(()).unwrap();
        self.queue.send(()).unwrap();
    }

    fn panic(&self) {
        let _dropped_by_the_panic = self.child.lock().unwrap().take();
        panic!("in the code of a user");
    }
}

/// What a user's code does in a scene.
type Action = fn(&Scene);

/// The same, counted.
fn run(scene: &Scene, action: Action) {
    *scene.runs.lock().unwrap() += 1;
    action(scene);
}

/// A waker of one who waits for the context to be stopped.
fn by_a_waker(scene: &Arc<Scene>, action: Action) {
    let entering = Arc::clone(scene);
    let waker = ReentrantWaker::on_wake(move || run(&entering, action));
    let mut waiting = Box::pin(scene.ctx.stopping());
    assert!(waiting.as_mut().poll(&mut TaskContext::from_waker(&waker.waker())).is_pending());
    stop(scene, action);
}

/// A callback for when the context is stopped.
fn by_a_callback(scene: &Arc<Scene>, action: Action) {
    let entering = Arc::clone(scene);
    scene.ctx.on_stop(move |_| run(&entering, action)).detach();
    stop(scene, action);
}

/// Stops, and expects the action's panic, if it is the one that panics.
fn stop(scene: &Scene, action: Action) {
    let outcome = catch_unwind(AssertUnwindSafe(|| scene.canceller.stop(NEVER)));
    assert_eq!(outcome.is_err(), std::ptr::fn_addr_eq(action, Scene::panic as Action));
    assert!(scene.ctx.is_stopping());
}

/// The error of the cause of a child, which is dropped with the child.
fn by_the_drop_of_a_cause(scene: &Arc<Scene>, action: Action) {
    /// Acts when it is dropped.
    struct Entering(Arc<Scene>, Action);

    impl fmt::Debug for Entering {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Entering")
        }
    }

    impl fmt::Display for Entering {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Debug::fmt(self, f)
        }
    }

    impl Error for Entering {}

    impl Drop for Entering {
        fn drop(&mut self) {
            run(&self.0, self.1);
        }
    }

    let (child, canceller) = scene.ctx.child();
    canceller.cancel_because(Entering(Arc::clone(scene), action));
    drop(child);
    let outcome = catch_unwind(AssertUnwindSafe(|| drop(canceller)));
    assert_eq!(outcome.is_err(), std::ptr::fn_addr_eq(action, Scene::panic as Action));
}

/// Has a user's code run by `carrier` do `action`, and looks whether the tree still works.
fn enters(name: &str, carrier: fn(&Arc<Scene>, Action), action: Action) {
    watchdog(PATIENCE, name, move || {
        let (scene, empties) = Scene::new();
        carrier(&scene, action);
        assert_eq!(*scene.runs.lock().unwrap(), 1);
        let late = scene.ctx.child();
        scene.canceller.cancel();
        assert!(late.0.is_cancelled() && scene.ctx.is_cancelled());
        drop(late);
        drop(scene.child.lock().unwrap().take());
        assert_eq!(scene.ctx.nodes(), 1);
        let scene = Arc::into_inner(scene).expect("whoever was to run once is gone");
        drop(scene);
        empties.join().unwrap();
    });
}

macro_rules! cases {
    ($($name:ident: $carrier:ident, $action:ident;)*) => {$(
        #[test]
        fn $name() {
            enters(stringify!($name), $carrier, Scene::$action);
        }
    )*};
}

cases! {
    a_waker_may_cancel: by_a_waker, cancel;
    a_waker_may_make_children: by_a_waker, make_children;
    a_waker_may_clone_and_drop: by_a_waker, clone_and_drop;
    a_waker_may_wait: by_a_waker, wait;
    a_waker_may_block_on_a_full_queue: by_a_waker, block_on_a_full_queue;
    a_waker_may_panic_with_a_child_in_its_hands: by_a_waker, panic;
    a_callback_may_cancel: by_a_callback, cancel;
    a_callback_may_make_children: by_a_callback, make_children;
    a_callback_may_clone_and_drop: by_a_callback, clone_and_drop;
    a_callback_may_wait: by_a_callback, wait;
    a_callback_may_block_on_a_full_queue: by_a_callback, block_on_a_full_queue;
    a_callback_may_panic_with_a_child_in_its_hands: by_a_callback, panic;
    the_drop_of_a_cause_may_cancel: by_the_drop_of_a_cause, cancel;
    the_drop_of_a_cause_may_make_children: by_the_drop_of_a_cause, make_children;
    the_drop_of_a_cause_may_clone_and_drop: by_the_drop_of_a_cause, clone_and_drop;
    the_drop_of_a_cause_may_wait: by_the_drop_of_a_cause, wait;
    the_drop_of_a_cause_may_block_on_a_full_queue: by_the_drop_of_a_cause, block_on_a_full_queue;
    the_drop_of_a_cause_may_panic_with_a_child_in_its_hands: by_the_drop_of_a_cause, panic;
}
