// SPDX-License-Identifier: Apache-2.0
//! No source file imports in a circle: each can be read after those that it needs. A module that gathers others, as `mod.rs`
//! does, may be named by these.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use syn::visit::{self, Visit};
use syn::{Item, ItemMod, ItemUse, UseTree};

use crate::support::process;

/// A module's path inside its crate.
type Module = Vec<String>;

/// What each module imports.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn no_file_imports_in_a_circle() -> Result<()> {
    let repo = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("The repository has moved")?;
    let mut git = Command::new("git");
    let listed = process::output(git.args(["ls-files", "--", "*/src/*.rs"]).current_dir(repo))?;
    let mut crates = BTreeMap::<&str, Vec<&str>>::new();
    for file in listed.lines() {
        if let Some((root, name)) = file.split_once("/src/") {
            crates.entry(root).or_default().push(name);
        }
    }
    let mut found = String::new();
    for (root, files) in crates {
        for (module, imported) in circles(imports(&repo.join(root).join("src"), &files)?) {
            let imported: Vec<String> = imported.iter().map(|module| module.join("::")).collect();
            writeln!(found, "{root}: {} imports in a circle with {}", module.join("::"), imported.join(", "))?;
        }
    }
    assert!(found.is_empty(), "{found}");
    Ok(())
}

fn imports(dir: &Path, files: &[&str]) -> Result<Imports> {
    // Tests may use anything, and programs beside the library are crates of their own.
    let own = files.iter().filter(|file| !file.starts_with("bin/") && !file.contains("tests"));
    let modules: BTreeMap<Module, PathBuf> = own.map(|file| (module(file), dir.join(file))).collect();
    let mut imports = Imports::new();
    for (module, path) in &modules {
        let text = fs::read_to_string(path).with_context(|| format!("Cannot read {}", path.display()))?;
        let file = syn::parse_file(&text).with_context(|| format!("Cannot parse {}", path.display()))?;
        let mut reader = Reader { module: module.clone(), paths: Vec::new() };
        reader.visit_file(&file);
        let targets = reader.paths.iter().filter_map(|path| deepest(path, &modules));
        imports.insert(module.clone(), targets.filter(|target| !module.starts_with(target)).collect());
    }
    Ok(imports)
}

/// `a/b/mod.rs` and `a/b.rs` are the module `a::b`; the crate's root has no name.
fn module(file: &str) -> Module {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|name| !["lib", "main", "mod"].contains(name)).map(str::to_owned).collect()
}

/// The file that a path leads into. What the root itself has is nobody's import.
fn deepest(path: &[String], modules: &BTreeMap<Module, PathBuf>) -> Option<Module> {
    let prefixes = (1..=path.len()).rev().map(|length| path[..length].to_vec());
    prefixes.into_iter().find(|prefix| modules.contains_key(prefix))
}

/// Collects the paths of a file, from the crate's root.
struct Reader {
    module: Module,
    paths: Vec<Module>,
}

impl Reader {
    fn add(&mut self, segments: Vec<String>) {
        let mut base = self.module.clone();
        let mut rest = segments.into_iter().peekable();
        match rest.peek().map(String::as_str) {
            Some("crate") => base.clear(),
            Some("self" | "super") => {}
            // A child's name, or another crate's: nothing in the modules is found for that.
            _ => return self.paths.push(base.into_iter().chain(rest).collect()),
        }
        for name in rest {
            match name.as_str() {
                "crate" | "self" => {}
                "super" => drop(base.pop()),
                _ => base.push(name),
            }
        }
        self.paths.push(base);
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident)),
            UseTree::Name(name) => self.add(with(&name.ident)),
            UseTree::Rename(name) => self.add(with(&name.ident)),
            UseTree::Glob(_) => self.add(before.to_vec()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree, before)),
        }
    }
}

impl Visit<'_> for Reader {
    fn visit_item(&mut self, item: &Item) {
        if !matches!(item, Item::Mod(module) if is_test(module)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        self.add_tree(&item.tree, &[]);
    }

    fn visit_visibility(&mut self, _: &syn::Visibility) {
        // `pub(super)` imports nothing.
    }

    fn visit_path(&mut self, path: &syn::Path) {
        self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

fn is_test(module: &ItemMod) -> bool {
    module.ident.to_string().contains("tests")
}

/// What is left when again and again those go that import nothing of the rest, or that nothing of the rest imports.
fn circles(mut imports: Imports) -> Imports {
    loop {
        let before = imports.len();
        let left: BTreeSet<Module> = imports.keys().cloned().collect();
        imports.values_mut().for_each(|targets| targets.retain(|target| left.contains(target)));
        let imported: BTreeSet<Module> = imports.values().flatten().cloned().collect();
        imports.retain(|module, targets| !targets.is_empty() && imported.contains(module));
        if imports.len() == before {
            return imports;
        }
    }
}

fn graph(edges: &[(&str, &str)]) -> Imports {
    let mut imports = Imports::new();
    for (from, to) in edges {
        imports.entry(module(from)).or_default().insert(module(to));
    }
    imports
}

#[test]
fn circles_are_what_cannot_be_read_in_an_order() {
    assert!(circles(graph(&[("a.rs", "b.rs"), ("a.rs", "c/mod.rs"), ("b.rs", "c/mod.rs")])).is_empty());
    let found = circles(graph(&[("in.rs", "a.rs"), ("a.rs", "b/c.rs"), ("b/c.rs", "a.rs"), ("a.rs", "out.rs")]));
    assert_eq!(found, graph(&[("a.rs", "b/c.rs"), ("b/c.rs", "a.rs")]));
}

#[test]
fn reader_finds_imports_and_paths_in_code() -> syn::Result<()> {
    let text = "use crate::a::{B, c::{self, D as E}}; fn f() { super::g::h(); } mod tests { use crate::no; }";
    let mut reader = Reader { module: module("x/y.rs"), paths: Vec::new() };
    reader.visit_file(&syn::parse_file(text)?);
    let paths: Vec<String> = reader.paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["a::B", "a::c", "a::c::D", "x::g::h"]);
    Ok(())
}
