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
    /// What is left out.
    filter: Arc<Filter>,
    /// How many files were found.
    number: u64,
    /// What is left out is counted here.
    skipped: Arc<Skipped>,
}

impl Walk {
    /// Every regular file below `root` that the filter does not leave out.
    pub(crate) fn new(root: &Path, filter: Arc<Filter>, skipped: Arc<Skipped>) -> Self {
        // A link that the user names is followed; those that the walk finds are not.
        let kind = match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => Kind::Directory,
            Ok(metadata) if metadata.is_file() => Kind::File,
            Ok(_) => Kind::Special,
            Err(error) => Kind::Unknown(error),
        };
        let next = Some((root.to_path_buf(), kind));
        Self { next, open: Vec::new(), filter, number: 0, skipped }
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
            Kind::Directory => match list(&path, &self.filter) {
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
fn list(directory: &Path, filter: &Filter) -> io::Result<Vec<Entry>> {
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
        if !filter.leaves_out(directory, &name, matches!(kind, Kind::Directory)) {
            entries.push(Entry { name, kind });
        }
    }
    entries.sort_unstable_by(|a, b| a.name.as_encoded_bytes().cmp(b.name.as_encoded_bytes()));
    Ok(entries)
}

/// What a walk leaves out.
pub(crate) struct Filter {
    /// Whether that is hidden folders, `target` folders, and `.git`, which in a linked worktree is a
    /// file.
    plain: bool,
    /// The name of the file that is written to, and which file that is.
    output: Option<(OsString, Identity)>,
}

impl Filter {
    /// Leaves out the file that is written to, if it is there; with `plain`, also what nobody wants
    /// of a workspace.
    pub(crate) fn new(plain: bool, output: Option<&Path>) -> Self {
        let known = |path: &Path| {
            // What the entry of its directory is called, also if `path` is a link to it.
            let path = fs::canonicalize(path).ok()?;
            Some((path.file_name()?.to_owned(), identity(&path).ok()?))
        };
        Self { plain, output: output.and_then(known) }
    }

    /// Whether an entry is left out. The system is asked only about one with the output's name.
    pub(crate) fn leaves_out(&self, directory: &Path, name: &OsStr, is_directory: bool) -> bool {
        let bytes = name.as_encoded_bytes();
        let in_plain =
            || bytes == b".git" || is_directory && (bytes.starts_with(b".") || bytes == b"target");
        let is_output = |(output, which): &(OsString, Identity)| {
            output == name && identity(&directory.join(name)).is_ok_and(|found| found == *which)
        };
        self.plain && in_plain() || !is_directory && self.output.as_ref().is_some_and(is_output)
    }
}

/// What tells files apart: device and number.
#[cfg(unix)]
type Identity = (u64, u64);

/// What tells files apart: the one path without links.
#[cfg(not(unix))]
type Identity = PathBuf;

/// Which file lies at a path; a link is not followed.
#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Which file lies at a path.
#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<Identity> {
    fs::canonicalize(path)
}
