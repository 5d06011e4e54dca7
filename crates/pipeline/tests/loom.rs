//! Models of the generator's place, of batches and ticks, and of a run's end: the engines themselves,
//! over the real context tree, no stand-in. `loom-models.toml` lists them; `cargo xtask loom pipeline` runs them. Stages
//! with workers are tokio tasks over the window of `fanio` and the queue of `pool`, which have
//! models of their own.
#![cfg(selvedge_loom)]

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, mpsc};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use selvedge_cancel::{CauseKind, Context, Timer};
use selvedge_pipeline::{
    Ended, PipelineError, Reserve, Run, Yielder, from_stream, generate, ticks,
};
use selvedge_primitives::atomic::{AtomicUsize, Ordering::Relaxed};
use selvedge_primitives::{Mutex, UnsafeCell, block_on, model::check, thread, wake};
use selvedge_testkit::ReentrantWaker;

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn("model".to_owned(), f).unwrap()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(Waker::noop()))
}

/// How long a batch waits, and a tick's period.
const DELAY: Duration = Duration::from_secs(1);

/// Ends a body from another thread.
#[derive(Clone, Default)]
struct Flag(Arc<Mutex<(bool, Option<Waker>)>>);

impl Flag {
    fn set(&self) {
        let waker = {
            let mut flag = self.0.lock();
            flag.0 = true;
            flag.1.take()
        };
        waker.into_iter().for_each(wake);
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            let mut flag = self.0.lock();
            if flag.0 {
                return Poll::Ready(());
            }
            flag.1 = Some(waker);
            Poll::Pending
        })
        .await;
    }
}

/// An item that counts its drop.
struct Item(u64, Arc<AtomicUsize>);

impl Drop for Item {
    fn drop(&mut self) {
        // Relaxed: read after the threads were joined.
        self.1.fetch_add(1, Relaxed);
    }
}

/// A run of a body that gives nothing and never ends, polled once; and its yielder.
fn waiting(ctx: &Context) -> (Run<Vec<Item>>, Yielder<Item>) {
    let (sender, receiver) = mpsc::channel();
    let stage = generate(move |y| async move {
        sender.send(y).unwrap();
        pending::<Result<(), Infallible>>().await
    });
    let mut run = stage.collect().run(ctx);
    assert!(poll_once(Pin::new(&mut run)).is_pending());
    (run, receiver.recv().unwrap())
}

fn numbers(ended: &Ended<Vec<Item>>) -> Vec<u64> {
    assert!(ended.report.adds_up(), "{}", ended.report);
    ended.output.iter().map(|item| item.0).collect()
}

/// Race: a giver on another thread puts its item while the source goes to sleep; the source takes
/// it while the giver, polled again, leaves another waker. A lost wake-up on either side shows as a
/// deadlock, and what the giver wrote before must be seen by who takes the item (loom's cell tells).
#[test]
fn give_vs_take_across_threads() {
    check(|| {
        let (sender, receiver) = mpsc::channel();
        let stage = generate(move |y: Yielder<UnsafeCell<u64>>| {
            let flag = Flag::default();
            let done = flag.clone();
            let giver = spawn(move || {
                let cell = UnsafeCell::new(0);
                cell.with_mut(|_written| {});
                let mut give = pin!(y.give(cell));
                if poll_once(give.as_mut()).is_pending() {
                    block_on(give);
                }
                done.set();
            });
            sender.send(giver).unwrap();
            async move {
                flag.wait().await;
                Ok::<_, Infallible>(())
            }
        });
        let ended = block_on(stage.collect().run(&Context::background()));
        assert!(ended.report.adds_up());
        for cell in &ended.output {
            cell.with_mut(|_read_and_written| {});
        }
        assert_eq!(ended.ok().unwrap().len(), 1);
        receiver.recv().unwrap().join().unwrap();
    });
}

/// Race: two givers, one of which goes: queued, with the place promised to it, or with its item in
/// place, while the source takes the other's. No item is lost or doubled, and the place goes to the
/// one behind.
#[test]
fn give_drop_vs_take() {
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&drops);
        let (sender, receiver) = mpsc::channel();
        let stage = generate(move |y: Yielder<Item>| {
            let flag = Flag::default();
            let (other, done, item) = (y.clone(), flag.clone(), Item(1, Arc::clone(&counted)));
            let giver = spawn(move || {
                let mut give = Box::pin(other.give(item));
                let is_pending = poll_once(give.as_mut()).is_pending();
                // The next give may queue behind this one before it goes.
                done.set();
                drop(give);
                is_pending
            });
            sender.send(giver).unwrap();
            async move {
                y.give(Item(0, Arc::clone(&counted))).await;
                flag.wait().await;
                y.give(Item(2, Arc::clone(&counted))).await;
                Ok::<_, Infallible>(())
            }
        });
        let ended = block_on(stage.collect().run(&Context::background()));
        assert!(receiver.recv().unwrap().join().unwrap(), "a give waits to be taken");
        let taken = numbers(&ended);
        assert!([&[0, 2][..], &[0, 1, 2], &[1, 0, 2]].contains(&&taken[..]), "{taken:?}");
        // Relaxed: the thread was joined.
        assert_eq!(drops.load(Relaxed), 3 - taken.len());
        drop(ended);
        // Relaxed: as above.
        assert_eq!(drops.load(Relaxed), 3);
    });
}

/// Race: a run that goes to sleep on a body that waits is stopped by its context, the real tree, from
/// another thread. It ends with that cause, and the counts add up.
#[test]
fn stop_vs_pending_source() {
    check(|| {
        let (ctx, canceller) = Context::background().child();
        let stage = generate(|y| async move {
            y.give(0_u64).await;
            pending::<Result<(), Infallible>>().await
        });
        let stopper = spawn(move || canceller.stop(Duration::MAX));
        let ended = block_on(stage.collect().run(&ctx));
        stopper.join().unwrap();
        let Some(PipelineError::Ended(cause)) = &ended.error else { panic!("{:?}", ended.error) };
        // The canceller was dropped on its thread, right after.
        assert!(matches!(cause.kind(), CauseKind::Stopped), "{cause}");
        assert!(ended.report.adds_up());
        assert_eq!(ended.report.stages[0].passed, ended.output.len() as u64);
    });
}

/// Race: a give against the end of its source. Either the item comes out and the give completes, or
/// the item is dropped and the give panics; never both, never neither, and the giver wakes.
#[test]
fn close_vs_give() {
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (ctx, canceller) = Context::background().child();
        let (run, yielder) = waiting(&ctx);
        let item = Item(1, Arc::clone(&drops));
        let giver =
            spawn(move || catch_unwind(AssertUnwindSafe(|| block_on(yielder.give(item)))).is_ok());
        canceller.cancel();
        let ended = block_on(run);
        let given = giver.join().unwrap();
        assert!(matches!(ended.error, Some(PipelineError::Ended(_))));
        assert_eq!(numbers(&ended), if given { vec![1] } else { vec![] });
        // Relaxed: the thread was joined.
        assert_eq!(drops.load(Relaxed), usize::from(!given));
    });
}

/// Race: a put, which does not wait to be taken, against the end of its source. What was put without
/// a panic comes out.
#[test]
fn close_vs_put() {
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (ctx, canceller) = Context::background().child();
        let (run, yielder) = waiting(&ctx);
        let room = block_on(yielder.reserve());
        let item = Item(1, Arc::clone(&drops));
        let putter = spawn(move || room.put(item).is_ok());
        canceller.cancel();
        let ended = block_on(run);
        let put = putter.join().unwrap();
        assert_eq!(numbers(&ended), if put { vec![1] } else { vec![] });
        // Relaxed: the thread was joined.
        assert_eq!(drops.load(Relaxed), usize::from(!put));
    });
}

/// Race: a give against the drop of the whole run. The giver is told, and the item is dropped once.
#[test]
fn drop_vs_give() {
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (run, yielder) = waiting(&Context::background());
        let item = Item(1, Arc::clone(&drops));
        let giver =
            spawn(move || catch_unwind(AssertUnwindSafe(|| block_on(yielder.give(item)))).is_ok());
        drop(run);
        assert!(!giver.join().unwrap(), "nobody took it");
        // Relaxed: the thread was joined.
        assert_eq!(drops.load(Relaxed), 1);
    });
}

/// Race: a give that goes to sleep in line, behind a room that nobody fills, against the drop of the
/// run. It is sent away.
#[test]
fn drop_vs_waiting_give() {
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (run, yielder) = waiting(&Context::background());
        let room = block_on(yielder.reserve());
        let item = Item(1, Arc::clone(&drops));
        let giver =
            spawn(move || catch_unwind(AssertUnwindSafe(|| block_on(yielder.give(item)))).is_ok());
        drop(run);
        assert!(!giver.join().unwrap(), "nobody took it");
        drop(room);
        // Relaxed: the thread was joined.
        assert_eq!(drops.load(Relaxed), 1);
    });
}

/// A giver on another thread: gives `item`, then says that it was taken.
fn giving(y: &Yielder<u64>, item: u64) -> (thread::JoinHandle<()>, Flag) {
    let (y, taken) = (y.clone(), Flag::default());
    let say = taken.clone();
    let giver = spawn(move || {
        block_on(y.give(item));
        say.set();
    });
    (giver, taken)
}

/// Race: the clock reaches the end of a batch's delay while another thread gives the item that fills
/// the batch, and the batch goes to sleep between the two. Each item is in exactly one batch, in
/// order, none is empty, and nobody sleeps on.
#[test]
fn batch_timer_vs_full() {
    check(|| {
        let (timer, clock) = Timer::manual();
        let (sender, receiver) = mpsc::channel();
        let stage = generate(move |y: Yielder<u64>| async move {
            y.give(0).await;
            let (giver, taken) = giving(&y, 1);
            sender.send(giver).unwrap();
            taken.wait().await;
            Ok::<_, Infallible>(())
        });
        let mut run = stage.batch(2, DELAY).timer(timer).collect().run(&Context::background());
        // The first item is in hand, and the second on its way.
        let polled = poll_once(Pin::new(&mut run));
        let mover = spawn(move || clock.advance(DELAY));
        let ended = match polled {
            Poll::Ready(ended) => ended,
            Poll::Pending => block_on(run),
        };
        mover.join().unwrap();
        receiver.recv().unwrap().join().unwrap();
        assert!(ended.report.adds_up(), "{}", ended.report);
        let batches = ended.ok().unwrap();
        assert!(batches.iter().all(|batch| !batch.is_empty()), "{batches:?}");
        assert_eq!(batches.concat(), [0, 1]);
    });
}

/// Race: the clock reaches the end of a batch's delay while the batch goes to sleep. Only the alarm
/// can send it on, so a lost ring shows as a deadlock.
#[test]
fn batch_timer_vs_sleep() {
    check(|| {
        let (timer, clock) = Timer::manual();
        let out = Flag::default();
        let (seen, end) = (out.clone(), out);
        let stage = generate(move |y: Yielder<u64>| async move {
            y.give(0).await;
            end.wait().await;
            Ok::<_, Infallible>(())
        });
        let count = Arc::new(AtomicUsize::new(0));
        let batches = Arc::clone(&count);
        let sink = stage.batch(2, DELAY).timer(timer).for_each(move |batch| {
            assert_eq!(batch, [0]);
            // Relaxed: one task.
            batches.fetch_add(1, Relaxed);
            seen.set();
        });
        let mut run = sink.run(&Context::background());
        assert!(poll_once(Pin::new(&mut run)).is_pending());
        assert_eq!(clock.registered(), 1);
        let mover = spawn(move || clock.advance(DELAY));
        assert!(block_on(run).ok().is_ok());
        mover.join().unwrap();
        // Relaxed: the threads were joined.
        assert_eq!(count.load(Relaxed), 1);
    });
}

/// Race: the end of a batch's delay against the end of its source, by a stop through the real tree.
/// The batch in hand comes out once, and leaves no registration behind.
#[test]
fn batch_timer_vs_end() {
    check(|| {
        let (timer, clock) = Timer::manual();
        let clock = Arc::new(clock);
        let (ctx, canceller) = Context::background().child();
        let stage = generate(move |y: Yielder<u64>| async move {
            y.give(0).await;
            pending::<Result<(), Infallible>>().await
        });
        let mut run = stage.batch(2, DELAY).timer(timer).collect().run(&ctx);
        assert!(poll_once(Pin::new(&mut run)).is_pending());
        let moved = Arc::clone(&clock);
        let mover = spawn(move || moved.advance(DELAY));
        let stopper = spawn(move || canceller.stop(Duration::MAX));
        let ended = block_on(run);
        assert_eq!(clock.registered(), 0, "whether it rang or not");
        mover.join().unwrap();
        stopper.join().unwrap();
        assert!(matches!(ended.error, Some(PipelineError::Ended(_))), "{:?}", ended.error);
        assert!(ended.report.adds_up(), "{}", ended.report);
        assert_eq!(ended.output, [[0]]);
    });
}

/// Race: a tick that is due against its source going to sleep, and then a stop against the source
/// going to sleep on the next. A lost ring or a lost stop shows as a deadlock.
#[test]
fn tick_vs_sleep_vs_stop() {
    check(|| {
        let (timer, clock) = Timer::manual();
        let (ctx, canceller) = Context::background().child();
        let mut run = ticks(DELAY).timer(timer).collect().run(&ctx);
        assert!(poll_once(Pin::new(&mut run)).is_pending());
        let mover = spawn(move || {
            clock.advance(DELAY);
            canceller.stop(Duration::MAX);
        });
        let ended = block_on(run);
        mover.join().unwrap();
        assert!(matches!(ended.error, Some(PipelineError::Ended(_))), "{:?}", ended.error);
        assert!(ended.report.adds_up(), "{}", ended.report);
        assert!(ended.output.len() <= 1);
    });
}

/// Race: a tick that is due against its source going to sleep. Nothing else ends the run.
#[test]
fn tick_vs_sleep() {
    check(|| {
        let (timer, clock) = Timer::manual();
        let (ctx, canceller) = Context::background().child();
        let stop = move |_: &_| {
            canceller.stop(Duration::MAX);
            true
        };
        let mut run = ticks(DELAY).timer(timer).filter(stop).collect().run(&ctx);
        assert!(poll_once(Pin::new(&mut run)).is_pending());
        let mover = spawn(move || clock.advance(DELAY));
        let ended = block_on(run);
        mover.join().unwrap();
        assert!(ended.report.adds_up(), "{}", ended.report);
        assert_eq!(ended.output.len(), 1);
    });
}

/// A stream that gives one item, then is pending for ever; counts its drop.
struct Once(Option<u64>, #[expect(dead_code, reason = "its drop counts")] Item);

impl Stream for Once {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<u64>> {
        match self.0.take() {
            Some(item) => Poll::Ready(Some(item)),
            None => Poll::Pending,
        }
    }
}

/// Race: a stop through the real tree against a run that goes to sleep on a user's stream, which
/// wakes nobody. The stream is dropped, once.
#[test]
fn stop_vs_pending_stream() {
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (ctx, canceller) = Context::background().child();
        let run = from_stream(Once(Some(7), Item(0, Arc::clone(&drops)))).collect().run(&ctx);
        let stopper = spawn(move || canceller.stop(Duration::MAX));
        let ended = block_on(run);
        stopper.join().unwrap();
        assert!(matches!(ended.error, Some(PipelineError::Ended(_))), "{:?}", ended.error);
        assert!(ended.report.adds_up(), "{}", ended.report);
        assert_eq!(ended.report.stages[0].passed, ended.output.len() as u64);
        // Relaxed: the thread was joined.
        assert_eq!(drops.load(Relaxed), 1);
    });
}

/// Race: a stream of a pipeline is dropped, polled once, while another thread gives. The run ends,
/// and the giver is told or its item was taken by the poll.
#[test]
fn stream_drop_vs_give() {
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = mpsc::channel();
        let stage = generate(move |y: Yielder<Item>| async move {
            sender.send(y).unwrap();
            pending::<Result<(), Infallible>>().await
        });
        let mut items = stage.into_stream(&Context::background());
        let mut poll = || poll_once(pin!(poll_fn(|cx| Pin::new(&mut items).poll_next(cx))));
        assert!(poll().is_pending());
        let (yielder, item) = (receiver.recv().unwrap(), Item(1, Arc::clone(&drops)));
        let giver =
            spawn(move || catch_unwind(AssertUnwindSafe(|| block_on(yielder.give(item)))).is_ok());
        let taken = poll();
        drop(items);
        assert_eq!(giver.join().unwrap(), taken.is_ready());
        drop(taken);
        // Relaxed: the thread was joined.
        assert_eq!(drops.load(Relaxed), 1);
    });
}

/// A run that stops after `items` items, and the yielder of its body, which gives nothing itself.
fn stopping_after(items: u64) -> (Run<()>, Yielder<Item>) {
    let (ctx, canceller) = Context::background().child();
    let (sender, receiver) = mpsc::channel();
    let stage = generate(move |y| async move {
        sender.send(y).unwrap();
        pending::<Result<(), Infallible>>().await
    });
    let mut left = items;
    let stop = move |_: Item| {
        left -= 1;
        if left == 0 {
            canceller.stop(Duration::MAX);
        }
    };
    let mut run = stage.for_each(stop).run(&ctx);
    assert!(poll_once(Pin::new(&mut run)).is_pending());
    (run, receiver.recv().unwrap())
}

/// Race: two givers at once against the source. The one that waits for the place gets it when the
/// other's item was taken: a lost wake-up shows as a deadlock.
#[test]
fn give_behind_give_vs_take() {
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (run, yielder) = stopping_after(2);
        let givers = [1, 2].map(|number| {
            let (y, item) = (yielder.clone(), Item(number, Arc::clone(&drops)));
            spawn(move || block_on(y.give(item)))
        });
        let ended = block_on(run);
        for giver in givers {
            giver.join().unwrap();
        }
        assert!(ended.report.adds_up(), "{}", ended.report);
        // Relaxed: the threads were joined.
        assert_eq!(drops.load(Relaxed), 2);
    });
}

/// A place in the line, if there is one.
type Standing = Option<Pin<Box<Reserve<Item>>>>;

/// Who waits for the place, until it is dropped: then it leaves the line, under the place's lock.
#[derive(Clone, Default)]
struct InLine(Arc<std::sync::Mutex<Standing>>);

impl InLine {
    fn stand(&self, y: &Yielder<Item>) {
        let mut reserve = Box::pin(y.reserve());
        if poll_once(reserve.as_mut()).is_pending() {
            *self.0.lock().unwrap() = Some(reserve);
        }
    }

    fn leave(&self) {
        let reserve = self.0.lock().unwrap().take();
        drop(reserve);
    }
}

/// Race: a give against the source, with wakers on both sides that enter the place again: the
/// source's when it is woken, the giver's when it is replaced. A lock held over one of them shows as
/// a deadlock.
#[test]
fn place_wakers_enter_again() {
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut run, yielder) = stopping_after(3);
        let items = [1, 2, 3].map(|number| Item(number, Arc::clone(&drops)));
        let (behind, later) = (InLine::default(), InLine::default());
        let woken = behind.clone();
        let waker = ReentrantWaker::on_wake(move || woken.leave()).waker();
        let polled = Pin::new(&mut run).poll(&mut TaskContext::from_waker(&waker));
        assert!(polled.is_pending());
        let giver = spawn(move || {
            let [first, second, third] = items;
            let room = block_on(yielder.reserve());
            behind.stand(&yielder);
            assert!(room.put(first).is_ok());
            behind.leave();
            let replaced = later.clone();
            let waker = ReentrantWaker::on_drop(move || replaced.leave()).waker();
            let mut give = pin!(yielder.give(second));
            if give.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending() {
                later.stand(&yielder);
                block_on(give);
            }
            later.leave();
            block_on(yielder.give(third));
        });
        let ended = block_on(run);
        giver.join().unwrap();
        assert!(ended.report.adds_up(), "{}", ended.report);
        // Relaxed: the thread was joined.
        assert_eq!(drops.load(Relaxed), 3);
    });
}

/// Race: the clock reaches the end of a batch's delay on two threads: on one of them because the
/// wakers of the batch's task move it, a step each, when they are replaced: those that the source
/// holds, and at last the alarm's. A lock held over that one shows as a deadlock.
#[test]
fn batch_waker_moves_the_clock() {
    check(|| {
        let (timer, clock) = Timer::manual();
        let clock = Arc::new(clock);
        let stage = generate(move |y: Yielder<u64>| async move {
            y.give(0).await;
            pending::<Result<(), Infallible>>().await
        });
        let (ctx, canceller) = Context::background().child();
        let stop = move |_: Vec<u64>| canceller.stop(Duration::MAX);
        let mut run = stage.batch(2, DELAY).timer(timer).for_each(stop).run(&ctx);
        // The clones that the first poll drops are not meant.
        let armed = Arc::new(AtomicUsize::new(0));
        let (moved, fuse) = (Arc::clone(&clock), Arc::clone(&armed));
        let waker = ReentrantWaker::on_drop(move || {
            // Relaxed: set before another thread is there.
            if fuse.load(Relaxed) == 1 {
                moved.advance(DELAY / 3);
            }
        });
        let waker = waker.waker();
        let polled = Pin::new(&mut run).poll(&mut TaskContext::from_waker(&waker));
        assert!(polled.is_pending());
        // Relaxed: as above.
        armed.store(1, Relaxed);
        let mover = spawn(move || clock.advance(DELAY));
        let ended = block_on(run);
        mover.join().unwrap();
        assert!(ended.report.adds_up(), "{}", ended.report);
    });
}
