//! Quotas in serde's formats: the same text as everywhere.
#![cfg(all(feature = "serde", not(selvedge_loom)))]

use selvedge_ratelimit::{Quota, QuotaError, Rate};
use serde_json::{from_str, from_value, json, to_string};

#[test]
fn a_quota_is_its_text() {
    let quota = Rate::per_minute(60).burst(5);
    assert_eq!(to_string(&quota).unwrap(), r#""60/min burst 5""#);
    assert_eq!(from_str::<Quota>(r#""60/min burst 5""#).unwrap(), quota);
    assert_eq!(to_string(&Rate::UNLIMITED).unwrap(), r#""unlimited""#);
    assert_eq!(from_str::<Rate>(r#""1/200ms""#).unwrap(), Rate::per_second(5));
}

#[test]
fn text_that_is_escaped_or_owned_is_read() {
    assert_eq!(from_str::<Quota>(r#""1\/s""#).unwrap(), Rate::per_second(1).burst(1));
    assert_eq!(from_value::<Quota>(json!("1/s")).unwrap(), Rate::per_second(1).burst(1));
}

#[test]
fn a_senseless_quota_is_an_error_with_its_message() {
    for (text, error) in [
        ("0/s", QuotaError::NoTokens),
        ("1/0s", QuotaError::NoPeriod),
        ("1/s burst 0", QuotaError::NoBurst),
        ("fast", QuotaError::NotARate),
    ] {
        let said = from_value::<Quota>(json!(text)).unwrap_err().to_string();
        assert!(said.contains(&error.to_string()), "{said}");
    }
}

#[test]
fn what_is_no_text_is_an_error_that_says_what_it_should_be() {
    for value in [json!(null), json!(100), json!({"rate": 100}), json!(["1/s"])] {
        let said = from_value::<Quota>(value).unwrap_err().to_string();
        assert!(said.contains(r#"a quota as text, as in "100/s burst 20""#), "{said}");
    }
}
