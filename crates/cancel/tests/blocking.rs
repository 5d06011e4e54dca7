//! Waiting on a thread: for how long, on whose clock, and on threads that had better not block.

use std::thread;
use std::time::{Duration, Instant};

use selvedge_cancel::{Canceller, CauseKind, Context, Timer};
use selvedge_testkit::watchdog;
use tokio::runtime::Builder;

const NEVER: Duration = Duration::MAX;
const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> (Context, Canceller) {
    Context::background().child()
}

#[test]
fn zero_only_looks() {
    let (ctx, canceller) = root();
    assert!(ctx.wait_blocking(Duration::ZERO).is_none());
    canceller.cancel();
    assert_eq!(ctx.wait_blocking(Duration::ZERO).unwrap().kind(), CauseKind::Cancelled);
}

#[test]
fn a_timeout_that_is_over_is_none_and_not_before() {
    let (ctx, canceller) = root();
    let began = Instant::now();
    assert!(ctx.wait_blocking(20 * MS).is_none());
    assert!(began.elapsed() >= 20 * MS);
    canceller.stop(NEVER);
    assert!(ctx.wait_blocking(MS).is_none(), "a stop is no cancel");
}

#[test]
fn a_cancel_ends_the_wait_whatever_its_timeout() {
    for timeout in [HOUR, NEVER] {
        let (ctx, canceller) = root();
        watchdog(PATIENCE, "a wait that is cancelled", move || {
            let waiting = thread::spawn(move || ctx.wait_blocking(timeout));
            thread::sleep(10 * MS);
            canceller.cancel_because("enough");
            let cause = waiting.join().unwrap().unwrap();
            assert_eq!(cause.error().unwrap().to_string(), "enough");
        });
    }
}

#[test]
fn the_background_waits_until_the_timeout_is_over() {
    assert!(Context::background().wait_blocking(MS).is_none());
}

#[test]
fn a_deadline_ends_the_wait_on_a_plain_thread() {
    watchdog(PATIENCE, "a deadline", || {
        let (ctx, _canceller) = Context::background().with_timeout(10 * MS).unwrap();
        assert_eq!(ctx.wait_blocking(HOUR).unwrap().kind(), CauseKind::Deadline);
        assert_eq!(ctx.cancelled_blocking().kind(), CauseKind::Deadline);
        let (ctx, _canceller) = Context::background().with_timeout(HOUR).unwrap();
        assert!(ctx.wait_blocking(10 * MS).is_none());
    });
}

#[test]
fn a_loop_on_a_plain_thread_sees_its_deadline() {
    watchdog(PATIENCE, "a loop that checks", || {
        let (ctx, _canceller) = Context::background().with_timeout(20 * MS).unwrap();
        while !ctx.is_cancelled() {
            std::hint::spin_loop();
        }
        assert_eq!(ctx.check().unwrap_err().kind(), CauseKind::Deadline);
    });
}

#[test]
fn the_time_of_the_wait_is_stds_whatever_the_contexts() {
    watchdog(PATIENCE, "a manual clock that stands still", || {
        let (timer, _clock) = Timer::manual();
        let background = Context::background();
        let (ctx, _canceller) =
            background.child_with().timeout(5 * MS).timer(timer).build().unwrap();
        assert!(ctx.wait_blocking(30 * MS).is_none());
    });
}

#[cfg(feature = "tokio")]
mod on_a_runtime {
    use tokio::task::coop;

    use super::*;

    #[test]
    fn a_task_whose_budget_is_spent_sees_what_is_cancelled() {
        watchdog(PATIENCE, "a task without a budget", || {
            let runtime = Builder::new_current_thread().build().unwrap();
            let task = async {
                let (ctx, canceller) = root();
                while coop::has_budget_remaining() {
                    coop::consume_budget().await;
                }
                assert!(ctx.wait_blocking(Duration::ZERO).is_none());
                canceller.cancel();
                assert!(ctx.wait_blocking(Duration::ZERO).is_some());
                ctx.cancelled_blocking();
            };
            runtime.block_on(async { runtime.spawn(task).await.unwrap() });
        });
    }

    #[test]
    fn a_thread_that_drives_the_timer_sees_the_deadline_all_the_same() {
        watchdog(PATIENCE, "a thread that blocks its own timer", || {
            let runtime = Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let (ctx, _canceller) = Context::background().with_timeout(10 * MS).unwrap();
                assert_eq!(ctx.wait_blocking(HOUR).unwrap().kind(), CauseKind::Deadline);
                let (ctx, _canceller) = Context::background().with_timeout(10 * MS).unwrap();
                assert_eq!(ctx.cancelled_blocking().kind(), CauseKind::Deadline);
                let (ctx, canceller) = root();
                canceller.stop(10 * MS);
                assert_eq!(ctx.wait_blocking(HOUR).unwrap().kind(), CauseKind::Stopped);
            });
        });
    }
}
