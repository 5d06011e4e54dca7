//! The engine: one tree of nodes under one lock, and a cell a node that is read without it.
//!
//! # Structure
//!
//! - A [`Cell`] is what the world reads of a node: the flag word, the cause, the deadline, the
//!   queues of those who wait. It is reached without the tree's lock.
//! - A [`Tree`] holds the links: a slab of [`Entry`]s (parent, first child, siblings) under one
//!   lock. Every change of a link, and every flag set by a walk, happens under it.
//! - A [`Handle`] is what contexts, cancellers and waiting futures share: it keeps its entry *live*.
//!   A root makes the tree; its descendants share it.
//! - A [`Limit`] is a deadline or the end of a grace. It is shared by the nodes that inherit it,
//!   which form one connected part of the tree; its *top* is the highest of them.
//!
//! # Protocol
//!
//! *Create*: allocate, lock, look at the parent's flags, link, unlock. Flags are set under the same
//! lock, so a child is either seen by the walk or born with the flags.
//!
//! *Cancel*: lock; walk the descendants, setting flags and collecting cells; unlock; wake what
//! waits on the cells. A second cancel, above, below or beside, waits for the lock and so returns
//! after the flags are set: no user code runs in the walk. An entry remembers the level it was
//! walked at, and a walk does not enter what was walked at its level already, so cancelling again
//! is O(1) and n cancels cost O(nodes) in all.
//!
//! *Wait*: a waiter looks at the flag word under the lock of the cell's queue. A walk sets the word
//! before it takes that lock to wake. So the waiter is either in the queue when the walk comes by,
//! or sees the flag.
//!
//! *Drop*: when the last handle of an entry is gone, an entry without children is unlinked, one
//! with a single child is spliced out, and one with more stays as a relay. Unlinking can leave a
//! relay with a single child, which is then spliced. So relays have at least two children, and
//! nodes <= 2 x live - 1. All O(1); nothing recurses; nothing of the user's is dropped under the
//! lock.
//!
//! # Deadlines
//!
//! A node's effective deadline is fixed when it is made: the earlier of its parent's and its own.
//! Inheriting shares the [`Limit`], so a million children of a parent that is due earlier share
//! one. It registers with the timer once, when somebody waits at any node that carries it; when it
//! expires, the walk begins at its top. A bit in the flag word says that a limit is there: then
//! [`Cell::is_cancelled`] looks at the clock and records a past limit on its own node, without
//! walking or waking; the timer or the next cancel finds the node flagged but not walked, and
//! walks through it. So a recorded flag is no reason to end a limit: a stop ends none, whatever it
//! finds, and times every grace that it handed out.
//!
//! # Lock order
//!
//! tree, then a cell's details or a limit's registration, then a timer's clock. Queues are locked
//! with none of these held. No lock is held while registering with a timer, which may expire the
//! registration at once.

mod cell;
mod handle;
mod limit;
mod links;

pub(crate) use cell::Level;
pub(crate) use handle::Handle;
pub(crate) use limit::OwnDeadline;
