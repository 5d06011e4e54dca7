//! What the program prints: a JSON object a line, in the order in which things happen. This is the
//! raw record; everything that is shown is computed from it.

use serde::Serialize;

use super::Role;

/// A line.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// A shape begins.
    Shape {
        /// The crate of ours.
        #[serde(rename = "crate")]
        of: &'a str,
        /// What is done.
        shape: &'a str,
        /// How much, by how many.
        parameter: &'a str,
        /// The operations in a sample.
        operations: u64,
    },
    /// The machine in a round of the shape that began last.
    Round {
        /// From 0.
        round: u32,
        /// A hand-over of a cache line between two cores.
        ping_pong_ns: f64,
    },
    /// What a contestant took in the round that began last.
    Sample {
        /// Who.
        contestant: &'a str,
        /// What it is to the shape.
        role: &'a str,
        /// The time of an operation.
        ns: f64,
    },
    /// What a contestant of this shape allocates, from a run that is not timed.
    Allocations {
        /// Who.
        contestant: &'a str,
        /// Blocks an operation.
        each: f64,
    },
    /// A tally begins.
    Tally {
        /// The crate of ours.
        #[serde(rename = "crate")]
        of: &'a str,
        /// What is admitted.
        shape: &'a str,
        /// At which rate.
        parameter: &'a str,
        /// How much should be.
        allowed: u64,
    },
    /// How much a contestant of the tally that began last admitted.
    Admitted {
        /// Who.
        contestant: &'a str,
        /// What it is to the tally.
        role: &'a str,
        /// How much.
        admitted: u64,
    },
    /// Somebody who is not there, and why.
    Absent {
        /// The crate of ours.
        #[serde(rename = "crate")]
        of: &'a str,
        /// Who.
        contestant: &'a str,
        /// Why.
        why: &'a str,
    },
}

impl Role {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Peer => "peer",
            Self::Reference => "reference",
        }
    }
}
