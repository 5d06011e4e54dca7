//! Models of the wait queue and of the model channel. `loom-models.toml` lists them; `cargo xtask loom primitives` runs them.
#![cfg(selvedge_loom)]

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use selvedge_primitives::atomic::{AtomicUsize, Ordering, fence};
use selvedge_primitives::channel::{self, RecvError, SendError};
use selvedge_primitives::time::{Expire, Expiry, Next, Watch};
use selvedge_primitives::{
    Anchor, Entry, Left, LineId, LineWaiter, Lines, LockedLines, OnceArc, OnceBox, Serve, Spin,
    UnsafeCell, WaitQueue, Waiter, block_on, model, thread,
};
use selvedge_testkit::ReentrantWaker;

/// Tokens under the lock; a waiter asks for one and is handed the number it was given.
type Queue = WaitQueue<usize, (), usize>;

/// A waker that counts.
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        // Relaxed: read after the threads are joined.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn("model".to_owned(), f).unwrap()
}

/// Hands out tokens from the front for as long as there are any.
fn grant(queue: &Queue, tokens: usize) {
    let mut locked = queue.lock();
    *locked += tokens;
    queue.grant_while(locked, |tokens, ()| {
        *tokens = tokens.checked_sub(1)?;
        Some(1)
    });
}

/// Takes a token, waiting for it.
async fn take(queue: &Queue) -> usize {
    let mut waiter = pin!(Waiter::new(Anchor::borrowed(queue)));
    poll_fn(|cx| poll_take(waiter.as_mut(), cx)).await
}

fn poll_take(waiter: Pin<&mut Waiter<'_, usize, (), usize>>, cx: &mut Context<'_>) -> Poll<usize> {
    waiter.poll_enter(cx, |tokens| match tokens.checked_sub(1) {
        Some(left) => {
            **tokens = left;
            Entry::Ready(1)
        }
        None => Entry::Wait(()),
    })
}

/// Race: a grant against the waiter's first poll. A grant before it leaves the token in the state, a
/// grant after it finds the waiter queued; a lost wake-up shows as a deadlock.
#[test]
fn wait_queue_grant_vs_enter() {
    model::check(|| {
        let queue = Arc::new(Queue::new(0));
        let granter = spawn({
            let queue = Arc::clone(&queue);
            move || grant(&queue, 1)
        });
        assert_eq!(block_on(take(&queue)), 1);
        granter.join().unwrap();
        assert_eq!(*queue.lock(), 0);
    });
}

/// Race: a grant against the drop of the waiter it goes to. The token is either still in the state
/// (the waiter left first) or comes out of `cancel`, and it is never lost or doubled.
#[test]
fn wait_queue_wake_vs_drop() {
    model::check(|| {
        let queue = Arc::new(Queue::new(0));
        let granter = spawn({
            let queue = Arc::clone(&queue);
            move || grant(&queue, 1)
        });
        let held = {
            let mut waiter = pin!(Waiter::new(Anchor::borrowed(&*queue)));
            let mut cx = Context::from_waker(Waker::noop());
            match poll_take(waiter.as_mut(), &mut cx) {
                Poll::Ready(token) => token,
                Poll::Pending => match waiter.as_mut().cancel() {
                    Left::Granted(token) => token,
                    _ => 0,
                },
            }
        };
        granter.join().unwrap();
        let locked = queue.lock();
        assert_eq!(held + *locked, 1, "a token was lost or doubled");
        assert!(locked.is_empty(), "a dropped waiter is still queued");
    });
}

/// Race: a grant against a poll that leaves another task's waker. The waker that was left last is
/// woken, or the poll sees the grant.
#[test]
fn wait_queue_wake_vs_reregister() {
    model::check(|| {
        let queue = Arc::new(Queue::new(0));
        let first = Arc::new(Count(AtomicUsize::new(0)));
        let second = Arc::new(Count(AtomicUsize::new(0)));
        let mut waiter = pin!(Waiter::new(Anchor::borrowed(&*queue)));
        let waker = Waker::from(Arc::clone(&first));
        assert!(poll_take(waiter.as_mut(), &mut Context::from_waker(&waker)).is_pending());
        let granter = spawn({
            let queue = Arc::clone(&queue);
            move || grant(&queue, 1)
        });
        let waker = Waker::from(Arc::clone(&second));
        let polled = poll_take(waiter.as_mut(), &mut Context::from_waker(&waker));
        granter.join().unwrap();
        if polled.is_pending() {
            // Relaxed: the granter is joined.
            assert_eq!(second.0.load(Ordering::Relaxed), 1, "the second waker was not woken");
            // A granted waiter is ready whoever polls it.
            assert!(poll_take(waiter.as_mut(), &mut Context::from_waker(&waker)).is_ready());
        } else {
            // Relaxed: the granter is joined.
            assert_eq!(first.0.load(Ordering::Relaxed), 1, "the first waker was not woken");
        }
    });
}

/// Race: what the granter wrote before the grant against the waiter's read of it by re-polling,
/// which takes no lock: the grant itself must publish it.
#[test]
fn wait_queue_grant_publishes() {
    struct Shared {
        queue: Queue,
        written: UnsafeCell<usize>,
    }
    // SAFETY: the model's claim is that the grant orders the accesses; loom checks it.
    unsafe impl Send for Shared {}
    // SAFETY: as for Send.
    unsafe impl Sync for Shared {}

    model::check(|| {
        let shared = Arc::new(Shared { queue: Queue::new(0), written: UnsafeCell::new(0) });
        let mut waiter = pin!(Waiter::new(Anchor::borrowed(&shared.queue)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(poll_take(waiter.as_mut(), &mut cx).is_pending());
        let granter = spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.written.with_mut(|written| {
                    // SAFETY: nobody reads before the grant.
                    unsafe { *written = 7 };
                });
                grant(&shared.queue, 1);
            }
        });
        // The same task polls again, with no lock on the way.
        if poll_take(waiter.as_mut(), &mut cx).is_ready() {
            let seen = shared.written.with(|written| {
                // SAFETY: the grant came after the write.
                unsafe { *written }
            });
            assert_eq!(seen, 7);
        }
        granter.join().unwrap();
    });
}

/// Race: two waiters at once, one of which leaves, against grants for both. The one that stays is
/// served, whatever the other's place was: unlinking keeps the line whole.
#[test]
fn wait_queue_leave_vs_grant_two() {
    model::check(|| {
        let queue = Arc::new(Queue::new(0));
        let leaver = spawn({
            let queue = Arc::clone(&queue);
            move || {
                let mut waiter = pin!(Waiter::new(Anchor::borrowed(&*queue)));
                let mut cx = Context::from_waker(Waker::noop());
                match poll_take(waiter.as_mut(), &mut cx) {
                    Poll::Ready(token) => token,
                    Poll::Pending => match waiter.as_mut().cancel() {
                        Left::Granted(token) => token,
                        _ => 0,
                    },
                }
            }
        });
        let granter = spawn({
            let queue = Arc::clone(&queue);
            move || {
                grant(&queue, 1);
                grant(&queue, 1);
            }
        });
        assert_eq!(block_on(take(&queue)), 1);
        let held = leaver.join().unwrap();
        granter.join().unwrap();
        assert_eq!(1 + held + *queue.lock(), 2, "a token was lost or doubled");
    });
}

/// Race: three waiters, more than a batch of wakers holds under loom, against one grant for all.
/// The second batch is taken under a fresh lock; nobody is left asleep.
#[test]
fn wait_queue_grant_in_batches() {
    model::check(|| {
        let queue = Arc::new(Queue::new(0));
        let mut waiters: Vec<_> =
            (0..3).map(|_| Box::pin(Waiter::new(Anchor::borrowed(&*queue)))).collect();
        let counts: Vec<_> = (0..3).map(|_| Arc::new(Count(AtomicUsize::new(0)))).collect();
        for (waiter, count) in waiters.iter_mut().zip(&counts) {
            let waker = Waker::from(Arc::clone(count));
            let mut cx = Context::from_waker(&waker);
            assert!(poll_take(waiter.as_mut(), &mut cx).is_pending());
        }
        let granter = spawn({
            let queue = Arc::clone(&queue);
            move || grant(&queue, 3)
        });
        // The last of the line leaves while the grants run.
        let last = match waiters.pop().unwrap().as_mut().cancel() {
            Left::Granted(token) => token,
            _ => 0,
        };
        granter.join().unwrap();
        assert_eq!(2 + last + *queue.lock(), 3, "a token was lost or doubled");
        for count in &counts[..2] {
            // Relaxed: the granter is joined.
            assert_eq!(count.0.load(Ordering::Relaxed), 1, "a waiter was not woken");
        }
    });
}

/// Race: a sender that finds no room against a receiver that finds no item, in turn. Items arrive in
/// order; one that is not told of the other shows as a deadlock.
#[test]
fn channel_send_vs_recv() {
    model::check(|| {
        let (sender, receiver) = channel::bounded(1);
        let sending = spawn(move || {
            for item in 0..2 {
                block_on(sender.send(item)).unwrap();
            }
        });
        for item in 0..2 {
            assert_eq!(block_on(receiver.recv()), Ok(item));
        }
        sending.join().unwrap();
        assert_eq!((receiver.len(), receiver.sender_count()), (0, 0));
    });
}

/// Race: a close against a receiver that waits for the item before it and for the end after it. The
/// item that is left is received first.
#[test]
fn channel_close_vs_recv() {
    model::check(|| {
        let (sender, receiver) = channel::bounded(1);
        let closing = spawn(move || {
            sender.try_send(1).unwrap();
            assert!(sender.close());
            sender
        });
        assert_eq!(block_on(receiver.recv()), Ok(1), "the item that was left");
        assert_eq!(block_on(receiver.recv()), Err(RecvError));
        let sender = closing.join().unwrap();
        assert!(sender.is_closed() && sender.is_empty());
    });
}

/// Race: the last receiver is dropped while a sender waits for room. The item comes back.
#[test]
fn channel_close_vs_send() {
    model::check(|| {
        let (sender, receiver) = channel::bounded(1);
        sender.try_send(1).unwrap();
        let closing = spawn(move || drop(receiver));
        assert_eq!(block_on(sender.send(2)), Err(SendError(2)));
        closing.join().unwrap();
        assert_eq!((sender.receiver_count(), sender.len()), (0, 1));
    });
}

/// A future's first poll, which leaves a counting waker.
fn queue<F: Future>(future: Pin<&mut F>) -> Arc<Count> {
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
    count
}

/// Race: a send that waits is dropped while an item is taken. Woken or not, it leaves the room to the
/// next sender, who is told.
#[test]
fn channel_send_dropped_vs_recv() {
    model::check(|| {
        let (sender, receiver) = channel::bounded(1);
        sender.try_send(1).unwrap();
        let mut dropped = Box::pin(sender.send(2));
        queue(dropped.as_mut());
        let mut next = pin!(sender.send(3));
        let woken = queue(next.as_mut());
        let receiving = spawn(move || {
            let item = receiver.try_recv();
            (receiver, item)
        });
        drop(dropped);
        let (receiver, item) = receiving.join().unwrap();
        assert_eq!(item, Ok(1));
        // Relaxed: the receiver's thread is joined.
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the next sender sleeps beside room");
        assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(receiver.try_recv(), Ok(3), "what was dropped was sent");
    });
}

/// Race: a receive that waits is dropped while an item is sent. Woken or not, it leaves the item to the
/// second receiver, who is told.
#[test]
fn channel_recv_dropped_vs_second() {
    model::check(|| {
        let (sender, receiver) = channel::bounded(1);
        let mut dropped = Box::pin(receiver.recv());
        queue(dropped.as_mut());
        let mut second = pin!(receiver.recv());
        let woken = queue(second.as_mut());
        let sending = spawn(move || {
            sender.try_send(1).unwrap();
            sender
        });
        drop(dropped);
        let sender = sending.join().unwrap();
        // Relaxed: the sender's thread is joined.
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the second receiver sleeps beside an item");
        let received = second.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(received, Poll::Ready(Ok(1)));
        assert!(sender.is_empty());
    });
}

/// No race of ours: the calibration. A model that is wrong on purpose must be found out, or nothing
/// that the others show is worth anything.
#[test]
fn calibration_an_unordered_write_is_found() {
    struct Racy(UnsafeCell<usize>);
    // SAFETY: it is not; loom must say so.
    unsafe impl Send for Racy {}
    // SAFETY: it is not; loom must say so.
    unsafe impl Sync for Racy {}

    let found = std::panic::catch_unwind(|| {
        loom::model(|| {
            let racy = Arc::new(Racy(UnsafeCell::new(0)));
            let writer = spawn({
                let racy = Arc::clone(&racy);
                move || {
                    racy.0.with_mut(|value| {
                        // SAFETY: it is not; loom must say so.
                        unsafe { *value = 1 };
                    });
                }
            });
            racy.0.with(|value| {
                // SAFETY: it is not; loom must say so.
                unsafe { *value }
            });
            writer.join().unwrap();
        });
    });
    assert!(found.is_err(), "loom found nothing in a program with a data race");
    model::check(|| {});
}

/// Race: two threads that each store, then look whether the other has; the shim's own fence. Without
/// it both may see nothing, and a parked worker and the submitter who did not see it park would wait
/// for each other.
#[test]
fn fence_orders_a_store_before_a_load() {
    model::check(|| {
        let flags = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let look = |flags: &[AtomicUsize; 2], own: usize| {
            // Relaxed: the fence orders the two.
            flags[own].store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            // Relaxed: as above.
            flags[1 - own].load(Ordering::Relaxed)
        };
        let other = spawn({
            let flags = Arc::clone(&flags);
            move || look(&flags, 0)
        });
        let seen = look(&flags, 1);
        assert!(seen + other.join().unwrap() > 0, "one of the two sees the other");
    });
}

/// Race: a grant against a waiter that is polled by one task after another. The waker that is
/// replaced looks at the queue when it is dropped: a lock held over it shows as a deadlock.
#[test]
fn wait_queue_replaced_waker_enters() {
    model::check(|| {
        let queue = Arc::new(Queue::new(0));
        let granter = spawn({
            let queue = Arc::clone(&queue);
            move || grant(&queue, 1)
        });
        let again = Arc::clone(&queue);
        let first = ReentrantWaker::on_drop(move || assert!(*again.lock() <= 1)).waker();
        let mut waiter = pin!(Waiter::new(Anchor::borrowed(&*queue)));
        let polled = poll_take(waiter.as_mut(), &mut Context::from_waker(&first));
        if polled.is_pending() {
            assert_eq!(block_on(poll_fn(|cx| poll_take(waiter.as_mut(), cx))), 1);
        }
        granter.join().unwrap();
        assert_eq!(*queue.lock(), 0, "the token was taken once");
    });
}

/// Counts how it expired: due, lost.
struct Expired([AtomicUsize; 2]);

impl Expire for Expired {
    fn expire(self: Arc<Self>, expiry: Expiry) {
        // Relaxed: read after the threads are joined.
        self.0[usize::from(expiry == Expiry::Lost)].fetch_add(1, Ordering::Relaxed);
    }
}

impl Expired {
    fn new() -> Arc<Self> {
        Arc::new(Self([AtomicUsize::new(0), AtomicUsize::new(0)]))
    }

    fn counts(&self) -> [usize; 2] {
        // Relaxed: the threads are joined.
        [0, 1].map(|how: usize| self.0[how].load(Ordering::Relaxed))
    }
}

/// Watches until nothing is registered, on a clock that stands still: only a wake-up makes it look
/// again.
fn watch_to_the_end(watch: &Watch, now: Instant) {
    block_on(poll_fn(|cx| match watch.expire_due(cx.waker(), || now) {
        Next::At(_) => Poll::Pending,
        Next::Idle => Poll::Ready(()),
    }));
}

/// Race: a watcher that goes to sleep until much later against an earlier registration, and against
/// the revocation that leaves it nothing to do. A lost wake-up shows as a deadlock.
#[test]
fn watch_register_and_revoke_vs_sleep() {
    model::check(|| {
        let watch = Arc::new(Watch::new(false));
        let now = Instant::now();
        let (late, early) = (Expired::new(), Expired::new());
        let (ticket, start) = watch.register(now + Duration::from_secs(60), late.clone()).unwrap();
        assert!(start);
        let watcher = spawn({
            let watch = Arc::clone(&watch);
            move || watch_to_the_end(&watch, now)
        });
        let (_, start) = watch.register(now, early.clone()).unwrap();
        assert!(!start, "there is a watcher");
        assert!(watch.revoke(ticket).is_some());
        watcher.join().unwrap();
        assert_eq!((early.counts(), late.counts()), ([1, 0], [0, 0]));
    });
}

/// An expiry that enters the watch again.
struct Again(Arc<Watch>, Instant);

impl Expire for Again {
    fn expire(self: Arc<Self>, _: Expiry) {
        if let Ok((ticket, _)) = self.0.register(self.1, Expired::new()) {
            drop(self.0.revoke(ticket));
        }
    }
}

/// Race: a watcher that ends against the registration that comes just then: either it is seen, or it
/// starts the next watcher, and it expires once. What expires first enters the watch again.
#[test]
fn watch_register_vs_end() {
    model::check(|| {
        let watch = Arc::new(Watch::new(false));
        let now = Instant::now();
        let (first, second) = (Expired::new(), Expired::new());
        assert!(watch.register(now, Arc::new(Again(Arc::clone(&watch), now))).unwrap().1);
        assert!(!watch.register(now, first.clone()).unwrap().1);
        let watcher = spawn({
            let watch = Arc::clone(&watch);
            move || watch_to_the_end(&watch, now)
        });
        let (_, start) = watch.register(now, second.clone()).unwrap();
        if start {
            watch_to_the_end(&watch, now);
        }
        watcher.join().unwrap();
        assert_eq!((first.counts(), second.counts()), ([1, 0], [1, 0]));
    });
}

/// Race: a registration against a watcher that goes away for ever. It is refused, or it expires as
/// lost; and what expires may enter the watch again.
#[test]
fn watch_register_vs_lose() {
    model::check(|| {
        let watch = Arc::new(Watch::new(false));
        let now = Instant::now();
        watch.register(now, Arc::new(Again(Arc::clone(&watch), now))).unwrap();
        let loser = spawn({
            let watch = Arc::clone(&watch);
            move || watch.lose()
        });
        let target = Expired::new();
        let registered = watch.register(now, target.clone());
        loser.join().unwrap();
        let lost = usize::from(registered.is_ok());
        assert_eq!(target.counts(), [0, lost]);
    });
}

/// Race: a registration against another one whose watcher could not be started. The one in between
/// expires as lost, the one after it starts a watcher of its own.
#[test]
fn watch_register_vs_give_up() {
    model::check(|| {
        let watch = Arc::new(Watch::new(true));
        let now = Instant::now();
        let (first, second) = (Expired::new(), Expired::new());
        let (ticket, start) = watch.register(now, first.clone()).unwrap();
        assert!(start);
        let giver = spawn({
            let watch = Arc::clone(&watch);
            move || watch.give_up(ticket)
        });
        let (_, start) = watch.register(now, second.clone()).unwrap();
        giver.join().unwrap();
        assert_eq!(first.counts(), [0, 0], "its registration failed");
        assert_eq!(second.counts(), [0, usize::from(!start)]);
    });
}

/// Race: a revocation against a watcher that is polled by one task after another. The waker that is
/// replaced and the ones that are woken enter the watch: a lock held over them shows as a deadlock.
#[test]
fn watch_wakers_enter() {
    model::check(|| {
        let watch = Arc::new(Watch::new(false));
        let now = Instant::now();
        let due = Expired::new();
        let later = now + Duration::from_secs(60);
        let (ticket, _) = watch.register(later, due.clone()).unwrap();
        // A revoked ticket: revoking it again enters the lock and changes nothing.
        let (gone, _) = watch.register(later, due.clone()).unwrap();
        drop(watch.revoke(gone));
        let wakers = [(); 2].map(|()| {
            let (woken, dropped) = (Arc::clone(&watch), Arc::clone(&watch));
            let enter = move |watch: &Watch| drop(watch.revoke(gone));
            ReentrantWaker::on_wake_and_drop(move || enter(&woken), move || enter(&dropped)).waker()
        });
        let revoker = spawn({
            let watch = Arc::clone(&watch);
            move || {
                // The earliest by far: wakes.
                let (early, _) = watch.register(now, Expired::new()).unwrap();
                drop(watch.revoke(early));
                drop(watch.revoke(ticket));
            }
        });
        for waker in &wakers {
            let _ = watch.expire_due(waker, || now);
        }
        revoker.join().unwrap();
        // Ends, and drops the waker that it left.
        assert_eq!(watch.expire_due(&wakers[0], || now), Next::Idle);
        assert_eq!(due.counts(), [0, 0], "both were revoked");
    });
}

/// A place that a lock guards, as a model claims.
struct Place(UnsafeCell<usize>);

// SAFETY: the models' claim is that what they are about orders the accesses; loom checks it.
unsafe impl Send for Place {}
// SAFETY: as for Send.
unsafe impl Sync for Place {}

impl Place {
    fn add(&self) -> usize {
        self.0.with_mut(|place| {
            // SAFETY: the models' claim.
            let place = unsafe { &mut *place };
            *place += 1;
            *place
        })
    }

    fn read(&self) -> usize {
        self.0.with(|place| {
            // SAFETY: the models' claim.
            unsafe { *place }
        })
    }
}

/// A place behind the spin lock, and a thread that locks once and adds.
fn beside_one_who_adds() -> (Arc<(Spin, Place)>, thread::JoinHandle<usize>) {
    let shared = Arc::new((Spin::new(), Place(UnsafeCell::new(0))));
    let thread = spawn({
        let shared = Arc::clone(&shared);
        move || {
            let _held = shared.0.lock();
            shared.1.add()
        }
    });
    (shared, thread)
}

/// Race: two threads want the spin lock. One at a time has it, and the second sees what the first has done.
#[test]
fn spin_excludes_and_publishes() {
    model::check(|| {
        let (shared, thread) = beside_one_who_adds();
        let own = {
            let _held = shared.0.lock();
            shared.1.add()
        };
        assert_eq!(own + thread.join().unwrap(), 3);
    });
}

/// Race: one who has the spin lock lets in another who wants it, and locks again. Nobody is lost, and each sees what the
/// other has done.
#[test]
fn spin_lets_in() {
    model::check(|| {
        let (shared, thread) = beside_one_who_adds();
        let held = shared.0.lock();
        let first = shared.1.add();
        // Whether it is wanted is a hint: it is right to let in also when it is not.
        held.let_in();
        let last = {
            let _held = shared.0.lock();
            shared.1.add()
        };
        assert_eq!(first + last + thread.join().unwrap(), 6);
    });
}

/// Race: two threads fill a box. Both find the same one, as it was made; the other is dropped.
#[test]
fn once_box_is_filled_once() {
    model::check(|| {
        let place = Arc::new(OnceBox::<Place>::new(None));
        let fill = |place: &OnceBox<Place>| {
            let make = || {
                let made = Place(UnsafeCell::new(0));
                made.add();
                made
            };
            let found = place.get_or_init(make);
            assert_eq!(found.read(), 1);
            std::ptr::from_ref(found).addr()
        };
        let thread = spawn({
            let place = Arc::clone(&place);
            move || fill(&place)
        });
        let own = fill(&place);
        assert_eq!(own, thread.join().unwrap());
    });
}

/// Race: a box is filled against one who only looks. (The look is the other thread's: loom's search would forget it for the
/// look of the one who fills.)
#[test]
fn once_box_publishes() {
    model::check(|| {
        let place = Arc::new(OnceBox::<Place>::new(None));
        let looking = spawn({
            let place = Arc::clone(&place);
            move || place.get().map(Place::read)
        });
        let made = Place(UnsafeCell::new(0));
        made.add();
        place.get_or_init(|| made);
        assert!(matches!(looking.join().unwrap(), None | Some(1)));
    });
}

/// Race: two threads fill a shared place; one of them finds the other's, and what is there is written.
#[test]
fn once_arc_is_filled_once() {
    model::check(|| {
        let place = Arc::new(OnceArc::<Place>::new());
        let fill = |place: &OnceArc<Place>| {
            let make = || {
                let made = Place(UnsafeCell::new(0));
                made.add();
                made
            };
            let found = place.get_or_init(make);
            assert_eq!(found.read(), 1);
            std::ptr::from_ref(found).addr()
        };
        let thread = spawn({
            let place = Arc::clone(&place);
            move || fill(&place)
        });
        let own = fill(&place);
        assert_eq!(own, thread.join().unwrap());
        assert_eq!(Arc::strong_count(&place.share().unwrap()), 2);
    });
}

/// Race: a shared place is filled against one who only looks, and keeps what it finds.
#[test]
fn once_arc_publishes() {
    model::check(|| {
        let place = Arc::new(OnceArc::<Place>::new());
        let looking = spawn({
            let place = Arc::clone(&place);
            move || place.share().map(|found| found.read())
        });
        let made = Place(UnsafeCell::new(0));
        made.add();
        place.get_or_init(|| made);
        assert!(matches!(looking.join().unwrap(), None | Some(1)));
    });
}

/// Calls the front, if there is one.
fn call(queue: &Queue) {
    queue.serve_each(queue.lock(), |_| Serve::Call);
}

/// Takes a token when it looks, if there is one.
fn look(waiter: Pin<&mut Waiter<'_, usize, (), usize>>, cx: &mut Context<'_>) -> Poll<usize> {
    waiter.poll_look(
        cx,
        |_| Entry::Wait(()),
        |tokens, _| {
            let one = tokens.checked_sub(1)?;
            **tokens = one;
            Some(1)
        },
        drop,
    )
}

/// Race: a front is called against its polls: it looks when it has been called, or is woken, and takes what it was called for.
#[test]
fn wait_queue_call_vs_look() {
    model::check(|| {
        let queue = Arc::new(Queue::new(0));
        let mut waiter = Box::pin(Waiter::new(Anchor::shared(Arc::clone(&queue), |queue| queue)));
        let first = look(waiter.as_mut(), &mut Context::from_waker(Waker::noop()));
        assert!(first.is_pending());
        let caller = spawn({
            let queue = Arc::clone(&queue);
            move || {
                // For nothing, and then for something.
                call(&queue);
                *queue.lock() += 1;
                call(&queue);
            }
        });
        assert_eq!(block_on(poll_fn(|cx| look(waiter.as_mut(), cx))), 1);
        caller.join().unwrap();
        assert!(queue.lock().is_empty());
    });
}

/// Race: a front that is called against its drop: it leaves, and the one behind it is the front.
#[test]
fn wait_queue_call_vs_drop() {
    model::check(|| {
        let queue = Arc::new(Queue::new(0));
        let mut leaves = Box::pin(Waiter::new(Anchor::shared(Arc::clone(&queue), |queue| queue)));
        let mut stays = Box::pin(Waiter::new(Anchor::shared(Arc::clone(&queue), |queue| queue)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(look(leaves.as_mut(), &mut cx).is_pending());
        assert!(look(stays.as_mut(), &mut cx).is_pending());
        let caller = spawn({
            let queue = Arc::clone(&queue);
            move || call(&queue)
        });
        drop(leaves);
        caller.join().unwrap();
        *queue.lock() += 1;
        call(&queue);
        assert_eq!(block_on(poll_fn(|cx| look(stays.as_mut(), cx))), 1);
        assert!(queue.lock().is_empty());
    });
}

/// Race: the one behind a front that is called is sent, against its own polls and against the leaving of the front: it comes to the lock, and has what
/// it is called for when it is the front.
#[test]
fn wait_queue_send_vs_look() {
    model::check(|| {
        let queue = Arc::new(Queue::new(0));
        let mut cx = Context::from_waker(Waker::noop());
        let [mut front, mut behind] = [(); 2]
            .map(|()| Box::pin(Waiter::new(Anchor::shared(Arc::clone(&queue), |queue| queue))));
        assert!(look(front.as_mut(), &mut cx).is_pending());
        assert!(look(behind.as_mut(), &mut cx).is_pending());
        call(&queue);
        let sent = spawn(move || {
            let look = |cx: &mut Context<'_>| {
                behind.as_mut().poll_look(
                    cx,
                    |_| unreachable!("it stands in line"),
                    |tokens, called| {
                        let one = tokens.checked_sub(1).filter(|_| called)?;
                        **tokens = one;
                        Some(1)
                    },
                    drop,
                )
            };
            assert_eq!(block_on(poll_fn(look)), 1);
        });
        queue.serve_each(queue.lock(), |_| Serve::Send);
        drop(front);
        *queue.lock() += 1;
        call(&queue);
        sent.join().unwrap();
        assert!(queue.lock().is_empty());
    });
}

/// Lines with tokens each; a waiter asks for one.
type Many = Lines<(), usize, (), usize>;

fn many() -> Arc<Many> {
    Arc::new(Many::observed((), selvedge_primitives::observe::Subject::here("lines")))
}

/// Hands out tokens of a line.
fn grant_in(many: &Many, id: LineId, tokens: usize) {
    let mut locked = many.lock();
    *locked.line_mut(id).unwrap() += tokens;
    let next = |locked: &mut LockedLines<'_, (), usize, (), usize>| {
        let tokens = locked.line_mut(id)?;
        *tokens = tokens.checked_sub(1)?;
        Some(1)
    };
    many.grant_each(locked, id, next, |_| ());
}

fn poll_in(
    waiter: Pin<&mut LineWaiter<'_, (), usize, (), usize>>,
    id: LineId,
    cx: &mut Context<'_>,
) -> Poll<usize> {
    waiter.poll_enter(cx, |locked| {
        let tokens = locked.line_mut(id).unwrap();
        match tokens.checked_sub(1) {
            Some(left) => {
                *tokens = left;
                Entry::Ready(1)
            }
            None => Entry::Wait((id, ())),
        }
    })
}

/// Race: a grant in one line against a waiter that enters it, while the lines move because others come.
#[test]
fn lines_grant_vs_enter() {
    model::check(|| {
        let many = many();
        let id = many.lock().insert(0);
        let granter = spawn({
            let many = Arc::clone(&many);
            move || {
                let mut locked = many.lock();
                (0..5).for_each(|_| assert_ne!(locked.insert(0), id));
                drop(locked);
                grant_in(&many, id, 1);
            }
        });
        let mut waiter = Box::pin(LineWaiter::new(Anchor::borrowed(&*many)));
        assert_eq!(block_on(poll_fn(|cx| poll_in(waiter.as_mut(), id, cx))), 1);
        granter.join().unwrap();
        assert_eq!(many.lock().remove(id), Some(0));
    });
}

/// Race: more who wait than a batch holds, the last of whom leaves, against one grant for all; a waiter in another line sees
/// nothing of it.
#[test]
fn lines_grant_in_batches_vs_leave() {
    model::check(|| {
        let many = many();
        let id = many.lock().insert(0);
        let other = many.lock().insert(0);
        let counts: Vec<_> = (0..3).map(|_| Arc::new(Count(AtomicUsize::new(0)))).collect();
        let mut waiters: Vec<_> =
            (0..4).map(|_| Box::pin(LineWaiter::new(Anchor::borrowed(&*many)))).collect();
        for (waiter, count) in waiters.iter_mut().zip(&counts) {
            let waker = Waker::from(Arc::clone(count));
            assert!(poll_in(waiter.as_mut(), id, &mut Context::from_waker(&waker)).is_pending());
        }
        let mut cx = Context::from_waker(Waker::noop());
        assert!(poll_in(waiters[3].as_mut(), other, &mut cx).is_pending());
        let granter = spawn({
            let many = Arc::clone(&many);
            move || grant_in(&many, id, 3)
        });
        let last = match waiters[2].as_mut().cancel_then(drop) {
            Left::Granted(token) => token,
            _ => 0,
        };
        granter.join().unwrap();
        assert_eq!(2 + last + many.lock().remove(id).unwrap(), 3, "a token was lost or doubled");
        for count in &counts[..2] {
            // Relaxed: the granter is joined.
            assert_eq!(count.0.load(Ordering::Relaxed), 1, "a waiter was not woken");
        }
        assert_eq!(many.lock().waiting(other), 1);
    });
}

/// A waker that comes to the lock when it is woken: no lock is held.
#[test]
fn lines_waker_enters() {
    model::check(|| {
        let many = many();
        let id = many.lock().insert(0);
        let looks = {
            let many = Arc::clone(&many);
            ReentrantWaker::on_wake(move || *many.lock().line_mut(id).unwrap() += 1)
        };
        let mut waiter = Box::pin(LineWaiter::new(Anchor::borrowed(&*many)));
        let waker = looks.waker();
        assert!(poll_in(waiter.as_mut(), id, &mut Context::from_waker(&waker)).is_pending());
        grant_in(&many, id, 1);
        drop(waiter);
        assert_eq!(many.lock().remove(id), Some(1));
    });
}

/// Race: a look at what was granted against the grant; and who stands before one that waits, against one that leaves.
#[test]
fn lines_outcome_vs_grant() {
    model::check(|| {
        let many = many();
        let id = many.lock().insert(0);
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = Box::pin(LineWaiter::new(Anchor::shared(Arc::clone(&many), |many| many)));
        let mut second = pin!(LineWaiter::new(Anchor::shared(Arc::clone(&many), |many| many)));
        assert!(poll_in(first.as_mut(), id, &mut cx).is_pending());
        assert!(poll_in(second.as_mut(), id, &mut cx).is_pending());
        let grants = {
            let many = Arc::clone(&many);
            spawn(move || grant_in(&many, id, 1))
        };
        let mut before = 0;
        let ahead = second.as_ref().ahead(|()| before += 1, |_, line| line);
        assert!(ahead == Some(id) && before <= 1);
        let seen = first.as_ref().outcome(|outcome| *outcome);
        assert!(seen.is_none_or(|outcome| outcome == 1));
        grants.join().unwrap();
        assert_eq!(first.as_ref().outcome(|outcome| *outcome), Some(1));
        assert_eq!(poll_in(first.as_mut(), id, &mut cx), Poll::Ready(1));
        assert_eq!(second.as_ref().outcome(|outcome| *outcome), None);
    });
}
