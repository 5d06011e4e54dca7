//! Three peers as a table against ours: `golang.org/x/time/rate`, governor and leaky-bucket. A row is a
//! moment, a call, and what comes of it by the peer's documentation and its own tests; where ours
//! differs by choice, the row says both, and why.
//!
//! | row | x/time/rate | governor | leaky-bucket |
//! |---|---|---|---|
//! | `Try` | `AllowN` | `check`, `check_n` | `try_acquire` |
//! | `TryTold` | | the same, and the wait that a refusal tells | |
//! | `Singles`, `UpTo` | `Allow` until false | `check` until refused | `try_acquire(1)` until false |
//! | `Available` | `TokensAt`, rounded down, or 0 | what its state middleware says is left | |
//! | `Reserve` | `ReserveN`, `WaitN` | | `acquire`, in line |
//! | `DueOf`, `Cancel` | `Delay`, `Cancel` | | that `acquire`, dropped |
//! | `ReadyIn` | the delay of what is not kept | `until_n_ready`, alone | `acquire`, alone |
//! | `SetRate`, `SetBurst` | `SetLimit`, `SetBurst` | | |
//! | `SetQuota` | these two | | |
//!
//! Read at golang/time 2b4e439 (2025-09), governor 0.10.4 and leaky-bucket e3ff099 (2025-08). The
//! peers do not run here: the crate's tests depend on none of them.
//!
//! # How it runs
//!
//! The clock is moved by hand from row to row. It cannot be moved back: where a row is earlier than the
//! one before, ours stands still, which is what a limiter of ours makes of a clock that goes back. A
//! token takes a whole number of nanoseconds, but for two scenarios that say so.
//!
//! A row without a mark is what the peer does and ours does. A marked row states the peer's outcome
//! as well, and fails when ours does not differ from it: no mark outlives its difference.
#![cfg(not(selvedge_loom))]

use std::time::Duration;

use selvedge_ratelimit::{AcquireError, Limiter, ManualClock, Quota, Rate, Timer, TryAcquireError};

use Op::*;
use Outcome::*;

// The named differences.

/// x/time/rate, leaky-bucket.
const SAYS_NEVER: &str = "what is above the burst is told apart from what has not come yet";
/// x/time/rate, governor.
const NOTHING_IS_FREE: &str = "no tokens are always to be had, whoever waits";
/// x/time/rate.
const NO_ZERO: &str = "a rate or a burst of zero is not made";
/// x/time/rate.
const MINTS_NOTHING: &str = "a clock that goes back admits nothing";
/// x/time/rate.
const LINE_MOVES: &str = "what is reserved has a place, not a time: it moves with the quota";
/// x/time/rate.
const KEEPS_WHAT_IS_MISSING: &str = "a changed burst keeps what is missing from a full bucket";
/// x/time/rate.
const WHOLE_REFUND: &str = "who leaves the line before it is due takes nothing along";
/// x/time/rate.
const LATE_REFUND: &str = "a reservation that was due gives back what the burst has room for";
/// x/time/rate.
const NO_ROUNDING: &str = "tokens are whole, and no refund is lost by a nanosecond";
/// governor.
const NO_EXTRA_CELL: &str = "a full bucket holds the burst and no cell more";
/// governor.
const EXACT_RATE: &str = "the interval is a fraction, and not cut to whole nanoseconds";
/// governor.
const LIVE_CHANGE: &str = "a limiter's quota can be changed";
/// leaky-bucket.
const BEGINS_FULL: &str = "a limiter begins with its burst";
/// leaky-bucket.
const EVENLY: &str = "tokens come one by one, and from when they were taken";
/// leaky-bucket.
const OVER_BURST: &str = "more than the burst is an error at once, and holds up nobody";
/// leaky-bucket.
const BELOW_A_MILLISECOND: &str = "an interval may be shorter than a millisecond";

/// What a row does.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// Takes so many, or none.
    Try(u32),
    /// The same; a refusal tells how long it is.
    TryTold(u32),
    /// Asks how many there are.
    Available,
    /// Takes one by one until one is refused.
    Singles,
    /// Takes as many as there are, so many at most.
    UpTo(u32),
    /// Stands in line for so many.
    Reserve(u32),
    /// The same, and does not ask when it is due.
    ReserveUnasked(u32),
    /// Asks when the reservation of that number, from 0, is due.
    DueOf(usize),
    /// Gives the reservation of that number up.
    Cancel(usize),
    /// Asks when so many are there.
    ReadyIn(u32),
    /// Takes so many beforehand, where the peer begins with less than the burst.
    Spend(u32),
    SetRate(Rate),
    SetBurst(u32),
    SetQuota(Quota),
    /// Makes a rate of no tokens.
    ZeroRate,
    /// Makes a quota with a burst of nothing.
    ZeroBurst,
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All of them, at once.
    Taken,
    /// Not now.
    Refused,
    /// Not now, but after so long.
    RefusedFor(Duration),
    /// Never: above the burst, which is so much.
    OverBurst(u32),
    /// So many.
    Count(u32),
    /// A place in line, which is not asked when it is due.
    Reserved,
    /// Due so long after the start.
    Due(Duration),
    /// So many whole tokens went back; all, for a wait of leaky-bucket, whose drop tells nothing.
    Back(u32),
    /// At no time.
    Never,
    /// Prepared, or the quota is another. Counts as no row.
    Set,
    /// The value was made.
    Made,
    /// There is no such value, or no such call.
    Unsayable,
}

/// A line of the table.
struct Row {
    /// How long after the start.
    at: Duration,
    op: Op,
    /// What ours does; unless it is marked, the peer too.
    ours: Outcome,
    /// The mark of a difference: what the peer does, and how that comes.
    theirs: Option<(Outcome, &'static str)>,
}

impl Row {
    /// Marks the row: the peer does that, because of this.
    fn theirs(self, outcome: Outcome, reason: &'static str) -> Self {
        Self { theirs: Some((outcome, reason)), ..self }
    }
}

/// Rows of one limiter.
struct Scenario {
    /// The peer, and what it says.
    of: &'static str,
    quota: Quota,
    /// The difference that its marked rows show; none without any.
    differs: Option<&'static str>,
    rows: Vec<Row>,
}

/// So many milliseconds after the start.
fn row(at: u64, op: Op, ours: Outcome) -> Row {
    Row { at: Duration::from_millis(at), op, ours, theirs: None }
}

/// So many nanoseconds after the start.
fn row_ns(at: u64, op: Op, ours: Outcome) -> Row {
    Row { at: Duration::from_nanos(at), op, ours, theirs: None }
}

fn due(ms: u64) -> Outcome {
    Due(Duration::from_millis(ms))
}

fn refused_for(ms: u64) -> Outcome {
    RefusedFor(Duration::from_millis(ms))
}

// The tables.

fn x_time_rate() -> Vec<Scenario> {
    vec![
        Scenario {
            of: "x/time/rate: with a burst of 1 one event an interval",
            quota: Rate::per_second(10).burst(1),
            differs: Some(SAYS_NEVER),
            rows: vec![
                row(0, Available, Count(1)),
                row(0, Try(1), Taken),
                row(0, Available, Count(0)),
                row(0, Try(1), Refused),
                row(100, Try(1), Taken),
                row(100, Try(1), Refused),
                row(200, Available, Count(1)),
                row(200, Try(2), OverBurst(1))
                    .theirs(Refused, "AllowN has only false to say it with"),
                row(200, Try(1), Taken),
                row(200, Try(1), Refused),
            ],
        },
        Scenario {
            of: "x/time/rate: a burst, a steady refill, and no more than the burst after a rest",
            quota: Rate::per_second(10).burst(3),
            differs: None,
            rows: vec![
                row(0, Try(2), Taken),
                row(0, Try(2), Refused),
                row(0, Try(1), Taken),
                row(0, Try(1), Refused),
                row(200, Available, Count(2)),
                row(200, Try(1), Taken),
                row(300, Try(1), Taken),
                row(400, Available, Count(2)),
                row(400, Try(1), Taken),
                row(400, Try(1), Taken),
                row(400, Try(1), Refused),
                row(900, Available, Count(3)),
                row(900, Try(3), Taken),
                row(900, Try(0), Taken),
                row(3_600_900, Singles, Count(3)),
            ],
        },
        Scenario {
            of: "x/time/rate: tokens are fractions, and a fraction is no token",
            quota: Rate::per_second(10).burst(3),
            differs: None,
            rows: vec![
                row(0, Try(3), Taken),
                row(50, Available, Count(0)),
                row(50, Try(1), Refused),
                row(99, Try(1), Refused),
                row(100, Try(1), Taken),
                row(250, Available, Count(1)),
                row(250, Try(1), Taken),
                row(299, Try(1), Refused),
                row(300, Try(1), Taken),
            ],
        },
        Scenario {
            of: "x/time/rate: what is beyond a full bucket is gone, fractions too",
            quota: Rate::per_second(10).burst(2),
            differs: None,
            rows: vec![
                row(0, Try(2), Taken),
                row(250, Try(2), Taken),
                row(300, Try(1), Refused),
                row(349, Try(1), Refused),
                row(350, Try(1), Taken),
            ],
        },
        Scenario {
            of: "x/time/rate: of many events at once, the burst",
            quota: Rate::per_second(1).burst(5),
            differs: None,
            rows: vec![row(0, Singles, Count(5)), row(3_000, Singles, Count(3))],
        },
        Scenario {
            of: "x/time/rate: a tiny rate admits its burst, and nothing more (golang/go #71154)",
            quota: Rate::every(Duration::from_secs(10_000_000_000)).burst(1),
            differs: None,
            rows: vec![
                row(0, Try(1), Taken),
                row(0, Try(1), Refused),
                row(31_536_000_000, Try(1), Refused),
            ],
        },
        Scenario {
            of: "x/time/rate: a wait for more than the burst is an error at once",
            quota: Rate::per_second(10).burst(3),
            differs: None,
            rows: vec![
                row(0, Reserve(4), OverBurst(3)),
                row(0, ReadyIn(4), Never),
                row(0, Reserve(2), due(0)),
                row(0, Reserve(3), due(200)),
            ],
        },
        Scenario {
            of: "x/time/rate: a reservation is due when its tokens have come",
            quota: Rate::per_second(10).burst(2),
            differs: None,
            rows: vec![
                row(0, Reserve(2), due(0)),
                row(0, Reserve(2), due(200)),
                row(300, Reserve(2), due(400)),
            ],
        },
        Scenario {
            of: "x/time/rate: what is reserved is not to be had",
            quota: Rate::per_second(10).burst(2),
            differs: None,
            rows: vec![
                row(0, Reserve(3), OverBurst(2)),
                row(0, Reserve(2), due(0)),
                row(100, Try(2), Refused),
                row(100, Reserve(2), due(200)),
                row(100, Try(1), Refused),
                row(300, Try(1), Taken),
            ],
        },
        Scenario {
            of: "x/time/rate: the last reservation gives back all that it has",
            quota: Rate::per_second(10).burst(2),
            differs: None,
            rows: vec![
                row(0, Reserve(2), due(0)),
                row(0, Reserve(2), due(200)),
                row(100, Cancel(1), Back(2)),
                row(100, Reserve(2), due(200)),
            ],
        },
        Scenario {
            of: "x/time/rate: a wait that is given up gives back all that it has",
            quota: Rate::per_second(10).burst(3),
            differs: None,
            rows: vec![
                row(0, Reserve(2), due(0)),
                row(0, Reserve(3), due(200)),
                row(100, Cancel(1), Back(3)),
                row(100, Available, Count(2)),
                row(100, Reserve(2), due(100)),
                row(100, Available, Count(0)),
            ],
        },
        Scenario {
            of: "x/time/rate: a reservation that is cancelled at the moment at which it is due",
            quota: Rate::per_second(10).burst(5),
            differs: None,
            rows: vec![
                row(0, Reserve(3), due(0)),
                row(0, Available, Count(2)),
                row(0, Cancel(0), Back(3)),
                row(0, Available, Count(5)),
            ],
        },
        Scenario {
            of: "x/time/rate: a cancel does not give back what was reserved since",
            quota: Rate::per_second(10).burst(2),
            differs: Some(WHOLE_REFUND),
            rows: vec![
                row(0, Reserve(2), due(0)),
                row(0, Reserve(1), due(100)),
                row(0, Reserve(1), due(200)),
                row(0, Cancel(1), Back(1)).theirs(Back(0), "1 was reserved since"),
                row(0, DueOf(2), due(100)).theirs(due(200), "a reservation keeps its time"),
                row(0, Reserve(1), due(200)).theirs(due(300), "the refund was lost"),
            ],
        },
        Scenario {
            of: "x/time/rate: a cancel gives back what was not reserved since",
            quota: Rate::per_second(10).burst(2),
            differs: Some(WHOLE_REFUND),
            rows: vec![
                row(0, Reserve(2), due(0)),
                row(0, Reserve(2), due(200)),
                row(0, Reserve(1), due(300)),
                row(200, Cancel(1), Back(2)).theirs(Back(1), "1 was reserved since"),
                row(200, DueOf(2), due(200)).theirs(due(300), "a reservation keeps its time"),
                row(200, Reserve(2), due(300)).theirs(due(400), "a token was lost"),
            ],
        },
        Scenario {
            of: "x/time/rate: two that are cancelled, the last one first",
            quota: Rate::per_second(10).burst(4),
            differs: Some(WHOLE_REFUND),
            rows: vec![
                row(0, Reserve(4), due(0)),
                row(0, Reserve(3), due(300)),
                row(0, Reserve(1), due(400)),
                row(0, Reserve(1), due(500)),
                row(100, Cancel(3), Back(1)),
                row(100, Cancel(1), Back(3)).theirs(Back(2), "1 was reserved since, and kept"),
                row(100, DueOf(2), due(100)).theirs(due(400), "a reservation keeps its time"),
                row(100, Reserve(3), due(400)).theirs(due(500), "a token was lost"),
            ],
        },
        Scenario {
            of: "x/time/rate: a later reservation takes half of a refund (golang/go #56924)",
            quota: Rate::per_second(10).burst(20),
            differs: Some(WHOLE_REFUND),
            rows: vec![
                row(0, Reserve(15), due(0)),
                row(100, Reserve(10), due(500)),
                row(200, Reserve(5), due(1_000)),
                row(300, Cancel(1), Back(10)).theirs(Back(5), "5 were reserved since"),
                row(300, DueOf(2), due(300)).theirs(due(1_000), "a reservation keeps its time"),
                row(300, Reserve(1), due(300)).theirs(due(600), "5 tokens were lost"),
                row(300, Available, Count(2)).theirs(Count(0), "5 tokens were lost"),
            ],
        },
        Scenario {
            of: "x/time/rate: it is too late to cancel what was due",
            quota: Rate::per_second(10).burst(2),
            differs: Some(LATE_REFUND),
            rows: vec![
                row(0, Reserve(2), due(0)),
                row(0, Reserve(2), due(200)),
                row(300, Available, Count(1)),
                row(300, Cancel(1), Back(1)).theirs(Back(0), "it was due"),
                row(300, Reserve(2), due(300)).theirs(due(400), "it was due"),
            ],
        },
        Scenario {
            of: "x/time/rate: it is too late to cancel what was due, also with an empty bucket",
            quota: Rate::per_second(10).burst(5),
            differs: Some(LATE_REFUND),
            rows: vec![
                row(0, Try(2), Taken),
                row(0, Reserve(3), due(0)),
                row(100, Available, Count(1)),
                row(100, Cancel(0), Back(3)).theirs(Back(0), "it was due"),
                row(100, Available, Count(4)).theirs(Count(1), "it was due"),
            ],
        },
        Scenario {
            of: "x/time/rate: what was due long ago gives nothing back",
            quota: Rate::per_second(10).burst(2),
            differs: None,
            rows: vec![
                row(0, Reserve(2), due(0)),
                row(1_000, Cancel(0), Back(0)),
                row(1_000, Singles, Count(2)),
            ],
        },
        Scenario {
            of: "x/time/rate: a chain of cancels stops at a rounded nanosecond \
                 (thrasher-corp/gocryptotrader #2371); an interval of 16 666 666.67 ns",
            quota: Rate::per_second(60).burst(1),
            differs: Some(NO_ROUNDING),
            rows: vec![
                row(0, ReserveUnasked(1), Reserved),
                row(0, ReserveUnasked(1), Reserved),
                row(0, ReserveUnasked(1), Reserved),
                row(0, Cancel(2), Back(1)),
                row(0, Cancel(1), Back(1)).theirs(Back(0), "0.999 999 94 of it"),
                row(0, Cancel(0), Back(1)).theirs(Back(0), "a token seems reserved since"),
                row(0, Try(1), Taken).theirs(Refused, "0.000 000 06 of a token are missing"),
            ],
        },
        Scenario {
            of: "x/time/rate: no events are allowed at any time, but not in debt",
            quota: Rate::per_second(10).burst(3),
            differs: Some(NOTHING_IS_FREE),
            rows: vec![
                row(0, Try(3), Taken),
                row(0, Try(0), Taken),
                row(0, Reserve(0), due(0)),
                row(0, Reserve(1), due(100)),
                row(0, Try(0), Taken).theirs(Refused, "it would wait until the debt is paid"),
                row(0, Reserve(0), due(0)).theirs(due(100), "it waits until the debt is paid"),
            ],
        },
        Scenario {
            of: "x/time/rate: a limit, or a burst, may be zero",
            quota: Rate::per_second(1).burst(1),
            differs: Some(NO_ZERO),
            rows: vec![
                row(0, ZeroRate, Unsayable).theirs(Made, "a limit is a float64"),
                row(0, ZeroBurst, Unsayable).theirs(Made, "a burst is an int"),
            ],
        },
        Scenario {
            of: "x/time/rate: an infinite limit admits everything, whatever the burst is",
            quota: Rate::UNLIMITED.burst(1),
            differs: None,
            rows: vec![
                row(0, Try(1), Taken),
                row(0, Try(1_000), Taken),
                row(0, Try(u32::MAX), Taken),
                row(0, Reserve(1_000), due(0)),
                row(5, Try(3), Taken),
            ],
        },
        Scenario {
            of: "x/time/rate: a limit becomes infinite, and finite again",
            quota: Rate::per_second(10).burst(3),
            differs: None,
            rows: vec![
                row(0, Try(3), Taken),
                row(0, Try(1), Refused),
                row(0, SetRate(Rate::UNLIMITED), Set),
                row(0, Try(100), Taken),
                row(100, SetRate(Rate::per_second(10)), Set),
                row(100, Singles, Count(3)),
                row(200, Singles, Count(1)),
            ],
        },
        Scenario {
            of: "x/time/rate: a new limit counts from its moment on, the old one up to it",
            quota: Rate::per_second(10).burst(5),
            differs: None,
            rows: vec![
                row(0, Try(5), Taken),
                row(250, SetRate(Rate::per_second(1)), Set),
                row(250, Available, Count(2)),
                row(250, Try(3), Refused),
                row(749, Available, Count(2)),
                row(751, Available, Count(3)),
                row(751, SetRate(Rate::per_second(100)), Set),
                row(762, Available, Count(4)),
                row(2_000, Available, Count(5)),
            ],
        },
        Scenario {
            of: "x/time/rate: a new limit leaves what is reserved as it is",
            quota: Rate::per_second(5).burst(2),
            differs: Some(LINE_MOVES),
            rows: vec![
                row(0, Reserve(2), due(0)),
                row(0, Reserve(2), due(400)),
                row(200, SetRate(Rate::per_second(10)), Set),
                row(200, DueOf(1), due(300)).theirs(due(400), "a reservation keeps its time"),
                row(200, Reserve(1), due(400)),
            ],
        },
        Scenario {
            of: "x/time/rate: an infinite limit leaves what is reserved as it is",
            quota: Rate::per_second(10).burst(3),
            differs: Some(LINE_MOVES),
            rows: vec![
                row(0, Spend(3), Set),
                row(0, Reserve(2), due(200)),
                row(50, SetRate(Rate::UNLIMITED), Set),
                row(50, DueOf(0), due(50)).theirs(due(200), "a reservation keeps its time"),
            ],
        },
        Scenario {
            of: "x/time/rate: a reservation gives its tokens back under a new limit",
            quota: Rate::per_second(5).burst(2),
            differs: None,
            rows: vec![
                row(0, Reserve(2), due(0)),
                row(0, Reserve(2), due(400)),
                row(200, SetRate(Rate::per_second(10)), Set),
                row(200, Cancel(1), Back(2)),
                row(200, Reserve(2), due(300)),
            ],
        },
        Scenario {
            of: "x/time/rate: a new burst leaves the tokens as they are, up to the burst",
            quota: Rate::per_second(10).burst(5),
            differs: Some(KEEPS_WHAT_IS_MISSING),
            rows: vec![
                row(0, Try(2), Taken),
                row(0, SetBurst(8), Set),
                row(0, Available, Count(6)).theirs(Count(3), "3 there were"),
                row(100, Available, Count(7)).theirs(Count(4), "3 there were"),
                row(1_000, Available, Count(8)),
                row(1_000, SetBurst(4), Set),
                row(1_000, Available, Count(4)),
                row(1_000, Try(3), Taken),
                row(1_000, SetBurst(2), Set),
                row(1_000, Available, Count(0)).theirs(Count(1), "1 there was"),
                row(1_200, Available, Count(1))
                    .theirs(Count(2), "2 come to the 1, and 1 is beyond"),
                row(1_300, Available, Count(2)),
                row(1_300, Try(3), OverBurst(2)).theirs(Refused, "AllowN has only false"),
            ],
        },
        Scenario {
            of: "x/time/rate: a new burst leaves what is reserved as it is",
            quota: Rate::per_second(5).burst(2),
            differs: Some(LINE_MOVES),
            rows: vec![
                row(0, Reserve(2), due(0)),
                row(0, Reserve(2), due(400)),
                row(300, SetBurst(4), Set),
                row(300, DueOf(1), due(300)).theirs(due(400), "a reservation keeps its time"),
                row(300, Reserve(4), due(800)).theirs(due(1_200), "it adds no token"),
            ],
        },
        Scenario {
            of: "x/time/rate: a new limit and a new burst",
            quota: Rate::per_second(10).burst(5),
            differs: Some(KEEPS_WHAT_IS_MISSING),
            rows: vec![
                row(0, Try(5), Taken),
                row(100, SetQuota(Rate::per_second(20).burst(6)), Set),
                row(100, Available, Count(2)).theirs(Count(1), "1 there was"),
                row(200, Available, Count(4)).theirs(Count(3), "1 there was"),
                row(500, Available, Count(6)),
            ],
        },
        Scenario {
            of: "x/time/rate: a time before the last one counts, and what comes up to that again",
            quota: Rate::per_second(10).burst(3),
            differs: Some(MINTS_NOTHING),
            rows: vec![
                row(100, Try(1), Taken),
                row(0, Try(1), Taken),
                row(0, Try(1), Taken),
                row(0, Try(1), Refused),
                row(100, Try(1), Refused).theirs(Taken, "the first 100 ms went by twice"),
                row(100, Try(1), Refused),
                row(200, Try(1), Taken),
                row(200, Try(1), Refused),
            ],
        },
        Scenario {
            of: "x/time/rate: a reservation at a time before the last one is due too early",
            quota: Rate::per_second(10).burst(2),
            differs: Some(MINTS_NOTHING),
            rows: vec![
                row(100, Reserve(2), due(100)),
                row(0, Reserve(1), due(200)).theirs(due(100), "it counts from its own time"),
                row(200, Reserve(2), due(400)).theirs(due(300), "the first 100 ms went by twice"),
            ],
        },
    ]
}

fn governor() -> Vec<Scenario> {
    vec![
        Scenario {
            of: "governor: the first cell passes at once",
            quota: Rate::per_second(5).burst(5),
            differs: None,
            rows: vec![row(0, Try(1), Taken)],
        },
        Scenario {
            of: "governor: a limiter that was never used has its burst, and not more",
            quota: Rate::per_second(5).burst(5),
            differs: None,
            rows: vec![row(10_000, Singles, Count(5))],
        },
        Scenario {
            of: "governor: too many are rejected, also one by one and with time between them",
            quota: Rate::per_second(2).burst(2),
            differs: None,
            rows: vec![
                row(0, Try(1), Taken),
                row(1, Try(1), Taken),
                row(2, Try(1), Refused),
                row(1_002, Try(1), Taken),
                row(1_003, Try(1), Taken),
                row(1_004, Try(1), Refused),
            ],
        },
        Scenario {
            of: "governor: no cell is added by a rest that is longer than the burst takes",
            quota: Rate::per_second(5).burst(5),
            differs: None,
            rows: vec![
                row(0, Singles, Count(5)),
                row(2_000, Singles, Count(5)),
                row(2_000, Try(1), Refused),
            ],
        },
        Scenario {
            of: "governor before 0.8: a cell is added by such a rest \
                 (boinkor-net/governor #107, #249)",
            quota: Rate::per_second(5).burst(5),
            differs: Some(NO_EXTRA_CELL),
            rows: vec![
                row(0, Singles, Count(5)),
                row(2_000, Singles, Count(5)).theirs(Count(6), "the tolerance was a burst"),
                row(2_200, Singles, Count(1)),
            ],
        },
        Scenario {
            of: "governor: a batch passes whole or not at all, within the burst",
            quota: Rate::per_second(4).burst(4),
            differs: None,
            rows: vec![
                row(0, Try(2), Taken),
                row(0, Try(2), Taken),
                row(1, Try(2), Refused),
                row(1_001, Try(2), Taken),
                row(1_002, Try(2), Taken),
                row(1_003, Try(2), Refused),
            ],
        },
        Scenario {
            of: "governor: a batch that does not pass costs nothing",
            quota: Rate::per_second(5).burst(5),
            differs: None,
            rows: vec![
                row(0, Try(3), Taken),
                row(0, Try(3), Refused),
                row(0, Try(2), Taken),
                row(0, Try(1), Refused),
            ],
        },
        Scenario {
            of: "governor: a batch above the capacity never passes, and is told the capacity",
            quota: Rate::per_second(5).burst(5),
            differs: None,
            rows: vec![
                row(0, Try(15), OverBurst(5)),
                row(0, Try(7), OverBurst(5)),
                row(0, Try(6), OverBurst(5)),
                row(0, Try(5), Taken),
                row(3_000, Try(15), OverBurst(5)),
            ],
        },
        Scenario {
            of: "governor: a refusal tells how long it is, to the moment",
            quota: Rate::per_second(5).burst(5),
            differs: None,
            rows: vec![
                row(1, Try(1), Taken),
                row(2, Try(1), Taken),
                row(3, Try(1), Taken),
                row(4, Try(1), Taken),
                row(5, Try(1), Taken),
                row(6, TryTold(1), refused_for(195)),
                row(200, TryTold(1), refused_for(1)),
                row(201, TryTold(1), Taken),
                row(202, TryTold(1), refused_for(199)),
                row(202, TryTold(2), refused_for(399)),
                row(401, TryTold(1), Taken),
            ],
        },
        Scenario {
            of: "governor: a wait for one is an interval when the burst is used up",
            quota: Rate::per_second(10).burst(10),
            differs: None,
            rows: vec![
                row(0, Spend(10), Set),
                row(0, ReadyIn(1), due(100)),
                row(0, ReadyIn(10), due(1_000)),
            ],
        },
        Scenario {
            of: "governor: a wait for several is for what is missing; above the capacity an error",
            quota: Rate::per_second(10).burst(10),
            differs: None,
            rows: vec![
                row(0, Spend(6), Set),
                row(0, ReadyIn(5), due(100)),
                row(0, ReadyIn(4), due(0)),
                row(0, ReadyIn(11), Never),
            ],
        },
        Scenario {
            of: "governor: with a burst of 1 no two cells are closer than the period",
            quota: Rate::every(Duration::from_millis(100)).burst(1),
            differs: None,
            rows: vec![
                row(0, Try(1), Taken),
                row(99, Try(1), Refused),
                row(100, Try(1), Taken),
                row(250, Try(1), Taken),
                row(300, Try(1), Refused),
                row(349, TryTold(1), refused_for(1)),
                row(350, Try(1), Taken),
                row(350, Try(2), OverBurst(1)),
            ],
        },
        Scenario {
            of: "governor: 60 a minute is 1 a second, and 60 again after a minute of rest",
            quota: Rate::per_minute(60).burst(60),
            differs: None,
            rows: vec![
                row(0, Try(60), Taken),
                row(999, Try(1), Refused),
                row(1_000, Try(1), Taken),
                row(60_999, Try(60), Refused),
                row(61_000, Try(60), Taken),
            ],
        },
        Scenario {
            of: "governor: 2 an hour, 90 at once: the whole burst is there again after 45 hours",
            quota: Rate::per_hour(2).burst(90),
            differs: None,
            rows: vec![
                row(0, Try(90), Taken),
                row(1_799_999, Try(1), Refused),
                row(1_800_000, ReadyIn(1), due(1_800_000)),
                row(161_999_999, Try(90), Refused),
                row(162_000_000, Try(90), Taken),
            ],
        },
        Scenario {
            of: "governor: 1 a day, 10 at once",
            quota: Rate::every(Duration::from_secs(86_400)).burst(10),
            differs: None,
            rows: vec![
                row(0, Singles, Count(10)),
                row(86_399_999, Try(1), Refused),
                row(86_400_000, Singles, Count(1)),
            ],
        },
        Scenario {
            of: "governor: a period may see the burst and what comes (boinkor-net/governor #219)",
            quota: Rate::per_second(10).burst(10),
            differs: None,
            rows: vec![
                row(0, Singles, Count(10)),
                row(500, Singles, Count(5)),
                row(999, Singles, Count(4)),
            ],
        },
        Scenario {
            of: "governor: what is left of the burst is told with each cell",
            quota: Rate::every(Duration::from_millis(90)).burst(2),
            differs: None,
            rows: vec![
                row(0, Try(1), Taken),
                row(0, Available, Count(1)),
                row(0, Try(1), Taken),
                row(0, Available, Count(0)),
                row(0, Try(1), Refused),
                row(120_000, Try(1), Taken),
                row(120_000, Available, Count(1)),
                row(120_000, Try(1), Taken),
                row(120_000, Available, Count(0)),
                row(120_000, Try(1), Refused),
            ],
        },
        Scenario {
            of: "governor: a number of cells is not zero",
            quota: Rate::per_second(5).burst(5),
            differs: Some(NOTHING_IS_FREE),
            rows: vec![
                row(0, Spend(5), Set),
                row(0, Try(0), Taken).theirs(Unsayable, "it takes a NonZeroU32"),
                row(0, ReadyIn(0), due(0)).theirs(Unsayable, "it takes a NonZeroU32"),
            ],
        },
        Scenario {
            of: "governor: the interval is cut to whole nanoseconds, here from 16.67 to 16",
            quota: Rate::per_second(60_000_000).burst(60_000_000),
            differs: Some(EXACT_RATE),
            rows: vec![
                row(0, Spend(60_000_000), Set),
                // 10 ns beyond a millisecond, in which 60 000 come.
                row_ns(1_000_010, UpTo(100_000), Count(60_000))
                    .theirs(Count(62_500), "1 000 010 ns hold so many of 16 ns"),
            ],
        },
        Scenario {
            of: "governor: a limiter keeps its quota (boinkor-net/governor #39)",
            quota: Rate::per_second(5).burst(5),
            differs: Some(LIVE_CHANGE),
            rows: vec![
                row(0, Spend(5), Set),
                row(200, SetRate(Rate::per_second(10)), Set)
                    .theirs(Unsayable, "there is no setter"),
                row(200, Try(1), Taken),
                row(300, Try(1), Taken).theirs(Refused, "200 ms are not over"),
            ],
        },
    ]
}

fn leaky_bucket() -> Vec<Scenario> {
    vec![
        Scenario {
            of: "leaky-bucket: tokens are there or not; 1 there is, and 1 comes in 100 ms",
            quota: Rate::per_second(10).burst(10),
            differs: None,
            rows: vec![
                row(0, Spend(9), Set),
                row(0, Try(1), Taken),
                row(0, Try(1), Refused),
                row(0, Try(0), Taken),
                row(200, Try(1), Taken),
                row(200, Try(1), Taken),
                row(200, Try(1), Refused),
            ],
        },
        Scenario {
            of: "leaky-bucket: a limiter begins with nothing, unless told",
            quota: Rate::per_second(10).burst(10),
            differs: Some(BEGINS_FULL),
            rows: vec![
                row(0, Try(1), Taken).theirs(Refused, "`initial` is 0"),
                row(0, Reserve(1), due(0)).theirs(due(100), "`initial` is 0"),
            ],
        },
        Scenario {
            of: "leaky-bucket: those who wait are served in order, 1 in 100 ms",
            quota: Rate::per_second(10).burst(10),
            differs: None,
            rows: vec![
                row(0, Spend(10), Set),
                row(0, Reserve(1), due(100)),
                row(0, Reserve(1), due(200)),
                row(0, Reserve(8), due(1_000)),
                row(1_000, Try(1), Refused),
                row(1_100, Try(1), Taken),
            ],
        },
        Scenario {
            of: "leaky-bucket: of ten requests three go at once, then one in 100 ms \
                 (udoprog/leaky-bucket #34)",
            quota: Rate::per_second(10).burst(30),
            differs: None,
            rows: vec![
                row(0, Spend(27), Set),
                row(0, Reserve(1), due(0)),
                row(0, Reserve(1), due(0)),
                row(0, Reserve(1), due(0)),
                row(0, Reserve(1), due(100)),
                row(0, Reserve(1), due(200)),
                row(0, Reserve(5), due(700)),
            ],
        },
        Scenario {
            of: "leaky-bucket: what is there at first is had at once, and the next is waited for",
            quota: Rate::per_second(10).burst(100),
            differs: None,
            rows: vec![
                row(0, Spend(90), Set),
                row(0, Reserve(10), due(0)),
                row(0, Reserve(3), due(300)),
            ],
        },
        Scenario {
            of: "leaky-bucket: a bucket that rests does not overflow",
            quota: Rate::every(Duration::from_secs(2)).burst(5),
            differs: None,
            rows: vec![
                row(10_000, Reserve(1), due(10_000)),
                row(10_000, Reserve(4), due(10_000)),
                row(10_000, Reserve(1), due(12_000)),
                row(10_000, Reserve(4), due(20_000)),
            ],
        },
        Scenario {
            of: "leaky-bucket: five at once, then one in 100 ms",
            quota: Rate::per_second(10).burst(5),
            differs: None,
            rows: vec![
                row(0, Singles, Count(5)),
                row(0, Reserve(1), due(100)),
                row(0, Reserve(4), due(500)),
            ],
        },
        Scenario {
            of: "leaky-bucket: more than the maximum is served, over several refills",
            quota: Rate::per_second(10).burst(5),
            differs: Some(OVER_BURST),
            rows: vec![
                row(0, Reserve(10), OverBurst(5)).theirs(due(500), "5 at once, 5 in 500 ms"),
                row(0, Reserve(5), due(0)).theirs(due(1_000), "it is behind the large one"),
            ],
        },
        Scenario {
            of: "leaky-bucket: a giant in line holds up all who come after it",
            quota: Rate::per_second(200).burst(100),
            differs: Some(OVER_BURST),
            rows: vec![
                row(0, Spend(100), Set),
                row(0, Reserve(10_000), OverBurst(100))
                    .theirs(due(50_000), "10 in 50 ms, all its own"),
                row(0, Reserve(10), due(50)).theirs(due(50_050), "it is behind the giant"),
            ],
        },
        Scenario {
            of: "leaky-bucket: a dropped wait gives what it had got to those behind it",
            quota: Rate::per_second(200).burst(100),
            differs: None,
            rows: vec![
                row(0, Spend(100), Set),
                row(0, Reserve(100), due(500)),
                row(0, Reserve(10), due(550)),
                row(225, Try(1), Refused),
                row(225, Cancel(0), Back(100)),
                row(225, DueOf(1), due(225)),
                row(250, Try(40), Taken),
                row(250, Try(1), Refused),
            ],
        },
        Scenario {
            of: "leaky-bucket: while somebody waits nobody else gets anything but nothing",
            quota: Rate::per_second(10).burst(10),
            differs: None,
            rows: vec![
                row(0, Spend(9), Set),
                row(0, Reserve(2), due(100)),
                row(0, Try(1), Refused),
                row(0, Try(0), Taken),
                row(0, Cancel(0), Back(2)),
                row(100, Try(2), Taken),
                row(100, Try(1), Refused),
            ],
        },
        Scenario {
            of: "leaky-bucket: above the maximum is false, like what has not come yet",
            quota: Rate::per_second(1_000).burst(1),
            differs: Some(SAYS_NEVER),
            rows: vec![
                row(100, Try(2), OverBurst(1)).theirs(Refused, "it has only false to say it with"),
                row(100, Try(1), Taken),
            ],
        },
        Scenario {
            of: "leaky-bucket: 10 come at the end of each second, none before",
            quota: Rate::per_second(10).burst(10),
            differs: Some(EVENLY),
            rows: vec![
                row(0, Try(10), Taken),
                row(100, Try(1), Taken).theirs(Refused, "the second is not over"),
                row(999, Try(8), Taken).theirs(Refused, "the second is not over"),
                row(1_000, Try(10), Refused).theirs(Taken, "all come at once"),
            ],
        },
        Scenario {
            of: "leaky-bucket: the burst before a refill, and the burst after it",
            quota: Rate::per_second(10).burst(10),
            differs: Some(EVENLY),
            rows: vec![
                row(999, Try(10), Taken),
                row(1_000, Try(10), Refused).theirs(Taken, "all come at once"),
                row(1_999, Try(10), Taken).theirs(Refused, "the second is not over"),
            ],
        },
        Scenario {
            of: "leaky-bucket: intervals go on while the bucket is full",
            quota: Rate::every(Duration::from_secs(2)).burst(5),
            differs: Some(EVENLY),
            rows: vec![
                row(0, Try(1), Taken),
                row(3_900, Try(1), Taken),
                row(3_900, Try(4), Taken),
                row(3_900, ReadyIn(1), due(5_900))
                    .theirs(due(4_000), "the second interval ends then"),
                row(4_000, Try(1), Refused).theirs(Taken, "the second interval ends now"),
            ],
        },
        Scenario {
            of: "leaky-bucket: 7, 3 and 10 of a refill of 5 take 400 ms",
            quota: Rate::per_second(50).burst(10),
            differs: Some(EVENLY),
            rows: vec![
                row(0, Spend(10), Set),
                row(0, Reserve(7), due(140)).theirs(due(200), "of the second refill it takes 2"),
                row(0, Reserve(3), due(200)),
                row(0, Reserve(10), due(400)),
            ],
        },
        Scenario {
            of: "leaky-bucket: 100 there are, 100 come in 250 ms, 1000 are the maximum",
            quota: Rate::per_second(400).burst(1_000),
            differs: None,
            rows: vec![
                row(0, Spend(900), Set),
                row(0, Try(100), Taken),
                row(0, Try(1), Refused),
                row(250, Try(100), Taken),
                row(250, Try(1), Refused),
                row(2_750, Try(1_000), Taken),
                row(2_750, Try(1), Refused),
            ],
        },
        Scenario {
            of: "leaky-bucket: 100 in 200 ms are 1000 in 2 s",
            quota: Rate::per_second(500).burst(1_000),
            differs: Some(EVENLY),
            rows: vec![
                row(0, Spend(1_000), Set),
                row(0, Reserve(50), due(100)).theirs(due(200), "the first refill"),
                row(0, Reserve(950), due(2_000)),
            ],
        },
        Scenario {
            of: "leaky-bucket: an interval is a millisecond or more",
            quota: Rate::every(Duration::from_micros(100)).burst(1),
            differs: Some(BELOW_A_MILLISECOND),
            rows: vec![
                row_ns(0, Try(1), Taken).theirs(Unsayable, "the builder panics"),
                row_ns(99_999, Try(1), Refused).theirs(Unsayable, "the builder panics"),
                row_ns(100_000, Try(1), Taken).theirs(Unsayable, "the builder panics"),
            ],
        },
    ]
}

// The driver.

/// Moves the clock from `now` to `at`, unless that is past; gives the time that it is then. While
/// somebody is in line it goes by whole milliseconds, at which everything in the tables is due: an
/// alarm that rings late would be another subject.
fn move_to(clock: &ManualClock, mut now: Duration, at: Duration) -> Duration {
    while now < at {
        let left = at - now;
        let step = match clock.registered() {
            0 => left,
            _ => left
                .min(Duration::from_nanos(1_000_000 - u64::from(now.subsec_nanos() % 1_000_000))),
        };
        clock.advance(step);
        now += step;
    }
    now
}

/// What came of a try for `n`.
fn tried(n: u32, result: Result<(), TryAcquireError>) -> Outcome {
    match result {
        Ok(()) => Taken,
        Err(TryAcquireError::NotYet(..)) => Refused,
        Err(TryAcquireError::OverBurst { wanted, burst }) => {
            assert_eq!(wanted, n, "an error that is about another request");
            OverBurst(burst)
        }
        Err(error) => panic!("{error}"),
    }
}

/// The same, with the time that a refusal tells.
fn told(n: u32, result: Result<(), TryAcquireError>) -> Outcome {
    match result {
        Err(TryAcquireError::NotYet(refusal)) => refusal.retry_in().map_or(Never, RefusedFor),
        result => tried(n, result),
    }
}

fn check(scenario: &Scenario) {
    let (timer, clock) = Timer::manual();
    let limiter = Limiter::with_timer(scenario.quota, timer);
    let mut reservations = Vec::new();
    let mut now = Duration::ZERO;
    for (number, row) in (1..).zip(&scenario.rows) {
        now = move_to(&clock, now, row.at);
        let got = match row.op {
            Op::Try(n) => tried(n, limiter.try_acquire(n)),
            Op::TryTold(n) => told(n, limiter.try_acquire(n)),
            Op::Available => Count(limiter.available()),
            Op::Singles => {
                Count((0..).take_while(|_| limiter.try_acquire(1).is_ok()).count() as u32)
            }
            Op::UpTo(n) => Count(limiter.take_up_to(n)),
            Op::Reserve(n) | Op::ReserveUnasked(n) => match limiter.reserve(n) {
                Ok(reservation) => {
                    let wait = reservation.due_in();
                    reservations.push(Some(reservation));
                    match row.op {
                        Op::ReserveUnasked(_) => Reserved,
                        _ => wait.map_or(Never, |wait| Due(now + wait)),
                    }
                }
                Err(AcquireError::OverBurst { wanted, burst }) => {
                    assert_eq!(wanted, n, "an error that is about another request");
                    reservations.push(None);
                    OverBurst(burst)
                }
                Err(error) => panic!("{error}"),
            },
            Op::DueOf(index) => {
                let reservation = reservations[index].as_ref().expect("it is not cancelled");
                reservation.due_in().map_or(Never, |wait| Due(now + wait))
            }
            Op::Cancel(index) => {
                Back(reservations[index].take().expect("it is not cancelled").cancel())
            }
            Op::ReadyIn(n) => limiter.ready_in(n).map_or(Never, |wait| Due(now + wait)),
            Op::Spend(n) => {
                limiter.try_acquire(n).unwrap();
                Set
            }
            Op::SetRate(rate) => {
                limiter.set_rate(rate);
                Set
            }
            Op::SetBurst(burst) => {
                limiter.set_burst(burst);
                Set
            }
            Op::SetQuota(quota) => {
                limiter.set_quota(quota);
                Set
            }
            Op::ZeroRate => Rate::checked(0, Duration::from_secs(1)).map_or(Unsayable, |_| Made),
            Op::ZeroBurst => Quota::checked(Rate::per_second(1), 0).map_or(Unsayable, |_| Made),
        };
        let Row { at, op, ours, .. } = row;
        let place = format!("{}: row {number}, {op:?} at {at:?}", scenario.of);
        assert_eq!(got, *ours, "{place}: expected {ours:?}, got {got:?}");
        if let Some((theirs, reason)) = row.theirs {
            assert_ne!(got, theirs, "{place}: marked as a difference ({reason}), and is none");
        }
    }
}

fn check_all(scenarios: &[Scenario]) {
    for scenario in scenarios {
        check(scenario);
    }
}

/// The rows that state an outcome.
fn rows(scenarios: &[Scenario]) -> usize {
    scenarios.iter().flat_map(|scenario| &scenario.rows).filter(|row| row.ours != Set).count()
}

#[test]
fn what_x_time_rate_promises_holds_but_for_the_named_differences() {
    check_all(&x_time_rate());
}

#[test]
fn what_governor_promises_holds_but_for_the_named_differences() {
    check_all(&governor());
}

#[test]
fn what_leaky_bucket_promises_holds_but_for_the_named_differences() {
    check_all(&leaky_bucket());
}

#[test]
fn a_scenario_names_its_difference_exactly_if_a_row_is_marked() {
    for scenario in [x_time_rate(), governor(), leaky_bucket()].iter().flatten() {
        let marked = scenario.rows.iter().any(|row| row.theirs.is_some());
        assert_eq!(marked, scenario.differs.is_some(), "{}", scenario.of);
    }
}

#[test]
fn the_table_has_seventy_rows_and_fifteen_of_each_peer() {
    let peers = [
        ("x/time/rate", x_time_rate()),
        ("governor", governor()),
        ("leaky-bucket", leaky_bucket()),
    ];
    for (name, scenarios) in &peers {
        assert!(scenarios.iter().all(|scenario| scenario.of.starts_with(*name)), "{name}");
        assert!(rows(scenarios) >= 15, "{name}: {} rows", rows(scenarios));
    }
    let total: usize = peers.iter().map(|(_, scenarios)| rows(scenarios)).sum();
    assert!(total >= 70, "{total} rows");
}
