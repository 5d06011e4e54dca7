//! Looking at a whole tree: as text, and in numbers.

use std::fmt;
use std::time::Duration;

use crate::Context;
use crate::tree::Seen;

/// How deep lines are indented; what lies deeper says how deep.
const DEEPEST: usize = 32;

/// A tree as it was found, to be printed; from [`Context::dump`].
///
/// A line a context, children below their parent and further to the right:
///
/// ```text
/// service (src/main.rs:10:24): running, 1 waiting
///   request 7 (src/main.rs:14:30): running, due in 2.5s, 2 waiting, 1 inside
///     (src/main.rs:31:12): cancelled at src/main.rs:40:9
/// ```
pub struct Dump {
    /// The contexts, parents first; none for the background.
    seen: Vec<Seen>,
}

/// What is in a tree; from [`Context::counts`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Nodes: contexts, and those that are gone but join live branches, or shield one, or are linked. Without shields and links
    /// less than twice the live ones.
    pub nodes: usize,
    /// Nodes that have a context, a canceller, a future or a callback, or that somebody is inside.
    pub live: usize,
    /// Futures and callbacks that wait for a stop or a cancel.
    pub waiting: usize,
    /// Guards that are alive, of [`Context::enter`].
    pub inside: usize,
    /// Live contexts that nobody has ever waited on or entered, and that have had no child: made and not handed on, or asked
    /// by [`Context::is_cancelled`] only.
    pub never_awaited: usize,
    /// Guards inside of contexts that are gone otherwise: forgotten, or held by work that cannot be told to end.
    pub guards_forgotten: usize,
}

impl Context {
    /// The tree from this context downwards, as text: names, places, states, deadlines, who waits and who is inside, and, with
    /// the feature `age`, how old.
    ///
    /// Goes through the tree as a cancel does, and twice, to make room before; so a cancel of what is being looked at waits for
    /// it, and so does another look. The locks of a context and of the one above are held for as long as it takes to count those
    /// who wait on it. It is no picture of one moment: what changes meanwhile is shown as it was before or after. Nothing of a
    /// user's runs, nothing recurses.
    ///
    /// ```
    /// # use selvedge_cancel::Context;
    /// let (service, _keep) = Context::background().child_with().name("service").build().unwrap();
    /// let (request, canceller) = service.child();
    /// canceller.cancel();
    /// let text = service.dump().to_string();
    /// assert!(text.starts_with("service (") && text.contains("\n  ("));
    /// # drop(request);
    /// ```
    #[must_use = "print it"]
    pub fn dump(&self) -> Dump {
        Dump { seen: self.handle().map(|handle| handle.seen()).unwrap_or_default() }
    }

    /// What is in the tree from this context downwards. Costs what [`dump`](Self::dump) does; nothing is counted otherwise.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for seen in self.dump().seen {
            let live = seen.has_handle || seen.inside > 0;
            counts.nodes += 1;
            counts.live += usize::from(live);
            counts.waiting += seen.waiting;
            counts.inside += seen.inside;
            counts.never_awaited += usize::from(live && !seen.was_used);
            counts.guards_forgotten += if seen.has_handle { 0 } else { seen.inside };
        }
        counts
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seen.is_empty() {
            return f.write_str("background");
        }
        for (number, seen) in self.seen.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{:1$}", "", 2 * seen.depth.min(DEEPEST))?;
            if seen.depth > DEEPEST {
                write!(f, "[{}] ", seen.depth)?;
            }
            write!(f, "{seen}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{} ", &**name)?;
        }
        write!(f, "({}): ", self.place)?;
        match &self.end {
            None => f.write_str("running")?,
            Some((cause, true)) => write!(f, "{cause}")?,
            Some((cause, false)) => write!(f, "stopping: {cause}")?,
        }
        let time = |f: &mut fmt::Formatter<'_>, what, time: Option<Duration>| match time {
            Some(time) => write!(f, ", {what} {time:.1?}"),
            None => Ok(()),
        };
        let count = |f: &mut fmt::Formatter<'_>, count, what| match count {
            0 => Ok(()),
            count => write!(f, ", {count} {what}"),
        };
        time(f, "age", self.age)?;
        let runs = self.end.as_ref().is_none_or(|(_, now)| !now);
        time(f, "due in", self.due.filter(|_| runs))?;
        time(f, "shielded for", self.shielded.filter(|_| runs))?;
        count(f, self.waiting, "waiting")?;
        count(f, self.inside, "inside")?;
        if !self.has_handle {
            f.write_str(", no handle left")?;
        }
        Ok(())
    }
}
