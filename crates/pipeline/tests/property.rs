//! Random chains, failures, stops and cancels against a sequential model; the counts always add up.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

mod support;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proptest::prelude::*;
use selvedge_cancel::{CauseKind, Context};
use selvedge_pipeline::Build;
use selvedge_pipeline::seams::Fallible;
use selvedge_pipeline::{Ended, Order, PipelineError, Stage, from_iter, generate};
use selvedge_pool::Pool;
use selvedge_testkit::watchdog;
use support::{Broken, LIMIT, alive, assert_sums, one_thread, pool, two_threads};
use tokio::task::yield_now;

/// Makes enough of them that the items that go through stages are far more than 100,000.
const CASES: u32 = 1000;

static POOL: LazyLock<Arc<Pool>> = LazyLock::new(|| pool(2));

/// How a stage of the chain works.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Fused,
    Workers { workers: usize, more: usize, order: Order, yields: u64 },
    Blocking { window: usize, order: Order },
}

impl Kind {
    fn is_ordered(self) -> bool {
        match self {
            Self::Fused => true,
            Self::Workers { order, .. } | Self::Blocking { order, .. } => order == Order::Ordered,
        }
    }
}

/// What happens to the run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Nothing,
    /// The stage fails at the item with that value.
    Fail(usize, u64),
    /// The stage panics at it.
    Panic(usize, u64),
    /// The stage fails at it, and skips it.
    Skip(usize, u64),
    /// The sink fails after so many.
    Full(usize),
    /// Stopped by the sink after so many.
    Stop(usize),
    /// Cancelled by the sink after so many.
    Cancel(usize),
}

#[derive(Debug, Clone, Copy)]
struct Case {
    items: u64,
    generator: bool,
    /// Items divisible by this are filtered out between the stages; none if zero.
    filter: u64,
    stages: [Kind; 2],
    event: Event,
    two_threads: bool,
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![2 => Just(Order::Ordered), 1 => Just(Order::Unordered)]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        2 => Just(Kind::Fused),
        4 => (1..5usize, 0..5usize, order(), 0..4u64)
            .prop_map(|(workers, more, order, yields)| Kind::Workers { workers, more, order, yields }),
        2 => (1..6usize, order()).prop_map(|(window, order)| Kind::Blocking { window, order }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Nothing),
        3 => (0..2usize, 0..150u64).prop_map(|(stage, at)| Event::Fail(stage, at)),
        1 => (0..2usize, 0..150u64).prop_map(|(stage, at)| Event::Panic(stage, at)),
        2 => (0..2usize, 0..150u64).prop_map(|(stage, at)| Event::Skip(stage, at)),
        1 => (0..100usize).prop_map(Event::Full),
        2 => (1..100usize).prop_map(Event::Stop),
        3 => (1..100usize).prop_map(Event::Cancel),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let filter = prop_oneof![Just(0), 2..6u64];
    (0..150u64, any::<bool>(), filter, [kind(), kind()], event(), any::<bool>()).prop_map(
        |(items, generator, filter, stages, event, two_threads)| Case {
            items,
            generator,
            filter,
            stages,
            event,
            two_threads,
        },
    )
}

/// What stage number `stage` does to an item, by itself.
fn work(event: Event, stage: usize, n: u64) -> Result<u64, Broken> {
    match event {
        Event::Fail(at, item) | Event::Skip(at, item) if (at, item) == (stage, n) => Err(Broken(n)),
        Event::Panic(at, item) if (at, item) == (stage, n) => panic!("told to"),
        _ => Ok(n),
    }
}

const NAMES: [&str; 2] = ["first", "second"];

impl Case {
    fn run(self) -> Ended<Vec<u64>> {
        let runtime = if self.two_threads { two_threads() } else { one_thread() };
        let ended = runtime.block_on(async {
            if self.generator {
                let source = generate(move |y| async move {
                    for n in 0..self.items {
                        y.give(n).await;
                        if n % 16 == 0 {
                            yield_now().await;
                        }
                    }
                    Ok::<_, Broken>(())
                });
                self.first(source).await
            } else {
                self.first(from_iter(0..self.items)).await
            }
        });
        while alive(runtime.handle()) > 0 {
            std::thread::yield_now();
        }
        ended
    }

    /// The stage of that number, under its name and its policy.
    fn skips<S: Fallible>(self, number: usize, stage: Stage<S>) -> Stage<S> {
        let stage = stage.named(NAMES[number]);
        match self.event {
            Event::Skip(at, _) if at == number => stage.skip_failed(drop),
            _ => stage,
        }
    }

    async fn first<S: Build<Item = u64>>(self, source: Stage<S>) -> Ended<Vec<u64>> {
        let (event, keep) =
            (self.event, move |n: &u64| self.filter == 0 || !n.is_multiple_of(self.filter));
        let source = source.named("source");
        match self.stages[0] {
            Kind::Fused => {
                let stage = source.try_map(move |n| work(event, 0, n));
                self.second(self.skips(0, stage).filter(keep)).await
            }
            Kind::Workers { workers, more, order, yields } => {
                let stage = source.workers(workers, order, move |n| async move {
                    for _ in 0..(n * 31) % (yields + 1) {
                        yield_now().await;
                    }
                    work(event, 0, n)
                });
                let stage = self.skips(0, stage.window(workers + more));
                self.second(stage.filter(keep)).await
            }
            Kind::Blocking { window, order } => {
                let stage = source.blocking(&POOL, window, order, move |n, _| work(event, 0, n));
                self.second(self.skips(0, stage).filter(keep)).await
            }
        }
    }

    async fn second<S: Build<Item = u64>>(self, source: Stage<S>) -> Ended<Vec<u64>> {
        let (event, source) = (self.event, source.named("kept"));
        match self.stages[1] {
            Kind::Fused => {
                let stage = source.try_map(move |n| work(event, 1, n));
                self.sink(self.skips(1, stage)).await
            }
            Kind::Workers { workers, more, order, yields } => {
                let stage = source.workers(workers, order, move |n| async move {
                    for _ in 0..(n * 17) % (yields + 1) {
                        yield_now().await;
                    }
                    work(event, 1, n)
                });
                self.sink(self.skips(1, stage.window(workers + more))).await
            }
            Kind::Blocking { window, order } => {
                let stage = source.blocking(&POOL, window, order, move |n, _| work(event, 1, n));
                self.sink(self.skips(1, stage)).await
            }
        }
    }

    async fn sink<S: Build<Item = u64>>(self, stage: Stage<S>) -> Ended<Vec<u64>> {
        let (ctx, canceller) = Context::background().child();
        let taken = Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = Arc::clone(&taken);
        let run = stage.try_for_each(move |n| {
            let mut taken = sink.lock().unwrap();
            if self.event == Event::Full(taken.len()) {
                return Err(Broken(n));
            }
            taken.push(n);
            match self.event {
                Event::Stop(after) if after == taken.len() => canceller.stop(Duration::MAX),
                Event::Cancel(after) if after == taken.len() => canceller.cancel(),
                _ => {}
            }
            Ok(())
        });
        let Ended { report, error, .. } = run.named("sink").run(&ctx).await;
        let mut ended = from_iter([]).collect().run(&Context::background()).await;
        (ended.report, ended.error) = (report, error);
        ended.output = std::mem::take(&mut *taken.lock().unwrap());
        ended
    }

    fn is_ordered(self) -> bool {
        self.stages.iter().all(|stage| stage.is_ordered())
    }

    /// What passes the filter and is not skipped, in order.
    fn kept(self) -> Vec<u64> {
        let kept = |n: &u64| self.filter == 0 || !n.is_multiple_of(self.filter);
        let skipped = |n: &u64| matches!(self.event, Event::Skip(_, item) if item == *n);
        (0..self.items).filter(|n| kept(n) && !skipped(n)).collect()
    }

    /// Where the failing stage fails, if the item gets there: the item's number in that stage.
    fn fails_at(self) -> Option<(usize, u64, u64)> {
        let (Event::Fail(stage, item) | Event::Panic(stage, item)) = self.event else {
            return None;
        };
        if stage == 0 {
            return (item < self.items).then_some((stage, item, item));
        }
        let number = self.kept().iter().position(|n| *n == item)?;
        Some((stage, item, number as u64))
    }
}

/// Compares a run with what the documentation says.
fn check(case: Case, ended: &Ended<Vec<u64>>) {
    assert_sums(&ended.report);
    let (all, output) = (case.kept(), &ended.output);
    let mut sorted = output.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), output.len(), "an item came out twice");
    assert!(sorted.iter().all(|n| all.contains(n)), "an item came from nowhere");
    if case.is_ordered() {
        assert_eq!(&sorted, output, "out of order");
    }
    let complete = sorted == all;
    let count = |name: &str| ended.report.stage(name).unwrap();
    assert_eq!(count("sink").passed, output.len() as u64);
    assert_eq!(count("source").failed + count("source").left + count("kept").left, 0);

    let failure = case.fails_at();
    let full = matches!(case.event, Event::Full(after) if after < all.len());
    match &ended.error {
        None => {
            assert!(complete && failure.is_none() && !full, "it ended early without an error");
            assert_eq!(ended.report.left(), 0);
            assert_eq!(count("source").entered, case.items);
        }
        Some(PipelineError::Ended(cause)) => match case.event {
            Event::Stop(after) => {
                assert_eq!(cause.kind(), CauseKind::Stopped);
                assert_eq!(ended.report.left(), 0, "accepted and not delivered");
                assert!(output.len() >= after);
                if case.is_ordered() {
                    assert_eq!(output[..], all[..output.len()], "there is a gap");
                }
            }
            Event::Cancel(after) => {
                assert_eq!(cause.kind(), CauseKind::Cancelled);
                assert!(output.len() >= after);
            }
            other => panic!("{other:?} ended by {cause}"),
        },
        Some(PipelineError::Failed { stage, index, error }) if stage == "sink" => {
            assert!(full);
            assert_eq!((*index as usize, output.len()), (output.len(), *index as usize));
            assert!(error.downcast_ref::<Broken>().is_some());
        }
        Some(error) => {
            let (number, item, place) = failure.expect("nothing was to fail");
            let (stage, index) = match error {
                PipelineError::Failed { stage, index, error } => {
                    assert_eq!(error.downcast_ref::<Broken>(), Some(&Broken(item)));
                    assert!(matches!(case.event, Event::Fail(..)));
                    (stage, *index)
                }
                PipelineError::Panicked { stage, index, .. } => (stage, *index),
                other => panic!("{other:?}"),
            };
            assert_eq!(stage, NAMES[number]);
            assert_eq!(count(NAMES[number]).failed, 1);
            if case.stages[..number].iter().all(|stage| stage.is_ordered()) {
                assert_eq!(index, place);
            }
            if case.is_ordered() {
                let before: Vec<_> = all.iter().copied().filter(|n| *n < item).collect();
                assert_eq!(*output, before, "ordered: what comes before comes out, then nothing");
            }
        }
    }
    // What must end early did.
    if failure.is_some() || full {
        assert!(ended.error.is_some());
    }
    if matches!(case.event, Event::Nothing | Event::Skip(..)) {
        assert!(ended.error.is_none());
    }
    let skipped = |number: usize| match case.event {
        Event::Skip(at, item) if at == number => match number {
            0 => u64::from(item < case.items),
            _ => u64::from(
                item < case.items && (case.filter == 0 || !item.is_multiple_of(case.filter)),
            ),
        },
        _ => 0,
    };
    for (number, name) in NAMES.into_iter().enumerate() {
        assert_eq!(count(name).skipped, skipped(number));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_random_chain_does_what_the_sequential_model_does(case in case()) {
        let ended = watchdog(LIMIT, "a random chain", move || case.run());
        check(case, &ended);
    }
}
