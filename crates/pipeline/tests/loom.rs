//! Models of the generator's place and of a run's end: the engine itself, over the real context
//! tree, no stand-in. `loom-models.toml` lists them; `cargo xtask loom pipeline` runs them. Stages
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

use selvedge_cancel::{CauseKind, Context};
use selvedge_pipeline::{Ended, PipelineError, Run, Yielder, generate};
use selvedge_primitives::atomic::{AtomicUsize, Ordering::Relaxed};
use selvedge_primitives::{Mutex, UnsafeCell, block_on, model::check, thread, wake};

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn("model".to_owned(), f).unwrap()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(Waker::noop()))
}

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
