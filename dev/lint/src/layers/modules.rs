//! Module cycles: inside a crate no two files may need each other, neither directly nor around a
//! corner, so that a file can be read after those that it stands on.
//!
//! A file needs another when it names one of its items: `use crate::find::Walk`, `super::solve(…)`.
//! A name that is passed on (`pub use error::Error`) counts for the file that defines it, so that
//! `crate::Error` is a need of `error.rs`, not of `lib.rs`. Tests are left out.
//!
//! Example: `a.rs` says `use crate::b::One;`, `b.rs` says `use crate::c::Two;`, `c.rs` says
//! `use super::a::Three;`. The files need each other in a ring, and the check names `a, b, c`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// A module's path from the crate's root, without the crate: `["find", "pods"]`; the root is empty.
type ModulePath = Vec<String>;

/// What one file declares and names.
#[derive(Default)]
struct Module {
    /// Items that are defined here.
    items: BTreeSet<String>,
    children: BTreeSet<String>,
    /// Names that a `use` brings into this module, with the path that they stand for.
    imports: BTreeMap<String, Vec<String>>,
    /// Modules whose every public name is brought in (`use super::*`).
    globs: Vec<Vec<String>>,
    /// Every path that is named, as it is written.
    paths: BTreeSet<Vec<String>>,
}

/// The groups of files of one crate that need each other, each sorted by name.
pub(super) fn find_cycles(source: &Path) -> Result<Vec<Vec<String>>, Box<dyn Error>> {
    let mut modules = BTreeMap::new();
    for root in ["lib.rs", "main.rs"] {
        let path = source.join(root);
        if path.exists() {
            read_module(&path, source, Vec::new(), &mut modules)?;
            break;
        }
    }
    Ok(find_rings(&collect_needs(&modules)))
}

/// Reads a file and, through its `mod` lines, all files below it.
fn read_module(
    path: &Path,
    folder: &Path,
    name: ModulePath,
    modules: &mut BTreeMap<ModulePath, Module>,
) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file = syn::parse_file(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut reader = ModuleReader::default();
    reader.visit_file(&file);
    let children = reader.module.children.clone();
    modules.insert(name.clone(), reader.module);
    for child in children {
        let mut below = name.clone();
        below.push(child.clone());
        let nested = folder.join(&child);
        let file: PathBuf = [folder.join(format!("{child}.rs")), nested.join("mod.rs")]
            .into_iter()
            .find(|file| file.exists())
            .ok_or_else(|| format!("{}: the file of `mod {child}` is missing", path.display()))?;
        read_module(&file, &nested, below, modules)?;
    }
    Ok(())
}

#[derive(Default)]
struct ModuleReader {
    module: Module,
}

impl<'ast> Visit<'ast> for ModuleReader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_for_tests(item) {
            return;
        }
        match item {
            // A module with a body (`mod rules { … }`) is part of this file.
            syn::Item::Mod(module) if module.content.is_none() => {
                self.module.children.insert(module.ident.to_string());
            }
            syn::Item::Use(import) => self.read_use(&import.tree, Vec::new()),
            _ => {
                if let Some(name) = item_name(item) {
                    self.module.items.insert(name);
                }
                visit::visit_item(self, item);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.module
                .paths
                .insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

impl ModuleReader {
    fn read_use(&mut self, tree: &syn::UseTree, mut before: Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.read_use(&path.tree, before);
            }
            syn::UseTree::Name(name) => {
                // `use a::b::{self, C}`: self is b.
                if name.ident != "self" {
                    before.push(name.ident.to_string());
                }
                self.add_import(before.last().cloned().unwrap_or_default(), before);
            }
            syn::UseTree::Rename(rename) => {
                before.push(rename.ident.to_string());
                self.add_import(rename.rename.to_string(), before);
            }
            syn::UseTree::Glob(_) => self.module.globs.push(before),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.read_use(tree, before.clone());
                }
            }
        }
    }

    fn add_import(&mut self, name: String, path: Vec<String>) {
        self.module.paths.insert(path.clone());
        self.module.imports.insert(name, path);
    }
}

fn item_name(item: &syn::Item) -> Option<String> {
    let name = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn is_for_tests(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// For each module the modules whose items it names.
fn collect_needs(
    modules: &BTreeMap<ModulePath, Module>,
) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
    modules
        .iter()
        .map(|(name, module)| {
            let needs = module
                .paths
                .iter()
                .filter_map(|path| find_owner(modules, name, path, 0))
                .filter(|owner| owner != name)
                .collect();
            (name.clone(), needs)
        })
        .collect()
}

/// The module that defines what a path names, or none for another crate's and for local names.
fn find_owner(
    modules: &BTreeMap<ModulePath, Module>,
    from: &ModulePath,
    path: &[String],
    depth: usize,
) -> Option<ModulePath> {
    // A name that is passed on in a circle would have no end; rustc refuses it too.
    const DEEPEST: usize = 16;
    if depth > DEEPEST {
        return None;
    }
    let mut at = from.clone();
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "crate" => at = Vec::new(),
            "self" => {}
            "super" => {
                at.pop()?;
            }
            name => {
                let module = modules.get(&at)?;
                if module.children.contains(name) {
                    at.push(name.to_owned());
                } else if module.items.contains(name) {
                    return Some(at);
                } else if let Some(import) = module.imports.get(name) {
                    if import.as_slice() == path && at == *from {
                        return None;
                    }
                    let mut whole = import.clone();
                    whole.extend_from_slice(after);
                    return find_owner(modules, &at, &whole, depth + 1);
                } else {
                    return module.globs.iter().find_map(|glob| {
                        let mut whole = glob.clone();
                        whole.extend_from_slice(rest);
                        find_owner(modules, &at, &whole, depth + 1)
                    });
                }
            }
        }
        rest = after;
    }
    // The path names a module itself (`use crate::find;`): what is taken from it is named later.
    None
}

/// Groups of modules that reach each other. The graphs are small (a hundred files at most), so the
/// plain way serves: who is reached by whom, then who is reached both ways.
fn find_rings(needs: &BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> Vec<Vec<String>> {
    let reached: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> =
        needs.keys().map(|from| (from, collect_reached(needs, from))).collect();
    let mut rings = BTreeSet::new();
    for (from, others) in &reached {
        let mut ring: Vec<String> = others
            .iter()
            .filter(|to| {
                **to != *from && reached.get(**to).is_some_and(|back| back.contains(*from))
            })
            .map(|to| show_module(to))
            .collect();
        if !ring.is_empty() {
            ring.push(show_module(from));
            ring.sort();
            rings.insert(ring);
        }
    }
    rings.into_iter().collect()
}

fn collect_reached<'graph>(
    needs: &'graph BTreeMap<ModulePath, BTreeSet<ModulePath>>,
    from: &ModulePath,
) -> BTreeSet<&'graph ModulePath> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&ModulePath> = needs.get(from).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(needs.get(next).into_iter().flatten());
        }
    }
    reached
}

fn show_module(path: &ModulePath) -> String {
    if path.is_empty() { "(root)".to_owned() } else { path.join("::") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        find_cycles(folder.path()).unwrap()
    }

    #[test]
    fn a_ring_of_three_files_is_found() {
        let found = cycles(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::One; pub struct Three;"),
            ("b.rs", "use crate::c::Two; pub struct One;"),
            ("c.rs", "pub struct Two; fn make() -> super::a::Three { todo!() }"),
        ]);
        assert_eq!(found, [["a", "b", "c"]]);
    }

    #[test]
    fn a_name_that_the_root_passes_on_belongs_to_the_file_that_defines_it() {
        let found = cycles(&[
            ("lib.rs", "mod error; mod find; pub use error::Error; pub use find::find;"),
            ("error.rs", "pub enum Error {}"),
            ("find.rs", "use crate::Error; pub fn find() -> Result<(), Error> { Ok(()) }"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_file_and_its_parent_that_need_each_other_are_a_cycle() {
        let found = cycles(&[
            ("lib.rs", "mod solve;"),
            (
                "solve/mod.rs",
                "mod step; pub struct State; pub fn solve() { step::take_step(&State); }",
            ),
            ("solve/step.rs", "use super::State; pub fn take_step(_: &State) {}"),
        ]);
        assert_eq!(found, [["solve", "solve::step"]]);
    }

    #[test]
    fn tests_may_need_what_they_like() {
        let found = cycles(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::One; pub struct Two;"),
            ("b.rs", "pub struct One; #[cfg(test)] mod tests { use crate::a::Two; }"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
