//! Looking at a whole tree: what a dump says, and what is counted.

use std::task::{Context as TaskContext, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{Canceller, Context, Timer};
use selvedge_testkit::{block_on, watchdog};

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> (Context, Canceller) {
    Context::background().child()
}

/// The lines of a dump, each without the place where its context was made, and without its age.
fn lines(ctx: &Context) -> Vec<String> {
    let text = ctx.dump().to_string();
    let strip = |line: &str| {
        let (before, rest) = line.split_once('(').expect("a place");
        let (_, after) = rest.split_once("): ").expect("a place");
        let (state, rest) = after.split_once(", age ").unwrap_or((after, ""));
        let rest = rest.split_once(',').map_or(String::new(), |(_, rest)| format!(",{rest}"));
        format!("{before}| {state}{rest}")
    };
    text.lines().map(strip).collect()
}

#[test]
fn a_dump_is_an_indented_tree_with_states_waiters_guards_and_deadlines() {
    let (timer, clock) = Timer::manual();
    let background = Context::background();
    let builder = background.child_with().name("service").timer(timer).timeout(10 * SECOND);
    let (service, _keep) = builder.build().unwrap();
    let (request, _request_canceller) =
        service.child_with().name("request").timeout(5 * SECOND).build().unwrap();
    let (step, step_canceller) = request.child();
    let mut cancelled = Box::pin(service.cancelled());
    let polled = cancelled.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    let callback = request.on_cancel(drop);
    let guard = request.enter().unwrap();
    clock.advance(SECOND);
    assert_eq!(
        lines(&service),
        [
            "service | running, due in 9.0s, 1 waiting",
            "  request | running, due in 4.0s, 1 waiting, 1 inside",
            "    | running, due in 4.0s",
        ]
    );

    let place = |text: &str| text.split(" at ").next().unwrap().to_owned();
    step_canceller.cancel();
    assert_eq!(place(&lines(&step)[0]), "| cancelled");
    assert_eq!(lines(&request).len(), 2, "a dump begins where it was asked for");
    clock.advance(4 * SECOND);
    assert_eq!(place(&lines(&service)[1]), "  request | deadline passed, set");
    assert!(!lines(&service)[1].contains("due in"), "it was due");
    assert!(!lines(&service)[1].contains("waiting"), "the callback has run");
    drop((callback, guard));
}

#[test]
fn a_dump_shows_what_is_stopping_shielded_or_gone() {
    let (ctx, canceller) = root();
    let shielded = ctx.shield(3600 * SECOND, async |inside: Context| inside);
    let inside = block_on(shielded.unwrap()).unwrap();
    canceller.stop(Duration::MAX);
    let all = lines(&ctx);
    assert!(all[0].starts_with("| stopping: stopped at "), "{all:?}");
    assert!(all[1].contains(", shielded for 3"), "{all:?}");
    drop(inside);

    let (root, _keep) = root();
    let (relay, canceller) = root.child();
    canceller.detach();
    let (left, right) = (relay.child(), relay.child());
    drop(relay);
    let all = lines(&root);
    assert_eq!(all.iter().filter(|line| line.ends_with(", no handle left")).count(), 1, "{all:?}");
    drop((left, right));
}

#[test]
fn the_background_is_dumped_as_itself_and_has_nothing_to_count() {
    assert_eq!(Context::background().dump().to_string(), "background");
    assert_eq!(Context::background().counts().nodes, 0);
}

#[test]
fn a_dump_shows_the_whole_cause_and_no_second_line_for_a_leaf() {
    let (ctx, canceller) = root();
    canceller.cancel();
    let text = format!("{:?}", ctx.dump());
    assert!(text.contains(": cancelled at ") && text.contains("inspect.rs:"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[cfg(feature = "age")]
#[test]
fn with_the_feature_a_dump_tells_ages() {
    let (ctx, _canceller) = root();
    thread::sleep(Duration::from_millis(10));
    let text = ctx.dump().to_string();
    let age = text.split_once(", age ").expect("an age").1;
    assert!(age.starts_with(|digit: char| digit.is_ascii_digit()), "{text}");
    assert!(!age.starts_with("0.0ns"), "{text}");
}

#[test]
fn counts_are_those_of_the_tree_from_here_downwards() {
    let (ctx, _canceller) = root();
    let fresh = ctx.counts();
    assert_eq!((fresh.nodes, fresh.live, fresh.never_awaited), (1, 1, 1));

    let waited = ctx.child();
    let unused = ctx.child();
    let mut waiting = Box::pin(waited.0.stopping());
    let _pending = waiting.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    let guard = ctx.enter().unwrap();
    let counts = ctx.counts();
    assert_eq!((counts.nodes, counts.live), (3, 3));
    assert_eq!((counts.waiting, counts.inside), (1, 1));
    assert_eq!(
        counts.never_awaited, 1,
        "the unused one: the root has children, the other was waited on"
    );
    assert_eq!(counts.guards_forgotten, 0);
    assert_eq!(waited.0.counts().nodes, 1);
    drop((guard, unused));
}

#[test]
fn a_forgotten_guard_is_counted_when_its_context_is_gone_otherwise() {
    let (ctx, _canceller) = root();
    let (task, canceller) = ctx.child();
    let guard = task.enter().unwrap();
    assert_eq!(ctx.counts().guards_forgotten, 0);
    canceller.detach();
    drop(task);
    assert_eq!(ctx.counts().guards_forgotten, 1);
    assert!(ctx.dump().to_string().ends_with(", 1 inside, no handle left"));
    drop(guard);
    assert_eq!(ctx.counts().guards_forgotten, 0);
    assert_eq!(ctx.counts().nodes, 1);
}

#[test]
fn a_relay_is_counted_and_not_live() {
    let (ctx, _canceller) = root();
    let (relay, canceller) = ctx.child();
    canceller.detach();
    let children = (relay.child(), relay.child());
    drop(relay);
    let counts = ctx.counts();
    assert_eq!((counts.nodes, counts.live), (4, 3));
    drop(children);
}

#[test]
fn a_chain_a_million_deep_is_dumped_on_a_small_stack() {
    let dump = || {
        let (ctx, _canceller) = root();
        let mut all = vec![ctx];
        while all.len() < 1_000_000 {
            let (child, canceller) = all[all.len() - 1].child();
            canceller.detach();
            all.push(child);
        }
        assert_eq!(all[0].counts().nodes, 1_000_000);
        let text = all[0].dump().to_string();
        assert_eq!(text.lines().count(), 1_000_000);
        let last = text.lines().last().unwrap();
        assert!(last.trim_start().starts_with("[999999] ("), "{last}");
        assert!(last.len() < 200, "a line is no longer where it is deep");
    };
    thread::Builder::new().stack_size(256 << 10).spawn(dump).unwrap().join().unwrap();
}

#[test]
fn a_dump_beside_those_who_make_cancel_and_drop_ends_and_shows_a_tree() {
    let (ctx, _canceller) = root();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for turn in 0..20_000_u32 {
                    let (child, canceller) = ctx.child();
                    let (grandchild, keep) = child.child();
                    if turn.is_multiple_of(3) {
                        canceller.cancel();
                    }
                    drop((child, grandchild, keep));
                }
            });
        }
        for _ in 0..500 {
            let text = ctx.dump().to_string();
            assert!(text.starts_with('('), "{text}");
            assert!(text.lines().skip(1).all(|line| line.starts_with("  ")), "{text}");
        }
    });
    assert_eq!(ctx.counts().nodes, 1);
}

#[test]
fn who_looks_at_a_part_of_a_tree_is_not_shown_twice_by_who_looks_at_the_whole() {
    let (ctx, _canceller) = root();
    let (part, _part) = ctx.child();
    let children: Vec<_> = (0..2_000).map(|_| part.child()).collect();
    let guard = part.enter().unwrap();
    let nodes = children.len() + 2;
    thread::scope(|scope| {
        let looks =
            scope.spawn(|| (0..600).for_each(|_| assert_eq!(part.counts().nodes, nodes - 1)));
        while !looks.is_finished() {
            assert_eq!(ctx.counts().nodes, nodes);
            assert_eq!(ctx.stragglers().len(), 1);
        }
        looks.join().unwrap();
    });
    drop(guard);
}

#[test]
fn a_cancel_of_what_is_looked_at_comes_through() {
    watchdog(PATIENCE, "a cancel beside who looks", || {
        let (ctx, canceller) = root();
        let children: Vec<_> = (0..1_000).map(|_| ctx.child()).collect();
        thread::scope(|scope| {
            let looks = scope.spawn(|| {
                while !ctx.is_cancelled() {
                    assert_eq!(ctx.counts().nodes, children.len() + 1);
                }
            });
            thread::sleep(Duration::from_millis(20));
            canceller.cancel();
            assert!(children.iter().all(|(child, _)| child.is_cancelled()));
            looks.join().unwrap();
        });
    });
}
