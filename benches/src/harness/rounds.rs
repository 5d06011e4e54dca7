//! Rounds: each contestant of a shape in turn, again and again.
//!
//! What runs beside us on the machine, and what the machine does with its clock, changes over
//! seconds. Contestants that run one after the other inside a round meet much the same machine, so
//! a ratio of two figures of one round means something where the figures alone do not. The order is
//! turned by one from round to round, so that nobody always comes after the same neighbour.

use std::time::Duration;

use super::count;
use super::event::Event;
use super::ping_pong::ping_pong;
use super::{Count, Shape, Work};

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// How many rounds.
    pub rounds: u32,
    /// How long a sample of a calibrated shape takes about.
    pub sample: Duration,
}

/// The most operations in a sample: some are free, and would never fill it.
const MOST: u64 = 1 << 30;

impl Rounds {
    /// Measures a shape, and tells each thing as it happens.
    pub fn measure(self, shape: &mut Shape, mut tell: impl FnMut(&Event<'_>)) {
        let operations = self.calibrate(shape);
        let (of, name, parameter) = (shape.of, shape.name, shape.parameter.clone());
        tell(&Event::Shape { of, shape: name, parameter: &parameter, operations });

        // Everybody once, for the caches and for the allocations: a round that is not timed.
        for contestant in &mut shape.contestants {
            let count = count::counting(|| (contestant.run)(operations));
            let each = per_operation(count.allocations as f64, operations);
            tell(&Event::Allocations { contestant: contestant.name, each });
        }
        for round in 0..self.rounds {
            let line = ping_pong();
            tell(&Event::Round { round, ping_pong_ns: line.as_secs_f64() * 1e9 });
            let contestants = shape.contestants.len();
            for place in 0..contestants {
                let contestant = &mut shape.contestants[(place + round as usize) % contestants];
                let Count { elapsed, .. } = (contestant.run)(operations);
                let ns = per_operation(elapsed.as_secs_f64() * 1e9, operations);
                let (contestant, role) = (contestant.name, contestant.role.as_str());
                tell(&Event::Sample { contestant, role, ns });
            }
        }
    }

    /// How many operations everybody does in a sample: found with the first contestant.
    fn calibrate(self, shape: &mut Shape) -> u64 {
        let step = match shape.work {
            Work::Exactly(operations) => return operations,
            Work::Calibrated(step) => step.max(1),
        };
        let Some(first) = shape.contestants.first_mut() else { return step };
        let mut operations = step;
        loop {
            let elapsed = (first.run)(operations).elapsed;
            if elapsed * 2 >= self.sample || operations >= MOST {
                return operations;
            }
            // At most ten times as many, because the first operations are the slowest.
            let missing = self.sample.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
            let more = (operations as f64 * missing.clamp(2.0, 10.0)) as u64;
            operations = more.min(MOST).div_ceil(step) * step;
        }
    }
}

fn per_operation(sum: f64, operations: u64) -> f64 {
    sum / operations.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run told, a word an event.
    fn told(shape: &mut Shape, rounds: u32) -> Vec<String> {
        let mut words = Vec::new();
        Rounds { rounds, sample: Duration::from_millis(1) }.measure(shape, |event| {
            words.push(match event {
                Event::Shape { operations, .. } => format!("shape of {operations}"),
                Event::Round { round, .. } => format!("round {round}"),
                Event::Sample { contestant, ns, .. } => format!("{contestant} {ns}"),
                Event::Allocations { contestant, .. } => format!("{contestant} allocates"),
                Event::Tally { .. } | Event::Admitted { .. } | Event::Absent { .. } => {
                    unreachable!("of a shape")
                }
            });
        });
        words
    }

    #[test]
    fn contestants_take_turns_and_the_first_one_changes() {
        let mut shape = Shape::new("x", "y", "z", Work::Exactly(2))
            .ours(|n| Count::told(Duration::from_nanos(5), n))
            .peer("peer", |n| Count::told(Duration::from_nanos(9), n));
        let words = told(&mut shape, 2);
        let expected = [
            "shape of 2",
            "ours allocates",
            "peer allocates",
            "round 0",
            "ours 5",
            "peer 9",
            "round 1",
            "peer 9",
            "ours 5",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn a_calibrated_sample_is_long_enough_and_a_multiple_of_its_step() {
        let mut shape = Shape::new("x", "y", "z", Work::Calibrated(7))
            .ours(|n| Count::told(Duration::from_nanos(100), n));
        let words = told(&mut shape, 0);
        let operations: u64 = words[0].strip_prefix("shape of ").unwrap().parse().unwrap();
        assert!(operations.is_multiple_of(7), "{operations}");
        assert!((5_000..=100_000).contains(&operations), "{operations}");
    }
}
