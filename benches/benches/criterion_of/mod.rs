//! Shapes under criterion: a group a shape, `cancel/child`, an id a contestant, `tokio-util/1 thread`.
//!
//! Criterion runs one contestant after the other, so its figures tell how a contestant changes over
//! time; how contestants compare is told by the interleaved rounds of `cargo xtask bench`.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use selvedge_bench::harness::Work;
use selvedge_bench::shapes::{Scale, Shapes};

/// Runs the shapes of a crate.
pub(crate) fn run(of: &str, shapes: Shapes) {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
        .configure_from_args();
    for mut shape in shapes(Scale::Quick) {
        let mut group = criterion.benchmark_group(format!("{of}/{}", shape.name));
        let step = match shape.work {
            Work::Calibrated(step) | Work::Exactly(step) => step,
        };
        group.throughput(Throughput::Elements(step));
        for contestant in &mut shape.contestants {
            let id = BenchmarkId::new(contestant.name, &shape.parameter);
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|turns| match shape.work {
                    Work::Calibrated(step) => (contestant.run)(turns * step).elapsed,
                    // A size of its own: as often as criterion asks.
                    Work::Exactly(size) => (0..turns).map(|_| (contestant.run)(size).elapsed).sum(),
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
