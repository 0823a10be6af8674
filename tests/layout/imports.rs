//! The modules of a crate and their imports, read from its sources.
//!
//! An import is a path to another file of the crate: in a `use`, or anywhere in code, including the
//! arguments of macros. Test code is excluded.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Meta, UseTree, Visibility};

use crate::graph::Edges;

/// The sources of a crate: texts by paths relative to `src`.
pub(crate) type Sources = BTreeMap<String, String>;

/// The modules of a crate.
#[derive(Debug)]
pub(crate) struct Crate {
    /// The modules, the root first. The number of a module is its index here.
    modules: Vec<Module>,
}

/// A module: a file, or a block in one.
#[derive(Debug, Default)]
struct Module {
    /// The names of the enclosing modules from the root on, and its own.
    path: Vec<String>,
    /// The file that contains it.
    file: String,
    /// The number of the enclosing module.
    parent: Option<usize>,
    /// Child modules, by name.
    children: BTreeMap<String, usize>,
    /// Other items that it defines.
    items: BTreeSet<String>,
    /// Names that it imports.
    uses: Vec<Use>,
    /// Paths that it mentions, including those of its imports.
    mentions: BTreeSet<Vec<String>>,
    /// Whether it contains only modules and re-exports.
    is_map: bool,
}

/// An imported name.
#[derive(Debug)]
struct Use {
    /// The imported name; `*` for all names of a module.
    name: String,
    /// The path that it is imported from.
    path: Vec<String>,
}

/// The target of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// An item in a module.
    Item(usize),
    /// A module itself.
    Module(usize),
}

impl Crate {
    /// Reads a crate from its root file on.
    ///
    /// # Panics
    /// If a source is missing or is not valid Rust.
    pub(crate) fn read(sources: &Sources) -> Crate {
        let mut modules = vec![Module {
            file: "lib.rs".to_owned(),
            ..Module::default()
        }];
        read_file(sources, &mut modules, 0);
        Crate { modules }
    }

    /// Returns the imports between files. A map has none: names found through it count as imports
    /// of the files that define them.
    pub(crate) fn imports(&self) -> Edges {
        let mut edges = Edges::new();
        for (from, module) in self
            .modules
            .iter()
            .enumerate()
            .filter(|(_, module)| !module.is_map)
        {
            for path in &module.mentions {
                for to in self
                    .files(from, path)
                    .into_iter()
                    .filter(|to| *to != module.file)
                {
                    let edge = (module.file.clone(), to.to_owned());
                    let recorded = edges.entry(edge).or_insert_with(|| path.join("::"));
                    if !is_explicit(recorded) && is_explicit(&path[0]) {
                        *recorded = path.join("::");
                    }
                }
            }
        }
        edges
    }

    /// Returns the place of each file in the tree of folders. A file with child modules in other
    /// files is a folder, in which it is named `mod`.
    pub(crate) fn places(&self) -> BTreeMap<&str, Vec<String>> {
        let mut places = BTreeMap::new();
        for module in self.modules.iter().filter(|module| self.is_file(module)) {
            let is_folder = module
                .children
                .values()
                .any(|&child| self.modules[child].file != module.file);
            let mut place = module.path.clone();
            if is_folder {
                place.push("mod".to_owned());
            }
            places.insert(module.file.as_str(), place);
        }
        places
    }

    /// Whether a module is a whole file.
    fn is_file(&self, module: &Module) -> bool {
        module
            .parent
            .is_none_or(|parent| self.modules[parent].file != module.file)
    }

    /// Returns the files that a path mentioned by a module leads to. For a module that is a map,
    /// these are the files of its re-exported names.
    fn files(&self, from: usize, path: &[String]) -> BTreeSet<&str> {
        let (is_glob, path) = match path.split_last() {
            Some((last, module)) if last == "*" => (true, module),
            _ => (false, path),
        };
        match self.resolve(from, path, 0) {
            Some(Target::Module(of)) if self.modules[of].is_map => {
                let names = if is_glob {
                    self.modules[of].uses.as_slice()
                } else {
                    &[]
                };
                names
                    .iter()
                    .flat_map(|import| self.files(of, &import.path))
                    .collect()
            }
            Some(Target::Module(of) | Target::Item(of)) => {
                BTreeSet::from([self.modules[of].file.as_str()])
            }
            None => BTreeSet::new(),
        }
    }

    /// Resolves a path that a module mentions; `None` outside the crate. `depth` bounds cyclic
    /// re-exports.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<Target> {
        let module = &self.modules[from];
        let (first, rest) = path.split_first()?;
        if depth > 20 {
            return None;
        }
        match first.as_str() {
            "crate" => self.walk(0, rest, depth),
            "self" => self.walk(from, rest, depth),
            "super" => {
                let mut at = module.parent?;
                let mut rest = rest;
                while rest.first().is_some_and(|name| name == "super") {
                    at = self.modules[at].parent?;
                    rest = &rest[1..];
                }
                self.walk(at, rest, depth)
            }
            name if module.children.contains_key(name) => self.walk(from, path, depth),
            name if module.items.contains(name) => Some(Target::Item(from)),
            name => match module.uses.iter().find(|import| import.name == name) {
                // A crate imported by its own name, as in `use libc;`.
                Some(import) if import.path == [name] => None,
                Some(import) => self.resolve(from, &[&import.path, rest].concat(), depth + 1),
                None => self.resolve_by_globs(from, path, depth),
            },
        }
    }

    /// Resolves a path whose first name a module imports by `use …::*`.
    fn resolve_by_globs(&self, from: usize, path: &[String], depth: usize) -> Option<Target> {
        self.modules[from]
            .uses
            .iter()
            .filter(|import| import.name == "*")
            .find_map(|import| {
                let Some(Target::Module(of)) = self.resolve(from, &import.path, depth + 1) else {
                    return None;
                };
                let module = &self.modules[of];
                let has = module.children.contains_key(&path[0])
                    || module.items.contains(&path[0])
                    || module.uses.iter().any(|import| import.name == path[0]);
                if has {
                    self.walk(of, path, depth + 1)
                } else {
                    None
                }
            })
    }

    /// Resolves the rest of a path inside a module.
    fn walk(&self, at: usize, path: &[String], depth: usize) -> Option<Target> {
        let module = &self.modules[at];
        let Some((first, rest)) = path.split_first() else {
            return Some(Target::Module(at));
        };
        if let Some(&child) = module.children.get(first) {
            return self.walk(child, rest, depth);
        }
        if module.is_map && !module.items.contains(first) {
            let named = module.uses.iter().find(|import| import.name == *first);
            let found = match named {
                Some(import) => self.resolve(at, &[&import.path, rest].concat(), depth + 1),
                None => self.resolve_by_globs(at, path, depth + 1),
            };
            if found.is_some() {
                return found;
            }
        }
        Some(Target::Item(at))
    }
}

/// Reads the file of a module, and the files of the modules that it declares.
fn read_file(sources: &Sources, modules: &mut Vec<Module>, number: usize) {
    let name = modules[number].file.clone();
    let text = sources
        .get(&name)
        .unwrap_or_else(|| panic!("{name} is missing"));
    let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    read_items(sources, modules, number, &file.items);
}

/// Reads the items of a module.
fn read_items(sources: &Sources, modules: &mut Vec<Module>, number: usize, items: &[Item]) {
    let items: Vec<&Item> = items
        .iter()
        .filter(|item| !is_test(attributes(item)))
        .collect();
    modules[number].is_map = items.iter().any(|item| matches!(item, Item::Mod(_)))
        && items.iter().all(|item| match item {
            Item::Mod(module) => module.content.is_none(),
            Item::Use(import) => !matches!(import.vis, Visibility::Inherited),
            _ => false,
        });
    for item in &items {
        if let Item::Mod(child) = item {
            read_module(sources, modules, number, child);
        } else if let Some(name) = defined(item) {
            modules[number].items.insert(name);
        }
    }
    let mut mentions = Mentions::default();
    items.iter().for_each(|item| mentions.visit_item(item));
    modules[number].uses = mentions.uses;
    modules[number].mentions = mentions.paths;
}

/// Reads a module that another one declares or contains.
fn read_module(sources: &Sources, modules: &mut Vec<Module>, parent: usize, item: &ItemMod) {
    let name = item.ident.to_string();
    let number = modules.len();
    let mut path = modules[parent].path.clone();
    path.push(name.clone());
    let file = match item.content {
        Some(_) => modules[parent].file.clone(),
        None => [
            format!("{}.rs", path.join("/")),
            format!("{}/mod.rs", path.join("/")),
        ]
        .into_iter()
        .find(|file| sources.contains_key(file))
        .unwrap_or_else(|| panic!("no file of module {}", path.join("::"))),
    };
    modules.push(Module {
        path,
        file,
        parent: Some(parent),
        ..Module::default()
    });
    modules[parent].children.insert(name, number);
    match &item.content {
        Some((_, items)) => read_items(sources, modules, number, items),
        None => read_file(sources, modules, number),
    }
}

/// Collects the paths that a module mentions.
#[derive(Default)]
struct Mentions {
    /// Imported names.
    uses: Vec<Use>,
    /// Paths of two names or more, and those of imports.
    paths: BTreeSet<Vec<String>>,
}

impl Mentions {
    /// Adds the names of a `use`.
    fn add_use(&mut self, prefix: &[String], tree: &UseTree) {
        let with = |name: String| [prefix, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.add_use(&with(path.ident.to_string()), &path.tree),
            UseTree::Group(group) => group
                .items
                .iter()
                .for_each(|tree| self.add_use(prefix, tree)),
            UseTree::Glob(_) => {
                self.paths.insert(with("*".to_owned()));
                self.uses.push(Use {
                    name: "*".to_owned(),
                    path: prefix.to_vec(),
                });
            }
            UseTree::Name(name) if name.ident == "self" => {
                let name = prefix.last().cloned().unwrap_or_default();
                self.add_name(name, prefix.to_vec());
            }
            UseTree::Name(name) => {
                self.add_name(name.ident.to_string(), with(name.ident.to_string()));
            }
            UseTree::Rename(rename) if rename.ident == "self" => {
                self.add_name(rename.rename.to_string(), prefix.to_vec());
            }
            UseTree::Rename(rename) => {
                self.add_name(rename.rename.to_string(), with(rename.ident.to_string()));
            }
        }
    }

    /// Adds one imported name.
    fn add_name(&mut self, name: String, path: Vec<String>) {
        self.paths.insert(path.clone());
        self.uses.push(Use { name, path });
    }

    /// Adds the paths among a macro's arguments, which have no syntax tree.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        // The number of colons since the last name.
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.add_path(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => colons += 1,
                TokenTree::Group(group) => {
                    self.add_path(std::mem::take(&mut path));
                    self.add_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.add_path(std::mem::take(&mut path));
                    colons = 0;
                }
            }
        }
        self.add_path(path);
    }

    /// Adds a path. A single name is omitted: it may be a variable, and imported names are found by
    /// their `use`.
    fn add_path(&mut self, path: Vec<String>) {
        if path.len() > 1 {
            self.paths.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Mentions {
    fn visit_item(&mut self, item: &'ast Item) {
        // Modules are read separately.
        if !is_test(attributes(item)) && !matches!(item, Item::Mod(_)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes = match item {
            syn::ImplItem::Const(item) => &item.attrs,
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Type(item) => &item.attrs,
            syn::ImplItem::Macro(item) => &item.attrs,
            _ => return,
        };
        if !is_test(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_test(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !is_test(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_expr_block(&mut self, block: &'ast syn::ExprBlock) {
        if !is_test(&block.attrs) {
            visit::visit_expr_block(self, block);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            self.add_use(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.add_path(
                path.segments
                    .iter()
                    .map(|segment| segment.ident.to_string())
                    .collect(),
            );
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    // `pub(in crate::…)` is not an import, and attributes are not either.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// Whether a path begins at the root or at a neighbour, so that its target is unambiguous.
fn is_explicit(path: &str) -> bool {
    ["crate", "self", "super"]
        .iter()
        .any(|start| path.starts_with(start))
}

/// Returns the name that an item defines for paths.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Returns the attributes of an item.
fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether attributes restrict an item to test builds.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<Meta>()
                    .is_ok_and(|condition| needs_test(&condition))
    })
}

/// Whether a condition can hold in test builds only.
fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated)
            .is_ok_and(|conditions| conditions.iter().any(needs_test)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the imports of a made-up crate as `from>to`.
    fn imports(sources: &[(&str, &str)]) -> Vec<String> {
        let sources = sources
            .iter()
            .map(|&(file, text)| (file.to_owned(), text.to_owned()))
            .collect();
        let edges = Crate::read(&sources).imports();
        edges
            .keys()
            .map(|(from, to)| format!("{from}>{to}"))
            .collect()
    }

    #[test]
    fn finds_imports_by_every_kind_of_path() {
        for text in [
            "use crate::b::B;",
            "use super::b::B as C;",
            "use crate::{b::{self}};",
            "use crate::b; fn f(b: b::B) {}",
            "use crate::b::*;",
            "fn f(x: crate::b::B) {}",
            "fn f() { use crate::b::B; }",
            "fn f() { crate::b::f::<u8>() }",
            "fn f() { println!(\"{}\", crate::b::f()); }",
            "impl From<crate::b::B> for u8 {}",
            "mod inner { use super::super::b::B; }",
            "use super::*; fn f() { b::f() }",
        ] {
            let found = imports(&[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", text),
                ("b.rs", "pub struct B;"),
            ]);
            assert_eq!(found, ["a.rs>b.rs"], "{text}");
        }
    }

    #[test]
    fn ignores_other_crates_and_variables() {
        for text in [
            "use b_other::B;",
            "use ::b::B;",
            "fn f(b: u8) -> u8 { b }",
            "pub(in crate::a) fn f() {}",
            "use std::b::B; fn f() { B::new() }",
        ] {
            let found = imports(&[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", text),
                ("b.rs", "pub struct B;"),
            ]);
            assert!(found.is_empty(), "{text}: {found:?}");
        }
    }

    #[test]
    fn ignores_test_code() {
        for text in [
            "#[cfg(test)] use crate::b::B;",
            "#[cfg(test)] mod tests { use crate::b::B; }",
            "#[cfg(all(test, unix))] fn f() { crate::b::f() }",
            "#[test] fn f() { crate::b::f() }",
            "struct A; impl A { #[cfg(test)] fn f() { crate::b::f() } }",
        ] {
            let found = imports(&[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", text),
                ("b.rs", "pub struct B;"),
            ]);
            assert!(found.is_empty(), "{text}: {found:?}");
        }
        let hook = "#[cfg(all(unix, not(test)))] use crate::b::B;";
        let found = imports(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", hook),
            ("b.rs", "pub struct B;"),
        ]);
        assert_eq!(found, ["a.rs>b.rs"]);
    }

    #[test]
    fn follows_the_re_exports_of_a_map() {
        let a = "use crate::folder::{B, C}; fn f() { crate::folder::g() }";
        let found = imports(&[
            ("lib.rs", "mod a; mod folder;"),
            ("a.rs", a),
            (
                "folder/mod.rs",
                "mod b; mod c; mod d; pub use b::B; pub use self::c::C; pub use d::*;",
            ),
            ("folder/b.rs", "pub struct B;"),
            ("folder/c.rs", "use super::B; pub struct C;"),
            ("folder/d.rs", "pub fn g() {}"),
        ]);
        assert_eq!(
            found,
            [
                "a.rs>folder/b.rs",
                "a.rs>folder/c.rs",
                "a.rs>folder/d.rs",
                "folder/c.rs>folder/b.rs"
            ]
        );
    }

    #[test]
    fn stops_at_a_mod_file_with_other_items() {
        let found = imports(&[
            ("lib.rs", "mod a; mod folder;"),
            ("a.rs", "use crate::folder::B;"),
            ("folder/mod.rs", "mod b; pub use b::B; pub fn f() {}"),
            ("folder/b.rs", "use super::f; pub struct B;"),
        ]);
        assert_eq!(
            found,
            [
                "a.rs>folder/mod.rs",
                "folder/b.rs>folder/mod.rs",
                "folder/mod.rs>folder/b.rs"
            ]
        );
    }

    #[test]
    fn places_files_in_their_folders() {
        let sources = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "mod c; #[cfg(test)] mod tests;"),
            ("a/c.rs", "#[cfg(test)] mod tests;"),
            ("b.rs", "mod inner {}"),
        ];
        let sources = sources
            .iter()
            .map(|&(file, text)| (file.to_owned(), text.to_owned()))
            .collect();
        let read = Crate::read(&sources);
        let places: Vec<_> = read
            .places()
            .into_iter()
            .map(|(file, place)| format!("{file} {}", place.join("/")))
            .collect();
        assert_eq!(places, ["a.rs a/mod", "a/c.rs a/c", "b.rs b", "lib.rs mod"]);
    }
}
