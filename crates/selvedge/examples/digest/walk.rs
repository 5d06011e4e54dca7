//! The walk: a generator of files, depth first, sorted by bytes within a directory. Directories are
//! read on a blocking worker, which finds a batch of files at a time.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use selvedge::cancel::Context;
use selvedge::pipeline::{Build, Stage, generate};
use selvedge::pool::Pool;

/// What the walk gives.
pub(crate) struct Found {
    /// How many came before.
    pub(crate) number: u64,
    /// Where.
    pub(crate) path: PathBuf,
    /// What is wrong with it; a regular file to be hashed if nothing.
    pub(crate) problem: Option<io::Error>,
}

/// What the walk saw and did not give.
#[derive(Default)]
pub(crate) struct Skipped {
    /// Symbolic links; they are not followed.
    pub(crate) links: AtomicU64,
    /// Devices, sockets, pipes.
    pub(crate) special: AtomicU64,
}

/// One entry of a directory.
struct Entry {
    /// Its name.
    name: OsString,
    /// What it is.
    kind: Kind,
}

/// What an entry is.
enum Kind {
    /// To be hashed.
    File,
    /// To be entered.
    Directory,
    /// Not followed.
    Link,
    /// Not read.
    Special,
    /// The system would not say.
    Unknown(io::Error),
}

/// How many files one job on the worker finds at the most: going to the worker and back costs more
/// than reading a small directory.
const BATCH: usize = 256;

/// How long one job looks for files before it hands over what it has.
const PATIENCE: Duration = Duration::from_millis(10);

/// A directory that is being gone through, and what is left of it.
type Open = (PathBuf, std::vec::IntoIter<Entry>);

/// A walk under way. It goes to the worker and comes back.
pub(crate) struct Walk {
    /// What is looked at next.
    next: Option<(PathBuf, Kind)>,
    /// The directories on the way, outermost first.
    open: Vec<Open>,
    /// Whether hidden folders and `target` folders are left out.
    plain: bool,
    /// How many files were found.
    number: u64,
    /// What is left out is counted here.
    skipped: Arc<Skipped>,
}

impl Walk {
    /// Every regular file below `root`. `plain` leaves out hidden folders and `target` folders.
    pub(crate) fn new(root: &Path, plain: bool, skipped: Arc<Skipped>) -> Self {
        // A link that the user names is followed; those that the walk finds are not.
        let kind = match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => Kind::Directory,
            Ok(metadata) if metadata.is_file() => Kind::File,
            Ok(_) => Kind::Special,
            Err(error) => Kind::Unknown(error),
        };
        let next = Some((root.to_path_buf(), kind));
        Self { next, open: Vec::new(), plain, number: 0, skipped }
    }

    /// The files, as the beginning of a pipeline. Directories are read on `pool`.
    pub(crate) fn files(self, pool: Arc<Pool>) -> Stage<impl Build<Item = Found>> {
        generate(move |y| async move {
            let mut walk = self;
            loop {
                let step = move |_: &Context| {
                    let batch = walk.step();
                    (walk, batch)
                };
                let (back, batch) = pool.submit(step).await?.await?;
                if batch.is_empty() {
                    return Ok::<(), Box<dyn Error + Send + Sync>>(());
                }
                for found in batch {
                    y.give(found).await;
                }
                walk = back;
            }
        })
        .named("walk")
    }

    /// Goes on until there are enough files, or enough time has passed and there is at least one.
    /// Nothing more is found when nothing is returned.
    fn step(&mut self) -> Vec<Found> {
        let start = Instant::now();
        let mut batch = Vec::new();
        loop {
            if let Some((path, kind)) = self.next.take() {
                batch.extend(self.enter(path, kind));
            } else if let Some((directory, entries)) = self.open.last_mut() {
                match entries.next() {
                    Some(entry) => self.next = Some((directory.join(&entry.name), entry.kind)),
                    None => drop(self.open.pop()),
                }
            } else {
                return batch;
            }
            let late = !batch.is_empty() && start.elapsed() >= PATIENCE;
            if batch.len() >= BATCH || late {
                return batch;
            }
        }
    }

    /// Finds a file or a problem, counts what is left out, or reads a directory.
    fn enter(&mut self, path: PathBuf, kind: Kind) -> Option<Found> {
        let problem = match kind {
            Kind::File => None,
            Kind::Unknown(error) => Some(error),
            Kind::Link => {
                self.skipped.links.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            Kind::Special => {
                self.skipped.special.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            Kind::Directory => match list(&path, self.plain) {
                Ok(entries) => {
                    self.open.push((path, entries.into_iter()));
                    return None;
                }
                Err(error) => Some(error),
            },
        };
        let number = self.number;
        self.number += 1;
        Some(Found { number, path, problem })
    }
}

/// The entries of a directory, sorted by the bytes of their names.
fn list(directory: &Path, plain: bool) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = match entry.file_type() {
            Ok(kind) if kind.is_file() => Kind::File,
            Ok(kind) if kind.is_dir() => Kind::Directory,
            Ok(kind) if kind.is_symlink() => Kind::Link,
            Ok(_) => Kind::Special,
            Err(error) => Kind::Unknown(error),
        };
        if !is_left_out(plain, &name, matches!(kind, Kind::Directory)) {
            entries.push(Entry { name, kind });
        }
    }
    entries.sort_unstable_by(|a, b| a.name.as_encoded_bytes().cmp(b.name.as_encoded_bytes()));
    Ok(entries)
}

/// Whether a plain walk leaves an entry out.
pub(crate) fn is_left_out(plain: bool, name: &OsStr, is_directory: bool) -> bool {
    plain && is_directory && (name.as_encoded_bytes().starts_with(b".") || name == "target")
}
