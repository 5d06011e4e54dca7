//! Runs one thing after the other that would otherwise recurse: a cancel that goes through a link to another tree, and
//! from there to the next; a node whose links hold the last handle of another one, and so on.

use std::cell::RefCell;
use std::collections::VecDeque;

use selvedge_primitives::FirstPanic;

/// Something to do.
type Work = Box<dyn FnOnce()>;

thread_local! {
    /// What this thread has still to do; none when it does nothing.
    static QUEUE: RefCell<Option<VecDeque<Work>>> = const { RefCell::new(None) };
}

/// Does it: now; or, if this is called from within something that is done so, right after that. Everything is done
/// although one panics; the first panic goes on in the end.
pub(super) fn bounce(work: impl FnOnce() + 'static) {
    let mut work = Some(Box::new(work) as Work);
    let outermost = QUEUE.try_with(|queue| match &mut *queue.borrow_mut() {
        Some(queue) => {
            queue.extend(work.take());
            false
        }
        none => {
            *none = Some(VecDeque::new());
            true
        }
    });
    let Some(work) = work else { return };
    if outermost.is_err() {
        // At the end of a thread, in the destructor of a thread-local, its queue may be gone: then it recurses.
        return work();
    }
    let mut panics = FirstPanic::new();
    let mut next = Some(work);
    while let Some(work) = next {
        panics.catch(work);
        next = QUEUE.with_borrow_mut(|queue| {
            let next = queue.as_mut().and_then(VecDeque::pop_front);
            if next.is_none() {
                *queue = None;
            }
            next
        });
    }
    panics.resume();
}
