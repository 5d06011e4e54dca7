//! Every public future of the crate, and what a run does in each mode.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

use futures_core::Stream;
use selvedge_testkit::{Ended, Mode, for_each, next, sweep, yield_now};

#[test]
fn yield_now_leaves_nothing_behind() {
    let summary = sweep("YieldNow", |run| {
        let ended = run.drive(yield_now(), |_| ());
        assert_eq!(ended.is_dropped(), !matches!(run.mode(), Mode::Count | Mode::WhenWoken));
        assert_eq!(run.live_wakers(), 0);
    });
    assert_eq!(summary.pending_points, 1);
}

/// A queue of items that wakes its one reader; ends when it is closed and empty.
#[derive(Default)]
struct Line {
    state: Mutex<(VecDeque<u32>, bool, Option<Waker>)>,
}

impl Line {
    fn push(&self, item: u32) {
        self.change(|items, _| items.push_back(item));
    }

    fn close(&self) {
        self.change(|_, closed| *closed = true);
    }

    fn change(&self, f: impl FnOnce(&mut VecDeque<u32>, &mut bool)) {
        let mut state = self.state.lock().unwrap();
        let (items, closed, waker) = &mut *state;
        f(items, closed);
        let waker = waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn len(&self) -> usize {
        self.state.lock().unwrap().0.len()
    }
}

/// The reader of a [`Line`].
struct Reader<'a>(&'a Line);

impl Stream for Reader<'_> {
    type Item = u32;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        let mut state = self.0.state.lock().unwrap();
        if let Some(item) = state.0.pop_front() {
            return Poll::Ready(Some(item));
        }
        if state.1 {
            return Poll::Ready(None);
        }
        state.2 = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[test]
fn next_loses_no_item() {
    let scenario = |run: &mut selvedge_testkit::Run| {
        let line = Line::default();
        let mut reader = Reader(&line);
        let pushed = Cell::new(0);
        let push = |_| {
            line.push(7);
            pushed.set(pushed.get() + 1);
        };
        let ended = run.drive_cancel(next(&mut reader), push, || line.close());
        let received = usize::from(ended.ready().flatten().is_some());
        assert_eq!(received + line.len(), pushed.get());
    };
    assert_eq!(sweep("Next", scenario).pending_points, 1);
    assert_eq!(sweep("Reader", scenario).pending_points, 1);
}

#[test]
fn for_each_loses_no_item() {
    let scenario = |run: &mut selvedge_testkit::Run| {
        let line = Line::default();
        let pushed = Cell::new(0);
        let mut seen = 0;
        let step = |k| {
            if k == 2 {
                line.close();
            } else {
                line.push(1);
                line.push(2);
                pushed.set(pushed.get() + 2);
            }
        };
        let each = for_each(Reader(&line), |_| seen += 1);
        run.drive_cancel(each, step, || line.close());
        assert_eq!(seen + line.len(), pushed.get());
    };
    assert_eq!(sweep("ForEach", scenario).pending_points, 3);
    assert_eq!(sweep("Reader", scenario).pending_points, 3);
}

/// What happened to a [`Traced`], in order: steps, polls (`p`), a cancel (`c`) and its end.
type Trace = Mutex<String>;

/// Pending twice, unless cancelled; notes how it is dropped.
struct Traced<'a> {
    trace: &'a Trace,
    cancelled: &'a Mutex<Option<Waker>>,
    left: usize,
    home: ThreadId,
}

impl Future for Traced<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut trace = self.trace.lock().unwrap();
        trace.push('p');
        if self.left == 0 || trace.contains('c') {
            return Poll::Ready(());
        }
        drop(trace);
        self.left -= 1;
        *self.cancelled.lock().unwrap() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Traced<'_> {
    fn drop(&mut self) {
        let how = match (thread::panicking(), thread::current().id() == self.home) {
            (true, _) => "!",
            (false, true) => ".",
            (false, false) => "~",
        };
        self.trace.lock().unwrap().push_str(how);
    }
}

#[test]
fn each_mode_does_what_its_name_says() {
    let traces = RefCell::new(Vec::new());
    let summary = sweep("Traced", |run| {
        let trace = Trace::default();
        let waker = Mutex::new(None::<Waker>);
        let wake = || {
            let waker = waker.lock().unwrap().take();
            waker.into_iter().for_each(Waker::wake);
        };
        let home = thread::current().id();
        let traced = Traced { trace: &trace, cancelled: &waker, left: 2, home };
        run.drive_cancel(
            traced,
            |k| {
                trace.lock().unwrap().push_str(&k.to_string());
                wake();
            },
            || {
                trace.lock().unwrap().push('c');
                wake();
            },
        );
        traces.borrow_mut().push((run.mode(), trace.into_inner().unwrap()));
    });

    let traces = traces.into_inner();
    let of = |mode| -> Vec<&str> {
        traces.iter().filter(|(of, _)| *of == mode).map(|(_, trace)| &**trace).collect()
    };
    assert_eq!(of(Mode::Count), ["p0p1p.", "p0p1p."]);
    assert_eq!(of(Mode::WhenWoken), ["p0p1p."]);
    assert_eq!(of(Mode::Drop), [".", "p.", "p0p."]);
    assert_eq!(of(Mode::WakeThenDrop), ["p0.", "p0p1."]);
    assert_eq!(of(Mode::DropElsewhere), ["~", "p~", "p0p~"]);
    assert_eq!(of(Mode::Panic), ["!", "p!", "p0p!"]);
    assert_eq!(of(Mode::Cancel), ["cp.", "pcp.", "p0pcp."]);
    assert_eq!(of(Mode::WakeThenCancel), ["p0cp.", "p0p1cp."]);
    assert_eq!(summary.runs, traces.len());
}

/// Not `Send`.
struct Local(Rc<Cell<bool>>);

impl Future for Local {
    type Output = u8;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u8> {
        if self.0.replace(true) {
            return Poll::Ready(1);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[test]
fn a_local_future_is_swept_in_every_mode_but_drop_elsewhere() {
    let summary = sweep("Local", |run| {
        let ended = run.drive_local_cancel(Local(Rc::default()), |_| (), || ());
        assert!(matches!(ended, Ended::Dropped | Ended::Ready(1)));
    });
    assert!(!summary.modes.contains(&Mode::DropElsewhere));
    assert!(summary.modes.contains(&Mode::Cancel));

    let summary = sweep("Local", |run| {
        run.drive_local(Local(Rc::default()), |_| ());
    });
    assert!(!summary.modes.contains(&Mode::DropElsewhere));
    assert!(!summary.modes.contains(&Mode::Cancel));
    assert!(!summary.modes.contains(&Mode::WakeThenCancel));
}

#[test]
fn a_future_that_is_never_pending_has_no_points_between() {
    let summary = sweep("Ready", |run| {
        run.drive(std::future::ready(1), |_| ());
    });
    assert_eq!(summary.pending_points, 0);
    assert_eq!(
        summary.to_string(),
        "Ready: K = 0, 6 runs (count, when woken, drop, wake then drop, drop elsewhere, panic)"
    );
}

#[test]
fn live_wakers_shows_a_waker_left_behind() {
    let left = Cell::new(0);
    sweep("Reader", |run| {
        let line = Line::default();
        let mut reader = Reader(&line);
        run.drive(next(&mut reader), |_| line.push(1));
        // The toy keeps the waker of a dropped `next` until the next push.
        if run.mode() == Mode::Drop {
            left.set(left.get() + run.live_wakers());
        }
    });
    assert_eq!(left.get(), 1);
}
