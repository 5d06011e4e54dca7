//! Generators: when the body goes on, who may give, and what is lost when somebody goes. Most are
//! polled by hand, so that a wake too few hangs a test and one too many is counted.
#![cfg(all(not(selvedge_loom), feature = "tokio"))]

mod support;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{pending, poll_fn, ready};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{CauseKind, Context};
use selvedge_pipeline::{Ended, Give, PipelineError, Run, Yielder, generate};
use selvedge_testkit::{CountingWaker, PanickingWaker, block_on, watchdog};
use support::{
    Bomb, Broken, LIMIT, OnDrop, Tally, assert_sums, counts, error_of, failed, message_of,
    on_each_runtime, one_thread, panicked,
};
use tokio::sync::{Notify, oneshot};

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &CountingWaker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut TaskContext::from_waker(&waker.waker()))
}

/// A run of a generator whose body is polled once, has let its yielder out, and waits.
struct Escaped {
    run: Run<Vec<u64>>,
    task: CountingWaker,
    yielder: Yielder<u64>,
    /// Ends the body.
    end: Arc<Notify>,
    /// How often the body was polled.
    polls: Tally,
    canceller: selvedge_cancel::Canceller,
}

impl Escaped {
    fn new() -> Self {
        let (ctx, canceller) = Context::background().child();
        let (sender, receiver) = mpsc::channel();
        let (end, polls) = (Arc::new(Notify::new()), Tally::default());
        let (ended, counted) = (Arc::clone(&end), polls.clone());
        let stage = generate(move |y: Yielder<u64>| async move {
            sender.send(y).unwrap();
            let mut wait = pin!(ended.notified());
            poll_fn(|cx| {
                counted.add();
                wait.as_mut().poll(cx)
            })
            .await;
            Ok::<_, Infallible>(())
        });
        let (mut run, task) = (stage.collect().run(&ctx), CountingWaker::new());
        assert!(poll(&mut run, &task).is_pending());
        let yielder = receiver.recv().unwrap();
        Self { run, task, yielder, end, polls, canceller }
    }

    fn poll(&mut self) -> Poll<Ended<Vec<u64>>> {
        poll(&mut self.run, &self.task)
    }

    /// Ends the body and runs to the end.
    fn finish(mut self) -> Vec<u64> {
        self.end.notify_one();
        match self.poll() {
            Poll::Ready(ended) => {
                assert_sums(&ended.report);
                ended.ok().unwrap()
            }
            Poll::Pending => panic!("the body has ended"),
        }
    }
}

fn polled<T: Send + 'static>(give: &mut Pin<Box<Give<T>>>, waker: &CountingWaker) -> bool {
    poll(give, waker).is_ready()
}

// When the body goes on.

#[test]
fn the_body_goes_on_when_its_item_was_taken_and_not_before() {
    let log = Log::default();
    let (body, sink) = (log.clone(), log.clone());
    let stage = generate(move |y| async move {
        for n in 0..3 {
            body.add(format!("give {n}"));
            y.give(n).await;
            body.add(format!("gave {n}"));
        }
        Ok::<_, Infallible>(())
    });
    assert!(log.take().is_empty(), "a description does nothing");
    let run = stage.for_each(move |n| sink.add(format!("took {n}"))).run(&Context::background());
    assert!(log.take().is_empty(), "a future does nothing unless polled");
    block_on(run).ok().unwrap();
    let expected = ["give 0", "took 0", "gave 0", "give 1", "took 1", "gave 1", "give 2", "took 2"];
    assert_eq!(log.take()[..8], expected);
}

#[test]
fn a_body_that_gives_is_polled_once_an_item_and_wakes_nobody() {
    let polls = Tally::default();
    let counted = polls.clone();
    let stage = generate(move |y| {
        let mut body = Box::pin(async move {
            for n in 0..100 {
                y.give(n).await;
            }
            Ok::<_, Infallible>(())
        });
        poll_fn(move |cx| {
            counted.add();
            body.as_mut().poll(cx)
        })
    });
    let (mut run, task) =
        (stage.fold(0, |a, n| a + n).run(&Context::background()), CountingWaker::new());
    let Poll::Ready(ended) = poll(&mut run, &task) else { panic!("nothing waits") };
    assert_eq!(ended.ok().unwrap(), Some(4950));
    assert_eq!((polls.get(), task.wakes()), (101, 0));
    assert_eq!(task.live(), 0, "a waker stayed behind");
}

#[test]
fn a_put_does_not_wait_and_the_next_reserve_does() {
    let log = Log::default();
    let (body, sink) = (log.clone(), log.clone());
    let stage = generate(move |y| async move {
        y.reserve().await.put(0).unwrap();
        body.add("put 0");
        y.reserve().await.put(1).unwrap();
        body.add("put 1");
        Ok::<_, Infallible>(())
    });
    let run = stage.for_each(move |n| sink.add(format!("took {n}"))).run(&Context::background());
    block_on(run).ok().unwrap();
    // The last item lay in place when the body ended.
    assert_eq!(log.take(), ["put 0", "took 0", "put 1", "took 1"]);
}

#[test]
fn a_pending_body_is_polled_when_it_is_woken_and_not_before() {
    let mut source = Escaped::new();
    assert_eq!((source.polls.get(), source.task.wakes()), (1, 0));
    source.end.notify_one();
    assert_eq!(source.task.wakes(), 1);
    assert_eq!(source.polls.get(), 1);
    assert!(source.poll().is_ready());
    assert_eq!((source.polls.get(), source.task.wakes()), (2, 1));
}

// Who may give.

#[test]
fn two_gives_in_one_join_are_taken_in_turn() {
    let polls = Tally::default();
    let counted = polls.clone();
    let stage = generate(move |y| {
        let mut body = Box::pin(async move {
            for n in 0..10 {
                tokio::join!(y.give(2 * n), y.give(2 * n + 1));
            }
            Ok::<_, Infallible>(())
        });
        poll_fn(move |cx| {
            counted.add();
            body.as_mut().poll(cx)
        })
    });
    let ended = block_on(stage.collect().run(&Context::background()));
    assert_eq!(ended.ok().unwrap(), (0..20).collect::<Vec<_>>());
    assert!(polls.get() < 60, "{} polls for 20 items", polls.get());
}

/// A sub-executor: polls those of its futures that were woken, each with a waker of its own.
struct Several {
    futures: Vec<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    woken: Arc<Woken>,
    polls: Tally,
}

#[derive(Default)]
struct Woken {
    queue: Mutex<VecDeque<usize>>,
    parent: Mutex<Option<Waker>>,
}

struct Child(usize, Arc<Woken>);

impl Wake for Child {
    fn wake(self: Arc<Self>) {
        self.1.queue.lock().unwrap().push_back(self.0);
        let parent = self.1.parent.lock().unwrap().take();
        parent.into_iter().for_each(Waker::wake);
    }
}

impl Several {
    fn new(futures: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>, polls: &Tally) -> Self {
        let woken = Arc::new(Woken::default());
        woken.queue.lock().unwrap().extend(0..futures.len());
        Self { futures: futures.into_iter().map(Some).collect(), woken, polls: polls.clone() }
    }
}

impl Future for Several {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        *self.woken.parent.lock().unwrap() = Some(cx.waker().clone());
        loop {
            let next = self.woken.queue.lock().unwrap().pop_front();
            let Some(index) = next else { break };
            let waker = Waker::from(Arc::new(Child(index, Arc::clone(&self.woken))));
            let Some(future) = &mut self.futures[index] else { continue };
            let ready = future.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_ready();
            if ready {
                self.futures[index] = None;
            }
            self.polls.add();
        }
        if self.futures.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[test]
fn gives_under_a_sub_executor_are_woken_one_by_one() {
    let polls = Tally::default();
    let counted = polls.clone();
    let stage = generate(move |y| async move {
        let gives =
            (0..50).map(|n| Box::pin(y.give(n)) as Pin<Box<dyn Future<Output = ()> + Send>>);
        Several::new(gives.collect(), &counted).await;
        Ok::<_, Infallible>(())
    });
    let run = stage.collect().run(&Context::background());
    let ended = watchdog(LIMIT, "gives under a sub-executor", || block_on(run));
    assert_eq!(ended.ok().unwrap(), (0..50).collect::<Vec<_>>());
    // Queued, given a place, taken: no give is polled for nothing.
    assert!(polls.get() <= 150, "{} polls for 50 gives", polls.get());
}

#[test]
fn gives_from_spawned_tasks_and_from_threads_come_out_each_once() {
    on_each_runtime(|| async {
        let stage = generate(|y| async move {
            let tasks = (0..4).map(|t| {
                let y: Yielder<u64> = y.clone();
                tokio::spawn(async move {
                    for n in 0..25 {
                        y.give(100 * t + n).await;
                    }
                })
            });
            let tasks: Vec<_> = tasks.collect();
            let (done, joined) = oneshot::channel();
            let from_thread = y.clone();
            let thread = thread::spawn(move || {
                for n in 0..25 {
                    block_on(from_thread.give(400 + n));
                }
                done.send(()).unwrap();
            });
            for task in tasks {
                task.await.unwrap();
            }
            joined.await.unwrap();
            thread.join().unwrap();
            Ok::<_, Infallible>(())
        });
        let ended = stage.collect().run(&Context::background()).await;
        let taken = ended.ok().unwrap();
        for giver in 0..5 {
            let own: Vec<_> = taken.iter().copied().filter(|n| n / 100 == giver).collect();
            assert_eq!(own, (100 * giver..100 * giver + 25).collect::<Vec<_>>(), "{taken:?}");
        }
        assert_eq!(taken.len(), 125);
    });
}

#[test]
fn a_give_from_another_branch_of_the_same_task_is_woken() {
    // Both branches have the waker of the one task, and either may be polled first.
    for run_first in [true, false] {
        let (sender, receiver) = oneshot::channel();
        let (done, joined) = oneshot::channel();
        let stage = generate(move |y| async move {
            sender.send(y).unwrap();
            joined.await.unwrap();
            Ok::<_, Infallible>(())
        });
        let polls = Tally::default();
        let mut run = pin!(stage.collect().run(&Context::background()));
        let mut giver = pin!(async move {
            let y: Yielder<u64> = receiver.await.unwrap();
            for n in 0..10 {
                y.give(n).await;
            }
            done.send(()).unwrap();
        });
        let (mut ended, mut gave) = (None, false);
        let both = poll_fn(|cx| {
            polls.add();
            for branch in [run_first, !run_first] {
                if branch {
                    if ended.is_none()
                        && let Poll::Ready(end) = run.as_mut().poll(cx)
                    {
                        ended = Some(end);
                    }
                } else if !gave {
                    gave = giver.as_mut().poll(cx).is_ready();
                }
            }
            match gave {
                true => ended.take().map_or(Poll::Pending, Poll::Ready),
                false => Poll::Pending,
            }
        });
        let ended = block_on(both);
        assert_eq!(ended.ok().unwrap(), (0..10).collect::<Vec<_>>());
        assert!(polls.get() <= 25, "{} polls for 10 items", polls.get());
    }
}

#[test]
fn gives_at_once_are_served_in_the_order_in_which_they_were_first_polled() {
    let mut source = Escaped::new();
    let waker = CountingWaker::new();
    // Made in one order, polled in another.
    let mut gives: Vec<_> = (0..5).map(|n| Some(Box::pin(source.yielder.give(n)))).collect();
    for n in [3, 1, 4, 0, 2] {
        assert!(!polled(gives[n].as_mut().unwrap(), &waker));
    }
    for taken in 1..=5 {
        assert!(source.poll().is_pending());
        for give in &mut gives {
            if give.as_mut().is_some_and(|give| polled(give, &waker)) {
                *give = None;
            }
        }
        assert_eq!(gives.iter().flatten().count(), 5 - taken);
    }
    assert_eq!(source.finish(), [3, 1, 4, 0, 2]);
}

#[test]
fn a_put_from_elsewhere_wakes_the_source_once_and_its_giver_once() {
    let mut source = Escaped::new();
    let giver = CountingWaker::new();
    let mut give = Box::pin(source.yielder.give(7));
    assert!(!polled(&mut give, &giver));
    assert_eq!((source.task.wakes(), giver.wakes()), (1, 0));
    // Polled again meanwhile, it waits.
    assert!(!polled(&mut give, &giver));
    assert!(source.poll().is_pending());
    assert_eq!((source.task.wakes(), giver.wakes()), (1, 1));
    assert!(polled(&mut give, &giver));
    drop(give);
    assert_eq!(giver.live(), 0, "a waker stayed behind");
    assert_eq!(source.finish(), [7]);
}

#[test]
fn a_give_that_moves_to_another_task_wakes_that_one() {
    let mut source = Escaped::new();
    let (first, second) = (CountingWaker::new(), CountingWaker::new());
    let mut give = Box::pin(source.yielder.give(7));
    assert!(!polled(&mut give, &first));
    assert!(!polled(&mut give, &second));
    assert!(source.poll().is_pending());
    assert_eq!((first.wakes(), second.wakes()), (0, 1));
    assert!(polled(&mut give, &second));
}

// After the end.

#[test]
fn a_give_after_the_end_panics_with_the_place_of_its_caller() {
    let source = Escaped::new();
    let yielder = source.yielder.clone();
    assert!(source.finish().is_empty());
    let (line, give) = (line!(), yielder.give(1));
    let here = format!("{}:{line}:", file!());
    let message = message_of(AssertUnwindSafe(|| block_on(give)));
    assert!(message.starts_with("the generator of this yielder has ended"), "{message}");
    assert!(message.contains(&here), "{message} does not name {here}");
    let message = message_of(AssertUnwindSafe(|| block_on(yielder.reserve())));
    assert!(message.contains(file!()), "{message}");
}

#[test]
fn those_who_wait_at_the_end_are_woken_and_panic() {
    for dropped in [false, true] {
        let source = Escaped::new();
        let waker = CountingWaker::new();
        let yielder = source.yielder.clone();
        let room = block_on(yielder.reserve());
        let mut waiting = Box::pin(yielder.give(1));
        assert!(!polled(&mut waiting, &waker));
        if dropped {
            drop(source);
        } else {
            assert!(source.finish().is_empty());
        }
        assert_eq!(waker.wakes(), 1);
        let message = message_of(AssertUnwindSafe(|| polled(&mut waiting, &waker)));
        assert!(message.contains("has ended"), "{message}");
        // What was meant for a room that is left over comes back.
        assert_eq!(room.put(2), Err(2));
    }
}

// Dropped on the way.

#[test]
fn a_give_dropped_before_its_item_has_a_place_drops_the_item() {
    let drops = Tally::default();
    let counted = drops.clone();
    let stage = generate(move |y| async move {
        let first = y.give(OnDrop(counted.clone()));
        let second = y.give(OnDrop(counted.clone()));
        let mut first = Box::pin(first);
        let mut second = Box::pin(second);
        // The first has the place, the second waits for it.
        poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending());
            assert!(second.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(second);
        assert_eq!(counted.get(), 1, "the item went with its future");
        // Dropped after, it is given.
        drop(first);
        assert_eq!(counted.get(), 1);
        y.give(OnDrop(counted.clone())).await;
        Ok::<_, Infallible>(())
    });
    let ended = block_on(stage.collect().run(&Context::background()));
    let taken = ended.ok().unwrap();
    assert_eq!((taken.len(), drops.get()), (2, 1));
}

#[test]
fn a_place_that_is_given_back_goes_to_the_next_in_line() {
    let mut source = Escaped::new();
    let (first, second) = (CountingWaker::new(), CountingWaker::new());
    let room = block_on(source.yielder.reserve());
    let mut waiting = Box::pin(source.yielder.give(1));
    let mut behind = Box::pin(source.yielder.give(2));
    assert!(!polled(&mut waiting, &first) && !polled(&mut behind, &second));
    drop(room);
    assert_eq!((first.wakes(), second.wakes()), (1, 0));
    // Promised to the first, which goes without having been polled again.
    drop(waiting);
    assert_eq!(second.wakes(), 1);
    assert!(!polled(&mut behind, &second));
    assert!(source.poll().is_pending());
    assert!(polled(&mut behind, &second));
    assert_eq!(source.finish(), [2]);
}

#[test]
fn dropping_the_run_in_mid_yield_runs_each_destructor_once() {
    let (items, locals) = (Tally::default(), Tally::default());
    let (made, local) = (items.clone(), locals.clone());
    let stage = generate(move |y| async move {
        let _first = OnDrop(local.clone());
        y.give(OnDrop(made.clone())).await;
        let _second = OnDrop(local.clone());
        let _waiting = y.give(OnDrop(made.clone()));
        pending::<Result<(), Infallible>>().await
    });
    let (mut run, task) = (stage.collect().run(&Context::background()), CountingWaker::new());
    assert!(poll(&mut run, &task).is_pending());
    assert_eq!((items.get(), locals.get()), (0, 0));
    drop(run);
    // One item was in the sink, one in a give that was never polled.
    assert_eq!((items.get(), locals.get()), (2, 2));
    assert_eq!(task.live(), 0, "a waker stayed behind");
}

#[test]
fn an_item_in_place_when_the_run_is_dropped_is_dropped_once_and_its_giver_told() {
    let drops = Tally::default();
    let (sender, receiver) = mpsc::channel();
    let stage = generate(move |y: Yielder<OnDrop>| async move {
        sender.send(y).unwrap();
        pending::<Result<(), Infallible>>().await
    });
    let (mut run, task) = (stage.collect().run(&Context::background()), CountingWaker::new());
    assert!(poll(&mut run, &task).is_pending());
    let yielder = receiver.recv().unwrap();
    let (mut give, giver) = (Box::pin(yielder.give(OnDrop(drops.clone()))), CountingWaker::new());
    assert!(!polled(&mut give, &giver));
    drop(run);
    assert_eq!((drops.get(), giver.wakes()), (1, 1));
    let message = message_of(AssertUnwindSafe(|| polled(&mut give, &giver)));
    assert!(message.contains("has ended"), "{message}");
}

#[test]
fn an_item_whose_destructor_panics_does_not_keep_its_giver_asleep() {
    let (sender, receiver) = mpsc::channel();
    let stage = generate(move |y: Yielder<Bomb>| async move {
        sender.send(y).unwrap();
        pending::<Result<(), Infallible>>().await
    });
    let (mut run, task) = (stage.collect().run(&Context::background()), CountingWaker::new());
    assert!(poll(&mut run, &task).is_pending());
    let yielder = receiver.recv().unwrap();
    let (mut give, giver) = (Box::pin(yielder.give(Bomb("the item"))), CountingWaker::new());
    assert!(!polled(&mut give, &giver));
    assert_eq!(message_of(AssertUnwindSafe(|| drop(run))), "the item");
    assert_eq!(giver.wakes(), 1);
}

#[test]
fn a_waker_that_panics_loses_no_item() {
    let mut source = Escaped::new();
    let (bad, good) = (PanickingWaker::new(), CountingWaker::new());
    let mut give = Box::pin(source.yielder.give(1));
    let mut next = Box::pin(source.yielder.give(2));
    let waker = bad.waker();
    assert!(give.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    assert!(!polled(&mut next, &good));
    assert!(source.poll().is_pending());
    assert_eq!((bad.wakes(), good.wakes()), (1, 1));
    assert!(!polled(&mut next, &good));
    assert_eq!(source.finish(), [1, 2]);
}

// The end of a body.

#[test]
fn an_error_comes_after_the_items_with_their_number() {
    let source = generate(|y| async move {
        for n in 0..3_u64 {
            y.give(n).await;
        }
        Err(Broken(3))
    });
    let ended = block_on(source.named("source").collect().run(&Context::background()));
    let error = error_of(&ended);
    assert_eq!(failed(error), ("source", 3));
    assert_eq!(error.downcast_ref::<Broken>(), Some(&Broken(3)));
    assert_eq!(error.to_string(), "stage source failed at item 3");
    assert_eq!(ended.output, [0, 1, 2]);
    assert_eq!(counts(&ended.report, "source"), [3, 3, 0, 0, 0]);
}

#[test]
fn a_panic_comes_after_the_items_with_their_number() {
    let source = generate(|y| async move {
        y.give(0_u64).await;
        y.reserve().await.put(1).unwrap();
        if true {
            panic!("the body");
        }
        Ok::<_, Infallible>(())
    });
    let ended = block_on(source.named("source").collect().run(&Context::background()));
    assert_eq!(panicked(error_of(&ended)), ("source", 2, "the body"));
    assert_eq!(ended.output, [0, 1]);
}

#[test]
fn a_closure_that_panics_before_there_is_a_body_is_a_panic_of_the_source() {
    fn body(_: Yielder<u64>) -> std::future::Ready<Result<(), Infallible>> {
        panic!("no body")
    }
    let ended = block_on(generate(body).collect().run(&Context::background()));
    assert_eq!(panicked(error_of(&ended)), ("generate", 0, "no body"));
}

#[test]
fn a_stop_wakes_a_pending_body_and_drops_it() {
    let locals = Tally::default();
    let local = locals.clone();
    let (ctx, canceller) = Context::background().child();
    let stage = generate(move |y| async move {
        let _local = OnDrop(local);
        y.give(1_u64).await;
        pending::<Result<(), Infallible>>().await
    });
    let (mut run, task) = (stage.collect().run(&ctx), CountingWaker::new());
    assert!(poll(&mut run, &task).is_pending());
    assert_eq!(task.wakes(), 0);
    canceller.stop(Duration::MAX);
    assert_eq!(task.wakes(), 1);
    let Poll::Ready(ended) = poll(&mut run, &task) else { panic!("it was stopped") };
    assert_eq!(error_of(&ended).cause().unwrap().kind(), CauseKind::Stopped);
    assert_eq!((ended.output, locals.get()), (vec![1], 1));
}

#[test]
fn an_item_in_place_at_a_stop_comes_out_and_its_give_completes() {
    for cancel in [false, true] {
        let mut source = Escaped::new();
        let giver = CountingWaker::new();
        let mut give = Box::pin(source.yielder.give(7));
        assert!(!polled(&mut give, &giver));
        if cancel {
            source.canceller.cancel();
        } else {
            source.canceller.stop(Duration::MAX);
        }
        let Poll::Ready(ended) = source.poll() else { panic!("it was stopped") };
        assert!(matches!(error_of(&ended), PipelineError::Ended(_)));
        assert_eq!(ended.output, [7]);
        assert!(polled(&mut give, &giver), "it was taken");
    }
}

#[test]
fn a_body_whose_destructor_panics_at_a_stop_is_a_panic_of_the_source() {
    let (ctx, canceller) = Context::background().child();
    let source = generate(move |y| async move {
        let _bomb = Bomb("the body's destructor");
        y.give(1_u64).await;
        canceller.cancel();
        pending::<Result<(), Infallible>>().await
    });
    let ended = block_on(source.named("source").collect().run(&ctx));
    assert_eq!(panicked(error_of(&ended)), ("source", 1, "the body's destructor"));
}

#[test]
fn what_a_body_holds_is_dropped_when_it_ends_and_before_the_sink_finishes() {
    let log = Log::default();
    struct Says(&'static str, Log);
    impl Drop for Says {
        fn drop(&mut self) {
            self.1.add(self.0);
        }
    }
    let (body, captured, sink) = (log.clone(), Says("captured", log.clone()), log.clone());
    let stage = generate(move |y| async move {
        let _captured = captured;
        for name in ["first", "second"] {
            let _local = Says(name, body.clone());
            y.give(name).await;
        }
        Ok::<_, Infallible>(())
    });
    let run = stage.for_each(move |name| sink.add(format!("took {name}")));
    block_on(run.run(&Context::background())).ok().unwrap();
    assert_eq!(log.take(), ["took first", "first", "took second", "second", "captured"]);
}

#[test]
fn a_generator_may_run_another_pipeline() {
    let stage = generate(|outer| async move {
        for n in 1..4_u64 {
            let inner = generate(move |y| async move {
                for k in 0..n {
                    y.give(10 * n + k).await;
                }
                Ok::<_, Infallible>(())
            });
            let items = inner.collect().run(&Context::background()).await.ok()?;
            for item in items {
                outer.give(item).await;
            }
        }
        Ok::<_, PipelineError>(())
    });
    let ended = block_on(stage.collect().run(&Context::background()));
    assert_eq!(ended.ok().unwrap(), [10, 20, 21, 30, 31, 32]);
}

#[test]
fn a_generator_that_is_always_ready_yields_to_other_tasks() {
    one_thread().block_on(async {
        let ticks = RefCell::new(0_u32);
        let (ctx, canceller) = Context::background().child();
        let stage = generate(|y| async move {
            loop {
                y.give(1_u64).await;
            }
            #[expect(unreachable_code, reason = "names the error's type")]
            Ok::<_, Infallible>(())
        });
        let run = stage.for_each(drop).run(&ctx);
        let other = async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
                *ticks.borrow_mut() += 1;
            }
            canceller.cancel();
            ready(()).await;
        };
        let (ended, ()) = tokio::join!(run, other);
        assert!(error_of(&ended).cause().is_some());
        assert_eq!(*ticks.borrow(), 10);
    });
}
