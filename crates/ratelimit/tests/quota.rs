//! Rates and quotas: what makes sense is made and is equal by value, what does not is an error that says why,
//! and text goes both ways.
#![cfg(not(selvedge_loom))]

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use selvedge_ratelimit::{Quota, QuotaError, Rate};

const SEC: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads a quota.
fn parsed(text: &str) -> Result<Quota, QuotaError> {
    text.parse()
}

/// `n / d` of two whole numbers, compared without being divided.
fn is_fraction(rate: Rate, tokens: u128, nanos: u128) -> bool {
    u128::from(rate.tokens()) * nanos == rate.period().as_nanos() * tokens
}

#[test]
fn a_rate_is_what_it_was_made_with() {
    let words = |rate: Rate| (rate.tokens(), rate.period(), rate.interval());
    assert_eq!(words(Rate::per_second(50)), (50, SEC, Duration::from_millis(20)));
    assert_eq!(words(Rate::per_minute(60)), (60, 60 * SEC, SEC));
    assert_eq!(words(Rate::per_hour(2)), (2, 3600 * SEC, 1800 * SEC));
    assert_eq!(words(Rate::every(DAY)), (1, DAY, DAY));
    assert_eq!(words(Rate::new(7, 10 * DAY)).0, 7);
}

#[test]
fn an_interval_is_rounded_up() {
    assert_eq!(Rate::per_second(3).interval(), Duration::from_nanos(333_333_334));
    assert_eq!(Rate::per_second(Rate::MAX_PER_SECOND).interval(), Duration::from_nanos(1));
}

#[test]
fn no_limit_has_figures() {
    const NONE: Rate = Rate::UNLIMITED;
    assert!(NONE.is_unlimited() && !Rate::per_second(Rate::MAX_PER_SECOND).is_unlimited());
    assert_eq!(
        (NONE.tokens(), NONE.period(), NONE.interval()),
        (u64::MAX, Duration::ZERO, Duration::ZERO)
    );
    assert_eq!(NONE, NONE);
    assert_ne!(NONE, Rate::per_second(Rate::MAX_PER_SECOND));
    assert_eq!(NONE.burst(7).burst_size(), 7);
}

#[test]
fn rates_are_equal_by_value() {
    let all = [Rate::per_minute(60), Rate::per_second(1), Rate::every(SEC), Rate::new(86_400, DAY)];
    assert!(all.iter().all(|rate| *rate == all[0]));
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 1);
    assert_ne!(Rate::per_minute(60), Rate::per_minute(61));
    assert_ne!(Rate::per_second(1).burst(1), Rate::per_second(1).burst(2));
    // Not the same words.
    assert_eq!(all.map(|rate| rate.to_string()), ["60/min", "1/s", "1/s", "86400/d"]);
}

#[test]
fn a_rate_that_makes_no_sense_is_an_error() {
    let checked = Rate::checked;
    assert_eq!(checked(0, SEC), Err(QuotaError::NoTokens));
    assert_eq!(checked(1, Duration::ZERO), Err(QuotaError::NoPeriod));
    assert_eq!(checked(0, Duration::ZERO), Err(QuotaError::NoTokens));
    assert_eq!(checked(1, Duration::MAX), Err(QuotaError::PeriodTooLong));
    assert_eq!(
        checked(1, Duration::from_nanos(u64::MAX) + Duration::from_nanos(1)),
        Err(QuotaError::PeriodTooLong)
    );
    assert_eq!(checked(u64::MAX, SEC), Err(QuotaError::TooFast));
    assert_eq!(checked(Rate::MAX_PER_SECOND + 1, SEC), Err(QuotaError::TooFast));
    assert_eq!(checked(5, Duration::from_nanos(1)), Err(QuotaError::TooFast));
    assert!(checked(4, Duration::from_nanos(1)).is_ok());
    assert!(checked(1, Duration::from_nanos(u64::MAX)).is_ok());
    assert!(checked(u64::MAX, Duration::from_nanos(u64::MAX)).is_ok());
}

#[test]
fn a_quota_without_a_burst_is_an_error() {
    assert_eq!(Quota::checked(Rate::per_second(1), 0), Err(QuotaError::NoBurst));
    assert_eq!(Quota::checked(Rate::UNLIMITED, 0), Err(QuotaError::NoBurst));
    let most = Quota::checked(Rate::per_second(1), u32::MAX);
    assert_eq!(most.map(|quota| quota.burst_size()), Ok(u32::MAX));
}

#[test]
fn a_quota_is_a_rate_and_a_burst() {
    const QUOTA: Quota = Rate::per_second(50).burst(10);
    assert_eq!(Quota::new(Rate::per_second(50)), QUOTA.with_burst(1));
    assert_eq!(Quota::from(Rate::per_second(50)), QUOTA.with_burst(1));
    assert_eq!(QUOTA.with_rate(Rate::UNLIMITED), Rate::UNLIMITED.burst(10));
    assert_eq!(Quota::checked(QUOTA.rate(), QUOTA.burst_size()), Ok(QUOTA));
}

#[test]
fn a_floating_rate_that_is_no_number_above_zero_is_an_error() {
    for rate in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, -0.0] {
        assert_eq!(Rate::from_f64(rate), Err(QuotaError::NotANumber), "{rate}");
    }
    assert_eq!(Rate::from_f64(f64::MIN_POSITIVE), Err(QuotaError::NoTokens));
    assert_eq!(Rate::from_f64(f64::MAX), Err(QuotaError::TooFast));
    assert_eq!(Rate::from_f64(4.0e9 + 1.0), Err(QuotaError::TooFast));
}

#[test]
fn a_floating_rate_is_exact_to_a_token_in_272_years() {
    for rate in [1e-10, 1e-9, 0.1, 1.0, 1.5, 1e9, 1.1e9, 4e9] {
        let made = Rate::from_f64(rate).unwrap();
        let back = made.tokens() as f64 / made.period().as_secs_f64();
        let error = (back / rate - 1.0).abs();
        // Half a token in 2^33 s, and what f64 can tell.
        assert!(error < 0.6 / (rate * 8_589_934_592.0) + 1e-12, "{rate}: {back}");
    }
    assert_eq!(Rate::from_f64(32.0).unwrap().to_string(), "32/s");
    assert_eq!(Rate::from_f64(2.5).unwrap().to_string(), "5/2s");
}

#[test]
fn text_is_read() {
    let ok =
        |text: &str, rate: Rate, burst| assert_eq!(parsed(text), Ok(rate.burst(burst)), "{text}");
    ok("100/s burst 20", Rate::per_second(100), 20);
    ok("100/s", Rate::per_second(100), 1);
    ok("1/200ms", Rate::per_second(5), 1);
    ok("60/min burst 5", Rate::per_second(1), 5);
    ok("60/m", Rate::per_minute(60), 1);
    ok("1000/h", Rate::per_hour(1000), 1);
    ok("3/2d", Rate::new(3, 2 * DAY), 1);
    ok("1/7us", Rate::every(Duration::from_micros(7)), 1);
    ok("1/7\u{b5}s", Rate::every(Duration::from_micros(7)), 1);
    ok("1/7\u{3bc}s", Rate::every(Duration::from_micros(7)), 1);
    ok("4/ns", Rate::per_second(Rate::MAX_PER_SECOND), 1);
    ok("unlimited", Rate::UNLIMITED, 1);
    ok("unlimited burst 3", Rate::UNLIMITED, 3);
    ok("  007 / 1 s\tburst\n 010 ", Rate::per_second(7), 10);
    ok("1/s burst 4294967295", Rate::per_second(1), u32::MAX);
    assert_eq!(" 5 / 2s ".parse(), Ok(Rate::new(5, 2 * SEC)));
    assert_eq!("5/s burst 2".parse::<Rate>(), Err(QuotaError::NotABurst));
}

#[test]
fn a_decimal_is_exact() {
    let rate = |text: &str| text.parse::<Rate>();
    assert_eq!(rate("2.5/s"), Ok(Rate::new(5, 2 * SEC)));
    assert_eq!(rate("0.1/s"), Ok(Rate::every(10 * SEC)));
    assert_eq!(rate("1.50/200ms"), Ok(Rate::new(3, Duration::from_millis(400))));
    assert_eq!(rate("2.000/min").map(|rate| rate.to_string()), Ok("2/min".to_owned()));
    assert_eq!(rate("0.0000000001/s"), Ok(Rate::every(Duration::from_secs(10_000_000_000))));
    // More than 64 bits on the way, not at the end.
    assert_eq!(
        rate("20000000000000000000/200000d"),
        Ok(Rate::new(15_625, Duration::from_nanos(13_500)))
    );
    assert_eq!(
        rate("0.0000000000000001/ns"),
        Ok(Rate::every(Duration::from_nanos(10_000_000_000_000_000)))
    );
}

#[test]
fn text_that_makes_no_sense_is_an_error_that_says_so() {
    use QuotaError::*;
    let many = "9".repeat(10_000);
    for (text, error) in [
        ("", NotARate),
        (" ", NotARate),
        ("burst 5", NotARate),
        ("100", NotARate),
        ("Unlimited", NotARate),
        ("unlimited burst", NotARate),
        ("unlimited/s", NotANumber),
        ("/s", NotANumber),
        ("-1/s", NotANumber),
        ("+1/s", NotANumber),
        ("nan/s", NotANumber),
        ("NaN/s", NotANumber),
        ("inf/s", NotANumber),
        ("1e3/s", NotANumber),
        (".5/s", NotANumber),
        ("5./s", NotANumber),
        ("1.2.3/s", NotANumber),
        ("1 000/s", NotANumber),
        ("\u{664}/s", NotANumber),
        ("0/s", NoTokens),
        ("0.000/s", NoTokens),
        ("1/", NotAPeriod),
        ("1/5", NotAPeriod),
        ("1/S", NotAPeriod),
        ("1/week", NotAPeriod),
        ("1/1h30m", NotAPeriod),
        ("1/1.5s", NotAPeriod),
        ("1/-1s", NotAPeriod),
        ("1/s/s", NotAPeriod),
        ("1/0s", NoPeriod),
        ("18446744073709551616/0s", NoPeriod),
        ("0/0s", NoTokens),
        ("1/18446744074s", PeriodTooLong),
        ("1/99999999999999999999s", PeriodTooLong),
        ("0.0000000000000000000001/s", PeriodTooLong),
        ("4000000001/s", TooFast),
        ("18446744073709551616/s", TooFast),
        ("5/ns", TooFast),
        ("1.0000000000000000000001/s", TooManyDigits),
        ("1/s burst", NotABurst),
        ("1/s 5", NotABurst),
        ("1/s burst5", NotABurst),
        ("1/s burst -5", NotABurst),
        ("1/s burst +5", NotABurst),
        ("1/s burst 5 burst 6", NotABurst),
        ("1/s burst 2.5", NotABurst),
        ("1/s burst 4294967296", NotABurst),
        ("1/s burst 0", NoBurst),
    ] {
        assert_eq!(parsed(text), Err(error), "{text:?}");
    }
    assert_eq!(parsed(&format!("{many}/s")), Err(TooFast));
    assert_eq!(parsed(&format!("1.{many}/s")), Err(TooManyDigits));
    assert_eq!(parsed(&format!("1/{many}s")), Err(PeriodTooLong));
    assert_eq!(parsed(&format!("1/s burst {many}")), Err(NotABurst));
}

#[test]
fn an_error_says_what_was_not_made_and_has_no_full_stop() {
    use QuotaError::*;
    for error in [
        NoTokens,
        NoPeriod,
        PeriodTooLong,
        TooFast,
        NoBurst,
        NotANumber,
        TooManyDigits,
        NotARate,
        NotAPeriod,
        NotABurst,
    ] {
        let text = error.to_string();
        assert!(text.starts_with("quota not made: ") && !text.ends_with('.'), "{text}");
    }
}

#[test]
fn what_is_displayed_is_short() {
    let shown = |rate: Rate, burst| rate.burst(burst).to_string();
    assert_eq!(shown(Rate::per_second(100), 20), "100/s burst 20");
    assert_eq!(shown(Rate::per_second(100), 1), "100/s");
    assert_eq!(shown(Rate::every(Duration::from_millis(200)), 1), "1/200ms");
    assert_eq!(shown(Rate::every(Duration::from_micros(1500)), 1), "1/1500us");
    assert_eq!(shown(Rate::new(3, Duration::from_nanos(10)), 1), "3/10ns");
    assert_eq!(shown(Rate::every(90 * SEC), 1), "1/90s");
    assert_eq!(shown(Rate::new(2, 2 * DAY), 1), "2/2d");
    assert_eq!(shown(Rate::UNLIMITED, 1), "unlimited");
    assert_eq!(shown(Rate::UNLIMITED, 9), "unlimited burst 9");
    assert_eq!(
        format!("{:?}", Rate::per_minute(60).burst(2)),
        "Quota { rate: Rate(60/min), burst: 2 }"
    );
}

/// Numbers of every size.
fn wide() -> impl Strategy<Value = u64> {
    (0..64_u32, any::<u64>()).prop_map(|(bits, any)| any >> bits)
}

/// Rates that make sense, and no limit.
fn rate() -> impl Strategy<Value = Rate> {
    let made = (
        wide(),
        wide(),
        prop::sample::select(vec![1, 1_000, 1_000_000_000, 3_600_000_000_000_u64]),
    );
    let made = made.prop_filter_map("senseless", |(tokens, count, unit)| {
        Rate::checked(tokens, Duration::from_nanos(count.checked_mul(unit)?)).ok()
    });
    prop_oneof![20 => made, 1 => Just(Rate::UNLIMITED)]
}

/// Text that looks like a quota here and there.
fn nearly() -> impl Strategy<Value = String> {
    let words = [
        "/",
        " ",
        "burst",
        "s",
        "min",
        "ns",
        "d",
        "\u{b5}s",
        "unlimited",
        ".",
        "-",
        "e",
        "0",
        "1",
        "25",
        "NaN",
        "18446744073709551616",
        "99999999999999999999999999999999999999999",
        "\u{0}",
        "\u{1f980}",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..9)
        .prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_displayed_reads_as_the_same(rate in rate(), burst in 1..=u32::MAX) {
        let quota = rate.burst(burst);
        let (text, back) = (quota.to_string(), parsed(&quota.to_string()));
        prop_assert_eq!(back, Ok(quota), "{}", text);
        // The words, too.
        prop_assert_eq!(back.map(|quota| quota.to_string()), Ok(text));
        prop_assert_eq!(rate.to_string().parse(), Ok(rate));
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(text in any::<String>()) {
        // What passes by chance is the shortest that makes sense, "7/m", and then it reads as it displays.
        if let Ok(quota) = parsed(&text) {
            prop_assert!(text.contains('/') && text.len() < 8, "{:?}", text);
            prop_assert_eq!(parsed(&quota.to_string()), Ok(quota));
        }
    }

    #[test]
    fn what_nearly_is_a_quota_is_an_error_or_reads_as_it_displays(text in nearly()) {
        if let Ok(quota) = parsed(&text) {
            prop_assert!(text.contains('/') || text.contains("unlimited"));
            prop_assert_eq!(parsed(&quota.to_string()), Ok(quota));
        }
    }

    #[test]
    fn a_decimal_is_the_fraction_that_it_says(whole in 0..1_000_000_u64, places in 1..9_u32, rest in wide(), count in 1..10_000_u64) {
        let scale = 10_u64.pow(places);
        let rest = rest % scale;
        let text = format!("{whole}.{rest:0places$}/{count}us", places = places as usize);
        let tokens = u128::from(whole * scale + rest);
        match text.parse::<Rate>() {
            Ok(rate) => prop_assert!(is_fraction(rate, tokens, u128::from(count) * 1_000 * u128::from(scale)), "{}", text),
            Err(QuotaError::NoTokens) => prop_assert_eq!(tokens, 0),
            Err(QuotaError::TooFast) => prop_assert!(tokens > 4_000 * u128::from(count) * u128::from(scale), "{}", text),
            Err(error) => prop_assert!(false, "{}: {}", text, error),
        }
    }

    #[test]
    fn equal_rates_are_equal_whatever_their_words(rate in rate(), times in 1..1_000_u64) {
        let Some(tokens) = rate.tokens().checked_mul(times) else { return Ok(()) };
        let Ok(other) = Rate::checked(tokens, rate.period().saturating_mul(times as u32)) else { return Ok(()) };
        prop_assert_eq!(rate, other);
        prop_assert_eq!([rate, other].into_iter().collect::<HashSet<_>>().len(), 1);
    }

    #[test]
    fn a_floating_rate_never_panics(bits: u64) {
        match Rate::from_f64(f64::from_bits(bits)) {
            Ok(rate) => prop_assert!(!rate.is_unlimited()),
            Err(error) => prop_assert!(matches!(error, QuotaError::NotANumber | QuotaError::NoTokens | QuotaError::TooFast)),
        }
    }
}
