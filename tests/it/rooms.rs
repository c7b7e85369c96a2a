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

#[test]
fn every_file_is_in_a_room_and_every_room_has_files() {
    let (rooms, product) = (rooms(), product());
    let room_of = |file: &str| table::room_of(&rooms, file).map(|room| &room.name);
    let homeless = product.files.iter().filter(|file| *file != "lib.rs" && room_of(file).is_none());
    kept(homeless.map(|file| format!("src/{file} is in no room of the table in src/lib.rs")).collect());
    // The room `relay` is on its way.
    let has_files = |room: &Room| room.name == "relay" || product.files.iter().any(|file| room_of(file) == Some(&room.name));
    kept(rooms.iter().filter(|room| !has_files(room)).map(|room| format!("the room {} has no files", room.name)).collect());
}

#[test]
fn only_the_edge_knows_the_proxy_trait() {
    let named = product().outside.into_iter().filter(|outside| outside.path.iter().any(|name| name == "ProxyHttp"));
    kept(named.filter(|outside| !outside.file.starts_with("edge/")).map(|outside| format!("src/{}", outside.file)).collect());
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
