//! What the bench program told, put together a shape at a time.

use serde::Deserialize;

use super::statistics::Spread;
use super::tally::Tally;

/// A line of the bench program; its `harness/event.rs` has the words.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    Shape {
        #[serde(rename = "crate")]
        of: String,
        shape: String,
        parameter: String,
        operations: u64,
    },
    Round {
        ping_pong_ns: f64,
    },
    Sample {
        contestant: String,
        role: Role,
        ns: f64,
    },
    Allocations {
        contestant: String,
        each: f64,
    },
    Tally {
        #[serde(rename = "crate")]
        of: String,
        shape: String,
        parameter: String,
        allowed: u64,
    },
    Admitted {
        contestant: String,
        role: Role,
        admitted: u64,
    },
    Absent {
        #[serde(rename = "crate")]
        of: String,
        contestant: String,
        why: String,
    },
}

/// What a contestant is to its shape.
#[derive(Debug, Deserialize, serde::Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Ours,
    Peer,
    Reference,
}

/// Everything that was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What was timed.
    pub(crate) measured: Vec<Measured>,
    /// What was counted.
    pub(crate) tallies: Vec<Tally>,
}

/// A shape and its contestants, in the order in which they were first told.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// The crate of ours.
    pub(crate) of: String,
    /// What is done.
    pub(crate) shape: String,
    /// How much, by how many.
    pub(crate) parameter: String,
    /// The operations in a sample.
    pub(crate) operations: u64,
    /// A hand-over of a cache line, a figure a round.
    pub(crate) ping_pong_ns: Vec<f64>,
    /// Who did it.
    pub(crate) contestants: Vec<Contestant>,
}

/// A contestant and its figures.
#[derive(Debug, Clone)]
pub(crate) struct Contestant {
    /// `ours`, or a peer.
    pub(crate) name: String,
    /// None until it has a sample.
    pub(crate) role: Option<Role>,
    /// The time of an operation, a figure a round.
    pub(crate) ns: Vec<f64>,
    /// Blocks allocated by an operation.
    pub(crate) allocations: f64,
}

impl Measured {
    pub(crate) fn new(of: String, shape: String, parameter: String, operations: u64) -> Self {
        let (ping_pong_ns, contestants) = (Vec::new(), Vec::new());
        Self { of, shape, parameter, operations, ping_pong_ns, contestants }
    }

    /// Adds what was told of this shape.
    pub(crate) fn add(&mut self, event: Event) {
        match event {
            Event::Round { ping_pong_ns } => self.ping_pong_ns.push(ping_pong_ns),
            Event::Sample { contestant, role, ns } => {
                let contestant = self.entry(contestant);
                contestant.role = Some(role);
                contestant.ns.push(ns);
            }
            Event::Allocations { contestant, each } => self.entry(contestant).allocations = each,
            // Not of a shape that is under way; `bench.rs` has put them in their place.
            Event::Shape { .. }
            | Event::Tally { .. }
            | Event::Admitted { .. }
            | Event::Absent { .. } => {}
        }
    }

    fn entry(&mut self, name: String) -> &mut Contestant {
        let place = self.contestants.iter().position(|known| known.name == name);
        let place = place.unwrap_or_else(|| {
            self.contestants.push(Contestant {
                name,
                role: None,
                ns: Vec::new(),
                allocations: 0.0,
            });
            self.contestants.len() - 1
        });
        &mut self.contestants[place]
    }

    /// The contestant of this name.
    pub(crate) fn contestant(&self, name: &str) -> Option<&Contestant> {
        self.contestants.iter().find(|contestant| contestant.name == name)
    }

    /// Our own.
    pub(crate) fn ours(&self) -> Option<&Contestant> {
        self.contestants.iter().find(|contestant| contestant.role == Some(Role::Ours))
    }

    /// The peer with the lowest median.
    pub(crate) fn best_peer(&self) -> Option<&Contestant> {
        let median = |contestant: &&Contestant| contestant.spread().map(|spread| spread.median);
        self.contestants
            .iter()
            .filter(|contestant| contestant.role == Some(Role::Peer))
            .filter(|contestant| median(contestant).is_some())
            .min_by(|a, b| f64::total_cmp(&median(a).unwrap_or(0.0), &median(b).unwrap_or(0.0)))
    }

    /// Our time by that of a contestant.
    pub(crate) fn ratio_to(&self, contestant: &Contestant) -> Option<Spread> {
        Spread::of_ratios(&self.ours()?.ns, &contestant.ns)
    }
}

impl Contestant {
    /// Of the time of an operation.
    pub(crate) fn spread(&self) -> Option<Spread> {
        Spread::of(self.ns.iter().copied())
    }
}

/// A shape of the tests: `ours` with these figures, then peers and references.
#[cfg(test)]
pub(crate) fn example(ours: &[f64], others: &[(&str, Role, &[f64])]) -> Measured {
    let words = ["cancel", "child", "1 thread"].map(str::to_owned);
    let [of, shape, parameter] = words;
    let mut measured = Measured::new(of, shape, parameter, 10);
    for (name, role, figures) in std::iter::once(&("ours", Role::Ours, ours)).chain(others) {
        for ns in *figures {
            measured.add(Event::Sample { contestant: (*name).into(), role: *role, ns: *ns });
        }
    }
    measured.add(Event::Round { ping_pong_ns: 60.0 });
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_bench_program_are_read() {
        let lines = [
            r#"{"event":"shape","crate":"cancel","shape":"child","parameter":"1","operations":9}"#,
            r#"{"event":"allocations","contestant":"ours","each":1.5}"#,
            r#"{"event":"round","round":0,"ping_pong_ns":61.5}"#,
            r#"{"event":"sample","contestant":"ours","role":"ours","ns":4.0}"#,
            r#"{"event":"absent","crate":"cancel","contestant":"x","why":"y"}"#,
        ];
        let mut measured = Measured::new(String::new(), String::new(), String::new(), 0);
        for line in lines {
            measured.add(serde_json::from_str(line).unwrap());
        }
        assert_eq!(measured.ping_pong_ns, [61.5]);
        let ours = measured.ours().unwrap();
        assert_eq!((ours.ns.as_slice(), ours.allocations), (&[4.0][..], 1.5));
    }

    #[test]
    fn the_best_peer_is_neither_ours_nor_a_reference() {
        let measured = example(
            &[1.0],
            &[
                ("slow", Role::Peer, &[9.0]),
                ("fast", Role::Peer, &[3.0]),
                ("floor", Role::Reference, &[0.5]),
            ],
        );
        assert_eq!(measured.best_peer().unwrap().name, "fast");
    }
}
