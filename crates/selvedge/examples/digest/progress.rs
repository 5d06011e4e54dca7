//! The progress bar on standard error: rate and time left, only where somebody looks.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use selvedge::cancel::Context;
use selvedge::pool::Pool;

use crate::walk::Filter;

/// Says a line on standard error. Nobody may be listening, which is no reason to end.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A handle to the bar.
#[derive(Clone)]
pub(crate) struct Progress {
    /// Hidden unless standard error is a terminal.
    bar: ProgressBar,
}

impl Progress {
    /// A bar, if somebody looks.
    pub(crate) fn new(shown: bool) -> Self {
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = "{spinner} {pos} of {len} files, {per_sec}, {eta} left [{wide_bar}]";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        if shown {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self { bar }
    }

    /// Counts the files ahead of the walk, so that the bar knows how many there are. Not done when
    /// nobody looks.
    pub(crate) async fn count_ahead(&self, pool: &Pool, root: PathBuf, filter: Arc<Filter>) {
        if self.bar.is_hidden() {
            return;
        }
        let bar = self.bar.clone();
        bar.set_length(0);
        // The bar does without if the pool does not take it.
        let _ = pool.submit(move |ctx: &Context| count(root, &filter, &bar, ctx)).await;
    }

    /// One more file is written.
    pub(crate) fn file(&self) {
        self.bar.inc(1);
    }

    /// Says a line, above the bar if there is one.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| say(line));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Adds the files below a folder to the bar's length.
fn count(root: PathBuf, filter: &Filter, bar: &ProgressBar, ctx: &Context) {
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut files = 0;
        for entry in entries.flatten() {
            if ctx.is_cancelled() {
                return;
            }
            match entry.file_type() {
                Ok(kind) if filter.leaves_out(&folder, &entry.file_name(), kind.is_dir()) => {}
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => files += 1,
                _ => {}
            }
        }
        bar.inc_length(files);
    }
}
