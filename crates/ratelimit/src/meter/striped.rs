//! The counts, in stripes.

use std::sync::Arc;

use selvedge_primitives::atomic::{AtomicU64, Ordering};
use selvedge_primitives::thread;

use super::Count;
use crate::{KeyedMetrics, Metrics};

/// So many things are counted.
const COUNTS: usize = Count::TurnedAway as usize + 1;

/// As many stripes, at most.
const STRIPES: usize = 64;

/// The counts of one thread, or of a few.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe {
    /// By [`Count`].
    counts: [AtomicU64; COUNTS],
}

/// Counts; clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    /// A power of two of them.
    stripes: Arc<[Stripe]>,
}

impl Meter {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        let threads = match cfg!(selvedge_loom) {
            true => 2,
            false => std::thread::available_parallelism().map_or(1, |threads| threads.get()),
        };
        let stripe = |_| Stripe { counts: std::array::from_fn(|_| AtomicU64::new(0)) };
        let stripes = (0..threads.min(STRIPES).next_power_of_two()).map(stripe).collect();
        Self { stripes }
    }

    /// So many more.
    #[inline]
    pub(super) fn count(&self, count: Count, more: u64) {
        let stripe = &self.stripes[thread::number() & (self.stripes.len() - 1)];
        // Relaxed: as all here, see the module's page.
        stripe.counts[count as usize].fetch_add(more, Ordering::Relaxed);
    }

    /// How many in all.
    fn sum(&self, count: Count) -> u64 {
        let counts = self.stripes.iter().map(|stripe| {
            // Relaxed: see the module's page.
            stripe.counts[count as usize].load(Ordering::Relaxed)
        });
        counts.sum()
    }

    /// What was counted of requests.
    pub(crate) fn metrics(&self) -> Metrics {
        let (at_once, after_wait) = (self.sum(Count::AtOnce), self.sum(Count::AfterWait));
        Metrics {
            at_once: at_once + self.sum(Count::ForNone),
            after_wait,
            tokens: at_once + after_wait + self.sum(Count::Beyond),
            refused: self.sum(Count::Refused),
            cancelled: self.sum(Count::Cancelled),
            charged: self.sum(Count::Charged),
            returned: self.sum(Count::Returned),
        }
    }

    /// What was counted of keys, and of their requests.
    pub(crate) fn keyed_metrics(&self) -> KeyedMetrics {
        KeyedMetrics {
            requests: self.metrics(),
            inserted: self.sum(Count::Inserted),
            evicted: self.sum(Count::Evicted),
            forgotten: self.sum(Count::Forgotten),
            turned_away: self.sum(Count::TurnedAway),
        }
    }
}
