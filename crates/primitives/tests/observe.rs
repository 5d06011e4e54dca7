//! The observe seam: which events come, in which order, from where, and what an observer may do.
//!
//! A process has one observer, so all tests share it; each looks at the subjects of its own names.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge_primitives::observe::{AlreadyInstalled, Event, Happened, Observer, Subject, install};
use selvedge_primitives::{Anchor, Entry, Left, Origin, WaitQueue, Waiter};
use selvedge_testkit::{PanickingWaker, watchdog};

/// Permits under the lock.
type Queue = WaitQueue<usize, (), ()>;
type Boxed<'q> = Pin<Box<Waiter<'q, usize, (), ()>>>;

/// An event as text, and its numbers.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    name: String,
    what: &'static str,
    kind: &'static str,
    subject: u64,
    wait: Option<u64>,
    line: Option<u32>,
}

#[derive(Default)]
struct Recorder {
    events: Mutex<Vec<Seen>>,
    /// A queue that the observer uses itself.
    own: OnceLock<Arc<Queue>>,
}

thread_local! {
    /// Whether the observer panics on this thread.
    static PANICS: Cell<bool> = const { Cell::new(false) };
    /// A queue that the observer uses on this thread, and a test as well.
    static SHARED: RefCell<Option<Arc<Queue>>> = const { RefCell::new(None) };
}

impl Observer for Recorder {
    fn observe(&self, event: &Event<'_>) {
        let (what, wait) = match event.happened {
            Happened::Created => ("created", None),
            Happened::Waiting(wait) => ("waiting", Some(wait)),
            Happened::Granted(wait) => ("granted", Some(wait)),
            Happened::Left(wait) => ("left", Some(wait)),
            Happened::Done => ("done", None),
            _ => unreachable!("no other event is known"),
        };
        let name = event.origin.name().unwrap_or("nameless").to_owned();
        self.events.lock().unwrap().push(Seen {
            name,
            what,
            kind: event.kind,
            subject: event.subject,
            wait: wait.map(|wait| wait.id),
            line: wait.map(|wait| wait.place.line()),
        });
        // As anybody may; it is not told of it.
        if let Some(own) = self.own.get() {
            drop(queued(own));
        }
        if let Some(shared) = SHARED.take() {
            drop(queued(&shared));
        }
        if PANICS.get() {
            panic!("this observer panics");
        }
    }
}

/// The observer of this process.
fn recorder() -> &'static Recorder {
    static RECORDER: OnceLock<Recorder> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let own = named("the observer's own");
        let recorder = Recorder::default();
        recorder.own.set(Arc::new(own)).unwrap();
        recorder
    })
}

/// Installs it, if no other test has.
fn installed() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| install(recorder()).unwrap());
}

/// What was seen of the subjects of a name.
fn seen(name: &str) -> Vec<Seen> {
    let events = recorder().events.lock().unwrap();
    events.iter().filter(|seen| seen.name == name).cloned().collect()
}

fn whats(name: &str) -> Vec<&'static str> {
    seen(name).iter().map(|seen| seen.what).collect()
}

fn named(name: &'static str) -> Queue {
    let subject = Subject::new("permits", &Origin::here().named(name));
    WaitQueue::observed(0, subject)
}

fn poll(waiter: &mut Boxed<'_>, waker: &Waker) -> Poll<()> {
    waiter.as_mut().poll_enter(&mut Context::from_waker(waker), |permits| {
        match permits.checked_sub(1) {
            Some(left) => {
                **permits = left;
                Entry::Ready(())
            }
            None => Entry::Wait(()),
        }
    })
}

#[track_caller]
fn queued(queue: &Queue) -> Boxed<'_> {
    let mut waiter = Box::pin(Waiter::new(Anchor::borrowed(queue)));
    assert_eq!(poll(&mut waiter, Waker::noop()), Poll::Pending);
    waiter
}

fn release(queue: &Queue) {
    let mut locked = queue.lock();
    *locked += 1;
    queue.grant_while(locked, |permits, ()| {
        *permits = permits.checked_sub(1)?;
        Some(())
    });
}

#[test]
fn a_second_observer_is_refused() {
    installed();
    assert_eq!(install(recorder()), Err(AlreadyInstalled));
    let text = AlreadyInstalled.to_string();
    assert_eq!(text, "observer not installed: the process has one already");
}

#[test]
fn the_events_of_a_queue_come_in_order() {
    installed();
    let queue = named("in order");
    let line = line!() + 1;
    let mut first = queued(&queue);
    let second = queued(&queue);
    release(&queue);
    assert_eq!(poll(&mut first, Waker::noop()), Poll::Ready(()));
    drop(second);
    drop(first);
    drop(queue);

    let seen = seen("in order");
    let whats: Vec<_> = seen.iter().map(|seen| seen.what).collect();
    assert_eq!(whats, ["created", "waiting", "waiting", "granted", "left", "done"]);
    assert!(seen.iter().all(|event| event.subject == seen[0].subject && event.kind == "permits"));
    assert_eq!(seen[1].wait, seen[3].wait, "the first was granted");
    assert_eq!(seen[2].wait, seen[4].wait, "the second has left");
    assert_ne!(seen[1].wait, seen[2].wait);
    assert_eq!((seen[1].line, seen[2].line), (Some(line), Some(line + 1)));
}

#[test]
fn who_need_not_wait_makes_no_event() {
    installed();
    let queue = named("no wait");
    *queue.lock() = 1;
    let mut waiter: Boxed<'_> = Box::pin(Waiter::new(Anchor::borrowed(&queue)));
    assert_eq!(poll(&mut waiter, Waker::noop()), Poll::Ready(()));
    drop(waiter);
    drop(queue);
    assert_eq!(whats("no wait"), Vec::<&str>::new());
}

#[test]
fn a_waiter_that_is_dropped_with_its_grant_unseen_was_granted() {
    installed();
    let queue = named("unseen");
    let mut waiter = queued(&queue);
    release(&queue);
    assert_eq!(waiter.as_mut().cancel(), Left::Granted(()));
    drop(waiter);
    assert_eq!(whats("unseen"), ["created", "waiting", "granted"]);
}

#[test]
fn a_waiter_that_waits_again_waits_under_another_number() {
    installed();
    let queue = named("again");
    let mut waiter = queued(&queue);
    release(&queue);
    assert_eq!(poll(&mut waiter, Waker::noop()), Poll::Ready(()));
    assert_eq!(poll(&mut waiter, Waker::noop()), Poll::Pending);
    drop(waiter);
    let seen = seen("again");
    assert_eq!(whats("again"), ["created", "waiting", "granted", "waiting", "left"]);
    assert_ne!(seen[1].wait, seen[3].wait);
}

#[test]
fn a_part_has_the_number_of_the_whole_and_a_kind_of_its_own() {
    installed();
    let whole = Subject::new("pool", &Origin::here().named("whole"));
    whole.created();
    let queue: Queue = WaitQueue::observed(0, whole.part("room in the pool"));
    drop(queued(&queue));
    drop(queue);
    assert_eq!(whats("whole"), ["created", "waiting", "left"], "a part that goes is not the end");
    drop(whole);
    let seen = seen("whole");
    let kinds: Vec<_> = seen.iter().map(|seen| seen.kind).collect();
    assert_eq!(kinds, ["pool", "room in the pool", "room in the pool", "pool"]);
    assert!(seen.iter().all(|event| event.subject == seen[0].subject));
    assert_eq!(seen[3].what, "done");
}

#[test]
fn a_queue_in_a_static_is_seen_by_the_place_where_it_was_made() {
    static QUEUE: Queue = WaitQueue::new(0);
    installed();
    drop(queued(&QUEUE));
    let nameless = seen("nameless");
    let mine = nameless.iter().filter(|seen| seen.kind == "wait queue");
    assert_eq!(mine.map(|seen| seen.what).collect::<Vec<_>>(), ["created", "waiting", "left"]);
}

#[test]
fn an_observer_that_panics_is_contained_and_told_what_follows() {
    installed();
    let queue = named("panics");
    PANICS.set(true);
    let mut waiter = queued(&queue);
    release(&queue);
    assert_eq!(poll(&mut waiter, Waker::noop()), Poll::Ready(()));
    drop(waiter);
    drop(queue);
    PANICS.set(false);
    assert_eq!(whats("panics"), ["created", "waiting", "granted", "done"]);
}

#[test]
fn an_observer_may_use_what_it_observes_and_is_not_told_of_itself() {
    installed();
    watchdog(Duration::from_secs(20), "an observer that waits itself", || {
        let queue = named("used inside");
        // The observer queues in its own queue at each event.
        let mut waiter = queued(&queue);
        release(&queue);
        assert_eq!(poll(&mut waiter, Waker::noop()), Poll::Ready(()));
    });
    assert_eq!(whats("the observer's own"), Vec::<&str>::new());
}

#[test]
fn what_the_observer_used_first_is_told_of_from_its_creation_on() {
    installed();
    let shared = Arc::new(named("shared with the observer"));
    SHARED.set(Some(Arc::clone(&shared)));
    drop(queued(&named("makes an event")));
    assert!(SHARED.take().is_none(), "the observer has used it");
    assert_eq!(whats("shared with the observer"), Vec::<&str>::new());
    drop(queued(&shared));
    drop(shared);
    assert_eq!(whats("shared with the observer"), ["created", "waiting", "left", "done"]);
}

#[test]
fn a_leave_is_told_although_a_waker_panics_on_the_way() {
    installed();
    let queue = named("waker panics");
    let mut first: Boxed<'_> = Box::pin(Waiter::new(Anchor::borrowed(&queue)));
    assert_eq!(poll(&mut first, Waker::noop()), Poll::Pending);
    let panicking = PanickingWaker::new();
    let mut second: Boxed<'_> = Box::pin(Waiter::new(Anchor::borrowed(&queue)));
    assert_eq!(poll(&mut second, &panicking.waker()), Poll::Pending);
    let left = catch_unwind(AssertUnwindSafe(|| {
        first.as_mut().cancel_then(|locked| queue.grant_while(locked, |_, ()| Some(())))
    }));
    assert!(left.is_err(), "the second waker's panic goes on");
    assert_eq!(whats("waker panics"), ["created", "waiting", "waiting", "left"]);
}
