//! The demo as a process: what it prints, how it ends, and what real signals do to it.
#![cfg(unix)]

mod support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use support::{Running, program, text};

/// A folder of its own, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("selvedge-demo-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: impl AsRef<OsStr>, content: &[u8]) -> PathBuf {
        let path = self.0.join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A file that takes long to hash and no space.
    fn sparse(&self, name: &str, size: u64) {
        File::create(self.0.join(name)).unwrap().set_len(size).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn demo(dir: &Path) -> Command {
    let mut command = Command::new(program("digest"));
    command.arg(dir).stdin(Stdio::null());
    command
}

/// The line of a file with a plain name.
fn line(path: &Path, content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}  {}\n", path.display())
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

#[test]
fn a_rate_holds_it_back_and_one_that_makes_no_sense_is_refused() {
    let folder = Folder::new();
    for number in 0..50 {
        folder.file(format!("{number:02}"), b"");
    }
    let start = Instant::now();
    let output = run(demo(&folder.0).args(["--rate", "100"]));
    assert!(output.status.success());
    assert_eq!(text(&output.stdout).lines().count(), 50);
    // Half a second is the ideal; how near to it a bench says.
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(490) && took < Duration::from_secs(5), "{took:?}");
    for bad in ["0", "-1", "NaN", "inf", "many", "1e300"] {
        let output = run(demo(&folder.0).arg(format!("--rate={bad}")));
        assert_eq!(output.status.code(), Some(2), "{bad}: {}", text(&output.stderr));
    }
}

#[test]
fn files_come_depth_first_sorted_by_bytes() {
    let folder = Folder::new();
    let mut expected = String::new();
    for name in ["A", "B/z", "a", "b/1/x", "b/1/y", "b/2", "c"] {
        let path = folder.file(name, name.as_bytes());
        expected += &line(&path, name.as_bytes());
    }
    let output = run(&mut demo(&folder.0));
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn unordered_has_the_same_lines() {
    let folder = Folder::new();
    let mut expected = Vec::new();
    for number in 0..200 {
        let content = vec![7; number * 500];
        let path = folder.file(format!("{number:03}"), &content);
        expected.push(line(&path, &content).trim_end().to_owned());
    }
    let output = run(demo(&folder.0).arg("--unordered"));
    let out = text(&output.stdout);
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_by_key(|line| &line[64..]);
    assert_eq!(lines, expected);
}

#[test]
fn odd_names_are_escaped_as_sha256sum_does_and_others_kept() {
    let folder = Folder::new();
    folder.file("new\nline", b"1");
    folder.file("back\\slash", b"2");
    folder.file("carriage\rreturn", b"3");
    // The file system of macOS refuses such a name.
    let name: &[u8] = if cfg!(target_os = "macos") { b"plain" } else { b"not\xffutf8" };
    let raw = folder.file(OsStr::from_bytes(name), b"4");
    let output = run(&mut demo(&folder.0));
    let lines: Vec<&[u8]> = output.stdout.split(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 5, "four lines, each ended");
    assert!(lines[0].starts_with(b"\\") && lines[0].ends_with(b"back\\\\slash"));
    assert!(lines[1].starts_with(b"\\") && lines[1].ends_with(b"carriage\\rreturn"));
    assert!(lines[2].starts_with(b"\\") && lines[2].ends_with(b"new\\nline"));
    assert!(lines[3].ends_with(raw.as_os_str().as_bytes()));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn links_and_special_files_are_skipped_and_counted() {
    let folder = Folder::new();
    let path = folder.file("real", b"x");
    std::os::unix::fs::symlink(&path, folder.0.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.0.join("socket")).unwrap();
    let output = run(&mut demo(&folder.0));
    assert_eq!(text(&output.stdout), line(&path, b"x"));
    assert!(text(&output.stderr).contains("1 links, 1 special files"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_cannot_be_read_is_reported_and_counted() {
    let folder = Folder::new();
    let missing = folder.0.join("nothing here");
    let output = run(&mut demo(&missing));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nothing here: No such file"));

    // A regular file of which the open or the read fails, whoever we are.
    let unreadable = Path::new("/proc/self/clear_refs");
    if unreadable.exists() {
        let output = run(&mut demo(unreadable));
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("clear_refs: "), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("failed 1;"));
    }
}

#[test]
fn lines_go_to_the_file_that_is_named() {
    let folder = Folder::new();
    let path = folder.file("tree/a", b"x");
    let sums = folder.0.join("sums");
    let output = run(demo(&folder.0.join("tree")).arg("--out").arg(&sums));
    assert_eq!(output.stdout, b"");
    assert_eq!(fs::read_to_string(&sums).unwrap(), line(&path, b"x"));
}

#[test]
fn the_file_that_is_written_to_is_not_listed() {
    let folder = Folder::new();
    let first = folder.file("a", b"x");
    let same_name = folder.file("deep/sums", b"another");
    let sums = folder.file("sums", b"of an earlier run");
    let expected = line(&first, b"x") + &line(&same_name, b"another");
    // By its own name, and by a link to it.
    let link = folder.0.with_extension("link");
    std::os::unix::fs::symlink(&sums, &link).unwrap();
    for out in [&sums, &link] {
        let output = run(demo(&folder.0).arg("--out").arg(out));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(fs::read_to_string(&sums).unwrap(), expected);
    }
    fs::remove_file(&link).unwrap();
}

#[test]
fn without_a_folder_the_workspace_is_digested_without_what_is_hidden_or_built() {
    let folder = Folder::new();
    // A linked worktree has a file of that name.
    folder.file("worktree/.git", b"gitdir: elsewhere");
    folder.file(".git/config", b"x");
    folder.file(".hidden/a", b"x");
    folder.file("target/a", b"x");
    let mut expected = line(&folder.file(".gitignore", b"x"), b"x");
    expected += &line(&folder.file("worktree/target", b"a file"), b"a file");
    let mut command = Command::new(program("digest"));
    let output = run(command.env("SELVEDGE_DEMO_ROOT", &folder.0).stdin(Stdio::null()));
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    // A folder that is named is digested whole.
    assert_eq!(text(&run(&mut demo(&folder.0)).stdout).lines().count(), 6);
}

#[test]
fn closed_standard_error_changes_nothing() {
    let folder = Folder::new();
    let path = folder.file("a", b"x");
    for (dir, lines, code) in
        [(folder.0.clone(), line(&path, b"x"), 0), (folder.0.join("missing"), String::new(), 1)]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = run(demo(&dir).stderr(writer));
        assert_eq!(text(&output.stdout), lines);
        assert_eq!(output.status.code(), Some(code));
    }
}

#[test]
fn a_full_disk_is_named_and_lines_that_it_did_not_take_are_not_counted() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    // One file fails in the last flush, many fail before it.
    for number in [1, 3000] {
        let folder = Folder::new();
        for number in 0..number {
            folder.file(format!("{number:04}"), b"x");
        }
        let output = run(demo(&folder.0).arg("--out").arg(full));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let complaints: Vec<&str> =
            said.lines().filter(|line| line.contains("No space left")).collect();
        assert_eq!(complaints.len(), 1, "{said}");
        assert!(complaints[0].starts_with("digest: "), "{said}");
        assert!(said.lines().any(|line| line.starts_with("0 files, 0.0 MB ")), "{said}");
    }
}

/// Runs the demo with standard output a pipe that nobody reads, sends a signal when it is full, and
/// gives the exit code, what was said, and how long it took from the signal, or from the start.
fn unread(more: &[&str], signal: Option<libc::c_int>) -> (Option<i32>, String, Duration) {
    let folder = Folder::new();
    let long = "x".repeat(200);
    for number in 0..3000 {
        folder.file(format!("{number:04}{long}"), b"x");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    let said = folder.0.with_extension("said");
    let mut command = demo(&folder.0);
    command.args(more).stdout(writer).stderr(File::create(&said).unwrap());
    let mut start = Instant::now();
    let mut running = Running::start(&mut command);
    if let Some(signal) = signal {
        std::thread::sleep(Duration::from_millis(1500));
        start = Instant::now();
        running.signal(signal);
    }
    let status = running.wait();
    let took = start.elapsed();
    drop(reader);
    let text = fs::read_to_string(&said).unwrap();
    let _ = fs::remove_file(&said);
    (status.code(), text, took)
}

#[test]
fn unread_output_does_not_hold_up_the_timeout() {
    let (code, said, took) = unread(&["--timeout", "1"], None);
    assert_eq!(code, Some(124), "{said}");
    assert!(said.contains("digest: left: "), "{said}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn unread_output_does_not_hold_up_the_first_signal() {
    for (signal, expected) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let (code, said, took) = unread(&[], Some(signal));
        assert_eq!(code, Some(expected), "{said}");
        assert!(said.contains("digest: left: "), "{said}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn closed_output_ends_it_quietly() {
    let folder = Folder::new();
    for number in 0..3000 {
        folder.file(format!("{number:04}"), b"x");
    }
    let mut command = demo(&folder.0);
    let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut out = BufReader::new(running.0.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    assert!(first.ends_with("/0000\n"));
    drop(out);
    let status = running.wait();
    assert_eq!(running.said(), "");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_timeout_ends_it_with_124() {
    let folder = Folder::new();
    folder.sparse("large", 1 << 40);
    let output = run(demo(&folder.0).args(["--timeout", "0.3"]));
    assert_eq!(output.status.code(), Some(124), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("digest: left: "), "{}", text(&output.stderr));
}

/// Small files before and behind a file that takes for ever.
fn large_tree() -> Folder {
    let folder = Folder::new();
    for number in 0..100 {
        folder.file(format!("a{number:03}"), b"before");
        folder.file(format!("c{number:03}"), b"behind");
    }
    folder.sparse("b", 1 << 40);
    folder
}

/// Starts, sends a signal a while later, and gives the exit code, the lines and what was said.
fn interrupted(
    folder: &Folder,
    signal: libc::c_int,
    more: &[&str],
) -> (Option<i32>, String, String) {
    let sums = folder.0.with_extension("sums");
    let mut command = demo(&folder.0);
    command.arg("--out").arg(&sums).args(more).stderr(Stdio::piped());
    let mut running = Running::start(&mut command);
    std::thread::sleep(Duration::from_millis(1500));
    let start = Instant::now();
    running.signal(signal);
    let status = running.wait();
    println!("from the signal to the end: {:?}", start.elapsed());
    let lines = fs::read_to_string(&sums).unwrap();
    let _ = fs::remove_file(&sums);
    (status.code(), lines, running.said())
}

#[test]
fn the_first_interrupt_keeps_what_is_finished_and_counts_what_is_left() {
    let (code, lines, said) = interrupted(&large_tree(), libc::SIGINT, &["--jobs", "2"]);
    assert_eq!(code, Some(130), "{said}");
    // Files behind the unfinished one are written too, in order, and the gap is named.
    assert_eq!(lines.lines().count(), 200, "{said}");
    assert!(lines.lines().is_sorted_by_key(|line| line[64..].to_owned()));
    assert!(lines.ends_with('\n'));
    let left: Vec<&str> = said.lines().filter(|line| line.contains("digest: left: ")).collect();
    assert_eq!(left.len(), 1, "{said}");
    assert!(left[0].ends_with("/b"), "{said}");
    assert!(said.contains("left 1;"), "{said}");
}

#[test]
fn an_unordered_run_is_interrupted_the_same_way() {
    let more = ["--jobs", "2", "--unordered"];
    let (code, lines, said) = interrupted(&large_tree(), libc::SIGINT, &more);
    assert_eq!(code, Some(130), "{said}");
    assert_eq!(lines.lines().count(), 200, "{said}");
    assert!(said.contains("left 1;"), "{said}");
}

#[test]
fn a_termination_signal_exits_143() {
    let (code, lines, said) = interrupted(&large_tree(), libc::SIGTERM, &["--jobs", "2"]);
    assert_eq!(code, Some(143), "{said}");
    assert_eq!(lines.lines().count(), 200, "{said}");
}

#[test]
fn a_large_tree_is_interrupted_with_a_valid_partial_list() {
    let folder = Folder::new();
    for number in 0..2000 {
        folder.sparse(&format!("{number:04}"), 256 << 20);
    }
    let (code, lines, said) = interrupted(&folder, libc::SIGINT, &[]);
    assert_eq!(code, Some(130), "{said}");
    assert!(lines.is_empty() || lines.ends_with('\n'));
    assert!(lines.lines().all(|line| line.len() > 66 && &line[64..66] == "  "));
    let left = said.lines().filter(|line| line.contains("digest: left: ")).count();
    assert!(left > 0, "{said}");
    assert!(lines.lines().count() + left <= 2000);
}

/// Sends a second SIGINT some time after the first, and measures how long the end takes.
fn second_interrupt(command: &mut Command, after: Duration) -> Duration {
    let mut running = Running::start(command);
    std::thread::sleep(Duration::from_millis(1500));
    running.signal(libc::SIGINT);
    std::thread::sleep(after);
    assert!(running.0.try_wait().unwrap().is_none(), "the first SIGINT ended it already");
    let start = Instant::now();
    running.signal(libc::SIGINT);
    let status = running.wait();
    let took = start.elapsed();
    assert_eq!(status.code(), Some(130));
    println!("from the second SIGINT to the end: {took:?}");
    took
}

#[test]
fn a_second_interrupt_ends_it_at_once() {
    let folder = large_tree();
    let mut command = demo(&folder.0);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let took = second_interrupt(&mut command, Duration::from_millis(100));
    // 100 ms is promised; ten times that allows for a busy machine.
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_second_interrupt_ends_it_at_once_with_stderr_a_full_pipe() {
    let folder = large_tree();
    let (reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    let mut command = demo(&folder.0);
    command.stdout(Stdio::null()).stderr(writer);
    // By then the grace is over and the program stands in what it has to say.
    let took = second_interrupt(&mut command, Duration::from_millis(1500));
    drop(reader);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// Fills a pipe to the last byte, so that whoever writes waits.
fn fill(mut pipe: &std::io::PipeWriter) {
    use std::os::fd::AsRawFd;
    let fd = pipe.as_raw_fd();
    // SAFETY: the descriptor is open; F_GETFL touches no memory.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    // SAFETY: as above, with an integer argument.
    unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) };
    while pipe.write(&[b'x'; 4096]).is_ok() {}
    while pipe.write(b"x").is_ok() {}
    // SAFETY: as above.
    unsafe { libc::fcntl(fd, libc::F_SETFL, flags) };
}
