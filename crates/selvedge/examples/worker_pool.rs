//! Counts the words of the Rust files below a folder on a pool of threads: one file is not there, so its job
//! panics, and the ledger says so. (The panic hook prints its message as well, on standard error; a hook of
//! your own can silence it.)
//!
//! ```text
//! cargo run --example worker_pool
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use selvedge::cancel::Context;
use selvedge::pool::{JobError, Pool};

/// The Rust files below a folder.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![folder.join("not-there.rs")];
    rust_files(folder, &mut files)?;
    files.sort();

    let pool = Pool::builder().name("words").workers(2).queue(4).build(&Context::background())?;
    let mut jobs = Vec::new();
    for path in files {
        // Waits while four are queued.
        let job = pool.submit({
            let path = path.clone();
            move |_ctx| {
                let text = fs::read_to_string(&path).expect("a file that is there");
                text.split_whitespace().count()
            }
        });
        jobs.push((path, job.await?));
    }
    let mut words = 0;
    for (path, job) in jobs {
        let path = path.strip_prefix(folder)?.display().to_string();
        match job.await {
            Ok(count) => {
                words += count;
                println!("{count:>6}  {path}");
            }
            Err(JobError::Panicked(panic)) => println!("     -  {path}: {panic}"),
            Err(error) => println!("     -  {path}: {error}"),
        }
    }
    println!("{words:>6}  in all");
    println!("{}", pool.drain().await);
    Ok(())
}
