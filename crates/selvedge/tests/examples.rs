//! The small examples as processes: they end by themselves, in seconds, and print what they are about.
#![cfg(unix)]

mod support;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use support::{build, text};

/// Runs an example; gives what it printed.
fn printed(name: &str) -> String {
    let program = build(name);
    let start = Instant::now();
    let Output { status, stdout, stderr } = Command::new(program).output().unwrap();
    assert!(status.success(), "{}", text(&stderr));
    assert!(start.elapsed() < Duration::from_secs(30), "an example takes seconds");
    text(&stdout)
}

#[test]
fn context_says_what_was_there_when_the_time_was_up() {
    let text = printed("context");
    assert!(text.starts_with("north: 3 orders of ada\nsouth: 3 orders of ada\n"), "{text}");
    assert!(text.contains("west: nothing after all, deadline"), "{text}");
}

#[test]
fn rate_limit_draws_a_tick_and_a_burst() {
    let text = printed("rate_limit");
    assert_eq!(text.lines().filter(|line| line.contains(" ms ")).count(), 24, "{text}");
    assert_eq!(text.matches("the next one in").count(), 2, "{text}");
}

#[test]
fn rate_limit_by_client_gives_each_client_what_its_quota_says() {
    let text = printed("rate_limit_by_client");
    assert!(text.contains("polite pays: 3 clients have their quotas anew"), "{text}");
    let answered = |client: &str| -> u32 {
        let line = text.lines().find(|line| line.contains(client) && line.contains("answered"));
        line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // Two at once and five a second, for two seconds and a moment.
    let greedy = answered("greedy");
    assert!((2..=13).contains(&greedy), "{text}");
    assert!(answered("gold") > greedy, "{text}");
}

#[test]
fn semaphore_refuses_what_could_never_be_and_gives_everything_back() {
    let text = printed("semaphore");
    assert!(text.contains("upload 4 (100 MB) is refused"), "{text}");
    assert!(text.ends_with("all ended, 64 MB are free\n"), "{text}");
}

#[test]
fn single_flight_asks_once_for_each_city_and_keeps_what_is_good() {
    let text = printed("single_flight");
    let (herd, later) = text.split_once("a moment later:").unwrap();
    assert_eq!(herd.matches("goes out").count(), 3, "{text}");
    assert!(herd.contains("18 answers, 9 errors, 3 have left before"), "{text}");
    assert_eq!(later.matches("goes out").count(), 1, "{text}");
    assert!(text.ends_with("asked 4 times in all\n"), "{text}");
}

#[test]
fn keyed_lock_loses_no_money_and_leaves_no_lock() {
    let text = printed("keyed_lock");
    assert!(text.contains("ada: permit not acquired: the context ended"), "{text}");
    assert!(text.contains("ben can be had: true"), "{text}");
    assert!(text.ends_with("400 in all, 0 locks are left\n"), "{text}");
}

#[test]
fn keyed_lanes_keep_the_order_of_each_account_and_lose_no_booking() {
    let text = printed("keyed_lanes");
    assert_eq!(text.matches("gives a booking back").count(), 1, "{text}");
    assert_eq!(text.matches("in order: true").count(), 4, "{text}");
    assert!(text.contains("ada   30 bookings"), "{text}");
    assert!(text.ends_with("60 in all, 0 lanes are left, 8 places are free\n"), "{text}");
}

#[test]
fn barrier_keeps_the_steps_together_and_tells_of_the_one_that_fails() {
    let text = printed("barrier");
    assert!(text.contains("the heat was all there 200 times"), "{text}");
    assert_eq!(text.matches("barrier not passed").count(), 2, "{text}");
    assert!(text.ends_with("broken after a reset: false\n"), "{text}");
}

#[test]
fn retry_backoff_ends_with_an_answer_or_the_patience_or_the_context() {
    let text = printed("retry_backoff");
    assert!(text.contains("patient: answered at attempt"), "{text}");
    assert!(text.contains("modest : gives up after attempt 3: connection refused"), "{text}");
    assert!(text.contains("hurried: stopped while it"), "{text}");
}

#[test]
fn worker_pool_counts_words_and_accounts_for_the_file_that_is_not_there() {
    let text = printed("worker_pool");
    assert!(text.contains("-  not-there.rs: a file that is there"), "{text}");
    assert!(text.contains("in all"), "{text}");
    assert!(text.contains("1 panicked"), "{text}");
}

#[test]
fn fan_out_shares_one_stream_by_key() {
    let text = printed("fan_out");
    assert!(text.contains("every word went to one counter"), "{text}");
}

#[test]
fn fan_in_merges_sensors_and_ends_with_the_last() {
    let text = printed("fan_in");
    assert!(text.ends_with("all three have ended\n"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("reads")).count(), 12, "{text}");
}

#[test]
fn generator_fetches_no_page_that_nobody_reads() {
    let text = printed("generator");
    assert!(text.contains("fetched 3 pages for 25 items"), "{text}");
}

#[test]
fn pipeline_leaves_out_what_it_says_and_accounts_for_the_rest() {
    let text = printed("pipeline");
    assert_eq!(text.matches("left out").count(), 3, "{text}");
    let shipped = text.lines().filter(|line| line.starts_with("shipped:"));
    assert_eq!(shipped.map(|line| line.matches("EUR").count()).sum::<usize>(), 9, "{text}");
    assert!(text.contains("lane 1"), "{text}");
}

#[test]
fn graceful_shutdown_answers_what_it_took_and_names_who_was_late() {
    let text = printed("graceful_shutdown");
    assert!(text.contains("half a second is over"), "{text}");
    let (_, counts) = text.split_once("took ").unwrap();
    let (taken, answered) = counts.split_once(" requests, answered ").unwrap();
    assert_eq!(Some(taken), answered.lines().next(), "{text}");
    assert!(text.contains("report writer") && text.contains("1 of 2 components late"), "{text}");
}

#[test]
fn select_default_takes_what_is_there() {
    let text = printed("select_default");
    let made = text.lines().filter(|line| line.contains("made version")).count();
    let fresh: usize = text.lines().last().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(made == fresh && (1..12).contains(&fresh), "{text}");
}

#[test]
fn channels_sell_every_loaf() {
    let text = printed("channels");
    assert_eq!(text.matches("  sold").count(), 10, "{text}");
    assert!(text.contains("after waiting for a place"), "{text}");
    assert!(text.ends_with("in the afternoon: all ten\n"), "{text}");
}

#[test]
fn wait_group_lets_all_start_together_and_waits_for_the_last() {
    let text = printed("wait_group");
    let line = |part: &str| text.lines().position(|line| line.contains(part)).expect(part);
    assert!(line("ben is at the line") < line("ben is in"), "{text}");
    assert!(line("ben is at the line") < line("dora is in"), "{text}");
    assert!(line("cleo stumbles") < line("the track is empty"), "{text}");
    assert!(text.ends_with("and 0 when they are dropped\n"), "{text}");
}

#[test]
fn task_group_ends_with_the_first_error_or_keeps_all() {
    let text = printed("task_group");
    let (first, all) = text.split_once("all to their end").unwrap();
    assert!(first.contains("1 of 6 tasks finished, 1 failed, 4 cancelled"), "{text}");
    assert!(first.contains("chapter 1: not found"), "{text}");
    assert_eq!(all.matches("  error: ").count(), 2, "{text}");
    assert!(all.contains("  panic: task 3") && all.contains("chapter 3 is garbled"), "{text}");
    assert!(all.ends_with("3 of 6 fetched, 2 failed, 1 panicked\n"), "{text}");
}

#[test]
fn scatter_gives_the_first_and_then_what_came_in_time() {
    let text = printed("scatter");
    assert_eq!(text.matches("pune is not waited for any more").count(), 2, "{text}");
    assert!(text.contains("the others are gone"), "{text}");
    assert!(text.contains("late: no result for item 3: cancelled"), "{text}");
    assert!(text.contains("none of 2 futures succeeded"), "{text}");
}

#[test]
fn shield_gives_back_the_lease_that_a_cancel_would_have_kept() {
    let text = printed("shield");
    let asked = |name| format!("{name}: the service is asked to take the lease back\n");
    for name in ["orders", "invoices"] {
        let refused = format!("{name}: without a shield the service is not asked\n");
        assert_eq!(text.matches(&asked(name)).count(), 1, "{text}");
        assert!(text.contains(&(refused + &asked(name))), "{text}");
    }
    assert!(text.contains("orders: the lease is free\n"), "{text}");
    assert!(
        text.ends_with("invoices: no answer within 200ms, so the lease is left to run out\n"),
        "{text}"
    );
}

#[test]
fn after_func_ends_a_read_that_knows_of_no_context() {
    let text = printed("after_func");
    let lines = "  21.5 degrees\n  21.6 degrees\n";
    assert!(text.contains(&format!("closes:\n{lines}the sensor has closed\n")), "{text}");
    assert!(
        text.contains(&format!("half a second:\n{lines}interrupted: deadline passed")),
        "{text}"
    );
}

#[test]
fn merge_contexts_ends_with_either_or_with_all() {
    let text = printed("merge_contexts");
    let (either, all) = text.split_once("only all end it:\n").expect("two parts");
    assert_eq!(
        either,
        "either ends it:\nada: answered\nben: given up, the client hung up\n\
         cleo: given up, the server shuts down\ncleo is still connected: true\n"
    );
    assert_eq!(
        all,
        "dora has gone, the query goes on: true\nemil has gone, the query goes on: false\n\
         the query is given up, emil was the last to want it\n"
    );
}

#[test]
fn cancel_and_wait_names_the_one_worker_that_is_not_out() {
    let text = printed("cancel_and_wait");
    assert!(text.starts_with("version 1: 3 had the file open, 0 have\nversion 2: 3"), "{text}");
    assert!(text.contains("version 3: 3 had the file open, 1 have\n"), "{text}");
    let named: Vec<_> = text.lines().filter(|line| line.contains("not out: ")).collect();
    assert_eq!(named.len(), 1, "{text}");
    assert!(named[0].starts_with("  not out: worker 2 of version 3 ("), "{text}");
    assert!(text.ends_with("in the whole service: 1 not out\n"), "{text}");
}
