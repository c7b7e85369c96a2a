//! Reads the table of rooms out of `src/lib.rs`, so that what is written there is what is kept.

use super::imports::{Arrows, Outside};

/// The words of the table's last column, and the paths that each stands for.
const WORDS: &[(&str, &[&[&str]])] = &[
    ("pingora", &[&["pingora*"]]),
    ("pingora-proxy", &[&["pingora_proxy"], &["pingora", "proxy"]]),
    ("tokio", &[&["tokio"]]),
    ("log", &[&["log"]]),
    ("files", &[&["std", "fs"], &["tokio", "fs"]]),
    ("environment", &[&["std", "env"]]),
    ("clock", &[&["std", "time", "SystemTime", "now"], &["std", "time", "Instant", "now"]]),
];

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub struct Room {
    pub name: String,
    /// The rooms that it may use; `None`: all.
    may_use: Option<Vec<String>>,
    never: Vec<String>,
}

/// Reads the rows; a cell of rooms or words that nobody knows is a fault.
pub fn rooms(lib: &str) -> Result<Vec<Room>, String> {
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | [`")).map(|row| row.split('|').map(str::trim));
    let rooms: Vec<Room> = rows
        .filter_map(|mut row| {
            let name = row.next()?.trim_end_matches("`]").to_owned();
            let (may_use, never) = (row.nth(1)?, row.next()?);
            Some(Room { name, may_use: (may_use != "all").then(|| words(may_use)), never: words(never) })
        })
        .collect();
    let is_room = |name: &str| rooms.iter().any(|room| room.name == name);
    for room in &rooms {
        let strange = room.may_use.iter().flatten().find(|name| !is_room(name));
        let strange = strange.or_else(|| room.never.iter().find(|word| !is_room(word) && paths(word).is_none()));
        if let Some(strange) = strange {
            return Err(format!(
                "the row of {} names `{strange}`, which is no room and no word of tests/it/rooms/table.rs",
                room.name
            ));
        }
    }
    if rooms.is_empty() { Err("src/lib.rs has no table of rooms".to_owned()) } else { Ok(rooms) }
}

/// Describes every arrow that the table does not allow.
pub fn forbidden_arrows(rooms: &[Room], arrows: &Arrows) -> Vec<String> {
    let mut found = Vec::new();
    for (from, to) in arrows.iter().filter_map(|(from, to)| Some(((from, room_of(rooms, from)?), to))) {
        let (from, room) = from;
        for (to, names) in to {
            let Some(used) = room_of(rooms, to).filter(|used| used.name != room.name) else { continue };
            let is_allowed = room.may_use.as_ref().is_none_or(|may_use| may_use.contains(&used.name));
            if !is_allowed || room.never.contains(&used.name) {
                let names: Vec<String> = names.iter().map(|(name, line)| format!("{name} in line {line}")).collect();
                found.push(format!("{} must not use {}: src/{from} uses {} of src/{to}", room.name, used.name, names.join(", ")));
            }
        }
    }
    found
}

/// Describes every path of another crate that a room must never name.
pub fn forbidden_paths<'o>(rooms: &[Room], outside: impl IntoIterator<Item = &'o Outside>) -> Vec<String> {
    let mut found = Vec::new();
    for Outside { file, line, path } in outside {
        let Some(room) = room_of(rooms, file) else { continue };
        for word in
            room.never.iter().filter(|word| paths(word).is_some_and(|paths| paths.iter().any(|known| begins(path, known))))
        {
            found.push(format!("{} must never use {word}: src/{file}:{line} names {}", room.name, path.join("::")));
        }
    }
    found
}

/// The room of a file: its first folder, or the file itself.
pub fn room_of<'r>(rooms: &'r [Room], file: &str) -> Option<&'r Room> {
    let first = file.split('/').next()?;
    rooms.iter().find(|room| room.name == first.strip_suffix(".rs").unwrap_or(first))
}

fn words(cell: &str) -> Vec<String> {
    cell.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn paths(word: &str) -> Option<&'static [&'static [&'static str]]> {
    WORDS.iter().find(|(known, _)| *known == word).map(|(_, paths)| *paths)
}

fn begins(path: &[String], known: &[&str]) -> bool {
    let is_like = |(name, known): (&String, &&str)| match known.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == known,
    };
    path.len() >= known.len() && path.iter().zip(known).all(is_like)
}
