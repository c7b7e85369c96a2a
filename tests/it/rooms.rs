//! Keeps the house in order: no circle of files or of folders anywhere in `src`, and between the rooms only the arrows of the table in
//! `src/lib.rs`, read from the `use` lines and the paths of the sources.

mod circles;
mod imports;
mod made_up;
mod scopes;
mod table;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};

use imports::Imports;
use table::Room;

/// A longer file is more than one thing.
const MOST_LINES: usize = 500;

#[test]
fn no_group_of_files_uses_itself_in_a_circle() {
    kept(circles::of_files(&product().arrows));
}

#[test]
fn no_group_of_folders_uses_itself_in_a_circle() {
    kept(circles::of_folders(&product().arrows));
}

#[test]
fn rooms_use_only_what_the_table_in_lib_rs_lets_them() {
    let (rooms, product) = (rooms(), product());
    let arrows = table::forbidden_arrows(&rooms, &product.arrows);
    kept([arrows, table::forbidden_paths(&rooms, &product.outside)].concat());
}

/// The relay asks of the machine what a request is written down and paid by, and nothing that reads a clock, a name or a file.
#[test]
fn the_relay_uses_the_books_and_the_records_of_ops_and_no_more() {
    const USED: &[&str] = &["ops/books/clients/", "ops/books/ledger/", "ops/watch/access_log/", "ops/watch/counters/"];
    let arrows = product().arrows;
    let to_ops = arrows.iter().filter(|(from, _)| from.starts_with("relay/")).flat_map(|(from, to)| {
        let strange = to.keys().filter(|to| to.starts_with("ops/") && !USED.iter().any(|used| to.starts_with(used)));
        strange.map(move |to| format!("src/{from} must not use src/{to}"))
    });
    kept(to_ops.collect());
    assert!(arrows.keys().any(|from| from.starts_with("relay/")), "is the room still there?");
}

#[test]
fn every_file_is_in_a_room_and_every_room_has_files() {
    let (rooms, product) = (rooms(), product());
    let room_of = |file: &str| table::room_of(&rooms, file).map(|room| &room.name);
    let homeless = product.files.iter().filter(|file| *file != "lib.rs" && room_of(file).is_none());
    kept(homeless.map(|file| format!("src/{file} is in no room of the table in src/lib.rs")).collect());
    let has_files = |room: &Room| product.files.iter().any(|file| room_of(file) == Some(&room.name));
    kept(rooms.iter().filter(|room| !has_files(room)).map(|room| format!("the room {} has no files", room.name)).collect());
}

#[test]
fn only_the_edge_knows_the_proxy_trait() {
    let named = product().outside.into_iter().filter(|outside| outside.path.iter().any(|name| name == "ProxyHttp"));
    kept(named.filter(|outside| !outside.file.starts_with("edge/")).map(|outside| format!("src/{}", outside.file)).collect());
}

/// What only tests ask of the scripted provider is theirs (`support/provider`), so that no binary carries it.
#[test]
fn the_scripted_provider_has_no_function_that_only_tests_call() {
    let words = |room: &str| {
        let files = imports::sources(&src().join(room));
        let product = files.values().map(|source| source.split("#[cfg(test)]").next().unwrap_or_default());
        let tokens = product.flat_map(tokens::tokens);
        tokens.filter_map(|token| token.word().map(str::to_owned)).collect::<Vec<_>>()
    };
    let (own, commands) = (words("provider_mock"), words("cli"));
    let named = |name: &String| own.iter().chain(&commands).filter(|word| *word == name).count();
    let defined = |name: &String| own.windows(2).filter(|pair| pair[0] == "fn" && pair[1] == *name).count();
    let public = own.windows(4).filter(|words| words[0] == "pub" && words[1..].iter().take(2).any(|word| word == "fn"));
    let names = public.map(|words| if words[1] == "fn" { &words[2] } else { &words[3] }).collect::<Vec<_>>();
    assert!(names.len() > 20, "is the room still there?");
    let idle = names.into_iter().filter(|name| named(name) <= defined(name));
    kept(idle.map(|name| format!("no command needs provider_mock's {name}")).collect());
}

#[test]
fn every_file_says_what_lives_in_it_and_is_not_too_long() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut faults = Vec::new();
    for (folder, files) in ["src", "tests/it", "benches"].map(|folder| (folder, imports::sources(&root.join(folder)))) {
        for (file, source) in files {
            if !source.starts_with("//!") {
                faults.push(format!("{folder}/{file} does not begin with `//!`"));
            }
            let lines = source.lines().count();
            if lines > MOST_LINES {
                faults.push(format!("{folder}/{file} has {lines} lines, more than {MOST_LINES}"));
            }
        }
    }
    kept(faults);
}

/// Fails with every fault that there is.
fn kept(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn product() -> Imports {
    imports::imports(&imports::sources(&src()))
}

fn rooms() -> Vec<Room> {
    table::rooms(&fs::read_to_string(src().join("lib.rs")).unwrap()).unwrap()
}
