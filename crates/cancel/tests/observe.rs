//! What the observer is told of contexts. Alone in its process, which has one observer.

use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context as TaskContext, Waker};

use selvedge_cancel::Context;
use selvedge_primitives::observe::{Event, Happened, Observer, install};

/// Kind, what happened, the subject's number and the line of the wait.
type Seen = (&'static str, &'static str, u64, Option<u32>);

struct Recorder(Mutex<Vec<Seen>>);

impl Observer for Recorder {
    fn observe(&self, event: &Event<'_>) {
        let (what, wait) = match event.happened {
            Happened::Created => ("created", None),
            Happened::Waiting(wait) => ("waiting", Some(wait)),
            Happened::Granted(wait) => ("granted", Some(wait)),
            Happened::Left(wait) => ("left", Some(wait)),
            Happened::Done => ("done", None),
            _ => unreachable!("no other event is known"),
        };
        assert_eq!(event.origin.name(), Some("request"));
        let line = wait.map(|wait| wait.place.line());
        self.0.lock().unwrap().push((event.kind, what, event.subject, line));
        // With a lock of the tree held, this would hang.
        let (child, canceller) = Context::background().child();
        canceller.cancel();
        assert!(child.is_cancelled());
    }
}

#[test]
fn a_context_tells_that_it_was_made_who_waits_and_that_it_is_gone() {
    static RECORDER: Recorder = Recorder(Mutex::new(Vec::new()));
    install(&RECORDER).unwrap();
    let (ctx, canceller) = Context::background().child_with().name("request").build().unwrap();
    let mut cx = TaskContext::from_waker(Waker::noop());
    let line = line!() + 1;
    let mut cancelled = pin!(ctx.cancelled_owned());
    let mut run = Box::pin(ctx.run(std::future::pending::<()>()));
    assert!(cancelled.as_mut().poll(&mut cx).is_pending());
    assert!(run.as_mut().poll(&mut cx).is_pending());
    drop(run);
    canceller.cancel();
    assert!(cancelled.as_mut().poll(&mut cx).is_ready());
    cancelled.set(Context::background().cancelled_owned());
    drop((ctx, canceller));

    let seen = RECORDER.0.lock().unwrap().clone();
    let id = seen[0].2;
    assert_eq!(
        seen,
        [
            ("context", "created", id, None),
            ("context cancelled", "waiting", id, Some(line)),
            ("context cancelled", "waiting", id, Some(line + 1)),
            ("context cancelled", "left", id, Some(line + 1)),
            ("context cancelled", "granted", id, Some(line)),
            ("context", "done", id, None),
        ]
    );
}
