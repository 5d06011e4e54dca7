//! Failures point at the caller. A file and a test of its own: the panic hook is the process's.

use std::panic::{AssertUnwindSafe, Location, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use selvedge_testkit::{CountingAllocator, ManualExecutor, Run, sweep, watchdog, yield_now};

/// The places of the panics that the hook is told of while `f` runs, as `file:line`.
fn panics_of(f: impl FnOnce()) -> Vec<String> {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&noted);
    set_hook(Box::new(move |info| {
        let place = info.location().map(|at: &Location<'_>| format!("{}:{}", at.file(), at.line()));
        notes.lock().unwrap().extend(place);
    }));
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err(), "nothing panicked");
    drop(take_hook());
    let noted = noted.lock().unwrap();
    noted.clone()
}

#[test]
fn each_failure_is_one_panic_at_its_caller() {
    let here = |line: u32| [format!("{}:{line}", file!())];
    let yields = |run: &mut Run| {
        run.drive(yield_now(), |_| ());
    };

    // Found by the sweep itself.
    let panics = panics_of(|| drop(sweep("Nothing", |_| ())));
    assert_eq!(panics, here(line!() - 1));
    // Found by a run, within the scenario.
    let panics = panics_of(|| drop(sweep("Other", yields)));
    assert_eq!(panics, here(line!() - 1));
    // Found by the scenario: its own panic stays visible before the sweep's.
    let panics = panics_of(|| drop(sweep("Any", |_| panic!("of the scenario"))));
    assert_eq!(panics, [here(line!() - 1), here(line!() - 1)].concat());

    let task = ManualExecutor::new().spawn(async {});
    let panics = panics_of(|| _ = ManualExecutor::new().drop_task(&task));
    assert_eq!(panics, here(line!() - 1));

    let panics = panics_of(|| _ = CountingAllocator::count(|| ()));
    assert_eq!(panics, here(line!() - 1));

    let panics = panics_of(|| watchdog(Duration::ZERO, "a hang", thread::park));
    assert_eq!(panics, here(line!() - 1));

    // Mode `Panic` drops by a panic of which the hook is not told.
    let panics = panics_of(|| {
        sweep("YieldNow", yields);
        panic!("the only one");
    });
    assert_eq!(panics, here(line!() - 2));
}
