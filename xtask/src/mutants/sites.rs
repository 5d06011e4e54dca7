//! The places in a crate's source where a mutant can be put, and the mutants of each.
//!
//! They are found in the syntax tree, not in what a model happens to reach: a place that no model
//! reaches is a survivor. The shim knows a place as `Location::caller()` prints it, so a place is
//! the first character of a method's name or of a function's path.
//!
//! | in the source | mutants |
//! |---|---|
//! | an atomic operation with an ordering | each weaker one; the failure ordering apart |
//! | `fence(..)` | `fence-dropped` |
//! | `wake(..)`, `notify_one`, `notify_all`, `grant_while`, `grant_each`, `grant_from`, `serve_each`, `WakeBatch::new()` | `wake-dropped` |
//! | `release_then(..)` | `lock-held` |
//!
//! What has no place of its own is an error that says how to give it one: an operation in a
//! `#[track_caller]` function (it has the caller's), in a macro's arguments, or a function that is
//! passed as a value or renamed. So is an ordering that is not written out in the call that it
//! orders: a constant, an argument that is passed on, an operation called by its path.

use anyhow::{Result, bail, ensure};
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// One mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mutant {
    /// The file, relative to the workspace, with `/`.
    pub(super) file: String,
    /// From 1.
    pub(super) line: usize,
    /// From 1.
    pub(super) column: usize,
    /// Function and operation, `Cell::raise fetch_or`; with a number from the second on. It stays
    /// when lines move.
    pub(super) site: String,
    /// What is done there, in the shim's words.
    pub(super) kind: &'static str,
}

impl Mutant {
    /// The place as the shim prints it.
    pub(super) fn place(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.column)
    }

    /// As `SELVEDGE_MUTANT` takes it.
    pub(super) fn variable(&self) -> String {
        format!("{}:{}", self.place(), self.kind)
    }
}

/// The mutants of a file, in the order of its lines, and how many sites they stand at.
pub(super) fn of_file(file: &str, text: &str) -> Result<(usize, Vec<Mutant>)> {
    let tree = match syn::parse_file(text) {
        Ok(tree) => tree,
        Err(error) => bail!("{file}:{}: {error}", error.span().start().line),
    };
    let mut finder = Finder {
        names: Vec::new(),
        borrowed: vec![false],
        found: Vec::new(),
        homeless: Vec::new(),
    };
    finder.visit_file(&tree);
    ensure!(
        finder.homeless.is_empty(),
        "mutants have no place of their own:\n  {}",
        finder
            .homeless
            .iter()
            .map(|(line, why)| format!("{file}:{line}: {why}"))
            .collect::<Vec<_>>()
            .join("\n  ")
    );
    let sites = finder.found.len();
    let mut seen = std::collections::BTreeMap::new();
    let mut mutants = Vec::new();
    for Found { site, line, column, kinds } in finder.found {
        let count = seen.entry(site.clone()).and_modify(|count| *count += 1).or_insert(1);
        let site = if *count == 1 { site } else { format!("{site} {count}") };
        mutants.extend(kinds.into_iter().map(|kind| Mutant {
            file: file.to_owned(),
            line,
            column,
            site: site.clone(),
            kind,
        }));
    }
    Ok((sites, mutants))
}

/// A site.
struct Found {
    /// Function and operation.
    site: String,
    /// From 1.
    line: usize,
    /// From 1.
    column: usize,
    /// What can be done there.
    kinds: Vec<&'static str>,
}

/// Walks a file.
struct Finder {
    /// The type or trait, the function: what is being walked.
    names: Vec<String>,
    /// Whether the innermost function or closure has its caller's place.
    borrowed: Vec<bool>,
    /// What was found.
    found: Vec<Found>,
    /// Lines of what has no place, and why.
    homeless: Vec<(usize, String)>,
}

/// Functions of the shim whose calls are sites.
const FUNCTIONS: [(&str, &str); 3] =
    [("fence", "fence-dropped"), ("wake", "wake-dropped"), ("release_then", "lock-held")];

/// What goes past the shim as a value: std's own, that nothing can drop.
const PAST: &str = "wake_by_ref";

/// What orders memory.
const ORDERINGS: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

/// Methods whose calls are sites.
const WAKES: [&str; 6] =
    ["notify_one", "notify_all", "grant_while", "grant_each", "grant_from", "serve_each"];

/// Atomic operations with one ordering, which is the last argument.
const ATOMICS: [&str; 7] =
    ["load", "store", "swap", "fetch_add", "fetch_sub", "fetch_or", "fetch_and"];

/// Atomic operations with two orderings, of success and of failure.
const EXCHANGES: [&str; 3] = ["compare_exchange", "compare_exchange_weak", "fetch_update"];

impl Finder {
    /// Adds a site.
    fn add(&mut self, operation: &str, at: Span, kinds: Vec<&'static str>) {
        let start = at.start();
        if self.borrowed.last() == Some(&true) && !kinds.is_empty() {
            // Its callers' calls are the sites.
            if self.names.last().is_some_and(|name| WAKES.contains(&name.as_str())) {
                return;
            }
            let why = format!(
                "`{operation}` in a `#[track_caller]` function has its caller's place; move it \
                 into a function without the attribute"
            );
            self.homeless.push((start.line, why));
            return;
        }
        if !kinds.is_empty() {
            let site = format!("{} {operation}", self.names.join("::"));
            self.found.push(Found { site, line: start.line, column: start.column + 1, kinds });
        }
    }

    /// Walks something that has a name.
    fn named(&mut self, name: String, walk: impl FnOnce(&mut Self)) {
        self.names.push(name);
        walk(self);
        self.names.pop();
    }

    /// Walks a function.
    fn function(
        &mut self,
        attributes: &[syn::Attribute],
        name: &syn::Ident,
        walk: impl FnOnce(&mut Self),
    ) {
        self.borrowed.push(attributes.iter().any(|it| it.path().is_ident("track_caller")));
        self.named(name.to_string(), walk);
        self.borrowed.pop();
    }
}

impl<'a> Visit<'a> for Finder {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if !module.attrs.iter().any(crate::tidy::is_cfg_test) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        let name = match &*item.self_ty {
            syn::Type::Path(path) => last(&path.path),
            _ => None,
        };
        let name = name.unwrap_or_else(|| "impl".to_owned());
        self.named(name, |finder| visit::visit_item_impl(finder, item));
    }

    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        self.named(item.ident.to_string(), |finder| visit::visit_item_trait(finder, item));
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.function(&item.attrs, &item.sig.ident, |finder| visit::visit_item_fn(finder, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.function(&item.attrs, &item.sig.ident, |finder| {
            visit::visit_impl_item_fn(finder, item);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        self.function(&item.attrs, &item.sig.ident, |finder| {
            visit::visit_trait_item_fn(finder, item);
        });
    }

    fn visit_expr_closure(&mut self, closure: &'a syn::ExprClosure) {
        // A closure does not inherit the attribute.
        self.borrowed.push(false);
        visit::visit_expr_closure(self, closure);
        self.borrowed.pop();
    }

    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        // The receiver's sites come first, as they are read.
        visit::visit_expr(self, &call.receiver);
        let (method, at) = (call.method.to_string(), call.method.span());
        let orderings = |last: usize| -> Vec<String> {
            let skip = call.args.len().saturating_sub(last);
            call.args.iter().skip(skip).filter_map(ordering).collect()
        };
        if WAKES.contains(&method.as_str()) {
            self.add(&method, at, vec!["wake-dropped"]);
        } else if ATOMICS.contains(&method.as_str()) {
            if let [order] = orderings(1).as_slice() {
                self.add(&method, at, weaker(order, &method));
            }
        } else if EXCHANGES.contains(&method.as_str())
            && let [success, failure] = orderings(call.args.len()).as_slice()
        {
            let mut kinds = weaker(success, &method);
            kinds.extend((failure != "Relaxed").then_some("failure-relaxed"));
            self.add(&method, at, kinds);
        } else if matches!(method.as_str(), "wake" | "wake_by_ref") && call.args.is_empty() {
            let why = format!("`.{method}()` goes past the shim; call `wake(waker)` of primitives");
            self.homeless.push((at.start().line, why));
        }
        let ordered = match method.as_str() {
            name if ATOMICS.contains(&name) => 1,
            name if EXCHANGES.contains(&name) => call.args.len(),
            _ => 0,
        };
        self.arguments(&call.args, ordered);
    }

    fn visit_expr_call(&mut self, call: &'a syn::ExprCall) {
        let syn::Expr::Path(callee) = &*call.func else {
            return visit::visit_expr_call(self, call);
        };
        let names: Vec<_> =
            callee.path.segments.iter().map(|part| part.ident.to_string()).collect();
        if names.ends_with(&["WakeBatch".to_owned(), "new".to_owned()]) {
            self.add("WakeBatch::new", callee.span(), vec!["wake-dropped"]);
        } else if let Some((name, kind)) = function(&callee.path) {
            self.add(name, callee.span(), vec![kind]);
        } else {
            // `Waker::wake_by_ref(..)`, `WakeBatch::default()`.
            self.past(&callee.path);
        }
        let ordered = usize::from(names.last().is_some_and(|name| name == "fence"));
        self.arguments(&call.args, ordered);
    }

    fn visit_expr_path(&mut self, path: &'a syn::ExprPath) {
        // Calls are handled above and do not come here: this is a value.
        if let Some((name, _)) = function(&path.path) {
            let why = format!("`{name}` is passed as a value; call it in a closure");
            self.homeless.push((path.span().start().line, why));
        } else if let Some(order) = order_of(&path.path) {
            let why = format!(
                "`Ordering::{order}` orders nothing that is called here; write it out in the method \
                 call of the operation"
            );
            self.homeless.push((path.span().start().line, why));
        } else {
            self.past(&path.path);
        }
    }

    fn visit_use_rename(&mut self, import: &'a syn::UseRename) {
        let name = import.ident.to_string();
        if names_site(&name) && import.rename != "_" {
            let why = format!("`{name}` under another name is not found; import it as it is");
            self.homeless.push((import.span().start().line, why));
        }
    }

    fn visit_item_type(&mut self, alias: &'a syn::ItemType) {
        if let syn::Type::Path(path) = &*alias.ty
            && let Some(name) = last(&path.path).filter(|name| names_site(name))
        {
            let why = format!("`{name}` under another name is not found; call it as it is");
            self.homeless.push((alias.span().start().line, why));
        }
    }

    fn visit_macro(&mut self, makro: &'a syn::Macro) {
        for (name, line) in words(makro.tokens.clone()) {
            let ours = FUNCTIONS.iter().any(|(function, _)| *function == name);
            let method = WAKES.contains(&name.as_str()) || EXCHANGES.contains(&name.as_str());
            let past = name == PAST || name == "WakeBatch";
            if ours || method || past || name == "Ordering" {
                let why = format!("`{name}` in the arguments of a macro; move it out of them");
                self.homeless.push((line, why));
            }
        }
    }
}

impl Finder {
    /// Walks the arguments of a call, of which some of the last ones are its orderings if they are
    /// written out.
    fn arguments(&mut self, arguments: &Arguments, ordered: usize) {
        let plain = arguments.len().saturating_sub(ordered);
        for (at, argument) in arguments.iter().enumerate() {
            if at < plain || ordering(argument).is_none() {
                visit::visit_expr(self, argument);
            }
        }
    }

    /// Refuses what wakes, or makes a batch of wakes, without a place.
    fn past(&mut self, path: &syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        let why = match names.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [_, .., name] if WAKES.contains(name) => {
                format!("`{name}` by its path is not found; write it as a method call")
            }
            [.., PAST] => format!("`{PAST}` goes past the shim; call `wake(waker)` of primitives"),
            [.., "WakeBatch", "default"] => {
                "`WakeBatch::default` has no place; call `WakeBatch::new`".to_owned()
            }
            _ => return,
        };
        self.homeless.push((path.span().start().line, why));
    }
}

/// The arguments of a call.
type Arguments = syn::punctuated::Punctuated<syn::Expr, syn::Token![,]>;

/// Whether calls of this name are sites.
fn names_site(name: &str) -> bool {
    name == "WakeBatch" || FUNCTIONS.iter().any(|(function, _)| *function == name)
}

/// The shim's function that a path names, and its mutant.
fn function(path: &syn::Path) -> Option<(&'static str, &'static str)> {
    let name = last(path)?;
    FUNCTIONS.into_iter().find(|(function, _)| *function == name)
}

/// The last name of a path.
fn last(path: &syn::Path) -> Option<String> {
    Some(path.segments.last()?.ident.to_string())
}

/// The ordering that an argument names.
fn ordering(argument: &syn::Expr) -> Option<String> {
    let syn::Expr::Path(path) = argument else { return None };
    order_of(&path.path)
}

/// The ordering of memory that a path names, as opposed to that of `cmp`.
fn order_of(path: &syn::Path) -> Option<String> {
    let mut names = path.segments.iter().rev().map(|part| part.ident.to_string());
    let (order, of) = (names.next()?, names.next()?);
    (of == "Ordering" && ORDERINGS.contains(&order.as_str())).then_some(order)
}

/// What an ordering can be weakened to, for this operation.
fn weaker(order: &str, operation: &str) -> Vec<&'static str> {
    match order {
        "Acquire" | "Release" => vec!["relaxed"],
        "AcqRel" => vec!["relaxed", "acquire", "release"],
        "SeqCst" if operation == "load" => vec!["relaxed", "acquire"],
        "SeqCst" if operation == "store" => vec!["relaxed", "release"],
        "SeqCst" => vec!["relaxed", "acquire", "release"],
        _ => Vec::new(),
    }
}

/// The identifiers among tokens, with their lines.
fn words(tokens: TokenStream) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                found.push((ident.to_string(), ident.span().start().line));
            }
            TokenTree::Group(group) => found.extend(words(group.stream())),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let (_, mutants) = of_file("a.rs", text).unwrap();
        mutants
            .iter()
            .map(|it| format!("{}:{} {} {}", it.line, it.column, it.site, it.kind))
            .collect()
    }

    fn refused(text: &str) -> String {
        of_file("a.rs", text).unwrap_err().to_string()
    }

    #[test]
    fn an_operation_stands_at_its_name_and_is_weakened_step_by_step() {
        let text = "impl Cell {\n    fn raise(&self) {\n        self.word.fetch_or(1, Ordering::AcqRel);\n    }\n}";
        let kinds = ["relaxed", "acquire", "release"];
        assert_eq!(found(text), kinds.map(|kind| format!("3:19 Cell::raise fetch_or {kind}")));
    }

    #[test]
    fn success_and_failure_are_apart_and_relaxed_has_no_mutant() {
        let cas =
            |orders: &str| found(&format!("fn f() {{ a.compare_exchange(1, 2, {orders}); }}"));
        assert_eq!(
            cas("Ordering::Acquire, Ordering::Acquire"),
            ["1:12 f compare_exchange relaxed", "1:12 f compare_exchange failure-relaxed"]
        );
        assert_eq!(
            cas("Ordering::Release, Ordering::Relaxed"),
            ["1:12 f compare_exchange relaxed"]
        );
        assert!(cas("Ordering::Relaxed, Ordering::Relaxed").is_empty());
        assert_eq!(
            found("fn f() { a.fetch_update(Ordering::Release, Ordering::Acquire, g); }"),
            ["1:12 f fetch_update relaxed", "1:12 f fetch_update failure-relaxed"]
        );
        assert!(found("fn f() { a.load(Ordering::Relaxed); b.load(x); a.cmp(b) }").is_empty());
    }

    #[test]
    fn wakes_fences_batches_and_releases_are_sites() {
        let text = "fn f() {\n fence(Ordering::AcqRel);\n crate::release_then(a, || wake(w));\n q.grant_while(l, g);\n let b = WakeBatch::new();\n c.notify_one();\n}";
        assert_eq!(
            found(text),
            [
                "2:2 f fence fence-dropped",
                "3:2 f release_then lock-held",
                "3:28 f wake wake-dropped",
                "4:4 f grant_while wake-dropped",
                "5:10 f WakeBatch::new wake-dropped",
                "6:4 f notify_one wake-dropped",
            ]
        );
    }

    #[test]
    fn the_second_of_a_kind_in_a_function_has_a_number() {
        let sites = found("fn f() { wake(a); wake(b); }\nfn g() { wake(c); }");
        assert_eq!(
            sites,
            ["1:10 f wake wake-dropped", "1:19 f wake 2 wake-dropped", "2:10 g wake wake-dropped"]
        );
    }

    #[test]
    fn what_has_no_place_of_its_own_is_refused() {
        let borrowed = "#[track_caller]\nfn f() { wake(a); }";
        assert!(refused(borrowed).contains("a.rs:2: `wake` in a `#[track_caller]`"));
        assert_eq!(found("#[track_caller]\nfn f() { g(|| wake(a)); }").len(), 1);
        assert!(found("#[track_caller]\nfn grant_while() { WakeBatch::new(); }").is_empty());
        assert!(refused("fn f() { a.for_each(shim::wake); }").contains("passed as a value"));
        assert!(refused("fn f() { assert!(a.load(Ordering::Acquire)); }").contains("macro"));
        assert!(refused("fn f() { waker.wake(); }").contains("past the shim"));
        assert!(found("fn f() { cell.wake(level); }").is_empty());
    }

    #[test]
    fn an_ordering_that_is_not_written_out_in_its_call_is_refused() {
        let constant = "const O: Ordering = Ordering::Acquire;\nfn f() { a.load(O); }";
        assert!(refused(constant).contains("a.rs:1: `Ordering::Acquire` orders nothing"));
        assert!(refused("fn f() { add(&a, Ordering::AcqRel); }").contains("a.rs:1"));
        assert!(refused("fn f() { AtomicU8::load(&a, Ordering::Acquire); }").contains("a.rs:1"));
        assert!(refused("fn f() { a.fetch_max(1, Ordering::Release); }").contains("a.rs:1"));
        let chosen = "fn f() { a.load(if b { Ordering::Acquire } else { Ordering::Relaxed }); }";
        assert!(refused(chosen).contains("a.rs:1"));
        assert!(found("fn f() { a.cmp(&b) == Ordering::Less; }").is_empty());
        assert_eq!(
            found("fn f() { a.store(b.load(Ordering::Acquire), Ordering::Release); }").len(),
            2
        );
    }

    #[test]
    fn what_is_called_by_another_name_is_refused() {
        let renamed = "use selvedge_primitives::{wake as ring};\nfn f() { ring(a); }";
        assert!(refused(renamed).contains("a.rs:1: `wake` under another name"));
        assert!(refused("type Batch = WakeBatch;\nfn f() { Batch::new(); }").contains("a.rs:1"));
        assert!(refused("fn f() { WakeBatch::default(); }").contains("has no place"));
        assert!(refused("fn f() { take_or_else(WakeBatch::default); }").contains("has no place"));
        assert!(refused("fn f() { Waker::wake_by_ref(&a); }").contains("past the shim"));
        assert!(refused("fn f() { a.for_each(Waker::wake_by_ref); }").contains("past the shim"));
        assert!(refused("fn f() { Condvar::notify_all(&c); }").contains("by its path"));
        assert!(refused("fn f() { a.for_each(Condvar::notify_one); }").contains("by its path"));
        assert!(refused("fn f() { m!(WakeBatch::new()); }").contains("macro"));
        assert!(refused("fn f() { m!(Waker::wake_by_ref(a)); }").contains("macro"));
    }

    #[test]
    fn tests_have_no_sites() {
        assert!(found("#[cfg(test)]\nmod tests { fn f() { wake(a); waker.wake(); } }").is_empty());
    }
}
