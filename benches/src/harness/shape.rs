//! A piece of work, and those who do it.

use std::fmt;

use super::Count;

/// One piece of work, done by each contestant.
#[derive(Debug)]
pub struct Shape {
    /// The crate of ours that it is about, `cancel`.
    pub of: &'static str,
    /// What is done, `child`.
    pub name: &'static str,
    /// How much of it or by how many, `2 threads`.
    pub parameter: String,
    /// How many operations are timed at a time.
    pub work: Work,
    /// Who does it; ours first.
    pub contestants: Vec<Contestant>,
}

/// How many operations a contestant does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// As many as take about as long as a sample should, rounded up to a multiple of this.
    Calibrated(u64),
    /// This many: the shape is about them, as in a million jobs.
    Exactly(u64),
}

/// What a contestant is to the shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Our crate as its users have it.
    Ours,
    /// What people use instead; the best of these is who the ratio is to.
    Peer,
    /// Something to compare with that nobody would use instead: a bare atomic operation, the same
    /// work by ours under another parameter.
    Reference,
}

/// Somebody who does the work of a shape.
pub struct Contestant {
    /// `ours`, or the name of the peer.
    pub name: &'static str,
    /// What it is to the shape.
    pub role: Role,
    /// Does so many operations, checks what came of them, and says what they took.
    pub run: Box<dyn FnMut(u64) -> Count>,
}

impl Shape {
    /// A shape without contestants.
    pub fn new(
        of: &'static str,
        name: &'static str,
        parameter: impl Into<String>,
        work: Work,
    ) -> Self {
        Self { of, name, parameter: parameter.into(), work, contestants: Vec::new() }
    }

    /// With our crate.
    #[must_use]
    pub fn ours(self, run: impl FnMut(u64) -> Count + 'static) -> Self {
        self.with("ours", Role::Ours, run)
    }

    /// With a peer.
    #[must_use]
    pub fn peer(self, name: &'static str, run: impl FnMut(u64) -> Count + 'static) -> Self {
        self.with(name, Role::Peer, run)
    }

    /// With something to compare with.
    #[must_use]
    pub fn reference(self, name: &'static str, run: impl FnMut(u64) -> Count + 'static) -> Self {
        self.with(name, Role::Reference, run)
    }

    fn with(
        mut self,
        name: &'static str,
        role: Role,
        run: impl FnMut(u64) -> Count + 'static,
    ) -> Self {
        self.contestants.push(Contestant { name, role, run: Box::new(run) });
        self
    }
}

impl fmt::Debug for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contestant")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
