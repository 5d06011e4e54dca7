//! Models of the races of the limiter, on the real engine and the manual timer. Each ends with what must
//! hold whoever won: what was granted and not given back is what was used, nobody is left in line, and
//! no registration is left with the timer. At the end, those of what runs sometimes: as many have run as
//! should.
#![cfg(selvedge_loom)]

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use selvedge_cancel::Context as Tree;
use selvedge_primitives::atomic::{AtomicUsize, Ordering};
use selvedge_primitives::{block_on, model, thread};
use selvedge_ratelimit::{
    AcquireError, AcquireOwned, Limiter, ManualClock, Rate, Sometimes, Timer, TimerError,
    TryAcquireError,
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
fn polled(limiter: &Limiter, n: u32) -> (Pin<Box<AcquireOwned>>, bool) {
    let mut acquire = Box::pin(limiter.acquire_owned(n));
    let ready = poll(acquire.as_mut()).is_ready();
    (acquire, ready)
}

/// Polls once, for nobody in particular.
fn poll(future: Pin<&mut AcquireOwned>) -> Poll<Result<(), AcquireError>> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A thread that moves the clock on by what a token takes, and rings for who is due.
fn rings(clock: &Arc<ManualClock>) -> thread::JoinHandle<()> {
    let clock = Arc::clone(clock);
    spawn(move || clock.advance(SEC))
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
    assert_eq!(limiter.try_acquire(1), Err(TryAcquireError::NotYet));
}

// Two fast paths, one token.
#[test]
fn take_vs_take() {
    model::check(|| {
        let (limiter, clock) = limiter(2, 1);
        let other = {
            let limiter = limiter.clone();
            spawn(move || limiter.try_acquire(1).is_ok())
        };
        let mine = limiter.try_acquire(1).is_ok();
        assert!(mine != other.join().unwrap());
        assert_left(&limiter, &clock, 0);
    });
}

// Two fast paths while the clock moves: there is a token for each, so whoever lost the CAS must look at
// the clock again before it says no.
#[test]
fn take_vs_take_vs_clock() {
    model::check(|| {
        let (limiter, clock) = limiter(2, 1);
        let other = {
            let (limiter, clock) = (limiter.clone(), Arc::clone(&clock));
            spawn(move || {
                clock.advance(SEC);
                limiter.try_acquire(1)
            })
        };
        assert_eq!(limiter.try_acquire(1), Ok(()));
        assert_eq!(other.join().unwrap(), Ok(()));
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
        let taker = {
            let limiter = limiter.clone();
            spawn(move || limiter.try_acquire(1).is_ok())
        };
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
