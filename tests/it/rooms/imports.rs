//! Which file of a source tree names what another one defines: the arrows, and the names of other crates.
//!
//! `mod x;` is no arrow, and a re-export is transparent: whoever imports through it has an arrow to the file that defines the name, and the
//! file that re-exports has one only if it uses the name itself. What is compiled for tests alone is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::Path;

use super::scopes::{self, Import, ModPath, Scope};

/// Files with their paths below `src`, as `a/b.rs`.
pub type Files = BTreeMap<String, String>;

/// The names by which one file uses another, each with the line of its first use.
pub type Names = BTreeMap<String, usize>;

/// What uses what: by user, by used.
pub type Arrows = BTreeMap<String, BTreeMap<String, Names>>;

/// A path of another crate, as far as it is written, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outside {
    pub file: String,
    pub line: usize,
    pub path: ModPath,
}

#[derive(Debug, Default)]
pub struct Imports {
    /// The files that are looked at.
    pub files: BTreeSet<String>,
    pub arrows: Arrows,
    pub outside: BTreeSet<Outside>,
}

/// Reads all sources of a folder.
pub fn sources(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// Finds the arrows. `main.rs` is another crate, which uses this one as everybody does.
pub fn imports(files: &Files) -> Imports {
    let modules = Modules::of(files);
    let mut imports = Imports::default();
    for (scope, file) in &modules.scopes {
        imports.files.insert(file.clone());
        let mut note = |to: Target, line: usize| {
            if to.file != *file {
                let names = imports.arrows.entry(file.clone()).or_default().entry(to.file).or_default();
                names.entry(to.name).or_insert(line);
            }
        };
        for import in &scope.imports {
            match &import.name {
                Some(name) => {
                    let is_used_here = !import.is_public || scope.names().any(|(used, _)| used == name);
                    modules.definers(scope, &import.path).filter(|_| is_used_here).for_each(|to| note(to, import.line));
                }
                None => modules.through_glob(scope, import).for_each(|(to, line)| note(to, line)),
            }
        }
        for path in &scope.paths {
            modules.definers(scope, &path.what).for_each(|to| note(to, path.line));
        }
        let written = scope.paths.iter().map(|path| (&path.what, path.line));
        let brought_in = scope.imports.iter().map(|import| (&import.path, import.line));
        for (path, line) in written.chain(brought_in) {
            if let Place::Outside(path) = modules.place(scope, path) {
                imports.outside.insert(Outside { file: file.clone(), line, path });
            }
        }
    }
    imports
}

/// What a name leads to.
struct Target {
    file: String,
    name: String,
}

/// Where a path that is written in a module leads.
enum Place {
    /// In this crate, from its root.
    Inside(ModPath),
    /// In another crate; its first name is that crate's.
    Outside(ModPath),
    /// To something that the module defines itself.
    Own,
}

/// All modules of the tree but those of tests, each with its file.
struct Modules {
    scopes: Vec<(Scope, String)>,
    by_path: HashMap<ModPath, usize>,
}

impl Modules {
    fn of(files: &Files) -> Self {
        let read: Vec<_> = files
            .iter()
            .filter(|(file, _)| *file != "main.rs")
            .map(|(file, source)| (file, scopes::read(&module_of(file), source)))
            .collect();
        let test_modules: HashSet<&ModPath> = read.iter().flat_map(|(_, source)| &source.test_modules).collect();
        let test_files: HashSet<String> = read
            .iter()
            .flat_map(|(file, source)| {
                source.test_files.iter().map(|path| match file.rsplit_once('/') {
                    Some((folder, _)) => format!("{folder}/{path}"),
                    None => path.clone(),
                })
            })
            .collect();
        let is_test = |file: &str, module: &[String]| {
            test_files.contains(file) || (1..=module.len()).any(|length| test_modules.contains(&module[..length].to_vec()))
        };
        let is_product = |file: &str| !is_test(file, &module_of(file));
        let kept = read.iter().map(|(file, _)| (*file).clone()).filter(|file| is_product(file)).collect::<HashSet<_>>();
        let scopes: Vec<(Scope, String)> = read
            .into_iter()
            .filter(|(file, _)| kept.contains(*file))
            .flat_map(|(file, source)| source.scopes.into_iter().map(|scope| (scope, file.clone())))
            .collect();
        let by_path = scopes.iter().enumerate().map(|(at, (scope, _))| (scope.module.clone(), at)).collect();
        Self { scopes, by_path }
    }

    fn get(&self, module: &[String]) -> Option<&(Scope, String)> {
        self.by_path.get(module).map(|at| &self.scopes[*at])
    }

    /// Follows a path from the module that it is written in to the crate's root, through names that the module imports.
    fn place(&self, scope: &Scope, path: &[String]) -> Place {
        let mut here = scope.module.clone();
        let mut rest = path;
        match rest.first().map(String::as_str) {
            Some("crate") => return Place::Inside(rest[1..].to_vec()),
            Some("self" | "super") => {
                while let [first, after @ ..] = rest
                    && matches!(first.as_str(), "self" | "super")
                {
                    if first == "super" {
                        here.pop();
                    }
                    rest = after;
                }
                return Place::Inside([here, rest.to_vec()].concat());
            }
            _ => {}
        }
        let Some((first, after)) = rest.split_first() else { return Place::Own };
        here.push(first.clone());
        if self.by_path.contains_key(&here) {
            return Place::Inside([here, after.to_vec()].concat());
        }
        let import = scope.imports.iter().find(|import| import.name.as_ref() == Some(first) && import.path != *path);
        match import.map(|import| self.place(scope, &import.path)) {
            Some(Place::Inside(path)) => Place::Inside([path, after.to_vec()].concat()),
            Some(Place::Outside(path)) => Place::Outside([path, after.to_vec()].concat()),
            Some(Place::Own) => Place::Own,
            None if first == "Self" || scope.items.contains(first) => Place::Own,
            None => Place::Outside(path.to_vec()),
        }
    }

    /// The files that define what a path of this crate leads to; none for a module, which is used by what is named in it.
    fn definers(&self, scope: &Scope, path: &[String]) -> impl Iterator<Item = Target> {
        let found = match self.place(scope, path) {
            Place::Inside(path) => self.find(&path, 0),
            Place::Outside(_) | Place::Own => Vec::new(),
        };
        found.into_iter()
    }

    fn find(&self, path: &[String], depth: usize) -> Vec<Target> {
        let length = (0..=path.len()).rev().find(|length| self.by_path.contains_key(&path[..*length])).unwrap_or(0);
        let Some((scope, file)) = self.get(&path[..length]) else { return Vec::new() };
        let Some(name) = path.get(length) else {
            // A module may have the name of something that its parent re-exports: `pub use peek::peek`.
            let Some((name, parent)) = path.split_last() else { return Vec::new() };
            return self.get(parent).and_then(|(parent, _)| self.imported(parent, name, &[], depth)).unwrap_or_default();
        };
        if scope.items.contains(name) {
            return vec![Target { file: file.clone(), name: name.clone() }];
        }
        let rest = &path[length + 1..];
        let by_name = self.imported(scope, name, rest, depth);
        let by_glob = || self.by_glob(scope, name, depth);
        by_name.or_else(by_glob).unwrap_or_else(|| vec![Target { file: file.clone(), name: name.clone() }])
    }

    /// Follows a name that a module imports; `None`: it imports none of this name.
    fn imported(&self, scope: &Scope, name: &str, rest: &[String], depth: usize) -> Option<Vec<Target>> {
        let import = scope.imports.iter().find(|import| import.name.as_deref() == Some(name)).filter(|_| depth < 8)?;
        Some(match self.place(scope, &import.path) {
            Place::Inside(path) => self.find(&[path, rest.to_vec()].concat(), depth + 1),
            Place::Outside(_) | Place::Own => Vec::new(),
        })
    }

    /// Looks for a name behind the `*` of a module's imports.
    fn by_glob(&self, scope: &Scope, name: &str, depth: usize) -> Option<Vec<Target>> {
        let globs = scope.imports.iter().filter(|import| import.name.is_none() && depth < 8);
        globs.into_iter().find_map(|import| {
            let Place::Inside(path) = self.place(scope, &import.path) else { return None };
            let (module, _) = self.get(&path)?;
            let is_there = module.items.iter().any(|item| item == name)
                || module.imports.iter().any(|import| import.name.as_deref().is_none_or(|known| known == name));
            is_there.then(|| self.find(&[path, vec![name.to_owned()]].concat(), depth + 1))
        })
    }

    /// What a module uses of all that a `*` brings in; of an enum, whatever it is.
    fn through_glob(&self, scope: &Scope, import: &Import) -> impl Iterator<Item = (Target, usize)> {
        let found = match self.place(scope, &import.path) {
            Place::Inside(path) if self.by_path.contains_key(&path) => {
                let is_from_elsewhere = |name: &str| {
                    let is_own = scope.items.iter().any(|item| item == name);
                    !is_own && scope.imports.iter().all(|import| import.name.as_deref() != Some(name))
                };
                let names = scope.names().filter(|(name, _)| is_from_elsewhere(name));
                let glob = Scope { module: scope.module.clone(), imports: vec![import.clone()], ..Scope::default() };
                let found = names.flat_map(|(name, line)| {
                    let targets = self.by_glob(&glob, name, 0).unwrap_or_default();
                    targets.into_iter().map(move |target| (target, line)).collect::<Vec<_>>()
                });
                found.collect()
            }
            Place::Inside(path) if !import.is_public => self.find(&path, 0).into_iter().map(|to| (to, import.line)).collect(),
            _ => Vec::new(),
        };
        found.into_iter()
    }
}

impl Scope {
    /// The names that are used, alone or before others.
    fn names(&self) -> impl Iterator<Item = (&String, usize)> {
        let alone = self.words.iter().map(|word| (&word.what, word.line));
        alone.chain(self.paths.iter().filter_map(|path| Some((path.what.first()?, path.line))))
    }
}

/// The module that a file holds.
fn module_of(file: &str) -> ModPath {
    let path = file.strip_suffix(".rs").unwrap_or(file);
    let mut module: ModPath = path.split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    module
}
