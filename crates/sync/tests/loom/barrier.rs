//! Models of the barrier: the last to come against another, one that leaves or is told to, and a reset.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use selvedge_cancel::Context as Tree;
use selvedge_primitives::{block_on, model};
use selvedge_sync::{Barrier, BarrierError, Passed};

use super::{Ledger, spawn};

fn wait(barrier: &Barrier) -> Result<Passed, BarrierError> {
    block_on(barrier.wait())
}

fn barrier(parties: usize) -> Arc<Barrier> {
    Arc::new(Barrier::new(parties).unwrap())
}

// Two come at once, twice: one is the last of each round, what one did before a round the other sees after
// it, and no round sees a party of the next.
#[test]
fn two_rounds() {
    model::check(|| {
        let barrier = barrier(2);
        let ledgers = [Ledger::new(), Ledger::new()];
        let party = |barrier: &Barrier, ledgers: &[Arc<Ledger>; 2], me: usize| {
            let mut lasts = 0;
            for round in 1..=2 {
                ledgers[me].enter();
                lasts += usize::from(wait(barrier).unwrap().is_last());
                // The other has come this often, and not to the round after the next.
                assert!((round..=round + 1).contains(&ledgers[1 - me].entries()));
            }
            lasts
        };
        let other = {
            let (barrier, ledgers) = (Arc::clone(&barrier), ledgers.clone());
            spawn(move || party(&barrier, &ledgers, 1))
        };
        let mine = party(&barrier, &ledgers, 0);
        assert_eq!(mine + other.join().unwrap(), 2);
        assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
    });
}

// A party leaves while the last comes: it had its pass, and all have passed; or the barrier is broken for
// all, those on their way included.
#[test]
fn leave_vs_last() {
    model::check(|| {
        let barrier = barrier(3);
        let others = [0, 1].map(|_| {
            let barrier = Arc::clone(&barrier);
            let mut wait = Box::pin(async move { barrier.wait().await });
            assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            wait
        });
        let [leaves, stays] = others;
        let leaver = spawn(move || drop(leaves));
        let waiter = spawn(move || block_on(stays));
        let last = wait(&barrier);
        leaver.join().unwrap();
        let other = waiter.join().unwrap();
        match last {
            Ok(passed) => assert!(passed.is_last() && !other.unwrap().is_last()),
            Err(broken) => assert_eq!((broken, other), (BarrierError::Broken, Err(broken))),
        }
        assert_eq!(barrier.is_broken(), last.is_err());
        assert_eq!(barrier.waiting(), 0);
    });
}

// A party waits, or is on its way, while the barrier is reset: it is sent away, or waits for the round that
// follows, in which it is met.
#[test]
fn reset_vs_come() {
    model::check(|| {
        let barrier = barrier(2);
        let comes = {
            let barrier = Arc::clone(&barrier);
            spawn(move || {
                wait(&barrier).or_else(|error| {
                    assert_eq!(error, BarrierError::Reset);
                    wait(&barrier)
                })
            })
        };
        barrier.reset();
        let mine = wait(&barrier).unwrap();
        let theirs = comes.join().unwrap().unwrap();
        assert!(mine.is_last() != theirs.is_last());
        assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
    });
}

// The context of a party ends while the last comes: all have come, and the last passes, whatever the party is told; or the party
// has left by the time it is told, though its future is still there, and the last is told that the barrier is broken.
#[test]
fn context_vs_last() {
    model::check(|| {
        let barrier = barrier(2);
        let (tree, canceller) = Tree::background().child();
        let mut party = pin!(barrier.wait_in(&tree));
        assert!(party.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let last = {
            let barrier = Arc::clone(&barrier);
            spawn(move || wait(&barrier))
        };
        let cancelling = spawn(move || canceller.cancel());
        let told = block_on(party.as_mut());
        assert_eq!(barrier.waiting(), 0);
        let last = last.join().unwrap();
        cancelling.join().unwrap();
        match (told, last) {
            (Ok(passed), Ok(last)) => assert!(last.is_last() && !passed.unwrap().is_last()),
            (Err(_), Ok(last)) => assert!(last.is_last()),
            (told, Err(broken)) => assert!(told.is_err() && broken == BarrierError::Broken),
        }
        assert_eq!(barrier.is_broken(), last.is_err());
    });
}
