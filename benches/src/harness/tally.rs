//! What is counted and not timed: how much each contestant lets through, of what it should.
//!
//! A tally has no rounds and no operations, and the same outcome in every run, so it is no
//! [`Shape`](super::Shape): its figures never stand where a time does.

use std::fmt;

use super::{Event, Role};

/// Something that is admitted, and by whom how much of it.
#[derive(Debug)]
pub struct Tally {
    /// The crate of ours that it is about.
    pub of: &'static str,
    /// What is admitted.
    pub name: &'static str,
    /// At which rate.
    pub parameter: &'static str,
    /// How much should be.
    pub allowed: u64,
    /// Who admits; ours first.
    pub contestants: Vec<Admitting>,
}

/// Somebody who admits.
pub struct Admitting {
    /// `ours`, or the name of the peer.
    pub name: &'static str,
    /// What it is to the tally.
    pub role: Role,
    /// Says how much was admitted.
    pub run: Box<dyn Fn() -> u64>,
}

impl Tally {
    /// A tally without contestants.
    pub fn new(
        of: &'static str,
        name: &'static str,
        parameter: &'static str,
        allowed: u64,
    ) -> Self {
        Self { of, name, parameter, allowed, contestants: Vec::new() }
    }

    /// With our crate.
    #[must_use]
    pub fn ours(self, run: impl Fn() -> u64 + 'static) -> Self {
        self.with("ours", Role::Ours, run)
    }

    /// With a peer.
    #[must_use]
    pub fn peer(self, name: &'static str, run: impl Fn() -> u64 + 'static) -> Self {
        self.with(name, Role::Peer, run)
    }

    fn with(mut self, name: &'static str, role: Role, run: impl Fn() -> u64 + 'static) -> Self {
        self.contestants.push(Admitting { name, role, run: Box::new(run) });
        self
    }

    /// Asks everybody, and tells what each says.
    pub fn count(&self, mut tell: impl FnMut(&Event<'_>)) {
        let Self { of, name: shape, parameter, allowed, .. } = *self;
        tell(&Event::Tally { of, shape, parameter, allowed });
        for contestant in &self.contestants {
            let (admitted, role) = ((contestant.run)(), contestant.role.as_str());
            tell(&Event::Admitted { contestant: contestant.name, role, admitted });
        }
    }
}

impl fmt::Debug for Admitting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitting")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
