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

/// What only tests ask of the scripted provider is theirs (`support/provider`), so that no binary carries it.
#[test]
fn the_scripted_provider_has_no_function_that_only_tests_call() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lines_of = |room: &str| {
        let files = sources(&src.join(room));
        files.iter().flat_map(|file| code_of(&fs::read_to_string(file).unwrap())).collect::<Vec<_>>()
    };
    let (own, commands) = (lines_of("provider_mock"), lines_of("cli"));
    let public = |line: &String| {
        let rest = line.trim_start().strip_prefix("pub ")?;
        let name = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
        name.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned)
    };
    let is_called = |name: &String| {
        let definition = format!("fn {name}");
        own.iter().chain(&commands).any(|line| !line.contains(&definition) && names_exactly(line, name))
    };
    let idle: Vec<String> = own.iter().filter_map(public).filter(|name| !is_called(name)).collect();
    assert!(own.iter().filter_map(public).count() > 20, "is the room still there?");
    assert!(idle.is_empty(), "no command needs {idle:?}");
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

fn code_of(text: &str) -> Vec<String> {
    code_lines(text).map(|(_, line)| line).collect()
}

fn without_literals(line: &str) -> String {
    line.split('"').step_by(2).collect()
}

/// Whether the line names the word as a path of its own (`log::`, not `catalog::`).
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

/// Whether the line names the word and nothing longer (`wait`, not `wait_for`).
fn names_exactly(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}
