//! The values of HTTP header fields: rounded up, within the quota, and well formed.
#![cfg(not(selvedge_loom))]

use std::time::Duration;

use proptest::prelude::*;
use selvedge_ratelimit::http::{
    MAX_SECONDS, PolicyName, PolicyNameError, RateLimit, RateLimitPolicy, RetryAfter, XRateLimit,
};
use selvedge_ratelimit::{Limiter, Quota, Rate, Timer};

const SEC: Duration = Duration::from_secs(1);
const DEFAULT: PolicyName = PolicyName::DEFAULT;

fn policy(quota: Quota) -> Option<String> {
    RateLimitPolicy::new(DEFAULT, quota).map(|it| it.to_string())
}

fn limit(quota: Quota, available: u32, ready_in: Duration) -> Option<String> {
    RateLimit::new(DEFAULT, quota, available, ready_in).map(|it| it.to_string())
}

#[test]
fn a_client_that_obeys_is_not_refused_again() {
    let (timer, clock) = Timer::manual();
    let limiter = Limiter::with_timer(Rate::new(7, 10 * SEC).burst(3), timer);
    limiter.try_acquire(3).unwrap();
    for _turn in 0..50 {
        assert!(limiter.try_acquire(2).is_err());
        let told = RetryAfter::new(limiter.ready_in(2).unwrap());
        clock.advance(Duration::from_secs(told.seconds()));
        limiter.try_acquire(2).expect("it came when it was told to");
        limiter.try_acquire(limiter.available()).unwrap();
        clock.advance(Duration::from_nanos(1));
    }
}

#[test]
fn seconds_have_bounds() {
    for (wait, told) in [
        (Duration::ZERO, 0),
        (Duration::from_nanos(1), 1),
        (SEC, 1),
        (SEC + Duration::from_nanos(1), 2),
        (Duration::from_secs(MAX_SECONDS - 1) + Duration::from_nanos(1), MAX_SECONDS),
        (Duration::from_secs(MAX_SECONDS + 1), MAX_SECONDS),
        (Duration::MAX, MAX_SECONDS),
    ] {
        assert_eq!(RetryAfter::new(wait).seconds(), told, "{wait:?}");
        assert_eq!(RetryAfter::new(wait).to_string(), told.to_string());
    }
}

#[test]
fn a_policy_is_the_burst_in_the_time_in_which_it_comes() {
    assert_eq!(policy(Rate::per_minute(60).burst(60)).as_deref(), Some("\"default\";q=60;w=60"));
    assert_eq!(policy(Rate::per_second(3).burst(10)).as_deref(), Some("\"default\";q=10;w=4"));
    assert_eq!(policy(Rate::per_second(50).burst(10)).as_deref(), Some("\"default\";q=10;w=1"));
    assert_eq!(policy(Rate::every(3600 * SEC).burst(1)).as_deref(), Some("\"default\";q=1;w=3600"));
}

#[test]
fn the_greatest_figures_are_told() {
    let slowest = Rate::every(Duration::from_nanos(u64::MAX)).burst(u32::MAX);
    let expected = format!("\"default\";q=4294967295;w={MAX_SECONDS}");
    assert_eq!(policy(slowest), Some(expected));
    let expected = format!("\"default\";r=4294967295;t={MAX_SECONDS}");
    assert_eq!(limit(slowest, u32::MAX, Duration::MAX), Some(expected));
}

#[test]
fn what_is_left_is_at_most_the_burst() {
    let quota = Rate::per_second(5).burst(3);
    assert_eq!(limit(quota, 9, Duration::ZERO).as_deref(), Some("\"default\";r=3"));
    assert_eq!(limit(quota, 0, Duration::from_nanos(1)).as_deref(), Some("\"default\";r=0;t=1"));
    let fields = XRateLimit::new(quota, 9, Duration::ZERO).unwrap().fields();
    assert_eq!(
        fields,
        [("X-RateLimit-Limit", 3), ("X-RateLimit-Remaining", 3), ("X-RateLimit-Reset", 0)]
    );
}

#[test]
fn without_a_limit_nothing_is_told() {
    let quota = Rate::UNLIMITED.burst(5);
    assert_eq!((policy(quota), limit(quota, 5, SEC)), (None, None));
    assert_eq!(XRateLimit::new(quota, 5, SEC), None);
}

#[test]
fn fields_have_their_names() {
    let names = [RetryAfter::NAME, RateLimitPolicy::NAME, RateLimit::NAME];
    assert_eq!(names, ["Retry-After", "RateLimit-Policy", "RateLimit"]);
}

#[test]
fn a_name_is_printable_and_escaped() {
    const USER: PolicyName = match PolicyName::new("per user") {
        Ok(name) => name,
        Err(_) => panic!("it is printable"),
    };
    assert_eq!((USER.as_str(), USER.to_string().as_str()), ("per user", "\"per user\""));
    let escaped = PolicyName::new(r#""\a""#).unwrap().to_string();
    assert_eq!(escaped, r#""\"\\a\"""#);
    assert_eq!(PolicyName::new(""), Err(PolicyNameError::Empty));
    for (name, at) in [("a\nb", 1), ("\u{7f}", 0), ("ab\u{e9}", 2), ("\t", 0), ("abc\0", 3)] {
        assert_eq!(PolicyName::new(name), Err(PolicyNameError::NotPrintable { at }), "{name:?}");
    }
}

/// Reads a string of structured fields from the front of `text`, as RFC 9651 says; what is behind it.
fn read_string(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.char_indices();
    let mut read = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((read, &text[at + 2..])),
            '\\' => read.push(chars.next().map(|(_, c)| c).filter(|c| matches!(c, '"' | '\\'))?),
            ' '..='~' => read.push(c),
            _ => return None,
        }
    }
    None
}

fn wide() -> impl Strategy<Value = u64> {
    (0..64_u32, any::<u64>()).prop_map(|(bits, any)| any >> bits)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn seconds_are_rounded_up_and_never_zero_for_a_wait(secs in wide(), nanos in 0..1_000_000_000_u32) {
        let wait = Duration::new(secs, nanos);
        let told = RetryAfter::new(wait).seconds();
        prop_assert_eq!(told == 0, wait.is_zero());
        if told < MAX_SECONDS {
            prop_assert!(wait <= Duration::from_secs(told));
            prop_assert!(told == 0 || wait > Duration::from_secs(told - 1));
        }
    }

    #[test]
    fn a_policy_never_promises_more_than_the_quota(tokens in wide(), nanos in wide(), burst in 1..=u32::MAX) {
        let Ok(rate) = Rate::checked(tokens, Duration::from_nanos(nanos)) else { return Ok(()) };
        let text = policy(rate.burst(burst)).unwrap();
        let window = text.rsplit_once("w=").unwrap().1.parse::<u64>().unwrap();
        prop_assert!((1..=MAX_SECONDS).contains(&window));
        let begins = format!("\"default\";q={burst};");
        prop_assert!(text.starts_with(&begins));
        // In the window, no fewer tokens come than the burst has; in a second less, fewer would.
        let come = |seconds: u64| u128::from(seconds) * 1_000_000_000 * u128::from(tokens) / u128::from(nanos);
        if window < MAX_SECONDS {
            prop_assert!(come(window) >= u128::from(burst), "{}", text);
            prop_assert!(come(window - 1) < u128::from(burst), "{}", text);
        }
    }

    #[test]
    fn a_name_is_read_back_from_the_field(name in any::<String>(), ascii in "[ -~]{1,20}", left: u32) {
        for name in [name, ascii] {
            let Ok(policy) = PolicyName::new(&name) else {
                prop_assert!(name.is_empty() || !name.bytes().all(|byte| (32..127).contains(&byte)));
                continue;
            };
            let field = RateLimit::new(policy, Rate::per_second(1).burst(u32::MAX), left, SEC).unwrap();
            let (read, rest) = (field.to_string(), format!(";r={left};t=1"));
            prop_assert_eq!(read_string(&read), Some((name, rest.as_str())));
        }
    }

    #[test]
    fn the_same_wait_is_the_same_number_everywhere(secs in 0..10_000_u64, nanos in 0..1_000_000_000_u32) {
        let (quota, wait) = (Rate::per_second(1).burst(1), Duration::new(secs, nanos));
        let told = RetryAfter::new(wait).seconds();
        let tail = if told == 0 { String::new() } else { format!(";t={told}") };
        prop_assert_eq!(limit(quota, 0, wait), Some(format!("\"default\";r=0{tail}")));
        prop_assert_eq!(XRateLimit::new(quota, 0, wait).unwrap().fields()[2].1, told);
    }
}
