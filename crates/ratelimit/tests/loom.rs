//! Models of the races of the limiter, on the real engine and the manual timer. Each ends with what must
//! hold whoever won: what was granted and not given back is what was used, nobody is left in line, and
//! no registration is left with the timer. Then those of the limits by key; at the end, those of what runs sometimes: as many have run as
//! should.
#![cfg(selvedge_loom)]

use std::hash::{BuildHasher, Hasher};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use selvedge_cancel::Context as Tree;
use selvedge_primitives::atomic::{AtomicUsize, Ordering};
use selvedge_primitives::{block_on, model, thread};
use selvedge_ratelimit::{
    Acquire, AcquireError, Keyed, Limiter, ManualClock, Priority, Rate, Sometimes, Timer,
    TimerError, TryAcquireError, WhenFull,
};

const SEC: Duration = Duration::from_secs(1);

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn("model".to_owned(), f).unwrap()
}

/// One token a second, `burst` at once, of which `left` are left.
fn limiter(burst: u32, left: u32) -> (Limiter, Arc<ManualClock>) {
    let (timer, clock) = Timer::manual();
    let limiter = Limiter::with_timer(Rate::every(SEC).burst(burst), timer);
    limiter.try_acquire(burst - left).unwrap();
    (limiter, Arc::new(clock))
}

/// In line for `n` tokens, or with them.
fn polled(limiter: &Limiter, n: u32) -> (Pin<Box<Acquire<'static>>>, bool) {
    let mut acquire = Box::pin(limiter.acquire_owned(n));
    let ready = poll(acquire.as_mut()).is_ready();
    (acquire, ready)
}

/// Polls once, for nobody in particular.
fn poll(future: Pin<&mut Acquire<'static>>) -> Poll<Result<(), AcquireError>> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A thread that moves the clock on by what a token takes, and rings for who is due.
fn rings(clock: &Arc<ManualClock>) -> thread::JoinHandle<()> {
    let clock = Arc::clone(clock);
    spawn(move || clock.advance(SEC))
}

/// A thread that takes a token, if there is one.
fn takes_one(limiter: &Limiter) -> thread::JoinHandle<bool> {
    let limiter = limiter.clone();
    spawn(move || limiter.try_acquire(1).is_ok())
}

/// A thread that takes the timer away.
fn loses(clock: &Arc<ManualClock>) -> thread::JoinHandle<()> {
    let clock = Arc::clone(clock);
    spawn(move || clock.lose())
}

/// Nobody is in line, and exactly `left` tokens are there.
fn assert_left(limiter: &Limiter, clock: &ManualClock, left: u32) {
    assert_eq!((limiter.available(), clock.registered()), (left, 0));
    limiter.try_acquire(left).expect("nobody is in line");
    assert!(matches!(limiter.try_acquire(1), Err(TryAcquireError::NotYet(_))));
}

// Two fast paths, one token.
#[test]
fn take_vs_take() {
    model::check(|| {
        let (limiter, clock) = limiter(2, 1);
        let other = takes_one(&limiter);
        let mine = limiter.try_acquire(1).is_ok();
        assert!(mine != other.join().unwrap());
        assert_left(&limiter, &clock, 0);
    });
}

// Two fast paths while the clock moves: there is a token for each. One that goes by the clock from before may be refused, and then its token
// is still there; whoever lost the CAS looks at the clock again before it says no.
#[test]
fn take_vs_take_vs_clock() {
    model::check(|| {
        let (limiter, clock) = limiter(2, 1);
        let other = {
            let (limiter, clock) = (limiter.clone(), Arc::clone(&clock));
            spawn(move || {
                clock.advance(SEC);
                limiter.try_acquire(1).is_ok()
            })
        };
        let mine = drain(&limiter);
        let theirs = u32::from(other.join().unwrap());
        assert_eq!(mine + theirs + drain(&limiter), 2);
        assert_left(&limiter, &clock, 0);
    });
}

// A clock that was read before others moved it and took must not mint a token.
#[test]
fn stale_clock_vs_take() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let moves = rings(&clock);
        let other = {
            let limiter = limiter.clone();
            spawn(move || drain(&limiter))
        };
        let mine = drain(&limiter);
        let theirs = other.join().unwrap();
        moves.join().unwrap();
        assert_eq!(mine + theirs + drain(&limiter), 1);
        assert_left(&limiter, &clock, 0);
    });
}

fn drain(limiter: &Limiter) -> u32 {
    std::iter::from_fn(|| limiter.try_acquire(1).ok()).count() as u32
}

// A take between the waiter's look and its QUEUED: the waiter must see what it took, and the taker
// must not take what the waiter is in line for.
#[test]
fn take_vs_wait() {
    model::check(|| {
        let (limiter, clock) = limiter(2, 1);
        let taker = takes_one(&limiter);
        let (mut acquire, ready) = polled(&limiter, 1);
        let taken = taker.join().unwrap();
        assert!(ready != taken);
        if !ready {
            assert_eq!(clock.registered(), 1);
            clock.advance(SEC);
            assert_eq!(poll(acquire.as_mut()), Poll::Ready(Ok(())));
        }
        assert_left(&limiter, &clock, 0);
    });
}

// The ring against the waiter on its way into the line: whoever is second must see the other.
#[test]
fn ring_vs_wait() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let rings = rings(&clock);
        let waits = limiter.clone();
        block_on(async move { waits.acquire(1).await }).unwrap();
        rings.join().unwrap();
        assert_left(&limiter, &clock, 0);
    });
}

// The grant against the drop of the waiter it is for: the token is the waiter's or goes to the next.
#[test]
fn grant_vs_cancel() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let (first, _) = polled(&limiter, 1);
        let (mut next, _) = polled(&limiter, 1);
        let rings = rings(&clock);
        drop(first);
        rings.join().unwrap();
        assert_eq!(poll(next.as_mut()), Poll::Ready(Ok(())));
        assert_left(&limiter, &clock, 0);
    });
}

// The ring against the drop of the only waiter: the token is there, and no registration is left.
#[test]
fn ring_vs_drop() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let (only, _) = polled(&limiter, 1);
        let rings = rings(&clock);
        drop(only);
        rings.join().unwrap();
        assert_left(&limiter, &clock, 1);
    });
}

// A waiter that was granted and is never polled: those behind it are served while it sleeps, and
// its token comes back when it goes, while another is on its way into the line.
#[test]
fn granted_and_never_polled_vs_wait() {
    model::check(|| {
        let (limiter, clock) = limiter(2, 0);
        let (asleep, _) = polled(&limiter, 1);
        clock.advance(SEC);
        let late = {
            let limiter = limiter.clone();
            spawn(move || polled(&limiter, 1))
        };
        drop(asleep);
        let (mut late, ready) = late.join().unwrap();
        if !ready {
            assert_eq!(poll(late.as_mut()), Poll::Ready(Ok(())), "what came back was lost");
        }
        assert_left(&limiter, &clock, 0);
    });
}

// A refund of a token that the bucket has overflowed with since, against a take of the whole bucket: the
// clock that the refund goes by must not be one from before the take.
#[test]
fn refund_vs_take() {
    model::check(|| {
        let (limiter, clock) = limiter(2, 0);
        let (asleep, _) = polled(&limiter, 1);
        clock.advance(SEC);
        let takes = {
            let (limiter, clock) = (limiter.clone(), Arc::clone(&clock));
            spawn(move || {
                clock.advance(3 * SEC);
                drain(&limiter)
            })
        };
        drop(asleep);
        assert_eq!(takes.join().unwrap() + drain(&limiter), 2, "beyond the burst, at once");
        assert_left(&limiter, &clock, 0);
    });
}

// The cancellation tree ends a wait while its token comes: the token is the waiter's or is there, and no
// registration is left.
#[test]
fn wait_vs_tree_cancel() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let (ctx, canceller) = Tree::background().child();
        let cancels = spawn(move || canceller.cancel());
        let rings = rings(&clock);
        let waits = limiter.clone();
        let got = block_on(async move { ctx.run(waits.acquire(1)).await });
        cancels.join().unwrap();
        rings.join().unwrap();
        assert_left(&limiter, &clock, u32::from(got.is_err()));
    });
}

// More are due than are woken under one lock: the third is granted in a second batch, while somebody comes
// behind it. Each is served with its token and nobody before its time.
#[test]
fn second_batch_vs_wait() {
    model::check(|| {
        let (limiter, clock) = limiter(4, 0);
        let mut line: Vec<_> = (0..3).map(|_| polled(&limiter, 1).0).collect();
        let comes = {
            let limiter = limiter.clone();
            spawn(move || polled(&limiter, 1))
        };
        clock.advance(3 * SEC);
        let (mut late, ready) = comes.join().unwrap();
        assert!(!ready && poll(late.as_mut()).is_pending(), "before its time");
        for waiter in &mut line {
            assert_eq!(poll(waiter.as_mut()), Poll::Ready(Ok(())));
        }
        clock.advance(SEC);
        assert_eq!(poll(late.as_mut()), Poll::Ready(Ok(())));
        assert_left(&limiter, &clock, 0);
    });
}

// Two set alarms against each other: the one that leaves the front to a smaller request, and the ring.
// One registration at most is left, and the one behind is served.
#[test]
fn alarm_replaced_vs_ring() {
    model::check(|| {
        let (limiter, clock) = limiter(3, 0);
        let (large, _) = polled(&limiter, 3);
        let (mut small, _) = polled(&limiter, 1);
        let leaves = spawn(move || drop(large));
        clock.advance(SEC);
        leaves.join().unwrap();
        assert_eq!(poll(small.as_mut()), Poll::Ready(Ok(())));
        assert_left(&limiter, &clock, 0);
    });
}

// The timer is lost while a waiter enters the line: it is told, by the ring or by the registration that
// is refused.
#[test]
fn lose_vs_wait() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let loses = loses(&clock);
        let waits = limiter.clone();
        let told = block_on(async move { waits.acquire(1).await });
        assert_eq!(told, Err(AcquireError::NoTimer(TimerError::Lost)));
        loses.join().unwrap();
        assert_left(&limiter, &clock, 0);
    });
}

// The timer is lost while the first of two leaves the line: the alarm that is set for the other one is
// refused, or is lost with the rest. Either way the other is told.
#[test]
fn lose_vs_leave() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let (first, _) = polled(&limiter, 1);
        let (mut second, _) = polled(&limiter, 1);
        let loses = loses(&clock);
        drop(first);
        loses.join().unwrap();
        let lost = AcquireError::NoTimer(TimerError::Lost);
        assert_eq!(poll(second.as_mut()), Poll::Ready(Err(lost)));
        assert_left(&limiter, &clock, 0);
    });
}

// The timer is lost while it rings for the first of two: that one has its token or is told, and the one
// behind it, for which an alarm is to be set, is told.
#[test]
fn lose_vs_ring() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let (mut first, _) = polled(&limiter, 1);
        let (mut second, _) = polled(&limiter, 1);
        let loses = loses(&clock);
        clock.advance(SEC);
        loses.join().unwrap();
        let lost = AcquireError::NoTimer(TimerError::Lost);
        let Poll::Ready(got) = poll(first.as_mut()) else { panic!("the first was not told") };
        assert!(got.is_ok() || got == Err(lost.clone()), "{got:?}");
        assert_eq!(poll(second.as_mut()), Poll::Ready(Err(lost)));
        assert_left(&limiter, &clock, u32::from(got.is_err()));
    });
}

// The rate changes while somebody takes: what was reckoned with the old quota is not put in with the new one, whose tokens are of other
// units, and what has come is what came at the old rate.
#[test]
fn change_vs_take() {
    model::check(|| {
        let (limiter, clock) = limiter(3, 1);
        let changes = {
            let limiter = limiter.clone();
            spawn(move || limiter.set_quota(Rate::every(3 * SEC).burst(2)))
        };
        let taken = drain(&limiter);
        changes.join().unwrap();
        // Two of three were missing: of two, none is there, if the change came first.
        assert!(taken <= 1);
        clock.advance(3 * SEC);
        assert_eq!(limiter.available(), 1 - taken);
        clock.advance(6 * SEC);
        assert_left(&limiter, &clock, 2);
    });
}

// The rate goes up while somebody is on its way into the line: it is served at the new rate.
#[test]
fn change_vs_wait() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let changes = {
            let limiter = limiter.clone();
            spawn(move || limiter.set_rate(Rate::every(SEC / 2)))
        };
        let (mut waits, ready) = polled(&limiter, 1);
        changes.join().unwrap();
        assert!(!ready && clock.registered() == 1);
        clock.advance(SEC / 2);
        assert_eq!(poll(waits.as_mut()), Poll::Ready(Ok(())));
        assert_left(&limiter, &clock, 0);
    });
}

// The burst is lowered below what somebody waits for, while that leaves: it is told or is gone, and the one behind it is served.
#[test]
fn lower_burst_vs_leave() {
    model::check(|| {
        let (limiter, clock) = limiter(2, 0);
        let (large, _) = polled(&limiter, 2);
        let (mut small, _) = polled(&limiter, 1);
        let lowers = {
            let limiter = limiter.clone();
            spawn(move || limiter.set_burst(1))
        };
        drop(large);
        lowers.join().unwrap();
        // Two were missing, and one is more than may be.
        clock.advance(2 * SEC);
        assert_eq!(poll(small.as_mut()), Poll::Ready(Ok(())));
        assert_left(&limiter, &clock, 0);
    });
}

// A piece of the course is over, and two come to make the next.
#[test]
fn settle_vs_take() {
    model::check(|| {
        let (timer, clock) = Timer::manual();
        let builder = Limiter::builder(Rate::every(SEC).burst(1)).timer(timer);
        // Cold: whoever takes first begins.
        let limiter = builder.warm_up(3 * SEC).build();
        assert_eq!(limiter.available(), 1);
        let other = {
            let limiter = limiter.clone();
            spawn(move || drain(&limiter))
        };
        let mine = drain(&limiter);
        assert_eq!(mine + other.join().unwrap(), 1);
        clock.advance(SEC / 2);
        assert_eq!(limiter.available(), 0);
        clock.advance(3 * SEC);
        assert_left(&limiter, &clock, 1);
    });
}

// A timer that rings late leaves more than the one in line wanted, while another takes: it is there once.
#[test]
fn slack_vs_take() {
    model::check(|| {
        let (timer, clock) = Timer::manual();
        let builder = Limiter::builder(Rate::every(SEC).burst(1)).timer(timer);
        let limiter = builder.catch_up(4 * SEC).build();
        limiter.try_acquire(1).unwrap();
        let (mut waits, _) = polled(&limiter, 1);
        clock.advance_silently(3 * SEC);
        let takes = takes_one(&limiter);
        clock.advance(Duration::ZERO);
        let taken = u32::from(takes.join().unwrap());
        assert_eq!(poll(waits.as_mut()), Poll::Ready(Ok(())));
        assert_eq!(taken + drain(&limiter), 2);
        assert_left(&limiter, &clock, 0);
    });
}

// The limiter is closed while somebody enters the line: it is told, there or at the door.
#[test]
fn close_vs_wait() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let closes = {
            let limiter = limiter.clone();
            spawn(move || limiter.close())
        };
        let waits = limiter.clone();
        assert_eq!(block_on(async move { waits.acquire(1).await }), Err(AcquireError::Closed));
        assert!(closes.join().unwrap());
        assert_eq!(limiter.try_acquire(1), Err(TryAcquireError::Closed));
        assert_eq!((limiter.waiting(), clock.registered()), (0, 0));
    });
}

// The limiter is closed while the timer rings for the one in line: that has its token or is told.
#[test]
fn close_vs_ring() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let (mut only, _) = polled(&limiter, 1);
        let closes = {
            let limiter = limiter.clone();
            spawn(move || limiter.close())
        };
        clock.advance(SEC);
        closes.join().unwrap();
        let Poll::Ready(told) = poll(only.as_mut()) else { panic!("it was not told") };
        assert!(told.is_ok() || told == Err(AcquireError::Closed));
        assert_eq!(clock.registered(), 0);
    });
}

// A late charge while the timer rings for the one in line: that has its token, before the charge or after it.
#[test]
fn charge_vs_ring() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let (mut only, _) = polled(&limiter, 1);
        let charges = {
            let limiter = limiter.clone();
            spawn(move || limiter.charge(1))
        };
        clock.advance(SEC);
        charges.join().unwrap();
        if poll(only.as_mut()).is_pending() {
            assert_eq!(clock.registered(), 1);
            clock.advance(SEC);
            assert_eq!(poll(only.as_mut()), Poll::Ready(Ok(())));
            assert_left(&limiter, &clock, 0);
        } else {
            assert_left(&limiter, &clock, 0);
            clock.advance(SEC);
            assert_left(&limiter, &clock, 0);
        }
    });
}

// One of a higher class comes while the timer rings: either may be first, and both are served.
#[test]
fn priority_vs_ring() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let (mut low, _) = polled(&limiter, 1);
        let comes = {
            let limiter = limiter.clone();
            spawn(move || {
                let mut high = Box::pin(limiter.acquire_owned(1).priority(Priority::High));
                let ready = poll(high.as_mut()).is_ready();
                (high, ready)
            })
        };
        clock.advance(SEC);
        let (mut high, ready) = comes.join().unwrap();
        let first = [ready || poll(high.as_mut()).is_ready(), poll(low.as_mut()).is_ready()];
        assert_eq!(first.into_iter().filter(|first| *first).count(), 1);
        clock.advance(SEC);
        let other = if first[0] { &mut low } else { &mut high };
        assert_eq!(poll(other.as_mut()), Poll::Ready(Ok(())));
        assert_left(&limiter, &clock, 0);
    });
}

// One that takes more than the burst in parts leaves while the timer rings for a part: what it had goes back, and the next is served.
#[test]
fn split_leaves_vs_ring() {
    model::check(|| {
        let (limiter, clock) = limiter(1, 0);
        let mut parts = Box::pin(limiter.acquire_owned(3).split());
        assert!(poll(parts.as_mut()).is_pending());
        clock.advance(SEC);
        let (mut next, _) = polled(&limiter, 1);
        let rings = rings(&clock);
        drop(parts);
        rings.join().unwrap();
        assert_eq!(poll(next.as_mut()), Poll::Ready(Ok(())));
        // What it had of the first second is beyond the burst by now.
        assert!(limiter.available() <= 1 && clock.registered() == 0);
    });
}

// Somebody looks whether its reservation is due, and commits it, while the timer rings for it: it is due or will be, and is charged once.
#[test]
fn reservation_vs_ring() {
    model::check(|| {
        let (limiter, clock) = limiter(2, 0);
        let reservation = limiter.reserve(1).unwrap();
        let rings = rings(&clock);
        let due = reservation.due_in().expect("it will be");
        assert!(due == SEC || due.is_zero());
        reservation.commit(2);
        rings.join().unwrap();
        assert_left(&limiter, &clock, 0);
        clock.advance(2 * SEC);
        assert_left(&limiter, &clock, 1);
    });
}

/// A limiter in leased mode: one token a second, `burst` at once.
fn leased(burst: u32) -> (Limiter, Arc<ManualClock>) {
    let (timer, clock) = Timer::manual();
    let limiter = Limiter::builder(Rate::every(SEC).burst(burst)).timer(timer).leased().build();
    assert_eq!(limiter.available(), burst);
    (limiter, Arc::new(clock))
}

// Two threads take batches and what the other has not used: what there was is used once, all of it.
#[test]
fn lease_vs_lease() {
    model::check(|| {
        let (limiter, clock) = leased(16);
        limiter.try_acquire(13).unwrap();
        let other = {
            let limiter = limiter.clone();
            spawn(move || (0..2).filter(|_| limiter.try_acquire(1).is_ok()).count() as u32)
        };
        let mine = (0..2).filter(|_| limiter.try_acquire(1).is_ok()).count() as u32;
        assert_eq!(mine + other.join().unwrap(), 3);
        assert_left(&limiter, &clock, 0);
    });
}

// One takes a batch, which empties the bucket, while a thread that has nothing in its slot wants a token: it finds the one in the other's slot.
#[test]
fn lease_batch_vs_take() {
    model::check(|| {
        let (limiter, clock) = leased(16);
        assert_eq!(limiter.take_up_to(14), 14, "without a batch");
        let other = takes_one(&limiter);
        assert!(limiter.try_acquire(1).is_ok());
        assert!(other.join().unwrap(), "there were two");
        assert_left(&limiter, &clock, 0);
    });
}

// What lies in a slot is taken out, and a batch of another size leaves the word as it was before: a thread that wants a token meanwhile finds
// that there is one, wherever it is.
#[test]
fn lease_recall_and_batch_vs_take() {
    model::check(|| {
        let (limiter, clock) = leased(16);
        assert_eq!(limiter.take_up_to(13), 13, "without a batch");
        // With a batch of two: the bucket is empty.
        limiter.try_acquire(1).unwrap();
        let other = takes_one(&limiter);
        // The batch goes back, and of the two that there are one is taken and one comes into the slot.
        assert_eq!(limiter.reserve(1).unwrap().cancel(), 1);
        limiter.try_acquire(1).unwrap();
        assert!(other.join().unwrap(), "there were three");
        assert_left(&limiter, &clock, 0);
    });
}

// One comes into the line while another takes from its slot, or takes a batch: what lies in slots goes back, and nobody overtakes.
#[test]
fn lease_return_vs_refill() {
    model::check(|| {
        let (limiter, clock) = leased(16);
        limiter.try_acquire(12).unwrap();
        let takes = {
            let limiter = limiter.clone();
            spawn(move || (0..2).filter(|_| limiter.try_acquire(1).is_ok()).count() as u32)
        };
        let (mut waits, ready) = polled(&limiter, 4);
        let taken = takes.join().unwrap();
        // All four, or what the other has left of them, and no more.
        assert_eq!(ready, taken == 0);
        if !ready {
            assert!(limiter.try_acquire(1).is_err(), "before one who waits");
            clock.advance(SEC * taken);
            assert_eq!(poll(waits.as_mut()), Poll::Ready(Ok(())));
        }
        assert_left(&limiter, &clock, 0);
    });
}

// The burst changes while a thread takes from its slot: what lay in slots is counted once.
#[test]
fn lease_vs_change() {
    model::check(|| {
        let (limiter, clock) = leased(16);
        limiter.try_acquire(13).unwrap();
        let changes = {
            let limiter = limiter.clone();
            spawn(move || limiter.set_burst(15))
        };
        let taken = (0..2).filter(|_| limiter.try_acquire(1).is_ok()).count() as u32;
        changes.join().unwrap();
        assert_eq!(taken, 2);
        assert_eq!(limiter.available(), 0);
        clock.advance(SEC);
        assert_left(&limiter, &clock, 1);
    });
}

/// Uses the limiter when it is woken.
struct Reenters {
    limiter: Limiter,
    wakes: AtomicUsize,
}

impl Wake for Reenters {
    fn wake(self: Arc<Self>) {
        // Relaxed: a count.
        self.wakes.fetch_add(1, Ordering::Relaxed);
        let _ = self.limiter.try_acquire(1);
        drop(polled(&self.limiter, 2));
    }
}

// Wakers of a grant and of a loss use the limiter: no lock is held while they run.
#[test]
fn wakers_reenter() {
    model::check(|| {
        let (limiter, clock) = limiter(2, 0);
        let waker = Arc::new(Reenters { limiter: limiter.clone(), wakes: AtomicUsize::new(0) });
        let task = Waker::from(Arc::clone(&waker));
        let mut cx = Context::from_waker(&task);
        let mut first = Box::pin(limiter.acquire_owned(1));
        assert!(first.as_mut().poll(&mut cx).is_pending());
        let rings = rings(&clock);
        rings.join().unwrap();
        assert_eq!(poll(first.as_mut()), Poll::Ready(Ok(())));
        let mut second = Box::pin(limiter.acquire_owned(1));
        assert!(second.as_mut().poll(&mut cx).is_pending());
        clock.lose();
        assert!(poll(second.as_mut()).is_ready());
        // Relaxed: everybody is joined.
        assert_eq!(waker.wakes.load(Ordering::Relaxed), 2);
    });
}

// The waker of a waiter that leaves uses the limiter when it is dropped.
#[test]
fn leaving_frees_the_lock() {
    model::check(|| {
        struct Drops(Limiter);
        impl Wake for Drops {
            fn wake(self: Arc<Self>) {}
        }
        impl Drop for Drops {
            fn drop(&mut self) {
                drop(polled(&self.0, 1));
            }
        }
        let (limiter, clock) = limiter(1, 0);
        let task = Waker::from(Arc::new(Drops(limiter.clone())));
        {
            let mut acquire = pin!(limiter.acquire_owned(1));
            assert!(acquire.as_mut().poll(&mut Context::from_waker(&task)).is_pending());
            drop(task);
        }
        assert_left(&limiter, &clock, 0);
    });
}

/// Every key has the same home and the same tag.
#[derive(Clone, Default)]
struct Collides(u64);

impl Hasher for Collides {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let print = (1 + u64::from(bytes[0])) << 11;
        // The hash that a table makes this fingerprint of.
        let mixed = (print ^ print >> 32).wrapping_mul(0xf1de_83e1_9937_733d);
        self.0 = mixed ^ mixed >> 32;
    }
}

impl BuildHasher for Collides {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

type Keys = Keyed<u8, Collides>;

/// One token a second for each key, `burst` at once; keys have the same home, and there is room for a few.
fn keyed(burst: u32, max_keys: u32) -> (Arc<Keys>, Arc<ManualClock>) {
    let (timer, clock) = Timer::manual();
    let builder = Keyed::builder(Rate::every(SEC).burst(burst), max_keys).timer(timer);
    let keyed = builder.when_full(WhenFull::Refuse).hasher(Collides::default()).build();
    (Arc::new(keyed), Arc::new(clock))
}

/// A thread that takes a token of a key.
fn takes(keyed: &Arc<Keys>, key: u8) -> thread::JoinHandle<bool> {
    let keyed = Arc::clone(keyed);
    spawn(move || keyed.try_acquire(&key, 1).is_ok())
}

// Two insert a key: it is there once, with one bucket.
#[test]
fn keyed_insert_vs_insert() {
    model::check(|| {
        let (keyed, _clock) = keyed(1, 2);
        let other = takes(&keyed, 1);
        let mine = keyed.try_acquire(&1, 1).is_ok();
        assert!(mine != other.join().unwrap());
        assert_eq!((keyed.len(), keyed.available(&1)), (1, Some(0)));
    });
}

// A hit against an eviction, which puts another key into the same entry: whoever has reckoned for the key that was there does not take
// of the one that is. There is room for one: the one that is taken of stays, and the other is refused.
#[test]
fn keyed_hit_vs_evict_vs_insert() {
    model::check(|| {
        let (keyed, clock) = keyed(1, 1);
        assert!(keyed.try_acquire(&1, 1).is_ok());
        clock.advance(SEC);
        let other = takes(&keyed, 2);
        let mine = keyed.try_acquire(&1, 1).is_ok();
        let theirs = other.join().unwrap();
        assert!(mine != theirs);
        assert_eq!(keyed.len(), 1);
        assert_eq!(keyed.available(if mine { &1 } else { &2 }), Some(0));
    });
}

// A hit against the removal of a key that lies before it in the same group.
#[test]
fn keyed_hit_vs_remove() {
    model::check(|| {
        let (keyed, _clock) = keyed(2, 3);
        assert!(keyed.try_acquire(&1, 1).is_ok() && keyed.try_acquire(&2, 1).is_ok());
        let other = takes(&keyed, 2);
        assert!(keyed.forget(&1));
        assert!(other.join().unwrap(), "it has two");
        assert!(keyed.try_acquire(&2, 1).is_err());
        assert_eq!((keyed.len(), keyed.available(&2)), (1, Some(0)));
    });
}

// A key is taken out by one thread, and another comes into its entry by a second: who asks for that one is not told what the first was short
// of.
#[test]
fn keyed_refusal_vs_remove_vs_insert() {
    model::check(|| {
        let (keyed, _clock) = keyed(2, 2);
        assert!(keyed.try_acquire(&1, 2).is_ok());
        let removes = {
            let keyed = Arc::clone(&keyed);
            spawn(move || keyed.forget(&1))
        };
        let other = takes(&keyed, 2);
        assert!(keyed.try_acquire(&2, 1).is_ok());
        assert!(other.join().unwrap(), "there were two");
        assert!(removes.join().unwrap());
        assert_eq!((keyed.len(), keyed.available(&2)), (1, Some(0)));
    });
}

// The last key of a quota is taken out by one thread, and the quota's place is another's by a second: who asks for the key is told what there is of
// the old quota, or finds a new bucket.
#[test]
fn keyed_refusal_vs_remove_vs_quota() {
    model::check(|| {
        let (keyed, _clock) = keyed(5, 2);
        assert!(keyed.try_acquire(&1, 1).is_ok() && keyed.try_acquire(&2, 1).is_ok());
        assert_eq!(keyed.set_quota_of(&1, Some(Rate::every(SEC).burst(4))), Ok(true));
        let removes = {
            let keyed = Arc::clone(&keyed);
            spawn(move || keyed.forget(&1))
        };
        let other = {
            let keyed = Arc::clone(&keyed);
            spawn(move || keyed.try_acquire(&1, 4))
        };
        assert_eq!(keyed.set_quota_of(&2, Some(Rate::every(SEC).burst(3))), Ok(true));
        removes.join().unwrap();
        match other.join().unwrap() {
            Ok(()) => {}
            Err(TryAcquireError::NotYet(not_yet)) => assert_eq!(not_yet.retry_in(), Some(SEC)),
            other => panic!("{other:?}"),
        }
    });
}

// A hit against a change of the quota of all keys: what is missing stays missing.
#[test]
fn keyed_hit_vs_change() {
    model::check(|| {
        let (keyed, clock) = keyed(2, 1);
        assert!(keyed.try_acquire(&1, 1).is_ok());
        let changes = {
            let keyed = Arc::clone(&keyed);
            spawn(move || keyed.set_quota(Rate::every(3 * SEC).burst(2)))
        };
        assert!(keyed.try_acquire(&1, 1).is_ok());
        changes.join().unwrap();
        assert_eq!(keyed.available(&1), Some(0));
        clock.advance(2 * SEC);
        assert_eq!(keyed.available(&1), Some(0));
        clock.advance(SEC);
        assert_eq!(keyed.available(&1), Some(1));
    });
}

// One begins to wait for a key while another takes of it, and the key goes back into its entry when nobody waits any more: nobody overtakes,
// and each token is there once.
#[test]
fn keyed_hit_vs_wait() {
    model::check(|| {
        let (keyed, clock) = keyed(1, 1);
        assert!(keyed.try_acquire(&1, 1).is_ok());
        let other = takes(&keyed, 1);
        let mut waits = Box::pin(keyed.acquire(1, 1));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        assert!(!other.join().unwrap());
        clock.advance(SEC);
        assert_eq!(waits.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
        assert_eq!((keyed.available(&1), clock.registered()), (Some(0), 0));
        let other = takes(&keyed, 1);
        clock.advance(SEC);
        let mine = keyed.try_acquire(&1, 1);
        let theirs = other.join().unwrap();
        assert!(mine.is_ok() != theirs, "{mine:?} {theirs}");
    });
}

// Two change the quota of all keys at the same time: every key goes by the one that all have then.
#[test]
fn keyed_change_vs_change() {
    model::check(|| {
        let (keyed, _clock) = keyed(2, 1);
        assert!(keyed.try_acquire(&1, 1).is_ok());
        let changes = {
            let keyed = Arc::clone(&keyed);
            spawn(move || keyed.set_quota(Rate::every(SEC).burst(3)))
        };
        keyed.set_quota(Rate::every(SEC).burst(4));
        changes.join().unwrap();
        let burst = keyed.quota().burst_size();
        let told = keyed.try_acquire(&1, 5);
        assert_eq!(told, Err(TryAcquireError::OverBurst { wanted: 5, burst }));
    });
}

// The quota changes while the last who waits for a key leaves: the limiter of the key goes, and its entry has the new quota.
#[test]
fn keyed_change_vs_leave() {
    model::check(|| {
        let (keyed, clock) = keyed(1, 1);
        assert!(keyed.try_acquire(&1, 1).is_ok());
        let mut waits = Box::pin(keyed.acquire(1, 1));
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let changes = {
            let keyed = Arc::clone(&keyed);
            spawn(move || keyed.set_quota(Rate::every(SEC).burst(2)))
        };
        drop(waits);
        changes.join().unwrap();
        let told = keyed.try_acquire(&1, 3);
        assert_eq!(told, Err(TryAcquireError::OverBurst { wanted: 3, burst: 2 }));
        assert_eq!((keyed.hottest(1).len(), clock.registered()), (1, 0));
    });
}

/// What runs sometimes, on a clock that is moved by hand and that began long ago.
fn sometimes(rules: Sometimes) -> (Arc<Sometimes>, Arc<ManualClock>) {
    let (timer, clock) = Timer::manual();
    let sometimes = Arc::new(rules.with_timer(timer));
    clock.advance(100 * SEC);
    (sometimes, Arc::new(clock))
}

/// A call here and one in another thread: how many of them run.
fn two_calls(sometimes: &Arc<Sometimes>) -> u32 {
    let theirs = {
        let sometimes = Arc::clone(sometimes);
        spawn(move || sometimes.claim())
    };
    let mine = sometimes.claim();
    u32::from(mine) + u32::from(theirs.join().unwrap())
}

// Two calls for the first run: one has it, and the time of that run is there for those who come later.
#[test]
fn sometimes_first_vs_first() {
    model::check(|| {
        let (sometimes, clock) = sometimes(Sometimes::new().interval(SEC));
        assert_eq!(two_calls(&sometimes), 1);
        assert!(!sometimes.claim());
        clock.advance(SEC);
        assert!(sometimes.claim());
    });
}

// Two calls when the interval is over: both may see the old time, and one of them moves it on.
#[test]
fn sometimes_interval_vs_interval() {
    model::check(|| {
        let (sometimes, clock) = sometimes(Sometimes::new().interval(SEC));
        assert!(sometimes.claim());
        clock.advance(SEC);
        assert_eq!(two_calls(&sometimes), 1);
        assert!(!sometimes.claim());
    });
}

// The call whose number it is against one that could only run by the time: the time of the one may not be
// noted yet, and is not taken for one that is long ago.
#[test]
fn sometimes_count_vs_interval() {
    model::check(|| {
        let (sometimes, _clock) = sometimes(Sometimes::new().every(2).interval(SEC));
        assert_eq!(two_calls(&sometimes), 1);
        assert!(sometimes.claim());
        assert!(!sometimes.claim());
    });
}

// A call before the interval is over against one after: the earlier one, with the earlier time, must not
// move the time back, nor run as well.
#[test]
fn sometimes_early_vs_late() {
    model::check(|| {
        let (sometimes, clock) = sometimes(Sometimes::new().interval(SEC));
        assert!(sometimes.claim());
        let late = {
            let (sometimes, clock) = (Arc::clone(&sometimes), Arc::clone(&clock));
            spawn(move || {
                clock.advance(SEC);
                sometimes.claim()
            })
        };
        let early = sometimes.claim();
        assert!(early != late.join().unwrap());
        assert!(!sometimes.claim());
    });
}

// Two calls that run by their numbers, at different times: the later time stays, whoever notes it last.
#[test]
fn sometimes_count_vs_count() {
    model::check(|| {
        let (sometimes, clock) = sometimes(Sometimes::new().first(2).interval(2 * SEC));
        let other = {
            let (sometimes, clock) = (Arc::clone(&sometimes), Arc::clone(&clock));
            spawn(move || {
                clock.advance(SEC);
                sometimes.claim()
            })
        };
        assert!(sometimes.claim() && other.join().unwrap());
        clock.advance(SEC);
        assert!(!sometimes.claim(), "a second after the later of two runs");
        clock.advance(SEC);
        assert!(sometimes.claim());
    });
}
