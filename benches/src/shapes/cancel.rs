//! The cancellation tree beside tokio-util's token and async-shutdown.
//!
//! A child of ours is a context and its canceller, because that is what a user makes and drops; a
//! child of tokio-util is one token that is both. The waiters of the two are futures on the heap, and
//! are woken through one waker that counts.

use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use async_shutdown::ShutdownManager;
use selvedge_cancel::{Canceller, Context};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Scale;
use super::poll::{Woken, pending, waiting};
use crate::harness::threads::together;
use crate::harness::{Count, Shape, Work};

/// Every shape of the crate.
pub fn shapes(scale: Scale) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for threads in [1, 2] {
        shapes.push(check(threads));
        shapes.push(child(threads));
        shapes.push(clone(threads));
    }
    shapes.push(child_that_waits());
    for threads in [1, 2] {
        shapes.push(poll_again(threads));
    }
    let widths: &[u64] =
        scale.of(&[1, 10, 1_000, 100_000, 1_000_000], &[1, 10, 1_000, 100_000], &[1, 10]);
    for &children in widths {
        shapes.push(cancel(children));
        shapes.push(cancel_waiting(children));
    }
    for waiters in [1, 10, 1_000] {
        shapes.push(wake(waiters));
    }
    shapes.push(chain(1_000));
    for children in [0, 1_000, scale.of(1_000_000, 100_000, 2_000)] {
        shapes.push(cancel_again(children));
    }
    shapes.push(drop_inner(scale.of(100_000, 10_000, 100)));
    shapes.push(check_with_deadline("far away", LATER));
    shapes.push(check_with_deadline("exact clock", EXACT));
    shapes.push(children_with_deadlines(scale.of(100_000, 10_000, 100)));
    shapes.push(look_during_cancel(scale.of(1_000_000, 100_000, 2_000)));
    for threads in [1, 2] {
        shapes.push(enter(threads));
    }
    shapes
}

fn by_threads(threads: usize) -> String {
    match threads {
        1 => "1 thread".to_owned(),
        _ => format!("{threads} threads"),
    }
}

/// A root of ours.
fn root() -> (Context, Canceller) {
    Context::background().child()
}

/// Is it cancelled? It is not.
fn check(threads: usize) -> Shape {
    fn each(threads: usize, n: u64, check: impl Fn() -> bool + Sync) -> Count {
        together(threads, n, |_, share| {
            for _ in 0..share {
                assert!(!black_box(check()));
            }
        })
    }

    let (ctx, canceller) = root();
    let (alone, held) = root();
    let token = CancellationToken::new();
    let manager = ShutdownManager::<()>::new();
    let flag = Arc::new(AtomicBool::new(false));
    let shape = Shape::new("cancel", "check", by_threads(threads), Work::Calibrated(2))
        .ours(move |n| {
            let _armed = &canceller;
            each(threads, n, || black_box(&ctx).is_cancelled())
        })
        .peer("tokio-util", move |n| each(threads, n, || black_box(&token).is_cancelled()))
        .peer("async-shutdown", move |n| {
            each(threads, n, || black_box(&manager).is_shutdown_triggered())
        });
    if threads == 1 {
        // Acquire: what any flag costs that says something about other memory.
        shape
            .reference("Acquire load", move |n| {
                each(1, n, || black_box(&flag).load(Ordering::Acquire))
            })
            .go("check")
    } else {
        // A machine whose two processors are halves of one core shows it in the load as well.
        shape
            .reference("ours, 1 thread", move |n| {
                let _armed = &held;
                each(1, n, || black_box(&alone).is_cancelled())
            })
            .reference("Acquire load", move |n| {
                each(threads, n, || black_box(&flag).load(Ordering::Acquire))
            })
    }
}

/// A child is made and dropped, all on one parent. Dropping its canceller cancels ours; the reference
/// is a child whose canceller was detached first.
fn child(threads: usize) -> Shape {
    fn each(threads: usize, n: u64, once: impl Fn() + Sync) -> Count {
        together(threads, n, |_, share| (0..share).for_each(|_| once()))
    }

    let ((ctx, canceller), (detached, held)) = (root(), root());
    let token = CancellationToken::new();
    let shape = Shape::new("cancel", "child", by_threads(threads), Work::Calibrated(2))
        .ours(move |n| {
            let _armed = &canceller;
            each(threads, n, || drop(black_box(black_box(&ctx).child())))
        })
        .peer("tokio-util", move |n| {
            each(threads, n, || drop(black_box(black_box(&token).child_token())))
        })
        .reference("ours, detached", move |n| {
            let _armed = &held;
            each(threads, n, || {
                let (child, canceller) = black_box(&detached).child();
                canceller.detach();
                drop(black_box(child));
            })
        });
    if threads == 1 { shape.go("child") } else { shape }
}

/// A handle is cloned and dropped.
fn clone(threads: usize) -> Shape {
    fn each<T: Clone + Sync>(threads: usize, n: u64, handle: &T) -> Count {
        together(threads, n, |_, share| {
            for _ in 0..share {
                drop(black_box(black_box(handle).clone()));
            }
        })
    }

    let (ctx, canceller) = root();
    let token = CancellationToken::new();
    let manager = ShutdownManager::<()>::new();
    let arc = Arc::new(0_u8);
    Shape::new("cancel", "clone", by_threads(threads), Work::Calibrated(2))
        .ours(move |n| {
            let _armed = &canceller;
            each(threads, n, &ctx)
        })
        .peer("tokio-util", move |n| each(threads, n, &token))
        .peer("async-shutdown", move |n| each(threads, n, &manager))
        .reference("Arc", move |n| each(threads, n, &arc))
}

/// What a request does: a child is made, waited for once, and both are dropped.
fn child_that_waits() -> Shape {
    let (ctx, canceller) = root();
    let token = CancellationToken::new();
    Shape::new("cancel", "child that waits", "1 thread", Work::Calibrated(1))
        .ours(move |n| {
            let _armed = &canceller;
            Count::time(|| {
                for _ in 0..n {
                    let (child, _armed) = ctx.child();
                    pending(std::pin::pin!(child.cancelled()), Waker::noop());
                }
            })
        })
        .peer("tokio-util", move |n| {
            Count::time(|| {
                for _ in 0..n {
                    let child = token.child_token();
                    pending(std::pin::pin!(child.cancelled()), Waker::noop());
                }
            })
        })
}

/// The waiters of one context that [`poll_again`] polls.
const WAITERS: u64 = 4_096;
/// How often it polls each, which is one operation a waiter and turn.
const TURNS: u64 = 32;

/// Many wait for one context and are polled again and again, as in a `select!` loop.
fn poll_again(threads: usize) -> Shape {
    fn each<F: Future + Send>(threads: usize, n: u64, wait: impl Fn() -> F) -> Count {
        let mut count = Count::default();
        for _ in 0..n / (WAITERS * TURNS) {
            let share = WAITERS as usize / threads;
            let mut parts: Vec<_> =
                (0..threads).map(|_| waiting((0..share).map(|_| wait()), Waker::noop())).collect();
            let parts: Vec<_> = parts.iter_mut().map(std::sync::Mutex::new).collect();
            count.add(together(threads, WAITERS * TURNS, |number, _| {
                let mut part = parts[number].lock().expect("each thread has its own");
                for _ in 0..TURNS {
                    part.iter_mut().for_each(|wait| pending(wait.as_mut(), Waker::noop()));
                }
            }));
        }
        count
    }

    let (ctx, canceller) = root();
    let token = CancellationToken::new();
    let work = Work::Calibrated(WAITERS * TURNS);
    Shape::new("cancel", "poll 4096 waiters again", by_threads(threads), work)
        .ours(move |n| {
            let _armed = &canceller;
            each(threads, n, || ctx.cancelled())
        })
        .peer("tokio-util", move |n| each(threads, n, || token.cancelled()))
}

/// Cancels trees of `nodes` each, one after the other; what is made for them is not timed.
fn each_tree<T>(
    n: u64,
    nodes: u64,
    make: impl Fn() -> T,
    cancel: impl Fn(&T),
    check: impl Fn(&T) -> bool,
) -> Count {
    // So many at a time that the clock is read seldom and memory stays small.
    let at_a_time = (1_000 / nodes).max(1);
    let mut count = Count::default();
    let mut left = n / nodes;
    while left > 0 {
        let trees: Vec<_> = (0..at_a_time.min(left)).map(|_| make()).collect();
        left -= trees.len() as u64;
        count.add(Count::time(|| trees.iter().for_each(&cancel)));
        assert!(trees.iter().all(&check), "a descendant is not cancelled");
    }
    count
}

/// A root with children is cancelled; an operation is a child.
fn cancel(children: u64) -> Shape {
    Shape::new("cancel", "cancel children", children.to_string(), Work::Calibrated(children))
        .ours(move |n| {
            each_tree(
                n,
                children,
                || {
                    let (ctx, canceller) = root();
                    let children: Vec<_> = (0..children).map(|_| ctx.child()).collect();
                    (canceller, children)
                },
                |(canceller, _)| canceller.cancel(),
                |(_, children)| children.iter().all(|(child, _)| child.is_cancelled()),
            )
        })
        .peer("tokio-util", move |n| {
            each_tree(
                n,
                children,
                || {
                    let token = CancellationToken::new();
                    let children: Vec<_> = (0..children).map(|_| token.child_token()).collect();
                    (token, children)
                },
                |(token, _)| token.cancel(),
                |(_, children)| children.iter().all(CancellationToken::is_cancelled),
            )
        })
        .go_with("cancel children", vec![children.to_string()])
}

/// A root is cancelled whose children have a waiter each; an operation is a child.
fn cancel_waiting(children: u64) -> Shape {
    let work = Work::Calibrated(children);
    Shape::new("cancel", "cancel children that wait", children.to_string(), work)
        .ours(move |n| {
            each_tree(
                n,
                children,
                || {
                    let (ctx, canceller) = root();
                    let children: Vec<_> = (0..children).map(|_| ctx.child()).collect();
                    let (woken, waker) = Woken::new();
                    let waits =
                        waiting(children.iter().map(|(child, _)| child.cancelled_owned()), &waker);
                    (canceller, woken, waits, children)
                },
                |(canceller, ..)| canceller.cancel(),
                |(_, woken, ..)| woken.count() == children,
            )
        })
        .peer("tokio-util", move |n| {
            each_tree(
                n,
                children,
                || {
                    let token = CancellationToken::new();
                    let (woken, waker) = Woken::new();
                    let waits = waiting(
                        (0..children).map(|_| token.child_token().cancelled_owned()),
                        &waker,
                    );
                    (token, woken, waits)
                },
                |(token, ..)| token.cancel(),
                |(_, woken, _)| woken.count() == children,
            )
        })
}

/// Waiters of one context are woken by its end; an operation is a waiter.
fn wake(waiters: u64) -> Shape {
    fn each<F: Future, T>(
        n: u64,
        waiters: u64,
        make: impl Fn() -> T,
        wait: impl Fn(&T) -> F,
        cancel: impl Fn(&T),
    ) -> Count {
        each_tree(
            n,
            waiters,
            || {
                let root = make();
                let (woken, waker) = Woken::new();
                let waits: Vec<Pin<Box<F>>> = waiting((0..waiters).map(|_| wait(&root)), &waker);
                (waits, woken, root)
            },
            |(.., root)| cancel(root),
            |(_, woken, _)| woken.count() == waiters,
        )
    }

    Shape::new("cancel", "wake waiters", waiters.to_string(), Work::Calibrated(waiters))
        .ours(move |n| {
            each(n, waiters, root, |root| root.0.cancelled_owned(), |root| root.1.cancel())
        })
        .peer("tokio-util", move |n| {
            each(
                n,
                waiters,
                CancellationToken::new,
                |token| token.clone().cancelled_owned(),
                CancellationToken::cancel,
            )
        })
        .peer("async-shutdown", move |n| {
            each(
                n,
                waiters,
                ShutdownManager::<()>::new,
                ShutdownManager::wait_shutdown_triggered,
                |manager| assert!(manager.trigger_shutdown(()).is_ok()),
            )
        })
}

/// A child of a child of a child: the root is cancelled; an operation is a node.
fn chain(depth: u64) -> Shape {
    Shape::new("cancel", "cancel a chain", depth.to_string(), Work::Calibrated(depth))
        .ours(move |n| {
            each_tree(
                n,
                depth,
                || {
                    let mut nodes = vec![root()];
                    for _ in 0..depth {
                        let child = nodes.last().map(|(ctx, _)| ctx.child());
                        nodes.extend(child);
                    }
                    nodes
                },
                |nodes| nodes[0].1.cancel(),
                |nodes| nodes.iter().all(|(ctx, _)| ctx.is_cancelled()),
            )
        })
        .peer("tokio-util", move |n| {
            each_tree(
                n,
                depth,
                || {
                    let mut nodes = vec![CancellationToken::new()];
                    for _ in 0..depth {
                        let child = nodes.last().map(CancellationToken::child_token);
                        nodes.extend(child);
                    }
                    nodes
                },
                |nodes| nodes[0].cancel(),
                |nodes| nodes.iter().all(CancellationToken::is_cancelled),
            )
        })
}

/// A cancel after the first has returned.
fn cancel_again(children: u64) -> Shape {
    Shape::new("cancel", "cancel again", children.to_string(), Work::Exactly(10_000))
        .ours(move |n| {
            let (ctx, canceller) = root();
            let _alive: Vec<_> = (0..children).map(|_| ctx.child()).collect();
            canceller.cancel();
            Count::time(|| (0..n).for_each(|_| black_box(&canceller).cancel()))
        })
        .peer("tokio-util", move |n| {
            let token = CancellationToken::new();
            let _alive: Vec<_> = (0..children).map(|_| token.child_token()).collect();
            token.cancel();
            Count::time(|| (0..n).for_each(|_| black_box(&token).cancel()))
        })
}

/// A node between a root and `children` live children is dropped; an operation is a drop.
///
/// Making a hundred thousand children puts everything else out of the caches, the code of the drop as well. So that the
/// ratio to two children tells of the drop and not of the caches, as many are made there, below a sibling; and the node is
/// used just before, looked at and cloned, in both.
fn drop_inner(children: u64) -> Shape {
    fn ours(n: u64, children: u64, beside: u64) -> Count {
        let (root, _armed) = root();
        let mut count = Count::default();
        for _ in 0..n {
            let (inner, canceller) = root.child();
            canceller.detach();
            let (sibling, _keep) = root.child();
            let alive: Vec<_> = (0..children).map(|_| inner.child()).collect();
            let _beside: Vec<_> = (0..beside).map(|_| sibling.child()).collect();
            assert!(!inner.is_cancelled());
            drop(black_box((inner.clone(), root.child())));
            count.add(Count::time(|| drop(black_box(inner))));
            assert!(!alive[0].0.is_cancelled());
        }
        count
    }

    fn tokio_util(n: u64, children: u64) -> Count {
        let root = CancellationToken::new();
        let mut count = Count::default();
        for _ in 0..n {
            let inner = root.child_token();
            let alive: Vec<_> = (0..children).map(|_| inner.child_token()).collect();
            assert!(!inner.is_cancelled());
            drop(black_box((inner.clone(), root.child_token())));
            count.add(Count::time(|| drop(black_box(inner))));
            assert!(!alive[0].is_cancelled());
        }
        count
    }

    Shape::new("cancel", "drop an inner node", format!("{children} children"), Work::Exactly(20))
        .ours(move |n| ours(n, children, 2))
        .peer("tokio-util", move |n| tokio_util(n, children))
        .reference("ours, 2 children", move |n| ours(n, 2, children))
}

/// A day: later than any bench.
const LATER: Duration = Duration::from_secs(24 * 60 * 60);

/// Four hundred years: so far away that only the exact clock is asked, as when it is near.
const EXACT: Duration = Duration::from_secs(400 * 365 * 24 * 60 * 60);

/// Is it cancelled, when there is a deadline to look at?
fn check_with_deadline(name: &str, after: Duration) -> Shape {
    Shape::new("cancel", "check with a deadline", name.to_owned(), Work::Calibrated(1))
        .ours(move |n| {
            let (ctx, _armed) =
                Context::background().with_timeout(after).expect("a thread keeps the deadline");
            Count::time(|| (0..n).for_each(|_| assert!(!black_box(&ctx).is_cancelled())))
        })
        .reference("clock read", |n| {
            let later = Instant::now() + LATER;
            Count::time(|| (0..n).for_each(|_| assert!(Instant::now() < black_box(later))))
        })
}

/// Children whose deadline is later than their parent's, each waited for once; an operation is a
/// child, from making to dropping.
fn children_with_deadlines(children: u64) -> Shape {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let at_once = format!("{children} at once");
    Shape::new("cancel", "children with later deadlines", at_once, Work::Exactly(children))
        .ours(move |n| {
            runtime().block_on(async {
                let (ctx, _armed) =
                    Context::background().with_timeout(LATER).expect("in a runtime");
                Count::time(|| {
                    let children: Vec<_> = (0..n)
                        .map(|_| ctx.with_timeout(2 * LATER).expect("in a runtime"))
                        .collect();
                    let waits =
                        waiting(children.iter().map(|child| child.0.cancelled()), Waker::noop());
                    drop(waits);
                    drop(children);
                })
            })
        })
        .peer("tokio-util and a timeout", move |n| {
            runtime().block_on(async {
                let token = CancellationToken::new();
                Count::time(|| {
                    let wait =
                        || tokio::time::timeout(2 * LATER, token.child_token().cancelled_owned());
                    drop(waiting((0..n).map(|_| wait()), Waker::noop()));
                })
            })
        })
}

/// Work is entered and left, which both sides count.
fn enter(threads: usize) -> Shape {
    fn each<T>(threads: usize, n: u64, enter: impl Fn() -> T + Sync) -> Count {
        together(threads, n, |_, share| (0..share).for_each(|_| drop(black_box(enter()))))
    }

    let (ctx, canceller) = root();
    let tracker = TaskTracker::new();
    Shape::new("cancel", "tracker enter and exit", by_threads(threads), Work::Calibrated(2))
        .ours(move |n| {
            let _armed = &canceller;
            each(threads, n, || black_box(&ctx).enter().expect("it is not cancelled"))
        })
        .peer("tokio-util tracker", move |n| each(threads, n, || black_box(&tracker).token()))
}

/// How often a look is due: a thread that has a look to make every microsecond has made none while one
/// keeps it waiting.
const DUE: Duration = Duration::from_micros(1);

/// Looks at a root again and again while another thread cancels it with all its children: the 99.9th
/// percentile of a look, counted from when it was due. (A look that waits for the whole cancel keeps back
/// the others that were due meanwhile. To count it as one would omit just what it is about: Gil Tene's
/// "coordinated omission".)
fn look_during_cancel(children: u64) -> Shape {
    fn each<T: Sync>(
        n: u64,
        root: &T,
        look: impl Fn(&T) + Sync,
        cancel: impl Fn(&T) + Sync,
    ) -> Count {
        let ended = AtomicBool::new(false);
        let started = AtomicBool::new(false);
        let looks = std::thread::scope(|scope| {
            let looker = scope.spawn(|| {
                let mut looks = Vec::with_capacity(1 << 22);
                let mut before = Instant::now();
                // Acquire: pairs with the Release below; the cancel has returned.
                while !ended.load(Ordering::Acquire) && looks.len() < looks.capacity() {
                    look(root);
                    let now = Instant::now();
                    looks.push(now - before);
                    before = now;
                    if looks.len() == 100 {
                        // Release: pairs with the Acquire loop of the canceller.
                        started.store(true, Ordering::Release);
                    }
                }
                looks
            });
            // Acquire: pairs with the Release store of the looker.
            while !started.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            cancel(root);
            // Release: pairs with the Acquire load of the looker.
            ended.store(true, Ordering::Release);
            looker.join().expect("a bench panicked")
        });
        Count::told(percentile(due(looks, DUE), 999), n)
    }

    let parameter = format!("of {children}: p99.9");
    Shape::new("cancel", "look, clone and child during a cancel", parameter, Work::Exactly(1))
        .ours(move |n| {
            let (ctx, canceller) = root();
            let alive: Vec<_> = (0..children).map(|_| ctx.child()).collect();
            let look = |root: &(Context, Canceller)| {
                black_box(root.0.is_cancelled());
                drop(black_box(root.0.clone()));
                drop(black_box(root.0.child()));
            };
            let root = (ctx, canceller);
            let count = each(n, &root, look, |root| root.1.cancel());
            assert!(alive.iter().all(|child| child.0.is_cancelled()));
            count
        })
        .peer("tokio-util", move |n| {
            let token = CancellationToken::new();
            let alive: Vec<_> = (0..children).map(|_| token.child_token()).collect();
            let look = |token: &CancellationToken| {
                black_box(token.is_cancelled());
                drop(black_box(token.clone()));
                drop(black_box(token.child_token()));
            };
            let count = each(n, &token, look, CancellationToken::cancel);
            assert!(alive.iter().all(CancellationToken::is_cancelled));
            count
        })
}

/// With each look those that were due while it lasted.
fn due(looks: Vec<Duration>, every: Duration) -> Vec<Duration> {
    let mut all = Vec::with_capacity(looks.len());
    for look in looks {
        let mut late = look;
        all.push(late);
        while late > every {
            late -= every;
            all.push(late);
        }
    }
    all
}

/// The look that so many of a thousand are no longer than.
fn percentile(mut looks: Vec<Duration>, of_thousand: usize) -> Duration {
    looks.sort_unstable();
    let place = (looks.len() * of_thousand).div_ceil(1_000).saturating_sub(1);
    looks.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_takes_long_keeps_others_back() {
        let micros = |micros: &[u64]| -> Vec<_> {
            micros.iter().copied().map(Duration::from_micros).collect()
        };
        assert_eq!(due(micros(&[1, 4, 1]), Duration::from_micros(1)), micros(&[1, 4, 3, 2, 1, 1]));
    }

    #[test]
    fn a_percentile_is_one_of_the_looks() {
        let looks: Vec<_> = (1..=1_000).rev().map(Duration::from_nanos).collect();
        assert_eq!(percentile(looks.clone(), 999), Duration::from_nanos(999));
        assert_eq!(percentile(looks, 1_000), Duration::from_nanos(1_000));
        assert_eq!(percentile(Vec::new(), 999), Duration::ZERO);
    }
}
