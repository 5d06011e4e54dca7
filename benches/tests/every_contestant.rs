//! Every contestant of every shape does its work once and checks its own result, so that a change
//! that breaks a bench is seen by the tests and not by the next person who measures.

#![forbid(unsafe_code)]

use selvedge_bench::harness::{Role, Work};
use selvedge_bench::shapes::{self, Scale};

/// Runs the shapes of a crate, none of which may be without us or without somebody to compare with.
fn run(of: &str) {
    let (_, make) = shapes::ALL.iter().find(|(name, _)| *name == of).expect("it has shapes");
    let shapes = make(Scale::Smoke);
    assert!(!shapes.is_empty());
    for mut shape in shapes {
        assert_eq!(shape.of, of);
        assert_eq!(shape.contestants[0].role, Role::Ours, "{}: ours comes first", shape.name);
        assert!(shape.contestants.len() > 1, "{}: nobody to compare with", shape.name);
        let (Work::Calibrated(operations) | Work::Exactly(operations)) = shape.work;
        for contestant in &mut shape.contestants {
            (contestant.run)(operations);
        }
    }
}

#[test]
fn of_cancel() {
    run("cancel");
}

#[test]
fn of_sync() {
    run("sync");
}

#[test]
fn of_ratelimit() {
    run("ratelimit");
}

#[test]
fn of_the_tallies() {
    for tally in shapes::TALLIES.iter().flat_map(|(_, make)| make()) {
        assert_eq!(tally.contestants[0].role, Role::Ours, "{}: ours comes first", tally.name);
        assert!(tally.contestants.len() > 1, "{}: nobody to compare with", tally.name);
        for contestant in &tally.contestants {
            (contestant.run)();
        }
    }
}

#[test]
fn of_pool() {
    run("pool");
}

#[test]
fn of_fanio() {
    run("fanio");
}

#[test]
fn of_pipeline() {
    run("pipeline");
}

#[test]
fn of_shutdown() {
    run("shutdown");
}

#[test]
fn no_two_shapes_have_one_name_and_parameter() {
    let mut names = std::collections::HashSet::new();
    for (_, make) in shapes::ALL {
        for shape in make(Scale::Smoke) {
            assert!(names.insert((shape.of, shape.name, shape.parameter.clone())), "{shape:?}");
        }
    }
    for tally in shapes::TALLIES.iter().flat_map(|(_, make)| make()) {
        assert!(names.insert((tally.of, tally.name, tally.parameter.to_owned())), "{tally:?}");
    }
}
