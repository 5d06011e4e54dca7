//! Each check of the sweep catches the fault it is there for, and says so.

mod toy;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::thread;

use selvedge_testkit::{Ended, Mode, Run, Summary, sweep, yield_now};
use toy::{Bug, Closed, Gate};

/// Sweeps a gate that holds one permit, until the first step releases it.
fn sweep_gate(bug: Bug) -> Summary {
    sweep("Pass", |run| {
        let gate = Gate::new(1, bug);
        let held = Cell::new(gate.try_acquire());

        let ended = run.drive_cancel(gate.acquire(), |_| drop(held.take()), || gate.close());

        match run.mode() {
            Mode::Count | Mode::WhenWoken => assert!(matches!(ended, Ended::Ready(Ok(_)))),
            Mode::Cancel => assert!(matches!(ended, Ended::Ready(Err(Closed)))),
            _ => {}
        }
        drop(ended);
        drop(held.take());
        assert_eq!(gate.available(), 1, "the permit is lost");
        assert_eq!(run.live_wakers(), 0, "a waker is left behind");
    })
}

/// Sweeps a gate whose waiter is granted its permit by the first step but takes it only two polls
/// later, so that each way of dropping it at k = 2 finds a grant to hand on.
fn sweep_granted(bug: Bug) -> Summary {
    sweep("Pass", |run| {
        let gate = Gate::new(1, bug);
        let held = Cell::new(gate.try_acquire());
        let ended = run.drive(Late { pass: gate.acquire(), polls: 0 }, |_| drop(held.take()));
        drop(ended);
        drop(held.take());
        assert_eq!(gate.available(), 1, "the permit is lost");
    })
}

/// Polls `pass` in the first poll and the third; in the second it only wakes itself.
struct Late<P> {
    pass: P,
    polls: usize,
}

impl<P: Future + Unpin> Future for Late<P> {
    type Output = P::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<P::Output> {
        self.polls += 1;
        if self.polls == 2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.pass).poll(cx)
    }
}

/// The message with which `f` panics.
fn failure_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("the sweep found nothing"),
        Err(payload) => *payload.downcast::<String>().expect("a sweep fails with a message"),
    }
}

/// Asserts that `f` panics with a message that holds each of `parts`.
#[track_caller]
fn assert_fails<R>(f: impl FnOnce() -> R, parts: &[&str]) {
    let message = failure_of(f);
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn a_right_gate_passes_every_mode() {
    let summary = sweep_gate(Bug::None);
    assert_eq!(summary.pending_points, 1);
    assert_eq!(summary.runs, 2 + 1 + 2 + 1 + 2 + 2 + 2 + 1);
    assert_eq!(
        summary.modes,
        [
            Mode::Count,
            Mode::WhenWoken,
            Mode::Drop,
            Mode::WakeThenDrop,
            Mode::DropElsewhere,
            Mode::Panic,
            Mode::Cancel,
            Mode::WakeThenCancel
        ]
    );
    assert_eq!(sweep_granted(Bug::None).pending_points, 2);
}

#[test]
fn drop_catches_a_waiter_left_in_the_queue() {
    assert_fails(
        || sweep_gate(Bug::StaysInQueue),
        &[
            "sweep of `Pass` failed in mode `drop` at k = 1 of K = 1",
            "the scenario panicked: assertion `left == right` failed: the permit is lost",
        ],
    );
}

#[test]
fn wake_then_drop_catches_a_lost_hand_off() {
    assert_fails(
        || sweep_gate(Bug::LosesGrant),
        &["mode `wake then drop` at k = 1 of K = 1", "the permit is lost"],
    );
}

#[test]
fn drop_elsewhere_catches_what_another_thread_loses() {
    assert_fails(
        || sweep_granted(Bug::LosesGrantElsewhere),
        &["mode `drop elsewhere` at k = 2 of K = 2", "the permit is lost"],
    );
}

#[test]
fn panic_catches_what_unwinding_loses() {
    assert_fails(
        || sweep_granted(Bug::LosesGrantWhenPanicking),
        &["mode `panic` at k = 2 of K = 2", "the permit is lost"],
    );
}

#[test]
fn cancel_catches_a_close_that_wakes_nobody() {
    assert_fails(
        || sweep_gate(Bug::ClosesSilently),
        &["mode `cancel` at k = 1 of K = 1", "lost wake-up: the cancelled future is ready"],
    );
}

#[test]
fn cancel_catches_a_hang() {
    assert_fails(
        || sweep_gate(Bug::IgnoresClose),
        &["mode `cancel` at k = 0 of K = 1", "hangs on cancel", "nothing is left to wake it"],
    );
}

#[test]
fn cancel_catches_a_future_that_wakes_itself_without_end() {
    assert_fails(
        || sweep_gate(Bug::SpinsOnClose),
        &["mode `cancel` at k = 0 of K = 1", "hangs on cancel", "10000 polls"],
    );
}

#[test]
fn wake_then_cancel_catches_a_grant_lost_to_the_close() {
    assert_fails(
        || sweep_gate(Bug::LosesGrantOnClose),
        &["mode `wake then cancel` at k = 1 of K = 1", "the permit is lost"],
    );
}

#[test]
fn counting_catches_a_grant_that_wakes_nobody() {
    assert_fails(
        || sweep_gate(Bug::GrantsSilently),
        &["failed in mode `count`: lost wake-up: step(0) made the future ready"],
    );
}

#[test]
fn counting_catches_a_waker_kept_from_an_earlier_poll() {
    let sweep_in_two_steps = |bug| {
        sweep("Pass", |run| {
            let gate = Gate::new(1, bug);
            let mut held = gate.try_acquire();
            let release_late = |k| {
                if k == 1 {
                    held.take();
                }
            };
            run.drive(gate.acquire(), release_late);
        })
    };
    assert_eq!(sweep_in_two_steps(Bug::None).pending_points, 2);
    assert_fails(
        || sweep_in_two_steps(Bug::KeepsFirstWaker),
        &["mode `count` with a new waker each poll", "lost wake-up: step(1)"],
    );
}

/// Ready when both bells have rung, one after the other.
struct BothBells<'a> {
    bells: &'a [Bell; 2],
    /// Whether a wait for the first bell leaves its waker.
    registers: bool,
}

#[derive(Default)]
struct Bell {
    state: Mutex<(bool, Option<Waker>)>,
}

impl Bell {
    fn ring(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        let waker = state.1.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Future for BothBells<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for (i, bell) in self.bells.iter().enumerate() {
            let mut state = bell.state.lock().unwrap();
            if !state.0 {
                if i == 1 || self.registers {
                    state.1 = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }
}

#[test]
fn when_woken_catches_a_wake_up_lost_half_way() {
    let sweep_bells = |registers| {
        sweep("BothBells", |run| {
            let bells = [Bell::default(), Bell::default()];
            run.drive(BothBells { bells: &bells, registers }, |k| bells[k].ring());
        })
    };
    assert_eq!(sweep_bells(true).pending_points, 2);
    assert_fails(
        || sweep_bells(false),
        &["mode `when woken` with K = 2: lost wake-up", "pending 1 times", "the 2 steps"],
    );
}

#[test]
fn a_step_that_changes_nothing_is_no_lost_wake_up() {
    let summary = sweep("BothBells", |run| {
        let bells = [Bell::default(), Bell::default()];
        run.drive(BothBells { bells: &bells, registers: true }, |k| match k {
            2 => bells[0].ring(),
            5 => bells[1].ring(),
            _ => {}
        });
    });
    assert_eq!(summary.pending_points, 6);
}

#[test]
fn steps_that_never_suffice_are_told() {
    assert_fails(
        || {
            sweep("Pending", |run| {
                run.drive(std::future::pending::<()>(), |_| ());
            })
        },
        &["still pending after 10000 polls", "`step` never lets the future finish"],
    );
}

/// Wakes itself, and is pending, the given number of times.
struct Times(usize);

impl Future for Times {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(()) };
        self.0 = left;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[test]
fn k_that_differs_between_the_counting_runs_is_told() {
    let mut run_number = 0;
    assert_fails(
        || {
            sweep("Times", |run| {
                run_number += 1;
                run.drive(Times(run_number), |_| ());
            })
        },
        &["K differs between two runs, 1 and then 2", "build everything afresh"],
    );
}

#[test]
fn k_that_shrinks_in_a_later_run_is_told() {
    let mut run_number = 0;
    assert_fails(
        || {
            sweep("Times", |run| {
                run_number += 1;
                run.drive(Times(if run_number < 4 { 3 } else { 1 }), |_| ());
                assert_ne!(run_number, 100, "not reached");
            })
        },
        &["mode `drop` at k = 2 of K = 3", "ready after 1 pending polls, K differs"],
    );
}

#[test]
fn another_type_than_the_named_one_is_told() {
    assert_fails(
        || {
            sweep("Acquire", |run| {
                run.drive(yield_now(), |_| ());
            })
        },
        &["sweep of `Acquire` failed", file!(), "is a `", "YieldNow`: give the"],
    );
    assert_fails(
        || {
            sweep("YieldNow", |run| {
                run.drive(async { yield_now().await }, |_| ());
            })
        },
        &["{{closure}}", "not a future that awaits it"],
    );
}

#[test]
fn a_scenario_drives_exactly_one_future() {
    assert_fails(
        || sweep("YieldNow", |_| ()),
        &["mode `count`", "without driving a future: call `drive` exactly once"],
    );
    let drive_twice = |run: &mut Run| {
        run.drive(yield_now(), |_| ());
        run.drive(yield_now(), |_| ());
    };
    assert_fails(|| sweep("YieldNow", drive_twice), &["drives a second future at ", "once"]);
}

#[test]
fn a_scenario_uses_the_same_drive_in_each_run() {
    assert_fails(
        || {
            sweep("YieldNow", |run| {
                if run.mode() == Mode::Cancel {
                    run.drive(yield_now(), |_| ());
                } else {
                    run.drive_cancel(yield_now(), |_| (), || ());
                }
            })
        },
        &["mode `cancel`", "without a cancel", "use the same drive in each run"],
    );
    assert_fails(
        || {
            sweep("YieldNow", |run| {
                if run.mode() == Mode::DropElsewhere {
                    run.drive_local(yield_now(), |_| ());
                } else {
                    run.drive(yield_now(), |_| ());
                }
            })
        },
        &["mode `drop elsewhere`", "as a local future", "use the same drive in each run"],
    );
}

#[test]
fn a_scenario_that_catches_panics_hides_no_violation() {
    assert_fails(
        || {
            sweep("Pass", |run| {
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    let gate = Gate::new(1, Bug::GrantsSilently);
                    let mut held = gate.try_acquire();
                    run.drive(gate.acquire(), |_| drop(held.take()));
                }));
            })
        },
        &["lost wake-up"],
    );
}

/// Panics when it is dropped on another thread than this.
struct PanicsElsewhere(thread::ThreadId);

impl Future for PanicsElsewhere {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Drop for PanicsElsewhere {
    fn drop(&mut self) {
        assert!(self.0 == thread::current().id(), "dropped elsewhere");
    }
}

#[test]
fn a_panic_of_a_drop_on_another_thread_comes_back() {
    assert_fails(
        || {
            sweep("PanicsElsewhere", |run| {
                run.drive(PanicsElsewhere(thread::current().id()), |_| ());
            })
        },
        &["mode `drop elsewhere` at k = 0 of K = 0: the scenario panicked: dropped elsewhere"],
    );
}
