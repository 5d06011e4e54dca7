//! Hashing one file, in chunks, looking at the context between them.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use selvedge::cancel::Context;
use sha2::{Digest, Sha256};

/// How much is read at a time: large enough that a chunk costs little more than its hashing, small
/// enough that a cancelled context is seen within a millisecond.
const CHUNK: usize = 128 * 1024;

thread_local! {
    /// Each worker thread's buffer.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// What became of a file.
pub(crate) enum Hashed {
    /// Its digest, and how many bytes it had.
    Digest([u8; 32], u64),
    /// It could not be read.
    Failed(io::Error),
    /// The context was cancelled first.
    Interrupted,
}

/// Hashes a file unless `ctx` is cancelled first.
pub(crate) fn hash(path: &Path, ctx: &Context) -> Hashed {
    BUFFER.with_borrow_mut(|buffer| match read(path, ctx, buffer) {
        Ok(Some((digest, bytes))) => Hashed::Digest(digest, bytes),
        Ok(None) => Hashed::Interrupted,
        Err(error) => Hashed::Failed(error),
    })
}

/// Reads to the end; none if the context was cancelled first.
fn read(path: &Path, ctx: &Context, buffer: &mut [u8]) -> io::Result<Option<([u8; 32], u64)>> {
    if ctx.is_cancelled() {
        return Ok(None);
    }
    let mut file = File::open(path)?;
    let mut sha = Sha256::new();
    let mut bytes = 0;
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(Some((sha.finalize().into(), bytes))),
            Ok(n) => {
                sha.update(&buffer[..n]);
                bytes += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if ctx.is_cancelled() {
            return Ok(None);
        }
    }
}
