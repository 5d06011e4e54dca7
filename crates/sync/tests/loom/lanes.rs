//! Models of the keyed lanes: leases that are handed on while others push, take, give up and close.

use std::pin::Pin;
use std::task::{Context, Waker};

use selvedge_primitives::{block_on, model};
use selvedge_sync::{KeyedLanes, Lease};

use super::{Ledger, spawn};

type Lanes = KeyedLanes<u8, usize>;
type Taking = Pin<Box<dyn Future<Output = Option<Lease<u8, usize>>> + Send>>;

fn filled(items: &[(u8, usize)]) -> Lanes {
    let lanes = Lanes::new();
    for &(key, item) in items {
        assert!(lanes.push(key, item).is_ok());
    }
    lanes
}

/// A take that waits.
fn waiting(lanes: &Lanes) -> Taking {
    let lanes = lanes.clone();
    let mut taking: Taking = Box::pin(async move { lanes.take().await });
    assert!(taking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    taking
}

fn assert_idle(lanes: &Lanes) {
    assert_eq!((lanes.len(), lanes.lanes()), (0, 0));
}

// The lease of a lane without items is dropped while one is pushed: the push finds the lane, or makes another,
// and the item is had either way.
#[test]
fn hand_on_vs_push() {
    model::check(|| {
        let lanes = filled(&[(1, 10)]);
        let lease = lanes.try_take().unwrap();
        let holder = spawn(move || drop(lease));
        assert!(lanes.push(1, 11).is_ok());
        assert_eq!(*block_on(lanes.take()).unwrap(), 11);
        holder.join().unwrap();
        assert_idle(&lanes);
    });
}

// A taker on its way to the line while an item is pushed.
#[test]
fn push_vs_take() {
    model::check(|| {
        let lanes = Lanes::new();
        let taker = {
            let lanes = lanes.clone();
            spawn(move || block_on(lanes.take()).map(|lease| *lease))
        };
        assert!(lanes.push(1, 10).is_ok());
        assert_eq!(taker.join().unwrap(), Some(10));
        assert_idle(&lanes);
    });
}

// Two takers and two items of one key: one after the other, in order, and the second sees what the first did.
#[test]
fn hand_on_vs_take() {
    model::check(|| {
        let lanes = filled(&[(1, 0), (1, 1)]);
        let ledger = Ledger::new();
        let work = |lanes: &Lanes, ledger: &Ledger| {
            let lease = block_on(lanes.take()).unwrap();
            assert_eq!(ledger.entries(), *lease);
            ledger.enter();
        };
        let other = {
            let (lanes, ledger) = (lanes.clone(), std::sync::Arc::clone(&ledger));
            spawn(move || work(&lanes, &ledger))
        };
        work(&lanes, &ledger);
        other.join().unwrap();
        assert_idle(&lanes);
    });
}

// A taker gives up while it is given a lease: the item goes to the one behind it.
#[test]
fn leave_vs_push() {
    model::check(|| {
        let lanes = Lanes::new();
        let leaves = waiting(&lanes);
        let behind = waiting(&lanes);
        let leaver = spawn(move || drop(leaves));
        let taker = spawn(move || block_on(behind).map(|lease| *lease));
        assert!(lanes.push(1, 10).is_ok());
        leaver.join().unwrap();
        assert_eq!(taker.join().unwrap(), Some(10));
        assert_idle(&lanes);
    });
}

// A lease is given back while another is pushed to its key and somebody takes: the item that was given back is had first, and none is lost.
#[test]
fn give_back_vs_take() {
    model::check(|| {
        let lanes = filled(&[(1, 10)]);
        let lease = lanes.try_take().unwrap();
        let holder = spawn(move || lease.give_back());
        let pusher = {
            let lanes = lanes.clone();
            spawn(move || assert!(lanes.push(1, 11).is_ok()))
        };
        let first = block_on(lanes.take()).map(|lease| *lease);
        let second = block_on(lanes.take()).map(|lease| *lease);
        assert_eq!((first, second), (Some(10), Some(11)));
        holder.join().unwrap();
        pusher.join().unwrap();
        assert_idle(&lanes);
    });
}

// A close while the last lease is dropped, and somebody waits: it must hear that it is over.
#[test]
fn close_vs_hand_on() {
    model::check(|| {
        let lanes = filled(&[(1, 10)]);
        let lease = lanes.try_take().unwrap();
        let waits = waiting(&lanes);
        let holder = spawn(move || drop(lease));
        let taker = spawn(move || block_on(waits).is_none());
        lanes.close();
        assert!(block_on(lanes.take()).is_none());
        assert!(taker.join().unwrap());
        holder.join().unwrap();
        assert_idle(&lanes);
    });
}
