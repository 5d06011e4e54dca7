//! The sweep: each public future dropped at each of its await points.

mod fake;

use std::time::Duration;

use fake::Fake;
use selvedge_shutdown::{End, Reason, Shutdown, Timer};
use selvedge_testkit::{Ended, Mode, sweep, yield_now};

const SECOND: Duration = Duration::from_secs(1);

/// However `wait` ends, the component is stopped once at most, it is told to go if it has not ended,
/// the context is cancelled, nothing is kept, and nothing stays registered.
#[test]
fn wait_is_swept() {
    let summary = sweep("Wait", |run| {
        let (timer, clock) = Timer::manual();
        let plan = Shutdown::builder().timer(timer).grace(SECOND).abort_budget(SECOND);
        let shutdown = plan.build().unwrap();
        let handle = shutdown.handle();
        let [quick, slow] = ["quick", "slow"].map(|name| Fake::new(name).shared());
        for fake in [&quick, &slow] {
            shutdown.register(fake.clone()).unwrap();
        }
        let triggered = std::cell::Cell::new(false);
        let ended = run.drive(shutdown.wait(), |k| match k {
            0 => triggered.set(handle.trigger("enough")),
            1 => quick.end(),
            _ => clock.advance(SECOND),
        });
        assert_eq!((quick.stops(), slow.stops()), (triggered.get().into(), triggered.get().into()));
        if let Ended::Ready(report) = ended {
            assert_eq!(report.components()[0].end(), &End::Finished { after: Duration::ZERO });
            assert_eq!(report.components()[1].end(), &End::Aborted { after: SECOND });
            assert_eq!((quick.aborts(), slow.aborts()), (0, 1));
        } else {
            assert_eq!(slow.aborts(), 1, "dropped, and not told to go");
            assert!(!triggered.get() || matches!(handle.reason(), Some(Reason::Requested(_))));
        }
        assert!(handle.ctx().is_cancelled());
        assert!(handle.register(quick.clone()).is_err());
        for fake in [&quick, &slow] {
            assert_eq!(std::sync::Arc::strong_count(fake), 1, "the plan keeps a component");
        }
        assert_eq!(clock.registered(), 0, "a registration was left behind");
        slow.end();
        quick.end();
        assert_eq!(run.live_wakers(), 0, "a waker was left behind");
    });
    assert_eq!(summary.pending_points, 3);
    println!("{summary}");
}

/// The parent's cancel is the cancel of `run`: it ends, with main told to go and the component
/// aborted.
#[test]
fn run_is_swept() {
    let summary = sweep("Run", |run| {
        let (timer, clock) = Timer::manual();
        let (parent, canceller) = selvedge_shutdown::Context::background().child();
        let plan = Shutdown::builder().timer(timer).grace(SECOND).abort_budget(SECOND);
        let shutdown = plan.parent(&parent).build().unwrap();
        let (handle, ctx) = (shutdown.handle(), shutdown.ctx().clone());
        let fake = Fake::new("pool").shared();
        shutdown.register(fake.clone()).unwrap();
        let main = async move {
            yield_now().await;
            let stopped = ctx.run(ctx.stopping()).await.is_ok();
            ctx.cancelled().await;
            stopped
        };
        let ended = run.drive_cancel(
            shutdown.run(main),
            |k| match k {
                0 => {}
                1 => assert!(handle.trigger("enough")),
                _ => clock.advance(SECOND),
            },
            || canceller.cancel(),
        );
        match (run.mode(), ended) {
            (Mode::Count | Mode::WhenWoken, Ended::Ready((output, report))) => {
                assert_eq!(output, Some(true));
                assert_eq!(report.main(), Some(&End::Aborted { after: SECOND }));
            }
            (_, Ended::Ready((output, report))) => {
                assert!(output.is_some() && report.is_clean(), "{report}");
            }
            (_, Ended::Dropped) => assert!(handle.reason().is_some()),
        }
        assert!(handle.ctx().is_cancelled());
        assert!(fake.stops() <= 1);
        assert_eq!(fake.aborts(), 1);
        assert_eq!(clock.registered(), 0, "a registration was left behind");
        fake.end();
        assert_eq!(run.live_wakers(), 0, "a waker was left behind");
    });
    assert_eq!(summary.pending_points, 3);
    println!("{summary}");
}
