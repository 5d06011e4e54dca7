//! Random operations on a pool of tasks against a sequential model of it: after each, the ledger,
//! the line, what runs, what has come out, and how everything ended are what the model says.
//!
//! The workers are on an executor that is stepped by hand until nothing moves, so the model needs no
//! notion of time. 1300 cases of 80 operations.
#![cfg(not(selvedge_loom))]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::pin::{Pin, pin};
use std::task::Poll;

use proptest::prelude::*;
use selvedge_pool::{
    JobError, JobHandle, Ledger, Pool, ReserveResult, Results, Slot, Submit, Submitter, Tasks,
    TrySubmitError,
};
use selvedge_testkit::{ManualExecutor, next};
use support::{Gate, Pass, now, poll_once, tasks};

/// What a test does next. Numbers are taken modulo what there is.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// Submits and waits in line if need be.
    Submit,
    /// Submits without waiting.
    TrySubmit,
    /// Reserves a slot if there is room at once.
    Reserve,
    /// Uses a slot.
    Use(usize),
    /// Drops a slot.
    Return(usize),
    /// Drops one who waits in line.
    GiveUp(usize),
    /// Lets a running job end.
    End(usize, bool),
    /// Submits to the stream if there are place and room at once.
    Feed,
    /// Takes a result from the stream.
    Take,
    /// Drops the stream.
    Detach,
    /// Stops the pool.
    Stop,
    /// Aborts it.
    Abort,
    /// Drops the workers.
    Lose,
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..16_usize;
    prop_oneof![
        12 => Just(Op::Submit),
        6 => Just(Op::TrySubmit),
        4 => Just(Op::Reserve),
        3 => n.clone().prop_map(Op::Use),
        2 => n.clone().prop_map(Op::Return),
        2 => n.clone().prop_map(Op::GiveUp),
        20 => (n, prop::bool::weighted(0.2)).prop_map(|(n, panics)| Op::End(n, panics)),
        6 => Just(Op::Feed),
        6 => Just(Op::Take),
        1 => Just(Op::Detach),
    ]
}

/// How it ends, after the operations.
fn last() -> impl Strategy<Value = Op> {
    prop_oneof![Just(Op::Stop), Just(Op::Abort), Just(Op::Lose)]
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Finished,
    Panicked,
    Cancelled,
}

/// How far the pool's end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Closed,
    Aborted,
}

/// The sequential model. Jobs are known by number.
struct Model {
    workers: usize,
    capacity: usize,
    places: usize,
    phase: Phase,
    queue: VecDeque<usize>,
    running: Vec<usize>,
    /// Who waits in line, by the number of the job.
    line: VecDeque<usize>,
    reserved: usize,
    ledger: Counts,
    fates: BTreeMap<usize, Fate>,
    /// Of the jobs of the stream: the index.
    fed: BTreeMap<usize, u64>,
    /// Results that lie on the board.
    board: VecDeque<u64>,
    detached: bool,
}

/// What a ledger counts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    accepted: u64,
    finished: u64,
    panicked: u64,
    cancelled: u64,
    refused: u64,
}

impl Model {
    fn has_room(&self) -> bool {
        self.queue.len() + self.reserved < self.capacity
    }

    fn accept(&mut self, job: usize) {
        self.ledger.accepted += 1;
        if self.phase == Phase::Aborted {
            self.end(job, Fate::Cancelled);
        } else {
            self.queue.push_back(job);
        }
    }

    fn end(&mut self, job: usize, fate: Fate) {
        match fate {
            Fate::Finished => self.ledger.finished += 1,
            Fate::Panicked => self.ledger.panicked += 1,
            Fate::Cancelled => self.ledger.cancelled += 1,
        }
        self.fates.insert(job, fate);
        if let Some(&index) = self.fed.get(&job)
            && !self.detached
        {
            self.board.push_back(index);
        }
    }

    /// Places that are free on the board.
    fn has_place(&self) -> bool {
        let under_way = self.fed.keys().filter(|job| !self.fates.contains_key(job)).count();
        self.detached || under_way + self.board.len() < self.places
    }

    /// What happens by itself, until nothing does.
    fn settle(&mut self) {
        if self.phase != Phase::Open {
            self.ledger.refused += self.line.len() as u64;
            self.line.clear();
        }
        loop {
            if self.running.len() < self.workers
                && let Some(job) = self.queue.pop_front()
            {
                self.running.push(job);
            } else if self.has_room()
                && let Some(job) = self.line.pop_front()
            {
                self.accept(job);
            } else {
                break;
            }
        }
    }

    fn abort(&mut self) {
        self.phase = Phase::Aborted;
        // What is queued goes first, on the thread that aborts; then the workers let go.
        for job in std::mem::take(&mut self.queue) {
            self.end(job, Fate::Cancelled);
        }
        for job in std::mem::take(&mut self.running) {
            self.end(job, Fate::Cancelled);
        }
    }
}

/// Reads what became of a job, once it has a handle.
fn fate(handle: JobHandle<usize>, job: usize) -> Fate {
    match now(handle) {
        Ok(result) => {
            assert_eq!(result, job);
            Fate::Finished
        }
        Err(JobError::Panicked(_)) => Fate::Panicked,
        Err(JobError::Cancelled(_)) => Fate::Cancelled,
        Err(other) => panic!("{other}"),
    }
}

type Job = Box<dyn FnOnce(selvedge_cancel::Context) -> Waiting + Send>;
type Waiting = Pin<Box<dyn Future<Output = usize> + Send>>;

/// Somebody in line.
type Waits<'p> = Pin<Box<Submit<'p, Job, usize>>>;

/// The real pool beside the model.
struct Both<'p> {
    pool: &'p Pool<Tasks>,
    executor: ManualExecutor<'p>,
    submitter: Submitter<usize, Tasks>,
    results: Option<Results<usize>>,
    model: Model,
    gates: Vec<Gate>,
    line: Vec<(usize, Waits<'p>)>,
    slots: Vec<Slot<Tasks>>,
    handles: BTreeMap<usize, JobHandle<usize>>,
}

impl Both<'_> {
    /// A job with a number of its own.
    fn job(&mut self) -> (usize, Job) {
        let (number, gate) = (self.gates.len(), Gate::default());
        self.gates.push(gate.clone());
        let job: Job = Box::new(move |_| {
            Box::pin(async move {
                gate.pass().await;
                number
            })
        });
        (number, job)
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Submit => {
                let (number, job) = self.job();
                self.line.push((number, Box::pin(self.pool.submit(job))));
                if self.model.line.is_empty() && self.model.has_room() {
                    self.model.accept(number);
                } else {
                    self.model.line.push_back(number);
                }
                self.poll_line();
            }
            Op::TrySubmit => {
                let (number, job) = self.job();
                match self.pool.try_submit(job) {
                    Ok(handle) => {
                        assert!(self.model.line.is_empty() && self.model.has_room());
                        self.handles.insert(number, handle);
                        self.model.accept(number);
                    }
                    Err(TrySubmitError::Full(_)) => {
                        assert!(!self.model.line.is_empty() || !self.model.has_room());
                        self.model.ledger.refused += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            Op::Reserve => match poll_once(pin!(self.pool.reserve())) {
                Poll::Ready(slot) => {
                    assert!(self.model.line.is_empty() && self.model.has_room());
                    self.slots.push(slot.unwrap());
                    self.model.reserved += 1;
                }
                Poll::Pending => assert!(!self.model.line.is_empty() || !self.model.has_room()),
            },
            Op::Use(n) if !self.slots.is_empty() => {
                let slot = self.slots.remove(n % self.slots.len());
                let (number, job) = self.job();
                self.handles.insert(number, slot.submit(job));
                self.model.reserved -= 1;
                self.model.accept(number);
            }
            Op::Return(n) if !self.slots.is_empty() => {
                drop(self.slots.remove(n % self.slots.len()));
                self.model.reserved -= 1;
            }
            Op::GiveUp(n) if !self.line.is_empty() => {
                let (number, submit) = self.line.remove(n % self.line.len());
                drop(submit);
                self.model.line.retain(|&waiting| waiting != number);
            }
            Op::End(n, panics) if !self.model.running.is_empty() => {
                let number = self.model.running.remove(n % self.model.running.len());
                self.gates[number].open(if panics { Pass::Panic } else { Pass::Open });
                self.model.end(number, if panics { Fate::Panicked } else { Fate::Finished });
            }
            Op::Feed => {
                let index = self.model.fed.len() as u64;
                let mut reserve: Pin<Box<ReserveResult<'_, usize, Tasks>>> =
                    Box::pin(self.submitter.reserve());
                let polled = poll_once(reserve.as_mut());
                drop(reserve);
                match polled {
                    Poll::Ready(slot) => {
                        assert!(self.model.has_place());
                        assert!(self.model.line.is_empty() && self.model.has_room());
                        let (number, job) = self.job();
                        assert_eq!(slot.unwrap().submit(job), index);
                        self.model.fed.insert(number, index);
                        self.model.accept(number);
                    }
                    Poll::Pending => assert!(
                        !self.model.has_place()
                            || !self.model.line.is_empty()
                            || !self.model.has_room()
                    ),
                }
            }
            Op::Take => {
                if let Some(results) = &mut self.results {
                    let expected = self.model.board.pop_front();
                    match poll_once(pin!(next(results))) {
                        Poll::Ready(completed) => {
                            assert_eq!(completed.map(|completed| completed.index), expected);
                        }
                        Poll::Pending => assert_eq!(expected, None),
                    }
                }
            }
            Op::Detach => {
                self.results = None;
                self.model.detached = true;
                self.model.board.clear();
            }
            Op::Stop => {
                self.pool.stop();
                self.model.phase = Phase::Closed;
            }
            Op::Abort | Op::Lose => {
                match op {
                    Op::Abort => self.pool.abort(),
                    _ => self.executor = ManualExecutor::new(),
                }
                self.model.abort();
            }
            Op::Use(_) | Op::Return(_) | Op::GiveUp(_) | Op::End(..) => {}
        }
        self.model.settle();
        loop {
            let waiting = self.line.len();
            let polls = self.executor.run_until_stalled();
            self.poll_line();
            if polls == 0 && self.line.len() == waiting {
                break;
            }
        }
        self.check();
    }

    /// Polls those who wait, in an order that is not the line's.
    fn poll_line(&mut self) {
        let mut waiting = Vec::new();
        for (number, mut submit) in std::mem::take(&mut self.line).into_iter().rev() {
            match poll_once(submit.as_mut()) {
                Poll::Ready(Ok(handle)) => drop(self.handles.insert(number, handle)),
                Poll::Ready(Err(_)) => {}
                Poll::Pending => waiting.push((number, submit)),
            }
        }
        waiting.reverse();
        self.line = waiting;
    }

    fn check(&mut self) {
        let Ledger { accepted, finished, panicked, cancelled, refused, queued, running, .. } =
            self.pool.ledger();
        assert!(self.pool.ledger().adds_up());
        let counts = Counts { accepted, finished, panicked, cancelled, refused };
        assert_eq!(counts, self.model.ledger);
        assert_eq!(queued, self.model.queue.len() as u64);
        assert_eq!(running, self.model.running.len() as u64);
        let line: Vec<_> = self.line.iter().map(|(number, _)| *number).collect();
        assert_eq!(line, Vec::from(self.model.line.clone()));
        let ended: Vec<_> =
            self.handles.iter().filter(|(_, h)| h.is_finished()).map(|(n, _)| *n).collect();
        for number in ended {
            let handle = self.handles.remove(&number).expect("just found");
            assert_eq!(Some(&fate(handle, number)), self.model.fates.get(&number));
        }
        assert!(self.handles.keys().all(|number| !self.model.fates.contains_key(number)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_pool_of_tasks_does_what_its_model_does(
        workers in 1..4_usize,
        capacity in 1..5_usize,
        places in 1..5_usize,
        ops in prop::collection::vec(op(), 80),
        last in last(),
    ) {
        let (pool, crew) = tasks(workers, capacity);
        let mut executor = ManualExecutor::new();
        for worker in crew {
            executor.spawn(worker);
        }
        let (submitter, results) = pool.results(places).unwrap();
        let model = Model {
            workers,
            capacity,
            places,
            phase: Phase::Open,
            queue: VecDeque::new(),
            running: Vec::new(),
            line: VecDeque::new(),
            reserved: 0,
            ledger: Counts::default(),
            fates: BTreeMap::new(),
            fed: BTreeMap::new(),
            board: VecDeque::new(),
            detached: false,
        };
        let mut both = Both {
            pool: &pool,
            executor,
            submitter,
            results: Some(results),
            model,
            gates: Vec::new(),
            line: Vec::new(),
            slots: Vec::new(),
            handles: BTreeMap::new(),
        };
        both.executor.run_until_stalled();
        for op in ops {
            both.apply(op);
        }
        both.apply(last);
        // Then everything that is left is let go, and the pool ends.
        while !both.slots.is_empty() {
            both.apply(Op::Use(0));
        }
        while !both.model.running.is_empty() {
            both.apply(Op::End(0, false));
        }
        let ledger = now(pool.wait());
        assert!(ledger.adds_up() && (ledger.queued, ledger.running) == (0, 0), "{ledger}");
        assert!(both.handles.is_empty() && both.line.is_empty());
        // What is on the board comes out, then the end, although the submitter lives.
        if let Some(mut results) = both.results.take() {
            while let Poll::Ready(Some(completed)) = poll_once(pin!(next(&mut results))) {
                assert!(both.model.board.contains(&completed.index));
                both.model.board.retain(|&index| index != completed.index);
            }
            assert!(both.model.board.is_empty());
            assert!(matches!(poll_once(pin!(next(&mut results))), Poll::Ready(None)));
        }
    }
}
