//! Adapters: futures and streams that end with a context.

use std::cell::Cell;
use std::future::{pending, ready};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use selvedge_cancel::{Canceller, CauseKind, Context, RunIn, Until, UntilEnd};
use selvedge_testkit::{CountingWaker, block_on};

fn root() -> (Context, Canceller) {
    Context::background().child()
}

/// Counts up to a limit; pending there, or at its end.
struct Count {
    next: u32,
    limit: u32,
    ends: bool,
}

impl Stream for Count {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<u32>> {
        if self.next == self.limit {
            return if self.ends { Poll::Ready(None) } else { Poll::Pending };
        }
        self.next += 1;
        Poll::Ready(Some(self.next))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.limit - self.next) as usize;
        (left, Some(left))
    }
}

fn count(limit: u32, ends: bool) -> Count {
    Count { next: 0, limit, ends }
}

type Boxed = Pin<Box<UntilEnd<Count>>>;

fn next(stream: &mut Boxed, waker: &Waker) -> Poll<Option<u32>> {
    stream.as_mut().poll_next(&mut TaskContext::from_waker(waker))
}

#[test]
fn run_in_is_run_at_the_end_of_a_chain() {
    let (ctx, canceller) = root();
    assert_eq!(block_on(ready(7).run_in(&ctx)).unwrap(), 7);
    canceller.cancel();
    assert_eq!(block_on(pending::<()>().run_in(&ctx)).unwrap_err().kind(), CauseKind::Cancelled);
}

#[test]
fn a_stream_until_a_cancel_gives_its_items_and_ends_at_the_cancel() {
    let (ctx, canceller) = root();
    let mut stream: Boxed = Box::pin(count(2, false).until_cancelled(&ctx));
    let woken = CountingWaker::new();
    assert_eq!(next(&mut stream, &woken.waker()), Poll::Ready(Some(1)));
    assert_eq!(next(&mut stream, &woken.waker()), Poll::Ready(Some(2)));
    assert!(next(&mut stream, &woken.waker()).is_pending());
    assert!(stream.cause().is_none());
    canceller.stop(Duration::MAX);
    assert!(next(&mut stream, &woken.waker()).is_pending(), "a stop is no cancel");
    canceller.cancel();
    assert_eq!(woken.wakes(), 1);
    assert_eq!(next(&mut stream, &woken.waker()), Poll::Ready(None));
    assert_eq!(stream.cause().unwrap().kind(), CauseKind::Stopped, "the first cause");
    assert_eq!(next(&mut stream, &woken.waker()), Poll::Ready(None), "ended for good");
}

#[test]
fn a_source_of_work_ends_at_the_stop() {
    let (ctx, canceller) = root();
    let mut source: Boxed = Box::pin(count(9, false).until_stopping(&ctx));
    let mut items: Boxed = Box::pin(count(9, false).until_cancelled(&ctx));
    canceller.stop(Duration::MAX);
    assert_eq!(next(&mut source, Waker::noop()), Poll::Ready(None));
    assert_eq!(next(&mut items, Waker::noop()), Poll::Ready(Some(1)), "it goes on to the cancel");
    assert_eq!(source.get_ref().next, 0, "what it would have given is still there");
}

#[test]
fn the_context_comes_before_an_item_that_is_ready() {
    let (ctx, canceller) = root();
    let mut stream: Boxed = Box::pin(count(9, false).until_cancelled(&ctx));
    canceller.cancel();
    assert_eq!(next(&mut stream, Waker::noop()), Poll::Ready(None));
    assert_eq!(stream.get_ref().next, 0, "it was not polled");
    assert_eq!(count(9, false).until_cancelled(&ctx).into_inner().limit, 9);
}

/// Pending once, then at its end.
struct Ends(Cell<bool>);

impl Stream for Ends {
    type Item = u32;

    fn poll_next(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<u32>> {
        if self.0.replace(true) { Poll::Ready(None) } else { Poll::Pending }
    }
}

#[test]
fn an_adapter_whose_stream_has_ended_waits_for_nothing() {
    let (ctx, canceller) = root();
    let mut stream = Box::pin(Ends(Cell::new(false)).until_cancelled(&ctx));
    let woken = CountingWaker::new();
    let waker = woken.waker();
    let cx = &mut TaskContext::from_waker(&waker);
    assert!(stream.as_mut().poll_next(cx).is_pending());
    assert_eq!(ctx.counts().waiting, 1);
    assert_eq!(stream.as_mut().poll_next(cx), Poll::Ready(None));
    assert_eq!(ctx.counts().waiting, 0);
    canceller.cancel();
    assert_eq!(woken.wakes(), 0);
    assert!(stream.cause().is_none(), "it ended by itself");
}

#[test]
fn how_many_items_are_to_come_is_an_upper_bound() {
    let (ctx, canceller) = root();
    let mut stream: Boxed = Box::pin(count(9, true).until_cancelled(&ctx));
    assert_eq!(stream.size_hint(), (0, Some(9)));
    let _first = next(&mut stream, Waker::noop());
    assert_eq!(stream.size_hint(), (0, Some(8)));
    canceller.cancel();
    let _ended = next(&mut stream, Waker::noop());
    assert_eq!(stream.size_hint(), (0, Some(0)));
}

#[test]
fn on_the_background_a_stream_is_as_it_was() {
    let mut stream: Boxed = Box::pin(count(1, true).until_cancelled(&Context::background()));
    assert_eq!(next(&mut stream, Waker::noop()), Poll::Ready(Some(1)));
    assert_eq!(next(&mut stream, Waker::noop()), Poll::Ready(None));
}

#[cfg(feature = "tokio")]
#[test]
fn a_loop_over_a_stream_that_is_always_ready_yields_to_who_cancels() {
    use std::future::poll_fn;

    selvedge_testkit::watchdog(Duration::from_secs(60), "an always-ready stream", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let given = runtime.block_on(async {
            let (ctx, canceller) = root();
            let canceller = tokio::spawn(async move { canceller.cancel() });
            let mut stream: Boxed = Box::pin(count(u32::MAX, false).until_cancelled(&ctx));
            while poll_fn(|cx| stream.as_mut().poll_next(cx)).await.is_some() {}
            canceller.await.unwrap();
            stream.get_ref().next
        });
        assert!(given < 10_000, "{given} items before anybody else had a turn");
    });
}
