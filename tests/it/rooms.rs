//! Keeps the arrows between the rooms of `src/lib.rs`: who may use whom, read from the `use` lines and paths of the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// A room, and what its files must never name.
const NEVER: &[(&str, &[&str])] = &[
    (
        "domain",
        &[
            "pingora",
            "tokio",
            "log::",
            "std::fs",
            "std::env::",
            "SystemTime::now",
            "Instant::now",
            "crate::ops",
            "crate::edge",
            "crate::config",
            "crate::cli",
            "crate::app",
            "crate::provider_mock",
        ],
    ),
    ("config", &["pingora", "tokio", "log::", "crate::ops", "crate::edge", "crate::cli", "crate::app", "crate::provider_mock"]),
    ("ops", &["pingora_proxy", "crate::edge", "crate::cli", "crate::app", "crate::provider_mock"]),
    ("edge", &["std::fs", "std::env::", "crate::config", "crate::cli", "crate::app", "crate::provider_mock"]),
    ("provider_mock", &["pingora", "crate::domain", "crate::ops", "crate::edge", "crate::config", "crate::cli", "crate::app"]),
];

#[test]
fn no_room_uses_what_it_must_not() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = Vec::new();
    for (room, never) in NEVER {
        let files = sources(&src.join(room));
        assert!(!files.is_empty(), "the room {room} has no files; is the table above still right?");
        for file in files {
            for (number, line) in code_lines(&fs::read_to_string(&file).unwrap()) {
                for word in never.iter().filter(|word| names(&line, word)) {
                    broken.push(format!("{}:{number}: {room} must not use {word}", file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn only_the_edge_knows_the_proxy_trait() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let strangers: Vec<PathBuf> = sources(&src)
        .into_iter()
        .filter(|file| !file.starts_with(src.join("edge")))
        .filter(|file| code_lines(&fs::read_to_string(file).unwrap()).any(|(_, line)| line.contains("ProxyHttp")))
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn every_file_says_what_lives_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let silent: Vec<PathBuf> = ["src", "tests/it", "benches"]
        .iter()
        .flat_map(|folder| sources(&root.join(folder)))
        .filter(|file| !fs::read_to_string(file).unwrap().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "{silent:?}");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

/// The numbered lines up to the first test module, without comments and string literals.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    text.lines()
        .take_while(|line| !line.trim_start().starts_with("#[cfg(test)]"))
        .enumerate()
        .map(|(at, line)| (at + 1, without_literals(line.split("//").next().unwrap_or_default())))
}

fn without_literals(line: &str) -> String {
    line.split('"').step_by(2).collect()
}

/// Whether the line names the word as a path of its own (`log::`, not `catalog::`).
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}
