//! Rule: public waiting operations are functions that return a named future, and every public future
//! and stream is swept: testkit drops it at each of its await points.
//!
//! A sweep is a call `sweep("Name", ...)` in `crates/X/tests/`, where `Name` is the type's name, alone
//! or followed by what else there is to say (`"Acquire: weighted"`). An `async fn` has no name to
//! sweep by, and loses `#[track_caller]`; so has an `impl Future` or a `dyn Future` anywhere in what a
//! function returns. Two types of a crate have two names, or the sweep of one would pass for the
//! other's.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::source::{Source, ident, inside, is_cfg_test, is_path_separator, is_punct};
use super::{Finding, Tree};

/// Applies the rule to every crate but testkit.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Found<'_>> = BTreeMap::new();
    for source in &tree.sources {
        match source.crate_of_src() {
            None | Some("testkit") => {}
            Some(name) if !source.path.contains("/tests/") => {
                let found = crates.entry(name).or_default();
                found.source = Some(source);
                found.visit_file(&source.file);
            }
            Some(_) => {}
        }
    }

    let mut findings = Vec::new();
    for (name, found) in crates {
        let tests = format!("crates/{name}/tests/");
        let mut swept = BTreeSet::new();
        let mut known = BTreeSet::new();
        for source in tree.sources.iter().filter(|source| source.path.starts_with(&tests)) {
            sweeps(&source.tokens, &mut swept);
        }
        for (source, line, waits) in &found.waits {
            let public = found.public.contains(&waits.name);
            if public && !known.insert((&waits.name, waits.what)) {
                let Waits { name: future, what } = waits;
                let message = format!(
                    "`{future}` is the second {what} of that name here, and a sweep would not say \
                     which it sweeps; rename one"
                );
                findings.push(Finding::new(&source.path, *line, message));
            }
            if public && !swept.contains(&waits.name) {
                let Waits { name: future, what } = waits;
                let message = format!(
                    "the public {what} `{future}` is not swept; add a test with \
                     `sweep(\"{future}\", ...)` below {tests}"
                );
                findings.push(Finding::new(&source.path, *line, message));
            }
        }
        for (source, line, what) in &found.unnamed {
            let message = format!(
                "{what}; make it a `#[track_caller] fn` that returns a named `#[must_use]` future"
            );
            findings.push(Finding::new(&source.path, *line, message));
        }
    }
    findings
}

/// A type that waits.
struct Waits {
    name: String,
    what: &'static str,
}

/// What a crate declares.
#[derive(Default)]
struct Found<'a> {
    /// The file that is visited now.
    source: Option<&'a Source>,
    /// The public types.
    public: BTreeSet<String>,
    /// The types that are futures or streams.
    waits: Vec<(&'a Source, usize, Waits)>,
    /// The public functions whose future has no name.
    unnamed: Vec<(&'a Source, usize, String)>,
}

impl<'a> Found<'a> {
    fn declared(&mut self, visibility: &syn::Visibility, name: &syn::Ident) {
        if matches!(visibility, syn::Visibility::Public(_)) {
            self.public.insert(name.to_string());
        }
    }

    fn function(&mut self, visibility: &syn::Visibility, signature: &syn::Signature) {
        if !matches!(visibility, syn::Visibility::Public(_)) {
            return;
        }
        let Some(source) = self.source else { return };
        let (name, line) = (&signature.ident, signature.span().start().line);
        if signature.asyncness.is_some() {
            let what = format!("`{name}` is a public `async fn`");
            self.unnamed.push((source, line, what));
        } else if let Some(what) = returned_unnamed(&signature.output) {
            let what = format!("`{name}` is public and returns `{what}`");
            self.unnamed.push((source, line, what));
        }
    }
}

impl<'a> Visit<'a> for Found<'a> {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if !module.attrs.iter().any(is_cfg_test) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        self.declared(&item.vis, &item.ident);
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        self.declared(&item.vis, &item.ident);
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.function(&item.vis, &item.sig);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.function(&item.vis, &item.sig);
    }

    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        for inner in &item.items {
            if let syn::TraitItem::Fn(function) = inner {
                self.function(&item.vis, &function.sig);
            }
        }
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        if let (Some(source), Some(what), Some(name)) =
            (self.source, waiting_trait(item), type_name(&item.self_ty))
        {
            let line = item.span().start().line;
            self.waits.push((source, line, Waits { name, what }));
        }
        visit::visit_item_impl(self, item);
    }
}

/// `future` or `stream`, for an impl of these traits.
fn waiting_trait(item: &syn::ItemImpl) -> Option<&'static str> {
    let (path, _) = item.trait_.as_ref()?;
    let name = path.segments.last()?;
    [("Future", "future"), ("Stream", "stream")]
        .into_iter()
        .find_map(|(ident, what)| (name.ident == ident).then_some(what))
}

/// The name of a plain type, its generics aside.
fn type_name(of: &syn::Type) -> Option<String> {
    match of {
        syn::Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        syn::Type::Group(group) => type_name(&group.elem),
        syn::Type::Paren(paren) => type_name(&paren.elem),
        _ => None,
    }
}

/// The first `impl Future` or `dyn Stream` in what a function returns, however deep.
fn returned_unnamed(output: &syn::ReturnType) -> Option<String> {
    let mut unnamed = Unnamed(None);
    unnamed.visit_return_type(output);
    unnamed.0
}

/// Looks for a future without a name in a type.
struct Unnamed(Option<String>);

impl Unnamed {
    fn bounds<'a>(&mut self, keyword: &str, bounds: impl Iterator<Item = &'a syn::TypeParamBound>) {
        for bound in bounds {
            let syn::TypeParamBound::Trait(bound) = bound else { continue };
            let name = bound.path.segments.last().map(|last| last.ident.to_string());
            if let Some(name @ ("Future" | "IntoFuture" | "Stream")) = name.as_deref() {
                self.0.get_or_insert_with(|| format!("{keyword} {name}"));
            }
        }
    }
}

impl<'a> Visit<'a> for Unnamed {
    fn visit_type_impl_trait(&mut self, of: &'a syn::TypeImplTrait) {
        self.bounds("impl", of.bounds.iter());
        visit::visit_type_impl_trait(self, of);
    }

    fn visit_type_trait_object(&mut self, of: &'a syn::TypeTraitObject) {
        self.bounds("dyn", of.bounds.iter());
        visit::visit_type_trait_object(self, of);
    }

    fn visit_path_segment(&mut self, segment: &'a syn::PathSegment) {
        // The names that futures-util has for a boxed `dyn Future`.
        let name = segment.ident.to_string();
        if matches!(&*name, "BoxFuture" | "LocalBoxFuture" | "BoxStream" | "LocalBoxStream") {
            self.0.get_or_insert(name);
        }
        visit::visit_path_segment(self, segment);
    }
}

/// The names in `sweep("Name", ...)` and `sweep::<T>("Name", ...)`, also inside of macros.
fn sweeps(tokens: &[TokenTree], names: &mut BTreeSet<String>) {
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            sweeps(&inside(group), names);
        }
        if ident(Some(token)).as_deref() != Some("sweep") {
            continue;
        }
        let mut arguments = at + 1;
        if is_path_separator(tokens, arguments) && is_punct(tokens.get(arguments + 2), '<') {
            // The arguments stand behind the `>` that closes the generics.
            let call = |at: &usize| {
                is_punct(tokens.get(at - 1), '>') && matches!(tokens[*at], TokenTree::Group(_))
            };
            arguments = (arguments + 3..tokens.len()).find(call).unwrap_or(arguments);
        }
        if let Some(TokenTree::Group(group)) = tokens.get(arguments)
            && group.delimiter() == Delimiter::Parenthesis
            && let Some(TokenTree::Literal(first)) = inside(group).first()
            && let Some(text) = first.to_string().strip_prefix('"')
        {
            let name = |char: &char| char.is_alphanumeric() || *char == '_';
            names.insert(text.chars().take_while(name).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::summary;

    fn found(src: &str, test: &str) -> Vec<String> {
        let (src, test) = (format!("//! A.\n{src}\n"), format!("//! B.\n{test}\n"));
        let tree = [("crates/sync/src/a.rs", &*src), ("crates/sync/tests/sweep.rs", &*test)];
        summary(&check(&Tree::of(&tree)))
    }

    const NONE: [&str; 0] = [];

    const FUTURE: &str = "pub struct Acquire<'a>(&'a ());
        impl<'a> core::future::Future for Acquire<'a> { type Output = (); }";

    #[test]
    fn a_public_future_without_a_sweep_is_found() {
        let what = "crates/sync/src/a.rs:3: the public future `Acquire` is not swept";
        assert_eq!(found(FUTURE, ""), [what]);
        assert_eq!(found(FUTURE, "fn t() { sweep(\"AcquireOwned\", || ()); }"), [what]);
        assert_eq!(found(FUTURE, "// sweep(\"Acquire\")"), [what]);
        let stream = FUTURE.replace("core::future::Future", "Stream");
        assert!(found(&stream, "")[0].contains("public stream"));
    }

    #[test]
    fn a_sweep_anywhere_in_the_tests_will_do() {
        assert_eq!(found(FUTURE, "fn t() { sweep(\"Acquire\", || ()); }"), NONE);
        assert_eq!(
            found(FUTURE, "fn t() { testkit::sweep(\n\"Acquire: weighted\",\n|| ()); }"),
            NONE
        );
        assert_eq!(found(FUTURE, "fn t() { sweep::<(), _>(\"Acquire\", || ()); }"), NONE);
        assert_eq!(found(FUTURE, "fn t() { all!({ sweep(\"Acquire\", || ()) }); }"), NONE);
    }

    #[test]
    fn the_sweep_of_one_does_not_pass_for_another_of_its_name() {
        let two = format!("{FUTURE}\nmod b {{ {FUTURE} }}");
        let found = found(&two, "fn t() { sweep(\"Acquire\", || ()); }");
        assert!(
            found.len() == 1 && found[0].contains("`Acquire` is the second future"),
            "{found:?}"
        );
    }

    #[test]
    fn private_futures_need_none() {
        assert_eq!(found(&FUTURE.replace("pub struct", "pub(crate) struct"), ""), NONE);
        assert_eq!(found(&FUTURE.replace("pub struct", "struct"), ""), NONE);
        assert_eq!(found(&format!("#[cfg(test)]\nmod tests {{ {FUTURE} }}"), ""), NONE);
    }

    #[test]
    fn the_type_and_its_impl_may_be_in_two_files() {
        let tree = Tree::of(&[
            ("crates/sync/src/a.rs", "//! A.\npub enum Wait {}\n"),
            ("crates/sync/src/b.rs", "//! B.\nimpl Future for a::Wait { type Output = (); }\n"),
        ]);
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn public_functions_return_named_futures() {
        let what = "crates/sync/src/a.rs:2: `a` is a public `async fn`";
        assert_eq!(found("pub async fn a() {}", ""), [what]);
        assert_eq!(found("async fn a() {}\npub(crate) async fn b() {}", ""), NONE);
        assert_eq!(found("impl X { pub async fn a(&self) {} }", ""), [what]);
        assert_eq!(found("pub trait X { async fn a(&self); }", ""), [what]);
        let unnamed = found("pub fn a() -> impl Future<Output = ()> + Send { b() }", "");
        assert_eq!(unnamed, ["crates/sync/src/a.rs:2: `a` is public and returns `impl Future`"]);
        let returns = |what: &str| found(&format!("pub fn a() -> {what} {{ b() }}"), "").len();
        assert_eq!(returns("Pin<Box<dyn Future<Output = ()> + Send>>"), 1);
        assert_eq!(returns("Result<impl Stream<Item = ()>, Error>"), 1);
        assert_eq!(returns("(u8, impl IntoFuture<Output = ()>)"), 1);
        assert_eq!(returns("Box<dyn Iterator<Item = ()>>"), 0);
        for boxed in ["BoxFuture<'static, ()>", "Option<stream::LocalBoxStream<'_, u8>>"] {
            assert_eq!(found(&format!("pub fn a() -> {boxed} {{ b() }}"), "").len(), 1, "{boxed}");
        }
        assert_eq!(found("pub fn a() -> Acquire<'static> { b() }", ""), NONE);
        assert_eq!(found("pub fn a(f: impl Future<Output = ()>) {}", ""), NONE);
    }

    #[test]
    fn testkit_is_free() {
        let tree = Tree::of(&[("crates/testkit/src/a.rs", "//! A.\npub async fn a() {}\n")]);
        assert!(check(&tree).is_empty());
    }
}
