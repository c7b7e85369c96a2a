//! The files around the program that must agree with each other: the unit, Pingora's settings, the package, the container.

use std::fs;
use std::path::{Path, PathBuf};

const UNIT: &str = "systemd/trollbridge.service";

fn text_of(file: &str) -> String {
    fs::read_to_string(path_of(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn path_of(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// The last value of a key in a file of `key: value` or `Key=value` lines.
fn value(text: &str, key: &str, sign: char) -> String {
    let mut values = text.lines().filter_map(|line| line.split_once(sign)).filter(|(found, _)| found.trim() == key);
    let (_, value) = values.next_back().unwrap_or_else(|| panic!("no {key}"));
    value.split(" #").next().unwrap_or_default().trim().to_owned()
}

#[test]
fn the_unit_waits_longer_than_the_longest_drain() {
    let (unit, conf) = (text_of(UNIT), text_of("conf/pingora.yaml"));
    let seconds = |key| value(&conf, key, ':').parse::<u64>().unwrap();
    let drain = seconds("grace_period_seconds") + seconds("graceful_shutdown_timeout_seconds");
    let waits: u64 = value(&unit, "TimeoutStopSec", '=').parse().unwrap();
    assert!(waits > drain + 10, "TimeoutStopSec={waits}, a drain takes up to {drain} s");
}

/// Pingora's own places for both are open to everybody.
#[test]
fn the_pid_file_and_the_sockets_are_in_a_directory_of_the_service_alone() {
    let (unit, conf) = (text_of(UNIT), text_of("conf/pingora.yaml"));
    assert_eq!(value(&unit, "PIDFile", '='), value(&conf, "pid_file", ':'));
    assert_eq!(value(&unit, "RuntimeDirectory", '='), "trollbridge");
    assert_eq!(value(&unit, "RuntimeDirectoryMode", '='), "0700");
    for key in ["pid_file", "upgrade_sock"] {
        assert!(value(&conf, key, ':').starts_with("/run/trollbridge/"), "{key}");
    }
}

#[test]
fn the_package_takes_files_that_are_there() {
    let manifest = text_of("Cargo.toml");
    let (_, section) = manifest.split_once("[package.metadata.deb]").unwrap();
    let section = section.split("\n[").next().unwrap();
    let sources = section.lines().filter_map(|line| line.trim().strip_prefix("[\"")?.split('"').next());
    let mut own = 0;
    for source in sources.filter(|source| !source.starts_with("target/package/")) {
        own += 1;
        let parent = source.rsplit_once("/*").map_or(source, |(folder, _)| folder);
        assert!(path_of(parent).exists(), "{source}");
    }
    assert!(own > 3, "the list of assets was not found");
    for script in ["packaging/debian/postinst", "packaging/debian/postrm"] {
        assert!(text_of(script).contains("#DEBHELPER#"), "{script} leaves the unit's own steps out");
    }
}

#[test]
fn unit_package_and_container_name_the_same_places() {
    for file in [UNIT, "Dockerfile"] {
        let text = text_of(file);
        for place in ["/usr/bin/trollbridge", "/etc/trollbridge/config.json", "/etc/trollbridge/pingora.yaml"] {
            assert!(text.contains(place), "{file} does not name {place}");
        }
    }
}

/// What the package's own `env` tells to fill in is what the shipped configuration asks for.
#[test]
fn the_environment_file_names_every_variable_of_the_shipped_configuration() {
    let (config, env) = (text_of("config.json"), text_of("packaging/env"));
    let asked = config.split("${").skip(1).filter_map(|rest| rest.split('}').next()).filter(|name| !name.contains(":-"));
    for name in asked {
        assert!(env.contains(&format!("#{name}=")), "{name}");
    }
    let set = env.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
    assert_eq!(set, 0, "the package sets nothing by itself");
}
