//! What is written: one line a file, and what could not be read.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use selvedge::cancel::Context;
use selvedge::pipeline::Sink;

use crate::hash::{Hashed, hash};
use crate::line::line;
use crate::progress::Progress;
use crate::walk::{Found, Skipped};

/// How many bytes of lines are written at a time.
const BUFFER: usize = 64 * 1024;

/// How long a finished line may lie in the buffer while others come.
const FLUSH: Duration = Duration::from_millis(50);

/// The files that were accepted and are not written yet, by number.
pub(crate) type InFlight = Arc<Mutex<BTreeMap<u64, PathBuf>>>;

/// A file, and what became of it.
pub(crate) struct Digested {
    /// How many came before.
    number: u64,
    /// Where.
    path: PathBuf,
    /// What became of it.
    hashed: Hashed,
}

impl Digested {
    /// Hashes a file that was found. Never fails: what is wrong with a file is for the writer to
    /// say, and the others go on.
    pub(crate) fn of(found: Found, ctx: &Context) -> Result<Self, Infallible> {
        let Found { number, path, problem } = found;
        let hashed = match problem {
            None => hash(&path, ctx),
            Some(error) => Hashed::Failed(error),
        };
        Ok(Self { number, path, hashed })
    }
}

/// Writes lines.
pub(crate) struct Lines {
    /// Where to.
    out: Box<dyn Write + Send>,
    /// Lines that are not written yet.
    buffer: Vec<u8>,
    /// The numbers of their files.
    numbers: Vec<u64>,
    /// The bytes of their files.
    bytes: u64,
    /// When the buffer was last emptied.
    flushed: Instant,
    /// The bar.
    progress: Progress,
    /// What is not written yet.
    in_flight: InFlight,
    /// What was written.
    written: Written,
}

/// What was written.
pub(crate) struct Written {
    /// Files with a line that was written.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Files and folders that could not be read.
    pub(crate) failed: u64,
    /// Whether nobody reads the output any more.
    pub(crate) closed: bool,
    /// When it began.
    start: Instant,
}

impl Lines {
    /// Writes to a file, or to standard output.
    pub(crate) fn new(
        out: Option<&Path>,
        progress: Progress,
        in_flight: InFlight,
    ) -> anyhow::Result<Self> {
        let out: Box<dyn Write + Send> = match out {
            None => Box::new(io::stdout()),
            Some(path) => Box::new(
                File::create(path).with_context(|| format!("cannot write {}", path.display()))?,
            ),
        };
        let start = Instant::now();
        let written = Written { files: 0, bytes: 0, failed: 0, closed: false, start };
        let (buffer, numbers) = (Vec::with_capacity(BUFFER), Vec::new());
        Ok(Self { out, buffer, numbers, bytes: 0, flushed: start, progress, in_flight, written })
    }

    /// Writes the lines in the buffer. Their files are in flight until that is done, and counted as
    /// left if it fails. Holds no lock meanwhile: it takes as long as whoever reads wants.
    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
        self.buffer.clear();
        self.flushed = Instant::now();
        let (numbers, bytes) = (mem::take(&mut self.numbers), mem::take(&mut self.bytes));
        match &result {
            Ok(()) => {
                self.written.files += numbers.len() as u64;
                self.written.bytes += bytes;
                let mut in_flight = self.in_flight.lock().unwrap();
                numbers.iter().for_each(|number| drop(in_flight.remove(number)));
            }
            Err(error) => self.written.closed |= error.kind() == io::ErrorKind::BrokenPipe,
        }
        result
    }
}

impl Sink<Digested> for Lines {
    type Error = io::Error;
    type Output = Written;

    fn poll_reserve(&mut self, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn accept(&mut self, item: Digested) -> io::Result<()> {
        let Digested { number, path, hashed } = item;
        match hashed {
            Hashed::Digest(digest, bytes) => {
                self.buffer.extend_from_slice(&line(&digest, &path));
                self.numbers.push(number);
                self.bytes += bytes;
                self.progress.file();
            }
            Hashed::Failed(error) => {
                self.written.failed += 1;
                self.progress.say(&format!("digest: {}: {error}", path.display()));
                self.in_flight.lock().unwrap().remove(&number);
            }
            // It stays in flight, to be named as left.
            Hashed::Interrupted => {}
        }
        if self.buffer.len() >= BUFFER || self.flushed.elapsed() >= FLUSH {
            self.flush()?;
        }
        Ok(())
    }

    fn finish(mut self) -> Written {
        if let Err(error) = self.flush()
            && !self.written.closed
        {
            self.written.failed += 1;
            self.progress.say(&format!("digest: output: {error}"));
        }
        self.written
    }
}

impl Written {
    /// The last line, for people.
    pub(crate) fn summary(&self, skipped: &Skipped, left: usize, root: &Path) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        let mega = self.bytes as f64 / 1e6;
        format!(
            "{} files, {mega:.1} MB below {} in {seconds:.2} s ({:.0} MB/s); failed {}; left {left}; \
             skipped: {} links, {} special files",
            self.files,
            root.display(),
            mega / seconds.max(1e-9),
            self.failed,
            skipped.links.load(Ordering::Relaxed),
            skipped.special.load(Ordering::Relaxed),
        )
    }
}
