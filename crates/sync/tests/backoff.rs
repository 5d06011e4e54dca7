//! The backoff: its ceilings, its jitters, what it refuses, and the far ends of what it takes.
#![cfg(not(selvedge_loom))]

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use selvedge_sync::{Backoff, BackoffError, Jitter};

const JITTERS: [Jitter; 4] = [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated];

fn millis(base: u64, cap: u64) -> Backoff {
    Backoff::new(Duration::from_millis(base), Duration::from_millis(cap)).unwrap()
}

fn collected(delays: impl Iterator<Item = Duration>) -> Vec<u128> {
    delays.map(|delay| delay.as_millis()).collect()
}

#[test]
fn without_jitter_the_delays_are_the_ceilings() {
    let backoff = millis(100, 1_500).jitter(Jitter::None).attempts(6);
    assert_eq!(collected(backoff.delays()), [100, 200, 400, 800, 1_500, 1_500]);
    let backoff = backoff.factor(1.5).unwrap();
    assert_eq!(collected(backoff.delays()), [100, 150, 225, 337, 506, 759]);
    assert_eq!(collected(backoff.factor(1.0).unwrap().delays()), [100; 6]);
}

#[test]
fn there_are_as_many_delays_as_attempts() {
    let backoff = millis(1, 9);
    assert_eq!(backoff.delays().count(), 10);
    let mut delays = backoff.attempts(2).delays();
    assert_eq!(delays.size_hint(), (2, Some(2)));
    assert_eq!(delays.by_ref().count(), 2);
    assert_eq!((delays.next(), delays.size_hint()), (None, (0, Some(0))));
    assert_eq!(backoff.attempts(0).delays().next(), None);
    let endless = backoff.endless().delays();
    assert_eq!((endless.size_hint(), endless.take(10_000).count()), ((usize::MAX, None), 10_000));
}

#[test]
fn a_seed_gives_the_same_delays_and_another_others() {
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated] {
        let backoff = millis(1_000, 60_000).jitter(jitter);
        let of = |seed| backoff.delays_seeded(seed).collect::<Vec<_>>();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }
    let first = |_| millis(1_000, 60_000).delays().next();
    assert!((0..20).map(first).collect::<BTreeSet<_>>().len() > 1);
}

#[test]
fn each_jitter_fills_its_range() {
    let range = |jitter, nth| {
        let backoff = millis(1_000, 4_000).jitter(jitter);
        let of = |seed| backoff.delays_seeded(seed).nth(nth).unwrap().as_millis();
        let drawn: Vec<_> = (0..2_000).map(of).collect();
        (*drawn.iter().min().unwrap(), *drawn.iter().max().unwrap())
    };
    let is_near = |(low, high): (u128, u128), from: u128, to: u128| {
        let slack = (to - from) / 20;
        assert!((from..=from + slack).contains(&low) && (to - slack..=to).contains(&high));
    };
    is_near(range(Jitter::Full, 1), 0, 2_000);
    is_near(range(Jitter::Equal, 1), 1_000, 2_000);
    is_near(range(Jitter::Decorrelated, 0), 1_000, 2_000);
    is_near(range(Jitter::Decorrelated, 1), 1_000, 4_000);
    is_near(range(Jitter::Full, 9), 0, 4_000);
}

#[test]
fn decorrelated_delays_are_drawn_from_the_first_one_unless_the_factor_is_1() {
    let backoff = millis(1_000, 9_000).jitter(Jitter::Decorrelated).factor(3.0).unwrap();
    let firsts: BTreeSet<_> = (0..100).map(|seed| backoff.delays_seeded(seed).next()).collect();
    assert_eq!(firsts.len(), 100);
    let still = backoff.factor(1.0).unwrap();
    assert_eq!(collected(still.delays()), [1_000; 10]);
}

#[test]
fn nonsense_is_refused_and_says_why() {
    let (base, cap) = (Duration::from_nanos(2), Duration::from_nanos(1));
    let error = Backoff::new(base, cap).unwrap_err();
    assert_eq!(error, BackoffError::CapBelowBase { base, cap });
    assert_eq!(error.to_string(), "backoff not made: its cap of 1ns is below its base of 2ns");
    for factor in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, 0.999, f64::MIN] {
        let error = millis(1, 2).factor(factor).unwrap_err();
        let BackoffError::Factor { factor: refused } = error else { panic!("{error}") };
        assert!(refused.to_bits() == factor.to_bits());
    }
}

#[test]
fn the_far_ends_have_a_result() {
    for jitter in JITTERS {
        for (base, cap) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::ZERO, Duration::MAX),
            (Duration::from_nanos(1), Duration::MAX),
            (Duration::MAX, Duration::MAX),
        ] {
            for factor in [1.0, 1.0 + f64::EPSILON, 2.0, f64::MAX] {
                let backoff = Backoff::new(base, cap).unwrap().factor(factor).unwrap();
                let delays: Vec<_> = backoff.jitter(jitter).attempts(500).delays().collect();
                assert_eq!(delays.len(), 500);
                if base.is_zero() {
                    assert!(delays.iter().all(Duration::is_zero));
                }
                if jitter == Jitter::None && factor >= 2.0 && !base.is_zero() {
                    assert_eq!(delays.last(), Some(&Duration::MAX));
                }
            }
        }
    }
}

#[test]
fn a_plan_can_be_a_constant() {
    const PLAN: Backoff = match Backoff::new(Duration::from_millis(1), Duration::from_millis(8)) {
        Ok(plan) => plan.jitter(Jitter::None).attempts(5),
        Err(_) => panic!("1 is below 8"),
    };
    assert_eq!(collected(PLAN.delays()), [1, 2, 4, 8, 8]);
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (any::<u64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        any::<u64>().prop_map(Duration::from_nanos),
        (0..10_000u64).prop_map(Duration::from_millis),
        Just(Duration::ZERO),
        Just(Duration::MAX),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn delays_keep_within_their_ceilings(
        (one, two) in (duration(), duration()),
        factor in prop_oneof![1.0..4.0f64, 1.0..=f64::MAX],
        seed in any::<u64>(),
    ) {
        let (base, cap) = (one.min(two), one.max(two));
        let plan = Backoff::new(base, cap).unwrap().factor(factor).unwrap().attempts(50);
        let ceilings: Vec<_> = plan.jitter(Jitter::None).delays().collect();
        prop_assert_eq!(ceilings[0], base);
        prop_assert!(ceilings.is_sorted() && ceilings[49] <= cap);
        for pair in ceilings.windows(2) {
            // To a part in 2^50: the arithmetic is that of f64.
            let exact = pair[0].as_secs_f64() * factor;
            let slack = exact * 1e-15 + 2e-9;
            let capped = pair[1] == cap && exact >= cap.as_secs_f64() - slack;
            prop_assert!(capped || (pair[1].as_secs_f64() - exact).abs() <= slack);
        }
        for (delay, ceiling) in plan.jitter(Jitter::Full).delays_seeded(seed).zip(&ceilings) {
            prop_assert!(delay <= *ceiling);
        }
        for (delay, ceiling) in plan.jitter(Jitter::Equal).delays_seeded(seed).zip(&ceilings) {
            prop_assert!(delay <= *ceiling && delay >= *ceiling / 2);
        }
        let mut last = base;
        for delay in plan.jitter(Jitter::Decorrelated).delays_seeded(seed) {
            prop_assert!(delay >= base && delay <= cap);
            let most = last.as_secs_f64() * factor;
            prop_assert!(delay.as_secs_f64() <= most.max(base.as_secs_f64()) * (1.0 + 1e-15) + 2e-9);
            last = delay;
        }
    }
}
