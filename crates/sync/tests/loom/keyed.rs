//! Models of the keyed semaphore: who enters a key while others leave it, and waits that are given up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use selvedge_primitives::{block_on, model};
use selvedge_sync::{AcquireKeyed, KeyedLock, KeyedPermit, TryKeyedError};

use super::{Ledger, spawn};

type Locks = KeyedLock<u8>;

/// A wait for a key that is locked.
fn waiting(locks: &Locks) -> Pin<Box<AcquireKeyed<u8>>> {
    let mut wait = Box::pin(locks.lock(7));
    assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    wait
}

/// Adds an entry under the lock, which the caller has to be alone with.
fn enter(ledger: &Ledger, locked: KeyedPermit<u8>) {
    ledger.enter();
    drop(locked);
}

// The last to use a key leaves while another comes: it waits for the old entry, or makes another, and sees what the first did
// either way.
#[test]
fn last_out_vs_first_in() {
    model::check(|| {
        let (locks, ledger) = (Locks::new(), Ledger::new());
        let held = locks.try_lock(7).unwrap();
        let holder = {
            let ledger = Arc::clone(&ledger);
            spawn(move || enter(&ledger, held))
        };
        enter(&ledger, block_on(locks.lock(7)).unwrap());
        holder.join().unwrap();
        assert_eq!((ledger.entries(), locks.len()), (2, 0));
    });
}

// Two come to a key that nobody uses: one makes the entry, the other finds it, and they are not there together.
#[test]
fn first_in_vs_first_in() {
    model::check(|| {
        let (locks, ledger) = (Locks::new(), Ledger::new());
        let other = {
            let (locks, ledger) = (locks.clone(), Arc::clone(&ledger));
            spawn(move || enter(&ledger, block_on(locks.lock(7)).unwrap()))
        };
        enter(&ledger, block_on(locks.lock(7)).unwrap());
        other.join().unwrap();
        assert_eq!((ledger.entries(), locks.len()), (2, 0));
    });
}

// A wait is given up while the lock is handed to it: whoever is the last takes the entry out, and the lock is had anew.
#[test]
fn cancel_vs_grant() {
    model::check(|| {
        let (locks, ledger) = (Locks::new(), Ledger::new());
        let held = locks.try_lock(7).unwrap();
        let leaves = waiting(&locks);
        let holder = {
            let ledger = Arc::clone(&ledger);
            spawn(move || enter(&ledger, held))
        };
        drop(leaves);
        enter(&ledger, block_on(locks.lock(7)).unwrap());
        holder.join().unwrap();
        assert_eq!((ledger.entries(), locks.len()), (2, 0));
    });
}

// The same with another behind the one that gives up, which gets the lock whoever wins.
#[test]
fn cancel_vs_grant_before_another() {
    model::check(|| {
        let (locks, ledger) = (Locks::new(), Ledger::new());
        let held = locks.try_lock(7).unwrap();
        let leaves = waiting(&locks);
        let behind = waiting(&locks);
        let leaver = spawn(move || drop(leaves));
        let waiter = {
            let ledger = Arc::clone(&ledger);
            spawn(move || enter(&ledger, block_on(behind).unwrap()))
        };
        enter(&ledger, held);
        leaver.join().unwrap();
        waiter.join().unwrap();
        assert_eq!((ledger.entries(), locks.len()), (2, 0));
    });
}

// With room for one key, its last user leaves while another key comes: there is never room for two, and there is room
// when the first has left.
#[test]
fn last_out_vs_another_key() {
    model::check(|| {
        let locks = Locks::with_max_keys(1);
        let held = locks.try_lock(7).unwrap();
        let holder = spawn(move || drop(held));
        match locks.try_lock(8) {
            Ok(other) => {
                assert_eq!(locks.len(), 1);
                let refused = locks.try_lock(7).map(drop);
                assert_eq!(refused, Err(TryKeyedError::TooManyKeys { max: 1 }));
                drop(other);
            }
            Err(error) => assert_eq!(error, TryKeyedError::TooManyKeys { max: 1 }),
        }
        holder.join().unwrap();
        assert!(locks.try_lock(8).is_ok());
        assert!(locks.is_empty());
    });
}
