//! Rule: `primitives` is the only door to atomics, cells, locks and threads, because what does not go
//! through it is invisible to the models.
//!
//! What `tokio::sync` has in their place is no more visible, and is found too.
//!
//! Renaming or spreading std or tokio itself (`use std as s`, `use std::*`) hides what comes of it, so that is
//! found as well.
//!
//! A file that must name std's own (what no model can reach: a watchdog, a signal thread) says so with
//! a line `// tidy: std-sync, <reason>`. Tests, examples, testkit and xtask are free.

use proc_macro2::{Delimiter, TokenTree};

use super::source::{Source, ident, inside, is_path_separator, is_punct};
use super::{Finding, Tree};

/// The line that exempts a file.
const EXEMPTION: &str = "// tidy: std-sync, ";

/// What of `std::sync` waits, or orders memory. `Arc`, `Weak` and the poison errors do not.
const SYNC: [&str; 9] =
    ["atomic", "Mutex", "RwLock", "Condvar", "Once", "LazyLock", "Barrier", "mpsc", "*"];

/// What of `std::thread` starts nothing and waits for nothing.
const THREAD_FREE: [&str; 3] = ["Result", "available_parallelism", "panicking"];

/// Applies the rule to the source of every crate but primitives and testkit.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        if matches!(source.crate_of_src(), None | Some("primitives" | "testkit")) || exempt(source)
        {
            continue;
        }
        let mut paths = Vec::new();
        collect(&source.tokens, &mut paths);
        for (line, path) in paths {
            if is_banned(&path) && !source.is_test(line) {
                let message = format!(
                    "`{}` is not seen by the models; take it from selvedge_primitives, or say \
                     `{EXEMPTION}<reason>` in this file",
                    path.join("::")
                );
                findings.push(Finding::new(&source.path, line, message));
            }
        }
    }
    findings
}

fn exempt(source: &Source) -> bool {
    let says = |text: &str| text.strip_prefix(EXEMPTION).is_some_and(|why| !why.trim().is_empty());
    source.comments.values().any(|comment| says(&comment.text))
}

/// Whether a path from the root of std or tokio leads to what the models must see.
fn is_banned(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        // Renamed, or all of it: what follows does not begin with std.
        [root] => root.ends_with(" as"),
        [_, "self" | "*"] => true,
        // All of it: what waits in there is tokio's own, and loom sees nothing of it.
        ["tokio", "sync", ..] => true,
        [_, "sync"] | [_, "thread"] | [_, "sync", "self"] => true,
        // The module, renamed or not, is a way to its `UnsafeCell`.
        [_, "cell"] | [_, "cell", "UnsafeCell" | "self" | "*", ..] => true,
        // The prefix takes in the guards and `OnceLock`.
        [_, "sync", name, ..] => SYNC.iter().any(|banned| name.starts_with(banned)),
        [_, "thread", name, ..] => !THREAD_FREE.contains(name),
        _ => false,
    }
}

/// The paths below `std`, `core` and `tokio`, in imports and in expressions alike.
fn collect(tokens: &[TokenTree], paths: &mut Vec<(usize, Vec<String>)>) {
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            collect(&inside(group), paths);
            continue;
        }
        let Some(name) = ident(Some(token)) else { continue };
        // `::std` is a root too, `a::std` is not.
        let inner = at >= 3
            && is_path_separator(tokens, at - 2)
            && ident(tokens.get(at - 3)).is_some_and(|name| may_lead(&name));
        if !matches!(name.as_str(), "std" | "core" | "tokio") || inner {
            continue;
        }
        if is_path_separator(tokens, at + 1) {
            follow(tokens, at, &mut Vec::new(), paths);
        } else if ident(tokens.get(at + 1)).as_deref() == Some("as") {
            paths.push((token.span().start().line, vec![format!("{name} as")]));
        }
    }
}

/// Whether a word before `::` is part of the path, and not a keyword that a path from the root comes
/// after, as in `use ::std`.
fn may_lead(word: &str) -> bool {
    matches!(word, "crate" | "self" | "super" | "Self")
        || syn::parse_str::<syn::Ident>(word).is_ok()
}

/// Follows a path from a token on; a group of an import forks it.
fn follow(
    tokens: &[TokenTree],
    at: usize,
    path: &mut Vec<String>,
    paths: &mut Vec<(usize, Vec<String>)>,
) {
    let Some(token) = tokens.get(at) else { return };
    let line = token.span().start().line;
    match token {
        TokenTree::Ident(name) => {
            path.push(name.to_string().trim_start_matches("r#").to_owned());
            if is_path_separator(tokens, at + 1) {
                follow(tokens, at + 3, path, paths);
            } else {
                paths.push((line, path.clone()));
            }
            path.pop();
        }
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
            let inner = inside(group);
            let mut begins = true;
            for (at, token) in inner.iter().enumerate() {
                if begins {
                    follow(&inner, at, path, paths);
                }
                begins = is_punct(Some(token), ',');
            }
        }
        _ if is_punct(Some(token), '*') => {
            path.push("*".to_owned());
            paths.push((line, path.clone()));
            path.pop();
        }
        // `std::mem::size_of::<T>`: what is before the generics is the path.
        _ => paths.push((line, path.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_in(path: &str, code: &str) -> Vec<String> {
        let text = format!("//! A.\n{code}\n");
        let name = |finding: &Finding| finding.message.split('`').nth(1).unwrap_or("").to_owned();
        check(&Tree::of(&[(path, &text)])).iter().map(name).collect()
    }

    fn found(code: &str) -> Vec<String> {
        found_in("crates/pool/src/a.rs", code)
    }

    #[test]
    fn what_the_models_must_see_is_found_in_imports_and_in_paths() {
        assert_eq!(found("use std::sync::atomic::AtomicU64;"), ["std::sync::atomic::AtomicU64"]);
        assert_eq!(found("use core::sync::atomic;"), ["core::sync::atomic"]);
        assert_eq!(
            found("use std::{io, sync::{Arc, Mutex, OnceLock}, thread};"),
            ["std::sync::Mutex", "std::sync::OnceLock", "std::thread"]
        );
        assert_eq!(found("use std::sync;"), ["std::sync"]);
        assert_eq!(found("use std::sync::*;"), ["std::sync::*"]);
        assert_eq!(found("fn a() { ::std::thread::spawn(|| ()); }"), ["std::thread::spawn"]);
        assert_eq!(found("fn a() { m!(std::sync::Condvar::new()); }"), ["std::sync::Condvar::new"]);
        assert_eq!(found("use std::cell::{Cell, UnsafeCell};"), ["std::cell::UnsafeCell"]);
    }

    #[test]
    fn what_tokio_offers_in_their_place_is_found() {
        assert_eq!(found("use tokio::sync::Mutex;"), ["tokio::sync::Mutex"]);
        assert_eq!(found("use tokio::{sync::{Notify, mpsc}, task};").len(), 2);
        assert_eq!(found("use tokio::sync as s;"), ["tokio::sync"]);
        assert_eq!(found("use tokio as t;"), ["tokio as"]);
        assert_eq!(found("fn a() { ::tokio::sync::Notify::new(); }").len(), 1);
        assert!(found("use tokio::{task::JoinHandle, time::Sleep};").is_empty());
    }

    #[test]
    fn what_is_renamed_is_found() {
        assert_eq!(found("use ::std::{sync as s};\nfn a() { s::Mutex::new(0); }"), ["std::sync"]);
        assert_eq!(found("use std::sync as s;"), ["std::sync"]);
        assert_eq!(found("use ::std::thread as t;"), ["std::thread"]);
        assert_eq!(found("use std::sync::{self as s};"), ["std::sync::self"]);
        assert_eq!(found("use std as s;"), ["std as"]);
        assert_eq!(found("use r#std::r#sync::r#Mutex;"), ["std::sync::Mutex"]);
        assert_eq!(found("pub use ::core as c;"), ["core as"]);
        assert_eq!(found("use {std as s};"), ["std as"]);
        assert_eq!(found("extern crate std as s;"), ["std as"]);
        assert_eq!(found("use std::{self as s, io};"), ["std::self"]);
        assert_eq!(found("use std::*;"), ["std::*"]);
        assert_eq!(found("struct A(pub ::std::sync::Mutex<u8>);"), ["std::sync::Mutex"]);
        assert_eq!(
            found("fn a() -> B { return ::std::sync::Condvar::new(); }"),
            ["std::sync::Condvar::new"]
        );
        assert!(found("use a::std as s;").is_empty());
        assert!(found("use std::io as i;").is_empty());
    }

    #[test]
    fn a_module_of_cells_is_a_way_to_the_unsafe_one() {
        assert_eq!(found("use std::cell;\nstruct A(cell::UnsafeCell<u8>);"), ["std::cell"]);
        assert_eq!(found("use core::cell as c;"), ["core::cell"]);
        assert_eq!(found("use std::cell::{self, Cell};"), ["std::cell::self"]);
        assert_eq!(found("use std::cell::*;"), ["std::cell::*"]);
        assert!(found("use std::cell::{Cell, RefCell};").is_empty());
        assert!(found("struct A(std::cell::Cell<u8>);").is_empty());
    }

    #[test]
    fn what_they_need_not_see_is_free() {
        assert!(found("use std::sync::{Arc, Weak, PoisonError};").is_empty());
        assert!(found("use std::{task::Poll, time::Instant};").is_empty());
        assert!(found("type P = std::thread::Result<()>;").is_empty());
        assert!(found("use selvedge_primitives::{atomic::AtomicU64, thread};").is_empty());
        assert!(found("use crate::std::sync::Mutex;").is_empty());
        assert!(found("use self::std::sync::Mutex;").is_empty());
        assert!(found("/// ```\n/// std::thread::spawn(|| ());\n/// ```\nfn a() {}").is_empty());
        assert!(found("fn a() { std::mem::size_of::<u8>(); }").is_empty());
    }

    #[test]
    fn tests_and_the_free_crates_are_free() {
        let code = "use std::sync::Mutex;";
        assert!(found_in("crates/pool/tests/a.rs", code).is_empty());
        assert!(found_in("crates/primitives/src/a.rs", code).is_empty());
        assert!(found_in("crates/testkit/src/a.rs", code).is_empty());
        assert!(found_in("crates/selvedge/examples/a.rs", code).is_empty());
        assert!(found_in("xtask/src/a.rs", code).is_empty());
        assert!(found("#[cfg(test)]\nmod tests { use std::sync::Mutex; }").is_empty());
    }

    #[test]
    fn an_exemption_needs_a_reason() {
        let code = "use std::thread;";
        assert!(found(&format!("// tidy: std-sync, the signal thread\n{code}")).is_empty());
        assert_eq!(found(&format!("// tidy: std-sync\n{code}")).len(), 1);
        assert_eq!(found(&format!("// tidy: std-sync, \n{code}")).len(), 1);
    }
}
