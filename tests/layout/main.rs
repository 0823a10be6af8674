//! The layout of `src`: no circle of imports between files or folders, dependencies that point
//! downwards only, and one folder built with the bridge's feature.

mod graph;
mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proc_macro2::{TokenStream, TokenTree};

use graph::{Edges, circles};
use imports::{Crate, Sources};

/// The folders of `src`, lowest first. Each depends on earlier ones only.
const LAYERS: &[&str] = &[
    "model",
    "wire",
    "kea_config",
    "mirror",
    "persist",
    "query",
    "config",
    "server",
    "log",
    "plugin",
    "ffi",
];

/// The folder that is built with the feature `hook`, and the file that declares it.
const HOOK: (&str, &str) = ("ffi/", "lib.rs");

/// The modules of this crate.
static CRATE: LazyLock<Crate> = LazyLock::new(|| Crate::read(&sources()));

/// Reads the sources of this crate.
fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Sources::new();
    let mut pending = vec![root.clone()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(&root)
                    .expect("a path in src")
                    .display()
                    .to_string();
                sources.insert(name, fs::read_to_string(path).expect("a source"));
            }
        }
    }
    sources
}

/// Describes each circle between files.
fn file_circles(edges: &Edges) -> Vec<String> {
    circles(edges).iter().map(ToString::to_string).collect()
}

/// Describes each circle between the files and folders of one folder, at least one of them a
/// folder.
fn folder_circles(edges: &Edges, places: &BTreeMap<&str, Vec<String>>) -> Vec<String> {
    let folders: BTreeSet<&[String]> = places
        .values()
        .flat_map(|place| (0..place.len()).map(|depth| &place[..depth]))
        .collect();
    let mut found = Vec::new();
    for folder in &folders {
        let mut inner = Edges::new();
        for ((from, to), path) in edges {
            let (Some(from_name), Some(to_name)) = (
                name_in(folder, &places[from.as_str()]),
                name_in(folder, &places[to.as_str()]),
            ) else {
                continue;
            };
            if from_name != to_name {
                inner
                    .entry((from_name.to_owned(), to_name.to_owned()))
                    .or_insert_with(|| format!("{from} -> {to}: {path}"));
            }
        }
        let has_folder = |nodes: &[String]| {
            nodes.iter().any(|node| {
                folders.contains([*folder, std::slice::from_ref(node)].concat().as_slice())
            })
        };
        for circle in circles(&inner)
            .iter()
            .filter(|circle| has_folder(&circle.nodes))
        {
            found.push(format!("in src/{}: {circle}", folder.join("/")));
        }
    }
    found
}

/// Returns the name of the file or folder in a folder that contains a place; `None` outside the
/// folder.
fn name_in<'a>(folder: &[String], place: &'a [String]) -> Option<&'a str> {
    place.strip_prefix(folder)?.first().map(String::as_str)
}

/// Describes each import that does not point downwards, and each error in the list of layers.
fn upward_imports(
    edges: &Edges,
    places: &BTreeMap<&str, Vec<String>>,
    layers: &[&str],
) -> Vec<String> {
    let rank = |place: &[String]| layers.iter().position(|layer| place[0] == *layer);
    // The root file is a map of all layers, and in none of them.
    let of_layers: BTreeMap<&str, &[String]> = places
        .iter()
        .filter(|(file, _)| **file != "lib.rs")
        .map(|(&file, place)| (file, place.as_slice()))
        .collect();
    let mut found = Vec::new();
    for (file, place) in &of_layers {
        if rank(place).is_none() {
            found.push(format!("src/{file} is in no layer\n"));
        }
    }
    for layer in layers {
        if !of_layers.values().any(|place| place[0] == *layer) {
            found.push(format!("layer {layer} is empty\n"));
        }
    }
    for ((from, to), path) in edges {
        if to == "lib.rs" {
            found.push(format!("{from} -> {to}  ({path})\n"));
        }
        let (Some(from_place), Some(to_place)) =
            (of_layers.get(from.as_str()), of_layers.get(to.as_str()))
        else {
            continue;
        };
        if rank(from_place) < rank(to_place) {
            found.push(format!("{from} -> {to}  ({path})\n"));
        }
    }
    found
}

/// Describes each mention of the feature `hook` outside the files that may depend on it.
fn hook_mentions(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in sources {
        let tokens: TokenStream = text
            .parse()
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        let count = count_hook(tokens);
        let allowed = if file.starts_with(HOOK.0) {
            usize::MAX
        } else if file == HOOK.1 {
            1
        } else {
            0
        };
        if count > allowed {
            found.push(format!(
                "{file} mentions the feature \"hook\" {count} times, allowed: {allowed}\n"
            ));
        }
    }
    found
}

/// Counts `feature = "hook"` in code.
fn count_hook(tokens: TokenStream) -> usize {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let inner: usize = tokens
        .iter()
        .map(|token| match token {
            TokenTree::Group(group) => count_hook(group.stream()),
            _ => 0,
        })
        .sum();
    let here = tokens.windows(3).filter(|three| {
        let texts: Vec<String> = three.iter().map(ToString::to_string).collect();
        texts == ["feature", "=", "\"hook\""]
    });
    inner + here.count()
}

/// Fails with a heading and the faults, if there are any.
fn assert_none(heading: &str, faults: &[String]) {
    let text = faults.iter().fold(String::new(), |mut text, fault| {
        let _ = write!(text, "{fault}");
        text
    });
    assert!(faults.is_empty(), "{heading}:\n{text}");
}

#[test]
fn files_import_each_other_in_no_circle() {
    assert_none(
        "circles of imports between files",
        &file_circles(&CRATE.imports()),
    );
}

#[test]
fn folders_import_each_other_in_no_circle() {
    let faults = folder_circles(&CRATE.imports(), &CRATE.places());
    assert_none("circles of imports between folders", &faults);
}

#[test]
fn folders_depend_on_lower_layers_only() {
    let faults = upward_imports(&CRATE.imports(), &CRATE.places(), LAYERS);
    assert_none(
        "imports that point upwards, by the order of LAYERS",
        &faults,
    );
}

#[test]
fn one_folder_depends_on_the_feature_hook() {
    assert_none(
        "code outside src/ffi depends on the bridge",
        &hook_mentions(&sources()),
    );
}

/// The checks on invented crates, in which they must find the faults.
mod made_up {
    use super::*;

    /// Builds sources from pairs of file and text.
    fn sources(files: &[(&str, &str)]) -> Sources {
        files
            .iter()
            .map(|&(file, text)| (file.to_owned(), text.to_owned()))
            .collect()
    }

    /// Returns a crate in which the folders `low` and `high` depend on each other, though no two
    /// files do.
    fn folders_in_a_circle() -> Crate {
        Crate::read(&sources(&[
            ("lib.rs", "mod low; mod high;"),
            ("low/mod.rs", "mod a; mod b;"),
            ("low/a.rs", "pub struct A;"),
            ("low/b.rs", "use crate::high::c::C;"),
            ("high/mod.rs", "pub mod c; mod d;"),
            ("high/c.rs", "pub struct C;"),
            ("high/d.rs", "use crate::low::a::A;"),
        ]))
    }

    #[test]
    fn finds_a_circle_of_files() {
        let read = Crate::read(&sources(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::c::C;"),
            ("c.rs", "use crate::a::A;"),
        ]));
        let found = file_circles(&read.imports());
        assert_eq!(
            found,
            [
                "circle among a.rs, b.rs, c.rs:\n  a.rs -> b.rs  (crate::b::B)\n  \
              b.rs -> c.rs  (crate::c::C)\n  c.rs -> a.rs  (crate::a::A)\n"
            ]
        );
        assert!(folder_circles(&read.imports(), &read.places()).is_empty());
    }

    #[test]
    fn finds_a_circle_of_folders_whose_files_are_in_none() {
        let read = folders_in_a_circle();
        assert!(file_circles(&read.imports()).is_empty());
        let found = folder_circles(&read.imports(), &read.places());
        assert_eq!(
            found,
            ["in src/: circle among high, low:\n  \
              high -> low  (high/d.rs -> low/a.rs: crate::low::a::A)\n  \
              low -> high  (low/b.rs -> high/c.rs: crate::high::c::C)\n"]
        );
    }

    #[test]
    fn finds_a_circle_of_a_file_and_a_folder_inside_a_folder() {
        let read = Crate::read(&sources(&[
            ("lib.rs", "mod outer;"),
            ("outer/mod.rs", "mod file; mod inner;"),
            ("outer/file.rs", "use super::inner::a::A; pub struct F;"),
            ("outer/inner/mod.rs", "pub mod a; mod b;"),
            ("outer/inner/a.rs", "pub struct A;"),
            ("outer/inner/b.rs", "use super::super::file::F;"),
        ]));
        assert!(file_circles(&read.imports()).is_empty());
        let found = folder_circles(&read.imports(), &read.places());
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("in src/outer: circle among file, inner:"),
            "{found:?}"
        );
    }

    #[test]
    fn finds_an_import_that_points_upwards() {
        let read = folders_in_a_circle();
        let found = |layers| upward_imports(&read.imports(), &read.places(), layers);
        assert_eq!(
            found(&["low", "high"]),
            ["low/b.rs -> high/c.rs  (crate::high::c::C)\n"]
        );
        assert_eq!(
            found(&["high", "low"]),
            ["high/d.rs -> low/a.rs  (crate::low::a::A)\n"]
        );
    }

    #[test]
    fn finds_an_import_of_the_root_file() {
        let read = Crate::read(&sources(&[
            ("lib.rs", "mod a; pub fn f() {}"),
            ("a.rs", "use crate::f;"),
        ]));
        let found = upward_imports(&read.imports(), &read.places(), &["a"]);
        assert_eq!(found, ["a.rs -> lib.rs  (crate::f)\n"]);
    }

    #[test]
    fn finds_layers_that_are_not_declared_or_empty() {
        let read = Crate::read(&sources(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", ""),
            ("b.rs", ""),
        ]));
        let found = upward_imports(&read.imports(), &read.places(), &["a", "c"]);
        assert_eq!(found, ["src/b.rs is in no layer\n", "layer c is empty\n"]);
    }

    #[test]
    fn finds_code_outside_its_folder_that_depends_on_the_feature() {
        let gate = "#[cfg(all(feature = \"hook\", not(test)))]";
        let found = |lib: &str, a: &str| {
            hook_mentions(&sources(&[
                ("lib.rs", lib),
                ("a.rs", a),
                (
                    "ffi/mod.rs",
                    &format!("{gate} fn f() {{}} {gate} fn g() {{}}"),
                ),
            ]))
        };
        let once = format!("{gate} mod ffi;");
        assert!(found(&once, "/// Built with feature = \"hook\".\nfn f() {}").is_empty());
        assert_eq!(found(&format!("{once} {once}"), "").len(), 1);
        assert_eq!(found(&once, &format!("{gate} fn f() {{}}")).len(), 1);
        assert_eq!(
            found(&once, "fn f() { if cfg!(feature = \"hook\") {} }").len(),
            1
        );
    }
}
