//! `cargo lint vocabulary`: how far the code's names explain themselves. Counts the type names that
//! stand for two things or more, the functions whose name is a single word, and the comments inside
//! functions, over `crates/*/src` (`testkit` and `xtask` included: newcomers read them too).

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// Names that every crate has and every reader of Rust knows: reported, but not held against anybody.
const CONVENTIONAL_TYPES: &[&str] = &["Error", "Result", "Args", "Err", "Output", "Item", "Target"];

/// What CI lets pass, in thousandths of all type names: rustls has 30 to 90, and above that a reader
/// has to look up which of several things a name stands for.
const MOST_SHARED_TYPES: usize = 80;

/// One named item of the source.
pub(crate) struct Item {
    /// The file, relative to the workspace.
    file: PathBuf,
    line: usize,
    kind: Kind,
    /// The type or trait whose item it is; empty for a free item.
    container: String,
    name: String,
    /// The head of the item as it would be read: `fn open(path: &Path) -> Result<Self, Error>`.
    head: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Module,
    Type,
    Function,
}

/// What the source holds, file by file.
#[derive(Default)]
struct Inventory {
    items: Vec<Item>,
    source_lines: usize,
    /// Lines inside function bodies that hold a `//` comment.
    comment_lines: usize,
}

/// Prints the three shares; with `--check` fails where too many type names are shared; with `--list`
/// prints every item as tab-separated lines.
pub(crate) fn report(mut arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let inventory = read_workspace(Path::new("crates"))?;
    match arguments.next().as_deref() {
        None => print!("{}", summarise(&inventory)),
        Some("--check") => {
            print!("{}", summarise(&inventory));
            let types = count_types(&inventory);
            let shared = types.values().filter(|count| **count > 1).count();
            if per_mille(shared, types.len()) > MOST_SHARED_TYPES {
                return Err(
                    "too many type names stand for two things: rename them to what they are".into(),
                );
            }
        }
        Some("--list") => {
            for item in &inventory.items {
                println!("{}", item.as_line());
            }
        }
        Some(other) => {
            return Err(format!("unknown option {other}; there are --check and --list").into());
        }
    }
    Ok(())
}

impl Item {
    fn as_line(&self) -> String {
        let kind = match self.kind {
            Kind::Module => "mod",
            Kind::Type => "type",
            Kind::Function => "fn",
        };
        format!(
            "{}:{}\t{kind}\t{}\t{}\t{}",
            self.file.display(),
            self.line,
            self.container,
            self.name,
            self.head
        )
    }
}

/// How many items each type name stands for.
fn count_types(inventory: &Inventory) -> BTreeMap<&str, usize> {
    let mut types = BTreeMap::new();
    for item in inventory.items.iter().filter(|item| item.kind == Kind::Type) {
        *types.entry(item.name.as_str()).or_default() += 1;
    }
    types
}

fn summarise(inventory: &Inventory) -> String {
    let types = count_types(inventory);
    let functions = inventory.items.iter().filter(|item| item.kind == Kind::Function);
    let one_word = functions.clone().filter(|item| !item.name.contains('_')).count();
    let functions = functions.count();
    let mut shared: Vec<_> = types.iter().filter(|(_, count)| **count > 1).collect();
    shared.sort_by(|left, right| right.1.cmp(left.1).then(left.0.cmp(right.0)));
    let conventional = shared.iter().filter(|(name, _)| CONVENTIONAL_TYPES.contains(name)).count();

    let mut text = String::new();
    let _ = writeln!(
        text,
        "types: {} names; {} stand for two things or more ({}), {conventional} of them conventional",
        types.len(),
        shared.len(),
        percent(shared.len(), types.len()),
    );
    let names: Vec<_> = shared.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let _ = writeln!(text, "  {}", names.join(", "));
    let _ = writeln!(
        text,
        "functions: {functions}; {one_word} have a name of one word ({})",
        percent(one_word, functions)
    );
    let _ = writeln!(
        text,
        "comments inside functions: {} of {} source lines ({})",
        inventory.comment_lines,
        inventory.source_lines,
        percent(inventory.comment_lines, inventory.source_lines)
    );
    text
}

/// `percent(1, 8)` is `12.5 %`.
fn percent(part: usize, total: usize) -> String {
    let share = per_mille(part, total);
    format!("{}.{} %", share / 10, share % 10)
}

fn per_mille(part: usize, total: usize) -> usize {
    (part * 1000 + total / 2) / total.max(1)
}

fn read_workspace(crates: &Path) -> Result<Inventory, Box<dyn Error>> {
    let mut inventory = Inventory::default();
    let mut folders: Vec<_> = fs::read_dir(crates)?
        .map(|entry| Ok(entry?.path().join("src")))
        .collect::<Result<_, std::io::Error>>()?;
    folders.sort();
    for folder in folders {
        read_folder(&folder, &mut inventory)?;
    }
    Ok(inventory)
}

fn read_folder(folder: &Path, inventory: &mut Inventory) -> Result<(), Box<dyn Error>> {
    let mut paths: Vec<_> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_folder(&path, inventory)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let file =
                syn::parse_file(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            read_file(&path, &text, &file, inventory);
        }
    }
    Ok(())
}

fn read_file(path: &Path, text: &str, file: &syn::File, inventory: &mut Inventory) {
    let lines: Vec<&str> = text.lines().collect();
    let mut reader = FileReader {
        path,
        lines: &lines,
        container: String::new(),
        in_function: vec![false; lines.len() + 2],
        items: Vec::new(),
    };
    reader.visit_file(file);
    inventory.source_lines += lines.len();
    inventory.comment_lines += lines
        .iter()
        .enumerate()
        .filter(|(index, line)| reader.in_function[index + 1] && has_comment(line))
        .count();
    inventory.items.append(&mut reader.items);
}

/// Whether a line inside a function holds a comment that is not documentation. A `//` behind a colon
/// is an address in a text.
fn has_comment(line: &str) -> bool {
    let line = line.trim_start();
    if line.starts_with("///") || line.starts_with("//!") {
        return false;
    }
    line.starts_with("//")
        || line.contains("; // ")
        || line.contains(", // ")
        || line.contains("{ // ")
}

/// Walks one file's syntax tree and collects its items.
struct FileReader<'source> {
    path: &'source Path,
    lines: &'source [&'source str],
    container: String,
    /// By line number, from 1: whether the line lies inside a function's body.
    in_function: Vec<bool>,
    items: Vec<Item>,
}

impl FileReader<'_> {
    fn add_item(&mut self, kind: Kind, name: &syn::Ident) {
        let line = name.span().start().line;
        let head = self
            .lines
            .get(line - 1)
            .map_or("", |line| line.trim())
            .trim_end_matches('{')
            .trim_end();
        self.items.push(Item {
            file: self.path.to_path_buf(),
            line,
            kind,
            container: self.container.clone(),
            name: name.to_string(),
            head: head.to_owned(),
        });
    }

    fn add_body(&mut self, body: &syn::Block) {
        let span = body.span();
        for line in span.start().line + 1..=span.end().line {
            self.in_function[line] = true;
        }
    }

    fn with_container(&mut self, container: String, walk: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.container, container);
        walk(self);
        self.container = outer;
    }
}

impl<'ast> Visit<'ast> for FileReader<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add_item(Kind::Type, &item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add_item(Kind::Type, &item.ident);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add_item(Kind::Type, &item.ident);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.add_item(Kind::Module, &item.ident);
        visit::visit_item_mod(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.add_item(Kind::Type, &item.ident);
        self.with_container(item.ident.to_string(), |reader| visit::visit_item_trait(reader, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let container = type_name(&item.self_ty);
        // Names of another's trait are not ours to choose.
        let own = item.trait_.is_none();
        self.with_container(container, |reader| {
            for part in &item.items {
                if let syn::ImplItem::Fn(function) = part {
                    if own {
                        reader.add_item(Kind::Function, &function.sig.ident);
                    }
                    reader.add_body(&function.block);
                    visit::visit_block(reader, &function.block);
                }
            }
        });
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add_item(Kind::Function, &item.sig.ident);
        self.add_body(&item.block);
        self.with_container(String::new(), |reader| visit::visit_item_fn(reader, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.add_item(Kind::Function, &item.sig.ident);
        if let Some(body) = &item.default {
            self.add_body(body);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// The last word of a type: `Writer` of `crate::store::Writer<'_>`.
fn type_name(own: &syn::Type) -> String {
    match own {
        syn::Type::Path(path) => {
            path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
        }
        syn::Type::Reference(reference) => type_name(&reference.elem),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Inventory {
        let mut inventory = Inventory::default();
        read_file(Path::new("a.rs"), text, &syn::parse_file(text).unwrap(), &mut inventory);
        inventory
    }

    #[test]
    fn a_type_that_stands_twice_is_counted_once_as_a_shared_name() {
        let text = "mod a { struct Plan; } mod b { enum Plan { A } } struct Lock; fn run() {} fn read_lock() {}";
        let summary = summarise(&read(text));
        assert!(
            summary.contains("types: 2 names; 1 stand for two things or more (50.0 %)"),
            "{summary}"
        );
        assert!(summary.contains("functions: 2; 1 have a name of one word (50.0 %)"), "{summary}");
    }

    #[test]
    fn names_that_a_foreign_trait_gives_are_not_counted() {
        let inventory = read(
            "struct A; impl std::fmt::Display for A { fn fmt(&self) {} } impl A { fn open() {} }",
        );
        let names: Vec<_> = inventory.items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["A", "open"]);
        assert_eq!(inventory.items[1].container, "A");
    }

    #[test]
    fn only_comments_inside_functions_count() {
        let inventory = read(
            "// outside\nfn a() {\n    // inside\n    let url = \"http://x\"; // behind\n    /// docs\n    fn b() {}\n}\n",
        );
        assert_eq!(inventory.comment_lines, 2);
        assert_eq!(inventory.source_lines, 7);
    }
}
