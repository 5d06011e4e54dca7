//! What it costs now to hand a cache line from one core to another.
//!
//! On virtual machines this jumps by a factor of eight from one second to the next, and every figure
//! that two threads share jumps with it. So it is measured in each round and printed beside it.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::cores::stay_on;

/// How often the line goes there and back.
const TURNS: u64 = 5_000;

/// How often a thread looks before it lets others run: there may be only one core.
const LOOKS: u32 = 2_000;

/// One hand-over of a line between two threads, each on a core of its own.
pub fn ping_pong() -> Duration {
    #[repr(align(128))]
    struct Line(AtomicU64);

    let line = Line(AtomicU64::new(0));
    let line = &line.0;
    let elapsed = thread::scope(|scope| {
        scope.spawn(move || {
            stay_on(1);
            for turn in 0..TURNS {
                wait_for(line, 2 * turn + 1);
                // Release: pairs with the Acquire in `wait_for`; this is the ball.
                line.store(2 * turn + 2, Ordering::Release);
            }
        });
        let served = scope.spawn(move || {
            stay_on(0);
            // The other side is up when the first ball comes back.
            line.store(1, Ordering::Release);
            wait_for(line, 2);
            let start = Instant::now();
            for turn in 1..TURNS {
                line.store(2 * turn + 1, Ordering::Release);
                wait_for(line, 2 * turn + 2);
            }
            start.elapsed()
        });
        served.join().expect("nothing in it panics")
    });
    elapsed / u32::try_from(2 * (TURNS - 1)).unwrap_or(u32::MAX)
}

fn wait_for(line: &AtomicU64, value: u64) {
    let mut looks = 0_u32;
    // Acquire: pairs with the Release stores of the other side.
    while line.load(Ordering::Acquire) != value {
        looks += 1;
        if looks.is_multiple_of(LOOKS) {
            thread::yield_now();
        }
        spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_over_takes_time_and_ends() {
        assert!(ping_pong() > Duration::ZERO);
    }
}
