//! Source code as text: identifiers and their parts, functions with their documentation, and fingerprints of structure.

use crate::TextError;
use crate::hash::fnv1a;
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet, VecDeque};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The lower-case parts of every identifier in `text`: split at separators, at a change between letters and digits, before a capital
/// that follows a small letter, and before the last capital of an acronym that a small letter follows.
///
/// ```
/// use eas_text::code::split_identifiers;
///
/// assert_eq!(split_identifiers("parseHTTPResponse2xx_fast"), ["parse", "http", "response", "2", "xx", "fast"]);
/// assert_eq!(split_identifiers("BM25Index::top_k"), ["bm", "25", "index", "top", "k"]);
/// ```
pub fn split_identifiers(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut previous = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() {
            let digit_edge = previous.is_numeric() != c.is_numeric();
            let camel_edge = previous.is_lowercase() && c.is_uppercase();
            let acronym_edge =
                previous.is_uppercase() && c.is_uppercase() && chars.peek().is_some_and(|next| next.is_lowercase());
            if digit_edge || camel_edge || acronym_edge {
                flush(&mut part, &mut parts);
            }
            part.extend(c.to_lowercase());
        } else {
            flush(&mut part, &mut parts);
        }
        previous = c;
    }
    flush(&mut part, &mut parts);
    parts
}

fn flush(part: &mut String, parts: &mut Vec<String>) {
    if !part.is_empty() {
        parts.push(std::mem::take(part));
    }
}

/// A function, method, or, where a file cannot be parsed, a whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeItem {
    /// `path::Type::function@hash`; the hash of signature and body keeps functions of equal name apart.
    pub id: String,
    /// Lower-case name of the programming language.
    pub language: String,
    /// The function's name, without its path.
    pub name: String,
    /// From the visibility to the return type.
    pub signature: String,
    /// The block with its inner comments, without the documentation.
    pub body: String,
    /// The documentation, one line a doc line; empty when there is none.
    pub doc: String,
    /// Names of the test functions of the file that mention the name.
    pub tests: Vec<String>,
}

impl CodeItem {
    /// The first sentence of the documentation, on one line.
    pub fn summary(&self) -> String {
        let text = self.doc.split_whitespace().collect::<Vec<_>>().join(" ");
        crate::sentences::sentences(&text).first().map_or_else(String::new, |s| s.text.to_owned())
    }

    /// What is indexed of the item: its name twice (it says most), signature and body, and the documentation only when asked for.
    pub fn text(&self, with_doc: bool) -> String {
        let doc = if with_doc { self.doc.as_str() } else { "" };
        [&self.name, &self.name, &self.signature, &self.body, doc].join("\n")
    }
}

/// The functions of a Rust source file in order of appearance: free functions, methods, async ones, and those nested in other functions.
/// Test functions are not items, but are named in [`CodeItem::tests`]. A file that does not parse, or is of another language (by the
/// ending of `path`), is one item.
///
/// ```
/// use eas_text::code::extract_functions;
///
/// let items = extract_functions("math.rs", "/// Adds one. Twice is two.\npub fn next(x: i32) -> i32 { x + 1 }");
/// assert_eq!(items[0].signature, "pub fn next(x: i32) -> i32");
/// assert_eq!(items[0].summary(), "Adds one.");
/// assert!(items[0].id.starts_with("math.rs::next@"));
/// ```
pub fn extract_functions(path: &str, source: &str) -> Vec<CodeItem> {
    let whole = || {
        let file = path.rsplit('/').next().unwrap_or(path);
        let stem = file.split('.').next().unwrap_or(file);
        vec![item(path, &[stem.to_owned()], stem, String::new(), source.to_owned(), String::new())]
    };
    if language(path) != "rust" {
        return whole();
    }
    let Ok(file) = syn::parse_file(source) else {
        return whole();
    };
    let mut functions = Functions { path, source, scope: Vec::new(), items: Vec::new(), tests: Vec::new() };
    functions.visit_file(&file);
    let Functions { mut items, tests, .. } = functions;
    for item in &mut items {
        let mentions =
            |body: &str| body.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == item.name);
        item.tests = tests.iter().filter(|(_, body)| mentions(body)).map(|(name, _)| name.clone()).collect();
    }
    items
}

fn item(path: &str, scope: &[String], name: &str, signature: String, body: String, doc: String) -> CodeItem {
    let hash = fnv1a(format!("{signature}{body}").as_bytes());
    CodeItem {
        id: format!("{path}::{}@{hash:016x}", scope.join("::")),
        language: language(path).to_owned(),
        name: name.to_owned(),
        signature,
        body,
        doc,
        tests: Vec::new(),
    }
}

/// The language of a file by the ending of its name, which stands for itself where it isn't known.
fn language(path: &str) -> &str {
    match path.rsplit_once('.') {
        None | Some((_, "rs")) => "rust",
        Some((_, "py")) => "python",
        Some((_, ending)) => ending,
    }
}

/// Items as JSON, one a line.
pub fn write_items(items: &[CodeItem]) -> Result<String, TextError> {
    let mut lines = String::new();
    for item in items {
        let line = serde_json::to_string(item).map_err(|error| snapshot_error(&item.id, &error))?;
        lines.push_str(&line);
        lines.push('\n');
    }
    Ok(lines)
}

/// Reads what [`write_items`] wrote; an error names the line that is no item.
pub fn read_items(bytes: &[u8]) -> Result<Vec<CodeItem>, TextError> {
    let lines = bytes.split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(at, line)| {
            serde_json::from_slice(line).map_err(|error| snapshot_error(&format!("line {}", at + 1), &error))
        })
        .collect()
}

fn snapshot_error(place: &str, error: &serde_json::Error) -> TextError {
    TextError::Argument { name: "code snapshot", got: place.to_owned(), expected: format!("an item ({error})") }
}

struct Functions<'a> {
    path: &'a str,
    source: &'a str,
    /// Names of the modules, types and functions around.
    scope: Vec<String>,
    items: Vec<CodeItem>,
    /// Names and bodies of test functions.
    tests: Vec<(String, String)>,
}

impl Functions<'_> {
    fn function(
        &mut self,
        attributes: &[syn::Attribute],
        signature_start: usize,
        signature: &syn::Signature,
        block: &syn::Block,
    ) {
        let name = signature.ident.to_string();
        let (head, body) = (signature.span().byte_range(), block.span().byte_range());
        let slice = |from: usize, to: usize| self.source.get(from..to).unwrap_or("").trim().to_owned();
        if attributes.iter().any(|a| a.path().segments.last().is_some_and(|s| s.ident == "test")) {
            self.tests.push((name.clone(), slice(body.start, body.end)));
        } else {
            let mut scope = self.scope.clone();
            scope.push(name.clone());
            let (signature, body) = (slice(signature_start.min(head.start), body.start), slice(body.start, body.end));
            self.items.push(item(self.path, &scope, &name, signature, body, documentation(attributes)));
        }
        self.scope.push(name);
        visit::visit_block(self, block);
        self.scope.pop();
    }

    fn within(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        self.scope.push(name);
        visit(self);
        self.scope.pop();
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, f: &'ast syn::ItemFn) {
        self.function(&f.attrs, start(&f.vis, &f.sig), &f.sig, &f.block);
    }

    fn visit_impl_item_fn(&mut self, f: &'ast syn::ImplItemFn) {
        self.function(&f.attrs, start(&f.vis, &f.sig), &f.sig, &f.block);
    }

    fn visit_trait_item_fn(&mut self, f: &'ast syn::TraitItemFn) {
        if let Some(block) = &f.default {
            self.function(&f.attrs, f.sig.span().byte_range().start, &f.sig, block);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.within(module.ident.to_string(), |this| visit::visit_item_mod(this, module));
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.within(item.ident.to_string(), |this| visit::visit_item_trait(this, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let name = match item.self_ty.as_ref() {
            syn::Type::Path(path) => path.path.segments.last().map_or_else(String::new, |s| s.ident.to_string()),
            _ => "impl".to_owned(),
        };
        self.within(name, |this| visit::visit_item_impl(this, item));
    }
}

/// Where a function begins behind its attributes.
fn start(visibility: &syn::Visibility, signature: &syn::Signature) -> usize {
    match visibility {
        syn::Visibility::Inherited => signature.span().byte_range().start,
        other => other.span().byte_range().start,
    }
}

fn documentation(attributes: &[syn::Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Tokens of a run that is hashed.
const GRAM: usize = 5;
/// Consecutive runs of which at least one is kept.
const WINDOW: usize = 4;

/// The structure of a function without its names: what is left of its tokens when local names, literals and types are each replaced by
/// one sign, as the set of hashes that winnowing keeps (Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document
/// Fingerprinting", 2003; runs of 5 tokens, windows of 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    hashes: BTreeSet<u64>,
}

impl Fingerprint {
    /// The fingerprint of a Rust function given as source; an error says where it does not parse.
    ///
    /// ```
    /// use eas_text::code::Fingerprint;
    ///
    /// let a = Fingerprint::of("fn sum(xs: &[i32]) -> i32 { let mut s = 0; for x in xs { s += x; } s }")?;
    /// let b = Fingerprint::of("fn total(items: &[u8]) -> u8 {\n  let mut t = 7;\n  for item in items { t += item; }\n  t\n}")?;
    /// assert_eq!(a.similarity(&b), 1.0);
    /// # Ok::<(), eas_text::TextError>(())
    /// ```
    pub fn of(function: &str) -> Result<Self, TextError> {
        let function: syn::ImplItemFn = syn::parse_str(function).map_err(|error| TextError::Argument {
            name: "function",
            got: format!("unparsable at {:?}", error.span().start()),
            expected: error.to_string(),
        })?;
        let locals = Locals::of(&function);
        let mut signs = Vec::new();
        let parameters = function.sig.inputs.to_token_stream();
        abstracted(parameters, &locals, &mut signs);
        abstracted(function.block.to_token_stream(), &locals, &mut signs);
        let runs = signs.windows(GRAM.min(signs.len().max(1)));
        let hashes: Vec<u64> = runs.map(|run| fnv1a(run.join("\u{1f}").as_bytes())).collect();
        Ok(Self { hashes: winnow(&hashes, WINDOW) })
    }

    /// Share of the hashes of either that both have, from 0 to 1.
    pub fn similarity(&self, other: &Self) -> f64 {
        let both = self.hashes.intersection(&other.hashes).count();
        let either = self.hashes.len() + other.hashes.len() - both;
        if either == 0 { 1.0 } else { both as f64 / either as f64 }
    }
}

/// The least hash of every window of `width` consecutive ones; of fewer than `width`, the least of all.
fn winnow(hashes: &[u64], width: usize) -> BTreeSet<u64> {
    let mut kept = BTreeSet::new();
    // Indices with growing hashes: the front is the least of the current window.
    let mut least: VecDeque<usize> = VecDeque::new();
    for (at, hash) in hashes.iter().enumerate() {
        while least.back().is_some_and(|&j| hashes[j] >= *hash) {
            least.pop_back();
        }
        least.push_back(at);
        if least.front().is_some_and(|&j| j + width <= at) {
            least.pop_front();
        }
        if let (Some(&j), true) = (least.front(), at + 1 >= width.min(hashes.len())) {
            kept.insert(hashes[j]);
        }
    }
    kept
}

/// The names that a function gives itself: parameters, `let`, patterns, closures, loop labels, its own name and nested functions'.
struct Locals {
    names: HashSet<String>,
}

impl Locals {
    fn of(function: &syn::ImplItemFn) -> Self {
        let mut locals = Self { names: HashSet::from([function.sig.ident.to_string()]) };
        locals.visit_impl_item_fn(function);
        locals
    }
}

impl<'ast> Visit<'ast> for Locals {
    fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
        let name = pattern.ident.to_string();
        // A capitalised pattern is a constant or a unit variant, not a new name.
        if !name.starts_with(char::is_uppercase) {
            self.names.insert(name);
        }
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.names.insert(function.sig.ident.to_string());
        visit::visit_item_fn(self, function);
    }

    fn visit_label(&mut self, label: &'ast syn::Label) {
        self.names.insert(label.name.ident.to_string());
    }
}

const PRIMITIVES: [&str; 17] = [
    "bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
    "f32", "f64",
];

/// Appends a sign for each token: `v` for local names, `T` for types, `0` for literals, the token itself otherwise.
fn abstracted(tokens: TokenStream, locals: &Locals, signs: &mut Vec<String>) {
    // Behind a single dot stands a field or method, behind two the end of a range.
    let (mut behind_dot, mut dots) = (false, 0);
    for token in tokens {
        dots = if matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '.') { dots + 1 } else { 0 };
        let sign = match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                signs.push(open.to_owned());
                abstracted(group.stream(), locals, signs);
                close.to_owned()
            }
            TokenTree::Literal(_) => "0".to_owned(),
            TokenTree::Punct(punct) => punct.as_char().to_string(),
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                if !behind_dot && locals.names.contains(&name) {
                    "v".to_owned()
                } else if PRIMITIVES.contains(&name.as_str()) || name.starts_with(char::is_uppercase) {
                    "T".to_owned()
                } else {
                    name
                }
            }
        };
        // A comma before a closing bracket depends on the layout only.
        if matches!(sign.as_str(), ")" | "]" | "}") && signs.last().is_some_and(|s| s == ",") {
            signs.pop();
        }
        behind_dot = dots == 1;
        signs.push(sign);
    }
    if signs.last().is_some_and(|s| s == ",") {
        signs.pop();
    }
}

/// The function with every local name replaced by `local_0`, `local_1`, ... and all layout and comments lost: a clone as a copyist
/// makes it. An error says where `function` does not parse.
pub fn rename_locals(function: &str) -> Result<String, TextError> {
    let parsed: syn::ImplItemFn = syn::parse_str(function).map_err(|error| TextError::Argument {
        name: "function",
        got: format!("unparsable at {:?}", error.span().start()),
        expected: error.to_string(),
    })?;
    let mut names: Vec<String> = Locals::of(&parsed).names.into_iter().filter(|name| name != "self").collect();
    names.sort_unstable();
    Ok(renamed(parsed.to_token_stream(), &names).to_string())
}

fn renamed(tokens: TokenStream, names: &[String]) -> TokenStream {
    let mut dots = 0;
    tokens
        .into_iter()
        .map(|token| {
            let behind_dot = dots == 1;
            dots = if matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '.') { dots + 1 } else { 0 };
            match token {
                TokenTree::Group(group) => {
                    TokenTree::Group(proc_macro2::Group::new(group.delimiter(), renamed(group.stream(), names)))
                }
                TokenTree::Ident(ident) if !behind_dot => match names.binary_search(&ident.to_string()) {
                    Ok(at) => TokenTree::Ident(proc_macro2::Ident::new(&format!("local_{at}"), ident.span())),
                    Err(_) => TokenTree::Ident(ident),
                },
                other => other,
            }
        })
        .collect()
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fall_into_their_words() {
        for (name, words) in [
            ("parseHTTPResponse2xx_fast", "parse http response 2 xx fast"),
            ("BM25Index::top_k", "bm 25 index top k"),
            ("bubble_sort", "bubble sort"),
            ("HTTPServer", "http server"),
            ("getURL", "get url"),
            ("XMLHttpRequest", "xml http request"),
            ("__init__", "init"),
            ("SCREAMING_CASE", "screaming case"),
            ("utf8_to_utf16le", "utf 8 to utf 16 le"),
            ("kebab-case-name", "kebab case name"),
            ("IoT", "io t"),
            ("ABTest", "ab test"),
            ("x", "x"),
            ("f32::total_cmp(&a, &b)", "f 32 total cmp a b"),
            ("größeÄndern", "größe ändern"),
            ("", ""),
            ("_ :: !", ""),
        ] {
            assert_eq!(split_identifiers(name).join(" "), words, "{name}");
        }
    }

    const SOURCE: &str = r"
        /// Searches a sorted slice.
        /// The second line.
        pub fn find(items: &[i32], wanted: i32) -> Option<usize> {
            // halves the range
            items.binary_search(&wanted).ok()
        }

        struct Store;

        impl Store {
            /// Loads it.
            async fn load(&self) -> u8 {
                fn inner(x: u8) -> u8 { x }
                inner(1)
            }
        }

        trait Shape {
            fn area(&self) -> f64;
            /// Twice the area.
            fn double(&self) -> f64 { 2.0 * self.area() }
        }

        #[test]
        fn finds() { assert_eq!(find(&[1], 1), Some(0)); }
    ";

    #[test]
    fn functions_methods_and_nested_ones_are_found() {
        let items = extract_functions("a/store.rs", SOURCE);
        let names: Vec<&str> = items.iter().map(|item| item.id.split('@').next().unwrap()).collect();
        assert_eq!(
            names,
            [
                "a/store.rs::find",
                "a/store.rs::Store::load",
                "a/store.rs::Store::load::inner",
                "a/store.rs::Shape::double"
            ]
        );
        assert_eq!(items[0].doc, "Searches a sorted slice.\nThe second line.");
        assert_eq!(items[0].summary(), "Searches a sorted slice.");
        assert_eq!(items[0].signature, "pub fn find(items: &[i32], wanted: i32) -> Option<usize>");
        assert!(items[0].body.contains("// halves the range") && !items[0].body.contains("sorted slice"));
        assert_eq!(items[0].tests, ["finds"]);
        assert_eq!(items[1].signature, "async fn load(&self) -> u8");
        assert!(items[0].text(true).contains("second line") && !items[0].text(false).contains("second line"));
        let again = extract_functions("a/store.rs", SOURCE);
        assert_eq!(items, again);
    }

    #[test]
    fn a_file_that_does_not_parse_is_one_item() {
        let items = extract_functions("src/broken.rs", "fn oops( {");
        assert_eq!((items.len(), items[0].name.as_str(), items[0].body.as_str()), (1, "broken", "fn oops( {"));
        assert!(extract_functions("empty.rs", "").is_empty());
        let python = extract_functions("sort.py", "def sort(): pass");
        assert_eq!((python.len(), python[0].language.as_str(), python[0].name.as_str()), (1, "python", "sort"));
        assert!(Fingerprint::of("fn oops( {").is_err() && rename_locals("").is_err());
    }

    #[test]
    fn items_survive_their_file() {
        let items = extract_functions("a/store.rs", SOURCE);
        let file = write_items(&items).unwrap();
        assert_eq!(read_items(file.as_bytes()).unwrap(), items);
        let message = read_items(b"{}").unwrap_err().to_string();
        assert!(message.starts_with("code snapshot is line 1, must be an item"), "{message}");
        assert!(read_items(&file.as_bytes()[..file.len() / 2]).is_err());
        assert!(read_items(b"").unwrap().is_empty());
    }

    #[test]
    fn renaming_and_reformatting_keep_the_fingerprint() {
        for source in [include_str!("code.rs"), include_str!("sentences.rs"), include_str!("word2vec.rs")] {
            let items = extract_functions("here.rs", source);
            assert!(items.len() > 5);
            for item in items {
                let original = format!("{} {}", item.signature, item.body);
                let copy = rename_locals(&original).unwrap();
                assert_ne!(original, copy);
                assert_eq!(Fingerprint::of(&original).unwrap(), Fingerprint::of(&copy).unwrap(), "{}", item.id);
            }
        }
    }

    #[test]
    fn different_structures_differ() {
        let of = |source| Fingerprint::of(source).unwrap();
        let sum = of("fn f(xs: &[i32]) -> i32 { let mut s = 0; for x in xs { s += x; } s }");
        let most = of("fn f(xs: &[i32]) -> i32 { let mut m = xs[0]; for &x in xs { if x > m { m = x; } } m }");
        assert!(sum.similarity(&most) < 0.5);
        assert_eq!(sum.similarity(&sum), 1.0);
        // The end of a range is a name like any other, a method is not.
        assert_eq!(of("fn f(n: u8) { for i in 0..n { g(i); } }"), of("fn f(m: u8) { for j in 0..m { g(j); } }"));
        assert_ne!(of("fn f(len: V) -> u8 { len.len() }"), of("fn f(len: V) -> u8 { len.pop() }"));
    }

    #[test]
    fn winnowing_keeps_the_least_of_every_window() {
        let mut rng = eas_tensor::rng::SplitMix64::new(3);
        for length in 0..40 {
            let hashes: Vec<u64> = (0..length).map(|_| rng.next_u64() % 50).collect();
            let windows: Vec<&[u64]> = if length < 4 { vec![&hashes] } else { hashes.windows(4).collect() };
            let expected: BTreeSet<u64> = windows.iter().filter_map(|window| window.iter().min()).copied().collect();
            assert_eq!(winnow(&hashes, 4), expected);
        }
    }
}
