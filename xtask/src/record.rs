//! What a command printed, once more for machines: `target/xtask/<command>.jsonl`, a JSON object a
//! line, begun afresh by each run and written row by row, so that a run cut short leaves the rows it
//! had reached.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::workspace::Workspace;

/// An open record.
#[derive(Debug)]
pub(crate) struct Record {
    /// Where the rows go.
    file: File,
    /// For messages.
    path: PathBuf,
}

impl Record {
    /// Begins the record of a command, in the place of the one before.
    pub(crate) fn create(workspace: &Workspace, command: &str) -> Result<Self> {
        let folder = workspace.target.join("xtask");
        fs::create_dir_all(&folder).with_context(|| format!("{} not made", folder.display()))?;
        let path = folder.join(format!("{command}.jsonl"));
        let file = File::create(&path).with_context(|| format!("{} not made", path.display()))?;
        Ok(Self { file, path })
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, row: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .with_context(|| format!("row not written to {}", self.path.display()))
    }
}
