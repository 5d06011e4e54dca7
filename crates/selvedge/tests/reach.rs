//! The example `reach` as a process, on ports of this machine.
#![cfg(unix)]

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use support::{Running, program, text};

/// The address of a port that accepts connections while the listener lives.
fn open() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// The address of a port that refuses connections.
fn closed() -> String {
    open().1
}

fn reach(servers: &[&str], options: &[&str]) -> Command {
    let mut command = Command::new(program("reach"));
    command.args(servers).args(options).stdin(Stdio::null());
    command
}

fn run(servers: &[&str], options: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = reach(servers, options).output().unwrap();
    (status.code(), text(&stdout), text(&stderr))
}

#[test]
fn every_server_is_named_when_it_accepts() {
    let ((_one, first), (_two, second)) = (open(), open());
    let (code, out, err) = run(&[&first, &second], &["--at-once", "1"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out.lines().count(), 2);
    assert!(out.contains(&format!("{first}: accepts")), "{out}");
    assert!(out.contains(&format!("{second}: accepts")), "{out}");
}

#[test]
fn after_the_first_server_that_is_given_up_no_other_is_asked() {
    let closed = closed();
    // The second would be given up, too: it is under way only if it is asked at all.
    let (code, out, err) = run(&[&closed, "host.invalid:1"], &["--tries", "2", "--at-once", "1"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains(&format!("{closed}: given up after 2 tries: ")), "{err}");
    assert!(err.contains("reach: host.invalid:1: not reached"), "{err}");
}

#[test]
fn with_all_the_others_go_on() {
    let (closed, (_listener, open)) = (closed(), open());
    let (code, out, err) = run(&[&closed, &open], &["--tries", "1", "--at-once", "1", "--all"]);
    assert_eq!(code, Some(1));
    assert!(out.contains(&format!("{open}: accepts")), "{out}");
    assert!(err.contains(&format!("{closed}: given up")) && !err.contains(&open), "{err}");
}

#[test]
fn a_server_that_comes_up_later_is_reached() {
    let address = closed();
    let mut command = reach(&[&address], &["--pause", "0.001"]);
    let mut running = Running::start(command.stdout(Stdio::piped()));
    let _listener = TcpListener::bind(&address).unwrap();
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn the_time_is_up() {
    let closed = closed();
    let (code, out, err) = run(&[&closed], &["--within", "0.05"]);
    assert_eq!((code, out.as_str()), (Some(124), ""));
    assert_eq!(err, format!("reach: {closed}: not reached\n"));
}

#[test]
fn a_signal_ends_it_and_names_what_is_left() {
    let ((_listener, open), closed) = (open(), closed());
    let mut command = reach(&[&open, &closed], &[]);
    let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    // Once it has said something, its signals are installed.
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with(&open), "{line}");
    running.signal(libc::SIGINT);
    assert_eq!(running.wait().code(), Some(130));
    assert_eq!(running.said(), format!("reach: {closed}: not reached\n"));
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for bad in ["db", ":80", "db:", "db:0", "db:65536", "db:http"] {
        let (code, _, err) = run(&[bad], &[]);
        assert_eq!(code, Some(2), "{bad}");
        assert!(err.contains("expected a host, a colon and a port"), "{err}");
    }
    assert_eq!(run(&[], &[]).0, Some(2));
    for (option, bad) in
        [("--tries", "0"), ("--at-once", "0"), ("--within", "-1"), ("--pause", "NaN")]
    {
        assert_eq!(run(&["db:1"], &[option, bad]).0, Some(2), "{option} {bad}");
    }
}
