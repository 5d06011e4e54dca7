//! The digest of a tree: walk it, hash every file, add the hashes up in the order of the paths.
//!
//! The files are made once, below the folder for temporary files, and removed when the shape is
//! done; they are read over and over, so they come from the cache of the system, and what is measured
//! is the walking, the handing over and the hashing. `xargs` hashes with the system's `sha256sum`,
//! whose code for the hash is another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rayon::iter::{ParallelBridge, ParallelIterator};
use selvedge_cancel::Context;
use selvedge_pipeline::{Order, from_iter};
use selvedge_pool::Pool;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::harness::{Count, Shape, Work, go};

/// Threads that hash.
const WORKERS: usize = 2;
/// Files under way at a time.
const WINDOW: usize = 256;

/// A tree of this many files; an operation is a file.
pub(super) fn shape(files: u64) -> Shape {
    // Made when the first contestant runs, and removed with the shape.
    let tree = Arc::new(OnceLock::new());
    let each = |run: fn(&Path) -> Vec<Hashed>| {
        let tree = Arc::clone(&tree);
        move |n: u64| {
            let tree = tree.get_or_init(|| Tree::make(files));
            let (count, mut hashed) = Count::of(|| run(&tree.root));
            hashed.sort();
            assert_eq!(hashed.len() as u64, n);
            assert!(hashed == tree.expected, "a file is missing or has another hash");
            count
        }
    };
    let parameter = format!("{files} files");
    let mut shape = Shape::new("pipeline", "tree digest", parameter, Work::Exactly(files))
        .ours(each(ours))
        .peer("rayon", each(in_parallel))
        .reference("loop", each(one_by_one));
    if go::program().is_ok() {
        let tree = Arc::clone(&tree);
        shape = shape.reference("Go", move |n| {
            let tree = tree.get_or_init(|| Tree::make(files));
            let root = tree.root.to_string_lossy();
            let (count, said) = go::run(&["digest", &n.to_string(), &root]);
            let mut hashed = hashed_in(&said);
            hashed.sort();
            assert!(hashed == tree.expected, "a file is missing or has another hash");
            count
        });
    }
    if has_xargs() { shape.peer("xargs sha256sum", each(xargs)) } else { shape }
}

/// Whether there is all that the shell's way needs.
pub(super) fn has_xargs() -> bool {
    let runs = |program| Command::new(program).arg("--version").output().is_ok();
    ["find", "xargs", "sha256sum"].into_iter().all(runs)
}

/// A file and its hash.
type Hashed = (PathBuf, String);

/// Files that are removed again.
struct Tree {
    root: PathBuf,
    expected: Vec<Hashed>,
}

impl Tree {
    /// Files of 1 to 16 KiB, a hundred in a folder, the same every time.
    fn make(files: u64) -> Self {
        static TREES: AtomicU64 = AtomicU64::new(0);
        // Relaxed: a number of its own, and nothing else.
        let number = TREES.fetch_add(1, Ordering::Relaxed);
        let name = format!("selvedge-bench-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let mut random = 1_u64;
        for file in 0..files {
            let folder = root.join(format!("{:03}", file / 100));
            fs::create_dir_all(&folder).expect("a folder for the tree");
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let length = 1_024 + (random >> 33) % (15 * 1_024);
            let content: Vec<u8> =
                (0..length).map(|at| ((at ^ random) >> (at % 8)) as u8).collect();
            fs::write(folder.join(format!("{file}")), content).expect("a file of the tree");
        }
        let mut expected = one_by_one(&root);
        expected.sort();
        Self { root, expected }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // It lies among temporary files; who cannot remove it leaves it to the system.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The files below a folder, as they are found.
fn walk(root: &Path) -> impl Iterator<Item = PathBuf> + Send + use<> {
    let entries = WalkDir::new(root).into_iter().map(|entry| entry.expect("the tree is readable"));
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path)
}

fn hash(path: PathBuf) -> Hashed {
    let content = fs::read(&path).expect("the file is readable");
    let hash = Sha256::digest(content);
    (path, hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn one_by_one(root: &Path) -> Vec<Hashed> {
    walk(root).map(hash).collect()
}

fn ours(root: &Path) -> Vec<Hashed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("threads start");
    runtime.block_on(async {
        let ctx = Context::background();
        let pool = Pool::builder().workers(WORKERS).queue(WINDOW).build(&ctx);
        let pool = Arc::new(pool.expect("threads start"));
        let ended = from_iter(walk(root))
            .blocking(&pool, WINDOW, Order::Ordered, |path, _: &Context| {
                Ok::<_, std::io::Error>(hash(path))
            })
            .collect()
            .run(&ctx)
            .await;
        pool.drain().await;
        ended.ok().expect("no file fails")
    })
}

fn in_parallel(root: &Path) -> Vec<Hashed> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().expect("threads start");
    let root = root.to_owned();
    pool.install(|| walk(&root).par_bridge().map(hash).collect())
}

/// The shell's way.
fn xargs(root: &Path) -> Vec<Hashed> {
    let mut find = Command::new("find");
    find.arg(root).args(["-type", "f", "-print0"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut find = find.spawn().expect("find starts");
    let output = Command::new("xargs")
        .args(["-0", "-n", "64", "-P", &WORKERS.to_string(), "sha256sum"])
        .stdin(find.stdout.take().expect("the output of find is a pipe"))
        .output()
        .expect("xargs starts");
    assert!(find.wait().is_ok_and(|ended| ended.success()) && output.status.success());
    hashed_in(&String::from_utf8(output.stdout).expect("the paths are text"))
}

/// What sha256sum prints, and the program in Go as well.
fn hashed_in(text: &str) -> Vec<Hashed> {
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    lines.map(|(hash, path)| (PathBuf::from(path), hash.to_owned())).collect()
}
