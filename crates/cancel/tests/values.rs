//! Values: lookup, override, what children carry, who drops them, and a map beside the real one.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_cancel::{Canceller, Context};
use selvedge_testkit::{CountingAllocator, watchdog};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq)]
struct RequestId(u64);

#[derive(Debug, PartialEq)]
struct User(&'static str);

/// Counts those that are alive.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(live: &Arc<AtomicUsize>) -> Self {
        // Relaxed: a counter.
        live.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(live))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Relaxed: a counter.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// Smoke.

#[test]
fn a_value_is_found_by_its_type() {
    let ctx = Context::background().with_value(RequestId(7)).with_value(User("ada"));
    assert_eq!(ctx.value(), Some(&RequestId(7)));
    assert_eq!(ctx.value(), Some(&User("ada")));
    assert_eq!(ctx.value::<u64>(), None);
    assert_eq!(Context::background().value::<User>(), None);
}

#[test]
fn a_shared_value_is_the_same_one_and_outlives_its_context() {
    let live = Arc::new(AtomicUsize::new(0));
    let ctx = Context::background().with_value(Counted::new(&live));
    let shared = ctx.shared_value::<Counted>().unwrap();
    assert!(std::ptr::eq(&*shared, ctx.value::<Counted>().unwrap()));
    assert!(ctx.shared_value::<User>().is_none());
    drop(ctx);
    assert_eq!(live.load(Ordering::Relaxed), 1);
    drop(shared);
    assert_eq!(live.load(Ordering::Relaxed), 0);
}

#[test]
fn children_carry_what_their_parent_carried_when_they_were_made() {
    let (root, _canceller) = Context::background().with_value(User("ada")).child();
    let (before, _before) = root.child();
    let root = root.with_value(RequestId(7));
    let (after, _after) = root.child();
    let (named, _named) = root.child_with().name("step").build().unwrap();
    assert_eq!((before.value(), before.value::<RequestId>()), (Some(&User("ada")), None));
    assert_eq!((after.value(), after.value()), (Some(&User("ada")), Some(&RequestId(7))));
    assert_eq!(named.value(), Some(&RequestId(7)));
}

#[test]
fn an_override_is_seen_below_and_nowhere_else() {
    let (root, _canceller) = Context::background().with_value(RequestId(1)).child();
    let (child, _child) = root.child();
    let child = child.with_value(RequestId(2));
    let (grandchild, _grandchild) = child.child();
    assert_eq!(root.value(), Some(&RequestId(1)));
    assert_eq!(child.value(), Some(&RequestId(2)));
    assert_eq!(grandchild.value(), Some(&RequestId(2)));
}

#[test]
fn a_context_with_a_value_is_the_same_node() {
    let (root, canceller) = Context::background().child();
    let with = root.with_value(User("ada"));
    assert_eq!((root.nodes(), with.place()), (1, root.place()));
    canceller.cancel();
    assert!(with.is_cancelled());
    assert_eq!(with.value(), Some(&User("ada")), "a cancelled context keeps its values");
}

#[test]
fn the_background_with_a_value_is_still_no_node() {
    let ctx = Context::background().with_value(User("ada"));
    assert_eq!((ctx.nodes(), ctx.place(), ctx.is_cancelled()), (0, None, false));
}

#[test]
fn debug_names_the_types_and_shows_no_value() {
    let ctx = Context::background().with_value(User("ada")).with_value(RequestId(7));
    assert_eq!(format!("{ctx:?}"), "Context(background, with values::RequestId, values::User)");
    let (child, _canceller) = ctx.child();
    let text = format!("{child:?}");
    assert!(text.ends_with(", running, with values::RequestId, values::User)"), "{text}");
}

// Cost.

#[test]
fn a_context_is_three_words() {
    assert_eq!(size_of::<Context>(), 3 * size_of::<usize>());
    assert_eq!(size_of::<Option<Context>>(), size_of::<Context>());
}

#[test]
fn looking_up_and_cloning_allocate_nothing_and_adding_allocates_twice() {
    let ctx = Context::background().with_value(User("ada")).with_value(RequestId(7));
    let count = |f: &dyn Fn()| CountingAllocator::count(f).allocations;
    assert_eq!(count(&|| assert!(ctx.value::<User>().is_some())), 0);
    assert_eq!(count(&|| assert!(ctx.shared_value::<User>().is_some())), 0);
    assert_eq!(count(&|| drop(ctx.clone())), 0);
    assert_eq!(count(&|| drop(ctx.with_value(RequestId(8)))), 2);
}

#[test]
fn a_million_overrides_of_one_key_hold_one_value() {
    watchdog(PATIENCE, "a million overrides", || {
        let live = Arc::new(AtomicUsize::new(0));
        let mut kept: Vec<Canceller> = Vec::new();
        let mut ctx = Context::background().with_value(User("ada"));
        for _ in 0..1_000_000 {
            ctx = ctx.with_value(Counted::new(&live));
            if kept.len() < 100_000 {
                let (child, canceller) = ctx.child();
                kept.push(canceller);
                ctx = child;
            }
            assert_eq!(live.load(Ordering::Relaxed), 1);
        }
        assert_eq!(ctx.value(), Some(&User("ada")), "found as fast as at the top");
        drop(ctx);
        assert_eq!(live.load(Ordering::Relaxed), 0);
    });
}

// Drop.

#[test]
fn a_chain_of_contexts_with_values_is_dropped_on_a_small_stack() {
    let chain = || {
        let live = Arc::new(AtomicUsize::new(0));
        let mut chain = vec![Context::background().child()];
        for _ in 0..100_000 {
            let (last, _) = chain.last().unwrap();
            let (child, canceller) = last.with_value(Counted::new(&live)).child();
            chain.push((child, canceller));
        }
        assert_eq!(live.load(Ordering::Relaxed), 100_000, "each context carries its own");
        drop(chain);
        assert_eq!(live.load(Ordering::Relaxed), 0);
    };
    let small = thread::Builder::new().stack_size(256 * 1024).spawn(chain).unwrap();
    small.join().unwrap();
}

#[test]
fn a_value_that_uses_the_tree_when_it_is_dropped_finds_no_lock_held() {
    struct UsesTheTree(Context);
    impl Drop for UsesTheTree {
        fn drop(&mut self) {
            let (child, canceller) = self.0.child();
            canceller.cancel();
            assert!(child.is_cancelled());
        }
    }
    watchdog(PATIENCE, "a value that uses the tree", || {
        let (root, canceller) = Context::background().child();
        let (child, child_canceller) = root.with_value(UsesTheTree(root.clone())).child();
        drop(child_canceller);
        drop(child);
        assert_eq!(root.nodes(), 1);
        canceller.cancel();
    });
}

// Panic.

#[test]
fn a_value_that_panics_when_it_is_dropped_leaves_the_tree_whole() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("this value panics");
        }
    }
    let live = Arc::new(AtomicUsize::new(0));
    let (root, canceller) = Context::background().child();
    let (child, keep) = root.with_value(Panics).with_value(Counted::new(&live)).child();
    keep.detach();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(child))).is_err());
    assert_eq!((live.load(Ordering::Relaxed), root.nodes()), (0, 1));
    canceller.cancel();
    assert!(root.is_cancelled());
}

// A map beside the real one.

/// Sequences, and operations in each: 120,000 operations in all.
const CASES: u32 = 600;
const OPERATIONS: usize = 200;

/// How many contexts are alive at most.
const CROWD: usize = 16;

/// A type for each key.
struct Key<const N: usize>(u32, #[expect(dead_code, reason = "counts the living")] Counted);

/// One arm for each key, since a type is not a number.
macro_rules! for_key {
    ($key:expr, $name:ident => $body:expr) => {
        match $key % 6 {
            0 => for_key!(@ 0, $name, $body),
            1 => for_key!(@ 1, $name, $body),
            2 => for_key!(@ 2, $name, $body),
            3 => for_key!(@ 3, $name, $body),
            4 => for_key!(@ 4, $name, $body),
            _ => for_key!(@ 5, $name, $body),
        }
    };
    (@ $number:literal, $name:ident, $body:expr) => {{
        type $name = Key<$number>;
        $body
    }};
}

#[derive(Debug, Clone)]
enum Op {
    With { of: usize, key: usize },
    Child { of: usize },
    Clone { of: usize },
    Drop { which: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..usize::MAX;
    prop_oneof![
        5 => (which.clone(), 0..6_usize).prop_map(|(of, key)| Op::With { of, key }),
        2 => which.clone().prop_map(|of| Op::Child { of }),
        1 => which.clone().prop_map(|of| Op::Clone { of }),
        4 => which.prop_map(|which| Op::Drop { which }),
    ]
}

/// A context, its canceller if it has one, and what it carries.
type Modelled = (Context, Option<Canceller>, BTreeMap<usize, u32>);

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_are_those_of_a_map_that_is_copied(ops in vec(op(), OPERATIONS)) {
        let live = Arc::new(AtomicUsize::new(0));
        let mut all: Vec<Modelled> = Vec::new();
        let mut next = 0;
        for op in ops {
            let found = |at: usize| match all.len() {
                0 => (Context::background(), BTreeMap::new()),
                len => (all[at % len].0.clone(), all[at % len].2.clone()),
            };
            match op {
                Op::With { of, key } if all.len() < CROWD => {
                    let (ctx, mut map) = found(of);
                    next += 1;
                    let value = Counted::new(&live);
                    let ctx = for_key!(key, K => ctx.with_value::<K>(Key(next, value)));
                    map.insert(key, next);
                    all.push((ctx, None, map));
                }
                Op::Child { of } if all.len() < CROWD => {
                    let (ctx, map) = found(of);
                    let (child, canceller) = ctx.child();
                    all.push((child, Some(canceller), map));
                }
                Op::Clone { of } if all.len() < CROWD => {
                    let (ctx, map) = found(of);
                    all.push((ctx, None, map));
                }
                Op::Drop { which } if !all.is_empty() => {
                    let at = which % all.len();
                    all.swap_remove(at);
                }
                _ => {}
            }
            for (ctx, _, map) in &all {
                for key in 0..6 {
                    let value = for_key!(key, K => ctx.value::<K>().map(|value| value.0));
                    prop_assert_eq!(value, map.get(&key).copied());
                }
            }
            let carried: std::collections::BTreeSet<u32> =
                all.iter().flat_map(|(_, _, map)| map.values().copied()).collect();
            prop_assert_eq!(live.load(Ordering::Relaxed), carried.len(), "as many live as are carried");
        }
    }
}

/// Depth would show as a factor of ten thousand; the bound leaves room for a machine that does other things.
#[test]
fn a_lookup_costs_the_same_at_any_depth() {
    const DEPTH: usize = 10_000;

    let shallow = Context::background().with_value(RequestId(7));
    let mut kept = Vec::new();
    let mut deep = shallow.clone();
    for _ in 0..DEPTH {
        let (child, canceller) = deep.child();
        kept.push(canceller);
        deep = child;
    }
    // The fastest of some: whatever comes in between only adds.
    let cost = |ctx: &Context| {
        let once = || {
            let start = std::time::Instant::now();
            for _ in 0..1_000 {
                assert_eq!(std::hint::black_box(ctx).value(), Some(&RequestId(7)));
            }
            start.elapsed()
        };
        (0..20).map(|_| once()).min().unwrap()
    };
    let (shallow, deep) = (cost(&shallow), cost(&deep));
    assert!(deep < shallow * 100, "{deep:?} at a depth of {DEPTH}, {shallow:?} at the root");
}
