//! The engine: a tree of nodes, each with a lock of its own, and a flag word that is read without it.
//!
//! | file | what |
//! |---|---|
//! | `word.rs` | the flag word: levels, and what walks, waiters and children agree upon |
//! | `node.rs` | a node's memory, who guards which field, and who keeps a node alive (N1 to N5) |
//! | `handle.rs` | what keeps a node live, contexts and cancellers above all; who waits; making children |
//! | `walk.rs` | cancel and stop: the flag pass, the wake pass |
//! | `leave.rs` | dropping the last handle: unlink, splice, relay |
//! | `limit.rs` | deadlines and graces |
//! | `link.rs` | what ends a node because other contexts have ended |
//! | `name.rs` | names, to be copied under a lock |
//! | `top.rs` | the node at which a limit or a link begins, which has no handle to it |
//! | `trampoline.rs` | what would otherwise recurse through links |
//! | `tracker.rs` | who has entered a node |
//! | `survey.rs` | looking at a whole tree |
//! | `chain.rs` | nodes in a row, for the wake pass |
//!
//! # Protocol
//!
//! *Create*: allocate; lock the parent; look at its flags; link; unlock. One allocation, one critical section of
//! a few stores.
//!
//! *Cancel*: set the flags of the node; go through its descendants, a parent's lock at a time, and set theirs;
//! then wake who waits. When it returns every descendant is flagged, whoever did it: a walk that meets another
//! waits for it, and there is nothing in a flag pass that could take long but the pass itself. A cancel of what
//! was walked is O(1).
//!
//! *Wait*: a waiter looks at the flag word under the node's lock, and queues behind that lock, under which a walk sets
//! the word and takes out who waits. So the waiter is in the list when the walk comes by, or it sees the flag. Polled again by
//! the same task it looks at its own place and at the flag word (and at a clock, if there is a deadline), and touches no lock.
//!
//! *Drop*: when the last handle is gone the node is unlinked, spliced out, or stays as a relay: O(1).
//!
//! # Deadlines
//!
//! A node's effective deadline is fixed when it is made: the earlier of its parent's and its own. Inheriting
//! shares the `Limit`, so a million children of a parent that is due earlier share one. It registers with the
//! timer once, when somebody waits at any node that carries it; when it expires, the walk begins at its top. A
//! bit in the flag word says that a limit is there: then a look at the flags looks at the clock as well, and
//! records a past limit on its own node, without walking or waking; the timer or the next cancel finds the node
//! flagged but not walked, and walks through it. So a recorded flag is no reason to end a limit: a stop ends none,
//! whatever it finds, but a grace that it replaces, and times every grace that it handed out.
//!
//! # Lock order
//!
//! A node before its child, then a limit's or a link's top, a tracker's, and then a timer's clock. No lock is held while
//! registering with a timer, which may expire the registration at once, nor while anything of a user's runs or is dropped.

mod chain;
mod handle;
mod leave;
mod limit;
mod link;
mod name;
mod node;
mod survey;
mod top;
mod tracker;
mod trampoline;
mod walk;
mod word;

pub(crate) use handle::{Due, Handle, Right, Seat, Wait};
pub(crate) use link::Link;
pub(crate) use name::Name;
pub(crate) use survey::Seen;
pub(crate) use tracker::{Inhabitant, Stage, Tracker, Who};
pub(crate) use word::Level;
