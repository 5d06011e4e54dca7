//! The handles that keep a node live, and what they can do: create, cancel, stop, wait, drop.
#![allow(unsafe_code, reason = "counted pointers to the tree's nodes")]

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::thread::panicking;
use std::time::{Duration, Instant};

use selvedge_primitives::observe::Subject;
use selvedge_primitives::time::{Now, Timer};
use selvedge_primitives::{Line, List, Origin, contain};

use super::limit::Limit;
use super::link::{Link, LinkEnd, Registered};
use super::node::{Locked, Node, Ptr, Shield};
use super::word::Level;
use super::{leave, walk};
use crate::{Cause, CauseKind};

/// When a child ends by itself.
#[derive(Default)]
pub(crate) struct Due {
    /// The instant, if it brings a deadline.
    pub(crate) at: Option<Instant>,
    /// On whose clock, where there is none above.
    pub(crate) timer: Option<Timer>,
    /// What a clock of the deadlines above has just said.
    pub(crate) now: Option<Now>,
}

/// Keeps a node live. Contexts have one each, and futures that do not borrow theirs; the cancellers of a node one in common.
#[repr(transparent)]
pub(crate) struct Handle {
    /// The node; alive because of this handle (N2).
    node: Ptr,
}

// SAFETY: a handle is a counted reference to a node, which is Send and Sync.
unsafe impl Send for Handle {}
// SAFETY: as for Send.
unsafe impl Sync for Handle {}

impl Deref for Handle {
    type Target = Node;

    #[inline]
    fn deref(&self) -> &Node {
        // SAFETY: N2.
        unsafe { Node::at(self.node) }
    }
}

impl Clone for Handle {
    #[inline]
    fn clone(&self) -> Self {
        self.add_handle();
        Self { node: self.node }
    }
}

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this is the handle that is given up.
        unsafe { leave::drop_handle(self.node) };
    }
}

impl Handle {
    /// The two handles of a node that was just allocated.
    fn pair(node: Ptr) -> (Self, Right) {
        (Self { node }, Right { node })
    }

    /// A root of a tree of its own.
    pub(crate) fn root(origin: Origin, due: Option<(Instant, Timer)>) -> (Self, Right) {
        let own = due.map(|(at, timer)| Limit::new(at, timer, origin.place()));
        let (handle, right) = Self::pair(Node::allocate(origin, own, None, None));
        if let Some(own) = &handle.deadline {
            own.set_top(&handle);
        }
        (handle, right)
    }

    /// A child. Inlined, because most have neither a name nor a deadline of their own.
    #[inline(always)]
    pub(crate) fn child(&self, origin: Origin, due: Due) -> (Self, Right) {
        let inherited = self.deadline.as_ref();
        let own = due.at.filter(|at| inherited.is_none_or(|inherited| *at < inherited.at()));
        let own = own.map(|at| {
            let timer = inherited.map(|inherited| inherited.timer().clone()).or(due.timer);
            Limit::new(at, timer.expect("a deadline has a timer"), origin.place())
        });
        let brings = own.is_some();
        let limit = own.or_else(|| inherited.cloned());
        let (child, right) = Self::pair(Node::allocate(origin, limit, None, None));
        if let (true, Some(own)) = (brings, &child.deadline) {
            own.set_top(&child);
        }
        // The parent's deadline may be past without anybody having noticed.
        if self.has_reached_at(Level::Cancelled, due.now) || !self.link(&child) {
            child.inherit_end(&self.known_cause());
        }
        (child, right)
    }

    /// A root that is ended through a link.
    pub(crate) fn linked(origin: Origin, link: &Arc<Link>) -> (Self, Right) {
        let end = LinkEnd::new(Arc::clone(link));
        let (handle, right) = Self::pair(Node::allocate(origin, None, None, Some(end)));
        link.begin(&handle);
        (handle, right)
    }

    /// Whether both are handles of one node.
    pub(crate) fn same_node(&self, other: &Self) -> bool {
        self.node == other.node
    }

    /// A number that no other node has while this one is there.
    pub(crate) fn id(&self) -> usize {
        self.node.addr().get()
    }

    /// Has a linked node own what its link needs, until it is gone.
    pub(crate) fn own(&self, registered: Registered) {
        self.link_end().expect("a linked node").own(registered);
    }

    /// A child that is shielded from what ends this node, until `end`; see `walk.rs`. It has no canceller.
    pub(crate) fn shielded(
        parent: Option<&Self>,
        origin: Origin,
        end: Instant,
        timer: Timer,
    ) -> Self {
        let place = origin.place();
        let end = Limit::new(end, timer, place);
        let above = parent.and_then(|parent| parent.deadline.as_ref());
        // A deadline above that comes first is masked: it is a stop here.
        let masked = above.filter(|above| above.at() < end.at()).cloned();
        let limit = match &masked {
            Some(masked) => Some(masked.later(end.at())),
            None => above.cloned(),
        };
        let shield = Shield { end, masked: masked.clone() };
        let (child, right) = Self::pair(Node::allocate(origin, limit, Some(shield), None));
        right.disarm();
        let Some(parent) = parent else { return child };
        if let (true, Some(own)) = (masked.is_some(), &child.deadline) {
            own.set_top(&child);
        }
        if parent.has_reached(Level::Cancelled) || !parent.link(&child) {
            child.begin_shielded(parent);
            return child;
        }
        // Nobody who waits inside would have it timed.
        masked.iter().for_each(Limit::arm);
        // The lock is released before: what is armed may expire at once.
        let grace = { child.lock().grace() };
        grace.iter().for_each(Limit::arm);
        child
    }

    /// Begins below a node that is cancelled already: as a stop that becomes a cancel when the shield's time is over.
    fn begin_shielded(&self, parent: &Node) {
        let Some(end) = self.shield_end().filter(|end| !end.is_past()).cloned() else {
            return self.inherit_end(&parent.known_cause());
        };
        self.inherit_stop(&parent.known_cause(), Some(Arc::clone(&end)));
        end.set_top(self);
        // Cancels at once, if the timer is gone.
        end.arm();
    }

    /// Links a child that nobody has seen, unless this node is cancelled.
    fn link(&self, child: &Node) -> bool {
        let mut locked = self.lock();
        let word = locked.word();
        if word.has(Level::Cancelled) {
            return false;
        }
        if !word.has_children() {
            // A walk that sets a flag after this goes in.
            locked.set_word(word.with_children());
        }
        if word.has(Level::Stopping) {
            begin_stopping(&locked, child);
        }
        locked.link_child(child);
        true
    }
}

/// Has a child that nobody has seen begin below a node that is stopping.
#[cold]
fn begin_stopping(parent: &Locked<'_>, child: &Node) {
    let grace = parent.grace();
    // The end of a grace is a cancel, from which a shield protects, as it does when a walk brings the stop.
    let masks = |end: &&Arc<Limit>| {
        !end.is_past() && grace.as_ref().is_some_and(|grace| !end.is_before(grace))
    };
    let own = child.shield_end().filter(masks).cloned();
    if let Some(own) = &own {
        own.set_top(child);
    }
    child.inherit_stop(&parent.node().known_cause(), own.or(grace));
}

impl Node {
    /// Cancels it and everything below.
    pub(crate) fn cancel(&self, cause: Cause) {
        walk::cancel(self, cause);
    }

    /// Stops it and everything below, to be cancelled when `grace` is over. The chain's own timer
    /// keeps the grace, or else `timer`, or else that of the calling place.
    pub(crate) fn stop(&self, cause: Cause, grace: Duration, timer: Option<&Timer>) {
        if grace.is_zero() {
            return self.cancel(cause);
        }
        if grace == Duration::MAX {
            // Needs no timer.
            return walk::stop(self, cause, None);
        }
        let timer = self.timer().or_else(|| timer.cloned());
        let Ok(timer) = timer.map_or_else(Timer::ambient, Ok) else {
            return self.cancel(cause);
        };
        let Some(at) = timer.now().checked_add(grace) else {
            return walk::stop(self, cause, None);
        };
        let limit = Limit::new(at, timer, cause.place());
        walk::stop(self, cause, Some(limit));
    }

    /// Has the limits registered with their timers, because somebody is going to wait.
    pub(crate) fn arm_timers(&self) {
        if let Some(deadline) = &self.deadline {
            deadline.arm();
        }
    }
}

pub(crate) use seat::Seat;

/// A handle, or none: what a context has, and the background has not.
#[cfg(not(selvedge_loom))]
mod seat {
    use std::mem::ManuallyDrop;
    use std::ptr::NonNull;

    use super::super::word::{FlagWord, Level};
    use super::Handle;

    /// The flag word of what never ends.
    static NEVER: FlagWord = FlagWord::never();

    /// A pointer to the flag word of a node, with which the node begins; or to that of what never ends. So a look, which is
    /// the most that is done with a context, need not tell them apart.
    #[repr(transparent)]
    pub(crate) struct Seat(NonNull<FlagWord>);

    // SAFETY: a handle, or a pointer to a static.
    unsafe impl Send for Seat {}
    // SAFETY: as for Send.
    unsafe impl Sync for Seat {}

    impl Seat {
        /// None.
        pub(crate) const fn empty() -> Self {
            Self(Self::NEVER)
        }

        /// What an empty one points to.
        const NEVER: NonNull<FlagWord> = {
            let never: *const FlagWord = &raw const NEVER;
            // SAFETY: the address of a static is not null.
            unsafe { NonNull::new_unchecked(never.cast_mut()) }
        };

        /// A handle.
        pub(crate) fn of(handle: Handle) -> Self {
            Self(ManuallyDrop::new(handle).node.cast())
        }

        /// The handle, if there is one.
        #[inline]
        pub(crate) fn handle(&self) -> Option<&Handle> {
            if self.0 == Self::NEVER {
                return None;
            }
            let seat: *const Self = self;
            // SAFETY: it came from the pointer of a handle, which is all that a handle is, as this is of its own.
            Some(unsafe { &*seat.cast::<Handle>() })
        }

        /// Whether `level` is reached.
        #[inline]
        pub(crate) fn has_reached(&self, level: Level) -> bool {
            // SAFETY: the word of a node that is kept by a handle (N2), or a static.
            let word = unsafe { self.0.as_ref() };
            !word.load().is_quiet(level)
                && self.handle().is_some_and(|node| node.has_reached(level))
        }
    }

    impl Clone for Seat {
        #[inline]
        fn clone(&self) -> Self {
            self.handle().map_or(Self::empty(), |handle| Self::of(handle.clone()))
        }
    }

    impl Drop for Seat {
        #[inline]
        fn drop(&mut self) {
            if let Some(handle) = self.handle() {
                // SAFETY: the handle that this was made of; it is not used after that.
                drop(unsafe { std::ptr::read(handle) });
            }
        }
    }
}

/// Under loom there is no static word.
#[cfg(selvedge_loom)]
mod seat {
    use super::super::word::Level;
    use super::Handle;

    /// A handle, or none.
    #[derive(Clone)]
    pub(crate) struct Seat(Option<Handle>);

    impl Seat {
        /// None.
        pub(crate) const fn empty() -> Self {
            Self(None)
        }

        /// A handle.
        pub(crate) fn of(handle: Handle) -> Self {
            Self(Some(handle))
        }

        /// The handle, if there is one.
        pub(crate) fn handle(&self) -> Option<&Handle> {
            self.0.as_ref()
        }

        /// Whether `level` is reached.
        pub(crate) fn has_reached(&self, level: Level) -> bool {
            self.0.as_ref().is_some_and(|handle| handle.has_reached(level))
        }
    }
}

/// The right to cancel a node: counted by itself, so that the last one to go can cancel. All rights of a node
/// together have one handle.
pub(crate) struct Right {
    /// The node; alive because of the common handle (N2).
    node: Ptr,
}

// SAFETY: as for `Handle`.
unsafe impl Send for Right {}
// SAFETY: as for `Handle`.
unsafe impl Sync for Right {}

impl Right {
    /// The node.
    pub(crate) fn node(&self) -> &Node {
        // SAFETY: N2.
        unsafe { Node::at(self.node) }
    }

    /// A handle to the node.
    pub(crate) fn handle(&self) -> Handle {
        self.node().add_handle();
        Handle { node: self.node }
    }

    /// Dropping the last right does not cancel any more.
    pub(crate) fn disarm(&self) {
        let mut locked = self.node().lock();
        let word = locked.word();
        locked.set_word(word.disarmed());
    }
}

impl Clone for Right {
    fn clone(&self) -> Self {
        self.node().add_canceller();
        Self { node: self.node }
    }
}

impl Drop for Right {
    fn drop(&mut self) {
        let node = self.node();
        if !node.drop_canceller() {
            return;
        }
        // The common handle is the caller's from here on; it is dropped at the end, also when a waker panics.
        let handle = Handle { node: self.node };
        if !node.word().load().is_armed() || node.is_unseen() {
            return;
        }
        let cancel = || handle.cancel(Cause::at(CauseKind::Dropped, node.place()));
        if panicking() {
            // A waker's panic would be the second one, and abort; it was reported by the hook.
            contain(cancel);
        } else {
            cancel();
        }
    }
}

/// Who waits on a node for a level, with a handle of its own, or one that is borrowed for `'a`.
///
/// A future that borrows and is leaked stays in the node's list when the borrow ends, and the node may go before it. Nobody can
/// reach the future any more; its memory stays, because it is pinned. So for as long as the node is there, a walk may wake it;
/// when the node goes, nobody looks at its lists.
pub(crate) struct Wait<'a> {
    /// Keeps the node live. One that is borrowed is a copy, which is never dropped.
    handle: ManuallyDrop<Handle>,
    /// Whether it is its own.
    is_own: bool,
    /// For what.
    level: Level,
    /// The borrow.
    borrow: PhantomData<&'a Handle>,
}

impl<'a> Wait<'a> {
    /// Keeps the node live by itself.
    #[inline]
    pub(crate) fn owned(handle: Handle, level: Level) -> Self {
        Self { handle: ManuallyDrop::new(handle), is_own: true, level, borrow: PhantomData }
    }

    /// The node is kept live by `handle`: two read-modify-writes less.
    #[inline]
    pub(crate) fn borrowed(handle: &'a Handle, level: Level) -> Self {
        let handle = ManuallyDrop::new(Handle { node: handle.node });
        Self { handle, is_own: false, level, borrow: PhantomData }
    }

    /// The node.
    #[inline]
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// For what.
    #[inline]
    pub(crate) fn level(&self) -> Level {
        self.level
    }
}

impl Drop for Wait<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_own {
            // SAFETY: its own, and not used after this.
            unsafe { ManuallyDrop::drop(&mut self.handle) };
        }
    }
}

/// A node's lock, held by one who waits on it.
pub(crate) struct Waiting<'a>(Locked<'a>);

impl Waiting<'_> {
    /// Whether there is nothing to wait for. If there is, walks know of a waiter from now on.
    #[inline]
    pub(crate) fn is_over(&mut self, level: Level) -> bool {
        let word = self.0.word();
        if word.has(level) {
            return true;
        }
        if !word.has_waiters() {
            // A walk that sets a flag after this wakes.
            self.0.set_word(word.with_waiters());
        }
        false
    }
}

// SAFETY: it is always the same node's lock, behind which its lists lie, one a level; the handle, its own or the one it
// borrows, keeps the node.
unsafe impl Line for Wait<'_> {
    type Request = ();
    type Outcome = ();
    type Guard<'g>
        = Waiting<'g>
    where
        Self: 'g;

    #[inline]
    fn lock(&self) -> Waiting<'_> {
        Waiting(self.handle.lock())
    }

    #[inline]
    unsafe fn list<'g>(&self, guard: &'g mut Waiting<'_>) -> &'g mut List<(), ()> {
        assert!(std::ptr::eq(guard.0.node(), &**self.handle()), "the lock of another node");
        guard.0.waiters(self.level)
    }

    fn subject(&self) -> &Subject {
        self.handle.level_subject(self.level)
    }
}

/// A handle is a word.
const _: () = assert!(size_of::<Option<Handle>>() == size_of::<NonNull<Node>>());

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::Context as TaskContext;
    use std::time::Duration;

    use selvedge_primitives::time::Timer;
    use selvedge_testkit::{CountingWaker, watchdog};

    use super::super::word::Level;
    use crate::Context;

    #[test]
    fn a_poll_by_the_same_task_takes_no_lock() {
        watchdog(Duration::from_secs(60), "a poll beside a lock", || {
            let (ctx, canceller) = Context::background().child();
            let mut waiting = Box::pin(ctx.cancelled());
            let waker = CountingWaker::new().waker();
            let cx = &mut TaskContext::from_waker(&waker);
            assert!(waiting.as_mut().poll(cx).is_pending());
            let locked = ctx.handle().expect("it is a node").lock();
            assert!(waiting.as_mut().poll(cx).is_pending());
            assert!(!ctx.is_cancelled() && ctx.check().is_ok());
            drop(ctx.clone());
            drop(locked);
            drop((waiting, canceller));
        });
    }

    #[test]
    fn a_look_records_a_past_deadline_on_its_node_only() {
        let (timer, clock) = Timer::manual();
        let second = Duration::from_secs(1);
        let made = Context::background().child_with().timeout(second).timer(timer).build();
        let (ctx, _canceller) = made.expect("the timer is given");
        let (child, _child_canceller) = ctx.child();
        clock.advance_silently(second);
        assert!(child.is_cancelled());
        let flagged =
            |ctx: &Context| ctx.handle().expect("it is a node").word().load().has(Level::Cancelled);
        assert!(flagged(&child) && !flagged(&ctx));
    }

    #[test]
    fn a_count_that_was_leaked_beyond_measure_is_refused_and_stays_as_it_was() {
        let (ctx, canceller) = Context::background().child();
        let node = ctx.handle().expect("it is a node");
        let before = node.pretend_to_be_leaked();
        for (what, refused) in [
            ("context not cloned", catch_unwind(AssertUnwindSafe(|| drop(ctx.clone())))),
            ("canceller not cloned", catch_unwind(AssertUnwindSafe(|| drop(canceller.clone())))),
        ] {
            let panic = refused.unwrap_err();
            let text = panic.downcast_ref::<String>().expect("a message");
            assert!(text.contains(what), "{text}");
        }
        node.be_counted_again(before);
        let (again, canceller_again) = (ctx.clone(), canceller.clone());
        drop((again, canceller_again));
        assert!(!ctx.is_cancelled());
    }
}
