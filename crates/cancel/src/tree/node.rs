//! A node: its memory, its lock, and what lies behind it.
//!
//! A node is one allocation, written by hand into two ends: at the front what the world reads (the flag
//! word first), at the back what making, cloning and dropping write (the count of handles and the lock
//! last), at least a cache line apart. What a walk uses lies beside the lock, and in between what seldom changes.
//!
//! # Who guards what
//!
//! | field | guarded by |
//! |---|---|
//! | `word` | read by everybody; written with the node's own lock held, or before anybody has seen the node |
//! | `cancellers`, `handles`, `pins` | atomics |
//! | `cause` | written once, with the node's own lock held, before STOPPING is in the word; read after that was seen there |
//! | `children`, `cursor`, `waiters`, `grace`, [`Flags`] | the node's own lock |
//! | `next`, `slot` | the parent's lock |
//! | `parent` | written with the locks of the old parent, the new one and the node held; see below for reading |
//! | `extra` | its own atomic: set once |
//! | `deadline`, `place`, `subject`, `levels`, `since` | written before anybody has seen the node |
//! | `link` | whoever has the node in a [`Chain`](super::chain::Chain): there is one at a time |
//!
//! # Who is alive
//!
//! Referred to by the `SAFETY` notes of this folder:
//!
//! - **N1** A node's memory is freed by the one who owns its removal, and by nobody else; that is after it
//!   was unlinked under its parent's lock (and its own, unless it is simple). `leave.rs` says who owns it.
//! - **N2** A node with a handle is not removed: who has a handle may look at the node.
//! - **N3** Under a node's lock its children are alive: each is unlinked under that lock before it is
//!   freed.
//! - **N4** A node that is *held* (a walk goes through its children), *queued* (a walk has still to wake it), *pinned* (a
//!   limit has expired, or a link ends it, and the walk is about to begin; or a second walk has still to wake it) or *entered*
//!   (somebody is inside) is not removed.
//! - **N5** The parent of a node is alive for as long as it is the parent. It does not change while the parent is held, or
//!   while somebody owns the removal of the node. So a walk below the node where it started, and the owner, may read
//!   `parent` without a lock.
#![allow(unsafe_code, reason = "the memory of the tree's nodes")]
// tidy: std-sync, a cell for the provenance of pointers, and a tracker that is set once, as an Arc is std's

mod locked;

use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::thread::panicking;
use std::time::{Duration, Instant};

use selvedge_primitives::atomic::{AtomicCount, AtomicU8, Ordering};
use selvedge_primitives::observe::Subject;
use selvedge_primitives::time::{Moment, Now, Timer};
use selvedge_primitives::{List, OnceBox, Origin, SpinLock, UnsafeCell, contain};

use super::limit::Limit;
use super::link::LinkEnd;
use super::name::Name;
use super::tracker::{Inhabitant, Tracker, Who};
use super::word::{By, FlagWord, Level, Word};
use crate::cause::raw;
use crate::{Cause, CauseKind};

pub(super) use self::locked::{Locked, OnlyChild, make_root};

/// A node somewhere; whether it is alive is the business of who has the pointer.
pub(super) type Ptr = NonNull<Node>;

/// A node of a tree.
///
/// All of it in a cell: pointers to it are made from shared references, and the last one frees it.
#[repr(transparent)]
pub(crate) struct Node(std::cell::UnsafeCell<Fields>);

impl Deref for Node {
    type Target = Fields;

    #[inline]
    fn deref(&self) -> &Fields {
        // SAFETY: no `&mut` to the fields is made while there is a way to the node.
        unsafe { &*self.0.get() }
    }
}

/// What a node consists of.
///
/// `repr(C)`, so that the two ends are where the module's page says.
#[repr(C)]
pub(crate) struct Fields {
    /// The flags.
    word: FlagWord,
    /// How many cancellers there are; together they have one handle.
    cancellers: AtomicCount,
    /// The first cause, as [`raw`] packs it.
    cause: Guarded<*mut ()>,
    /// The earliest deadline in the chain.
    pub(super) deadline: Option<Arc<Limit>>,
    /// Where it was made.
    place: &'static Location<'static>,
    /// What few nodes have.
    extra: OnceBox<Extra>,
    /// The node above; none for a root, and for a node that was born cancelled.
    parent: Guarded<Option<Ptr>>,
    /// The earliest end of a grace.
    grace: UnsafeCell<Option<Arc<Limit>>>,
    /// Where the walk through the children is: the child that it visits next.
    cursor: Slot,
    /// What points to this node: a sibling's `next`, or one of the parent's `children`.
    slot: Guarded<Option<NonNull<Slot>>>,
    /// The children, in two lists: those that were made by one half of all threads, and by the other. So two
    /// threads that make and drop children of one node do not write to each other's.
    children: [Slot; 2],
    /// Who waits for STOPPING, and who for CANCELLED.
    waiters: [UnsafeCell<List<(), ()>>; 2],
    /// The next in a chain.
    link: Slot,
    /// The sibling that was made before it, on the same side.
    next: Slot,
    /// How many handles there are: contexts, futures that do not borrow, and one for all cancellers.
    handles: AtomicCount,
    /// The lock.
    lock: SpinLock<Flags>,
    /// How many are about to hold it, because of a limit or a link of which it is the top, or to wake here beside the walk that
    /// has it in its list.
    pins: AtomicU8,
    /// Tells the observer that the node was made, and when it is gone.
    subject: Subject,
    /// What those who wait for a level are told to wait for.
    levels: [Subject; 2],
    /// When it was made.
    #[cfg(feature = "age")]
    since: Instant,
}

/// Two ends of a node that are at least a cache line apart.
#[cfg(all(not(selvedge_loom), target_pointer_width = "64"))]
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Fields, children) >= 64 + offset_of!(Fields, cause));
    // A pointer to a node is one to its flag word.
    assert!(offset_of!(Fields, word) == 0);
};
/// What a child costs in memory, without what two features add.
#[cfg(all(
    not(selvedge_loom),
    not(feature = "observe"),
    not(feature = "age"),
    target_pointer_width = "64"
))]
const _: () = assert!(size_of::<Node>() <= 128);

/// What masks a cancel from above.
pub(super) struct Shield {
    /// When its time is over.
    pub(super) end: Arc<Limit>,
    /// The deadline above that comes before that, if there is one: it is a stop here, although the node does not carry it.
    pub(super) masked: Option<Arc<Limit>>,
}

/// What few nodes have.
#[derive(Default)]
struct Extra {
    /// The name that it was given.
    name: Option<Name>,
    /// Its shield.
    shield: Option<Shield>,
    /// What ends it from outside of the tree.
    link: Option<LinkEnd>,
    /// Who has entered.
    tracker: OnceLock<Tracker>,
}

/// What the lock guards beside the links: a set of [`Flag`]s.
#[derive(Default)]
pub(super) struct Flags(u8);

/// What can be true of a node under its lock.
#[derive(Debug, Clone, Copy)]
pub(super) enum Flag {
    /// Somebody goes through the children.
    Held = 1,
    /// The last handle is gone, and who dropped it has left the node to be removed by others.
    Dead = 2,
    /// Somebody owns its removal.
    Leaving = 4,
    /// The walk through the children is at the second of their two lists.
    Second = 8,
    /// It is in the list of a walk that has still to wake.
    Queued = 16,
    /// Beside `Queued`: that walk brought CANCELLED, not only STOPPING.
    Later = 32,
}

impl Flags {
    /// Whether it is true.
    pub(super) const fn is(&self, flag: Flag) -> bool {
        self.0 & flag as u8 != 0
    }

    /// Says so.
    pub(super) const fn set(&mut self, flag: Flag) {
        self.0 |= flag as u8;
    }

    /// Says that it is not.
    pub(super) const fn clear(&mut self, flag: Flag) {
        self.0 &= !(flag as u8);
    }
}

/// A field that a lock or an owner guards; see the module's page.
struct Guarded<T>(UnsafeCell<T>);

/// A guarded pointer to a node.
type Slot = Guarded<Option<Ptr>>;

impl<T: Copy> Guarded<T> {
    /// A field.
    fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Reads it.
    ///
    /// # Safety
    ///
    /// Nobody writes it meanwhile.
    unsafe fn get(&self) -> T {
        self.0.with(|value| {
            // SAFETY: the caller's contract.
            unsafe { *value }
        })
    }

    /// Writes it.
    ///
    /// # Safety
    ///
    /// Nobody reads or writes it meanwhile.
    unsafe fn set(&self, to: T) {
        self.0.with_mut(|value| {
            // SAFETY: the caller's contract.
            unsafe { *value = to };
        });
    }
}

// SAFETY: a node is shared by all threads that have a way to it. Its atomics and its lock are made for
// that; the other fields are written under the guards of the module's page. What it owns (a cause's
// error, limits, names, wakers) is Send and Sync.
unsafe impl Send for Node {}
// SAFETY: as for Send.
unsafe impl Sync for Node {}

/// The most handles, or cancellers, that a node may have: far from where the count would wrap.
const MOST: u32 = u32::MAX / 2;

impl Node {
    /// Allocates a node that nobody has seen: with two handles, of a context and of a canceller.
    #[inline(always)]
    pub(super) fn allocate(
        origin: Origin,
        deadline: Option<Arc<Limit>>,
        shield: Option<Shield>,
        link: Option<LinkEnd>,
    ) -> Ptr {
        let subject = Subject::new("context", &origin);
        subject.created();
        let levels = [subject.part("context stopping"), subject.part("context cancelled")];
        let (name, place) = origin.into_parts();
        let name = name.map(Name::from);
        let word = Word::fresh(deadline.is_some(), shield.is_some(), link.is_some());
        let extra = if name.is_some() || shield.is_some() || link.is_some() {
            Some(Box::new(Extra { name, shield, link, tracker: OnceLock::new() }))
        } else {
            None
        };
        let node = Box::write(
            Box::new_uninit(),
            Self(std::cell::UnsafeCell::new(Fields {
                word: FlagWord::new(word),
                cancellers: AtomicCount::new(1),
                cause: Guarded::new(std::ptr::null_mut()),
                deadline,
                place,
                extra: OnceBox::new(extra),
                parent: Guarded::new(None),
                grace: UnsafeCell::new(None),
                link: Guarded::new(None),
                cursor: Guarded::new(None),
                children: [Guarded::new(None), Guarded::new(None)],
                waiters: [UnsafeCell::new(List::new()), UnsafeCell::new(List::new())],
                next: Guarded::new(None),
                slot: Guarded::new(None),
                handles: AtomicCount::new(2),
                lock: SpinLock::new(Flags::default()),
                pins: AtomicU8::new(0),
                subject,
                levels,
                #[cfg(feature = "age")]
                since: Instant::now(),
            })),
        );
        NonNull::from(Box::leak(node))
    }

    /// Frees a node. A cause's error and whatever it owns are dropped here: call it with no lock held.
    ///
    /// # Safety
    ///
    /// The caller owns the removal, and has unlinked the node (N1); nobody has a way to it any more.
    pub(super) unsafe fn free(node: Ptr) {
        // SAFETY: it came from `Box::leak` in `allocate`, and the caller is the last to have it.
        let node = unsafe { Box::from_raw(node.as_ptr()) };
        if panicking() {
            // The panic of an error's destructor would be the second one, and abort; it was reported by the hook.
            contain(|| drop(node));
        }
    }

    /// The node behind a pointer.
    ///
    /// # Safety
    ///
    /// It is alive for as long as the reference is used.
    #[inline]
    pub(super) unsafe fn at<'a>(node: Ptr) -> &'a Self {
        // SAFETY: the caller's contract; no `&mut` to a node is ever made.
        unsafe { node.as_ref() }
    }

    /// The flag word.
    #[inline]
    pub(super) fn word(&self) -> &FlagWord {
        &self.word
    }

    /// Counts a handle.
    ///
    /// # Panics
    ///
    /// When there are more than two thousand million: a program that leaks them.
    #[inline]
    pub(super) fn add_handle(&self) {
        Self::add(
            &self.handles,
            "context not cloned: it has been leaked two thousand million times",
        );
    }

    /// Counts a canceller.
    ///
    /// # Panics
    ///
    /// As [`add_handle`](Self::add_handle).
    pub(super) fn add_canceller(&self) {
        Self::add(
            &self.cancellers,
            "canceller not cloned: it has been leaked two thousand million times",
        );
    }

    /// Counts one more, far below where the count would wrap.
    #[inline]
    fn add(count: &AtomicCount, refusal: &'static str) {
        // Relaxed: the caller has one already, so the count cannot reach zero meanwhile.
        if count.fetch_add(1, Ordering::Relaxed) > MOST {
            // Relaxed: as above.
            count.fetch_sub(1, Ordering::Relaxed);
            panic!("{refusal}");
        }
    }

    /// Counts a handle, unless the last one is gone.
    pub(super) fn try_add_handle(&self) -> bool {
        let counted = |handles: u32| if handles == 0 { None } else { Some(handles + 1) };
        // Relaxed: whoever calls this has the locks of the node and of its parent, which order what it looks at. What
        // others did with their handles is ordered for whoever drops the last one.
        self.handles.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted).is_ok()
    }

    /// Drops a handle, and says whether it was the last. From then on the caller, and nobody else, is to
    /// [retire](super::leave::retire) the node.
    #[inline]
    #[must_use = "retire the node if it was the last"]
    pub(super) fn drop_handle(&self) -> bool {
        // AcqRel: what was done with this handle is done before the node is removed, and who
        // removes it sees what was done with all the others. It is also where the one who replaces the
        // parent sees that the node is on its way out; see `leave.rs`.
        self.handles.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Drops a canceller, and says whether it was the last.
    #[inline]
    pub(super) fn drop_canceller(&self) -> bool {
        // Acquire: pairs with the Release below; what the others did, `detach` above all, is visible to
        // the last. One that is alone cannot be cloned meanwhile, so it need not be counted down.
        self.cancellers.load(Ordering::Acquire) == 1
            // AcqRel: as above; and what this one did is visible to the last.
            || self.cancellers.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether there is a single handle, the caller's, no child, and nobody has entered: then nobody waits (who does has a
    /// handle, or borrows one), and nobody can tell whether the node was cancelled.
    #[inline]
    pub(super) fn is_unseen(&self) -> bool {
        // Acquire: what was done with other handles is visible, children above all.
        if self.handles.load(Ordering::Acquire) != 1 {
            return false;
        }
        let word = self.word.load();
        !word.has_children() && !word.is_tracked()
    }

    /// Whether there is a handle. A look: the last one may go at any time.
    pub(super) fn has_handle(&self) -> bool {
        // Relaxed: nothing is concluded from it.
        self.handles.load(Ordering::Relaxed) != 0
    }

    /// How long ago it was made; none without the feature `age`.
    pub(super) fn age(&self) -> Option<Duration> {
        #[cfg(feature = "age")]
        return Some(self.since.elapsed());
        #[cfg(not(feature = "age"))]
        None
    }

    /// Pins it. Call it where the node is known to be there: under the lock of what it is the top of, or under its own.
    pub(super) fn pin(&self) {
        // Where it would wrap it stays: the node is never removed then.
        let count = |pins: u8| pins.checked_add(1);
        // Relaxed: ordered by that lock, which whoever removes the node takes before it looks.
        let _ = self.pins.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
    }

    /// Takes a pin back. Call it under the node's lock.
    pub(super) fn unpin(&self) {
        let count = |pins: u8| (pins < u8::MAX).then(|| pins - 1);
        // Relaxed: looked at under the node's lock.
        let _ = self.pins.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
    }

    /// Whether somebody is about to hold it. Call it under the node's lock.
    pub(super) fn is_pinned(&self) -> bool {
        // Relaxed: see `pin` and `unpin`.
        self.pins.load(Ordering::Relaxed) != 0
    }

    /// The node above.
    ///
    /// # Safety
    ///
    /// The parent does not change meanwhile: N5.
    pub(super) unsafe fn parent(&self) -> Option<Ptr> {
        // SAFETY: the caller's contract.
        unsafe { self.parent.get() }
    }

    /// The next in the chain.
    ///
    /// # Safety
    ///
    /// The node is in a chain of the caller's.
    pub(super) unsafe fn link(&self) -> Option<Ptr> {
        // SAFETY: the caller's contract.
        unsafe { self.link.get() }
    }

    /// Sets the next in the chain.
    ///
    /// # Safety
    ///
    /// The node is in a chain of the caller's, or is about to be.
    pub(super) unsafe fn set_link(&self, next: Option<Ptr>) {
        // SAFETY: the caller's contract.
        unsafe { self.link.set(next) };
    }

    /// What is told of those who wait for `level`.
    pub(super) fn level_subject(&self, level: Level) -> &Subject {
        &self.levels[level as usize]
    }

    /// Its shield.
    pub(super) fn shield(&self) -> Option<&Shield> {
        if self.word.load().has_shield() { self.extra.get()?.shield.as_ref() } else { None }
    }

    /// When its shield's time is over.
    pub(super) fn shield_end(&self) -> Option<&Arc<Limit>> {
        self.shield().map(|shield| &shield.end)
    }

    /// What ends it from outside of the tree.
    pub(super) fn link_end(&self) -> Option<&LinkEnd> {
        if self.word.load().is_linked() { self.extra.get()?.link.as_ref() } else { None }
    }

    /// Who has entered; none if nobody ever has.
    #[inline]
    pub(super) fn tracker(&self) -> Option<&Tracker> {
        if self.word.load().is_tracked() { self.extra.get()?.tracker.get() } else { None }
    }

    /// Enters, unless the node is stopping.
    #[inline(always)]
    pub(crate) fn enter(&self, who: Who) -> Option<Inhabitant> {
        if self.has_reached(Level::Stopping) {
            return None;
        }
        let tracker = match self.tracker() {
            Some(tracker) => tracker,
            None => self.begin_tracker()?,
        };
        tracker.enter(who, || self.word.load().has(Level::Stopping))
    }

    /// The tracker of a node that nobody has entered yet; none if the node is stopping.
    #[cold]
    fn begin_tracker(&self) -> Option<&Tracker> {
        let tracker = self.extra.get_or_init(Extra::default).tracker.get_or_init(Tracker::new);
        let mut locked = self.lock();
        // Whoever comes to wait after the node was stopped finds the tracker, or this one the flag.
        let word = locked.word();
        if word.has(Level::Stopping) {
            return None;
        }
        locked.set_word(word.tracked());
        Some(tracker)
    }

    /// Has a node that nobody has seen yet begin as a child of one that is cancelled.
    pub(super) fn inherit_end(&self, cause: &Cause) {
        self.inherit(cause, self.word.get().cancelled());
    }

    /// Has a node that nobody has seen yet begin as a child of one that is stopping.
    pub(super) fn inherit_stop(&self, cause: &Cause, grace: Option<Arc<Limit>>) {
        self.inherit(cause, self.word.get().stopping(grace.is_some()));
        self.grace.with_mut(|held| {
            // SAFETY: nobody else has seen the node.
            unsafe { *held = grace };
        });
    }

    /// Has a node that nobody has seen yet begin with a cause.
    fn inherit(&self, cause: &Cause, word: Word) {
        debug_assert!(!self.word.get().has(Level::Stopping), "it begins once");
        // SAFETY: nobody else has seen the node.
        unsafe { self.cause.set(raw::into_raw(cause.clone())) };
        self.word.set(word);
    }

    /// Whether `level` is reached, with a look at the clock if there is a limit.
    #[inline]
    pub(crate) fn has_reached(&self, level: Level) -> bool {
        self.has_reached_at(level, None)
    }

    /// Whether `level` is reached, by what a clock of the deadline has just said.
    #[inline]
    pub(crate) fn has_reached_at(&self, level: Level, now: Option<Now>) -> bool {
        let word = self.word.load();
        !word.is_quiet(level) && (word.has(level) || self.is_past_limit(word, now))
    }

    /// Looks at the clock, and records a past limit on this node only.
    #[cold]
    fn is_past_limit(&self, word: Word, now: Option<Now>) -> bool {
        if let Some(cause) = self.past_deadline(now) {
            self.lock().raise(Level::Cancelled, &cause, By::Look);
            return true;
        }
        self.is_past_grace(word)
    }

    /// The cause of a deadline that is past.
    pub(super) fn past_deadline(&self, now: Option<Now>) -> Option<Cause> {
        let deadline = self.deadline.as_ref().filter(|deadline| deadline.is_past_at(now))?;
        Some(deadline.cause(CauseKind::Deadline))
    }

    /// The earliest deadline in the chain, with its timer.
    pub(crate) fn deadline_moment(&self) -> Option<&Moment> {
        Some(self.deadline.as_ref()?.moment())
    }

    /// Looks whether the end of a grace is past, and records it.
    fn is_past_grace(&self, word: Word) -> bool {
        if !word.has_grace() {
            return false;
        }
        let mut locked = self.lock();
        let past = locked.is_past_grace();
        if past {
            // A grace has a stop's cause, so this one is not used.
            locked.raise(Level::Cancelled, &Cause::at(CauseKind::Stopped, self.place), By::Look);
        }
        past
    }

    /// The cause, if a level is reached.
    pub(crate) fn cause(&self) -> Option<Cause> {
        self.has_reached(Level::Stopping).then(|| self.known_cause())
    }

    /// The cause of a node of which a flag was seen.
    pub(crate) fn known_cause(&self) -> Cause {
        assert!(self.word.load().has(Level::Stopping), "a cause before a flag");
        // SAFETY: it is not written after the flag, which was seen.
        let cause = unsafe { self.cause.get() };
        // SAFETY: it came from a cause, and is turned back when the node is freed, which the caller's way to the node rules
        // out.
        unsafe { raw::clone_raw(cause) }
    }

    /// The earliest deadline in the chain.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.as_ref().map(|deadline| deadline.at())
    }

    /// How long until the deadline.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        Some(self.deadline.as_ref()?.remaining())
    }

    /// How long until the deadline, or the end of a grace, whichever comes first.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        let grace = self.grace();
        self.remaining().into_iter().chain(grace.map(|grace| grace.remaining())).min()
    }

    /// The timer of the chain.
    pub(crate) fn timer(&self) -> Option<Timer> {
        match &self.deadline {
            Some(deadline) => Some(deadline.timer().clone()),
            None => self.grace().map(|grace| grace.timer().clone()),
        }
    }

    /// The end of the grace, if a stop gave one.
    fn grace(&self) -> Option<Arc<Limit>> {
        if self.word.load().has_grace() { self.lock().grace() } else { None }
    }

    /// The name it was given.
    pub(crate) fn name(&self) -> Option<&Name> {
        self.extra.get()?.name.as_ref()
    }

    /// Where it was made.
    pub(crate) fn place(&self) -> &'static Location<'static> {
        self.place
    }
}

#[cfg(all(test, not(selvedge_loom)))]
impl Node {
    /// Sets the counts to what they would be if handles and cancellers had been leaked. Returns what they were.
    pub(super) fn pretend_to_be_leaked(&self) -> [u32; 2] {
        // Relaxed: one thread.
        [&self.handles, &self.cancellers].map(|count| count.swap(MOST + 1, Ordering::Relaxed))
    }

    /// Sets them back.
    pub(super) fn be_counted_again(&self, [handles, cancellers]: [u32; 2]) {
        // Relaxed: one thread.
        self.handles.store(handles, Ordering::Relaxed);
        // Relaxed: as above.
        self.cancellers.store(cancellers, Ordering::Relaxed);
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        if self.word.load().has(Level::Stopping) {
            // SAFETY: nobody has a way to the node any more, and it was written before the flag.
            let cause = unsafe { self.cause.get() };
            // SAFETY: it came from a cause, and is turned back only here.
            drop(unsafe { raw::from_raw(cause) });
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({})", &**name, self.place)?,
            None => write!(f, "made at {}", self.place)?,
        }
        match self.cause() {
            None => f.write_str(", running"),
            Some(cause) if self.has_reached(Level::Cancelled) => write!(f, ", {cause}"),
            Some(cause) => write!(f, ", stopping: {cause}"),
        }
    }
}
