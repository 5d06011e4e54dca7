//! The single flight against a sequential model of what its documentation says.
#![cfg(not(selvedge_loom))]

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_sync::{SingleFlight, Timer};
use selvedge_testkit::CountingWaker;

type Outcome = Result<u32, u32>;

/// What may be done. Numbers that choose a call or a flight go round.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Call for a key, and poll once or not yet.
    Call(u8, bool),
    /// Poll a call.
    Poll(usize),
    /// Drop a call.
    Leave(usize),
    /// Wake the work of a flight.
    Wake(usize),
    /// End the work of a flight, with a value or an error.
    Finish(usize, bool),
    /// Forget a key.
    Forget(u8),
    /// So many seconds pass.
    Pass(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..4u8;
    prop_oneof![
        6 => (key.clone(), any::<bool>()).prop_map(|(key, polls)| Step::Call(key, polls)),
        6 => any::<usize>().prop_map(Step::Poll),
        3 => any::<usize>().prop_map(Step::Leave),
        2 => any::<usize>().prop_map(Step::Wake),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, good)| Step::Finish(which, good)),
        1 => key.prop_map(Step::Forget),
        1 => (0..3u8).prop_map(Step::Pass),
    ]
}

/// The work of a flight, seen from outside.
#[derive(Default)]
struct Work {
    waker: Option<Waker>,
    result: Option<Outcome>,
    polls: usize,
    dropped: bool,
}

/// Its future.
struct Working(Arc<Mutex<Work>>);

impl Future for Working {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut work = self.0.lock().unwrap();
        work.polls += 1;
        work.waker = Some(cx.waker().clone());
        work.result.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.lock().unwrap().dropped = true;
    }
}

/// A flight of the model.
struct Flight {
    key: u8,
    callers: BTreeSet<usize>,
    woken: bool,
    polls: usize,
    /// How the work will end, or has.
    result: Option<Outcome>,
    landed: bool,
    /// Landed, or left by all.
    over: bool,
}

/// A call that is under way.
struct Call {
    future: Pin<Box<dyn Future<Output = Outcome>>>,
    waker: CountingWaker,
    key: u8,
    flight: Option<usize>,
    /// How often it has to have been woken at least.
    wakes: usize,
    /// Whether it was woken and not polled since.
    poked: bool,
}

/// What the documentation says, one call after the other.
struct Model {
    flights: Vec<Flight>,
    /// Which flight later callers of a key find.
    map: BTreeMap<u8, usize>,
    /// What is kept, and until when.
    kept: BTreeMap<u8, (Outcome, u64)>,
    keeps: [u64; 2],
    now: u64,
}

impl Model {
    /// What a poll of a call gives.
    fn poll(&mut self, id: usize, key: u8, flight: &mut Option<usize>) -> Poll<Outcome> {
        if flight.is_none() {
            let kept = self.kept.get(&key).filter(|(_, until)| *until > self.now);
            if let Some(&(result, _)) = kept {
                return Poll::Ready(result);
            }
            let found = *self.map.entry(key).or_insert_with(|| {
                self.flights.push(Flight {
                    key,
                    callers: BTreeSet::new(),
                    woken: true,
                    polls: 0,
                    result: None,
                    landed: false,
                    over: false,
                });
                self.flights.len() - 1
            });
            self.flights[found].callers.insert(id);
            *flight = Some(found);
            self.kept.remove(&key);
        }
        let at = flight.expect("boarded above");
        let flight = &mut self.flights[at];
        if !flight.landed && flight.woken {
            flight.woken = false;
            flight.polls += 1;
            if let Some(result) = flight.result {
                (flight.landed, flight.over) = (true, true);
                let key = flight.key;
                if self.map.get(&key) == Some(&at) {
                    self.map.remove(&key);
                    let time = self.keeps[usize::from(result.is_err())];
                    if time > 0 {
                        self.kept.insert(key, (result, self.now + time));
                    }
                }
            }
        }
        let flight = &mut self.flights[at];
        if flight.landed {
            flight.callers.remove(&id);
            return Poll::Ready(flight.result.expect("landed with it"));
        }
        Poll::Pending
    }

    fn leave(&mut self, id: usize, flight: usize) {
        let left = &mut self.flights[flight];
        left.callers.remove(&id);
        if left.callers.is_empty() && !left.over {
            left.over = true;
            if self.map.get(&left.key) == Some(&flight) {
                self.map.remove(&left.key);
            }
        }
    }
}

fn compare(steps: &[Step], keeps: [u64; 2]) {
    let (timer, clock) = Timer::manual();
    let flights: SingleFlight<u8, u32, u32> = SingleFlight::builder()
        .keep_values(Duration::from_secs(keeps[0]))
        .keep_errors(Duration::from_secs(keeps[1]))
        .timer(timer)
        .build();
    let mut model =
        Model { flights: Vec::new(), map: BTreeMap::new(), kept: BTreeMap::new(), keeps, now: 0 };
    let works: Arc<Mutex<Vec<Arc<Mutex<Work>>>>> = Arc::default();
    let mut calls: BTreeMap<usize, Call> = BTreeMap::new();
    let mut next = 0;
    for &step in steps {
        let pick = |which: usize, calls: &BTreeMap<usize, Call>| {
            calls.keys().nth(which % calls.len().max(1)).copied()
        };
        let mut polls = None;
        match step {
            Step::Call(key, at_once) => {
                let works = Arc::clone(&works);
                let future = Box::pin(flights.run_owned(key, move || {
                    let work = Arc::new(Mutex::new(Work::default()));
                    works.lock().unwrap().push(Arc::clone(&work));
                    Working(work)
                }));
                let call = Call {
                    future,
                    waker: CountingWaker::new(),
                    key,
                    flight: None,
                    wakes: 0,
                    poked: false,
                };
                calls.insert(next, call);
                polls = at_once.then_some(next);
                next += 1;
            }
            Step::Poll(which) => polls = pick(which, &calls),
            Step::Leave(which) => {
                if let Some(id) = pick(which, &calls) {
                    let call = calls.remove(&id).unwrap();
                    if let Some(flight) = call.flight {
                        model.leave(id, flight);
                    }
                }
            }
            Step::Wake(which) | Step::Finish(which, _) => {
                let live: Vec<_> =
                    (0..model.flights.len()).filter(|&at| !model.flights[at].over).collect();
                if !live.is_empty() {
                    let at = live[which % live.len()];
                    if let Step::Finish(_, good) = step {
                        let number = u32::try_from(at).unwrap();
                        let result = if good { Ok(number) } else { Err(number) };
                        model.flights[at].result = Some(result);
                        works.lock().unwrap()[at].lock().unwrap().result = Some(result);
                    }
                    let fresh = !model.flights[at].woken;
                    model.flights[at].woken = true;
                    for id in &model.flights[at].callers {
                        let call = calls.get_mut(id).unwrap();
                        call.wakes = call.waker.wakes() + usize::from(fresh && !call.poked);
                        call.poked |= fresh;
                    }
                    let waker = works.lock().unwrap()[at].lock().unwrap().waker.clone();
                    waker.expect("it was polled").wake();
                }
            }
            Step::Forget(key) => {
                flights.forget(&key);
                model.map.remove(&key);
                model.kept.remove(&key);
            }
            Step::Pass(seconds) => {
                model.now += u64::from(seconds);
                clock.advance(Duration::from_secs(u64::from(seconds)));
            }
        }
        if let Some(id) = polls {
            let call = calls.get_mut(&id).unwrap();
            let polled = call.future.as_mut().poll(&mut Context::from_waker(&call.waker.waker()));
            assert_eq!(polled, model.poll(id, call.key, &mut call.flight));
            call.poked = false;
            if polled.is_ready() {
                calls.remove(&id);
            }
        }
        for call in calls.values() {
            assert!(call.waker.wakes() >= call.wakes, "a wake-up is lost");
        }
        let works = works.lock().unwrap();
        assert_eq!(works.len(), model.flights.len());
        for (work, flight) in works.iter().zip(&model.flights) {
            let work = work.lock().unwrap();
            assert_eq!((work.polls, work.dropped), (flight.polls, flight.over));
        }
        let kept = model.kept.values().filter(|(_, until)| *until > model.now).count();
        assert!(flights.len() >= model.map.len() + kept);
        assert!(flights.len() <= model.map.len() + model.kept.len());
    }
    calls.clear();
    assert!(keeps != [0, 0] || flights.is_empty());
    assert!(works.lock().unwrap().iter().all(|work| work.lock().unwrap().dropped));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn it_does_what_its_documentation_says(steps in prop::collection::vec(step(), 0..200)) {
        compare(&steps, [0, 0]);
    }

    #[test]
    fn it_keeps_what_its_documentation_says(
        steps in prop::collection::vec(step(), 0..200),
        keeps in [0..4u64, 0..4u64],
    ) {
        compare(&steps, keeps);
    }
}
