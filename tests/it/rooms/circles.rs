//! Finds what can reach itself: groups of files, or of files and folders side by side, of which each uses each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::imports::Arrows;

/// Describes every circle of files; empty: there is none.
pub fn of_files(arrows: &Arrows) -> Vec<String> {
    let plain = arrows.iter().map(|(from, to)| (from.clone(), to.keys().cloned().collect())).collect();
    let circles = circles(&plain).into_iter();
    circles.map(|circle| described("these files use each other", &circle, arrows, |file| Some(file.to_owned()))).collect()
}

/// Describes every circle within a folder, of its files and folders. A `mod.rs` is the folder's own face and counts for none of them.
pub fn of_folders(arrows: &Arrows) -> Vec<String> {
    let files = arrows.iter().flat_map(|(from, to)| std::iter::once(from).chain(to.keys()));
    let folders: BTreeSet<&str> = files.flat_map(|file| file.match_indices('/').map(|(at, _)| &file[..at])).chain([""]).collect();
    let mut found = Vec::new();
    for folder in folders {
        let mut between: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in arrows {
            let Some(from) = child(folder, from) else { continue };
            let children = to.keys().filter_map(|to| child(folder, to)).filter(|to| *to != from);
            between.entry(from.clone()).or_default().extend(children);
        }
        let what = format!("these parts of src/{folder} use each other");
        found.extend(circles(&between).iter().map(|circle| described(&what, circle, arrows, |file| child(folder, file))));
    }
    found
}

/// The file or folder directly below `folder` that a file belongs to.
fn child(folder: &str, file: &str) -> Option<String> {
    let below = if folder.is_empty() { Some(file) } else { file.strip_prefix(folder)?.strip_prefix('/') };
    let name = below?.split('/').next()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    (!matches!(name, "mod" | "lib")).then(|| name.to_owned())
}

fn described(what: &str, circle: &[String], arrows: &Arrows, part: impl Fn(&str) -> Option<String>) -> String {
    let mut text = format!("{what}: {}", circle.join(", "));
    let in_circle = |file: &str| part(file).filter(|part| circle.contains(part));
    for (from, to) in arrows {
        let Some(from_part) = in_circle(from) else { continue };
        for (to, names) in to.iter().filter(|(to, _)| in_circle(to).is_some_and(|to| to != from_part)) {
            let line = names.values().min().copied().unwrap_or_default();
            let names: Vec<&str> = names.keys().map(String::as_str).collect();
            let _ = write!(text, "\n    src/{from}:{line} uses {} of src/{to}", names.join(", "));
        }
    }
    text
}

/// The groups of two and more that are each within reach of each (Tarjan's strongly connected components).
fn circles(arrows: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let mut search = Search { arrows, number: BTreeMap::new(), open: Vec::new(), found: Vec::new() };
    for node in arrows.keys() {
        if !search.number.contains_key(node.as_str()) {
            search.visit(node);
        }
    }
    search.found
}

struct Search<'a> {
    arrows: &'a BTreeMap<String, BTreeSet<String>>,
    number: BTreeMap<&'a str, usize>,
    open: Vec<&'a str>,
    found: Vec<Vec<String>>,
}

impl<'a> Search<'a> {
    fn visit(&mut self, node: &'a str) -> usize {
        let number = self.number.len();
        self.number.insert(node, number);
        self.open.push(node);
        let mut lowest = number;
        for to in self.arrows.get(node).into_iter().flatten() {
            lowest = lowest.min(match self.number.get(to.as_str()) {
                None => self.visit(to),
                Some(number) if self.open.contains(&to.as_str()) => *number,
                Some(_) => continue,
            });
        }
        if lowest == number {
            let from = self.open.iter().position(|open| *open == node).unwrap();
            let mut circle: Vec<String> = self.open.split_off(from).into_iter().map(str::to_owned).collect();
            circle.sort();
            self.found.extend((circle.len() > 1).then_some(circle));
        }
        lowest
    }
}
