//! A watchdog returns, passes a panic on, or says what hung.

use std::panic::catch_unwind;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use selvedge_testkit::watchdog;

#[test]
fn what_the_closure_returns_is_returned() {
    let name = || thread::current().name().map(str::to_owned);
    assert_eq!(watchdog(Duration::from_secs(30), "a name", name).as_deref(), Some("a name"));
    assert_eq!(watchdog(Duration::MAX, "without a limit, nearly", || 1), 1);
    assert_eq!(watchdog(Duration::from_secs(30), "a NUL \0 in the name", || 2), 2);
}

#[test]
fn a_panic_of_the_closure_comes_back() {
    let watched = || watchdog(Duration::from_secs(30), "a panic", || panic!("of its own"));
    let payload = catch_unwind(watched).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"of its own"));
}

#[test]
fn a_hang_is_told_at_the_caller() {
    let (release, hang) = mpsc::channel::<()>();
    let watched = std::panic::AssertUnwindSafe(|| {
        watchdog(Duration::from_millis(20), "the receive", move || hang.recv().is_err());
    });
    let payload = catch_unwind(watched).unwrap_err();
    drop(release);
    let message = payload.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("the receive hung: not done within 20ms"), "{message}");
    assert!(message.contains("left behind"), "{message}");
}
