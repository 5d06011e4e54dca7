//! An observer that is installed while somebody waits already. Alone in its process, because a
//! process has one observer, and this one comes late.

use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use selvedge_primitives::observe::{Event, Observer, Subject, install};
use selvedge_primitives::{Anchor, Entry, WaitQueue, Waiter};

/// The events as text.
struct Recorder(Mutex<Vec<String>>);

impl Observer for Recorder {
    fn observe(&self, event: &Event<'_>) {
        let text = format!("{}: {:?}", event.kind, event.happened);
        let what = text.split([' ', '(']).take(2).collect::<Vec<_>>().join(" ");
        self.0.lock().unwrap().push(what);
    }
}

#[test]
fn what_began_before_the_observer_is_not_told_and_what_follows_is() {
    static RECORDER: Recorder = Recorder(Mutex::new(Vec::new()));
    let whole = Subject::here("whole");
    whole.created();
    let queue: WaitQueue<(), (), ()> = WaitQueue::observed((), whole.part("part"));
    let mut cx = Context::from_waker(Waker::noop());
    let mut before = pin!(Waiter::new(Anchor::borrowed(&queue)));
    assert!(before.as_mut().poll_enter(&mut cx, |_| Entry::Wait(())).is_pending());

    install(&RECORDER).unwrap();
    queue.grant_while(queue.lock(), |(), ()| Some(()));
    assert_eq!(before.as_mut().poll_enter(&mut cx, |_| Entry::Wait(())), Poll::Ready(()));
    assert_eq!(*RECORDER.0.lock().unwrap(), Vec::<String>::new());

    assert!(before.as_mut().poll_enter(&mut cx, |_| Entry::Wait(())).is_pending());
    before.set(Waiter::new(Anchor::borrowed(&queue)));
    let seen = std::mem::take(&mut *RECORDER.0.lock().unwrap());
    assert_eq!(seen, ["part: Created", "part: Waiting", "part: Left"]);
}
